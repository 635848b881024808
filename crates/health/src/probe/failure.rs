//! From the errors of tokio-postgres and the operating system to what they say of the server.

use std::error::Error as _;
use std::io;

use trunkline_codec::sqlstate::SqlState;

use crate::judge::Failure;

/// Longest server message kept, in characters.
const MESSAGE_MAX: usize = 200;

/// "recovery is (not) in progress".
pub(super) fn is_role_flip(failure: &Failure) -> bool {
    matches!(failure, Failure::Refusal { code, .. } if code.as_str() == "55000")
}

pub(super) fn classify(error: &tokio_postgres::Error) -> Failure {
    if let Some(refusal) = error.as_db_error() {
        let message = clip(refusal.message());
        return match SqlState::parse(refusal.code().code().as_bytes()) {
            Some(code) => Failure::Refusal { code, message },
            None => Failure::Malformed(message),
        };
    }
    if error.is_closed() {
        return Failure::Lost("closed by the server".to_owned());
    }
    match error.source().and_then(|source| source.downcast_ref::<io::Error>()) {
        Some(error) => classify_io(error),
        None => Failure::Malformed(clip(&error.to_string())),
    }
}

/// ENOMEM, ENFILE, EMFILE, EADDRNOTAVAIL and ENOBUFS of Linux: `io::ErrorKind` has no stable names for most.
const NO_RESOURCES: [i32; 5] = [12, 23, 24, 99, 105];

pub(super) fn classify_io(error: &io::Error) -> Failure {
    if error.raw_os_error().is_some_and(|code| NO_RESOURCES.contains(&code)) {
        return Failure::NoResources(clip(&error.to_string()));
    }
    match error.kind() {
        // Of a Unix socket: nobody has made it.
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Failure::Refused,
        io::ErrorKind::UnexpectedEof => Failure::Lost("closed by the server".to_owned()),
        _ => Failure::Lost(clip(&error.to_string())),
    }
}

fn clip(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MESSAGE_MAX).collect()
}
