//! What connections are logged in with that are opened ahead of their clients, and where that fails.
//!
//! The pools ask for one again after a failure, by turns. One that a server has refused sits out turns, more with each time: a
//! password that is wrong stays wrong until somebody mends it. Any client that is let in anew ends that.

use std::sync::Arc;

use dashmap::DashMap;
use trunkline_pool::PoolId;
use trunkline_routing::TargetSessionAttrs;
use trunkline_topology::ServerId;

use super::interned::UserLogin;
use super::listeners::BoundListener;
use crate::limits::{FILL_FAILURES_MAX, FILL_TURNS_OUT_MAX};
use crate::pool::SharedPools;

/// How a connection is opened for a key: as for a client of it.
#[derive(Debug)]
pub(crate) struct FillLogin {
    pub(crate) login: Arc<UserLogin>,
    /// The listener that the client came by.
    pub(crate) listener: Arc<BoundListener>,
    pub(crate) attrs: TargetSessionAttrs,
}

/// One for each key that has clients.
#[derive(Debug, Default)]
pub(crate) struct FillLogins(DashMap<PoolId, KeyFills>);

/// The login of a key, and the servers where it has failed since the last success.
#[derive(Debug)]
struct KeyFills {
    login: Arc<FillLogin>,
    failures: Vec<FillFailure>,
}

#[derive(Debug)]
struct FillFailure {
    server: ServerId,
    /// What the log was told last.
    told: String,
    /// How often the server has refused it one after the other.
    refusals: u32,
    /// Turns that it still sits out.
    turns_out: u32,
}

/// Who has a login to offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FillOffer {
    /// A client that was let in a moment ago: what is refused elsewhere may be no longer so, or this one is newer.
    NewClient,
    /// A session that may have been let in long ago.
    Session,
}

/// How a login has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FillFault {
    /// The server has refused it.
    Refused,
    /// Anything else.
    Other,
}

/// Whether the log is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FillNews {
    News,
    KnownAlready,
}

impl FillLogins {
    /// A client of this key has logged in by `user`; `login` is used if there is none yet, or a server has refused another.
    pub(crate) fn offer(
        &self,
        key: PoolId,
        user: &UserLogin,
        by: FillOffer,
        login: impl FnOnce() -> FillLogin,
    ) {
        let Some(mut fills) = self.0.get_mut(&key) else {
            self.0.insert(key, KeyFills { login: Arc::new(login()), failures: Vec::new() });
            return;
        };
        if by == FillOffer::Session || fills.failures.iter().all(|failure| failure.refusals == 0) {
            return;
        }
        if *fills.login.login != *user {
            fills.login = Arc::new(login());
        }
        fills.failures.iter_mut().for_each(|failure| failure.turns_out = 0);
    }

    /// The login for a connection to this server, whose turn it is; `None` if there is none, or it sits this turn out.
    pub(crate) fn next(&self, key: PoolId, server: ServerId) -> Option<Arc<FillLogin>> {
        let mut fills = self.0.get_mut(&key)?;
        if let Some(failure) = fills.failures.iter_mut().find(|failure| failure.server == server)
            && failure.turns_out > 0
        {
            failure.turns_out -= 1;
            return None;
        }
        Some(Arc::clone(&fills.login))
    }

    /// It has failed there.
    pub(crate) fn failed(&self, key: PoolId, server: ServerId, fault: FillFault, why: &str) -> FillNews {
        let Some(mut fills) = self.0.get_mut(&key) else { return FillNews::News };
        let failures = &mut fills.failures;
        let known = failures.iter().position(|failure| failure.server == server);
        let mut failure = known.map_or_else(
            || FillFailure { server, told: String::new(), refusals: 0, turns_out: 0 },
            |known| failures.remove(known),
        );
        failure.refusals = match fault {
            FillFault::Refused => failure.refusals.saturating_add(1),
            FillFault::Other => 0,
        };
        failure.turns_out = turns_out(failure.refusals);
        let news = if failure.told == why { FillNews::KnownAlready } else { FillNews::News };
        why.clone_into(&mut failure.told);
        if failures.len() >= FILL_FAILURES_MAX {
            // Of servers that have gone, most likely.
            failures.remove(0);
        }
        failures.push(failure);
        news
    }

    /// It has succeeded there.
    pub(crate) fn succeeded(&self, key: PoolId, server: ServerId) -> FillNews {
        let Some(mut fills) = self.0.get_mut(&key) else { return FillNews::KnownAlready };
        let before = fills.failures.len();
        fills.failures.retain(|failure| failure.server != server);
        if fills.failures.len() < before { FillNews::News } else { FillNews::KnownAlready }
    }

    /// Keeps those whose key has clients.
    pub(crate) fn retain_used(&self, pools: &SharedPools) {
        if !self.0.is_empty() {
            let pools = pools.lock();
            self.0.retain(|key, _| pools.settings().min_pool_size > 0 && pools.has_clients(*key));
        }
    }
}

/// Turns that a login sits out after so many refusals: it is tried at the next, the second, the fourth after that.
fn turns_out(refusals: u32) -> u32 {
    let doubled = 1_u32.checked_shl(refusals.saturating_sub(1)).unwrap_or(u32::MAX);
    (doubled - 1).min(FILL_TURNS_OUT_MAX)
}

#[cfg(test)]
mod tests {
    use trunkline_auth::credentials::ServerCredentials;
    use trunkline_codec::startup::{ProtocolVersion, StartupMessage};
    use trunkline_pool::{PoolBound, PoolKey, PoolSettings};
    use trunkline_routing::{Attached, Balancer};
    use zeroize::Zeroizing;

    use super::*;
    use crate::testing::settings;

    const HERE: ServerId = ServerId(0);
    const THERE: ServerId = ServerId(1);
    const WRONG: &str = "the server refused the login (28P01)";

    fn login(password: &str) -> Arc<UserLogin> {
        let startup = StartupMessage::new(ProtocolVersion::V3_0, [(&b"user"[..], &b"app"[..])]);
        let credentials = ServerCredentials::from_password(Zeroizing::new(password.to_owned()));
        Arc::new(UserLogin { startup: startup.expect("it is short"), credentials })
    }

    fn offer(fills: &FillLogins, key: PoolId, by: FillOffer, login: &Arc<UserLogin>) {
        let settings = settings().listeners.remove(0);
        let balancer = Balancer::new(settings.options.balance, Attached::new());
        let listener = Arc::new(BoundListener { number: 0, settings, balancer, tls: None });
        let made = || FillLogin { login: Arc::clone(login), listener, attrs: TargetSessionAttrs::Any };
        fills.offer(key, login, by, made);
    }

    /// One key, for which this client was let in.
    fn known(by: &Arc<UserLogin>) -> (FillLogins, PoolId) {
        let pools = SharedPools::new(PoolSettings::default(), Vec::new());
        let key = pools.lock().join(&PoolKey::new("app", "app", PoolBound::Sized, 0, b""));
        let (fills, key) = (FillLogins::default(), key.expect("there is room"));
        offer(&fills, key, FillOffer::NewClient, by);
        (fills, key)
    }

    /// Turns until it is tried next.
    fn turns(fills: &FillLogins, key: PoolId) -> u32 {
        let tried = (1..=100).find(|_| fills.next(key, HERE).is_some());
        tried.expect("it is tried again")
    }

    #[test]
    fn a_refused_login_is_told_once_and_tried_ever_less_often() {
        let (fills, key) = known(&login("secret"));
        let tried: Vec<_> = (0..8)
            .map(|_| {
                let turns = turns(&fills, key);
                (turns, fills.failed(key, HERE, FillFault::Refused, WRONG))
            })
            .collect();
        let told: Vec<_> = tried.iter().filter(|(_, news)| *news == FillNews::News).collect();
        assert_eq!(told.len(), 1);
        let turns: Vec<_> = tried.iter().map(|(turns, _)| *turns).collect();
        assert_eq!(turns, [1, 1, 2, 4, 8, 16, 20, 20]);
        assert!(fills.next(key, THERE).is_some(), "another server has not refused it");
        assert_eq!(fills.succeeded(key, THERE), FillNews::KnownAlready);
        assert_eq!(fills.succeeded(key, HERE), FillNews::News);
        assert_eq!(fills.failed(key, HERE, FillFault::Refused, WRONG), FillNews::News);
    }

    #[test]
    fn a_client_that_is_let_in_mends_what_was_refused() {
        let (old, new) = (login("old"), login("new"));
        let (fills, key) = known(&old);
        let refused = || {
            for _ in 0..3 {
                fills.failed(key, HERE, FillFault::Refused, WRONG);
            }
        };
        let tried = || fills.next(key, HERE).map(|fill| Arc::clone(&fill.login));
        refused();
        offer(&fills, key, FillOffer::Session, &new);
        assert_eq!(tried(), None, "a session may have been let in long ago");
        refused();
        offer(&fills, key, FillOffer::NewClient, &old);
        assert_eq!(tried(), Some(Arc::clone(&old)), "its password is right again");
        refused();
        offer(&fills, key, FillOffer::NewClient, &new);
        assert_eq!(tried(), Some(new));
    }

    #[test]
    fn what_fails_otherwise_is_tried_each_turn_and_told_anew_only_where_it_differs() {
        let (fills, key) = known(&login("secret"));
        let failed = |why| fills.failed(key, HERE, FillFault::Other, why);
        let told = ["not reached", "not reached", "not clean", "not clean"].map(failed);
        let expected = [FillNews::News, FillNews::KnownAlready, FillNews::News, FillNews::KnownAlready];
        assert_eq!(told, expected);
        assert_eq!(turns(&fills, key), 1);
    }
}
