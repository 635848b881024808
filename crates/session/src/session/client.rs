//! What the client sends: [`Session::handle_client`].

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use trunkline_codec::frontend::{Describe, FrontendTag, Target};
use trunkline_codec::scan::{FrameError, FrameErrorKind, Piece, ScanPhase, Scanner};
use trunkline_codec::sqlstate::SqlState;
use trunkline_codec::write::{ErrorReport, error_response};

use super::Session;
use super::naming::Outgoing;
use super::reported::ReportWishes;
use crate::carried::prepared::{MessageExtent, Naming};
use crate::carried::residue::ForeignUnnamed;
use crate::conversation::outstanding::{Entry, Request};
use crate::conversation::own::Dropping;
use crate::conversation::state::{ClientEnd, CopyState, Flow, LongMessage, Mode, Pipeline, Syncs, Tail};
use crate::limits::OUTSTANDING_MAX;
use crate::pin::NotRepeatable;
use crate::record::Sink;
use crate::rewritten::Rewritten;
use crate::settings::StatementNames;
use crate::step::{ClientStep, ClientThen, Peer, Refused, Violation};

/// The client's side: what it has sent, and what it may send.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) scanner: Scanner,
    pub(crate) tail: Tail,
    pub(crate) end: ClientEnd,
    pub(crate) flow: Flow,
    pub(crate) long: LongMessage,
    /// Which of its messages do not go to the server.
    pub(crate) dropping: Dropping,
    /// Nothing of it was forwarded yet.
    pub(crate) is_pristine: bool,
    /// What it says of positions; `None` where its listener tells none.
    pub(crate) wishes: Option<ReportWishes>,
}

impl Client {
    /// The client of a session whose login is complete.
    pub(crate) fn new() -> Self {
        Client {
            scanner: scanner_of_a_client(),
            tail: Tail::Empty,
            end: ClientEnd::Open,
            flow: Flow::Open,
            long: LongMessage::Other,
            dropping: Dropping::Nothing,
            is_pristine: true,
            wishes: None,
        }
    }

    /// Its request in flight is to be sent again, from its first byte on.
    pub(crate) fn rewind(&mut self) {
        self.scanner = scanner_of_a_client();
        self.tail = Tail::Empty;
        self.flow = Flow::Open;
        self.long = LongMessage::Other;
    }
}

fn scanner_of_a_client() -> Scanner {
    let mut scanner = Scanner::frontend();
    scanner.set_phase(ScanPhase::Normal);
    scanner
}

impl Session {
    /// Takes what the client sent: the unforwarded rest of the last chunk, and what came since. For sessions with
    /// [`StatementNames::OfClient`].
    pub fn handle_client(&mut self, chunk: &[u8], now: Instant, out: &mut impl Sink) -> ClientStep {
        debug_assert_eq!(self.names, StatementNames::OfClient);
        self.handle_client_renaming(chunk, now, &mut Rewritten::default(), out)
    }

    /// The same for all sessions. What goes to the server of the bytes that the step forwards is what `rewritten` has
    /// [sent](Rewritten::sent) for them.
    pub fn handle_client_renaming(
        &mut self,
        chunk: &[u8],
        now: Instant,
        rewritten: &mut Rewritten,
        out: &mut impl Sink,
    ) -> ClientStep {
        let sent = self.meter.at(now);
        let mut at = 0;
        rewritten.begin();
        let then =
            self.scan_client(chunk, &mut at, sent, rewritten).unwrap_or_else(|error| match error.kind {
                FrameErrorKind::UnknownTag => {
                    at += 1;
                    self.sent_unknown();
                    ClientThen::Unknown(error)
                }
                FrameErrorKind::LengthTooSmall
                | FrameErrorKind::TooLong { .. }
                | FrameErrorKind::OldStyleError => {
                    self.finish(now, out);
                    ClientThen::Violation(Box::new(self.client_violation(error)))
                }
            });
        let taken = if let ClientThen::Refuse(refused) = &then { refused.dropped } else { at };
        self.client.tail = Tail::of(chunk, taken);
        if at > 0 {
            self.client.is_pristine = false;
            if let Some(followed) = &mut self.carried.followed {
                followed.unsettled.stays();
            }
        }
        rewritten.end(chunk, at);
        ClientStep { forward: at, then }
    }

    fn scan_client(
        &mut self,
        chunk: &[u8],
        at: &mut usize,
        sent: u64,
        rewritten: &mut Rewritten,
    ) -> Result<ClientThen, FrameError> {
        if self.is_paused() {
            return Ok(ClientThen::Pause);
        }
        self.client.flow = Flow::Open;
        if self.recovery.deferred_error.is_some() {
            if let Some(refused) = self.refuse(chunk)? {
                return Ok(ClientThen::Refuse(Box::new(refused)));
            }
            // Its request is not complete yet.
            if self.recovery.deferred_error.is_some() {
                return Ok(ClientThen::ReadOn);
            }
        }
        if self.client.dropping != Dropping::Nothing {
            return self.drop_answered(chunk);
        }
        loop {
            if self.conversation.outstanding.len() >= OUTSTANDING_MAX && self.client.scanner.is_at_boundary()
            {
                self.client.flow = Flow::Full;
                return Ok(ClientThen::Pause);
            }
            let before = (*at, self.client.scanner.clone());
            let (tag, body, length) = match self.client.scanner.next(chunk, at)? {
                None => return Ok(ClientThen::ReadOn),
                Some(Piece::Message { tag, body }) => (tag, body, body.len()),
                Some(Piece::Start { tag, body_len, body }) => (tag, body, body_len as usize),
                Some(Piece::More { body, is_last }) => {
                    self.follow_long(body, is_last);
                    continue;
                }
            };
            let tag = FrontendTag::from_byte(tag);
            if tag == FrontendTag::Terminate {
                self.client.end = ClientEnd::Terminated;
                return Ok(ClientThen::Terminate);
            }
            if self.waits_for_report(tag) {
                (*at, self.client.scanner) = before;
                return Ok(ClientThen::Pause);
            }
            let mut naming = Naming::Same;
            let has_foreign = self.residue.unnamed == ForeignUnnamed::Present;
            if self.names != StatementNames::OfClient || has_foreign || self.may_need_more() {
                naming = match self.named_and_ready((tag, body, length), &chunk[*at..], sent) {
                    Ok(naming) => naming,
                    Err(first) => {
                        (*at, self.client.scanner) = before;
                        return Ok(first);
                    }
                };
            }
            if self.mode == Mode::Tracked {
                self.sent(tag, body, length, sent);
            }
            if naming != Naming::Same {
                let message = Outgoing { tag, body, length, chunk, range: before.0..*at };
                self.rename(naming, &message, rewritten);
            }
        }
    }

    /// What a message becomes on its way to a server that may lack what it needs, or has its statements under other names;
    /// otherwise what comes first.
    #[inline(never)]
    fn named_and_ready(
        &mut self,
        (tag, body, length): (FrontendTag, &[u8], usize),
        behind: &[u8],
        sent: u64,
    ) -> Result<Naming, ClientThen> {
        let message = (tag, body, MessageExtent::of(body, length));
        let naming = match self.names {
            StatementNames::OfClient => Naming::Same,
            StatementNames::OfContent { .. } => self.naming(message),
        };
        if naming.needs_answers()
            && let Some(first) = self.settles_first(tag, body, sent)
        {
            return Err(first);
        }
        let has_foreign = self.residue.unnamed == ForeignUnnamed::Present;
        let is_plain = || {
            naming == Naming::Same
                && (tag == FrontendTag::Parse || !has_foreign)
                && self.needs_nothing_first(tag, body)
        };
        if (self.may_need_more() || has_foreign || naming == Naming::First)
            && !is_plain()
            && let Some(first) = self.comes_first(message, behind, sent)
        {
            return Err(first);
        }
        Ok(if naming.needs_answers() { self.naming_after_all(message) } else { naming })
    }

    /// A Query was answered with the error for a statement that it needs: it does not go to the server.
    #[cold]
    fn drop_answered(&mut self, chunk: &[u8]) -> Result<ClientThen, FrameError> {
        let mut dropped = 0;
        while self.client.dropping != Dropping::Nothing {
            self.client.dropping = match self.client.scanner.next(chunk, &mut dropped)? {
                None if dropped == 0 => return Ok(ClientThen::ReadOn),
                None => break,
                Some(Piece::Message { .. } | Piece::More { is_last: true, .. }) => Dropping::Nothing,
                Some(Piece::Start { .. } | Piece::More { is_last: false, .. }) => Dropping::Rest,
            };
        }
        Ok(ClientThen::Refuse(Box::new(Refused { dropped, answer: Bytes::new(), is_end: false })))
    }

    /// One message goes to the server. Of a large one `body` is the first part.
    #[inline]
    fn sent(&mut self, tag: FrontendTag, body: &[u8], length: usize, sent: u64) {
        if self.residue.unnamed != ForeignUnnamed::None {
            self.replaces_foreign_unnamed(tag, body);
        }
        if self.conversation.pipeline == Pipeline::Skipping {
            return self.conversation.sent_while_skipping(tag, sent);
        }
        match self.conversation.copy {
            CopyState::None | CopyState::InEnded(_) | CopyState::Out => {}
            CopyState::In(syncs) => {
                if self.sent_as_copy_data(tag, length, syncs) {
                    return;
                }
            }
            CopyState::Both => match tag {
                FrontendTag::CopyData | FrontendTag::CopyDone | FrontendTag::CopyFail => return,
                _other => {}
            },
        }
        let request = match tag {
            FrontendTag::Query => Request::Query,
            FrontendTag::Parse => Request::Parse,
            FrontendTag::Bind => Request::Bind,
            FrontendTag::Describe => match Describe::parse(body).map(|describe| describe.kind) {
                Ok(Target::Statement) => Request::DescribeStatement,
                Ok(Target::Portal) | Err(_) => Request::DescribePortal,
            },
            FrontendTag::Execute => Request::Execute,
            FrontendTag::Close => Request::Close,
            FrontendTag::Sync => Request::Sync,
            FrontendTag::FunctionCall => Request::FunctionCall,
            FrontendTag::Flush if length > 0 => Request::BrokenFlush,
            // Outside COPY the server ignores these, and whether it is outside is known only once
            // the request before them is answered.
            FrontendTag::CopyDone | FrontendTag::CopyFail if !self.conversation.outstanding.is_empty() => {
                Request::CopyEnd
            }
            FrontendTag::CopyDone | FrontendTag::CopyFail => return,
            FrontendTag::Flush => return self.flush_sent(),
            FrontendTag::CopyData => return,
            // Refused by the scanner, or handled before.
            FrontendTag::Password | FrontendTag::Terminate | FrontendTag::Unknown(_) => return,
        };
        let (text, class) = self.follow_sent(request, body, length == body.len());
        if !class.is_repeatable() {
            self.may_use_sequences();
        }
        self.attempted(request, class);
        self.sample(request, body, sent);
        self.conversation.outstanding.push(Entry { sent, text, request, class });
    }

    /// Whether a server that reads COPY data takes the message without answering it. Anything else
    /// it answers with an error.
    fn sent_as_copy_data(&mut self, tag: FrontendTag, length: usize, syncs: Syncs) -> bool {
        match tag {
            FrontendTag::CopyData => {}
            FrontendTag::Flush if length == 0 => {}
            FrontendTag::Flush | FrontendTag::Sync => self.conversation.copy = CopyState::In(Syncs::Lost),
            FrontendTag::CopyDone | FrontendTag::CopyFail => {
                self.conversation.copy = CopyState::InEnded(syncs)
            }
            FrontendTag::Query
            | FrontendTag::Parse
            | FrontendTag::Bind
            | FrontendTag::Describe
            | FrontendTag::Execute
            | FrontendTag::Close
            | FrontendTag::FunctionCall
            | FrontendTag::Password
            | FrontendTag::Terminate
            | FrontendTag::Unknown(_) => {
                // Either the COPY has failed and its error is on the way, or this ends the session.
                self.conversation.copy = CopyState::InEnded(syncs);
                return false;
            }
        }
        true
    }

    /// The type byte of a message that no server knows is the last that goes to it: a server looks at the type before
    /// all else, once it has answered what came before, so its own refusal ends the session where it would end there.
    /// Source: PostgreSQL 18, src/backend/tcop/postgres.c, `SocketBackend`.
    #[cold]
    fn sent_unknown(&mut self) {
        self.client.end = ClientEnd::Refused;
        self.close_attempt(NotRepeatable::ClientLeft);
    }

    fn client_violation(&self, error: FrameError) -> Violation {
        let report = self.conversation.scanner.is_at_boundary().then(|| {
            let mut out = BytesMut::new();
            let message = "could not follow the messages of the client";
            let detail = format!("The client sent a {error}.");
            let report = ErrorReport::fatal(SqlState::PROTOCOL_VIOLATION, message)
                .with_detail(&detail)
                .with_hint("Check the driver: a message was malformed or its length is over the limit.");
            error_response(&mut out, &report);
            out.freeze()
        });
        Violation { by: Peer::Client, error: error.into(), report }
    }
}
