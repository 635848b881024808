//! Connecting through the endpoint, and one session there.

use std::io;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, Config, SimpleQueryMessage};
use trunkline_health::login::{LoginDriver, lacks_password};
use trunkline_health::{MonitorLogin, MonitorLoginError};
use trunkline_tls::fleet::{FleetSettings, FleetTls};
use trunkline_topology::{Address, Endpoint};

use super::phases::Phases;
use crate::Failure;
use crate::commands::conninfo_tls;

/// Port of the reads listener.
const DEFAULT_PORT: u16 = 5434;
/// Startup option that asks Trunkline for its timing.
const TIMING_OPTION: &str = "-c trunkline.timing=on";
/// Time limit to connect and log in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Where to connect.
pub(super) struct ProfiledEndpoint {
    config: Config,
    tls: FleetTls,
    /// Its address, for the output.
    pub(super) shown: String,
    /// Whether the endpoint refuses the option: it is another proxy.
    refuses_option: bool,
}

impl ProfiledEndpoint {
    /// The endpoint of a connection string, or of the PG* environment.
    pub(super) fn new(dsn: Option<&str>) -> Result<Self, Failure> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (dsn, tls) = conninfo_tls::split(dsn.unwrap_or_default(), variable)?;
        let mut config: Config = dsn.parse().map_err(|_| {
            Failure::usage("--dsn is not a valid connection string")
                .hint("Write \"host=127.0.0.1 port=5434 user=postgres dbname=appdb\" or postgresql://...")
        })?;
        let settings = FleetSettings { all: tls, ..FleetSettings::default() };
        let tls = FleetTls::load(&settings).map_err(|error| Failure::usage(error.to_string()))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            config.host(variable("PGHOST").unwrap_or_else(|| "127.0.0.1".to_owned()));
        }
        if config.get_ports().is_empty() {
            let port = variable("PGPORT").map(|port| port.parse());
            config.port(
                port.transpose().map_err(|_| Failure::usage("PGPORT is not a port"))?.unwrap_or(DEFAULT_PORT),
            );
        }
        if config.get_user().is_none() {
            config.user(
                variable("PGUSER").or_else(|| variable("USER")).unwrap_or_else(|| "postgres".to_owned()),
            );
        }
        if config.get_password().is_none()
            && let Some(password) = variable("PGPASSWORD")
        {
            config.password(password);
        }
        if config.get_dbname().is_none()
            && let Some(dbname) = variable("PGDATABASE")
        {
            config.dbname(dbname);
        }
        config.application_name("trunkline profile");
        let shown = shown(&config);
        Ok(ProfiledEndpoint { config, tls, shown, refuses_option: false })
    }

    /// A new session, with Trunkline's timing when the endpoint has it.
    pub(super) async fn connect(&mut self) -> Result<ProfiledSession, Failure> {
        if !self.refuses_option {
            let mut config = self.config.clone();
            let options = config.get_options().map_or_else(String::new, |options| format!("{options} "));
            config.options(format!("{options}{TIMING_OPTION}"));
            match self.connect_as(&config).await {
                Ok(session) => return Ok(session),
                Err(error) if is_about_options(&error) => self.refuses_option = true,
                Err(error) => return Err(self.failure(&error)),
            }
        }
        self.connect_as(&self.config).await.map_err(|error| self.failure(&error))
    }

    /// Tries one host after the other.
    async fn connect_as(&self, config: &Config) -> Result<ProfiledSession, MonitorLoginError> {
        let login = MonitorLogin { config: config.clone(), tls: self.tls.clone(), trusts_any_server: true };
        let mut last = MonitorLoginError::Connect(io::ErrorKind::NotFound.into());
        for place in places(config) {
            match timeout(CONNECT_TIMEOUT, login.connect_as(config, &place)).await {
                Ok(Ok((client, connection))) => return Ok(ProfiledSession::of(client, connection)),
                Ok(Err(error)) => last = error,
                Err(_elapsed) => last = MonitorLoginError::Connect(io::ErrorKind::TimedOut.into()),
            }
        }
        Err(last)
    }

    fn failure(&self, failure: &MonitorLoginError) -> Failure {
        let MonitorLoginError::Login(error) = failure else {
            let hint = match failure {
                MonitorLoginError::Tls(_) => {
                    "sslmode and sslrootcert in --dsn, or PGSSLMODE and PGSSLROOTCERT, say what is wanted."
                }
                _ => "Is Trunkline running there? Name another endpoint with --dsn, or PGHOST and PGPORT.",
            };
            return Failure::new(format!("could not connect to {}: {failure}", self.shown)).hint(hint);
        };
        let code = error.code();
        let hint = if code == Some(&SqlState::INVALID_PASSWORD) || lacks_password(error) {
            "Set PGUSER and PGPASSWORD, or write both into --dsn."
        } else if code.is_some() {
            "`trunkline status` shows which servers serve."
        } else {
            "Is Trunkline running there? Name another endpoint with --dsn, or PGHOST and PGPORT."
        };
        Failure::new(format!("could not connect to {}: {}", self.shown, in_words(error))).hint(hint)
    }
}

/// The hosts, each with its port and the address that is given for it.
fn places(config: &Config) -> Vec<Endpoint> {
    let (ports, addresses) = (config.get_ports(), config.get_hostaddrs());
    let count = config.get_hosts().len().max(addresses.len());
    let place = |at: usize| {
        let port = ports.get(at).or(ports.first()).copied().unwrap_or(DEFAULT_PORT);
        let address = addresses.get(at).map(|ip| Address::Tcp((*ip, port).into()));
        let host = match (config.get_hosts().get(at), addresses.get(at)) {
            (Some(tokio_postgres::config::Host::Tcp(host)), _) => host.clone(),
            #[cfg(unix)]
            (Some(tokio_postgres::config::Host::Unix(path)), _) => path.display().to_string(),
            (None, address) => address.map(ToString::to_string).unwrap_or_default(),
        };
        Endpoint { address, ..Endpoint::new(&host, port) }
    };
    (0..count).map(place).collect()
}

/// Whether the error means that the endpoint does not know the option: poolers answer with a protocol violation or
/// an invalid parameter.
fn is_about_options(failure: &MonitorLoginError) -> bool {
    let MonitorLoginError::Login(error) = failure else { return false };
    let Some(error) = error.as_db_error() else { return false };
    let codes =
        [&SqlState::PROTOCOL_VIOLATION, &SqlState::UNDEFINED_OBJECT, &SqlState::INVALID_PARAMETER_VALUE];
    codes.contains(&error.code()) || error.message().contains("startup parameter")
}

/// The server's error message, or the client's.
fn in_words(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => {
            let detail = error.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
            format!("{} [{}]{detail}", error.message(), error.code().code())
        }
        None => crate::failure::with_causes(error),
    }
}

fn shown(config: &Config) -> String {
    let hosts = config.get_hosts().iter().map(|host| match host {
        tokio_postgres::config::Host::Tcp(host) => host.clone(),
        #[cfg(unix)]
        tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
    });
    let ports = config.get_ports();
    let with_port = |(at, host)| {
        let port = ports.get(at).or(ports.first()).copied().unwrap_or(DEFAULT_PORT);
        format!("{host}:{port}")
    };
    hosts.enumerate().map(with_port).collect::<Vec<_>>().join(", ")
}

/// One session.
pub(super) struct ProfiledSession {
    client: Client,
    notices: mpsc::UnboundedReceiver<Phases>,
    task: JoinHandle<()>,
}

/// Drives the connection and collects the timing notices.
async fn drive(mut connection: LoginDriver, tell: mpsc::UnboundedSender<Phases>) {
    let mut messages = stream::poll_fn(|context| connection.poll_message(context));
    while let Some(Ok(message)) = messages.next().await {
        if let AsyncMessage::Notice(notice) = message
            && let Some(phases) = Phases::parse(notice.message(), notice.detail())
            && tell.send(phases).is_err()
        {
            return;
        }
    }
}

impl ProfiledSession {
    fn of(client: Client, connection: LoginDriver) -> Self {
        // Each answer brings one notice, which is read before the next query: the queue never holds more than a few.
        let (tell, notices) = mpsc::unbounded_channel();
        let task = tokio::spawn(drive(connection, tell));
        Self { client, notices, task }
    }

    /// Runs the query up to its ReadyForQuery. Returns the number of rows.
    pub(super) async fn query(&mut self, sql: &str) -> Result<u64, Failure> {
        while self.notices.try_recv().is_ok() {}
        let stream = self.client.simple_query_raw(sql).await.map_err(|error| failed(&error))?;
        let mut stream = std::pin::pin!(stream);
        let mut rows = 0;
        while let Some(message) = stream.next().await {
            rows += u64::from(matches!(message.map_err(|error| failed(&error))?, SimpleQueryMessage::Row(_)));
        }
        Ok(rows)
    }

    /// The timing of the last query, if the endpoint is a Trunkline.
    pub(super) fn phases(&mut self) -> Option<Phases> {
        let mut last = None;
        while let Ok(phases) = self.notices.try_recv() {
            last = Some(phases);
        }
        last
    }

    /// The server's address as it reports it, for endpoints that do not name the server.
    pub(super) async fn server_address(&mut self) -> String {
        let sql = "SELECT host(inet_server_addr()) || ':' || inet_server_port()";
        let messages = self.client.simple_query(sql).await.unwrap_or_default();
        let first = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        first.unwrap_or_else(|| "server".to_owned())
    }

    /// The plan with the server's own times. Changes by the query are rolled back.
    pub(super) async fn explain(&mut self, sql: &str) -> Result<Vec<String>, Failure> {
        self.client.batch_execute("BEGIN").await.map_err(|error| failed(&error))?;
        let explained = self.client.simple_query(&format!("EXPLAIN (ANALYZE, BUFFERS) {sql}")).await;
        let rolled_back = self.client.batch_execute("ROLLBACK").await;
        let lines = explained.map_err(|error| failed(&error))?;
        rolled_back.map_err(|error| failed(&error))?;
        let line = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        };
        Ok(lines.iter().filter_map(line).collect())
    }

    /// Ends the session and waits until its last bytes are sent.
    pub(super) async fn close(self) {
        drop(self.client);
        let _ended = self.task.await;
    }
}

fn failed(error: &tokio_postgres::Error) -> Failure {
    let failure = Failure::new(format!("the query failed: {}", in_words(error)));
    if error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) {
        return failure.hint("A replica answered. Name the listener for writes with PGPORT or --dsn.");
    }
    failure
}
