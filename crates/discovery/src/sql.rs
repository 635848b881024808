//! Asking a server of the cluster by SQL, with the login of the monitoring role.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::{Client, Row};
use trunkline_health::{Health, MonitorLogin, MonitorLoginError};
use trunkline_topology::{Endpoint, Role, ServerId, ServerStatus, Snapshot, State};

use crate::news::SourceError;
use crate::surroundings::Surroundings;

/// To connect, log in and set what follows, on one server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// For one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Servers that are tried, one after the other, until one answers.
const TRIED_MAX: usize = 3;

/// The application_name of the connection in pg_stat_activity.
const APPLICATION_NAME: &str = "trunkline discovery";

/// Set after the login: poolers and proxies of managed clusters refuse `options` in the startup packet.
const SETTINGS: &str =
    "SET statement_timeout = 5000; SET default_transaction_read_only = on; SET search_path = pg_catalog";

/// Which server can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AskedServer {
    /// The primary, while it serves.
    Primary,
    /// Any that answers.
    Any,
}

/// The server that answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AnsweringServer {
    /// Which one.
    pub(crate) id: ServerId,
    /// Its name here.
    pub(crate) name: String,
    /// Its host.
    pub(crate) host: String,
    /// Its port.
    pub(crate) port: u16,
}

/// A connection that is kept from one question to the next.
#[derive(Default)]
pub(crate) struct SqlAsker {
    link: Option<SqlLink>,
}

struct SqlLink {
    server: ServerId,
    endpoint: Endpoint,
    login: Arc<MonitorLogin>,
    client: Client,
}

impl SqlAsker {
    /// The rows of `query` on a server that can answer it.
    ///
    /// # Errors
    /// Of the last server that was tried.
    pub(crate) async fn ask(
        &mut self,
        around: &Surroundings,
        whom: AskedServer,
        query: &str,
    ) -> Result<(Vec<Row>, AnsweringServer), SourceError> {
        let Some(health) = &around.health else {
            return Err(SourceError::Unprepared("there is no server to ask".to_owned()));
        };
        let snapshot = health.load_full();
        let mut last = SourceError::Unprepared(match whom {
            AskedServer::Primary => "no primary serves that could be asked".to_owned(),
            AskedServer::Any => "no server answers that could be asked".to_owned(),
        });
        for server in to_ask(&snapshot, whom, self.link.as_ref().map(|link| link.server)) {
            match self.ask_one(health, server, query).await {
                Ok(rows) => {
                    let answering = AnsweringServer {
                        id: server.id,
                        name: server.name.to_string(),
                        host: server.host.to_string(),
                        port: server.port,
                    };
                    return Ok((rows, answering));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn ask_one(
        &mut self,
        health: &Health,
        server: &ServerStatus,
        query: &str,
    ) -> Result<Vec<Row>, SourceError> {
        let login = health.login();
        let endpoint = server.endpoint();
        let kept = self.link.take().filter(|link| {
            link.server == server.id
                && link.endpoint == endpoint
                && Arc::ptr_eq(&link.login, &login)
                && !link.client.is_closed()
        });
        let link = match kept {
            Some(link) => link,
            None => {
                let client = in_time(CONNECT_TIMEOUT, &server.name, connect(&login, &endpoint)).await?;
                SqlLink { server: server.id, endpoint, login, client }
            }
        };
        let answer = async { link.client.query(query, &[]).await.map_err(SqlFailure::Query) };
        let rows = in_time(ANSWER_TIMEOUT, &server.name, answer).await?;
        self.link = Some(link);
        Ok(rows)
    }
}

async fn connect(login: &MonitorLogin, endpoint: &Endpoint) -> Result<Client, SqlFailure> {
    let mut config = login.config.clone();
    config.application_name(APPLICATION_NAME);
    let (client, driver) = login.connect_as(&config, endpoint).await.map_err(SqlFailure::Login)?;
    // Ends when the client is dropped or the server closes: the next question then finds the client closed.
    tokio::spawn(driver);
    client.batch_execute(SETTINGS).await.map_err(SqlFailure::Query)?;
    Ok(client)
}

/// What went wrong with one server.
enum SqlFailure {
    Login(MonitorLoginError),
    Query(tokio_postgres::Error),
}

async fn in_time<T>(
    after: Duration,
    server: &str,
    answer: impl Future<Output = Result<T, SqlFailure>>,
) -> Result<T, SourceError> {
    let place = format!("server \"{server}\"");
    match timeout(after, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(failure)) => Err(failure.into_error(place)),
        Err(_elapsed) => Err(SourceError::Slow { place, after }),
    }
}

impl SqlFailure {
    fn into_error(self, place: String) -> SourceError {
        match self {
            SqlFailure::Login(MonitorLoginError::Login(error)) | SqlFailure::Query(error) => {
                match error.as_db_error() {
                    Some(said) => SourceError::Refused {
                        place,
                        reason: format!("{} ({})", said.message(), said.code().code()),
                    },
                    None => SourceError::Unreachable { place, reason: error.to_string() },
                }
            }
            SqlFailure::Login(error @ (MonitorLoginError::Connect(_) | MonitorLoginError::Tls(_))) => {
                SourceError::Unreachable { place, reason: error.to_string() }
            }
        }
    }
}

/// A column of a row.
///
/// # Errors
/// It is of another type than the query asks for.
pub(crate) fn column<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a Row,
    at: usize,
    place: &str,
) -> Result<T, SourceError> {
    row.try_get(at)
        .map_err(|error| SourceError::Garbled { place: place.to_owned(), reason: error.to_string() })
}

/// The servers to try: the one of the connection that is kept first, then those that are fittest.
fn to_ask(snapshot: &Snapshot, whom: AskedServer, kept: Option<ServerId>) -> Vec<&ServerStatus> {
    match whom {
        AskedServer::Primary => snapshot.serving_primary().into_iter().collect(),
        AskedServer::Any => {
            let may_answer = |server: &&ServerStatus| {
                server.role != Role::Unknown
                    && !server.is_leaving
                    && !matches!(server.state, State::Down | State::Fenced)
                    && server.monitor_refused.is_none()
            };
            let mut servers: Vec<_> = snapshot.servers.iter().filter(may_answer).collect();
            servers.sort_by_key(|server| (Some(server.id) != kept, !server.state.is_fit()));
            servers.truncate(TRIED_MAX);
            servers
        }
    }
}

#[cfg(test)]
mod tests {
    use trunkline_topology::testing::snapshot;

    use super::*;

    fn names(servers: &[&ServerStatus]) -> Vec<String> {
        servers.iter().map(|server| server.name.to_string()).collect()
    }

    #[test]
    fn the_primary_is_asked_only_while_it_serves() {
        let mut snapshot = snapshot();
        let primary = snapshot.primary.and_then(|id| snapshot.server(id)).map(|server| server.name.clone());
        assert_eq!(
            names(&to_ask(&snapshot, AskedServer::Primary, None)),
            primary.iter().map(ToString::to_string).collect::<Vec<_>>()
        );
        for server in &mut snapshot.servers {
            server.state = State::Down;
        }
        assert!(to_ask(&snapshot, AskedServer::Primary, None).is_empty());
        assert!(to_ask(&snapshot, AskedServer::Any, None).is_empty());
    }

    #[test]
    fn the_server_of_the_connection_is_asked_first_while_it_answers() {
        let mut snapshot = snapshot();
        let last = snapshot.servers.len() - 1;
        let kept = Some(snapshot.servers[last].id);
        let name = snapshot.servers[last].name.to_string();
        assert_eq!(names(&to_ask(&snapshot, AskedServer::Any, kept))[0], name);
        snapshot.servers[last].state = State::Down;
        assert!(!names(&to_ask(&snapshot, AskedServer::Any, kept)).contains(&name));
    }
}
