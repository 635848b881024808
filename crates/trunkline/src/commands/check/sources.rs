//! What the sources of `[discovery]` say.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::timeout;
use trunkline_control::contract::is_path;
use trunkline_discovery::{Discovery, Found, SourceStatus, Surroundings, merge};
use trunkline_health::Monitor;
use trunkline_proxy::settings::Settings;
use trunkline_topology::ServerSpec;

use crate::commands::status::columns;

/// How long all sources have. One that asks the servers has to find the primary first.
const PATIENCE: Duration = Duration::from_secs(10);

const HEAD: [&str; 5] = ["SOURCE", "NAMES", "ADDRESS", "ROLE", "WEIGHT"];

/// What the sources say, and the servers that follow from it.
#[derive(Debug, Default)]
pub(super) struct SourceAnswers {
    /// A table of their members; empty if there is no source.
    pub(super) table: String,
    /// Sources that give no answer, and why.
    pub(super) faults: Vec<String>,
    /// Those of the configuration and those of the sources.
    pub(super) servers: Vec<ServerSpec>,
}

/// Asks each source until it has answered once.
pub(super) async fn ask(settings: &Settings) -> SourceAnswers {
    let configured = settings.health.servers.clone();
    let sources = &settings.discovery.sources;
    if sources.is_empty() {
        return SourceAnswers { servers: configured, ..SourceAnswers::default() };
    }
    let asks_servers = sources.iter().any(|source| source.kind.asks_servers());
    let health = asks_servers.then(|| Monitor::start(settings.health.clone(), &Handle::current()));
    let around = Surroundings { health };
    // What was kept on disk is no answer here.
    let discovery = Discovery::start(sources.clone(), None, around, &Handle::current());
    let mut found = discovery.found();
    let all_said = found.wait_for(|found| {
        let mut each = found.sources.iter().zip(sources);
        found.sources.len() == sources.len()
            && each.all(|(status, source)| {
                status.answer.is_some() || (status.is_failing() && !source.kind.asks_servers())
            })
    });
    // Whoever has not answered by then is reported below.
    let _is_late = timeout(PATIENCE, all_said).await.is_err();
    let found = found.borrow().clone();
    answers(&configured, &found)
}

fn answers(configured: &[ServerSpec], found: &Found) -> SourceAnswers {
    let mut faults: Vec<String> = found.sources.iter().filter_map(fault).collect();
    let servers = merge(configured, &[], found, &is_path).unwrap_or_else(|fault| {
        faults.push(format!("the servers of the sources are not used: {fault}"));
        configured.to_vec()
    });
    let mut rows: Vec<[String; 5]> = Vec::new();
    for source in &found.sources {
        rows.extend(source.members().iter().map(|member| {
            [
                source.name.to_string(),
                member.name.clone(),
                format!("{}:{}", member.host, member.port),
                member.role.as_str().to_owned(),
                member.weight.unwrap_or(source.weight).to_string(),
            ]
        }));
    }
    let table = columns(HEAD, &rows, &[4], rows.iter().map(|_| None));
    SourceAnswers { table, faults, servers }
}

fn fault(source: &SourceStatus) -> Option<String> {
    if source.answer.is_some() {
        return None;
    }
    let why = source.last_error.as_ref().map_or("it did not answer in time", |error| &error.text);
    Some(format!(
        "source {} ({}): {why}\n  HINT: the proxy starts without it, with the servers of the configuration and of [discovery] state_dir.",
        source.name, source.kind
    ))
}
