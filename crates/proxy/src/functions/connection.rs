//! The connection of a look, and the answers it brings.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row as PgRow};
use trunkline_health::{Health, ServerStream};
use trunkline_session::FunctionEffect;
use trunkline_topology::{ServerId, Snapshot};

use super::classify::Row;
use super::known::{Seed, User};
use super::sql;
use crate::limits::{FUNCTION_LOOK_TIMEOUT, FUNCTION_USERS_MAX};
use trunkline_auth::secrets::{to_ask, without_hosts};

/// To connect and log in to one server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// What a look runs with, after the options of the store of secrets.
const OPTIONS: &str = "-c statement_timeout=10000 -c default_transaction_read_only=on";

/// A connection to one database.
#[derive(Debug)]
pub(super) struct Connection {
    server: ServerId,
    client: Client,
    /// `server_version_num`.
    pub(super) version: u32,
}

/// Why functions could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LookError {
    /// There is no server to ask.
    #[error("no server answers")]
    NoServer,
    /// A server does not answer now, though it may another time.
    #[error("{0}")]
    NotNow(String),
    /// The monitoring role may not read this database, or what it reads is not understood.
    #[error("{0}")]
    Refused(String),
    /// There is more than is kept.
    #[error("there are more {0} than are read")]
    TooMany(&'static str),
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// What is there now: while a primary serves nobody else knows that. A standby may have yet to replay it.
    News,
    /// What does not change while servers run.
    Anything,
}

/// The servers to ask, in order.
fn whom(snapshot: &Snapshot, wanted: Wanted) -> Vec<(ServerId, String, u16)> {
    let mut servers = to_ask(snapshot);
    if let (Wanted::News, Some(primary)) = (wanted, snapshot.serving_primary()) {
        servers.retain(|(id, _, _)| *id == primary.id);
    }
    servers
}

/// What has changed since the last look, by fingerprint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark(String);

/// The same of functions, with how much there is to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FunctionsMark {
    mark: Mark,
    pub(super) count: i64,
    pub(super) source_bytes: i64,
}

impl Connection {
    /// A connection to the first server that can be had, the primary before others. `current` is used on if it is to
    /// that one.
    pub(super) async fn to_first(
        current: Option<Self>,
        wanted: Wanted,
        health: &Health,
        login: &Config,
        database: &str,
    ) -> Result<Self, LookError> {
        let mut current = current.filter(|connection| !connection.client.is_closed());
        let mut last = LookError::NoServer;
        for (server, host, port) in whom(&health.load(), wanted) {
            if let Some(connection) = current.take_if(|connection| connection.server == server) {
                return Ok(connection);
            }
            match timeout(CONNECT_TIMEOUT, Self::connect(server, &host, port, login, database)).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error @ (LookError::Refused(_) | LookError::TooMany(_)))) => return Err(error),
                Ok(Err(error @ (LookError::NoServer | LookError::NotNow(_)))) => last = error,
                Err(_elapsed) => last = LookError::NotNow(format!("no login within {CONNECT_TIMEOUT:?}")),
            }
        }
        Err(last)
    }

    async fn connect(
        server: ServerId,
        host: &str,
        port: u16,
        login: &Config,
        database: &str,
    ) -> Result<Self, LookError> {
        let stream = ServerStream::to_host(host, port).await.map_err(|_| LookError::NoServer)?;
        let mut config = without_hosts(login);
        let options = format!("{} {OPTIONS}", config.get_options().unwrap_or_default());
        config.application_name("trunkline functions").dbname(database).options(options);
        let (client, driver) = config.connect_raw(stream, NoTls).await.map_err(|error| judge(&error))?;
        // Ends with the client, or with the server: then the next look finds the client closed.
        tokio::spawn(driver);
        let row = client.query_one("SELECT current_setting('server_version_num')::int4", &[]).await;
        let version: i32 = column(&row.map_err(|error| judge(&error))?, 0)?;
        Ok(Self { server, client, version: version.unsigned_abs() })
    }

    async fn ask(&self, sql: &str, with: &[&(dyn ToSql + Sync)]) -> Result<Vec<PgRow>, LookError> {
        match timeout(FUNCTION_LOOK_TIMEOUT, self.client.query(sql, with)).await {
            Ok(rows) => rows.map_err(|error| judge(&error)),
            Err(_elapsed) => Err(LookError::NotNow(format!("no answer within {FUNCTION_LOOK_TIMEOUT:?}"))),
        }
    }

    async fn ask_one(&self, sql: &str) -> Result<PgRow, LookError> {
        self.ask(sql, &[]).await?.pop().ok_or(LookError::NoServer)
    }

    pub(super) async fn functions_mark(&self) -> Result<FunctionsMark, LookError> {
        let row = self.ask_one(sql::FUNCTIONS_MARK).await?;
        Ok(FunctionsMark {
            mark: Mark(column(&row, 0)?),
            count: column(&row, 1)?,
            source_bytes: column(&row, 2)?,
        })
    }

    pub(super) async fn callers_mark(&self) -> Result<Mark, LookError> {
        Ok(Mark(column(&self.ask_one(sql::CALLERS_MARK).await?, 0)?))
    }

    /// The built-in functions: OID and name.
    pub(super) async fn built_in(&self) -> Result<Vec<(u32, Box<[u8]>)>, LookError> {
        let rows = self.ask(sql::BUILT_IN, &[]).await?;
        rows.iter().map(|row| Ok((column(row, 0)?, name(row, 1)?))).collect()
    }

    /// The functions, whose sources have at most so many bytes in all.
    pub(super) async fn functions(&self, bytes_max: usize) -> Result<Vec<Row>, LookError> {
        let most = i64::try_from(bytes_max).unwrap_or(i64::MAX);
        let rows = self.ask(&sql::functions(self.version), &[&most]).await?;
        let rows: Vec<Row> = rows.iter().map(row_of).collect::<Result<_, _>>()?;
        let bytes: usize = rows.iter().map(|row| row.source.len()).sum();
        if bytes > bytes_max { Err(LookError::TooMany("bytes of function sources")) } else { Ok(rows) }
    }

    /// What uses one of these built-in functions directly.
    pub(super) async fn users_of_built_in(
        &self,
        of_interest: &[(u32, FunctionEffect)],
    ) -> Result<Vec<Seed>, LookError> {
        if of_interest.is_empty() {
            return Ok(Vec::new());
        }
        let oids: Vec<u32> = of_interest.iter().map(|(oid, _)| *oid).collect();
        let alternatives: Vec<String> = oids.iter().map(u32::to_string).collect();
        let pattern = format!(":funcid ({}) ", alternatives.join("|"));
        let rows = self.ask(sql::USERS_OF_BUILT_IN, &[&oids, &pattern]).await?;
        let seed = |row| {
            let function: u32 = column(row, 2)?;
            let effect =
                of_interest.iter().find(|(oid, _)| *oid == function).map(|(_, effect)| effect.clone());
            Ok(Seed { class: column(row, 0)?, object: column(row, 1)?, effect: effect.unwrap_or_default() })
        };
        rows.iter().map(seed).collect()
    }

    /// What uses these, directly or not.
    pub(super) async fn users(&self, seeds: &[Seed]) -> Result<Vec<(User, FunctionEffect)>, LookError> {
        let mut effects: Vec<&FunctionEffect> = Vec::new();
        let mut numbers = Vec::with_capacity(seeds.len());
        for seed in seeds {
            let number = effects.iter().position(|effect| **effect == seed.effect).unwrap_or_else(|| {
                effects.push(&seed.effect);
                effects.len() - 1
            });
            numbers.push(i32::try_from(number).unwrap_or(i32::MAX));
        }
        let classes: Vec<u32> = seeds.iter().map(|seed| seed.class).collect();
        let objects: Vec<u32> = seeds.iter().map(|seed| seed.object).collect();
        let most = i64::try_from(FUNCTION_USERS_MAX).unwrap_or(i64::MAX).saturating_add(1);
        let rows = self.ask(sql::USERS, &[&classes, &objects, &numbers, &most]).await?;
        if rows.len() > FUNCTION_USERS_MAX {
            return Err(LookError::TooMany("users of functions"));
        }
        let mut users = Vec::with_capacity(rows.len());
        for row in &rows {
            let number: i32 = column(row, 0)?;
            let kind: &str = column(row, 1)?;
            let user = match kind {
                "function" => User::Function(column(row, 2)?),
                "word" => User::Word(name(row, 3)?),
                "operator" => User::Operator(name(row, 3)?),
                _cast => User::Cast,
            };
            let effect = usize::try_from(number).ok().and_then(|number| effects.get(number));
            users.extend(effect.map(|effect| (user, (*effect).clone())));
        }
        Ok(users)
    }
}

fn row_of(row: &PgRow) -> Result<Row, LookError> {
    Ok(Row {
        oid: column(row, 0)?,
        name: name(row, 1)?,
        language: column(row, 2)?,
        source: column(row, 3)?,
        library: column(row, 4)?,
        extension: column(row, 5)?,
        is_attribute: column(row, 6)?,
    })
}

fn column<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a PgRow, at: usize) -> Result<T, LookError> {
    row.try_get(at).map_err(|error| LookError::Refused(error.to_string()))
}

fn name(row: &PgRow, at: usize) -> Result<Box<[u8]>, LookError> {
    Ok(column::<&[u8]>(row, at)?.into())
}

/// A refusal that lasts, or a failure that passes.
fn judge(error: &tokio_postgres::Error) -> LookError {
    let Some(said) = error.as_db_error() else { return LookError::NoServer };
    let code = said.code().code();
    // Being shut down or canceled, a conflict with recovery, no room: another time.
    let is_passing = ["57", "40", "53", "08"].iter().any(|class| code.starts_with(class));
    let words = format!("{} ({code})", said.message());
    if is_passing { LookError::NotNow(words) } else { LookError::Refused(words) }
}

#[cfg(test)]
mod tests {
    use trunkline_telemetry::exposition::testing::snapshot;
    use trunkline_topology::State;

    use super::*;

    #[test]
    fn only_the_primary_has_news_while_it_serves() {
        let mut snapshot = snapshot();
        let ids = |snapshot: &Snapshot, wanted| -> Vec<u16> {
            whom(snapshot, wanted).iter().map(|(id, _, _)| id.0).collect()
        };
        assert_eq!(ids(&snapshot, Wanted::News), [0], "a standby may be behind");
        assert_eq!(ids(&snapshot, Wanted::Anything), [0, 1, 2]);
        snapshot.servers[0].state = State::Down;
        assert_eq!(ids(&snapshot, Wanted::News), [1, 2], "nobody makes functions now");
    }
}
