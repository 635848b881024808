//! Accepting no more connections than there are places.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use trunkline_telemetry::log_rate::LogRate;

use super::places::{Checkers, Places};
use super::stream::BoundedStream;
use crate::limits::ACCEPT_BACKOFF;

/// A listener whose connections are bounded in number, time and bytes.
///
/// A connection without a place is closed at once: one that waited would stand in the kernel's queue before a check.
#[derive(Debug)]
pub(super) struct BoundedListener {
    listener: TcpListener,
    places: Arc<Places>,
    errors: LogRate,
    refusals: LogRate,
}

impl BoundedListener {
    pub(super) fn new(listener: TcpListener, checkers: Checkers) -> Self {
        BoundedListener {
            listener,
            places: Places::new(checkers),
            errors: LogRate::default(),
            refusals: LogRate::default(),
        }
    }
}

impl axum::serve::Listener for BoundedListener {
    type Io = BoundedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (BoundedStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    if let Some(place) = self.places.take(peer.ip()) {
                        return (BoundedStream::new(stream, place), peer);
                    }
                    if let Some(more) = self.refusals.note() {
                        tracing::warn!(client.addr = %peer, more, "an HTTP connection was closed: too many are open");
                    }
                }
                Err(error) => {
                    if let Some(more) = self.errors.note() {
                        tracing::warn!(%error, more, "could not accept an HTTP connection");
                    }
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
