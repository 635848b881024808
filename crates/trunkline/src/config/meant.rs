//! The configuration as meant: checked as a whole, in the proxy's own types.

mod auth;
mod health;
mod listeners;
mod log;
mod monitor;
mod servers;
mod session;
mod summary;

use std::net::SocketAddr;
use std::path::PathBuf;

use trunkline_proxy::settings::{LimitSettings, Settings};

use super::typed::{AsTyped, LogFormat};
use super::{Loaded, Problem, Problems};

/// Everything the commands need.
#[derive(Clone, Debug)]
pub struct Meant {
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

/// Turns what was typed into settings.
///
/// # Errors
/// Every problem of every source, and those that only the whole shows.
pub fn settings(loaded: Loaded) -> Result<Meant, Problems> {
    let Loaded { typed, file, mut problems } = loaded;
    let servers = servers::servers(&typed, &mut problems);
    let monitor = monitor::monitor(&typed.monitor, &mut problems);
    let judge = health::judge(&typed.health, &mut problems);
    let listeners = listeners::listeners(&typed, &mut problems);
    let auth = auth::auth(&typed.auth, &mut problems);
    let limits = limits(&typed, &mut problems);
    let log = log::log(&typed.log, &mut problems);
    let (Some(monitor), true) = (monitor, problems.is_empty()) else {
        return Err(problems);
    };
    let proxy = Settings {
        health: health::monitor_settings(servers, monitor, judge),
        fallback: health::fallback(typed.health.fallback_mode.value),
        fallback_connections_max: typed.health.fallback_connections_max.value,
        on_lagging: health::on_lagging(typed.health.on_lagging.value),
        on_terminate: session::on_terminate(typed.session.on_terminate.value),
        user_functions: session::user_functions(typed.session.functions.value),
        listeners,
        auth,
        limits,
        timeouts: typed.timeouts,
        retry: typed.retry,
        statement_log: typed.statement_log,
        http: typed.http_listen.value,
        agent: typed.agent_listen.value,
        admin: typed.admin_socket.value.as_ref().map(PathBuf::from),
        threads: to_usize(typed.threads.value),
    };
    Ok(Meant { proxy, log, file })
}

fn limits(typed: &AsTyped, problems: &mut Problems) -> LimitSettings {
    let startup_packet = &typed.startup_packet_bytes_max;
    let settings =
        LimitSettings { startup_packet_bytes_max: to_usize(startup_packet.value), ..typed.limits.clone() };
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
fn addresses(typed: &AsTyped) -> Vec<(SocketAddr, String, super::Source)> {
    let listeners = typed.listeners.iter().filter_map(|listener| {
        let name = listener.name.value.as_deref().unwrap_or("listener");
        listener
            .address
            .value
            .map(|address| (address, format!("listener {name:?}"), listener.address.source.clone()))
    });
    let others = [("http.listen", &typed.http_listen), ("agent.listen", &typed.agent_listen)];
    let others = others.into_iter().filter_map(|(key, listen)| {
        listen.value.map(|address| (address, key.to_owned(), listen.source.clone()))
    });
    listeners.chain(others).collect()
}
