//! What the server sends: [`Session::handle_server`].

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use trunkline_codec::backend::{BackendTag, ErrorFields};
use trunkline_codec::scan::{FrameError, FrameErrorKind, Piece};
use trunkline_codec::sqlstate::SqlState;
use trunkline_codec::write::{ErrorReport, error_response};

use super::attempt::AnswerDecision;
use crate::conversation::farewell::{FarewellScope, is_farewell};
use crate::conversation::outstanding::RequestKind;
use crate::conversation::own::Unexpected;
use crate::conversation::state::{Farewell, Mode, Tail};
use crate::pin::{NotRepeatable, PinReason};
use crate::record::Sink;
use crate::recovery::attempt::Attempt;
use crate::rewritten::Rewritten;
use crate::session::Session;
use crate::session::announce::Figures;
use crate::settings::{Mobility, StatementNames};
use crate::step::{Peer, ServerStep, ServerThen, StandbyRefusal, Violation, ViolationError};

/// Type byte and length word.
const HEADER: u64 = 5;

/// The same, of a message that is whole.
const HEADER_BYTES: usize = 5;

impl Session {
    /// Takes what the server sent: the unforwarded rest of the last chunk, and what came since. For sessions with
    /// [`StatementNames::OfClient`].
    pub fn handle_server(&mut self, chunk: &[u8], now: Instant, out: &mut impl Sink) -> ServerStep {
        debug_assert_eq!(self.names, StatementNames::OfClient);
        self.handle_server_renaming(chunk, now, &mut Rewritten::default(), out)
    }

    /// The same for all sessions. What goes to the client of the bytes that the step forwards is what `rewritten` has
    /// [sent](Rewritten::sent) for them.
    pub fn handle_server_renaming(
        &mut self,
        chunk: &[u8],
        now: Instant,
        rewritten: &mut Rewritten,
        out: &mut impl Sink,
    ) -> ServerStep {
        let at_now = self.meter.at(now);
        let mut at = 0;
        let mut dropped = 0;
        rewritten.begin();
        let (inject, then) = match self.scan_server(chunk, &mut at, at_now, rewritten, out) {
            Ok(Stop::ReadOn) => (None, ServerThen::ReadOn),
            Ok(Stop::Inject(bytes)) => (Some(bytes), ServerThen::ReadOn),
            Ok(Stop::Replace { length, by }) => {
                dropped = length;
                (by, ServerThen::ReadOn)
            }
            Ok(Stop::Farewell(FarewellScope::Server)) => (None, ServerThen::Farewell),
            Ok(Stop::Farewell(FarewellScope::ServerOrSession)) => (None, ServerThen::Terminated),
            Ok(Stop::Conflict(code)) => (None, ServerThen::Conflict(code)),
            Ok(Stop::Refused(why)) => (None, ServerThen::Refused(why)),
            Err(error) => {
                self.finish(now, out);
                (None, ServerThen::Violation(Box::new(self.server_violation(error))))
            }
        };
        self.conversation.tail = Tail::of(chunk, at + dropped);
        if at > 0 || inject.is_some() {
            self.close_attempt(NotRepeatable::Answered);
        }
        rewritten.end(chunk, at);
        ServerStep { forward: at, dropped, inject, then }
    }

    fn scan_server(
        &mut self,
        chunk: &[u8],
        at: &mut usize,
        now: u64,
        rewritten: &mut Rewritten,
        out: &mut impl Sink,
    ) -> Result<Stop, ViolationError> {
        if let Attempt::Open { .. } = self.recovery.attempt
            && !self.conversation.is_own_due()
            && let Some(stop) = Stop::at_once(self.look_ahead(chunk))
        {
            return Ok(stop);
        }
        loop {
            let before = *at;
            let (tag, body, length) = match self.conversation.scanner.next(chunk, at)? {
                None => return Ok(Stop::ReadOn),
                Some(Piece::Message { tag, body }) => (tag, body, HEADER + body.len() as u64),
                Some(Piece::Start { tag, body_len, body }) => (tag, body, HEADER + u64::from(body_len)),
                Some(Piece::More { is_last, .. }) => {
                    if self.passed_own(is_last) {
                        let length = std::mem::replace(at, before) - before;
                        return Ok(Stop::Replace { length, by: None });
                    }
                    continue;
                }
            };
            if self.conversation.is_own_due()
                && let Some(stop) = self.take_own((tag, body), length, *at - before, now, out)
            {
                *at = before;
                return stop;
            }
            if tag == BackendTag::DataRow.byte() && self.mode == Mode::Tracked && self.data_row(length, now) {
                continue;
            }
            let tag = BackendTag::from_byte(tag);
            if tag == BackendTag::ReadyForQuery
                && let Some(bytes) = self.messages_before_ready(now)
            {
                *at = before;
                return Ok(Stop::Inject(bytes));
            }
            if tag == BackendTag::NotificationResponse
                && let Some(instead) = self.notification_instead(&chunk[before..*at])
            {
                let length = std::mem::replace(at, before) - before;
                return Ok(Stop::Replace { length, by: Some(instead) });
            }
            if tag == BackendTag::ParameterStatus {
                self.follow_parameter(body).inspect_err(|_too_many| *at = before)?;
            }
            if is_farewell(tag, body)
                && let Some(goodbye) = self.goodbye(tag, body, &chunk[before..])
            {
                *at = before;
                self.conversation.farewell = Farewell::Held;
                return Ok(Stop::Farewell(goodbye));
            }
            if tag == BackendTag::ErrorResponse && self.names != StatementNames::OfClient {
                self.rename_error((body, length), (chunk, before..*at), rewritten);
            }
            match self.mode {
                Mode::Tracked => {
                    if let Err(reason) = self.answered(tag, body, length, now, out) {
                        if self.conversation.own.is_some() || self.conversation.is_ready_withheld() {
                            return Err(unexpected(tag, length).into());
                        }
                        self.untrack(reason);
                    } else if tag == BackendTag::ReadyForQuery && self.withholds_ready() {
                        let length = HEADER_BYTES + body.len();
                        *at -= length;
                        return Ok(Stop::Replace { length, by: None });
                    }
                }
                Mode::Untracked(_) | Mode::Opaque => self.relayed(tag, body),
            }
        }
    }

    /// The answer to one of the proxy's own requests, of which `here` bytes are in the chunk; `None` for an asynchronous
    /// message.
    #[cold]
    fn take_own(
        &mut self,
        (tag, body): (u8, &[u8]),
        length: u64,
        here: usize,
        now: u64,
        out: &mut impl Sink,
    ) -> Option<Result<Stop, ViolationError>> {
        let backend_tag = BackendTag::from_byte(tag);
        let is_whole = length == HEADER + body.len() as u64;
        match backend_tag {
            BackendTag::NotificationResponse | BackendTag::ParameterStatus => return None,
            _other if is_farewell(backend_tag, body) => return None,
            // The client got the notice when it prepared the statement itself.
            BackendTag::NoticeResponse => {
                self.conversation.is_inside_own = !is_whole;
                return Some(Ok(Stop::Replace { length: here, by: None }));
            }
            BackendTag::ErrorResponse if is_whole => {
                if let Some(code) = self.own_canceled(body) {
                    return Some(Ok(Stop::Conflict(code)));
                }
            }
            _other => {}
        }
        let answered = self.own_answered(backend_tag, body, is_whole, now, out);
        Some(answered.map(|by| Stop::Replace { length: here, by }).map_err(|Unexpected| {
            let length = u32::try_from(length - 1).ok();
            FrameError { tag, length, kind: FrameErrorKind::UnknownTag }.into()
        }))
    }

    /// What goes to the client before the present ReadyForQuery.
    #[inline]
    pub(crate) fn messages_before_ready(&mut self, now: u64) -> Option<Bytes> {
        let announce = self.announce.as_mut()?;
        let front = self.conversation.outstanding.front()?;
        let current = match front.request.kind() {
            RequestKind::Query | RequestKind::FunctionCall => Some(Figures {
                timing: self.meter.timing(front.sent, now),
                rows: self.meter.rows,
                bytes: self.meter.bytes,
            }),
            RequestKind::Extended | RequestKind::Sync | RequestKind::CopyEnd => None,
        };
        let bytes = announce.before_ready(current, &self.conversation.server_name)?;
        if self.mobility == Mobility::Movable && self.carried.parameters.told(&bytes).is_err() {
            self.followed().pin(PinReason::SettingsTooLarge);
        }
        Some(bytes)
    }

    /// A message of a session that is not tracked: only what ends it matters.
    fn relayed(&mut self, tag: BackendTag, body: &[u8]) {
        if tag == BackendTag::NoticeResponse {
            self.noticed(body);
        } else if is_farewell(tag, body) {
            self.conversation.farewell = Farewell::Forwarded(ErrorFields::new(body).sqlstate());
        }
    }

    fn server_violation(&self, error: ViolationError) -> Violation {
        let report = self.conversation.scanner.is_at_boundary().then(|| {
            let mut out = BytesMut::new();
            let detail = format!("Server \"{}\" sent a {error}.", self.conversation.server_name);
            let message = "could not follow the messages of the server";
            let report = ErrorReport::fatal(SqlState::CONNECTION_FAILURE, message)
                .with_detail(&detail)
                .with_hint("Connect again. A statement that writes may or may not have taken effect.");
            error_response(&mut out, &report);
            out.freeze()
        });
        Violation { by: Peer::Server, error, report }
    }
}

/// Why a scan stopped.
enum Stop {
    ReadOn,
    Inject(Bytes),
    /// The next `length` bytes, one or more whole messages or the first part of a long one that are handled, do
    /// not go to the client; `by` goes in their place.
    Replace {
        length: usize,
        by: Option<Bytes>,
    },
    Farewell(FarewellScope),
    Conflict(SqlState),
    Refused(StandbyRefusal),
}

impl Stop {
    /// Before anything of an answer is forwarded.
    #[inline]
    fn at_once(decision: AnswerDecision) -> Option<Self> {
        match decision {
            AnswerDecision::Forward => None,
            AnswerDecision::Hold => Some(Self::ReadOn),
            AnswerDecision::Conflict(code) => Some(Self::Conflict(code)),
            AnswerDecision::Refused(why) => Some(Self::Refused(why)),
        }
    }
}

/// A message that answers nothing.
#[cold]
fn unexpected(tag: BackendTag, length: u64) -> FrameError {
    let length = u32::try_from(length - 1).ok();
    FrameError { tag: tag.byte(), length, kind: FrameErrorKind::UnknownTag }
}
