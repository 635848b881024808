//! Maps errors of tokio-postgres and the operating system to what they prove about the server.

use std::error::Error as _;
use std::io;
use std::sync::Arc;

use trunkline_codec::sqlstate::SqlState;

use crate::guard::{PASSWORD_WITHHELD, withheld_password};
use crate::judge::{AskedFact, ProbeFailure, SocketTrouble};
use crate::login::{MonitorLoginError, PASSWORD_MISSING, lacks_password};
use trunkline_tls::words;
use trunkline_topology::Address;

/// Longest server message kept, in characters.
const MESSAGE_MAX: usize = 200;

/// "recovery is (not) in progress".
pub(super) fn is_role_flip(failure: &ProbeFailure) -> bool {
    matches!(failure, ProbeFailure::Refusal { code, .. } if code.as_str() == "55000")
}

/// Whether a server that refuses `fact` with `code` may do without it: the monitoring role lacks the right, or the server
/// has no such function, or does not support it, or not in its state.
pub(super) fn leaves_out(fact: AskedFact, code: SqlState) -> bool {
    match fact {
        // Whatever is wrong with the operator's query is wrong with that alone, but for what ends a connection.
        // One that waits for a lock or takes too long is ended alone, too.
        AskedFact::LagQuery => code.as_str() == "57014" || !ends_connection(code),
        _ => matches!(
            code.as_str(),
            "42501" | "0A000" | "55000" | "42883" | "42P01" | "42703" | "42704" | "3F000"
        ),
    }
}

/// Whether a refusal is of the connection, or of all that could be asked, rather than of what was.
pub(super) fn ends_connection(code: SqlState) -> bool {
    matches!(code.as_str().get(..2), Some("08" | "53" | "57" | "58" | "XX"))
}

/// Why a login came to nothing.
pub(super) fn classify_login(failure: &MonitorLoginError, address: &Address) -> ProbeFailure {
    match failure {
        MonitorLoginError::Connect(error) => classify_connect(error, address),
        // A server that dies meanwhile is lost, whatever it was asked.
        MonitorLoginError::Tls(error) => match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::Other => {
                ProbeFailure::Tls(clip(&words::of_io(error)))
            }
            _ => classify_io(error),
        },
        MonitorLoginError::Login(error) => classify(error),
    }
}

pub(super) fn classify(error: &tokio_postgres::Error) -> ProbeFailure {
    if lacks_password(error) {
        let (code, message) = PASSWORD_MISSING;
        return refusal(code, message);
    }
    if withheld_password(error) {
        let (code, message) = PASSWORD_WITHHELD;
        return refusal(code, message);
    }
    if let Some(refusal) = error.as_db_error() {
        return self::refusal(refusal.code().code(), refusal.message());
    }
    if error.is_closed() {
        return ProbeFailure::Lost("closed by the server".to_owned());
    }
    match error.source().and_then(|source| source.downcast_ref::<io::Error>()) {
        // Of TLS 1.3, where a server refuses the proxy's certificate when the handshake is over on this side.
        Some(error) if words::is_of_tls(error) => ProbeFailure::Tls(clip(&words::of_io(error))),
        Some(error) => classify_io(error),
        None => ProbeFailure::Malformed(clip(&error.to_string())),
    }
}

fn refusal(code: &str, message: &str) -> ProbeFailure {
    let message = clip(message);
    match SqlState::parse(code.as_bytes()) {
        Some(code) => ProbeFailure::Refusal { code, message },
        None => ProbeFailure::Malformed(message),
    }
}

/// ENOMEM, ENFILE, EMFILE, EADDRNOTAVAIL and ENOBUFS of Linux: `io::ErrorKind` has no stable names for most.
const NO_RESOURCES: [i32; 5] = [12, 23, 24, 99, 105];

fn classify_io(error: &io::Error) -> ProbeFailure {
    if error.raw_os_error().is_some_and(|code| NO_RESOURCES.contains(&code)) {
        return ProbeFailure::NoResources(clip(&error.to_string()));
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ProbeFailure::Refused,
        io::ErrorKind::UnexpectedEof => ProbeFailure::Lost("closed by the server".to_owned()),
        _ => ProbeFailure::Lost(clip(&error.to_string())),
    }
}

/// The same where a connection could not be made.
pub(super) fn classify_connect(error: &io::Error, address: &Address) -> ProbeFailure {
    let Address::Unix(path) = address else { return classify_io(error) };
    let trouble = match error.kind() {
        io::ErrorKind::NotFound => SocketTrouble::Missing,
        io::ErrorKind::ConnectionRefused => SocketTrouble::Abandoned,
        io::ErrorKind::PermissionDenied => SocketTrouble::Denied,
        _ => return classify_io(error),
    };
    ProbeFailure::Socket { path: Arc::clone(path), trouble }
}

fn clip(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MESSAGE_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_socket_is_said_with_its_path_and_what_to_do() {
        let address = Address::of_directory("/run/postgresql", 5432).expect("a directory");
        for (kind, said, to_do) in [
            (io::ErrorKind::NotFound, "no socket", "unix_socket_directories"),
            (io::ErrorKind::ConnectionRefused, "nothing listens on", "start the server"),
            (io::ErrorKind::PermissionDenied, "no permission for", "unix_socket_permissions"),
        ] {
            let text = classify_connect(&kind.into(), &address).to_string();
            assert!(text.starts_with(&format!("{said} {address}: ")) && text.contains(to_do), "{text}");
        }
        let tcp = Address::Tcp(([127, 0, 0, 1], 5432).into());
        assert_eq!(classify_connect(&io::ErrorKind::ConnectionRefused.into(), &tcp), ProbeFailure::Refused);
    }
}
