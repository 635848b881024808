//! Secrets by a query, over one connection of the store's own.
//!
//! It is logged in as the monitoring role and carries nothing a client sent but the user name, as a bind
//! parameter: a client's `search_path` or `options` never reach it (CVE-2025-12819 of PgBouncer).

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;
use tokio_postgres::{Client, Config, Row, Statement};
use trunkline_health::guard::{PASSWORD_WITHHELD, withheld_password};
use trunkline_health::login::{MonitorLoginError, PASSWORD_MISSING, lacks_password};
use trunkline_health::{Health, MonitorLogin};
use trunkline_routing::eligible;
use trunkline_topology::{Endpoint, ServerId, ServerStatus, Snapshot};

use super::secret::{Cleartext, Stored, Unusable};
use super::{LOOKUP_TIMEOUT, LookupError, SECRET_BYTES_MAX, lacks_right_or_object};

/// Reads `pg_authid`, every name and operator by its schema; `$1` is the user name, as text: a cast to `name` would
/// be an error for one that is too long.
///
/// A role may set a verifier of any length for itself; one longer than [`SECRET_BYTES_MAX`] stays on the server.
///
/// It honours VALID UNTIL and NOLOGIN, which a query that returns only the password cannot
/// (CVE-2025-2291 of PgBouncer).
pub const DEFAULT_QUERY: &str = "\
SELECT r.rolname::pg_catalog.text, \
CASE WHEN pg_catalog.octet_length(r.rolpassword) OPERATOR(pg_catalog.<=) 2048 THEN r.rolpassword END, \
COALESCE(r.rolvaliduntil OPERATOR(pg_catalog.<) pg_catalog.now(), false), r.rolcanlogin \
FROM pg_catalog.pg_authid r WHERE r.rolname OPERATOR(pg_catalog.=) $1::pg_catalog.text";

/// Reads the same through the function that `trunkline init-sql` creates.
const FUNCTION_QUERY: &str = "\
SELECT name, CASE WHEN pg_catalog.octet_length(secret) OPERATOR(pg_catalog.<=) 2048 THEN secret END, \
is_expired, can_login FROM trunkline.user_secret($1::pg_catalog.text)";

/// Whether that function is what to ask: the role may not read the table, and the function's owner may. A function of
/// anybody else could only return secrets of its owner's making.
const FUNCTION_IS_WANTED: &str = "\
SELECT NOT pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT') AND EXISTS (\
SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace \
WHERE n.nspname OPERATOR(pg_catalog.=) 'trunkline' AND p.proname OPERATOR(pg_catalog.=) 'user_secret' \
AND p.prosecdef AND pg_catalog.oidvectortypes(p.proargtypes) OPERATOR(pg_catalog.=) 'text' \
AND pg_catalog.has_table_privilege(p.proowner, 'pg_catalog.pg_authid', 'SELECT'))";

/// What every session of the store runs with, after the operator's own options.
const OPTIONS: &str =
    "-c search_path=pg_catalog -c default_transaction_read_only=on -c statement_timeout=1000";

/// To connect and log in to one server, and to prepare the query.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// For the answers to one batch.
const QUERY_TIMEOUT: Duration = Duration::from_secs(1);

/// The query and the connection it runs on.
#[derive(Debug)]
pub(super) struct QuerySource {
    health: Health,
    /// The monitoring role's, as it was when the query was made.
    login: Arc<MonitorLogin>,
    query: SecretQuery,
    connection: Option<QueryConnection>,
}

/// What is asked, and as whom.
#[derive(Debug)]
struct SecretQuery {
    login: MonitorLogin,
    custom: Option<String>,
}

/// How a server gives stored secrets to the monitoring role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretsAccess {
    /// By SELECT on `pg_authid`.
    PgAuthid,
    /// Through the function that `trunkline init-sql` creates.
    Function,
    /// Through the operator's own query.
    OwnQuery,
}

#[derive(Debug)]
struct QueryConnection {
    server: ServerId,
    client: Client,
    statement: Statement,
    access: SecretsAccess,
}

impl QuerySource {
    pub(super) fn new(health: Health, custom: Option<String>) -> Self {
        let login = health.login();
        let query = SecretQuery { login: for_secrets(&login), custom };
        QuerySource { health, login, query, connection: None }
    }

    /// Connects again where a reload has put another login in force.
    fn follow_login(&mut self) {
        let login = self.health.login();
        if !Arc::ptr_eq(&login, &self.login) {
            self.query.login = for_secrets(&login);
            self.login = login;
            self.connection = None;
        }
    }

    /// What is stored for each of `users`, in their order; from the first server that answers.
    pub(super) async fn fetch(
        &mut self,
        users: &[Box<str>],
    ) -> Result<Vec<Result<Stored, LookupError>>, LookupError> {
        // Servers that hang are not waited for one after another: every login would time out meanwhile.
        match timeout(LOOKUP_TIMEOUT, self.fetch_from_any(users)).await {
            Ok(answers) => answers,
            Err(_elapsed) => {
                self.connection = None;
                Err(LookupError::Timeout)
            }
        }
    }

    async fn fetch_from_any(
        &mut self,
        users: &[Box<str>],
    ) -> Result<Vec<Result<Stored, LookupError>>, LookupError> {
        self.follow_login();
        let servers = to_ask(&self.health.load());
        let mut reason = LookupError::NoServer;
        for (server, endpoint) in servers {
            let Some(connection) = self.connection_to(server, &endpoint, &mut reason).await? else {
                continue;
            };
            match timeout(QUERY_TIMEOUT, ask(connection, users)).await {
                Ok(Some(answers)) => {
                    // What is granted or created next is found by a new connection.
                    let may_be_granted = |answer: &Result<Stored, LookupError>| matches!(answer, Err(LookupError::Query { code, .. }) if lacks_right_or_object(code));
                    if answers.iter().any(may_be_granted) {
                        self.connection = None;
                    }
                    return Ok(answers);
                }
                Ok(None) => {
                    tracing::debug!(server.host = %endpoint.host, "connection for stored secrets was lost");
                }
                Err(_elapsed) => {
                    tracing::debug!(server.host = %endpoint.host, "stored secrets were not answered in time");
                }
            }
            self.connection = None;
        }
        Err(reason)
    }

    /// The connection to a server, made if it is not the one at hand; `None` when it cannot be had, with the `reason` when
    /// the server refuses the login.
    ///
    /// # Errors
    /// When the server is there and refuses the query: another one would say the same.
    async fn connection_to(
        &mut self,
        server: ServerId,
        endpoint: &Endpoint,
        reason: &mut LookupError,
    ) -> Result<Option<&QueryConnection>, LookupError> {
        let is_at_hand =
            self.connection.as_ref().is_some_and(|c| c.server == server && !c.client.is_closed());
        if !is_at_hand {
            match timeout(CONNECT_TIMEOUT, self.query.connect(server, endpoint)).await {
                Ok(Ok(connection)) => self.connection = Some(connection),
                Ok(Err(ConnectError::Query(error))) => return Err(error),
                Ok(Err(ConnectError::Login(error))) => {
                    tracing::debug!(server.host = %endpoint.host, %error, "could not log in for stored secrets");
                    *reason = error;
                    return Ok(None);
                }
                Ok(Err(ConnectError::Unreachable(error))) => {
                    tracing::debug!(server.host = %endpoint.host, %error, "could not connect for stored secrets");
                    return Ok(None);
                }
                Err(_elapsed) => {
                    tracing::debug!(server.host = %endpoint.host, "could not connect for stored secrets in time");
                    return Ok(None);
                }
            }
        }
        Ok(self.connection.as_ref())
    }
}

impl SecretQuery {
    async fn connect(&self, server: ServerId, endpoint: &Endpoint) -> Result<QueryConnection, ConnectError> {
        let logged_in = self.login.connect_as(&self.login.config, endpoint).await;
        let (client, driver) = logged_in.map_err(not_logged_in)?;
        // Ends with the client, or with the server: then the next fetch finds the client closed.
        tokio::spawn(driver);
        let (statement, access) = self.prepare(&client).await.map_err(|error| match refusal(&error) {
            Some(refusal) => ConnectError::Query(refusal),
            None => ConnectError::Unreachable(error.to_string()),
        })?;
        if statement.params().len() != 1 || statement.columns().len() < 2 {
            let shape = LookupError::Shape("it needs one parameter $1 and two columns");
            return Err(ConnectError::Query(shape));
        }
        Ok(QueryConnection { server, client, statement, access })
    }

    /// Prepares the query. The operator's own is asked for secrets of bounded length, if it can be a subquery.
    async fn prepare(&self, client: &Client) -> Result<(Statement, SecretsAccess), tokio_postgres::Error> {
        let Some(custom) = &self.custom else {
            let row = client.query_one(FUNCTION_IS_WANTED, &[]).await?;
            let (sql, access) = if row.try_get(0)? {
                (FUNCTION_QUERY, SecretsAccess::Function)
            } else {
                (DEFAULT_QUERY, SecretsAccess::PgAuthid)
            };
            return Ok((client.prepare(sql).await?, access));
        };
        let statement = match client.prepare(&bounded(custom)).await {
            Err(error) if error.as_db_error().is_some() => client.prepare(custom).await?,
            prepared => prepared?,
        };
        Ok((statement, SecretsAccess::OwnQuery))
    }
}

/// Looks a user's secret up on one server as the store does, and says how that is done there.
///
/// # Errors
/// What the store would report; [`LookupError::NoServer`] when the server does not answer in time.
pub async fn try_access(
    endpoint: &Endpoint,
    login: &MonitorLogin,
    own_query: Option<&str>,
    user: &str,
) -> Result<SecretsAccess, LookupError> {
    let query = SecretQuery { login: for_secrets(login), custom: own_query.map(str::to_owned) };
    let connection = match timeout(CONNECT_TIMEOUT, query.connect(ServerId(0), endpoint)).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(ConnectError::Login(error) | ConnectError::Query(error))) => return Err(error),
        Ok(Err(ConnectError::Unreachable(_))) | Err(_) => return Err(LookupError::NoServer),
    };
    match timeout(QUERY_TIMEOUT, ask(&connection, &[user.into()])).await {
        Ok(Some(answers)) => {
            answers.into_iter().collect::<Result<Vec<_>, _>>()?;
            Ok(connection.access)
        }
        Ok(None) | Err(_) => Err(LookupError::NoServer),
    }
}

/// The operator's query, with no secret for a user whose secret is too long. Behind a line break, as it may end in a
/// comment.
fn bounded(custom: &str) -> String {
    let custom = custom.trim_end().trim_end_matches(';');
    format!(
        "SELECT name, CASE WHEN pg_catalog.octet_length(secret::pg_catalog.text) OPERATOR(pg_catalog.<=) \
         {SECRET_BYTES_MAX} THEN secret END FROM (\n{custom}\n) AS found(name, secret)"
    )
}

enum ConnectError {
    /// Try another server.
    Unreachable(String),
    /// Try another server: one may have replayed a role, password or database that this one has not.
    Login(LookupError),
    /// Another server would give the same error.
    Query(LookupError),
}

/// Why a login failed. A server that starts, stops or recovers is unreachable, and not one that refuses.
fn not_logged_in(failure: MonitorLoginError) -> ConnectError {
    let MonitorLoginError::Login(error) = failure else {
        return ConnectError::Unreachable(failure.to_string());
    };
    if lacks_password(&error) {
        let (code, message) = PASSWORD_MISSING;
        return ConnectError::Login(LookupError::Login {
            code: code.to_owned(),
            message: message.to_owned(),
        });
    }
    if withheld_password(&error) {
        let (code, message) = PASSWORD_WITHHELD;
        return ConnectError::Login(LookupError::Login {
            code: code.to_owned(),
            message: message.to_owned(),
        });
    }
    match error.as_db_error() {
        Some(said) if !said.code().code().starts_with("57") => ConnectError::Login(LookupError::Login {
            code: said.code().code().to_owned(),
            message: said.message().to_owned(),
        }),
        Some(_) | None => ConnectError::Unreachable(error.to_string()),
    }
}

/// Asks for all users at once; `None` when the connection was lost.
async fn ask(connection: &QueryConnection, users: &[Box<str>]) -> Option<Vec<Result<Stored, LookupError>>> {
    let QueryConnection { client, statement, access, .. } = connection;
    let answers = join_all(users.iter().map(async |user| {
        let name: &str = user;
        client.query(statement, &[&name]).await
    }));
    let mut stored = Vec::with_capacity(users.len());
    for (user, answer) in users.iter().zip(answers.await) {
        stored.push(match answer {
            Ok(rows) => read(&rows, user, *access),
            Err(error) => Err(refusal(&error)?),
        });
    }
    Some(stored)
}

fn read(rows: &[Row], user: &str, access: SecretsAccess) -> Result<Stored, LookupError> {
    let row = match rows {
        [] => return Ok(Stored::Unusable(Unusable::Unknown)),
        [row] => row,
        [_, _, ..] => return Err(LookupError::Shape("it returned more than one row")),
    };
    let text = |column: usize| {
        row.try_get::<_, Option<&str>>(column).map_err(|_| LookupError::Shape("a column is not text"))
    };
    match text(0)? {
        Some(name) if name == user => {}
        // What a function that returns no set says of a user who does not exist.
        None => return Ok(Stored::Unusable(Unusable::Unknown)),
        Some(_) => return Err(LookupError::Shape("it returned another user than was asked for")),
    }
    let password = text(1)?.unwrap_or_default();
    match access {
        SecretsAccess::OwnQuery => Ok(Stored::parse(password, Cleartext::Accepted)),
        SecretsAccess::PgAuthid | SecretsAccess::Function => {
            let flag = |column: usize| {
                row.try_get::<_, bool>(column).map_err(|_| LookupError::Shape("a column is not boolean"))
            };
            Ok(match (flag(2)?, flag(3)?) {
                (_, false) => Stored::Unusable(Unusable::NoLogin),
                (true, true) => Stored::Unusable(Unusable::Expired),
                (false, true) => Stored::parse(password, Cleartext::Refused),
            })
        }
    }
}

/// The server's refusal, if the error is one that another server would repeat. One that ends the connection, or
/// a recovery conflict, is not.
fn refusal(error: &tokio_postgres::Error) -> Option<LookupError> {
    let Some(said) = error.as_db_error() else {
        // Neither a lost connection nor the server's word: the parameter or a column has an unexpected type.
        let is_lost =
            error.is_closed() || std::error::Error::source(error).is_some_and(|s| s.is::<std::io::Error>());
        return (!is_lost).then_some(LookupError::Shape("the parameter $1 must be text"));
    };
    let code = said.code().code();
    let is_passing = code.starts_with("57") || code.starts_with("40") || code.starts_with("53");
    let message = said.message().to_owned();
    (!is_passing).then(|| LookupError::Query { code: code.to_owned(), message })
}

/// The servers to ask, the best first.
#[must_use]
pub fn to_ask(snapshot: &Snapshot) -> Vec<(ServerId, Endpoint)> {
    let place = |server: &ServerStatus| (server.id, server.endpoint());
    eligible::to_ask(snapshot).into_iter().map(place).collect()
}

/// The login settings alone: each connect chooses its server again.
pub fn without_hosts(login: &Config) -> Config {
    let mut config = Config::new();
    if let Some(user) = login.get_user() {
        config.user(user);
    }
    if let Some(password) = login.get_password() {
        config.password(password);
    }
    if let Some(database) = login.get_dbname() {
        config.dbname(database);
    }
    config.application_name("trunkline_secrets");
    config.options(match login.get_options() {
        Some(options) => format!("{options} {OPTIONS}"),
        None => OPTIONS.to_owned(),
    });
    config
}

fn for_secrets(login: &MonitorLogin) -> MonitorLogin {
    MonitorLogin { config: without_hosts(&login.config), ..login.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_query_asks_for_more_than_the_longest_secret() {
        for query in [DEFAULT_QUERY, FUNCTION_QUERY] {
            assert!(query.contains(&format!("(pg_catalog.<=) {SECRET_BYTES_MAX} THEN")), "{query}");
        }
        let custom = bounded("SELECT name, secret FROM public.lookup($1) -- ours\n;\n");
        assert!(
            custom.ends_with(
                "FROM (\nSELECT name, secret FROM public.lookup($1) -- ours\n\n) AS found(name, secret)"
            ),
            "{custom}"
        );
    }

    #[test]
    fn the_operators_options_come_before_ours() {
        let mut login = Config::new();
        login.user("monitor").password("hunter2").options("-c search_path=evil").host("elsewhere");
        let config = without_hosts(&login);
        assert!(config.get_hosts().is_empty());
        let options = config.get_options().expect("set");
        assert!(options.starts_with("-c search_path=evil ") && options.contains("search_path=pg_catalog"));
    }
}
