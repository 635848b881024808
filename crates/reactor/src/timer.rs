//! Timeouts and pauses that cost a query nothing.
//!
//! Timers in the wait for the kernel would read the clock twice each time, though a session has no timer. There are
//! a few, of logins and of the worker's own ticks, and one timer descriptor wakes the thread for the earliest.
//! On threads without the reactor these are tokio's own.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::driver::{Assumed, Registration};
use crate::executor::{driver, spawn};

thread_local! {
    static ALARM: RefCell<Option<Rc<Alarm>>> = const { RefCell::new(None) };
}

/// The time was over first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

/// The timers of this thread, and what wakes it for them.
#[derive(Debug)]
struct Alarm {
    registration: Registration,
    clock: TimerFd,
    /// By when, and in the order they were made.
    waiting: RefCell<BTreeMap<TimerKey, Waker>>,
    made: Cell<u64>,
    /// When the clock will ring.
    armed: Cell<Option<Instant>>,
}

type TimerKey = (Instant, u64);

/// Replaces a deadline that the clock cannot represent.
const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// Installs the timers of this thread.
///
/// # Errors
/// What the kernel says.
pub(crate) fn start() -> io::Result<()> {
    let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
    let clock = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
    let registration = driver()?.register(clock.as_fd().as_raw_fd(), Assumed::Nothing)?;
    let alarm = Rc::new(Alarm {
        registration,
        clock,
        waiting: RefCell::default(),
        made: Cell::new(0),
        armed: Cell::new(None),
    });
    ALARM.set(Some(Rc::clone(&alarm)));
    spawn(async move { alarm.run().await });
    Ok(())
}

/// Forgets the timers of this thread.
pub(crate) fn stop() {
    // Behind the borrow: a waker may be the last to hold what it wakes.
    let _alarm = ALARM.take();
}

impl Alarm {
    async fn run(&self) {
        loop {
            std::future::poll_fn(|cx| self.registration.poll_readable(cx)).await;
            self.registration.would_block_to_read();
            // Whether it rang or not, what is due is due.
            let _rang = self.clock.wait();
            self.armed.set(None);
            self.wake_due();
        }
    }

    fn wake_due(&self) {
        let now = Instant::now();
        while let Some(waker) = self.take_due(now) {
            waker.wake();
        }
    }

    /// One that is due; arms the clock when none is.
    fn take_due(&self, now: Instant) -> Option<Waker> {
        let mut waiting = self.waiting.borrow_mut();
        let first = waiting.first_entry()?;
        let until = first.key().0;
        if until > now {
            self.arm(until);
            return None;
        }
        Some(first.remove())
    }

    /// Rings at `until`, or before.
    fn arm(&self, until: Instant) {
        if self.armed.get().is_some_and(|armed| armed <= until) {
            return;
        }
        // Nothing would disarm it: a time of zero does that.
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        let once = Expiration::OneShot(TimeSpec::from_duration(left));
        match self.clock.set(once, TimerSetTimeFlags::empty()) {
            Ok(()) => self.armed.set(Some(until)),
            Err(error) => tracing::error!(%error, "could not set a timer"),
        }
    }

    fn wait(&self, key: Option<TimerKey>, until: Instant, waker: &Waker) -> TimerKey {
        let key = key.unwrap_or_else(|| {
            self.made.set(self.made.get() + 1);
            (until, self.made.get())
        });
        self.waiting
            .borrow_mut()
            .entry(key)
            .and_modify(|known| known.clone_from(waker))
            .or_insert_with(|| waker.clone());
        self.arm(until);
        key
    }
}

/// A pause of this thread; see [`sleep`].
#[derive(Debug)]
pub struct Sleep(SleepKind);

#[derive(Debug)]
enum SleepKind {
    Own { alarm: Rc<Alarm>, until: Instant, key: Option<TimerKey> },
    Tokio(Pin<Box<tokio::time::Sleep>>),
}

/// Waits for `pause`.
#[must_use]
pub fn sleep(pause: Duration) -> Sleep {
    // Far enough: a pause without an end has none that matters.
    let until = Instant::now().checked_add(pause).unwrap_or_else(|| Instant::now() + FOREVER);
    sleep_until(until)
}

/// Waits until then.
#[must_use]
pub fn sleep_until(until: Instant) -> Sleep {
    let own = ALARM.with_borrow(|alarm| alarm.as_ref().map(Rc::clone));
    Sleep(match own {
        Some(alarm) => SleepKind::Own { alarm, until, key: None },
        None => SleepKind::Tokio(Box::pin(tokio::time::sleep_until(until.into()))),
    })
}

/// What `work` comes to, unless `limit` is over first, counted from when it is first waited for.
///
/// # Errors
/// [`Elapsed`].
pub fn timeout<F: Future>(limit: Duration, work: F) -> impl Future<Output = Result<F::Output, Elapsed>> {
    within(TimeLimit::After(limit), work)
}

/// What `work` comes to, unless it is later than `deadline` first.
///
/// # Errors
/// [`Elapsed`].
pub fn timeout_at<F: Future>(deadline: Instant, work: F) -> impl Future<Output = Result<F::Output, Elapsed>> {
    within(TimeLimit::At(deadline), work)
}

/// How long something may take.
#[derive(Clone, Copy, Debug)]
enum TimeLimit {
    After(Duration),
    At(Instant),
}

async fn within<F: Future>(limit: TimeLimit, work: F) -> Result<F::Output, Elapsed> {
    let mut limit = match limit {
        TimeLimit::After(pause) => sleep(pause),
        TimeLimit::At(until) => sleep_until(until),
    };
    let mut work = pin!(work);
    std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(outcome) => Poll::Ready(Ok(outcome)),
        Poll::Pending => Pin::new(&mut limit).poll(cx).map(|()| Err(Elapsed)),
    })
    .await
}

/// Waits again and again for `period`, counted from the end of the wait before.
#[derive(Debug)]
pub struct Ticker {
    period: Duration,
    next: Sleep,
}

impl Ticker {
    /// The first tick is one `period` from now.
    #[must_use]
    pub fn every(period: Duration) -> Self {
        Ticker { period, next: sleep(period) }
    }

    /// Waits for the next tick. Cancel-safe: after a dropped call, the next call waits for the same tick.
    pub async fn tick(&mut self) {
        (&mut self.next).await;
        self.next = sleep(self.period);
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.get_mut().0 {
            SleepKind::Own { until, .. } if *until <= Instant::now() => Poll::Ready(()),
            SleepKind::Own { alarm, until, key } => {
                *key = Some(alarm.wait(*key, *until, cx.waker()));
                Poll::Pending
            }
            SleepKind::Tokio(sleep) => sleep.as_mut().poll(cx),
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let SleepKind::Own { alarm, key: Some(key), .. } = &self.0 {
            // Dropped behind the borrow: a waker may be the last to hold what it wakes.
            let _waker = alarm.waiting.borrow_mut().remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_a_worker<F: Future<Output = ()>>(work: F) {
        crate::block_on(work).expect("a thread of its own");
    }

    fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn timers_ring_in_their_order_and_never_early() {
        on_a_worker(async {
            let begun = Instant::now();
            let rung = Rc::new(RefCell::new(Vec::new()));
            for pause in [30, 10, 20, 10] {
                let rung = Rc::clone(&rung);
                spawn(async move {
                    sleep(millis(pause)).await;
                    assert!(begun.elapsed() >= millis(pause));
                    rung.borrow_mut().push(pause);
                });
            }
            while rung.borrow().len() < 4 {
                sleep(millis(1)).await;
            }
            assert_eq!(*rung.borrow(), [10, 10, 20, 30]);
        });
    }

    #[test]
    fn an_earlier_timer_rings_before_one_that_is_armed_and_a_dropped_one_is_forgotten() {
        on_a_worker(async {
            let mut long = sleep(Duration::MAX);
            let is_over =
                |sleep: &mut Sleep| Pin::new(sleep).poll(&mut Context::from_waker(Waker::noop())).is_ready();
            assert!(!is_over(&mut long));
            sleep(millis(5)).await;
            assert!(!is_over(&mut long));
            let left = || ALARM.with_borrow(|alarm| alarm.as_ref().map(|alarm| alarm.waiting.borrow().len()));
            assert_eq!(left(), Some(1));
            drop(long);
            assert_eq!(left(), Some(0));
            sleep(Duration::ZERO).await;
        });
    }

    #[test]
    fn what_is_done_in_time_is_told_and_what_is_not_is_given_up() {
        on_a_worker(async {
            assert_eq!(timeout(Duration::from_secs(60), async { 7 }).await, Ok(7));
            assert_eq!(timeout(millis(5), std::future::pending::<()>()).await, Err(Elapsed));
            let slow = async {
                sleep(millis(5)).await;
                8
            };
            assert_eq!(timeout(Duration::from_secs(60), slow).await, Ok(8));
        });
    }

    #[test]
    fn a_tick_given_up_is_still_to_come() {
        on_a_worker(async {
            let due = |ticker: &Ticker| match ticker.next.0 {
                SleepKind::Own { until, .. } => Some(until),
                SleepKind::Tokio(_) => None,
            };
            let mut ticker = Ticker::every(Duration::from_secs(3600));
            let first = due(&ticker);
            assert_eq!(timeout(millis(1), ticker.tick()).await, Err(Elapsed));
            assert!(first.is_some());
            assert_eq!(due(&ticker), first);
            let mut ticker = Ticker::every(millis(5));
            for _ in 0..3 {
                let due = due(&ticker).expect("timers of a worker");
                // Given up again and again until it comes.
                while timeout(millis(1), ticker.tick()).await.is_err() {}
                assert!(Instant::now() >= due);
            }
        });
    }

    #[tokio::test]
    async fn other_threads_have_those_of_tokio() {
        assert_eq!(timeout(millis(5), std::future::pending::<()>()).await, Err(Elapsed));
    }
}
