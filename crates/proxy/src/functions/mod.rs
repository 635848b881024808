//! User-defined functions, read from `pg_proc` of each database in use.
//!
//! One task for each database, on the control runtime, checks whether something has changed and then reads it,
//! over one connection as the monitoring role. Sessions share what it publishes.
//!
//! - `task`: when a database is checked.
//! - `read`: what one check queries, in which order.
//! - `connection`: to which server, and the parsing of its answers.
//! - `sql`: the queries.
//! - `classify`: the effect of one function by itself.
//! - `graph`: the effects of what calls it.
//! - `built_in`: PostgreSQL's own functions, until some are read.

mod built_in;
mod classify;
#[expect(clippy::disallowed_methods, reason = "the control thread has tokio's timers")]
mod connection;
mod graph;
mod read;
mod sql;
#[expect(clippy::disallowed_methods, reason = "the control thread has tokio's timers")]
mod task;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use trunkline_health::Health;
use trunkline_session::{FunctionCatalog, Functions, UnlistedFunctions};

use crate::limits::FUNCTION_DATABASES_MAX;
use crate::settings::UserFunctions;

/// Names of the functions of PostgreSQL itself.
type BuiltIn = Arc<HashSet<Box<[u8]>>>;

/// The functions of all databases in use.
#[derive(Debug)]
pub(crate) struct FunctionStore {
    shared: Arc<StoreShared>,
    runtime: Handle,
}

/// What the tasks share.
#[derive(Debug)]
struct StoreShared {
    mode: UserFunctions,
    health: Health,
    login: tokio_postgres::Config,
    /// Of the server that was read last; used for databases that cannot be read.
    built_in: ArcSwap<HashSet<Box<[u8]>>>,
    databases: Mutex<HashMap<Box<str>, Weak<Functions>>>,
}

impl StoreShared {
    fn databases(&self) -> MutexGuard<'_, HashMap<Box<str>, Weak<Functions>>> {
        self.databases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes a database whose functions only the calling task holds. Returns whether it was removed: a later
    /// session then has them read again.
    fn let_go(&self, database: &str, functions: &Arc<Functions>) -> bool {
        let mut databases = self.databases();
        let is_held = Arc::strong_count(functions) > 1;
        if !is_held {
            databases.remove(database);
        }
        !is_held
    }
}

impl FunctionStore {
    pub(crate) fn new(
        mode: UserFunctions,
        health: Health,
        login: tokio_postgres::Config,
        runtime: Handle,
    ) -> Self {
        let built_in = ArcSwap::new(built_in::names());
        let shared = StoreShared { mode, health, login, built_in, databases: Mutex::default() };
        Self { shared: Arc::new(shared), runtime }
    }

    /// The functions of one database, which are read as long as a session holds them. `None` when they are
    /// trusted.
    pub(crate) fn of_database(&self, database: &str) -> Option<Arc<Functions>> {
        match self.shared.mode {
            UserFunctions::Trust => return None,
            UserFunctions::Read | UserFunctions::Pin => {}
        }
        let mut databases = self.shared.databases();
        if let Some(functions) = databases.get(database).and_then(Weak::upgrade) {
            return Some(functions);
        }
        databases.retain(|_, functions| functions.strong_count() > 0);
        if databases.len() >= FUNCTION_DATABASES_MAX {
            let built_in = self.shared.built_in.load_full();
            let unread = FunctionCatalog::unread(built_in, UnlistedFunctions::Pins);
            return Some(Arc::new(Functions::new(unread)));
        }
        let unread = FunctionCatalog::unread(self.shared.built_in.load_full(), UnlistedFunctions::Unread);
        let functions = Arc::new(Functions::new(unread));
        databases.insert(database.into(), Arc::downgrade(&functions));
        self.runtime.spawn(task::run(Arc::clone(&self.shared), database.into(), Arc::clone(&functions)));
        Some(functions)
    }
}
