//! The connection by which functions are read, and the parsing of its answers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row as PgRow, Statement};
use trunkline_health::{Health, MonitorLogin, MonitorLoginError};
use trunkline_session::FunctionEffect;
use trunkline_topology::{Endpoint, ServerId, Snapshot};

use super::classify::FunctionRow;
use super::graph::{Dependency, Dependent, RelationKind, RelationRow};
use super::sql;
use crate::limits::{FUNCTION_LOOK_TIMEOUT, FUNCTION_USERS_MAX, PLAINNESS_RELATIONS_MAX};
use trunkline_auth::secrets::{to_ask, without_hosts};
use trunkline_codec::ids::Lsn;

/// The time limit to connect and log in to one server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Options of this connection, added to those for reading secrets.
const OPTIONS: &str = "-c statement_timeout=10000 -c default_transaction_read_only=on \
    -c idle_in_transaction_session_timeout=0";

/// A connection to one database.
#[derive(Debug)]
pub(super) struct CatalogConnection {
    server: ServerId,
    /// The monitoring role's, by which it was made.
    login: Arc<MonitorLogin>,
    client: Client,
    /// `server_version_num`.
    pub(super) version: u32,
    asked: EachLook,
}

/// What each check asks: to plan it would cost more than to run it.
#[derive(Debug)]
struct EachLook {
    functions_fingerprint: Statement,
    callers_fingerprint: Statement,
    names_fingerprint: Statement,
    has_event_trigger: Statement,
    relations_fingerprint: Statement,
}

impl EachLook {
    async fn prepare(client: &Client) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            functions_fingerprint: client.prepare(&sql::functions_fingerprint()).await?,
            callers_fingerprint: client.prepare(sql::CALLERS_FINGERPRINT).await?,
            names_fingerprint: client.prepare(sql::NAMES_FINGERPRINT).await?,
            has_event_trigger: client.prepare(sql::HAS_EVENT_TRIGGER).await?,
            relations_fingerprint: client.prepare(sql::RELATIONS_FINGERPRINT).await?,
        })
    }
}

/// Why functions could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FunctionsReadError {
    /// There is no server to ask.
    #[error("no server answers")]
    NoServer,
    /// A server does not answer now, but may later.
    #[error("{0}")]
    NotNow(String),
    /// The monitoring role may not read this database, or the answer cannot be parsed.
    #[error("{0}")]
    Refused(String),
    /// There is more than the proxy reads.
    #[error("there are more {0} than are read")]
    TooMany(&'static str),
}

/// Which servers may be read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadFrom {
    /// Only the primary while one serves: a standby may not have replayed the latest changes.
    Primary,
    /// Any server, for what does not change while servers run.
    AnyServer,
}

/// The servers to try, in order.
fn whom(snapshot: &Snapshot, from: ReadFrom) -> Vec<(ServerId, Endpoint)> {
    let mut servers = to_ask(snapshot);
    if let (ReadFrom::Primary, Some(primary)) = (from, snapshot.serving_primary()) {
        servers.retain(|(id, _)| *id == primary.id);
    }
    servers
}

/// Changes when the catalog does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CatalogFingerprint(String);

/// The same for functions, with the amount of data to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FunctionsFingerprint {
    fingerprint: CatalogFingerprint,
    /// As a session's server tells it, by [`trunkline_session::FUNCTIONS_FINGERPRINT`].
    pub(super) own: String,
    pub(super) count: i64,
    pub(super) source_bytes: i64,
}

impl CatalogConnection {
    /// Connects to the first server that can be reached, trying the primary first. `current` is kept if it is to
    /// that server, by the login that is still in force.
    pub(super) async fn to_first(
        current: Option<Self>,
        from: ReadFrom,
        health: &Health,
        database: &str,
    ) -> Result<Self, FunctionsReadError> {
        let login = health.login();
        let mut current = current
            .filter(|connection| !connection.client.is_closed() && Arc::ptr_eq(&connection.login, &login));
        let mut last = FunctionsReadError::NoServer;
        for (server, endpoint) in whom(&health.load(), from) {
            if let Some(connection) = current.take_if(|connection| connection.server == server) {
                return Ok(connection);
            }
            match timeout(CONNECT_TIMEOUT, Self::connect(server, &endpoint, &login, database)).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error @ (FunctionsReadError::Refused(_) | FunctionsReadError::TooMany(_)))) => {
                    return Err(error);
                }
                Ok(Err(error @ (FunctionsReadError::NoServer | FunctionsReadError::NotNow(_)))) => {
                    last = error
                }
                Err(_elapsed) => {
                    last = FunctionsReadError::NotNow(format!("no login within {CONNECT_TIMEOUT:?}"))
                }
            }
        }
        Err(last)
    }

    async fn connect(
        server: ServerId,
        endpoint: &Endpoint,
        login: &Arc<MonitorLogin>,
        database: &str,
    ) -> Result<Self, FunctionsReadError> {
        let mut config = without_hosts(&login.config);
        let options = format!("{} {OPTIONS}", config.get_options().unwrap_or_default());
        config.application_name("trunkline functions").dbname(database).options(options);
        let (client, driver) =
            login.connect_as(&config, endpoint).await.map_err(|failure| match failure {
                MonitorLoginError::Login(error) => judge(&error),
                MonitorLoginError::Connect(_) | MonitorLoginError::Tls(_) => FunctionsReadError::NoServer,
            })?;
        // Ends when the client is dropped or the server closes: the next check then finds the client closed.
        tokio::spawn(driver);
        let row = client.query_one("SELECT current_setting('server_version_num')::int4", &[]).await;
        let version: i32 = column(&row.map_err(|error| judge(&error))?, 0)?;
        let asked = EachLook::prepare(&client).await.map_err(|error| judge(&error))?;
        Ok(Self { server, login: Arc::clone(login), client, version: version.unsigned_abs(), asked })
    }

    /// All that is read from now on is of one state of the database, until [`Self::commit`].
    pub(super) async fn begin(&self) -> Result<(), FunctionsReadError> {
        self.run("BEGIN ISOLATION LEVEL REPEATABLE READ").await
    }

    pub(super) async fn commit(&self) -> Result<(), FunctionsReadError> {
        self.run("COMMIT").await
    }

    async fn run(&self, sql: &str) -> Result<(), FunctionsReadError> {
        in_time(self.client.batch_execute(sql)).await
    }

    async fn ask(&self, sql: &str, with: &[&(dyn ToSql + Sync)]) -> Result<Vec<PgRow>, FunctionsReadError> {
        in_time(self.client.query(sql, with)).await
    }

    async fn ask_one(&self, prepared: &Statement) -> Result<PgRow, FunctionsReadError> {
        in_time(self.client.query_one(prepared, &[])).await
    }

    pub(super) async fn functions_fingerprint(&self) -> Result<FunctionsFingerprint, FunctionsReadError> {
        let row = self.ask_one(&self.asked.functions_fingerprint).await?;
        Ok(FunctionsFingerprint {
            fingerprint: CatalogFingerprint(column(&row, 0)?),
            own: column(&row, 1)?,
            count: column(&row, 2)?,
            source_bytes: column(&row, 3)?,
        })
    }

    pub(super) async fn callers_fingerprint(&self) -> Result<CatalogFingerprint, FunctionsReadError> {
        Ok(CatalogFingerprint(column(&self.ask_one(&self.asked.callers_fingerprint).await?, 0)?))
    }

    pub(super) async fn has_event_trigger(&self) -> Result<bool, FunctionsReadError> {
        column(&self.ask_one(&self.asked.has_event_trigger).await?, 0)
    }

    /// Of the relations and types with these OIDs.
    pub(super) async fn names_fingerprint(
        &self,
        named: &[u32],
    ) -> Result<CatalogFingerprint, FunctionsReadError> {
        if named.is_empty() {
            return Ok(CatalogFingerprint::default());
        }
        let row = in_time(self.client.query_one(&self.asked.names_fingerprint, &[&named])).await?;
        Ok(CatalogFingerprint(column(&row, 0)?))
    }

    pub(super) async fn relations_fingerprint(&self) -> Result<CatalogFingerprint, FunctionsReadError> {
        Ok(CatalogFingerprint(column(&self.ask_one(&self.asked.relations_fingerprint).await?, 0)?))
    }

    /// The relations that a statement can read, if they are not too many.
    pub(super) async fn relations(&self) -> Result<Vec<RelationRow>, FunctionsReadError> {
        let most = i64::try_from(PLAINNESS_RELATIONS_MAX).unwrap_or(i64::MAX).saturating_add(1);
        let rows = self.ask(sql::RELATIONS, &[&most]).await?;
        if rows.len() > PLAINNESS_RELATIONS_MAX {
            return Err(FunctionsReadError::TooMany("relations"));
        }
        let relation = |row| {
            let kind = match column(row, 2)? {
                "f" => RelationKind::Foreign,
                "S" => RelationKind::Sequence,
                "system view" => RelationKind::SystemView,
                "indirect" => RelationKind::Indirect,
                _table_or_view => RelationKind::Other,
            };
            Ok(RelationRow { oid: column(row, 0)?, name: name(row, 1)?, kind })
        };
        rows.iter().map(relation).collect()
    }

    /// Where the server's log is; `None` where it does not tell.
    pub(super) async fn position(&self) -> Option<Lsn> {
        let asked = self.ask(sql::POSITION, &[]).await;
        let rows =
            asked.inspect_err(|error| tracing::debug!(%error, "the server does not tell a position")).ok()?;
        column::<&str>(rows.first()?, 0).ok()?.parse().ok().map(Lsn)
    }

    /// The built-in functions: OID and name.
    pub(super) async fn built_in(&self) -> Result<Vec<(u32, Box<[u8]>)>, FunctionsReadError> {
        let rows = self.ask(sql::BUILT_IN, &[]).await?;
        rows.iter().map(|row| Ok((column(row, 0)?, name(row, 1)?))).collect()
    }

    /// Reads the functions, if their sources have at most this many bytes in total.
    pub(super) async fn functions(&self, bytes_max: usize) -> Result<Vec<FunctionRow>, FunctionsReadError> {
        let most = i64::try_from(bytes_max).unwrap_or(i64::MAX);
        let rows = self.ask(&sql::functions(self.version), &[&most]).await?;
        let rows: Vec<FunctionRow> = rows.iter().map(row_of).collect::<Result<_, _>>()?;
        let bytes: usize = rows.iter().map(|row| row.source.len()).sum();
        if bytes > bytes_max {
            Err(FunctionsReadError::TooMany("bytes of function sources"))
        } else {
            Ok(rows)
        }
    }

    /// Reads what uses one of these built-in functions directly.
    pub(super) async fn users_of_built_in(
        &self,
        of_interest: &[(u32, FunctionEffect)],
    ) -> Result<Vec<Dependency>, FunctionsReadError> {
        if of_interest.is_empty() {
            return Ok(Vec::new());
        }
        let oids: Vec<u32> = of_interest.iter().map(|(oid, _)| *oid).collect();
        let pattern = |is_it: fn(&FunctionEffect) -> bool| {
            let them = of_interest.iter().filter(|(_, effect)| is_it(effect));
            let alternatives: Vec<String> = them.map(|(oid, _)| oid.to_string()).collect();
            format!(":funcid ({}) ", alternatives.join("|"))
        };
        let (read, written) = (pattern(|_any| true), pattern(FunctionEffect::changes_session));
        let rows = self.ask(sql::USERS_OF_BUILT_IN, &[&oids, &read, &written]).await?;
        dependencies_on(of_interest, &rows)
    }

    /// Reads what shows one of these views of PostgreSQL.
    pub(super) async fn users_of_system_views(
        &self,
        views: &[(u32, FunctionEffect)],
    ) -> Result<Vec<Dependency>, FunctionsReadError> {
        let alternatives: Vec<String> = views.iter().map(|(oid, _)| oid.to_string()).collect();
        let pattern = format!(":relid ({}) ", alternatives.join("|"));
        dependencies_on(views, &self.ask(sql::USERS_OF_SYSTEM_VIEWS, &[&pattern]).await?)
    }

    /// Reads what depends on these, directly or not.
    pub(super) async fn users(
        &self,
        dependencies: &[Dependency],
    ) -> Result<Vec<(Dependent, FunctionEffect)>, FunctionsReadError> {
        let mut effects: Vec<&FunctionEffect> = Vec::new();
        // Of one cause there are few effects, and of all thousands.
        let mut by_cause: HashMap<Option<&str>, Vec<usize>> = HashMap::new();
        let mut numbers = Vec::with_capacity(dependencies.len());
        for dependency in dependencies {
            let alike = by_cause.entry(dependency.effect.not_plain.as_deref()).or_default();
            let known = alike.iter().find(|number| *effects[**number] == dependency.effect).copied();
            let number = known.unwrap_or_else(|| {
                effects.push(&dependency.effect);
                alike.push(effects.len() - 1);
                effects.len() - 1
            });
            numbers.push(i32::try_from(number).unwrap_or(i32::MAX));
        }
        let classes: Vec<u32> = dependencies.iter().map(|dependency| dependency.class).collect();
        let objects: Vec<u32> = dependencies.iter().map(|dependency| dependency.object).collect();
        let are_read = |(_, effect): &(i32, &&FunctionEffect)| !effect.changes_session();
        let read: Vec<i32> = (0..).zip(&effects).filter(are_read).map(|(number, _)| number).collect();
        let most = i64::try_from(FUNCTION_USERS_MAX).unwrap_or(i64::MAX).saturating_add(1);
        let has_refresh = dependencies.iter().all(|dependency| dependency.effect.not_plain.is_none());
        let rows = self.ask(sql::USERS, &[&classes, &objects, &numbers, &most, &read, &has_refresh]).await?;
        if rows.len() > FUNCTION_USERS_MAX {
            return Err(FunctionsReadError::TooMany("users of functions"));
        }
        let mut users = Vec::with_capacity(rows.len());
        for row in &rows {
            let number: i32 = column(row, 0)?;
            let kind: &str = column(row, 1)?;
            let user = match kind {
                "function" => Dependent::Function(column(row, 2)?),
                "word" => Dependent::Word { oid: column(row, 2)?, name: name(row, 3)? },
                "type" => Dependent::Type { oid: column(row, 2)?, name: name(row, 3)? },
                "operator" => Dependent::Operator(name(row, 3)?),
                _cast_class_or_text_search => Dependent::Nameless,
            };
            let effect = usize::try_from(number).ok().and_then(|number| effects.get(number));
            users.extend(effect.map(|effect| (user, (*effect).clone())));
        }
        Ok(users)
    }
}

/// What depends on these objects of PostgreSQL: class, OID, and the object's OID.
fn dependencies_on(
    objects: &[(u32, FunctionEffect)],
    rows: &[PgRow],
) -> Result<Vec<Dependency>, FunctionsReadError> {
    let dependency = |row| {
        let on: u32 = column(row, 2)?;
        let effect = objects.iter().find(|(oid, _)| *oid == on).map(|(_, effect)| effect.clone());
        Ok(Dependency { class: column(row, 0)?, object: column(row, 1)?, effect: effect.unwrap_or_default() })
    };
    rows.iter().map(dependency).collect()
}

async fn in_time<T>(
    answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, FunctionsReadError> {
    match timeout(FUNCTION_LOOK_TIMEOUT, answer).await {
        Ok(answer) => answer.map_err(|error| judge(&error)),
        Err(_elapsed) => {
            Err(FunctionsReadError::NotNow(format!("no answer within {FUNCTION_LOOK_TIMEOUT:?}")))
        }
    }
}

fn row_of(row: &PgRow) -> Result<FunctionRow, FunctionsReadError> {
    Ok(FunctionRow {
        oid: column(row, 0)?,
        name: name(row, 1)?,
        language: column(row, 2)?,
        source: column(row, 3)?,
        library: column(row, 4)?,
        extension: column(row, 5)?,
        is_attribute: column(row, 6)?,
        sets: column(row, 7)?,
    })
}

fn column<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a PgRow,
    at: usize,
) -> Result<T, FunctionsReadError> {
    row.try_get(at).map_err(|error| FunctionsReadError::Refused(error.to_string()))
}

fn name(row: &PgRow, at: usize) -> Result<Box<[u8]>, FunctionsReadError> {
    Ok(column::<&[u8]>(row, at)?.into())
}

/// Whether the error is permanent or may pass.
fn judge(error: &tokio_postgres::Error) -> FunctionsReadError {
    let Some(said) = error.as_db_error() else { return FunctionsReadError::NoServer };
    let code = said.code().code();
    // Shutdown, cancellation, recovery conflict, too many connections: it may pass.
    let is_passing = ["57", "40", "53", "08"].iter().any(|class| code.starts_with(class));
    let words = format!("{} ({code})", said.message());
    if is_passing { FunctionsReadError::NotNow(words) } else { FunctionsReadError::Refused(words) }
}

#[cfg(test)]
mod tests {
    use trunkline_telemetry::exposition::testing::snapshot;
    use trunkline_topology::State;

    use super::*;

    #[test]
    fn only_the_primary_has_news_while_it_serves() {
        let mut snapshot = snapshot();
        let ids = |snapshot: &Snapshot, from| -> Vec<u32> {
            whom(snapshot, from).iter().map(|(id, _)| id.0).collect()
        };
        assert_eq!(ids(&snapshot, ReadFrom::Primary), [0], "a standby may be behind");
        assert_eq!(ids(&snapshot, ReadFrom::AnyServer), [0, 1, 2]);
        snapshot.servers[0].state = State::Down;
        assert_eq!(ids(&snapshot, ReadFrom::Primary), [1, 2], "nobody makes functions now");
    }
}
