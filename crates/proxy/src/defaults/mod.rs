//! The default settings of a session, kept when it moves to a server that has others.
//!
//! PostgreSQL reads the defaults of a session once, at its login. Another server may have another
//! `postgresql.conf`, and ALTER ROLE or ALTER DATABASE may have changed them since. So a session that moves asks
//! for the defaults of its first login by startup parameters, which outrank all of that, and which RESET restores.
//! First logins cost no extra query: one task per server checks whether anything has changed, and reads it then.
//!
//! - `reader`: the task of one server.
//! - `generation`: the defaults of a server, its roles and databases; `history`: the latest ones and their times.
//! - `version`: how a session that has moved finds out that the defaults were read before they changed.
//! - `own`: the defaults of a session; `differences`: which to ask for; `startup`: settings in a startup packet.

mod differences;
mod generation;
mod history;
mod own;
mod reader;
pub(crate) mod startup;
#[cfg(test)]
mod tests;
mod version;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use trunkline_health::Health;
use trunkline_reactor::timer;
use trunkline_topology::ServerId;

pub(crate) use self::differences::ReportedDefaults;
pub(crate) use self::generation::DefaultsVersion;
use self::history::History;
pub(crate) use self::own::{RequestedSettings, RestoringLogin, SessionDefaults};
use crate::limits::DEFAULTS_NEWS_PATIENCE;

/// The defaults of each server. Dropping it ends the tasks that read them.
#[derive(Debug)]
pub(crate) struct Defaults {
    servers: Vec<Arc<ServerDefaults>>,
    tasks: Vec<AbortHandle>,
    /// The history of an unknown server.
    nothing: ArcSwap<History>,
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
}

impl ServerDefaults {
    fn publish(&self, history: History) {
        self.history.store(Arc::new(history));
        self.looked.notify_waiters();
    }

    /// An attempt to read the defaults has ended, successful or not.
    fn tried(&self) {
        if !self.has_been_tried.swap(true, Ordering::AcqRel) {
            self.looked.notify_waiters();
        }
    }
}

impl Defaults {
    /// Reads the defaults of all servers of `health`, as the monitoring role.
    pub(crate) fn start(health: &Health, runtime: &Handle) -> Self {
        let count = health.load().servers.len();
        let servers: Vec<Arc<ServerDefaults>> = (0..count).map(|_| Arc::default()).collect();
        let tasks = (0..).map(ServerId).zip(&servers).map(|(id, server)| {
            let looks = reader::look(health.clone(), id, Arc::clone(server));
            runtime.spawn(looks).abort_handle()
        });
        let tasks = tasks.collect();
        Defaults { servers, tasks, nothing: ArcSwap::default() }
    }

    /// Knows nothing about any server, and reads none.
    #[cfg(test)]
    pub(crate) fn unread() -> Self {
        Defaults { servers: Vec::new(), tasks: Vec::new(), nothing: ArcSwap::default() }
    }

    /// The defaults found on a server.
    fn history(&self, id: ServerId) -> Guard<Arc<History>> {
        let server = self.servers.get(id.index());
        server.map_or_else(|| self.nothing.load(), |server| server.history.load())
    }

    /// Whether a server is looked at.
    fn looks_at(&self, id: ServerId) -> bool {
        self.servers.len() > id.index()
    }

    /// Has the defaults of a server read soon, because a session has just logged in there: those read before and
    /// after the login show what it got. Nobody waits for that.
    fn look_soon(&self, id: ServerId) {
        if let Some(server) = self.servers.get(id.index()) {
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
        let Some(server) = self.servers.get(id.index()) else { return };
        while !server.has_been_tried.load(Ordering::Acquire) {
            let looked = server.looked.notified();
            if server.has_been_tried.load(Ordering::Acquire) {
                return;
            }
            server.login.notify_one();
            looked.await;
        }
    }

    /// Has the defaults of a server read, and returns once a read that began after this call has ended.
    async fn next_look(&self, id: ServerId) {
        let Some(server) = self.servers.get(id.index()) else { return };
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

impl Drop for Defaults {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
