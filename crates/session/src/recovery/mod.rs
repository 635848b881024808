//! What is left when a server is lost: a request to repeat, an error to tell.
//!
//! - [`attempt`]: the request in flight, as far as it may be sent again.
//! - [`deferred_error`]: an error the client is still to be told.
//! - [`loss`]: what the caller is asked to do.

pub(crate) mod attempt;
pub(crate) mod deferred_error;
pub(crate) mod loss;
use self::attempt::Attempt;
use self::deferred_error::DeferredError;

/// What is done when the server is lost.
#[derive(Debug, Default)]
pub(crate) struct Recovery {
    pub(crate) attempt: Attempt,
    /// What the client is to be told of a transaction that was lost with its server.
    pub(crate) deferred_error: Option<Box<DeferredError>>,
}
