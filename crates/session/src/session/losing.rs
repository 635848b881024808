//! The session loses its server: [`Session::handle_server_lost`].

use std::time::Instant;

use trunkline_codec::backend::TransactionStatus;

use crate::conversation::farewell::FatalOrigin;
use crate::conversation::outstanding::Request;
use crate::conversation::state::{AnswerProgress, ClientEnd, CopyState, Farewell, Mode, Pipeline, Tail};
use crate::record::Sink;
use crate::recovery::loss::{HeldFarewell, LossPhase, LossPlan, LossReport, RecoveryOptions, ServerLoss};
use crate::session::Session;

impl Session {
    /// The server connection ended, or is abandoned. `tail` holds the server's bytes that were
    /// passed in and not forwarded.
    pub fn handle_server_lost(
        &mut self,
        loss: ServerLoss,
        tail: &[u8],
        options: RecoveryOptions,
        now: Instant,
        out: &mut impl Sink,
    ) -> LossPlan {
        self.forget_own();
        self.ready_owed_again();
        let phase = self.loss_phase();
        let mut plan = self.plan_loss(loss, tail, options, phase);
        match &mut plan {
            LossPlan::Repeat => {}
            LossPlan::Fail { answer, .. } => *answer = self.keep(std::mem::take(answer), now, out),
            LossPlan::Move => {
                self.conversation.farewell = Farewell::Staying;
                self.conversation.tail = Tail::Empty;
            }
            LossPlan::AlreadyReported(_) | LossPlan::Report(_) | LossPlan::Close | LossPlan::Cut => {
                self.finish(now, out);
            }
        }
        plan
    }

    fn plan_loss(
        &self,
        loss: ServerLoss,
        tail: &[u8],
        options: RecoveryOptions,
        phase: LossPhase,
    ) -> LossPlan {
        if let Farewell::Forwarded(code) = self.conversation.farewell {
            return LossPlan::AlreadyReported(FatalOrigin::of(code));
        }
        if !self.conversation.scanner.is_at_boundary() {
            return LossPlan::Cut;
        }
        match self.client.end {
            ClientEnd::Terminated | ClientEnd::HalfClosed if self.owes_nothing() => return LossPlan::Close,
            ClientEnd::Terminated | ClientEnd::HalfClosed | ClientEnd::Open | ClientEnd::Refused => {}
        }
        if options.can_move && self.movability().is_ok() && self.has_nothing_to_lose(loss) {
            return LossPlan::Move;
        }
        let can_repeat = options.can_move && options.can_repeat;
        if can_repeat && self.repeatable().is_ok() {
            return LossPlan::Repeat;
        }
        let farewell = HeldFarewell::of(tail);
        let lost = LossReport {
            loss,
            announced: farewell.code.or(self.conversation.farewell.announced()),
            server: &self.conversation.server_name,
            phase,
            role: self.conversation.role,
        };
        // The proxy has a reason to end this session: the client connects again.
        if loss != ServerLoss::GivenUp && options.can_move && self.is_keepable() {
            return LossPlan::Fail { answer: lost.error(), code: lost.code() };
        }
        let mut report = farewell.messages;
        if !farewell.has_fatal {
            lost.write_fatal(&mut report);
        }
        LossPlan::Report(report.freeze())
    }

    /// Whether a client that has left waits for no answer: after a Terminate the server drops the answers to a series
    /// without its Sync.
    fn owes_nothing(&self) -> bool {
        let is_owed = |request| matches!(request, Request::Query | Request::Sync | Request::FunctionCall);
        let is_over = self.conversation.copy == CopyState::None
            && !self.conversation.outstanding.iter().any(|entry| is_owed(entry.request));
        self.mode != Mode::Tracked || is_over
    }

    /// Nothing is in progress, or only a transaction that has failed and has no savepoint to go back to:
    /// another server can be put into such a one.
    fn has_nothing_to_lose(&self, loss: ServerLoss) -> bool {
        let has_failed = self.conversation.status == TransactionStatus::Failed
            && !self.must_report_loss(self.conversation.status)
            && loss != ServerLoss::GivenUp;
        self.is_quiet() || (has_failed && self.conversation.outstanding.is_empty() && self.is_keepable())
    }

    fn loss_phase(&self) -> LossPhase {
        match self.mode {
            Mode::Untracked(_) | Mode::Opaque => LossPhase::Unknown,
            Mode::Tracked if self.conversation.status != TransactionStatus::Idle => LossPhase::InTransaction,
            Mode::Tracked
                if self.conversation.outstanding.is_empty() && self.conversation.is_in_transaction() =>
            {
                LossPhase::InTransaction
            }
            Mode::Tracked if self.conversation.outstanding.is_empty() => LossPhase::Idle,
            Mode::Tracked
                if self.conversation.progress == AnswerProgress::Untouched
                    && self.conversation.pipeline == Pipeline::Synced =>
            {
                LossPhase::WaitingForFirstByte
            }
            Mode::Tracked => LossPhase::InsideTheAnswer,
        }
    }
}
