//! The question a server is asked, and its answer as facts.
//!
//! [`ProbeConnection::open`] logs in and asks once what does not change, [`ProbeConnection::ask`] asks what does, in one
//! round trip, [`check_login`] only logs in. Each is bounded in time, and none leaves a connection behind
//! that may still carry a late answer.

mod answer;
mod connect;
mod failure;
mod host;
mod sql;

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use self::answer::Identity;
use self::connect::Link;
use crate::judge::{Facts, JudgeSettings, ProbeFailure, ProbePhase};
use crate::login::MonitorLogin;
use trunkline_topology::Address;
use trunkline_topology::Postmaster;

pub use self::host::{ServerHost, ServerHosts};

/// How a failed attempt ended, and the address it got to.
#[derive(Clone, Debug)]
pub struct FailedAttempt {
    /// The address tried last, once the name was resolved.
    pub address: Option<Address>,
    /// What was under way.
    pub phase: ProbePhase,
    /// Why it failed.
    pub failure: ProbeFailure,
}

/// A persistent connection for probes. Its read half is always polled; dropping it closes the socket at once.
#[derive(Debug)]
pub struct ProbeConnection {
    client: Client,
    driver: JoinHandle<Result<(), tokio_postgres::Error>>,
    address: Address,
    version: u32,
    postmaster: Option<Postmaster>,
    is_degraded: bool,
}

/// Logs in and leaves again: can new sessions be made there?
///
/// # Errors
/// Whatever kept the login from succeeding within `connect_timeout`.
pub async fn check_login(
    server: &ServerHost,
    login: &MonitorLogin,
    settings: &JudgeSettings,
) -> Result<Address, FailedAttempt> {
    let link = connect::open(server, login, settings).await?;
    let address = link.address;
    // Says Terminate rather than resetting: the server's log stays quiet.
    let Link { client, connection, .. } = link;
    drop(client);
    let _ = timeout(settings.probe_timeout, connection).await;
    Ok(address)
}

/// Logs in, asks which postmaster accepted the login, and leaves again.
///
/// # Errors
/// Whatever kept the login from succeeding, or the answer from coming, within `connect_timeout` each.
pub async fn postmaster(
    server: &ServerHost,
    login: &MonitorLogin,
    settings: &JudgeSettings,
) -> Result<(Address, Postmaster), FailedAttempt> {
    let Link { client, connection, address } = connect::open(server, login, settings).await?;
    let mut driver = DriverTask(tokio::spawn(connection));
    let patience = settings.connect_timeout;
    let row = timeout(patience, first_row(&client, sql::IDENTIFY))
        .await
        .unwrap_or(Err(ProbeFailure::TimedOut { phase: ProbePhase::Query, after: patience }));
    // Says Terminate rather than resetting.
    drop(client);
    let _ = timeout(settings.probe_timeout, &mut driver.0).await;
    let identity = row.and_then(|row| answer::identity(&row));
    match identity {
        Ok(Identity { system_identifier, started_us, .. }) => {
            Ok((address, Postmaster { system_identifier, started_us }))
        }
        Err(failure) => Err(FailedAttempt { address: Some(address), phase: ProbePhase::Query, failure }),
    }
}

/// The task of a connection; dropping this aborts it.
struct DriverTask(JoinHandle<Result<(), tokio_postgres::Error>>);

impl Drop for DriverTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ProbeConnection {
    /// Logs in and asks what does not change while the connection lasts.
    ///
    /// # Errors
    /// Whatever kept the login from succeeding within `connect_timeout`.
    pub async fn open(
        server: &ServerHost,
        login: &MonitorLogin,
        settings: &JudgeSettings,
    ) -> Result<Self, FailedAttempt> {
        let Link { client, connection, address } = connect::open(server, login, settings).await?;
        let mut session = ProbeConnection {
            client,
            driver: tokio::spawn(connection),
            address,
            version: 0,
            postmaster: None,
            is_degraded: false,
        };
        match session.identify(settings.connect_timeout).await {
            Ok(()) => Ok(session),
            Err(failure) => {
                Err(FailedAttempt { address: Some(session.address()), phase: ProbePhase::Query, failure })
            }
        }
    }

    /// The server's address.
    #[must_use]
    pub fn address(&self) -> Address {
        self.address.clone()
    }

    /// Whether the monitoring role lacks `pg_monitor`, without which timelines of standbys stay hidden.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.is_degraded
    }

    /// Asks for the facts, in one round trip.
    ///
    /// # Errors
    /// The refusal, the loss of the connection, or a timeout. After any of them the session must be dropped,
    /// because an answer may still be under way.
    pub async fn ask(&self, patience: Duration) -> Result<Facts, ProbeFailure> {
        let asked = async {
            match self.ask_once().await {
                // Promoted between two functions of the query: the next answer is consistent.
                Err(failure) if failure::is_role_flip(&failure) => self.ask_once().await,
                other => other,
            }
        };
        timeout(patience, asked)
            .await
            .unwrap_or(Err(ProbeFailure::TimedOut { phase: ProbePhase::Query, after: patience }))
    }

    /// Resolves when the server, or the network, ends the connection.
    pub async fn lost(&mut self) -> ProbeFailure {
        match (&mut self.driver).await {
            Ok(Ok(())) => ProbeFailure::Lost("closed".to_owned()),
            Ok(Err(error)) => failure::classify(&error),
            Err(_) => ProbeFailure::Lost("its task ended".to_owned()),
        }
    }

    async fn identify(&mut self, patience: Duration) -> Result<(), ProbeFailure> {
        let row = timeout(patience, self.row(sql::IDENTIFY))
            .await
            .unwrap_or(Err(ProbeFailure::TimedOut { phase: ProbePhase::Query, after: patience }))?;
        let identity = answer::identity(&row)?;
        self.version = identity.version;
        let Identity { system_identifier, started_us, .. } = identity;
        self.postmaster = Some(Postmaster { system_identifier, started_us });
        self.is_degraded = !identity.can_see_all;
        Ok(())
    }

    async fn ask_once(&self) -> Result<Facts, ProbeFailure> {
        let row = self.row(sql::probe(self.version)).await?;
        Ok(Facts {
            role: answer::role(&row)?,
            clock_us: answer::clock_us(&row)?,
            system_identifier: self.postmaster.and_then(|postmaster| postmaster.system_identifier),
            started_us: self.postmaster.map(|postmaster| postmaster.started_us),
            version: Some(self.version),
        })
    }

    async fn row(&self, sql: &str) -> Result<SimpleQueryRow, ProbeFailure> {
        first_row(&self.client, sql).await
    }
}

async fn first_row(client: &Client, sql: &str) -> Result<SimpleQueryRow, ProbeFailure> {
    let messages = client.simple_query(sql).await.map_err(|error| failure::classify(&error))?;
    messages
        .into_iter()
        .find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        })
        .ok_or_else(|| ProbeFailure::Malformed("no row".to_owned()))
}

impl Drop for ProbeConnection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
