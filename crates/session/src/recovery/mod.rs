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

/// What the session does when its server is lost.
#[derive(Debug, Default)]
pub(crate) struct Recovery {
    pub(crate) attempt: Attempt,
    /// The error for a transaction that was lost with its server, until the client gets it.
    pub(crate) deferred_error: Option<Box<DeferredError>>,
}
