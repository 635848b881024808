//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, both sides (RFC 5802, RFC 7677), as PostgreSQL speaks them.
//!
//! ```text
//! client                                        server
//! n,,n=,r=<client nonce>                  ->
//!                                         <-    r=<client nonce + server nonce>,s=<salt>,i=<iterations>
//! c=<binding>,r=<both nonces>,p=<proof>   ->
//!                                         <-    v=<signature>
//! ```
//!
//! [`ServerExchange`] proves that a client knows the password behind a [`Verifier`] and recovers its
//! [`ClientKey`]; with that key a [`ClientExchange`] logs in wherever the same verifier is kept.

mod client;
mod keys;
mod message;
mod saslprep;
mod server;
mod verifier;

pub use client::{ClientExchange, Credentials};
pub use keys::{ClientKey, ServerKey};
pub use server::ServerExchange;
pub use verifier::{InvalidVerifier, Verifier};

use crate::limits::{SCRAM_ITERATIONS_MAX, SCRAM_MESSAGE_MAX};
use crate::sqlstate::SqlState;

/// How an exchange is tied to the TLS session below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Not at all. A client says so; a server did not offer it.
    Unsupported,
    /// Not, although this side could: a client because the server did not offer it, a server
    /// because the client chose the mechanism without it. A server then refuses a client that
    /// could as well: someone between them took the offer away.
    Unused,
    /// With the hash of the server's certificate, as `tls-server-end-point` (RFC 5929) defines it.
    TlsServerEndPoint(Box<[u8]>),
}

/// Why an exchange failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// The peer's message is not of the form its turn demands.
    #[error("malformed SCRAM message: {0}")]
    Malformed(&'static str),
    /// The peer wants something of SCRAM that PostgreSQL does not have.
    #[error("{0}")]
    NotSupported(&'static str),
    /// A message of this side was asked for out of turn.
    #[error("SCRAM exchange is not at this step")]
    OutOfTurn,
    /// The peer's message is longer than PostgreSQL accepts.
    #[error("SCRAM message of {length} bytes is longer than {SCRAM_MESSAGE_MAX}")]
    TooLong {
        /// Its length, in bytes.
        length: usize,
    },
    /// The other side's nonce does not contain ours.
    #[error("SCRAM nonce does not match")]
    NonceMismatch,
    /// The two sides do not agree on the TLS session below them.
    #[error("SCRAM channel binding check failed")]
    ChannelBinding,
    /// The client could bind to the TLS session, the server offered it, and yet it is not used.
    #[error("SCRAM channel binding negotiation error")]
    ChannelBindingNegotiation,
    /// The password is wrong, or the user unknown: nobody is told which.
    #[error("password authentication failed")]
    AuthenticationFailed,
    /// The server wants more iterations than are computed for anyone.
    #[error("{iterations} SCRAM iterations are more than {SCRAM_ITERATIONS_MAX}")]
    TooManyIterations {
        /// The number it wants.
        iterations: u32,
    },
    /// The server refused the proof.
    #[error("server reported a SCRAM error")]
    RefusedByServer,
    /// The server could not prove that it knows the verifier: it is not the server it should be.
    #[error("incorrect server signature")]
    ServerSignature,
}

impl ScramError {
    /// The class PostgreSQL reports this failure of a client under.
    /// Source: PostgreSQL 18, src/backend/libpq/auth-scram.c.
    #[must_use]
    pub fn sqlstate(&self) -> SqlState {
        match self {
            Self::Malformed(_) | Self::NonceMismatch | Self::OutOfTurn => SqlState::PROTOCOL_VIOLATION,
            Self::NotSupported(_) => SqlState::FEATURE_NOT_SUPPORTED,
            Self::ChannelBinding | Self::ChannelBindingNegotiation => {
                SqlState::INVALID_AUTHORIZATION_SPECIFICATION
            }
            Self::TooLong { .. } | Self::AuthenticationFailed => SqlState::INVALID_PASSWORD,
            // Of a server, and none of the client's business.
            Self::TooManyIterations { .. } | Self::RefusedByServer | Self::ServerSignature => {
                SqlState::CONNECTION_FAILURE
            }
        }
    }
}

fn check_length(message: &[u8]) -> Result<(), ScramError> {
    if message.len() > SCRAM_MESSAGE_MAX {
        return Err(ScramError::TooLong { length: message.len() });
    }
    Ok(())
}
