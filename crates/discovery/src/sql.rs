//! Asking a server of the cluster by SQL, with the login of the monitoring role.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::time::timeout;
use tokio_postgres::{Client, Row};
use tokio_util::task::AbortOnDropHandle;
use trunkline_health::{Health, MonitorLogin, MonitorLoginError};
use trunkline_topology::{Endpoint, Role, ServerId, ServerStatus, Snapshot};

use crate::limits::MEMBERS_MAX;
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
    /// This one.
    Only(ServerId),
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
    connection: SqlConnection,
}

/// A connection and what drives it.
struct SqlConnection {
    client: Client,
    /// Aborted with the client: a server that is silent would keep the socket and its task for good.
    _driver: AbortOnDropHandle<Result<(), tokio_postgres::Error>>,
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
            AskedServer::Any | AskedServer::Only(_) => "no server answers that could be asked".to_owned(),
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
                && !link.connection.client.is_closed()
        });
        let link = match kept {
            Some(link) => link,
            None => {
                let connection = in_time(CONNECT_TIMEOUT, &server.name, connect(&login, &endpoint)).await?;
                SqlLink { server: server.id, endpoint, login, connection }
            }
        };
        let rows = in_time(ANSWER_TIMEOUT, &server.name, rows(&link.connection.client, query)).await?;
        // Behind too many rows there may be any number more: that connection is of no further use.
        if rows.len() <= MEMBERS_MAX {
            self.link = Some(link);
        }
        Ok(rows)
    }
}

/// The rows of an answer, one more than may be at most: whatever the query says, a server may send more.
async fn rows(client: &Client, query: &str) -> Result<Vec<Row>, SqlFailure> {
    let stream = client.query_raw(query, std::iter::empty::<&str>()).await.map_err(SqlFailure::Query)?;
    pin!(stream).take(MEMBERS_MAX + 1).try_collect().await.map_err(SqlFailure::Query)
}

async fn connect(login: &MonitorLogin, endpoint: &Endpoint) -> Result<SqlConnection, SqlFailure> {
    let mut config = login.config.clone();
    config.application_name(APPLICATION_NAME);
    let (client, driver) = login.connect_as(&config, endpoint).await.map_err(SqlFailure::Login)?;
    // Ends when the server closes: the next question then finds the client closed.
    let connection = SqlConnection { client, _driver: AbortOnDropHandle::new(tokio::spawn(driver)) };
    connection.client.batch_execute(SETTINGS).await.map_err(SqlFailure::Query)?;
    Ok(connection)
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
    let may_answer = |server: &&ServerStatus| may_be_asked(server);
    match whom {
        AskedServer::Primary => snapshot.serving_primary().into_iter().collect(),
        AskedServer::Only(id) => snapshot.server(id).filter(may_answer).into_iter().collect(),
        AskedServer::Any => {
            let mut servers: Vec<_> = snapshot.servers.iter().filter(may_answer).collect();
            servers.sort_by_key(|server| (Some(server.id) != kept, !server.state.is_fit()));
            servers.truncate(TRIED_MAX);
            servers
        }
    }
}

/// The standbys of the cluster that answer.
pub(crate) fn standbys_to_ask(snapshot: &Snapshot) -> impl Iterator<Item = &ServerStatus> {
    snapshot.servers.iter().filter(|server| server.role == Role::Standby && may_be_asked(server))
}

fn may_be_asked(server: &ServerStatus) -> bool {
    server.role != Role::Unknown
        && !server.is_leaving
        && server.state.may_be_asked()
        && is_known(server)
        && server.monitor_refused.is_none()
}

/// Whether it is known to be of this cluster, or an operator says that it is. One in maintenance is not judged: a source
/// could name any server, and be told by it which servers there are.
fn is_known(server: &ServerStatus) -> bool {
    server.origin.is_operator() || server.system_identifier.is_some()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use trunkline_topology::testing::snapshot;
    use trunkline_topology::{Origin, State};

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
    fn standbys_are_asked_while_they_answer_and_belong_here() {
        let mut snapshot = snapshot();
        let standbys = |snapshot: &Snapshot| names(&standbys_to_ask(snapshot).collect::<Vec<_>>());
        let all = standbys(&snapshot);
        let [first, ..] = &all[..] else { panic!("there are standbys") };
        let id = snapshot.servers.iter().find(|server| *server.name == **first).unwrap().id;
        assert_eq!(names(&to_ask(&snapshot, AskedServer::Only(id), None)), std::slice::from_ref(first));
        let primary = snapshot.primary.and_then(|id| snapshot.server(id)).unwrap();
        assert!(!all.contains(&primary.name.to_string()));
        snapshot.servers.iter_mut().find(|server| server.id == id).unwrap().state = State::Down;
        assert!(to_ask(&snapshot, AskedServer::Only(id), None).is_empty());
        assert_eq!(standbys(&snapshot), all[1..]);
    }

    #[test]
    fn none_is_asked_that_is_not_judged_or_not_known_to_be_of_the_cluster() {
        let mut snapshot = snapshot();
        snapshot.servers[0].state = State::Unknown;
        snapshot.servers[1].state = State::Maint;
        snapshot.servers[1].system_identifier = None;
        snapshot.servers[1].origin = Origin::Discovered("p".into());
        assert_eq!(names(&to_ask(&snapshot, AskedServer::Any, None)), ["replica2"]);
        snapshot.servers[1].origin = Origin::Added;
        assert_eq!(names(&to_ask(&snapshot, AskedServer::Any, None)), ["replica2", "replica1"]);
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

    /// AuthenticationOk and ReadyForQuery.
    const LET_IN: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";

    /// CommandComplete and ReadyForQuery.
    const IS_SET: &[u8] = b"C\0\0\0\x08SET\0Z\0\0\0\x05I";

    /// ParseComplete, ParameterDescription, RowDescription of one text, and ReadyForQuery.
    const PREPARED: &[u8] = b"1\0\0\0\x04t\0\0\0\x06\0\0T\0\0\0\x1a\0\x01a\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0Z\0\0\0\x05I";

    /// BindComplete.
    const BOUND: &[u8] = b"2\0\0\0\x04";

    /// DataRow.
    const ROW: &[u8] = b"D\0\0\0\x0b\0\x01\0\0\0\x01x";

    /// A login, and where a server will be.
    async fn server() -> (TcpListener, MonitorLogin, Endpoint) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut login = MonitorLogin::default();
        login.config.user("monitor");
        (listener, login, Endpoint::new("127.0.0.1", port))
    }

    /// Gives each of the answers to a question.
    async fn answer(stream: &mut TcpStream, answers: &[&[u8]]) {
        for answer in answers {
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            stream.write_all(answer).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_server_that_falls_silent_keeps_neither_socket_nor_task() {
        let (listener, login, endpoint) = server().await;
        let silent = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            answer(&mut stream, &[LET_IN]).await;
            let mut rest = Vec::new();
            let _cut =
                timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await.expect("its end");
        };
        let asked = in_time(Duration::from_millis(200), "a", connect(&login, &endpoint));
        let (asked, ()) = tokio::join!(asked, silent);
        assert!(matches!(asked.err(), Some(SourceError::Slow { .. })));
    }

    #[tokio::test]
    async fn no_more_rows_are_taken_than_there_may_be() {
        let (listener, login, endpoint) = server().await;
        let endless = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            answer(&mut stream, &[LET_IN, IS_SET, PREPARED, BOUND]).await;
            while stream.write_all(&ROW.repeat(1000)).await.is_ok() {}
        });
        let connection = connect(&login, &endpoint).await.ok().expect("a connection");
        let asked = timeout(Duration::from_secs(10), rows(&connection.client, "SELECT"));
        assert_eq!(asked.await.expect("an end").ok().map(|rows| rows.len()), Some(MEMBERS_MAX + 1));
        drop(connection);
        timeout(Duration::from_secs(10), endless).await.expect("the connection's end").unwrap();
    }
}
