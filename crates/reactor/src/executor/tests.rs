use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::timer::{sleep, timeout};

fn here_on<F: Future>(main: F) -> F::Output {
    crate::block_on(main).expect("a thread of its own")
}

/// Polled again after everybody else.
pub(crate) async fn pass() {
    let mut has_passed = false;
    std::future::poll_fn(|cx| {
        if has_passed {
            return Poll::Ready(());
        }
        has_passed = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

struct Tells(Rc<Cell<u32>>);

impl Drop for Tells {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn every_wake_up_by_other_threads_arrives() {
    // Not so many: on a busy machine each wake-up waits for a processor.
    let until = Instant::now() + Duration::from_secs(3);
    let (sender, mut receiver) = mpsc::channel(1);
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let sent = (0_usize..).take_while(|_| Instant::now() < until);
                sent.inspect(|&n| sender.blocking_send(n).expect("it listens")).count()
            })
        })
        .collect();
    drop(sender);
    let received = here_on(async {
        let (done, is_done) = oneshot::channel();
        spawn(async move {
            let mut received = 0;
            while receiver.recv().await.is_some() {
                received += 1;
            }
            done.send(received).expect("it is waited for");
        });
        timeout(Duration::from_secs(60), is_done).await
    });
    let received = received.expect("a wake-up is lost").expect("it tells");
    let sent: usize = threads.into_iter().map(|thread| thread.join().expect("it has sent all")).sum();
    assert_eq!(received, sent);
    assert!(sent > 0);
}

#[test]
fn who_wakes_itself_for_ever_keeps_nobody_from_running() {
    here_on(async {
        spawn(async {
            loop {
                pass().await;
            }
        });
        // A timer is heard of by its descriptor: the kernel is asked between the rounds.
        sleep(Duration::from_millis(5)).await;
    });
}

#[test]
fn who_spawns_its_successor_for_ever_keeps_nobody_from_running() {
    fn succeed() {
        spawn(async { succeed() });
    }
    here_on(async {
        succeed();
        sleep(Duration::from_millis(5)).await;
    });
}

#[test]
fn an_aborted_task_ends_where_it_waits_and_its_handle_means_nobody_else_after() {
    here_on(async {
        let dropped = Rc::new(Cell::new(0));
        let tells = Tells(Rc::clone(&dropped));
        let first = spawn(async move {
            let _tells = tells;
            std::future::pending::<()>().await;
        });
        pass().await;
        first.abort();
        assert_eq!(dropped.get(), 1);
        let tells = Tells(Rc::clone(&dropped));
        spawn(async move {
            let _tells = tells;
            std::future::pending::<()>().await;
        });
        first.abort();
        pass().await;
        assert_eq!(dropped.get(), 1, "another has its place now");
    });
}

#[test]
fn a_task_of_another_executor_is_not_mistaken_for_one_of_this() {
    let spawn_one = || {
        let dropped = Rc::new(Cell::new(0));
        let tells = Tells(Rc::clone(&dropped));
        let task = spawn(async move {
            let _tells = tells;
            std::future::pending::<()>().await;
        });
        (task, dropped)
    };
    let (old, _) = here_on(async { spawn_one() });
    here_on(async {
        let (_task, dropped) = spawn_one();
        old.abort();
        assert_eq!(dropped.get(), 0);
    });
}

#[test]
fn a_wake_up_meant_for_a_task_that_has_ended_does_not_reach_its_successor() {
    here_on(async {
        let old = Rc::new(RefCell::new(None));
        let kept = Rc::clone(&old);
        spawn(std::future::poll_fn(move |cx| {
            *kept.borrow_mut() = Some(cx.waker().clone());
            Poll::Ready(())
        }));
        pass().await;
        let polled = Rc::new(Cell::new(0));
        let counts = Rc::clone(&polled);
        spawn(std::future::poll_fn(move |_| {
            counts.set(counts.get() + 1);
            Poll::Pending
        }));
        pass().await;
        old.borrow_mut().take().expect("it was polled").wake();
        pass().await;
        pass().await;
        assert_eq!(polled.get(), 1);
    });
}

#[test]
fn when_the_main_future_ends_all_tasks_do_also_those_that_ending_tasks_spawn() {
    struct Spawns(Rc<Cell<u32>>);
    impl Drop for Spawns {
        fn drop(&mut self) {
            let tells = Tells(Rc::clone(&self.0));
            spawn(async move { drop(tells) });
        }
    }
    let dropped = Rc::new(Cell::new(0));
    let (spawns, tells) = (Spawns(Rc::clone(&dropped)), Tells(Rc::clone(&dropped)));
    here_on(async move {
        spawn(async move {
            let _held = (spawns, tells);
            std::future::pending::<()>().await;
        });
    });
    assert_eq!(dropped.get(), 2);
}

#[test]
fn a_waker_may_outlive_its_executor() {
    let waker = here_on(std::future::poll_fn(|cx| Poll::Ready(cx.waker().clone())));
    waker.wake_by_ref();
    // The next executor of the thread is another.
    here_on(async { waker.wake_by_ref() });
    std::thread::spawn(move || waker.wake()).join().expect("it wakes nobody");
}

#[test]
fn nothing_is_left_of_an_executor_that_is_called_when_it_ends_or_later() {
    let (waker, remote) = here_on(std::future::poll_fn(|cx| {
        let waker = cx.waker().clone();
        let calls = waker.clone();
        std::thread::spawn(move || calls.wake()).join().expect("it is there");
        Poll::Ready((waker, local().map(|local| Arc::downgrade(&local.remote))))
    }));
    std::thread::spawn(move || waker.wake()).join().expect("it wakes nobody");
    assert!(remote.expect("it was there").upgrade().is_none(), "its descriptor is still open");
}
