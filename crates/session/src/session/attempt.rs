//! The request in flight: whether it may be sent again to another server.

use std::time::Instant;

use trunkline_codec::backend::{BackendTag, TransactionStatus};
use trunkline_codec::frontend::FrontendTag;
use trunkline_codec::scan::Piece;
use trunkline_codec::sqlstate::SqlState;

use crate::conversation::farewell::{conflict, shutdown_notice};
use crate::conversation::outstanding::{Request, RequestKind};
use crate::conversation::refusal::refusal;
use crate::conversation::state::{ClientEnd, Mode};
use crate::limits::HELD_BYTES_MAX;
use crate::names::{bind_of, parse_of};
use crate::pin::{NotRepeatable, PinReason};
use crate::recovery::Otherwise;
use crate::recovery::attempt::{Attempt, Flush, Unit};
use crate::session::Session;
use crate::settings::{Mobility, ServerRole};
use crate::sql::Class;
use crate::sql::fingerprint::Fingerprint;
use crate::step::StandbyRefusal;

impl Session {
    /// Whether the session could be moved to another server at its next idle point, whatever is in
    /// progress now.
    ///
    /// # Errors
    /// The reason why it could not.
    pub fn movability(&self) -> Result<(), PinReason> {
        match (self.mode, self.mobility) {
            (Mode::Opaque, _) => Err(PinReason::Replication),
            (Mode::Untracked(reason), _) => Err(reason),
            (Mode::Tracked, Mobility::Fixed) => Err(PinReason::Fixed),
            (Mode::Tracked, Mobility::Movable) => match &self.carried.followed {
                // A session that no longer follows its parameters was pinned, but DISCARD ALL ends that.
                Some(_) if self.carried.parameters.is_given_up() => Err(PinReason::SettingsTooLarge),
                Some(followed) => followed.movability(),
                None => Ok(()),
            },
        }
    }

    /// Whether the request in flight could be sent again to another server, unnoticed: the session
    /// was idle and movable when it began, nothing of its answer was forwarded, and all it does is
    /// read. Only the caller knows whether its server was a standby, and whether all of its bytes are
    /// still at hand.
    ///
    /// The bytes to keep are those forwarded to the server since [`Self::is_before_request`] was
    /// last true, as long as this is `Ok`.
    ///
    /// # Errors
    /// The reason why it could not.
    pub fn repeatable(&self) -> Result<(), NotRepeatable> {
        match self.recovery.attempt {
            Attempt::Idle if self.mobility == Mobility::Fixed => Err(NotRepeatable::Pinned),
            Attempt::Idle => Err(NotRepeatable::Nothing),
            Attempt::Closed(reason) => Err(reason),
            Attempt::Open { .. } if self.client.end != ClientEnd::Open => Err(NotRepeatable::ClientLeft),
            Attempt::Open { .. } => Ok(()),
        }
    }

    /// Whether nothing is in flight, and the client's next byte begins a message.
    #[must_use]
    #[inline]
    pub fn is_before_request(&self) -> bool {
        self.recovery.attempt == Attempt::Idle && self.client.scanner.is_at_boundary()
    }

    /// The fingerprint of a request in a log: the first statement of these messages of the client, its
    /// Query, Parse, or that of the prepared statement it runs.
    #[must_use]
    pub fn fingerprint(&self, mut request: &[u8]) -> Option<Fingerprint> {
        while let Some((&[tag, a, b, c, d], after)) = request.split_first_chunk::<5>() {
            let length = u32::from_be_bytes([a, b, c, d]).checked_sub(4)? as usize;
            let (body, rest) = after.split_at_checked(length)?;
            let sql = match FrontendTag::from_byte(tag) {
                FrontendTag::Query => body.strip_suffix(b"\0"),
                FrontendTag::Parse => parse_of(body).map(|parse| parse.sql),
                FrontendTag::Bind => bind_of(body)
                    .and_then(|bind| self.carried.followed.as_ref()?.prepared.sql(bind.statement)),
                _other => None,
            };
            if let Some(sql) = sql {
                return Some(Fingerprint::of(sql));
            }
            request = rest;
        }
        None
    }

    /// Goes back to the idle point before the request in flight, which is to be sent again: pass in
    /// the client's bytes once more, from its first byte on. Only after [`Self::repeatable`] was
    /// `Ok`.
    pub fn rewind(&mut self, now: Instant) {
        debug_assert_eq!(self.repeatable(), Ok(()));
        let now = self.meter.at(now);
        if let Some(first) = self.conversation.outstanding.front() {
            self.meter.begin_again(first.sent, now);
        }
        self.forget_own();
        while let Some(entry) = self.conversation.outstanding.pop() {
            self.discard(entry);
        }
        self.conversation.server_lost();
        // One that was begun without a server is as it was.
        if self.conversation.status == TransactionStatus::Failed {
            self.conversation.status = TransactionStatus::Idle;
        }
        self.client.rewind();
        self.recovery.attempt = Attempt::Idle;
    }

    /// The next request, which reads, goes to a standby; what that refuses is offered with [`crate::ServerThen::Refused`] until
    /// something of the answer was forwarded. `false` ends that.
    pub fn ask_standby_first(&mut self, asks: bool) {
        self.recovery.otherwise = if asks { Otherwise::Primary } else { Otherwise::Nobody };
    }

    /// The error offered with [`crate::ServerThen::Conflict`] or [`crate::ServerThen::Refused`] goes to the client: pass the
    /// chunk in again.
    pub fn accept_answer(&mut self) {
        self.close_attempt(NotRepeatable::Answered);
    }

    #[inline]
    pub(crate) fn close_attempt(&mut self, why: NotRepeatable) {
        if let Attempt::Open { .. } = self.recovery.attempt {
            self.recovery.attempt = Attempt::Closed(why);
        }
    }

    /// A request goes to the server.
    #[inline]
    pub(crate) fn attempted(&mut self, request: Request, class: Class) {
        self.recovery.attempt = match (self.recovery.attempt, request) {
            (Attempt::Closed(_), _) => return,
            (Attempt::Idle, _) if self.mobility == Mobility::Fixed => Attempt::Closed(NotRepeatable::Pinned),
            (Attempt::Idle | Attempt::Open { .. }, Request::FunctionCall) => {
                Attempt::Closed(NotRepeatable::FunctionCall)
            }
            // What a standby is asked first only reads, or begins a transaction that does.
            (Attempt::Idle | Attempt::Open { .. }, _)
                if !class.is_repeatable() && self.recovery.otherwise == Otherwise::Nobody =>
            {
                Attempt::Closed(NotRepeatable::SideEffects)
            }
            (Attempt::Idle, _) => self.begin(request),
            (Attempt::Open { unit: Unit::Whole, .. }, _) | (Attempt::Open { .. }, Request::Query) => {
                Attempt::Closed(NotRepeatable::SeveralUnits)
            }
            (Attempt::Open { unit: Unit::Begun, flush }, Request::Sync) => {
                Attempt::Open { unit: Unit::Whole, flush }
            }
            (Attempt::Open { unit: Unit::Begun, .. }, _) => return,
        };
    }

    #[inline]
    fn begin(&self, request: Request) -> Attempt {
        let is_movable = self.movability().is_ok() && self.conversation.scanner.is_at_boundary();
        if !is_movable || self.conversation.farewell.is_forwarded() {
            return Attempt::Closed(NotRepeatable::Pinned);
        }
        let unit = match request.kind() {
            RequestKind::Query | RequestKind::Sync => Unit::Whole,
            RequestKind::Extended | RequestKind::FunctionCall | RequestKind::CopyEnd => Unit::Begun,
        };
        Attempt::Open { unit, flush: Flush::NotSent }
    }

    /// The client asks for the answers so far: none may be held back.
    pub(crate) fn flush_sent(&mut self) {
        if let Attempt::Open { flush, .. } = &mut self.recovery.attempt {
            *flush = Flush::Sent;
        }
    }

    /// Looks ahead in the answer to a request that may be repeated. Messages before the first row are
    /// held back, so that the request can still be repeated. A server sends them together with what
    /// follows, unless the client sent a Flush. Rows do not count when the same chunk ends with the
    /// error of a server that shuts down or cancels.
    #[inline]
    pub(crate) fn look_ahead(&self, rest: &[u8]) -> AnswerDecision {
        // All of an answer, which a primary does not give up for the sake of its recovery.
        if self.conversation.role == ServerRole::Primary && ends_well(rest) {
            return AnswerDecision::Forward;
        }
        self.look_at_each(rest)
    }

    fn look_at_each(&self, rest: &[u8]) -> AnswerDecision {
        let mut scanner = self.conversation.scanner.clone();
        let mut at = 0;
        let mut otherwise = AnswerDecision::Hold;
        let asks_standby_first = self.recovery.otherwise == Otherwise::Primary;
        let verdict = loop {
            let (tag, body) = match scanner.next(rest, &mut at) {
                Ok(None) => break otherwise,
                Ok(Some(Piece::Message { tag, body })) => (BackendTag::from_byte(tag), body),
                Ok(Some(Piece::Start { .. } | Piece::More { .. })) | Err(_) => break AnswerDecision::Forward,
            };
            match tag {
                BackendTag::ParseComplete
                | BackendTag::BindComplete
                | BackendTag::RowDescription
                | BackendTag::NoData
                | BackendTag::ParameterDescription => {}
                BackendTag::NoticeResponse if shutdown_notice(body).is_some() || asks_standby_first => {}
                // The statement behind it may be refused.
                BackendTag::CommandComplete if asks_standby_first && is_begin(body) => {}
                BackendTag::ErrorResponse if self.conversation.role == ServerRole::Standby => {
                    let refused = if asks_standby_first { refusal(body) } else { None };
                    let otherwise = refused.map_or(AnswerDecision::Forward, AnswerDecision::Refused);
                    break conflict(body).map_or(otherwise, AnswerDecision::Conflict);
                }
                BackendTag::ReadyForQuery => break AnswerDecision::Forward,
                _decides if self.conversation.role == ServerRole::Primary || ends_well(rest) => {
                    break AnswerDecision::Forward;
                }
                _decides => otherwise = AnswerDecision::Forward,
            }
        };
        // With a Query or Sync and no Flush before it, the server sends more without being asked:
        // the client does not wait for the messages that are held.
        let will_go_on = self.recovery.attempt == Attempt::Open { unit: Unit::Whole, flush: Flush::NotSent };
        match verdict {
            AnswerDecision::Hold if at > 0 && (!will_go_on || rest.len() > HELD_BYTES_MAX) => {
                AnswerDecision::Forward
            }
            decided => decided,
        }
    }
}

/// What to do with the beginning of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerDecision {
    Forward,
    Hold,
    Conflict(SqlState),
    Refused(StandbyRefusal),
}

/// Whether this is the tag of a statement that begins a transaction.
fn is_begin(tag: &[u8]) -> bool {
    tag == b"BEGIN\0" || tag == b"START TRANSACTION\0"
}

/// Whether a chunk has no error at its end: it ends with a ReadyForQuery that does not follow an error or notice,
/// as those end with two NULs.
#[inline]
fn ends_well(chunk: &[u8]) -> bool {
    matches!(chunk, [.., a, b, b'Z', 0, 0, 0, 5, _status] if (a, b) != (&0, &0))
}
