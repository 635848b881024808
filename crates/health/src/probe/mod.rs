//! The question a server is asked, and its answer as facts.
//!
//! [`ProbeConnection::open`] logs in and asks once what does not change, [`ProbeConnection::ask`] asks what does, in one
//! round trip, [`check_login`] only logs in. Each is bounded in time, and none leaves a connection behind
//! that may still carry a late answer.

mod answer;
mod aurora;
mod connect;
mod failure;
mod host;
mod platform;
mod question;
mod sql;

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::{Client, SimpleQueryRow};

use self::answer::Identity;
use self::connect::Link;
use self::platform::Platform;
use self::question::Question;
use crate::judge::{AskedFact, Facts, JudgeSettings, ProbeFailure, ProbePhase, RefusedFact};
use crate::login::MonitorLogin;
use trunkline_topology::{Address, Dialect, InsertedAsked, Postmaster, ProbeSpec};

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
    /// How it is asked.
    spec: ProbeSpec,
    /// What does not change, as it was told last.
    identity: Identity,
    platform: Platform,
    identify: Question,
    tick: Question,
    /// What the connection could not be set to.
    unset: Vec<RefusedFact>,
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
    let mut question = Question::new(sql::IDENTIFY, sql::whose());
    let patience = settings.connect_timeout;
    let asked = question.ask(&client, patience).await;
    // Says Terminate rather than resetting.
    drop(client);
    let _ = timeout(settings.probe_timeout, &mut driver.0).await;
    let identity = asked.and_then(|rows| identity_of(&rows));
    let told = identity.and_then(|Identity { system_identifier, started_us, .. }| {
        let started_us = started_us.ok_or_else(|| refusal_of(&question, AskedFact::StartTime))?;
        Ok(Postmaster { system_identifier, started_us })
    });
    match told {
        Ok(postmaster) => Ok((address, postmaster)),
        Err(failure) => Err(FailedAttempt { address: Some(address), phase: ProbePhase::Query, failure }),
    }
}

fn identity_of(rows: &[SimpleQueryRow]) -> Result<Identity, ProbeFailure> {
    let row = rows.first().ok_or_else(|| ProbeFailure::Malformed("no row".to_owned()))?;
    answer::identity(row)
}

/// What the server said when it was asked for `fact`.
fn refusal_of(question: &Question, fact: AskedFact) -> ProbeFailure {
    match question.refused().iter().find(|refused| refused.fact == fact) {
        Some(RefusedFact { fact, code }) => {
            ProbeFailure::Refusal { code: *code, message: format!("{} is refused", fact.function()) }
        }
        None => answer::malformed("started_us"),
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
    /// Logs in and asks what does not change while the connection lasts. Where `spec` does not say how the server is asked,
    /// `settings` do.
    ///
    /// # Errors
    /// Whatever kept the login from succeeding within `connect_timeout`.
    pub async fn open(
        server: &ServerHost,
        login: &MonitorLogin,
        settings: &JudgeSettings,
        spec: &ProbeSpec,
    ) -> Result<Self, FailedAttempt> {
        let spec = spec.or(&settings.probe);
        let Link { client, connection, address } = connect::open(server, login, settings).await?;
        let mut session = ProbeConnection {
            client,
            driver: tokio::spawn(connection),
            address,
            identity: Identity::default(),
            platform: Platform::new(spec.dialect()),
            identify: Question::new(sql::IDENTIFY, sql::identify(spec.dialect())),
            tick: Question::new(sql::TICK, Vec::new()),
            unset: Vec::new(),
            spec,
        };
        let statements = connect::own_settings(&login.config, settings.probe_timeout);
        match session.begin(&statements, settings.connect_timeout).await {
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
        !self.identity.can_see_all && !self.identify.refuses(AskedFact::StatsRights)
    }

    /// Whether it is asked as `spec` says, or where that does not say, as `settings` do.
    #[must_use]
    pub fn is_asked_as(&self, spec: &ProbeSpec, settings: &JudgeSettings) -> bool {
        self.spec == spec.or(&settings.probe)
    }

    /// Asks for the facts, in one round trip; in more after the server has refused to tell something.
    ///
    /// # Errors
    /// The refusal, the loss of the connection, or a timeout. After any of them the session must be dropped,
    /// because an answer may still be under way.
    pub async fn ask(&mut self, patience: Duration) -> Result<Facts, ProbeFailure> {
        if self.identify.is_due_again() || self.platform.is_due_again() {
            self.identify(patience).await?;
        }
        let rows = self.tick.ask(&self.client, patience).await?;
        let first = rows.first().ok_or_else(|| ProbeFailure::Malformed("no row".to_owned()))?;
        let (role, membership) = match self.platform.dialect() {
            Dialect::Aurora => aurora::facts(&rows)?,
            Dialect::Auto | Dialect::Postgres | Dialect::RdsCluster | Dialect::Custom => {
                (answer::role(first)?, self.platform.membership())
            }
        };
        let nonsense: Vec<_> = answer::lag_nonsense(first).into_iter().collect();
        let questions =
            [self.identify.refused(), self.platform.refused(), self.tick.refused(), &self.unset, &nonsense];
        Ok(Facts {
            role,
            clock_us: answer::clock_us(first)?,
            system_identifier: self.identity.system_identifier,
            started_us: self.identity.started_us,
            version: Some(self.identity.version),
            membership,
            refused: questions.concat(),
        })
    }

    /// Resolves when the server, or the network, ends the connection.
    pub async fn lost(&mut self) -> ProbeFailure {
        match (&mut self.driver).await {
            Ok(Ok(())) => ProbeFailure::Lost("closed".to_owned()),
            Ok(Err(error)) => failure::classify(&error),
            Err(_) => ProbeFailure::Lost("its task ended".to_owned()),
        }
    }

    /// Sets what the connection needs, and asks what does not change, in one round trip.
    async fn begin(&mut self, statements: &[String], patience: Duration) -> Result<(), ProbeFailure> {
        let settings = connect::set(&self.client, statements, patience);
        let asked = self.identify.ask(&self.client, patience);
        let (unset, rows) = tokio::join!(settings, asked);
        self.unset = unset?;
        self.take_identity(&rows?, patience).await
    }

    async fn identify(&mut self, patience: Duration) -> Result<(), ProbeFailure> {
        let rows = self.identify.ask(&self.client, patience).await?;
        self.take_identity(&rows, patience).await
    }

    async fn take_identity(
        &mut self,
        rows: &[SimpleQueryRow],
        patience: Duration,
    ) -> Result<(), ProbeFailure> {
        self.identity = identity_of(rows)?;
        let before = self.platform.dialect();
        self.platform.look(&self.client, &self.identity, patience).await?;
        let is_first = self.tick.is_empty();
        if is_first || self.platform.dialect() != before {
            let (version, lag_query) = (self.identity.version, self.spec.lag_query.as_deref());
            let mut pieces = sql::tick(self.platform.dialect(), version, lag_query);
            if self.spec.inserted == InsertedAsked::Yes {
                pieces.extend(sql::inserted(self.platform.dialect()));
            }
            self.tick = Question::new(sql::TICK, pieces);
        }
        Ok(())
    }
}

impl Drop for ProbeConnection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
