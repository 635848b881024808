//! The settings that a session has by its login, kept its own when another login would give others.
//!
//! A session's defaults are those that its first login gave: PostgreSQL reads them then and not again. Another server
//! may have another `postgresql.conf`, and ALTER ROLE or ALTER DATABASE may have changed them since. They are asked
//! for as startup parameters, which outrank all of that, and which RESET goes back to. Nothing is asked of a server
//! for this at a login: one task per server looks whether anything has changed, and reads it then.
//!
//! - `reader`: the task of one server.
//! - `generation`: what a server gives, and to whom; `history`: the latest generations and their times.
//! - `version`: how a session that has moved finds that the last look was older than its login.
//! - `own`: what a session was given; `differences`: what to ask for; `startup`: what a startup packet names.

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

/// What each server gives new logins. Dropping it ends the looking.
#[derive(Debug)]
pub(crate) struct Defaults {
    servers: Vec<Arc<ServerDefaults>>,
    tasks: Vec<AbortHandle>,
    /// Of a server that is not known.
    nothing: ArcSwap<History>,
}

/// What is known of one server.
#[derive(Debug, Default)]
struct ServerDefaults {
    history: ArcSwap<History>,
    /// A session logs in there: a look now tells what it is given.
    login: Notify,
    /// A look has ended.
    looked: Notify,
    /// One has, whatever came of it.
    has_been_tried: AtomicBool,
}

impl ServerDefaults {
    fn publish(&self, history: History) {
        self.history.store(Arc::new(history));
        self.looked.notify_waiters();
    }

    /// A look has ended, and may have come to nothing.
    fn tried(&self) {
        if !self.has_been_tried.swap(true, Ordering::AcqRel) {
            self.looked.notify_waiters();
        }
    }
}

impl Defaults {
    /// Looks at all servers of `health`, as the monitoring role.
    pub(crate) fn start(health: &Health, login: &tokio_postgres::Config, runtime: &Handle) -> Self {
        let count = health.load().servers.len();
        let servers: Vec<Arc<ServerDefaults>> = (0..count).map(|_| Arc::default()).collect();
        let tasks = (0_u16..).map(ServerId).zip(&servers).map(|(id, server)| {
            let looks = reader::look(health.clone(), id, login.clone(), Arc::clone(server));
            runtime.spawn(looks).abort_handle()
        });
        let tasks = tasks.collect();
        Defaults { servers, tasks, nothing: ArcSwap::default() }
    }

    /// Nothing is known of any server, and none is looked at.
    #[cfg(test)]
    pub(crate) fn unread() -> Self {
        Defaults { servers: Vec::new(), tasks: Vec::new(), nothing: ArcSwap::default() }
    }

    /// What was found on a server.
    fn history(&self, id: ServerId) -> Guard<Arc<History>> {
        let server = self.servers.get(usize::from(id.0));
        server.map_or_else(|| self.nothing.load(), |server| server.history.load())
    }

    /// Has a server looked at soon, as a session has just logged in there: the looks around the login tell what it was
    /// given. Nobody waits for that.
    fn look_soon(&self, id: ServerId) {
        if let Some(server) = self.servers.get(usize::from(id.0)) {
            server.login.notify_one();
        }
    }

    /// A session is about to log in on a server: that is looked at soon. Only for the first look since the proxy was
    /// started the session waits, and not for long.
    pub(crate) async fn before_login(&self, id: ServerId) {
        self.look_soon(id);
        let _in_time = timer::timeout(DEFAULTS_NEWS_PATIENCE, self.first_look(id)).await;
    }

    /// Returns once a server has been looked at for the first time since the proxy was started, or could not be: of a
    /// login before that it would never be known what it was given.
    async fn first_look(&self, id: ServerId) {
        let Some(server) = self.servers.get(usize::from(id.0)) else { return };
        while !server.has_been_tried.load(Ordering::Acquire) {
            let looked = server.looked.notified();
            if server.has_been_tried.load(Ordering::Acquire) {
                return;
            }
            server.login.notify_one();
            looked.await;
        }
    }

    /// Has a server looked at, and returns once a look that began after this call has ended.
    async fn next_look(&self, id: ServerId) {
        let Some(server) = self.servers.get(usize::from(id.0)) else { return };
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
