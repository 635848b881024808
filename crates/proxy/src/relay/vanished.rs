//! Clients that vanish while their server works for them, where others wait for the connection.
//!
//! A client that closes its sending side may still read. Whether it does shows when it is sent something: a socket that was
//! closed answers with a reset.

use std::rc::Rc;
use std::task::Context;
use std::time::Instant;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use trunkline_codec::write;
use trunkline_net::Transport;
use trunkline_reactor::timer;

use super::{ClientState, Ending, Relay};
use crate::context::Worker;
use crate::limits::{CANCEL_TIMEOUT, GOODBYE_PATIENCE, TICK, VANISHED_BYTES_MAX, VANISHED_PATIENCE};
use crate::pool::connection::ServerConnection;
use trunkline_telemetry::metrics::PoolCloseReason;

impl Relay {
    /// Whether the server of a pool works for a client that may have gone.
    #[inline]
    pub(super) fn may_have_vanished(&self) -> bool {
        self.client_state != ClientState::Speaking && self.context.seat.is_some()
    }

    /// Whether the client has closed the connection while it has waited for a server since then, which took long. One that
    /// closes its sending side alone may still read: a request behind which it did so is answered where a server is at hand.
    pub(super) fn has_given_up(&self, cx: &mut Context<'_>, since: Instant) -> bool {
        if !self.has_client_left(cx) {
            return false;
        }
        // What was meant for a server that is lost is not sent to the next one.
        if self.context.left.is_some() {
            return true;
        }
        let until = since + GOODBYE_PATIENCE;
        self.slot.due_by(until);
        Instant::now() >= until
    }

    /// Finds out whether a client that sends nothing more still reads; `Some` when it does not.
    pub(super) fn look_for_client(&mut self, cx: &mut Context<'_>) -> Option<Ending> {
        let is_pooled = self.server.connection().is_some_and(|server| server.member.is_some());
        if !is_pooled || self.session.outstanding() == 0 || !self.has_client_left(cx) {
            return None;
        }
        let now = Instant::now();
        let looked_at = *self.watch.rare_mut().client_looked_at.get_or_insert(now);
        self.slot.due_by(looked_at.max(now) + TICK);
        if now < looked_at + TICK || !self.session.is_between_messages() || !self.to_client.is_flushed() {
            return None;
        }
        self.watch.rare_mut().client_looked_at = Some(now);
        let mut again = BytesMut::new();
        // What it knows already. A longer value than a message takes was never sent to it.
        let told = self.session.parameters().next()?;
        write::parameter_status(&mut again, told.0, told.1).ok()?;
        let written = self.to_client.write(cx, &mut self.client, &again, now);
        written.is_err().then_some(Ending::Silent)
    }
}

/// Has the server end what a client has left it with, and closes the connection: only then another may be opened in its
/// place.
pub(super) async fn see_off(worker: Rc<Worker>, mut server: Box<ServerConnection>) {
    server.stream.change_reader();
    // The server notices when it reads next, which is when it has done what it is at.
    let farewell = async {
        let _is_broken = server.stream.shutdown().await;
        drained(&mut server.stream).await;
    };
    if timer::timeout(VANISHED_PATIENCE, farewell).await.is_err()
        && let Some(key) = server.key.clone()
    {
        let outcome = worker.shared.cancels.cancel(&worker.connector, &key).await;
        tracing::debug!(server.name = %server.name, ?outcome, "the query of a client that has gone is canceled");
        let _elapsed = timer::timeout(CANCEL_TIMEOUT, drained(&mut server.stream)).await;
    }
    worker.metrics.pool_closed.one(PoolCloseReason::ClientGone);
}

/// Reads what nobody wants, until the server has closed the connection; not much of it.
async fn drained(stream: &mut Transport) {
    let mut unwanted = [0_u8; 4096];
    let mut left = VANISHED_BYTES_MAX;
    while let Ok(length) = stream.read(&mut unwanted).await
        && length > 0
        && left > 0
    {
        left = left.saturating_sub(length);
    }
}
