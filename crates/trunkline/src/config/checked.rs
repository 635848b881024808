//! The checked configuration: valid as a whole, in the types of the proxy.

mod auth;
mod discovery;
mod hba;
mod health;
mod listeners;
mod log;
mod monitor;
mod own_address;
mod pool;
mod route;
mod servers;
mod summary;
mod tls;
mod warnings;
mod zones;

use std::path::PathBuf;

use trunkline_health::{MonitorLogin, MonitorSettings};
use trunkline_proxy::settings::{AdminPlace, AuthSettings, SessionPolicy, Settings, SpreadSettings};
use trunkline_topology::Address;

use super::admin_places::OFF;
use super::raw::RawConfig;
use super::words::LogFormat;
use super::{Loaded, Problems};

pub use discovery::PodApi;

/// Everything the commands need.
#[derive(Clone, Debug)]
pub struct CheckedConfig {
    /// The proxy's settings.
    pub proxy: Settings,
    /// The log.
    pub log: LogSettings,
    /// Program and arguments that print the password of the monitoring role.
    pub password_command: Option<Vec<String>>,
    /// The file read, if any.
    pub file: Option<PathBuf>,
    /// What is valid and hardly meant.
    pub warnings: Problems,
}

/// How the log is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    let Loaded { raw, file, mut problems, mut warnings, admin_places, pod_api } = loaded;
    let servers = servers::servers(&raw, &mut problems);
    let discovery = discovery::discovery(&raw.discovery, &pod_api, &mut problems);
    let monitor = monitor::monitor(&raw.monitor, &mut problems);
    let mut judge = health::judge(&raw, &mut problems);
    let listeners = listeners::listeners(&raw, &mut problems);
    judge.probe.inserted = route::check(&raw, &mut problems);
    own_address::check(&raw, &mut problems);
    warnings::warnings(&raw, monitor.as_ref(), &servers, &mut warnings);
    route::warn_of_hints(&raw, &mut warnings);
    tls::of_clients(&raw, &listeners, &mut problems);
    let tls = tls::of_servers(&raw, &servers, &mut problems);
    warnings::relay_between_tls(&raw.proxy.auth, &listeners, (&servers, &tls), &mut warnings);
    warnings::files_without_root(&listeners, &tls, &mut warnings);
    hba::check(&raw.proxy.auth, &listeners, &mut problems, &mut warnings);
    let source = auth::source(&raw.auth, &raw.proxy.auth, &mut problems);
    let pool = pool::pool(&raw, &mut problems, &mut warnings);
    let zone = zones::own(&raw, &mut problems);
    zones::warn(zone.as_deref(), &servers, &mut warnings);
    let level = log::level(&raw.log_level, &mut problems);
    let (Some(config), true) = (monitor, problems.is_empty()) else {
        return Err(problems);
    };
    let proxy = Settings {
        health: MonitorSettings {
            servers,
            login: MonitorLogin { config, tls, trusts_any_server: false },
            judge,
        },
        discovery,
        listeners,
        auth: AuthSettings { source, ..raw.proxy.auth },
        pool,
        session: SessionPolicy { route_hints: route::hints(&raw.pool.overrides), ..raw.proxy.session },
        spread: SpreadSettings { zone, ..raw.proxy.spread },
        http: raw.http_listen.value,
        agent: raw.agent_listen.value,
        admin: admin_place(raw.admin_socket.value, admin_places),
        ..raw.proxy
    };
    let password_command = raw.monitor.password_command.value;
    Ok(CheckedConfig { proxy, log: LogSettings { level, ..raw.log }, password_command, file, warnings })
}

/// Where the admin socket is, by what is written.
fn admin_place(written: Option<String>, usual: Vec<PathBuf>) -> AdminPlace {
    match written {
        None => AdminPlace::FirstOf(usual),
        Some(word) if word.eq_ignore_ascii_case(OFF) => AdminPlace::Off,
        Some(path) => AdminPlace::At(PathBuf::from(path)),
    }
}

/// An address listened on, with the key that says so.
type Listens = (Address, String, super::Source);

/// The addresses of the listeners.
fn of_listeners(raw: &RawConfig) -> impl Iterator<Item = Listens> {
    raw.listeners.iter().filter_map(|listener| {
        let name = listener.name.value.as_deref().unwrap_or("listener");
        listener
            .address
            .value
            .clone()
            .map(|address| (address, format!("listener {name:?}"), listener.address.source.clone()))
    })
}

/// The addresses beside the listeners'.
fn of_others(raw: &RawConfig) -> impl Iterator<Item = Listens> {
    let others = [("http.listen", &raw.http_listen), ("agent.listen", &raw.agent_listen)];
    others.into_iter().filter_map(|(key, listen)| {
        listen.value.map(|address| (address.into(), key.to_owned(), listen.source.clone()))
    })
}
