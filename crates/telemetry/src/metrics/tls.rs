//! What is counted and shown of TLS.

use std::sync::{Mutex, PoisonError};

use super::label::{Label, labels};

labels! {
    /// Which connection of a session is meant.
    TlsLeg {
        /// That of the client.
        Client = "client",
        /// That to a server.
        Server = "server",
    }
}

labels! {
    /// How a handshake ended.
    HandshakeResult {
        /// Both ends have agreed.
        Completed = "completed",
        /// One of them has refused the other.
        Failed = "failed",
        /// The other end has left, or took too long.
        Abandoned = "abandoned",
        /// It has failed, and the connection to the server goes on without TLS, as `sslmode = "prefer"` has it.
        Plaintext = "plaintext",
    }
}

/// A certificate that the proxy presents, or files that it checks the other end's by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRow {
    /// To whom.
    pub leg: TlsLeg,
    /// Its file.
    pub file: String,
    /// When the one in force expires, in seconds since 1970; `None` for what is no certificate of the proxy's.
    pub expires_at: Option<i64>,
    /// Why what is in the files now is not in force.
    pub problem: Option<String>,
}

/// The certificates in force, as they were when their files were last looked at.
#[derive(Debug, Default)]
pub struct Certificates(Mutex<Vec<CertificateRow>>);

impl Certificates {
    /// Replaces them.
    pub fn publish(&self, rows: Vec<CertificateRow>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = rows;
    }

    /// All of them.
    #[must_use]
    pub fn rows(&self) -> Vec<CertificateRow> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
