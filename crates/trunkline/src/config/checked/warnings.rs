//! What is valid and hardly meant.

use std::path::Path;

use trunkline_proxy::settings::{AuthMode, AuthSettings, ListenerSettings};
use trunkline_tls::fleet::FleetTls;
use trunkline_topology::ServerSpec;

use crate::config::admin_places::OFF;
use crate::config::raw::RawConfig;
use crate::config::{Problem, Problems, Source};

/// Adds what is worth a word.
pub(super) fn warnings(
    raw: &RawConfig,
    monitor: Option<&tokio_postgres::Config>,
    servers: &[ServerSpec],
    warnings: &mut Problems,
) {
    let is_over_tcp = servers.iter().any(|server| !server.host.starts_with('/'));
    let has_command = raw.monitor.password_command.value.is_some();
    if is_over_tcp && !has_command && monitor.is_some_and(|login| login.get_password().is_none()) {
        warnings.push(
            Problem::new(&Source::Default, "monitor.password", "is not set: a server that asks for one cannot be probed")
                .hint("Set TRUNKLINE__MONITOR__PASSWORD, unless pg_hba.conf lets the role in without; `trunkline init-sql` prints the SQL for it."),
        );
    }
    if let Some(socket) = &raw.admin_socket.value
        && !socket.eq_ignore_ascii_case(OFF)
        && let Some(directory) = Path::new(socket).parent()
        && !directory.as_os_str().is_empty()
        && !directory.is_dir()
    {
        let message = format!("{socket}: there is no directory {}", directory.display());
        warnings.push(
            Problem::new(&raw.admin_socket.source, "admin.socket", message)
                .hint("Create it before the start, owned by the user that the proxy runs as, or name a file in another one."),
        );
    }
}

/// A SCRAM login cannot be relayed where client and server could each bind it to a TLS connection of its own.
pub(super) fn relay_between_tls(
    auth: &AuthSettings,
    listeners: &[ListenerSettings],
    (servers, tls): (&[ServerSpec], &FleetTls),
    warnings: &mut Problems,
) {
    let from_clients = listeners.iter().any(|listener| listener.options.tls.sslmode().must_encrypt());
    let to_servers = servers
        .iter()
        .filter_map(|server| tls.of(&server.host, server.port))
        .any(|tls| tls.mode().must_encrypt());
    if auth.mode == AuthMode::Relay && from_clients && to_servers {
        let message =
            "is relay, with TLS on both sides: clients that could bind their SCRAM login to TLS are refused";
        warnings.push(Problem::new(&Source::Default, "auth.mode", message).hint(
            "Set \"verify\" or \"login\", unless the servers ask for something else than scram-sha-256.",
        ));
    }
}
