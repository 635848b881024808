//! What the admin socket and the HTTP server show of a session.

use std::sync::Arc;
use std::time::Instant;

use trunkline_codec::backend::TransactionStatus;
use trunkline_session::PinReason;

use super::Relay;
use super::attach::Attachment;
use crate::pool::connection::ServerConnection;
use crate::pool::seat::SeatMode;
use crate::server::refused::in_words;
use trunkline_telemetry::metrics::MoveRefusal;
use trunkline_telemetry::sessions::{Activity, SessionRow};

impl Relay {
    /// Answers the worker's query for this session, if there is one.
    pub(super) fn answer_question(&self) {
        if self.slot.is_asked() {
            self.slot.answer(self.view());
        }
    }

    fn view(&self) -> SessionRow {
        let (server, server_tls) = match self.server.connection() {
            Some(ServerConnection { name, stream, .. }) => (Some(Arc::clone(name)), stream.negotiated()),
            None => (None, None),
        };
        // A reason that lasts is shown before one that ends with the transaction.
        let refused =
            || self.refusal(Instant::now()).map(|reason| PinReason::RefusedElsewhere(in_words(reason)));
        let pinned = self.session.movability().err().or(self.session.pinned());
        let pinned = pinned.or_else(|| self.session.stays_for()).or_else(refused);
        SessionRow {
            info: self.context.info.clone(),
            server: server.or_else(|| self.name_of_own()),
            server_tls,
            activity: self.activity(),
            pinned: pinned.or_else(|| self.reason_to_stay()),
        }
    }

    /// Why no other server takes a session that is to leave its own.
    fn refusal(&self, now: Instant) -> Option<MoveRefusal> {
        self.watch.must_leave?;
        let refusals = &self.watch.rare().refusals;
        let refused = refusals.reason(now).filter(|_| self.is_refused_elsewhere(&refusals.skipped(now)));
        refused.or_else(|| self.are_others_full().then_some(MoveRefusal::TooManyConnections))
    }

    /// The server that the session was on last, where it has idle connections of its own.
    fn name_of_own(&self) -> Option<Arc<str>> {
        let last = self.context.last.filter(|_| self.has_own_connections())?;
        let snapshot = self.worker.shared.health.load();
        snapshot.server(last).map(|status| Arc::clone(&status.name))
    }

    fn activity(&self) -> Activity {
        match &self.server {
            Attachment::Queued(_) | Attachment::Taking(_) => Activity::TakingServer,
            Attachment::Detached => match self.context.seat.as_ref().map(|seat| seat.mode()) {
                Some(_) if self.context.left.is_some() => Activity::WithoutServer,
                Some(SeatMode::Transaction) => Activity::Pooled,
                Some(SeatMode::Own) => Activity::Idle,
                Some(SeatMode::Session) | None => Activity::WithoutServer,
            },
            Attachment::Attached(_) if self.session.outstanding() > 0 => Activity::Active,
            Attachment::Attached(_) => match self.session.transaction_status() {
                TransactionStatus::Idle => Activity::Idle,
                TransactionStatus::InTransaction | TransactionStatus::Failed => Activity::InTransaction,
            },
        }
    }
}
