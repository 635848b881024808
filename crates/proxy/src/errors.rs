//! The errors that clients get from the proxy itself.
//!
//! Their texts contain neither hosts nor secrets: those appear only in the log.

mod hba;

use bytes::BytesMut;
use trunkline_auth::authenticator::BindingError;
use trunkline_codec::backend::{BackendTag, ErrorFields};
use trunkline_codec::sqlstate::SqlState;
use trunkline_codec::write::{self, ErrorReport, Severity};
use trunkline_pool::ServerLimit;
use trunkline_routing::TargetSessionAttrs;
use trunkline_telemetry::metrics::RefusalReason;

pub(crate) use self::hba::{HbaRefusal, HbaRefusalKind, RefusedClient};

/// A refusal that ends the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No server may take this session now.
    NoServer { wanted: ServerKind, detail: String },
    /// No server connection of the pools was to be had, for this reason.
    Pool { why: String },
    /// A limit of the proxy on the number of sessions.
    TooMany { what: &'static str, limit: usize },
    /// The password is wrong, or the user does not exist: a client cannot tell the two apart.
    AuthenticationFailed { user: String },
    /// Too many clients like this one have failed of late.
    TooManyFailures { seconds: u64 },
    /// The secret store cannot answer.
    SecretsUnavailable,
    /// The first packets were invalid, and PostgreSQL would answer this.
    Startup(trunkline_codec::refusal::ConnectionRefusal),
    /// The client broke the protocol.
    Protocol { message: String },
    /// A protocol or request that the proxy does not support.
    Unsupported { message: String },
    /// The server was lost after its challenge had reached the client.
    ServerLost { server: String, phase: &'static str },
    /// The proxy is being shut down, and ends the session.
    ShuttingDown,
    /// The proxy is being shut down, and begins no session.
    NoNewSessions,
    /// The session was idle for too long.
    Idle(IdleLimit),
    /// The session's server lags, and the session cannot move.
    Lagging { server: String },
    /// The login took too long.
    LoginTimeout,
    /// The startup packet names no user.
    NoUser,
    /// A startup parameter has an invalid value.
    BadOption { name: &'static str, must_be: &'static str },
    /// An option that begins like one of the proxy's and is none.
    UnknownOption { name: String, hint: &'static str },
    /// The session's server was lost, and no other took the session.
    NotReplaced { tried: String },
    /// The client must use TLS, and does not.
    NoEncryption { client: String, user: String, database: String },
    /// The client's login is not bound to its TLS connection as it should be.
    Binding(BindingError),
    /// A relayed login that client and server could each bind to a TLS connection of its own.
    BoundTwice,
    /// No rule of `hba_file` lets the client in.
    Hba(Box<HbaRefusal>),
    /// A server asks for an authentication that the proxy has no secret for.
    NoMeans { wanted: &'static str },
    /// A server asks for a password that the connection to it would expose.
    PasswordWithheld,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Refusal::Hba(refusal) = self {
            return refusal.fmt(f);
        }
        match self.parts() {
            Some((code, message, Some(detail), _)) => write!(f, "{message} ({}): {detail}", code.as_str()),
            Some((code, message, None, _)) => write!(f, "{message} ({})", code.as_str()),
            None => write!(f, "not a startup packet of PostgreSQL"),
        }
    }
}

/// What kind of server a session waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerKind {
    /// Any its listener allows.
    Server,
    /// The primary.
    Primary,
}

impl ServerKind {
    pub(crate) fn of(attrs: TargetSessionAttrs) -> Self {
        if attrs.is_primary_only() { ServerKind::Primary } else { ServerKind::Server }
    }

    fn word(self) -> &'static str {
        match self {
            ServerKind::Server => "server",
            ServerKind::Primary => "primary",
        }
    }
}

/// Which idle limit ended a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdleLimit {
    /// Outside a transaction.
    Session,
    /// Inside one.
    InTransaction,
}

impl IdleLimit {
    fn parts(self) -> Parts {
        let (code, message) = match self {
            IdleLimit::Session => {
                (SqlState::IDLE_SESSION_TIMEOUT, "terminating connection due to idle-session timeout")
            }
            IdleLimit::InTransaction => (
                SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
                "terminating connection due to idle-in-transaction timeout",
            ),
        };
        (code, message.to_owned(), Some("The limit is the proxy's.".to_owned()), None)
    }
}

/// SQLSTATE, message, detail, hint.
type Parts = (SqlState, String, Option<String>, Option<&'static str>);

fn session_ends_with_the_proxy() -> Parts {
    (
        SqlState::ADMIN_SHUTDOWN,
        "terminating connection due to administrator command".to_owned(),
        Some("The proxy is shutting down.".to_owned()),
        Some("Connect again."),
    )
}

/// In PostgreSQL's words. Source: src/backend/libpq/auth-scram.c.
fn binding(error: BindingError) -> Parts {
    let detail = match error {
        BindingError::NotSeen => {
            let detail = "The client supports SCRAM channel binding but thinks the server does not.  \
                          However, this server does support channel binding.";
            Some(detail.to_owned())
        }
        BindingError::Different => None,
    };
    (SqlState::INVALID_AUTHORIZATION, error.to_string(), detail, None)
}

fn too_many_failures(seconds: u64) -> Parts {
    (
        SqlState::INVALID_AUTHORIZATION,
        "too many authentication failures".to_owned(),
        Some(format!("The proxy refuses such logins from this address for {seconds} s.")),
        Some("See that the password is right, then try again."),
    )
}

/// Client and server have each a TLS connection to the proxy.
fn bound_twice() -> Parts {
    let detail = "The client can bind its login to its own TLS connection, and the server to another, the proxy's: each \
                  would take the other for an attacker.";
    let hint = "Set mode = \"verify\" or \"login\" in section [auth] of the proxy's configuration, or connect with \
                channel_binding=disable.";
    (
        SqlState::INVALID_AUTHORIZATION,
        "the proxy cannot relay a SCRAM login from one TLS connection to another".to_owned(),
        Some(detail.to_owned()),
        Some(hint),
    )
}

/// As PostgreSQL says it whose pg_hba.conf has `hostssl` alone.
fn no_encryption(client: &str, user: &str, database: &str) -> Parts {
    (
        SqlState::INVALID_AUTHORIZATION,
        format!(
            "no pg_hba.conf entry for host \"{client}\", user \"{user}\", database \"{database}\", no encryption"
        ),
        Some("The proxy lets clients in by TLS only.".to_owned()),
        Some("Connect with sslmode=require or above."),
    )
}

fn no_server_connection(why: &str) -> Parts {
    (SqlState::TOO_MANY_CONNECTIONS, "no server connection is free".into(), Some(why.to_owned()), None)
}

fn secrets_unavailable() -> Parts {
    (
        SqlState::CANNOT_CONNECT_NOW,
        "the proxy cannot verify passwords now".to_owned(),
        Some("The proxy could not read stored secrets from any server.".to_owned()),
        Some("The proxy's log says why, and what to do about it."),
    )
}

fn no_means(wanted: &str) -> Parts {
    (
        SqlState::INVALID_AUTHORIZATION,
        "the proxy cannot log in to the server as this user".to_owned(),
        Some(format!("The server asks for {wanted}, which the proxy does not have.")),
        Some("Let the server's pg_hba.conf ask the proxy's address for scram-sha-256."),
    )
}

fn password_withheld() -> Parts {
    (
        SqlState::INVALID_AUTHORIZATION,
        "the proxy does not send the password to its server".to_owned(),
        Some(
            "The server asks for the password itself, and the proxy's connection to it does not protect it."
                .to_owned(),
        ),
        Some(
            "Let the proxy reach the server by TLS with sslmode=verify-ca or verify-full, or over a Unix socket, or let the \
             server's pg_hba.conf ask the proxy's address for scram-sha-256.",
        ),
    )
}

fn message_alone(code: SqlState, message: impl Into<String>) -> Parts {
    (code, message.into(), None, None)
}

impl Refusal {
    /// The ErrorResponse, severity FATAL.
    pub(crate) fn write(&self, out: &mut BytesMut) {
        let Some((code, message, detail, hint)) = self.parts() else {
            if let Refusal::Startup(said) = self {
                said.encode(out);
            }
            return;
        };
        let report = ErrorReport {
            severity: Severity::Fatal,
            code,
            message: &message,
            detail: detail.as_deref(),
            hint,
        };
        write::error_response(out, &report);
    }

    /// Its label in the metrics.
    pub(crate) fn reason(&self) -> RefusalReason {
        match self {
            Refusal::NoServer { .. } | Refusal::Pool { .. } => RefusalReason::NoServer,
            Refusal::TooMany { .. } => RefusalReason::TooMany,
            Refusal::AuthenticationFailed { .. } => RefusalReason::Authentication,
            Refusal::TooManyFailures { .. } => RefusalReason::TooManyFailures,
            Refusal::SecretsUnavailable => RefusalReason::SecretsUnavailable,
            Refusal::Startup(_) | Refusal::Protocol { .. } => RefusalReason::Protocol,
            Refusal::NoEncryption { .. } | Refusal::Binding(_) | Refusal::BoundTwice | Refusal::Hba(_) => {
                RefusalReason::Authentication
            }
            Refusal::NoUser | Refusal::BadOption { .. } | Refusal::UnknownOption { .. } => {
                RefusalReason::Protocol
            }
            Refusal::Unsupported { .. } => RefusalReason::Unsupported,
            Refusal::ServerLost { .. } => RefusalReason::ServerLost,
            Refusal::ShuttingDown | Refusal::NoNewSessions => RefusalReason::ShuttingDown,
            Refusal::Idle(_) => RefusalReason::Idle,
            Refusal::Lagging { .. } => RefusalReason::Lagging,
            Refusal::LoginTimeout => RefusalReason::LoginTimeout,
            Refusal::NoMeans { .. } | Refusal::PasswordWithheld | Refusal::NotReplaced { .. } => {
                RefusalReason::Server
            }
        }
    }

    fn parts(&self) -> Option<Parts> {
        let parts = match self {
            Refusal::Startup(_) => return None,
            Refusal::Pool { why } => no_server_connection(why),
            Refusal::NoServer { wanted, detail } => (
                SqlState::CANNOT_CONNECT_NOW,
                format!("no {} is available for this session", wanted.word()),
                Some(detail.clone()),
                Some("Try again later, or ask for the state of the servers with \"trunkline status\"."),
            ),
            Refusal::TooMany { what, limit } => (
                SqlState::TOO_MANY_CONNECTIONS,
                format!("too many connections {what}"),
                Some(format!("The proxy admits {limit}.")),
                Some("Close connections that are not used, or raise the limit in the proxy's configuration."),
            ),
            Refusal::AuthenticationFailed { user } => {
                let message = format!("password authentication failed for user \"{user}\"");
                message_alone(SqlState::INVALID_PASSWORD, message)
            }
            Refusal::TooManyFailures { seconds } => too_many_failures(*seconds),
            Refusal::SecretsUnavailable => secrets_unavailable(),
            Refusal::Protocol { message } => message_alone(SqlState::PROTOCOL_VIOLATION, message),
            Refusal::Unsupported { message } => message_alone(SqlState::FEATURE_NOT_SUPPORTED, message),
            Refusal::ServerLost { server, phase } => (
                SqlState::CONNECTION_FAILURE,
                "the server closed the connection unexpectedly".to_owned(),
                Some(format!("Server \"{server}\" was lost {phase}.")),
                Some("Connect again: another server will be chosen."),
            ),
            Refusal::ShuttingDown => session_ends_with_the_proxy(),
            // As PostgreSQL tells who connects while it shuts down.
            Refusal::NoNewSessions => {
                message_alone(SqlState::CANNOT_CONNECT_NOW, "the proxy is shutting down")
            }
            Refusal::Idle(limit) => limit.parts(),
            Refusal::Lagging { server } => (
                SqlState::ADMIN_SHUTDOWN,
                "terminating connection because its server lags behind".to_owned(),
                Some(format!("Server \"{server}\" shows old data, and the session cannot be moved.")),
                Some("Connect again: another server will be chosen."),
            ),
            Refusal::LoginTimeout => {
                message_alone(SqlState::QUERY_CANCELED, "canceling authentication due to timeout")
            }
            Refusal::NoEncryption { client, user, database } => no_encryption(client, user, database),
            Refusal::Binding(error) => binding(*error),
            Refusal::BoundTwice => bound_twice(),
            Refusal::Hba(refusal) => refusal.parts(),
            Refusal::NoUser => {
                let message = "no PostgreSQL user name specified in startup packet";
                message_alone(SqlState::INVALID_AUTHORIZATION, message)
            }
            Refusal::BadOption { name, must_be } => (
                SqlState::INVALID_PARAMETER_VALUE,
                format!("invalid value for parameter \"{name}\""),
                Some(format!("It must be {must_be}.")),
                None,
            ),
            Refusal::UnknownOption { name, hint } => (
                SqlState::UNDEFINED_OBJECT,
                format!("unrecognized configuration parameter \"{name}\""),
                None,
                Some(*hint),
            ),
            Refusal::NotReplaced { tried } => (
                SqlState::CONNECTION_FAILURE,
                "the session's server was lost, and no other server takes the session".to_owned(),
                Some(tried.clone()),
                Some("Connect again."),
            ),
            Refusal::NoMeans { wanted } => no_means(wanted),
            Refusal::PasswordWithheld => password_withheld(),
        };
        Some(parts)
    }
}

/// The SQLSTATE of the ErrorResponse among these messages.
pub(crate) fn code_of(messages: &[u8]) -> Option<SqlState> {
    error_in(messages)?.sqlstate()
}

/// Whether the ErrorResponse among these messages says that a proof was wrong. Of passwords that a server has others judge
/// (LDAP, PAM, RADIUS) it says so with the code of much else: there the function that says it tells.
/// Source: PostgreSQL 18, src/backend/libpq/auth.c, `auth_failed`.
pub(crate) fn says_wrong_proof(messages: &[u8]) -> bool {
    let Some(error) = error_in(messages) else { return false };
    match error.sqlstate() {
        Some(SqlState::INVALID_PASSWORD) => true,
        Some(SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => error.field(b'R') == Some(b"auth_failed"),
        Some(_) | None => false,
    }
}

/// The limit that an ErrorResponse of code 53300 among these messages speaks of.
/// Source: PostgreSQL 18, src/backend/utils/init/miscinit.c and postinit.c: the functions that check those of roles and
/// databases.
pub(crate) fn limit_said(messages: &[u8]) -> ServerLimit {
    match error_in(messages).and_then(|error| error.field(b'R')) {
        Some(b"InitializeSessionUserId") => ServerLimit::User,
        Some(b"CheckMyDatabase") => ServerLimit::Database,
        Some(_) | None => ServerLimit::All,
    }
}

/// The text of the ErrorResponse among these messages.
pub(crate) fn text_of(messages: &[u8]) -> Option<String> {
    let text = error_in(messages)?.message()?;
    Some(String::from_utf8_lossy(text).into_owned())
}

/// The ErrorResponse among these messages.
fn error_in(mut messages: &[u8]) -> Option<ErrorFields<'_>> {
    while let Some((&[tag, a, b, c, d], after)) = messages.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([a, b, c, d]).checked_sub(4)? as usize;
        let (body, rest) = after.split_at_checked(length)?;
        if BackendTag::from_byte(tag) == BackendTag::ErrorResponse {
            return Some(ErrorFields::new(body));
        }
        messages = rest;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_last_words_is_that_of_their_error() {
        let message = |tag: u8, code: &str| {
            let body = format!("SFATAL\0C{code}\0\0");
            let length = u32::try_from(body.len() + 4).expect("short");
            [&[tag], &length.to_be_bytes()[..], body.as_bytes()].concat()
        };
        let words = [message(b'N', "01000"), message(b'E', "57P02")].concat();
        assert_eq!(code_of(&words), Some(SqlState::CRASH_SHUTDOWN));
        for cut in 0..words.len() {
            assert_eq!(code_of(&words[..cut]), None, "{cut}");
        }
    }
}
