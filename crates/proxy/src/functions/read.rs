//! One check of a database: has something changed, and what are the effects of its functions now?

mod plainness;

use std::collections::HashSet;
use std::sync::Arc;

use trunkline_session::{EventTriggers, FunctionCatalog, FunctionEffect, Functions, UnlistedFunctions};

use super::classify::Function;
use super::connection::{
    CatalogConnection, CatalogFingerprint, FunctionsFingerprint, FunctionsReadError, ReadFrom,
};
use super::graph::{Dependency, FunctionGraph, not_plain_built_in};
use super::{BuiltIn, StoreShared};
use crate::limits::{FUNCTION_ROUNDS_MAX, FUNCTION_SOURCES_MAX, FUNCTIONS_MAX};
use crate::settings::UserFunctions;

/// Checks one database repeatedly.
#[derive(Debug)]
pub(super) struct FunctionsReader {
    shared: Arc<StoreShared>,
    database: Box<str>,
    connection: Option<CatalogConnection>,
    built_in: Option<BuiltInFunctions>,
    functions: Arc<[Function]>,
    /// OIDs of the relations and types that run some of them.
    named: Vec<u32>,
    fingerprints: Option<Fingerprints>,
    event_triggers: EventTriggers,
    /// The last check has read what is plain, too.
    has_plainness: bool,
}

/// Whether a check finds out what is fit for a standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PlainnessWish {
    Wanted,
    NotWanted,
}

impl PlainnessWish {
    pub(super) fn of(functions: &Functions) -> Self {
        if functions.wants_plainness() { Self::Wanted } else { Self::NotWanted }
    }
}

/// What changes whenever functions, or objects that run them, do.
#[derive(Debug, PartialEq, Eq)]
struct Fingerprints {
    functions: FunctionsFingerprint,
    callers: CatalogFingerprint,
    names: CatalogFingerprint,
    /// Empty when nobody wants to know what is plain.
    relations: CatalogFingerprint,
}

impl Fingerprints {
    async fn read(
        connection: &CatalogConnection,
        named: &[u32],
        wish: PlainnessWish,
    ) -> Result<Self, FunctionsReadError> {
        let functions = connection.functions_fingerprint().await?;
        let callers = connection.callers_fingerprint().await?;
        let relations = match wish {
            PlainnessWish::Wanted => connection.relations_fingerprint().await?,
            PlainnessWish::NotWanted => CatalogFingerprint::default(),
        };
        Ok(Self { functions, callers, names: connection.names_fingerprint(named).await?, relations })
    }
}

/// The built-in functions of a version.
#[derive(Debug)]
struct BuiltInFunctions {
    version: u32,
    names: BuiltIn,
    /// Those with an effect, by OID.
    of_interest: Vec<(u32, FunctionEffect)>,
    /// Those that are not plain, by OID.
    not_plain: Vec<(u32, FunctionEffect)>,
}

impl FunctionsReader {
    pub(super) fn new(shared: Arc<StoreShared>, database: Box<str>) -> Self {
        let (connection, built_in, fingerprints) = (None, None, None);
        let (functions, named) = (Arc::default(), Vec::new());
        Self {
            shared,
            database,
            connection,
            built_in,
            functions,
            named,
            fingerprints,
            event_triggers: EventTriggers::None,
            has_plainness: false,
        }
    }

    /// Returns the catalog, if it has changed since the last check.
    ///
    /// # Errors
    /// When it cannot be read: then everything is read at the next check.
    pub(super) async fn look(
        &mut self,
        wish: PlainnessWish,
    ) -> Result<Option<FunctionCatalog>, FunctionsReadError> {
        let looked = match self.shared.mode {
            UserFunctions::Read => self.look_at_functions(wish).await,
            UserFunctions::Pin | UserFunctions::Trust => self.look_at_built_in().await,
        };
        if looked.is_err() {
            self.forget();
        }
        looked
    }

    /// The catalog when functions are not or cannot be read. The built-in functions are read from another
    /// database.
    pub(super) async fn unreadable(&mut self) -> FunctionCatalog {
        if self.shared.built_in.load().is_empty() {
            // They are the same everywhere, and the monitoring role can log in to its own database.
            let health = &self.shared.health;
            let login = health.login();
            let database = login.config.get_dbname().or(login.config.get_user()).unwrap_or("postgres");
            let connection = CatalogConnection::to_first(None, ReadFrom::AnyServer, health, database).await;
            if let Ok(connection) = connection {
                let _otherwise_none_is_known = self.read_built_in(&connection).await;
                self.built_in = None;
            }
        }
        FunctionCatalog::unread(self.shared.built_in.load_full(), UnlistedFunctions::Pins)
    }

    /// The fingerprint of the functions that the last check has read; `None` if it could not, or does not, read them.
    pub(super) fn fingerprint(&self) -> Option<&str> {
        self.fingerprints.as_ref().map(|read| read.functions.own.as_str())
    }

    /// Whether the last check has found an event trigger that is enabled.
    pub(super) fn has_event_trigger(&self) -> bool {
        self.event_triggers == EventTriggers::Enabled
    }

    /// Closes its connection for now.
    pub(super) fn rest(&mut self) {
        self.connection = None;
    }

    /// Closes its connection, and discards what it compares with.
    pub(super) fn forget(&mut self) {
        self.connection = None;
        self.built_in = None;
        self.functions = Arc::default();
        self.named = Vec::new();
        self.fingerprints = None;
        self.has_plainness = false;
    }

    async fn look_at_functions(
        &mut self,
        wish: PlainnessWish,
    ) -> Result<Option<FunctionCatalog>, FunctionsReadError> {
        let (current, health) = (self.connection.take(), &self.shared.health);
        let connection =
            CatalogConnection::to_first(current, ReadFrom::Primary, health, &self.database).await?;
        let changed = self.compare(&connection, wish).await;
        self.connection = Some(connection);
        changed
    }

    async fn compare(
        &mut self,
        connection: &CatalogConnection,
        wish: PlainnessWish,
    ) -> Result<Option<FunctionCatalog>, FunctionsReadError> {
        let is_version_new = self.built_in.as_ref().is_none_or(|read| read.version != connection.version);
        if is_version_new {
            self.read_built_in(connection).await?;
        }
        let has_event_trigger = connection.has_event_trigger().await?;
        let event_triggers = if has_event_trigger { EventTriggers::Enabled } else { EventTriggers::None };
        let are_triggers_new = std::mem::replace(&mut self.event_triggers, event_triggers) != event_triggers;
        let found = Fingerprints::read(connection, &self.named, wish).await?;
        let is_wish_new = wish == PlainnessWish::Wanted && !self.has_plainness;
        let is_known = !is_version_new && !is_wish_new && !are_triggers_new;
        if is_known && self.fingerprints.as_ref() == Some(&found) {
            return Ok(None);
        }
        // Several queries of one state: what is made anew between two of them would be missed.
        connection.begin().await?;
        let mut found = Fingerprints::read(connection, &[], wish).await?;
        if self.fingerprints.take().is_none_or(|known| known.functions != found.functions) {
            self.functions = read_functions(connection, &found.functions).await?;
        }
        let (mut catalog, mut named) = self.follow(connection).await?;
        catalog.event_triggers = event_triggers;
        if wish == PlainnessWish::Wanted {
            let plainness = self.plainness(connection, &mut named).await?;
            catalog.plainness = plainness;
        }
        found.names = connection.names_fingerprint(&named).await?;
        connection.commit().await?;
        if let Some(plainness) = &mut catalog.plainness {
            plainness.position = connection.position().await;
        }
        self.has_plainness = wish == PlainnessWish::Wanted;
        self.named = named;
        self.fingerprints = Some(found);
        Ok(Some(catalog))
    }

    /// If functions are not to be read, reading the built-in ones once is enough.
    async fn look_at_built_in(&mut self) -> Result<Option<FunctionCatalog>, FunctionsReadError> {
        if self.built_in.is_some() {
            return Ok(None);
        }
        let health = &self.shared.health;
        let connection =
            CatalogConnection::to_first(None, ReadFrom::AnyServer, health, &self.database).await?;
        self.read_built_in(&connection).await?;
        Ok(Some(FunctionCatalog::unread(self.shared.built_in.load_full(), UnlistedFunctions::Pins)))
    }

    async fn read_built_in(&mut self, connection: &CatalogConnection) -> Result<(), FunctionsReadError> {
        let rows = connection.built_in().await?;
        let effects = rows.iter().map(|(oid, name)| (*oid, FunctionEffect::of_name(name)));
        let of_interest = effects.filter(|(_, effect)| effect.concerns_users()).collect();
        let not_plain = not_plain_built_in(&rows);
        let names: HashSet<Box<[u8]>> = rows.into_iter().map(|(_, name)| name).collect();
        let names = {
            let known = self.shared.built_in.load_full();
            if *known == names { known } else { Arc::new(names) }
        };
        self.shared.built_in.store(Arc::clone(&names));
        self.built_in = Some(BuiltInFunctions { version: connection.version, names, of_interest, not_plain });
        Ok(())
    }

    /// Follows the dependencies until nothing new is found. With the OIDs of the relations and types that were found.
    async fn follow(
        &self,
        connection: &CatalogConnection,
    ) -> Result<(FunctionCatalog, Vec<u32>), FunctionsReadError> {
        let Some(built_in) = &self.built_in else { return Err(FunctionsReadError::NoServer) };
        let functions = Arc::clone(&self.functions);
        let (graph, mut dependencies) = aside(move || FunctionGraph::new(functions.to_vec())).await?;
        dependencies.extend(connection.users_of_built_in(&built_in.of_interest).await?);
        let graph = follow_users(connection, graph, dependencies).await?;
        if graph.is_everything_of_interest() {
            tracing::warn!(
                db.name = %self.database,
                "a cast or an operator class of built-in types runs a function that changes sessions: all statements count as calls of it"
            );
        }
        let names = Arc::clone(&built_in.names);
        aside(move || (graph.catalog(names), graph.named())).await
    }
}

/// Adds what uses these, what uses that, and so on.
async fn follow_users(
    connection: &CatalogConnection,
    mut graph: FunctionGraph,
    mut dependencies: Vec<Dependency>,
) -> Result<FunctionGraph, FunctionsReadError> {
    for _round in 0..FUNCTION_ROUNDS_MAX {
        if graph.is_too_much() {
            return Err(FunctionsReadError::TooMany("settings that functions change"));
        }
        if dependencies.is_empty() {
            return Ok(graph);
        }
        let users = connection.users(&dependencies).await?;
        (graph, dependencies) = aside(move || {
            let dependencies = graph.add_users(users);
            (graph, dependencies)
        })
        .await?;
    }
    Err(FunctionsReadError::TooMany("functions that call each other by way of views"))
}

async fn read_functions(
    connection: &CatalogConnection,
    fingerprint: &FunctionsFingerprint,
) -> Result<Arc<[Function]>, FunctionsReadError> {
    let is_over = |number: i64, most: usize| usize::try_from(number).unwrap_or(usize::MAX) > most;
    if is_over(fingerprint.count, FUNCTIONS_MAX) {
        return Err(FunctionsReadError::TooMany("functions"));
    }
    if is_over(fingerprint.source_bytes, FUNCTION_SOURCES_MAX) {
        return Err(FunctionsReadError::TooMany("bytes of function sources"));
    }
    let rows = connection.functions(FUNCTION_SOURCES_MAX).await?;
    aside(move || rows.into_iter().map(Function::of).collect()).await
}

/// Runs long calculations on another thread than the one that monitors servers.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, FunctionsReadError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| FunctionsReadError::NotNow(error.to_string()))
}
