//! The checked configuration: valid as a whole, in the types of the proxy.

mod auth;
mod health;
mod listeners;
mod log;
mod monitor;
mod networks;
mod servers;
mod session;
mod summary;

use std::net::SocketAddr;
use std::path::PathBuf;

use trunkline_proxy::settings::{LimitSettings, Settings};

use super::raw::{LogFormat, RawConfig};
use super::{Loaded, Problem, Problems};

/// Everything the commands need.
#[derive(Clone, Debug)]
pub struct CheckedConfig {
    /// The proxy's settings.
    pub proxy: Settings,
    /// The log.
    pub log: LogSettings,
    /// The file read, if any.
    pub file: Option<PathBuf>,
}

/// How the log is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Text or JSON.
    pub format: LogFormat,
    /// A filter that tracing-subscriber accepts.
    pub level: String,
}

/// Turns the raw configuration into checked settings.
///
/// # Errors
/// Every problem of every source, and those that only the whole shows.
pub fn settings(loaded: Loaded) -> Result<CheckedConfig, Problems> {
    let Loaded { raw, file, mut problems } = loaded;
    let servers = servers::servers(&raw, &mut problems);
    let monitor = monitor::monitor(&raw.monitor, &mut problems);
    let judge = health::judge(&raw.health, &mut problems);
    let listeners = listeners::listeners(&raw, &mut problems);
    let auth = auth::auth(&raw.auth, &mut problems);
    let http_checkers = networks::networks(&raw.http_checkers, "http.checkers", &mut problems);
    let limits = limits(&raw, &mut problems);
    let log = log::log(&raw.log, &mut problems);
    let (Some(monitor), true) = (monitor, problems.is_empty()) else {
        return Err(problems);
    };
    let proxy = Settings {
        health: health::monitor_settings(servers, monitor, judge),
        fallback: health::fallback(raw.health.fallback_mode.value),
        fallback_connections_max: raw.health.fallback_connections_max.value,
        on_lagging: health::on_lagging(raw.health.on_lagging.value),
        on_terminate: session::on_terminate(raw.session.on_terminate.value),
        user_functions: session::user_functions(raw.session.functions.value),
        listeners,
        auth,
        limits,
        timeouts: raw.timeouts,
        retry: raw.retry,
        statement_log: raw.statement_log,
        http: raw.http_listen.value,
        http_checkers,
        agent: raw.agent_listen.value,
        admin: raw.admin_socket.value.as_ref().map(PathBuf::from),
        threads: to_usize(raw.threads.value),
    };
    Ok(CheckedConfig { proxy, log, file })
}

fn limits(raw: &RawConfig, problems: &mut Problems) -> LimitSettings {
    let startup_packet = &raw.startup_packet_bytes_max;
    let settings =
        LimitSettings { startup_packet_bytes_max: to_usize(startup_packet.value), ..raw.limits.clone() };
    let most = to_usize(u64::from(trunkline_codec::limits::STARTUP_PACKET_MAX));
    // Shorter than this, no startup packet with a user and a database would pass.
    let least = 64;
    if !(least..=most).contains(&settings.startup_packet_bytes_max) {
        let source = &startup_packet.source;
        problems.push(
            Problem::new(
                source,
                "limits.startup_packet_bytes_max",
                format!("must be from {least} to {most} bytes"),
            )
            .hint("PostgreSQL itself accepts no longer startup packet."),
        );
    }
    settings
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Every address listened on, with the key that says so.
fn addresses(raw: &RawConfig) -> Vec<(SocketAddr, String, super::Source)> {
    let listeners = raw.listeners.iter().filter_map(|listener| {
        let name = listener.name.value.as_deref().unwrap_or("listener");
        listener
            .address
            .value
            .map(|address| (address, format!("listener {name:?}"), listener.address.source.clone()))
    });
    let others = [("http.listen", &raw.http_listen), ("agent.listen", &raw.agent_listen)];
    let others = others.into_iter().filter_map(|(key, listen)| {
        listen.value.map(|address| (address, key.to_owned(), listen.source.clone()))
    });
    listeners.chain(others).collect()
}
