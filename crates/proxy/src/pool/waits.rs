//! Long waits of clients for server connections, as the log tells of them: once when they begin, and once when they are over.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use trunkline_pool::{LongestWait, PoolCrowd};

use crate::limits::{POOL_WAIT_OVER, POOL_WAITS_TOLD_MAX};

/// A database and a user.
type WaitNames = (Box<str>, Box<str>);

/// The databases and users whose clients wait for long.
#[derive(Debug, Default)]
pub(crate) struct LongWaits(HashMap<WaitNames, LongWaitsOf>);

#[derive(Clone, Copy, Debug)]
struct LongWaitsOf {
    began: Instant,
    last: Instant,
    longest: Duration,
}

/// What is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WaitsNews {
    /// Clients wait for long now.
    Began { database: Box<str>, user: Box<str>, waiting: u64, maxwait: Duration },
    /// None has for a while.
    Over { database: Box<str>, user: Box<str>, longest: Duration, lasted: Duration },
}

impl LongWaits {
    /// Takes note of who waits for long now.
    pub(crate) fn look<'w>(
        &mut self,
        waits: impl Iterator<Item = LongestWait<'w>>,
        now: Instant,
    ) -> Vec<WaitsNews> {
        let mut news = Vec::new();
        for LongestWait { key, waiting, maxwait } in waits {
            let names: WaitNames = (key.database().into(), key.user().into());
            if let Some(known) = self.0.get_mut(&names) {
                known.last = now;
                known.longest = known.longest.max(maxwait);
                continue;
            }
            if self.0.len() < POOL_WAITS_TOLD_MAX {
                let (database, user) = names.clone();
                news.push(WaitsNews::Began { database, user, waiting, maxwait });
                self.0.insert(names, LongWaitsOf { began: now, last: now, longest: maxwait });
            }
        }
        self.0.retain(|(database, user), known| {
            let is_over = now.saturating_duration_since(known.last) >= POOL_WAIT_OVER;
            if is_over {
                let lasted = known.last.saturating_duration_since(known.began);
                let (database, user) = (database.clone(), user.clone());
                news.push(WaitsNews::Over { database, user, longest: known.longest, lasted });
            }
            !is_over
        });
        news
    }
}

impl WaitsNews {
    /// Writes it to the log.
    pub(crate) fn log(&self) {
        match self {
            WaitsNews::Began { database, user, waiting, maxwait } => tracing::warn!(
                db.user = %user, db.name = %database, clients.waiting = waiting, maxwait.seconds = maxwait.as_secs_f64(),
                "clients wait for server connections; \"trunkline sessions\" shows who has them, pool_size how many there may be"
            ),
            WaitsNews::Over { database, user, longest, lasted } => tracing::info!(
                db.user = %user, db.name = %database, maxwait.seconds = longest.as_secs_f64(),
                waits.seconds = lasted.as_secs_f64(), "clients no longer wait for server connections"
            ),
        }
    }
}

/// Why a wait for so long has come to nothing, in a sentence; there was a crowd, or no server to wait for.
pub(crate) fn why_not_served(crowd: Option<PoolCrowd>, limit: Duration) -> String {
    let waited = format!("None was free within {} s (query_wait_timeout)", limit.as_secs_f32());
    let Some(PoolCrowd { waiting, connections }) = crowd else {
        return format!("{waited}, and no server is eligible now.");
    };
    // The pools may have forgotten this client already.
    let counted = |count: u64, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let (clients, connections) = (counted(waiting.max(1), "client"), counted(connections, "connection"));
    let verb = if waiting > 1 { "wait" } else { "waits" };
    format!("{waited}: {clients} {verb} for {connections} of this user and database.")
}

#[cfg(test)]
mod tests {
    use trunkline_pool::{PoolBound, PoolKey};

    use super::*;

    fn key(user: &str) -> PoolKey {
        PoolKey::new("app", user, PoolBound::Sized, 0, b"")
    }

    fn wait(key: &PoolKey, seconds: u64) -> LongestWait<'_> {
        LongestWait { key, waiting: 3, maxwait: Duration::from_secs(seconds) }
    }

    #[test]
    fn long_waits_are_told_of_once_at_their_begin_and_once_when_they_are_over() {
        let (mut waits, begun, web) = (LongWaits::default(), Instant::now(), key("web"));
        let began = waits.look([wait(&web, 2)].into_iter(), begun);
        assert!(matches!(&began[..], [WaitsNews::Began { waiting: 3, .. }]), "{began:?}");
        let second = Duration::from_secs(1);
        // They come and go: nothing new.
        for (at, looked) in [(1, vec![wait(&web, 5)]), (2, vec![]), (8, vec![wait(&web, 2)]), (17, vec![])] {
            assert_eq!(waits.look(looked.into_iter(), begun + at * second), []);
        }
        let over = waits.look([].into_iter(), begun + 8 * second + POOL_WAIT_OVER);
        let (longest, lasted) = (5 * second, 8 * second);
        assert_eq!(over, [WaitsNews::Over { database: "app".into(), user: "web".into(), longest, lasted }]);
        assert_eq!(waits.look([].into_iter(), begun + 60 * second), []);
    }

    #[test]
    fn users_without_number_make_no_lines_without_number() {
        let (mut waits, now) = (LongWaits::default(), Instant::now());
        let keys: Vec<PoolKey> = (0..=POOL_WAITS_TOLD_MAX).map(|n| key(&format!("u{n}"))).collect();
        let told = waits.look(keys.iter().map(|key| wait(key, 2)), now);
        assert_eq!(told.len(), POOL_WAITS_TOLD_MAX);
    }

    #[test]
    fn who_got_no_connection_is_told_how_many_wait_for_how_many() {
        let limit = Duration::from_secs(120);
        let told = |waiting, connections| why_not_served(Some(PoolCrowd { waiting, connections }), limit);
        let many = "None was free within 120 s (query_wait_timeout): 7 clients wait for 2 connections of this user and database.";
        assert_eq!(told(7, 2), many);
        assert!(told(0, 1).contains(": 1 client waits for 1 connection of "));
        assert!(why_not_served(None, limit).ends_with("no server is eligible now."));
    }
}
