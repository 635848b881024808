//! One look at a database: has something changed, and what is it now?

use std::collections::HashSet;
use std::sync::Arc;

use trunkline_session::{FunctionCatalog, FunctionEffect, UnlistedFunctions};

use super::classify::Function;
use super::connection::{Connection, FunctionsMark, LookError, Mark, Wanted};
use super::known::Known;
use super::{BuiltIn, Shared};
use crate::limits::{FUNCTION_ROUNDS_MAX, FUNCTION_SOURCES_MAX, FUNCTIONS_MAX};
use crate::settings::UserFunctions;

/// Looks at one database, again and again.
#[derive(Debug)]
pub(super) struct Looker {
    shared: Arc<Shared>,
    database: Box<str>,
    connection: Option<Connection>,
    built_in: Option<BuiltInRead>,
    functions: Arc<[Function]>,
    functions_mark: Option<FunctionsMark>,
    callers_mark: Option<Mark>,
}

/// The built-in functions of a version.
#[derive(Debug)]
struct BuiltInRead {
    version: u32,
    names: BuiltIn,
    /// Those that leave something behind, by OID.
    of_interest: Vec<(u32, FunctionEffect)>,
}

impl Looker {
    pub(super) fn new(shared: Arc<Shared>, database: Box<str>) -> Self {
        let (connection, built_in) = (None, None);
        let (functions, functions_mark, callers_mark) = (Arc::default(), None, None);
        Self { shared, database, connection, built_in, functions, functions_mark, callers_mark }
    }

    /// The catalog, if it is another than at the last look.
    ///
    /// # Errors
    /// When it cannot be read: then all is read at the next look.
    pub(super) async fn look(&mut self) -> Result<Option<FunctionCatalog>, LookError> {
        let looked = match self.shared.mode {
            UserFunctions::Read => self.look_at_functions().await,
            UserFunctions::Pin | UserFunctions::Trust => self.look_at_built_in().await,
        };
        if looked.is_err() {
            self.forget();
        }
        looked
    }

    /// The catalog where functions are not read, or cannot be: what is built in is known from elsewhere.
    pub(super) async fn unreadable(&mut self) -> FunctionCatalog {
        if self.shared.built_in.load().is_empty() {
            // Read anywhere: the monitoring role has a database of its own.
            let database =
                self.shared.login.get_dbname().or(self.shared.login.get_user()).unwrap_or("postgres");
            let connection = Connection::to_first(
                None,
                Wanted::Anything,
                &self.shared.health,
                &self.shared.login,
                database,
            )
            .await;
            if let Ok(connection) = connection {
                let _otherwise_none_is_known = self.read_built_in(&connection).await;
                self.built_in = None;
            }
        }
        FunctionCatalog::unread(self.shared.built_in.load_full(), UnlistedFunctions::Pins)
    }

    /// Gives up its connection for now.
    pub(super) fn rest(&mut self) {
        self.connection = None;
    }

    /// Gives up its connection, and with it what is kept to compare with.
    pub(super) fn forget(&mut self) {
        self.connection = None;
        self.built_in = None;
        self.functions = Arc::default();
        self.functions_mark = None;
        self.callers_mark = None;
    }

    async fn look_at_functions(&mut self) -> Result<Option<FunctionCatalog>, LookError> {
        let Shared { health, login, .. } = &*self.shared;
        let connection =
            Connection::to_first(self.connection.take(), Wanted::News, health, login, &self.database).await?;
        let changed = self.compare(&connection).await;
        self.connection = Some(connection);
        changed
    }

    async fn compare(&mut self, connection: &Connection) -> Result<Option<FunctionCatalog>, LookError> {
        let is_version_new = self.built_in.as_ref().is_none_or(|read| read.version != connection.version);
        if is_version_new {
            self.read_built_in(connection).await?;
        }
        let functions_mark = Some(connection.functions_mark().await?);
        let callers_mark = Some(connection.callers_mark().await?);
        let are_functions_new = functions_mark != self.functions_mark;
        if !is_version_new && !are_functions_new && callers_mark == self.callers_mark {
            return Ok(None);
        }
        if are_functions_new {
            self.functions = read_functions(connection, functions_mark.as_ref()).await?;
        }
        let catalog = self.follow(connection).await?;
        (self.functions_mark, self.callers_mark) = (functions_mark, callers_mark);
        Ok(Some(catalog))
    }

    /// Where functions are not to be read, one look is enough.
    async fn look_at_built_in(&mut self) -> Result<Option<FunctionCatalog>, LookError> {
        if self.built_in.is_some() {
            return Ok(None);
        }
        let Shared { health, login, .. } = &*self.shared;
        let connection = Connection::to_first(None, Wanted::Anything, health, login, &self.database).await?;
        self.read_built_in(&connection).await?;
        Ok(Some(FunctionCatalog::unread(self.shared.built_in.load_full(), UnlistedFunctions::Pins)))
    }

    async fn read_built_in(&mut self, connection: &Connection) -> Result<(), LookError> {
        let rows = connection.built_in().await?;
        let effects = rows.iter().map(|(oid, name)| (*oid, FunctionEffect::of_name(name)));
        let of_interest = effects.filter(|(_, effect)| effect.pin.is_some()).collect();
        let names: HashSet<Box<[u8]>> = rows.into_iter().map(|(_, name)| name).collect();
        let names = {
            let known = self.shared.built_in.load_full();
            if *known == names { known } else { Arc::new(names) }
        };
        self.shared.built_in.store(Arc::clone(&names));
        self.built_in = Some(BuiltInRead { version: connection.version, names, of_interest });
        Ok(())
    }

    /// Who uses what, until nothing new is found.
    async fn follow(&self, connection: &Connection) -> Result<FunctionCatalog, LookError> {
        let Some(built_in) = &self.built_in else { return Err(LookError::NoServer) };
        let functions = Arc::clone(&self.functions);
        let (mut known, mut seeds) = aside(move || Known::new(functions.to_vec())).await?;
        seeds.extend(connection.users_of_built_in(&built_in.of_interest).await?);
        for _round in 0..FUNCTION_ROUNDS_MAX {
            if known.is_too_much() {
                return Err(LookError::TooMany("settings that functions change"));
            }
            if seeds.is_empty() {
                if known.is_everything_of_interest() {
                    tracing::warn!(
                        db.name = %self.database,
                        "a cast between built-in types runs a function that changes sessions: all sessions are pinned"
                    );
                }
                let names = Arc::clone(&built_in.names);
                return aside(move || known.catalog(names)).await;
            }
            let users = connection.users(&seeds).await?;
            (known, seeds) = aside(move || {
                let seeds = known.add_users(users);
                (known, seeds)
            })
            .await?;
        }
        Err(LookError::TooMany("functions that call each other by way of views"))
    }
}

async fn read_functions(
    connection: &Connection,
    mark: Option<&FunctionsMark>,
) -> Result<Arc<[Function]>, LookError> {
    let is_over = |number: i64, most: usize| usize::try_from(number).unwrap_or(usize::MAX) > most;
    if mark.is_some_and(|mark| is_over(mark.count, FUNCTIONS_MAX)) {
        return Err(LookError::TooMany("functions"));
    }
    if mark.is_some_and(|mark| is_over(mark.source_bytes, FUNCTION_SOURCES_MAX)) {
        return Err(LookError::TooMany("bytes of function sources"));
    }
    let rows = connection.functions(FUNCTION_SOURCES_MAX).await?;
    aside(move || rows.into_iter().map(Function::of).collect()).await
}

/// Does work that takes long beside the thread that looks at servers.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, LookError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| LookError::NotNow(error.to_string()))
}
