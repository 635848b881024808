//! User-defined functions, read from `pg_proc` of each database in use.
//!
//! One task for each database, on the control runtime, checks whether something has changed and then reads it,
//! over one connection as the monitoring role. Sessions share what it publishes.
//!
//! - `task`: when a database is checked.
//! - `asked`: the catalog for an operator who asks about SQL.
//! - `read`: what one check queries, in which order.
//! - `connection`: to which server, and the parsing of its answers.
//! - `sql`: the queries.
//! - `classify`: the effect of one function by itself.
//! - `graph`: the effects of what calls it.
//! - `standby`: which of PostgreSQL's own functions and views a standby answers as the primary does.
//! - `built_in`: PostgreSQL's own functions, until some are read.

#[expect(clippy::disallowed_methods, reason = "the control thread has tokio's timers")]
mod asked;
mod built_in;
mod classify;
#[expect(clippy::disallowed_methods, reason = "the control thread has tokio's timers")]
mod connection;
mod graph;
mod read;
mod sql;
mod standby;
#[expect(clippy::disallowed_methods, reason = "the control thread has tokio's timers")]
mod task;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::SetOnce;
use trunkline_health::Health;
use trunkline_reactor::timer;
use trunkline_session::{FunctionCatalog, Functions, UnlistedFunctions};

pub(crate) use self::read::PlainnessWish;
use crate::limits::{FUNCTION_DATABASES_MAX, FUNCTIONS_FIRST_LOOK_PATIENCE};
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
    /// Of the server that was read last; used for databases that cannot be read.
    built_in: ArcSwap<HashSet<Box<[u8]>>>,
    databases: Mutex<HashMap<Box<str>, Database>>,
}

/// A database in use.
#[derive(Debug)]
struct Database {
    functions: Weak<Functions>,
    /// Set when the first look has ended, with or without an answer.
    looked: Arc<SetOnce<()>>,
}

impl StoreShared {
    fn databases(&self) -> MutexGuard<'_, HashMap<Box<str>, Database>> {
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
    pub(crate) fn new(mode: UserFunctions, health: Health, runtime: Handle) -> Self {
        let built_in = ArcSwap::new(built_in::names());
        let shared = StoreShared { mode, health, built_in, databases: Mutex::default() };
        Self { shared: Arc::new(shared), runtime }
    }

    /// The functions of one database, which are read as long as a session holds them. `None` when they are
    /// trusted. Waits for the first look at them, but not for ever: before it, only a call by name shows a
    /// function that changes the session, and not a view that runs one. With the wish, the first look is also at what a standby may
    /// run.
    pub(crate) async fn of_database(&self, database: &str, wish: PlainnessWish) -> Option<Arc<Functions>> {
        match self.shared.mode {
            UserFunctions::Trust => return None,
            UserFunctions::Read | UserFunctions::Pin => {}
        }
        let (functions, looked) = self.held(database, wish);
        if let Some(looked) = looked {
            let _in_time = timer::timeout(FUNCTIONS_FIRST_LOOK_PATIENCE, looked.wait()).await;
        }
        Some(functions)
    }

    /// The functions of a database, and the end of the first look if that is still due.
    fn held(&self, database: &str, wish: PlainnessWish) -> (Arc<Functions>, Option<Arc<SetOnce<()>>>) {
        let mut databases = self.shared.databases();
        if let Some(Database { functions, looked }) = databases.get(database)
            && let Some(functions) = functions.upgrade()
        {
            return (functions, (!looked.initialized()).then(|| Arc::clone(looked)));
        }
        databases.retain(|_, database| database.functions.strong_count() > 0);
        let built_in = self.shared.built_in.load_full();
        if databases.len() >= FUNCTION_DATABASES_MAX {
            let unread = FunctionCatalog::unread(built_in, UnlistedFunctions::Pins);
            return (Arc::new(Functions::never_looked_at(unread)), None);
        }
        let unread = FunctionCatalog::unread(built_in, UnlistedFunctions::Unread);
        let (functions, looked) = (Arc::new(Functions::new(unread)), Arc::new(SetOnce::new()));
        if wish == PlainnessWish::Wanted {
            functions.want_plainness();
        }
        let entry = Database { functions: Arc::downgrade(&functions), looked: Arc::clone(&looked) };
        databases.insert(database.into(), entry);
        let looks =
            task::run(Arc::clone(&self.shared), database.into(), Arc::clone(&functions), Arc::clone(&looked));
        self.runtime.spawn(looks);
        (functions, Some(looked))
    }
}
