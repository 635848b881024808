//! How fast sessions move: each move costs a server a login, and thousands at once would overload it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use trunkline_topology::{SERVERS_MAX, ServerId};

use crate::limits::{MOVE_REFUSAL_LOG_INTERVAL, MOVING_LOGINS_MAX, PLANNED_MOVES_MAX, TICK};

/// The rate of moves, by server; shared by all threads.
#[derive(Debug)]
pub(crate) struct MoveRate {
    began: Instant,
    /// By slot. What is left of a server's predecessor is over within a second.
    servers: Box<[ServerMoveRate]>,
    second_connections: Arc<Semaphore>,
}

#[derive(Debug)]
struct ServerMoveRate {
    /// When all departures granted so far would have left at the even rate, in nanoseconds since `began`.
    paid_until: AtomicU64,
    logins: Arc<Semaphore>,
    /// When a refusal by the server may be logged again, in nanoseconds since `began`.
    next_log: AtomicU64,
}

impl MoveRate {
    pub(crate) fn new() -> Self {
        let server = |_| ServerMoveRate {
            paid_until: AtomicU64::new(0),
            logins: Arc::new(Semaphore::new(MOVING_LOGINS_MAX)),
            next_log: AtomicU64::new(0),
        };
        let second_connections = Arc::new(Semaphore::new(PLANNED_MOVES_MAX));
        MoveRate {
            began: Instant::now(),
            servers: (0..SERVERS_MAX).map(server).collect(),
            second_connections,
        }
    }

    /// Whether one more session may leave `server` now, at `per_second`; zero is no limit. Sessions ask again
    /// every tick, so as many may leave at once as the rate allows for one tick.
    pub(crate) fn may_leave(&self, server: ServerId, per_second: u32, now: Instant) -> bool {
        if per_second == 0 {
            return true;
        }
        let now = self.since_beginning(now);
        let each = nanos(Duration::from_secs(1)) / u64::from(per_second);
        let paid_until = &self.servers[server.index()].paid_until;
        let pay =
            |until: u64| (until <= now + nanos(TICK).saturating_sub(each)).then(|| until.max(now) + each);
        paid_until.fetch_update(Relaxed, Relaxed, pay).is_ok()
    }

    /// A second connection for a session that still has its server, if one more may have it now.
    pub(crate) fn second_connection(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.second_connections).try_acquire_owned().ok()
    }

    /// Whether there is one to be had.
    pub(crate) fn has_second_connection(&self) -> bool {
        self.second_connections.available_permits() > 0
    }

    /// Whether it is time for a line in the log about `server`, which has refused a session. If so, its time is over.
    pub(crate) fn may_log_refusal(&self, server: ServerId, now: Instant) -> bool {
        let now = self.since_beginning(now);
        let next = now.saturating_add(nanos(MOVE_REFUSAL_LOG_INTERVAL));
        let claim = |at: u64| (at <= now).then_some(next);
        self.servers[server.index()].next_log.fetch_update(Relaxed, Relaxed, claim).is_ok()
    }

    fn since_beginning(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.began))
    }

    /// Waits for a permit to log in on `server`.
    pub(crate) async fn turn(&self, server: ServerId) -> Result<OwnedSemaphorePermit, AcquireError> {
        Arc::clone(&self.servers[server.index()].logins).acquire_owned().await
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: ServerId = ServerId(0);

    fn leave(pace: &MoveRate, per_second: u32, at: Duration) -> usize {
        (0..1000).filter(|_| pace.may_leave(SERVER, per_second, pace.began + at)).count()
    }

    #[test]
    fn sessions_leave_a_tick_at_a_time_and_no_faster_than_the_rate() {
        let pace = MoveRate::new();
        let ticks = (0..8_u32).map(|tick| leave(&pace, 100, TICK * tick));
        assert_eq!(ticks.collect::<Vec<_>>(), [25; 8]);
        assert!(pace.may_leave(ServerId(1), 100, pace.began), "each server has its own");
    }

    #[test]
    fn a_slow_rate_still_lets_one_go_in_its_time() {
        let pace = MoveRate::new();
        assert_eq!(leave(&pace, 1, Duration::ZERO), 1);
        assert_eq!(leave(&pace, 1, Duration::from_millis(900)), 0);
        assert_eq!(leave(&pace, 1, Duration::from_secs(1)), 1);
    }

    #[test]
    fn refusals_of_a_server_are_logged_once_in_a_while() {
        let pace = MoveRate::new();
        let now = pace.began;
        assert!(pace.may_log_refusal(SERVER, now));
        assert!(!pace.may_log_refusal(SERVER, now + MOVE_REFUSAL_LOG_INTERVAL - Duration::from_nanos(1)));
        assert!(pace.may_log_refusal(ServerId(1), now), "each server has its own");
        assert!(pace.may_log_refusal(SERVER, now + MOVE_REFUSAL_LOG_INTERVAL));
    }

    #[tokio::test]
    async fn only_so_many_log_in_on_one_server_at_a_time() {
        let pace = MoveRate::new();
        let mut turns = Vec::new();
        for _ in 0..MOVING_LOGINS_MAX {
            turns.push(pace.turn(SERVER).await.expect("never closed"));
        }
        let mut next = std::pin::pin!(pace.turn(SERVER));
        assert!(is_waiting(&mut next).await, "one more waits");
        assert!(pace.turn(ServerId(1)).await.is_ok(), "not for another server");
        turns.pop();
        assert!(next.await.is_ok());
    }

    /// Whether the future is not ready when polled once.
    async fn is_waiting(future: &mut (impl Future + Unpin)) -> bool {
        std::future::poll_fn(|cx| {
            let is_pending = std::pin::Pin::new(&mut *future).poll(cx).is_pending();
            std::task::Poll::Ready(is_pending)
        })
        .await
    }

    #[test]
    fn what_was_not_used_is_not_saved_up() {
        let pace = MoveRate::new();
        assert_eq!(leave(&pace, 100, Duration::from_secs(60)), 25);
        assert_eq!(leave(&pace, 0, Duration::from_secs(60)), 1000, "zero is no bound");
    }
}
