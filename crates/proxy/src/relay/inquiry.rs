//! A session whose server connection ended with FATAL 57P01: does the server shut down, or was this one session
//! terminated?
//!
//! The server's message is held back, and neither side is read, until a new login of the monitoring role has
//! answered that, or `health.connect_timeout` is over.
//!
//! ```text
//!                                   server shut down
//!                               .--------------------> handled as any lost server
//!  FATAL 57P01  ---> Inquiry ---|
//!                               '--------------------> the FATAL goes to the client: end
//!                                   an operator's kill
//! ```

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use trunkline_codec::sqlstate::SqlState;
use trunkline_health::{EndedBy, Termination};
use trunkline_reactor::timer;
use trunkline_session::ServerLoss;

use super::watch::Pause;
use super::{ClientState, Ending, Next, Relay};
use crate::pool::connection::ServerConnection;
use crate::settings::OnTerminate;
use trunkline_telemetry::metrics::RepeatCause;

/// Waits for the answer.
pub(super) struct TerminationInquiry {
    ended_by: Pin<Box<dyn Future<Output = EndedBy>>>,
    /// When the client was first seen to have sent a request.
    awaited_since: Option<Instant>,
}

impl fmt::Debug for TerminationInquiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TerminationInquiry")
            .field("awaited_since", &self.awaited_since)
            .finish_non_exhaustive()
    }
}

impl Relay {
    /// Whether the answer matters: a session that cannot move ends in either case.
    pub(super) fn must_inquire(&self) -> bool {
        self.live.session.on_terminate == OnTerminate::End
            && self.context.relogin.is_some()
            && self.client_state == ClientState::Speaking
    }

    /// Asks which of the two it is, and holds back `said`, the server's bytes that were not forwarded.
    pub(super) fn inquire(&mut self, said: &[u8], now: Instant) {
        let Some(ServerConnection { lease, address, postmaster, .. }) = self.server.connection() else {
            return;
        };
        self.to_client.input.keep(said);
        let termination = Termination { address: address.clone(), postmaster: *postmaster, told_at: now };
        let sighting = self.worker.shared.health.sighting(lease.server());
        let patience = self.live.connect_timeout_of_health;
        let ended_by = Box::pin(async move {
            match timer::timeout(patience, sighting).await {
                Ok(Some(sighting)) => sighting.judge(&termination),
                Ok(None) | Err(_) => EndedBy::Server,
            }
        });
        self.watch.pause(Pause::Inquiry(TerminationInquiry { ended_by, awaited_since: None }));
    }

    pub(super) fn poll_inquiry(&mut self, cx: &mut Context<'_>) -> Next {
        if let Poll::Ready(Err(_broken)) = self.to_client.poll_flush(cx, &mut self.client) {
            return Next::End(Ending::Silent);
        }
        let Some(Pause::Inquiry(inquiry)) = self.watch.paused() else { return Next::Again };
        let mut byte = [0_u8; 1];
        if inquiry.awaited_since.is_none()
            && let Poll::Ready(Ok(1)) = self.client.poll_peek(cx, &mut byte)
        {
            inquiry.awaited_since = Some(Instant::now());
            self.idle_since = None;
        }
        let Poll::Ready(ended_by) = inquiry.ended_by.as_mut().poll(cx) else { return Next::Wait };
        let awaited_since = inquiry.awaited_since;
        self.watch.ends_pause();
        match ended_by {
            EndedBy::Operator => Next::End(self.ended_by_operator(cx)),
            EndedBy::Server => self.server_went(awaited_since),
        }
    }

    fn server_went(&mut self, awaited_since: Option<Instant>) -> Next {
        // The time of a request that has arrived begins then.
        if self.session.outstanding() == 0
            && let Some(since) = awaited_since
        {
            self.session.note_wait(since.elapsed());
        }
        if self.can_repeat_elsewhere() {
            self.repeat(RepeatCause::of_code(SqlState::ADMIN_SHUTDOWN));
            return Next::Again;
        }
        Next::Lost(ServerLoss::Eof)
    }

    /// Forwards the server's message unchanged.
    fn ended_by_operator(&mut self, cx: &mut Context<'_>) -> Ending {
        self.is_terminated(Some(SqlState::ADMIN_SHUTDOWN));
        self.session.accept_farewell();
        let said = self.to_client.input.take_held();
        if let Next::End(ending) = self.take_from_server(cx, &said) {
            return ending;
        }
        self.say_no_more()
    }
}
