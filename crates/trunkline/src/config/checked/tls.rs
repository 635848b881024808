//! `[client_tls]`, checked.

use trunkline_tls::accept::{AcceptError, AcceptSettings, Acceptor};
use trunkline_tls::connect::{ConnectError, ConnectSettings, ServerTls};

use crate::config::{Problem, Problems, Source};

/// Reads the files as the proxy will.
pub(super) fn check(clients: &AcceptSettings, servers: &ConnectSettings, problems: &mut Problems) {
    of_clients(clients, problems);
    of_servers(servers, problems);
}

fn of_servers(settings: &ConnectSettings, problems: &mut Problems) {
    let Err(error) = ServerTls::load(settings) else { return };
    let hint = match &error {
        ConnectError::NoRoots => "Name the file with the roots of servers' certificates, or \"system\".",
        ConnectError::WeakWithSystem => {
            "Anybody can have a certificate by a public root: set sslmode = \"verify-full\"."
        }
        ConnectError::NoSystemRoots => "Install them (Debian: ca-certificates), or name a file.",
        ConnectError::NoKey => "Name the private key of that certificate.",
        ConnectError::NoVersion => "Swap them.",
        ConnectError::File(_) => "It must be a file in PEM that the proxy may read.",
    };
    problems.push(Problem::new(&Source::default(), "server_tls", error.to_string()).hint(hint));
}

fn of_clients(settings: &AcceptSettings, problems: &mut Problems) {
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
    problems.push(Problem::new(&Source::default(), "client_tls", error.to_string()).hint(hint));
}
