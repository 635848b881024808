//! What is valid and hardly meant.

use std::collections::BTreeSet;
use std::path::Path;

use trunkline_proxy::settings::{AuthMode, AuthSettings, ListenerSettings};
use trunkline_tls::accept::ClientSslMode;
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

/// A file with intermediates alone vouches for nobody, as for OpenSSL.
pub(super) fn files_without_root(
    listeners: &[ListenerSettings],
    servers: &FleetTls,
    warnings: &mut Problems,
) {
    let of_clients = listeners
        .iter()
        .map(|listener| &listener.options.tls)
        .filter(|tls| tls.sslmode() != ClientSslMode::Disable)
        .filter_map(|tls| Some(("client_tls.ca_file", tls.ca_file.as_deref()?)));
    let of_servers =
        servers.each().filter_map(|tls| Some(("server_tls.sslrootcert", tls.settings().roots_file()?)));
    let files: BTreeSet<(&str, &str)> = of_clients.chain(of_servers).collect();
    for (key, file) in files {
        // One that cannot be read is an error, which is told elsewhere.
        if let Ok(false) = trunkline_tls::has_root(file) {
            let message = format!("{file}: no certificate in it is its own root: it vouches for nobody");
            warnings.push(
                Problem::new(&Source::Default, key, message)
                    .hint("Add the root that the chain ends at; intermediates may stay, or be sent along."),
            );
        }
    }
}
