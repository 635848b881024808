//! What is left when a server is lost: a request to repeat, or an error to report.
//!
//! - [`attempt`]: the request in flight, as far as it may be sent again.
//! - [`deferred_error`]: an error that the client's next request gets.
//! - [`loss`]: what the caller does for the client.

pub(crate) mod attempt;
pub(crate) mod deferred_error;
pub(crate) mod loss;
use self::attempt::Attempt;
use self::deferred_error::DeferredError;

/// Who runs a request that its server refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Otherwise {
    /// Nobody: the refusal is the answer.
    #[default]
    Nobody,
    /// The primary: a standby was asked first.
    Primary,
}

/// What the session does when its server is lost.
#[derive(Debug, Default)]
pub(crate) struct Recovery {
    pub(crate) attempt: Attempt,
    /// Who runs the request in flight if its server refuses it.
    pub(crate) otherwise: Otherwise,
    /// The error for a transaction that was lost with its server, until the client gets it.
    pub(crate) deferred_error: Option<Box<DeferredError>>,
}
