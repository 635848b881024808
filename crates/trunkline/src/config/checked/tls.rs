//! `[client_tls]`, those of listeners and `[server_tls]`, checked.

use trunkline_proxy::settings::ListenerSettings;
use trunkline_tls::accept::{AcceptError, AcceptSettings, Acceptor};
use trunkline_tls::connect::ServerTlsError;
use trunkline_tls::fleet::{FleetSettings, FleetTls};
use trunkline_topology::ServerSpec;

use crate::config::raw::RawConfig;
use crate::config::{Problem, Problems, Source};

/// The TLS of the servers, as it will be spoken.
pub(super) fn of_servers(raw: &RawConfig, servers: &[ServerSpec], problems: &mut Problems) -> FleetTls {
    let alone = raw.servers.iter().zip(servers).filter_map(|(entry, spec)| {
        let own = entry.tls.over(&raw.server_tls)?;
        Some(((spec.host.clone(), spec.port), own))
    });
    let settings = FleetSettings { all: raw.server_tls.clone(), alone: alone.collect() };
    FleetTls::load(&settings).unwrap_or_else(|error| {
        let hint = match &error.error {
            ServerTlsError::NoRoots => {
                "Name the file with the roots of servers' certificates, or \"system\"."
            }
            ServerTlsError::WeakWithSystem => {
                "Anybody can have a certificate by a public root: set sslmode = \"verify-full\"."
            }
            ServerTlsError::WeakWithDirect => {
                "Set sslmode = \"require\" or more, or leave sslnegotiation out."
            }
            ServerTlsError::NoSystemRoots => "Install them (Debian: ca-certificates), or name a file.",
            ServerTlsError::NoKey => "Name the private key of that certificate.",
            ServerTlsError::NoVersion => "Swap them.",
            ServerTlsError::File(_) => "It must be a file in PEM that the proxy may read.",
        };
        problems.push(Problem::new(&Source::default(), "server_tls", error.to_string()).hint(hint));
        FleetTls::default()
    })
}

/// Reads the files of `[client_tls]`, and of the listeners that have their own, as the proxy will.
pub(super) fn of_clients(raw: &RawConfig, listeners: &[ListenerSettings], problems: &mut Problems) {
    let (all, own): (Vec<_>, Vec<_>) =
        listeners.iter().partition(|listener| listener.options.tls == raw.client_tls);
    if own.is_empty() || !all.is_empty() {
        check("client_tls", &raw.client_tls, problems);
    }
    for listener in own {
        check(&format!("listener {:?}: client_tls", listener.name), &listener.options.tls, problems);
    }
}

fn check(key: &str, settings: &AcceptSettings, problems: &mut Problems) {
    let Err(error) = Acceptor::load(settings) else { return };
    let hint = match &error {
        AcceptError::NoCertificate => "Name a certificate, or \"self-signed\" to try it out.",
        AcceptError::NoKey => "Name the private key of that certificate.",
        AcceptError::NoRoots => "Name the file with the roots of clients' certificates.",
        AcceptError::NoVersion => "Swap them.",
        AcceptError::UnknownCipher(..) => "`openssl ciphers -stdname` prints both names of each.",
        AcceptError::File { .. } => "It must be a file in PEM that the proxy may read.",
        AcceptError::Pair { .. } => "See that the key is that of the first certificate.",
    };
    problems.push(Problem::new(&Source::default(), key, error.to_string()).hint(hint));
}
