//! `[client_tls]`, checked.

use trunkline_tls::accept::{AcceptError, AcceptSettings, Acceptor};

use crate::config::{Problem, Problems, Source};

/// Reads the files as the proxy will.
pub(super) fn check(settings: &AcceptSettings, problems: &mut Problems) {
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
