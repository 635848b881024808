//! What a server connection lacks of what a session wants.

use trunkline_codec::backend::TransactionStatus;

use super::alignment::{Alignment, Writer};
use super::gucs::Gucs;

/// What a server connection has on which a session is to go on. It was logged in to for that session, and nothing has
/// run on it since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionState {
    /// The login has brought a statement_timeout, of its startup packet or of defaults.
    pub has_login_timeout: bool,
}

/// What a session wants of its server connection, besides its prepared statements, which are prepared when they are used.
#[derive(Clone, Debug)]
pub struct SessionState {
    pub(crate) settings: Gucs,
    pub(crate) status: TransactionStatus,
}

impl SessionState {
    /// Of a session that has just logged in.
    #[must_use]
    pub fn new() -> Self {
        Self { settings: Gucs::default(), status: TransactionStatus::Idle }
    }
}

impl Default for SessionState {
    fn default() -> Self {
        Self::new()
    }
}

/// The messages that bring a connection which has `from` to `to`.
#[must_use]
pub fn diff(from: &ConnectionState, to: &SessionState) -> Alignment {
    let mut out = Writer::default();
    to.settings.write(&mut out, from.has_login_timeout);
    match to.status {
        TransactionStatus::Failed => out.finish_failed(),
        // No session in a transaction that could go on leaves its server.
        TransactionStatus::Idle | TransactionStatus::InTransaction => out.finish(),
    }
}
