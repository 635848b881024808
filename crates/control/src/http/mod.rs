//! What load balancers, Prometheus and people ask about the servers.
//!
//! [`serve`] answers HTTP: the health contract of [`contract`](crate::contract), `/metrics`, and a page for
//! browsers. [`serve_agent`] answers HAProxy's agent-check. Both answer from the newest verdicts, never ask a
//! server for it, and work without a proxy beside them.

mod about;
mod agent;
mod listener;
mod page;
mod places;
mod routes;
mod stream;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use trunkline_health::Health;
use trunkline_health::judge::Transition;
use trunkline_topology::Snapshot;

use trunkline_telemetry::metrics::Metrics;
use trunkline_telemetry::sessions::Sessions;

pub use about::{AuthNow, ListenerNow, SpeedNow, SpreadNow, StatementSpeed};
pub use agent::{AGENT_CONNECTIONS_MAX, AGENT_WORDS_BYTES_MAX, AGENT_WORDS_GRACE, serve_agent};
pub use places::Checkers;

/// HTTP connections at one time; one more is closed at once.
pub const CONNECTIONS_MAX: usize = 256;

/// Of these, those of one address, unless it is a checker's.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 32;

/// Of these, those that only checkers may have, where there are any.
pub const CHECKERS_RESERVED: usize = 64;

/// Longest a connection may take to send its request's head. The time in which the answer is made does not count.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest the answer may take to be made, and then to be read.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Most bytes read from one connection: a request line and headers. No request has a body.
pub const REQUEST_BYTES_MAX: usize = 16 * 1024;

/// Where the verdicts come from.
pub trait Verdicts: Clone + Send + Sync + 'static {
    /// The newest ones.
    fn newest(&self) -> Arc<Snapshot>;

    /// Whether the proxy takes no new sessions because it is about to end.
    fn is_draining(&self) -> bool {
        false
    }

    /// The proxy's sessions, counted; `None` where only health is served.
    fn sessions(&self) -> impl Future<Output = Option<Sessions>> + Send {
        std::future::ready(None)
    }

    /// Who authenticates clients; `None` where only health is served.
    fn auth(&self) -> Option<AuthNow> {
        None
    }

    /// The last changes of a server's state, the newest first.
    fn transitions(&self) -> Vec<Transition>;

    /// The proxy's own zone, and what was found of its servers' speeds; `None` where only health is served.
    fn spread(&self) -> Option<SpreadNow> {
        None
    }

    /// The proxy's listeners, and where each sends sessions now; none where only health is served.
    fn listeners(&self) -> Vec<ListenerNow> {
        Vec::new()
    }
}

impl Verdicts for Health {
    fn newest(&self) -> Arc<Snapshot> {
        Arc::clone(&self.load())
    }

    fn transitions(&self) -> Vec<Transition> {
        Health::transitions(self)
    }
}

/// What [`serve`] answers with, for serving it elsewhere, too.
pub fn routes(verdicts: impl Verdicts, metrics: Option<Arc<Metrics>>) -> Router {
    routes::router(verdicts, metrics)
}

/// Serves HTTP on `listener` until `shutdown` completes and the connections open then have ended.
///
/// `metrics` are the proxy's, or `None` where only health is served. Connections from `checkers` find a place when all
/// others are taken.
pub async fn serve(
    listener: TcpListener,
    checkers: Checkers,
    verdicts: impl Verdicts,
    metrics: Option<Arc<Metrics>>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    let listener = listener::BoundedListener::new(listener, checkers);
    let served = axum::serve(listener, routes::router(verdicts, metrics)).with_graceful_shutdown(shutdown);
    if let Err(error) = served.await {
        tracing::error!(%error, "the HTTP server stopped");
    }
}
