//! A session loses its server: decides what happens to the session, and counts and logs it.

use std::time::Instant;

use bytes::Bytes;
use trunkline_codec::sqlstate::SqlState;
use trunkline_health::PassiveFailure;
use trunkline_session::{FatalOrigin, LossPlan, RecoveryOptions, ServerLoss};

use super::attach::MoveReason;
use super::{ClientState, Ending, Relay};
use crate::errors::code_of;
use crate::pool::connection::ServerConnection;
use crate::server::take::TakeError;
use trunkline_telemetry::metrics::{
    FailoverCause, Label, LossCause, MoveCause, RepeatCause, TerminationCause,
};

impl Relay {
    /// Handles the loss of the server; `None` when the session continues.
    pub(super) fn server_lost(&mut self, loss: ServerLoss) -> Option<Ending> {
        let ServerConnection { lease, .. } = self.server.connection()?;
        let server = lease.server();
        self.confirm_defaults();
        // The functions may have just been read, and the session no longer pinned by a call.
        self.session.settle_calls();
        if self.client_state == ClientState::Speaking {
            self.worker.shared.health.suspect(server, PassiveFailure::ServerLost);
        }
        match loss {
            ServerLoss::Eof | ServerLoss::Reset => {}
            ServerLoss::TimedOut | ServerLoss::GivenUp => self.forget_unsent(),
        }
        let options = RecoveryOptions { can_move: self.can_move(), can_repeat: self.can_repeat() };
        let held = self.to_client.input.take_held();
        let now = Instant::now();
        let plan =
            self.record(|session, recorder| session.handle_server_lost(loss, &held, options, now, recorder));
        match plan {
            LossPlan::Move => {
                self.moves_on(loss);
                None
            }
            LossPlan::Repeat => {
                self.repeat(RepeatCause::of(loss));
                None
            }
            LossPlan::Fail { answer, code } => {
                self.fails(loss, &answer, code);
                None
            }
            LossPlan::Report(report) => {
                let cause = code_of(&report).map_or(loss_cause(loss), |code| failure_cause(code, loss));
                self.ends_with_server("session ends because its server was lost", loss, cause);
                Some(self.say(&report))
            }
            LossPlan::AlreadyReported(FatalOrigin::Server(code)) => {
                let cause = failure_cause(code, loss);
                self.ends_with_server("session ends because its server shut down or crashed", loss, cause);
                Some(self.say_no_more())
            }
            LossPlan::AlreadyReported(FatalOrigin::Session(code)) => {
                // A message of the client that the server refuses was counted when it arrived.
                if self.client_state != ClientState::Refused {
                    self.is_terminated(code);
                }
                Some(self.say_no_more())
            }
            LossPlan::Cut => {
                let message = "session is cut because its server was lost inside a message";
                self.ends_with_server(message, loss, loss_cause(loss));
                Some(Ending::Cut(self.to_client.take_pending()))
            }
            // The client still gets the bytes that it has not taken.
            LossPlan::Close => Some(self.say(&[])),
        }
    }

    /// The session was idle: another server is taken when the client sends its next request.
    fn moves_on(&mut self, loss: ServerLoss) {
        if let Some(ServerConnection { lease, name, .. }) = self.server.connection() {
            tracing::debug!(
                session.id = self.context.info.id.0, server.name = %name, ?loss,
                "server was lost while the session was idle, the session continues on another server"
            );
            let from = lease.server();
            self.context.moving = Some(Box::new(MoveReason::Moved { cause: MoveCause::ServerLost, from }));
            let metrics = self.worker.metrics.server(from);
            metrics.moves.one(MoveCause::ServerLost);
            if self.session.is_pristine() {
                metrics.failovers.one(FailoverCause::LostBeforeQuery);
            }
        }
        drop(self.detach());
    }

    /// The request in flight fails, and the session continues.
    fn fails(&mut self, loss: ServerLoss, answer: &Bytes, code: SqlState) {
        if let Some(ServerConnection { lease, name, .. }) = self.server.connection() {
            let info = &self.context.info;
            tracing::warn!(
                session.id = info.id.0, client.addr = %info.client, server.name = %name, ?loss, %code,
                "server was lost, the request in flight fails and the session continues"
            );
            let from = lease.server();
            self.context.moving = Some(Box::new(MoveReason::Moved { cause: MoveCause::ServerLost, from }));
            let metrics = self.worker.metrics.server(from);
            metrics.requests_failed.one(failure_cause(code, loss));
            metrics.moves.one(MoveCause::ServerLost);
        }
        self.unit_fails();
        self.to_client.push_pending(answer);
        self.journal.close(&mut self.worker.journals.borrow_mut());
        drop(self.detach());
    }

    fn ends_with_server(&self, message: &'static str, loss: ServerLoss, cause: LossCause) {
        let Some(ServerConnection { name, .. }) = self.server.connection() else { return };
        let info = &self.context.info;
        tracing::warn!(
            session.id = info.id.0, client.addr = %info.client, server.name = %name, ?loss,
            pinned = self.why_pinned(), "{message}"
        );
        self.count_loss(cause);
    }

    /// The server ended this session alone. The client gets its message, which has this code.
    pub(super) fn is_terminated(&self, code: Option<SqlState>) {
        let Some(ServerConnection { lease, name, .. }) = self.server.connection() else { return };
        let (info, cause) = (&self.context.info, TerminationCause::of(code));
        tracing::info!(
            session.id = info.id.0, client.addr = %info.client, server.name = %name, cause = cause.word(),
            code = code.map(tracing::field::display),
            "server ended the session, and serves others"
        );
        self.worker.metrics.server(lease.server()).sessions_terminated.one(cause);
    }

    /// No other server could be taken: the session ends.
    pub(super) fn ends_unplaced(&mut self, error: TakeError) -> Ending {
        if let Some(left) = &self.context.left {
            self.worker.metrics.server(left.from).sessions_lost.one(LossCause::NotReplaced);
        }
        match error {
            TakeError::NoServer(refusal) => self.refuse(&refusal),
            TakeError::Refused(message) => {
                let info = &self.context.info;
                tracing::warn!(
                    session.id = info.id.0, client.addr = %info.client,
                    code = code_of(&message).map(tracing::field::display),
                    "session ends because another server refused it"
                );
                self.say(&message)
            }
        }
    }

    /// Makes the kernel discard unsent bytes: a server that comes back must not receive them.
    fn forget_unsent(&mut self) {
        let Some(ServerConnection { stream, .. }) = self.server.connection() else { return };
        if let Err(error) = stream.set_zero_linger() {
            tracing::debug!(session.id = self.context.info.id.0, %error, "could not discard unsent bytes");
        }
    }

    /// Why the session could not continue, for the log.
    fn why_pinned(&self) -> String {
        match (self.session.movability(), self.session.repeatable()) {
            (Err(reason), _) => reason.to_string(),
            (Ok(()), Err(reason)) => reason.to_string(),
            (Ok(()), Ok(())) => "no other server is allowed, or the request is too long".to_owned(),
        }
    }

    pub(super) fn count_loss(&self, cause: LossCause) {
        if let Some(ServerConnection { lease, .. }) = self.server.connection() {
            self.worker.metrics.server(lease.server()).sessions_lost.one(cause);
        }
    }
}

fn loss_cause(loss: ServerLoss) -> LossCause {
    match loss {
        ServerLoss::Eof => LossCause::Closed,
        ServerLoss::Reset => LossCause::Reset,
        ServerLoss::TimedOut => LossCause::TimedOut,
        ServerLoss::GivenUp => LossCause::GivenUp,
    }
}

/// Why a request or session failed with its server, by the code that the client gets.
fn failure_cause(code: SqlState, loss: ServerLoss) -> LossCause {
    match code {
        SqlState::CONNECTION_FAILURE => loss_cause(loss),
        SqlState::ADMIN_SHUTDOWN => LossCause::AdminShutdown,
        SqlState::CRASH_SHUTDOWN => LossCause::CrashShutdown,
        _other => LossCause::Fatal,
    }
}
