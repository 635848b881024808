//! The default settings of a session, kept when it moves to a server that has others.
//!
//! PostgreSQL reads the defaults of a session once, at its login. Another server may have another
//! `postgresql.conf`, and ALTER ROLE or ALTER DATABASE may have changed them since. So a session that moves asks
//! for the defaults of its first login by startup parameters, which outrank all of that, and which RESET restores.
//! First logins cost no extra query: one task per server checks whether anything has changed, and reads it then.
//!
//! - `reader`: the task of one server.
//! - `generation`: the defaults of a server, its roles and databases; `history`: the latest ones and their times.
//! - `identity`: which role and database a name is, which another may be given.
//! - `version`: how a session that has moved finds out that the defaults were read before they changed.
//! - `own`: the defaults of a session; `differences`: which to ask for; `startup`: settings in a startup packet.
//! - `digests`: whether two logins get the same ones, for pools.

mod differences;
mod digests;
mod generation;
mod history;
mod identity;
mod own;
mod reader;
pub(crate) mod startup;
#[cfg(test)]
mod tests;
mod version;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use trunkline_health::Health;
use trunkline_reactor::timer;
use trunkline_topology::ServerId;

pub(crate) use self::differences::ReportedDefaults;
pub(crate) use self::digests::LoginDigests;
pub(crate) use self::generation::DefaultsVersion;
use self::history::History;
pub(crate) use self::own::{RequestedSettings, RestoringLogin, SessionDefaults};
use crate::limits::{DEFAULTS_AGE_MAX, DEFAULTS_AGE_OF_REUSE, DEFAULTS_NEWS_PATIENCE};

/// The defaults of each server. Dropping it ends the tasks that read them.
#[derive(Debug)]
pub(crate) struct Defaults {
    servers: RwLock<BTreeMap<ServerId, LookedAt>>,
    /// `None`: nothing is known about any server, and none is read.
    reader: Option<(Health, Handle)>,
}

/// A server whose defaults are read.
#[derive(Debug)]
struct LookedAt {
    server: Arc<ServerDefaults>,
    /// One task, which ends with this.
    _looks: JoinSet<()>,
}

/// What is known about one server.
#[derive(Debug, Default)]
struct ServerDefaults {
    history: ArcSwap<History>,
    /// A session logs in there: reading the defaults now shows what it gets.
    login: Notify,
    /// The defaults have been read.
    looked: Notify,
    /// The first attempt to read them has ended, successful or not.
    has_been_tried: AtomicBool,
    /// The last attempt has failed.
    is_failing: AtomicBool,
}

/// Whether a new client may get a connection that is logged in already, as far as the defaults of its server are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// They are those of a moment ago, or will be told soon.
    Known,
    /// What the client would be given by a login of its own is not known.
    Unknown,
}

impl ServerDefaults {
    fn publish(&self, history: History) {
        self.history.store(Arc::new(history));
        self.is_failing.store(false, Ordering::Release);
        self.looked.notify_waiters();
    }

    /// An attempt to read the defaults has ended, successful or not.
    fn tried(&self) {
        if !self.has_been_tried.swap(true, Ordering::AcqRel) {
            self.looked.notify_waiters();
        }
    }

    /// An attempt to read the defaults has failed: until one succeeds, nobody waits for it.
    fn failed(&self) {
        self.is_failing.store(true, Ordering::Release);
        self.looked.notify_waiters();
    }

    /// A new client is to get a connection of an earlier login at `now`: whether it may; `None` where a look will tell soon.
    /// Has the defaults read, unless they were a moment ago.
    fn reuse(&self, now: Instant) -> Option<Reuse> {
        let history = self.history.load();
        let has_looked_within =
            |age| now.checked_sub(age).is_some_and(|oldest| history.has_looked_since(oldest));
        let known = match (has_looked_within(DEFAULTS_AGE_MAX), self.is_failing.load(Ordering::Acquire)) {
            (true, _) => Some(Reuse::Known),
            (false, true) => Some(Reuse::Unknown),
            (false, false) => None,
        };
        // One that fails is tried again in its own time.
        if known != Some(Reuse::Unknown) && !has_looked_within(DEFAULTS_AGE_OF_REUSE) {
            self.login.notify_one();
        }
        known
    }
}

impl Defaults {
    /// Reads the defaults of all servers of `health`, as the monitoring role, also of those that come later.
    pub(crate) fn start(health: &Health, runtime: &Handle) -> Self {
        let defaults =
            Defaults { servers: RwLock::default(), reader: Some((health.clone(), runtime.clone())) };
        defaults.follow();
        defaults
    }

    /// Knows nothing about any server, and reads none.
    #[cfg(test)]
    pub(crate) fn unread() -> Self {
        Defaults { servers: RwLock::default(), reader: None }
    }

    /// Begins with the servers that have come, and ends with those that are forgotten.
    pub(crate) fn follow(&self) {
        let Some((health, _)) = &self.reader else { return };
        let snapshot = health.load_full();
        let mut servers = self.servers.write().unwrap_or_else(PoisonError::into_inner);
        servers.retain(|id, _| snapshot.server(*id).is_some());
        drop(servers);
        for server in &snapshot.servers {
            let _looked_at = self.of(server.id);
        }
    }

    /// What is known about a server, which is looked at from now on; `None` for one that is not there.
    fn of(&self, id: ServerId) -> Option<Arc<ServerDefaults>> {
        let servers = self.servers.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = servers.get(&id) {
            return Some(Arc::clone(&known.server));
        }
        drop(servers);
        let (health, runtime) = self.reader.as_ref()?;
        health.load().server(id)?;
        let mut servers = self.servers.write().unwrap_or_else(PoisonError::into_inner);
        let known = servers.entry(id).or_insert_with(|| {
            let server = Arc::<ServerDefaults>::default();
            let mut looks = JoinSet::new();
            looks.spawn_on(reader::look(health.clone(), id, Arc::clone(&server)), runtime);
            LookedAt { server, _looks: looks }
        });
        Some(Arc::clone(&known.server))
    }

    /// The defaults found on a server.
    fn history(&self, id: ServerId) -> Arc<History> {
        self.of(id).map_or_else(Arc::default, |server| server.history.load_full())
    }

    /// Whether a server is looked at.
    fn looks_at(&self, id: ServerId) -> bool {
        self.of(id).is_some()
    }

    /// Has the defaults of a server read soon, because a session has just logged in there: those read before and
    /// after the login show what it got. Nobody waits for that.
    fn look_soon(&self, id: ServerId) {
        if let Some(server) = self.of(id) {
            server.login.notify_one();
        }
    }

    /// A session is about to log in on a server: its defaults are read soon. The session waits only until the
    /// first attempt since the proxy started has ended, and not for long.
    pub(crate) async fn before_login(&self, id: ServerId) {
        self.look_soon(id);
        let _in_time = timer::timeout(DEFAULTS_NEWS_PATIENCE, self.first_look(id)).await;
    }

    /// Returns once the defaults of a server have been read for the first time, or could not be: for a login
    /// before that they would never be known.
    async fn first_look(&self, id: ServerId) {
        let Some(server) = self.of(id) else { return };
        while !server.has_been_tried.load(Ordering::Acquire) {
            let looked = server.looked.notified();
            if server.has_been_tried.load(Ordering::Acquire) {
                return;
            }
            server.login.notify_one();
            looked.await;
        }
    }

    /// Returns once the defaults of a server are known that were in force no longer ago than [`DEFAULTS_AGE_MAX`], or cannot
    /// be read; for a login that would get a connection of an earlier one. One that is late is not waited for any longer.
    pub(crate) async fn before_reuse(&self, id: ServerId) -> Reuse {
        let Some(server) = self.of(id) else { return Reuse::Known };
        let now = Instant::now();
        if let Some(known) = server.reuse(now) {
            return known;
        }
        let told = async {
            loop {
                let looked = server.looked.notified();
                if server.history.load().has_looked_since(now) {
                    return Reuse::Known;
                }
                if server.is_failing.load(Ordering::Acquire) {
                    return Reuse::Unknown;
                }
                looked.await;
            }
        };
        timer::timeout(DEFAULTS_NEWS_PATIENCE, told).await.unwrap_or(Reuse::Known)
    }

    /// Has the defaults of a server read, and returns once a read that began after this call has ended.
    pub(crate) async fn next_look(&self, id: ServerId) {
        let Some(server) = self.of(id) else { return };
        let now = Instant::now();
        server.login.notify_one();
        loop {
            let looked = server.looked.notified();
            if server.history.load().has_looked_since(now) {
                return;
            }
            looked.await;
        }
    }
}
