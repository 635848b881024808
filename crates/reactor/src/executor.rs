//! A thread's tasks: who was woken is polled, in the order of the wake-ups; then the kernel is asked again.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use slab::Slab;

use crate::driver::{Driver, Wait};
use crate::timer;

thread_local! {
    static HERE: RefCell<Option<Rc<Here>>> = const { RefCell::new(None) };
    /// Which executor this thread has, and who waits in it to be polled: apart from the rest for the wakers' sake.
    static ID: Cell<u64> = const { Cell::new(0) };
    static WOKEN: RefCell<VecDeque<Key>> = const { RefCell::new(VecDeque::new()) };
}

/// The executor of a thread, as its tasks reach it.
#[derive(Debug)]
struct Here {
    id: u64,
    driver: Rc<Driver>,
    tasks: RefCell<Slab<Slot>>,
    made: Cell<u32>,
    /// Tasks made in this round: they begin in it.
    spawned: Cell<usize>,
    away: Arc<Away>,
}

/// What other threads see of an executor.
#[derive(Debug)]
struct Away {
    woken: Mutex<Vec<Arc<Header>>>,
    bell: mio::Waker,
}

/// Names a task for as long as it lives, and nobody after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    slot: u32,
    made: u32,
}

/// The future that `block_on` was given: not among the tasks.
const MAIN: Key = Key { slot: u32::MAX, made: 0 };

/// What a task's wakers share.
#[derive(Debug)]
struct Header {
    key: Key,
    executor: u64,
    /// In its thread's queue. Only that thread looks at it.
    is_woken: AtomicBool,
    /// In the queue of other threads' wake-ups. Looked at behind its lock only.
    is_called: AtomicBool,
    away: Arc<Away>,
}

/// A place for a task, empty while it is polled.
#[derive(Debug)]
struct Slot {
    made: u32,
    body: Option<Body>,
}

struct Body {
    future: Pin<Box<dyn Future<Output = ()>>>,
    header: Arc<Header>,
    waker: Waker,
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").field("header", &self.header).finish_non_exhaustive()
    }
}

/// A task that was spawned. Dropping this leaves it running.
#[derive(Debug)]
pub struct Task {
    key: Key,
    executor: u64,
}

impl Task {
    /// Ends it where it waits. Without effect on one that has ended, from within itself, and on another thread.
    pub fn abort(&self) {
        if let Some(here) = here().filter(|here| here.id == self.executor) {
            here.remove(self.key);
        }
    }
}

impl Wake for Header {
    fn wake(self: Arc<Self>) {
        Self::wake_by_ref(&self);
    }

    #[inline]
    fn wake_by_ref(self: &Arc<Self>) {
        if ID.get() == self.executor {
            if !self.is_woken.load(Relaxed) {
                self.is_woken.store(true, Relaxed);
                WOKEN.with_borrow_mut(|woken| woken.push_back(self.key));
            }
        } else {
            self.call();
        }
    }
}

impl Header {
    /// A wake-up from another thread.
    #[cold]
    fn call(self: &Arc<Self>) {
        let mut woken = self.away.lock();
        if self.is_called.swap(true, Relaxed) {
            return;
        }
        woken.push(Arc::clone(self));
        let is_first = woken.len() == 1;
        drop(woken);
        if is_first && let Err(error) = self.away.bell.wake() {
            tracing::error!(%error, "could not wake a worker");
        }
    }
}

impl Away {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Header>>> {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has those that other threads woke be polled.
    fn answer(&self) {
        let woken = {
            let mut woken = self.lock();
            woken.iter().for_each(|header| header.is_called.store(false, Relaxed));
            std::mem::take(&mut *woken)
        };
        woken.iter().for_each(Wake::wake_by_ref);
    }
}

impl Here {
    fn header(&self, key: Key) -> Arc<Header> {
        let (is_woken, is_called) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Header { key, executor: self.id, is_woken, is_called, away: Arc::clone(&self.away) })
    }

    fn insert(&self, future: Pin<Box<dyn Future<Output = ()>>>) -> Key {
        let mut tasks = self.tasks.borrow_mut();
        let place = tasks.vacant_entry();
        let made = self.made.get().wrapping_add(1);
        self.made.set(made);
        let slot = u32::try_from(place.key()).expect("a descriptor each, so fewer than descriptors");
        let key = Key { slot, made };
        let header = self.header(key);
        let waker = Waker::from(Arc::clone(&header));
        place.insert(Slot { made, body: Some(Body { future, header: Arc::clone(&header), waker }) });
        drop(tasks);
        header.wake_by_ref();
        self.spawned.set(self.spawned.get() + 1);
        key
    }

    /// Ends a task. It is dropped behind the borrow, for it may end or spawn others.
    fn remove(&self, key: Key) {
        let mut tasks = self.tasks.borrow_mut();
        let slot = tasks.get(key.slot as usize).filter(|slot| slot.made == key.made && slot.body.is_some());
        let removed = slot.is_some().then(|| tasks.remove(key.slot as usize));
        drop(tasks);
        drop(removed);
    }

    /// Takes a task from its place to be polled.
    fn take(&self, key: Key) -> Option<Body> {
        let mut tasks = self.tasks.borrow_mut();
        let slot = tasks.get_mut(key.slot as usize).filter(|slot| slot.made == key.made)?;
        slot.body.take()
    }

    fn poll(&self, key: Key) {
        let Some(mut body) = self.take(key) else { return };
        body.header.is_woken.store(false, Relaxed);
        let polled = body.future.as_mut().poll(&mut Context::from_waker(&body.waker));
        let mut tasks = self.tasks.borrow_mut();
        match polled {
            Poll::Pending => tasks[key.slot as usize].body = Some(body),
            Poll::Ready(()) => {
                tasks.remove(key.slot as usize);
                drop(tasks);
                drop(body);
            }
        }
    }
}

fn here() -> Option<Rc<Here>> {
    HERE.with_borrow(|here| here.as_ref().map(Rc::clone))
}

/// The driver of this thread, if `block_on` runs here.
pub(crate) fn driver() -> io::Result<Rc<Driver>> {
    HERE.with_borrow(|here| here.as_ref().map(|here| Rc::clone(&here.driver)))
        .ok_or_else(|| io::Error::other("sockets of the reactor need a thread that it runs on"))
}

/// Runs `future` on this thread beside everything else.
///
/// # Panics
/// Outside of [`block_on`].
pub fn spawn(future: impl Future<Output = ()> + 'static) -> Task {
    let here = here().expect("tasks are spawned where block_on runs");
    Task { key: here.insert(Box::pin(future)), executor: here.id }
}

static EXECUTORS: AtomicU64 = AtomicU64::new(1);

/// Runs `main` on this thread to its end, and what it spawns for as long.
///
/// # Errors
/// What the kernel says when it is asked for an epoll and a timer descriptor, or refuses to wait.
///
/// # Panics
/// Within another `block_on`.
pub fn block_on<F: Future>(main: F) -> io::Result<F::Output> {
    assert_eq!(ID.get(), 0, "one executor a thread");
    let (driver, bell) = Driver::new()?;
    let here = Rc::new(Here {
        id: EXECUTORS.fetch_add(1, Relaxed),
        driver: Rc::new(driver),
        tasks: RefCell::default(),
        made: Cell::new(0),
        spawned: Cell::new(0),
        away: Arc::new(Away { woken: Mutex::default(), bell }),
    });
    ID.set(here.id);
    HERE.set(Some(Rc::clone(&here)));
    let _leave = Leave;
    timer::start()?;
    run(&here, main)
}

fn run<F: Future>(here: &Here, main: F) -> io::Result<F::Output> {
    let mut main = pin!(main);
    let header = here.header(MAIN);
    let waker = Waker::from(Arc::clone(&header));
    header.wake_by_ref();
    loop {
        // Those woken meanwhile are for the next round, behind whoever the kernel wakes.
        let mut left = WOKEN.with_borrow(VecDeque::len);
        here.spawned.set(0);
        while left > 0 {
            let Some(key) = WOKEN.with_borrow_mut(VecDeque::pop_front) else { break };
            left -= 1;
            if key != MAIN {
                here.poll(key);
            } else {
                header.is_woken.store(false, Relaxed);
                if let Poll::Ready(output) = main.as_mut().poll(&mut Context::from_waker(&waker)) {
                    return Ok(output);
                }
            }
            left += here.spawned.take();
        }
        let is_idle = WOKEN.with_borrow(VecDeque::is_empty);
        if here.driver.wait(if is_idle { Wait::ForEvents } else { Wait::Not })? {
            here.away.answer();
        }
    }
}

/// Takes the executor from its thread, with all tasks, when dropped.
struct Leave;

impl Drop for Leave {
    fn drop(&mut self) {
        timer::stop();
        if let Some(here) = here() {
            // While the thread still has its executor: what they drop may look for it.
            while !here.tasks.borrow().is_empty() {
                drop(here.tasks.take());
            }
        }
        HERE.set(None);
        ID.set(0);
        WOKEN.set(VecDeque::new());
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use tokio::sync::{mpsc, oneshot};

    use super::*;
    use crate::timer::{sleep, timeout};

    fn here_on<F: Future>(main: F) -> F::Output {
        block_on(main).expect("a thread of its own")
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
        const EACH: usize = 20_000;
        let (sender, mut receiver) = mpsc::channel(1);
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let sender = sender.clone();
                std::thread::spawn(move || {
                    (0..EACH).for_each(|n| sender.blocking_send(n).expect("it listens"))
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
        assert_eq!(received, Ok(Ok(3 * EACH)));
        threads.into_iter().for_each(|thread| thread.join().expect("it has sent all"));
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
}
