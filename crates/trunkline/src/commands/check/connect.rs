//! What the servers say to the monitoring role.

use std::time::Duration;

use futures_util::future::join_all;
use trunkline_auth::secrets::{LookupError, SecretsAccess, try_access};
use trunkline_health::judge::{Facts, ProbeFailure, ProbePhase, RoleFacts};
use trunkline_health::probe::{ProbeConnection, ServerHost};
use trunkline_health::{JudgeSettings, MonitorSettings};
use trunkline_proxy::settings::{AuthMode, SecretSource, Settings};
use trunkline_topology::{Endpoint, ServerSpec};

use super::{auth, pools, report, sources};
use crate::commands::monitor_password;
use crate::commands::serve::runtime;
use crate::config::checked::CheckedConfig;
use crate::{Exit, Failure, terminal};

/// For a login, and for each answer: five times this and the two seconds of the look-up of secrets are the longest it takes.
const PATIENCE: Duration = Duration::from_secs(3);

/// What one server says.
#[derive(Debug)]
pub(super) struct ServerAnswer {
    pub(super) spec: ServerSpec,
    pub(super) asked: Result<ServerFacts, (ProbePhase, ProbeFailure)>,
}

/// What a server says to a role that it lets in.
#[derive(Debug)]
pub(super) struct ServerFacts {
    pub(super) facts: Facts,
    pub(super) sees_all: bool,
    /// How stored secrets can be read, where the proxy reads them from the servers.
    pub(super) secrets: Option<Result<SecretsAccess, LookupError>>,
    /// Whether `auto` does without them by that answer.
    pub(super) does_without_secrets: bool,
    /// How many connections it has, where there are pools.
    pub(super) room: Option<Result<pools::ConnectionRoom, String>>,
}

/// Asks all servers and prints what they say.
pub(super) fn run(mut checked: CheckedConfig) -> Result<Exit, Failure> {
    let runtime = runtime()?;
    let _complaints = tracing::subscriber::set_default(
        tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::WARN).finish(),
    );
    runtime.block_on(monitor_password::fill(&mut checked));
    let found = runtime.block_on(sources::ask(&checked.proxy));
    checked.proxy.health.servers = found.servers;
    let settings = &checked.proxy;
    let answers = runtime.block_on(ask_all(settings));
    // A look-up of a name may still hang.
    runtime.shutdown_background();
    let role = settings.health.login.config.get_user().unwrap_or_default();
    let (table, mut faults) = report::report(&answers, role);
    if !settings.discovery.sources.is_empty() {
        terminal::print(&format!("\n{}", found.table));
    }
    faults.extend(found.faults);
    terminal::print(&format!("\n{table}\n{}", auth::becomes(&answers, settings)));
    for answer in &answers {
        let room = answer.asked.as_ref().ok().and_then(|said| said.room.as_ref());
        if let Some(warning) = room.and_then(|room| pools::told(&answer.spec, room, settings)) {
            terminal::print(&format!("\nwarning: {warning}\n"));
        }
    }
    for fault in &faults {
        terminal::print(&format!("\n{fault}\n"));
    }
    Ok(if faults.is_empty() { Exit::Success } else { Exit::Failed })
}

async fn ask_all(settings: &Settings) -> Vec<ServerAnswer> {
    let first = join_all(settings.health.servers.iter().map(|server| ask(server, settings))).await;
    // The primary's position is older than the standbys' of the second round: what they lack of it, they do lack.
    join_all(first.into_iter().map(again)).await
}

type FirstAnswer = (ServerAnswer, Option<ProbeConnection>);

async fn ask(server: &ServerSpec, settings: &Settings) -> FirstAnswer {
    let spec = server.clone();
    let MonitorSettings { login, judge, .. } = &settings.health;
    let judge = JudgeSettings { connect_timeout: PATIENCE, probe_timeout: PATIENCE, ..judge.clone() };
    let host = ServerHost::new(server.host.clone(), server.port);
    let mut connection = match ProbeConnection::open(&host, login, &judge, &server.probe).await {
        Ok(connection) => connection,
        Err(attempt) => {
            return (ServerAnswer { spec, asked: Err((attempt.phase, attempt.failure)) }, None);
        }
    };
    let facts = match connection.ask(PATIENCE).await {
        Ok(facts) => facts,
        Err(failure) => return (ServerAnswer { spec, asked: Err((ProbePhase::Query, failure)) }, None),
    };
    let secrets = match (settings.auth.mode, &settings.auth.source) {
        (AuthMode::Verify | AuthMode::Auto, SecretSource::Query(own)) => {
            let user = login.config.get_user().unwrap_or_default();
            Some(try_access(&Endpoint::new(&server.host, server.port), login, own.as_deref(), user).await)
        }
        (AuthMode::Verify | AuthMode::Auto, SecretSource::File(_))
        | (AuthMode::Relay | AuthMode::Login, _) => None,
    };
    let sees_all = !connection.is_degraded();
    let does_without_secrets = settings.auth.mode == AuthMode::Auto
        && matches!(&secrets, Some(Err(error)) if settings.auth.source.is_out_of_reach(error));
    let room = match settings.is_pooling() {
        true => Some(pools::ask(server, login, PATIENCE).await),
        false => None,
    };
    let facts = ServerFacts { facts, sees_all, secrets, does_without_secrets, room };
    (ServerAnswer { spec, asked: Ok(facts) }, Some(connection))
}

/// Asks a standby again; keeps what it said first if it does not answer now.
async fn again((mut answer, connection): FirstAnswer) -> ServerAnswer {
    if let (Ok(said), Some(mut connection)) = (&mut answer.asked, connection)
        && let RoleFacts::Standby(_) = said.facts.role
        && let Ok(facts) = connection.ask(PATIENCE).await
    {
        said.facts = facts;
    }
    answer
}
