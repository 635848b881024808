//! A transaction that only reads and runs on a standby as a whole: its BEGIN is answered before a server is chosen, and of what
//! follows its first unit nothing goes to the standby that this should not run.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use trunkline_codec::backend::TransactionStatus;
use trunkline_codec::frontend::{Execute, FrontendTag, Parse};
use trunkline_codec::ids::Lsn;
use trunkline_codec::write;

use super::{Messages, Statement, UnitPiece};
use crate::conversation::state::Pipeline;
use crate::limits::{UNIT_BYTES_MAX, UNIT_STATEMENTS_MAX};
use crate::names::{bind_of, compared, parse_of};
use crate::pin::NotRepeatable;
use crate::record::Sink;
use crate::recovery::attempt::Attempt;
use crate::rewritten::Rewritten;
use crate::session::Session;
use crate::sql::plainness::{NotJudged, Plainness};
use crate::sql::transactions::{
    ReadOnlyBegin, WithinReading, begins_read_only, rolls_back_to, within, within_failed,
};
use crate::sql::verdict::may_change_session;
use crate::step::{ClientThen, ServerThen};

/// What is known of the client's next bytes inside such a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionReading {
    /// Not enough of it is there, and there is room for more.
    Incomplete,
    /// So many bytes of it may go to the standby, once that shows the catalog of this position.
    GoesOn(usize, TransactionPiece, Option<Lsn>),
    /// It reads by its words, and the catalog is not known at the moment.
    Unjudged,
    /// Only the primary may run it.
    Other,
}

/// How a piece of what a client sends inside a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionPiece {
    /// Its unit is complete.
    Unit,
    /// With a Flush: more of its unit follows.
    Flushed,
}

impl Session {
    /// The SQL that begins the transaction if the client's next bytes are a Query that begins one which only reads, and nothing else:
    /// its answer is known, so that its server may be chosen by what follows.
    #[must_use]
    pub fn begins_read_only(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.read_only_begin(bytes).map(|begin| begin.sql)
    }

    fn read_only_begin(&self, bytes: &[u8]) -> Option<ReadOnlyBegin> {
        let mut messages = Messages(bytes);
        let UnitPiece::Message(FrontendTag::Query, body) = messages.next() else { return None };
        let sql = body.strip_suffix(b"\0").filter(|_| messages.0.is_empty())?;
        let may_begin = self.may_read_on_standby(TransactionStatus::Idle) && self.carried.functions.is_some();
        begins_read_only(sql, self.access_default()).filter(|_| may_begin)
    }

    /// Answers such a Query in the place of a server, which is to [begin](crate::SessionState::begin) the transaction before
    /// anything else. Returns what goes to the client; `None` if a server has to answer.
    pub fn begin_without_server(&mut self, query: &[u8], now: Instant, out: &mut impl Sink) -> Option<Bytes> {
        let ReadOnlyBegin { tag, sets, .. } = self.read_only_begin(query)?;
        let mut answer = BytesMut::new();
        for tag in [Some(tag), sets.then_some(b"SET")].into_iter().flatten() {
            let written = write::command_complete(&mut answer, tag);
            debug_assert!(written.is_ok(), "the tag is short");
        }
        write::ready_for_query(&mut answer, TransactionStatus::InTransaction);
        self.answer_without_server(query, &answer, now, out)
    }

    /// Takes a unit of the client, and what a server would answer to it.
    pub(super) fn answer_without_server(
        &mut self,
        unit: &[u8],
        answer: &[u8],
        now: Instant,
        out: &mut impl Sink,
    ) -> Option<Bytes> {
        let mut rewritten = Rewritten::default();
        let sent = self.handle_client_renaming(unit, now, &mut rewritten, out);
        if sent.forward != unit.len() || !matches!(sent.then, ClientThen::ReadOn) {
            self.forget_own();
            return None;
        }
        let (mut told, mut rest) = (BytesMut::new(), answer);
        loop {
            let step = self.handle_server_renaming(rest, now, &mut rewritten, out);
            told.extend_from_slice(rewritten.sent(&rest[..step.forward]));
            rest = &rest[step.forward + step.dropped..];
            debug_assert!(matches!(step.then, ServerThen::ReadOn));
            match step.inject {
                Some(bytes) => told.extend_from_slice(&bytes),
                None => break,
            }
        }
        // No server has done anything.
        self.recovery.attempt = Attempt::Idle;
        Some(told.freeze())
    }

    /// Whether the session is between two units of a transaction.
    #[must_use]
    pub fn is_between_units_of_transaction(&self) -> bool {
        let status = self.conversation.status;
        status != TransactionStatus::Idle
            && self.recovery.deferred_error.is_none()
            && self.conversation.own.is_none()
            && self.is_quiet_in(status)
    }

    /// Judges the client's next bytes inside a transaction that only reads, of which none went to its server, a standby.
    #[must_use]
    pub fn read_in_transaction(&self, bytes: &[u8]) -> TransactionReading {
        let mut messages = Messages(bytes);
        let mut statements: Vec<Statement<'_>> = Vec::new();
        loop {
            let (tag, body) = match messages.next() {
                UnitPiece::Message(tag, body) => (tag, body),
                UnitPiece::Part if bytes.len() < UNIT_BYTES_MAX => return TransactionReading::Incomplete,
                UnitPiece::Part | UnitPiece::Broken => return TransactionReading::Other,
            };
            let ends = match tag {
                FrontendTag::Query => {
                    let Some(sql) = body.strip_suffix(b"\0").filter(|_| statements.is_empty()) else {
                        return TransactionReading::Other;
                    };
                    statements.push(Statement { name: b"", sql, types: &[] });
                    Some(TransactionPiece::Unit)
                }
                FrontendTag::Sync => Some(TransactionPiece::Unit),
                FrontendTag::Flush => Some(TransactionPiece::Flushed),
                _extended if self.takes_into(&mut statements, tag, body).is_none() => {
                    return TransactionReading::Other;
                }
                _extended => None,
            };
            if let Some(ends) = ends {
                return self.judge_piece(&statements, bytes.len() - messages.0.len(), ends);
            }
        }
    }

    /// Adds what an extended message runs or prepares; `None` where that is not known.
    pub(super) fn takes_into<'a>(
        &'a self,
        statements: &mut Vec<Statement<'a>>,
        tag: FrontendTag,
        body: &'a [u8],
    ) -> Option<()> {
        if statements.len() >= UNIT_STATEMENTS_MAX {
            return None;
        }
        match tag {
            FrontendTag::Parse => {
                let Parse { name, sql, parameter_types: types } = parse_of(body)?;
                if !name.is_empty() && !self.carried.followed.as_deref()?.prepared.has_room(body.len()) {
                    return None;
                }
                statements.push(Statement { name: compared(name), sql, types });
            }
            FrontendTag::Bind => {
                let statement = bind_of(body)?.statement;
                let of_piece = statements.iter().rev().find(|known| known.name == statement).copied();
                let prepared = || {
                    let prepared = &self.carried.followed.as_deref()?.prepared;
                    prepared.sql_and_types(statement)
                };
                match of_piece {
                    Some(statement) => statements.push(statement),
                    None => {
                        let (sql, types) = prepared()?;
                        statements.push(Statement { name: statement, sql, types });
                    }
                }
            }
            FrontendTag::Execute => {
                // A portal is judged where it is bound.
                Execute::parse(body).ok()?;
            }
            FrontendTag::Describe | FrontendTag::Close => {}
            _other => return None,
        }
        Some(())
    }

    /// Whether a standby may run these, one after the other.
    fn judge_piece(
        &self,
        statements: &[Statement<'_>],
        length: usize,
        ends: TransactionPiece,
    ) -> TransactionReading {
        let is_skipped = self.conversation.pipeline == Pipeline::Skipping;
        let mut is_failed = is_skipped || self.conversation.status == TransactionStatus::Failed;
        let is_read_alike = self.carried.parameters.has_standard_strings();
        let is_utf8 = self.carried.parameters.is_utf8();
        let Some(functions) = &self.carried.functions else { return TransactionReading::Other };
        functions.keep_in_use();
        let mut position = None;
        for Statement { sql, types, .. } in statements {
            if !is_read_alike || !(is_utf8 || sql.is_ascii()) {
                return TransactionReading::Other;
            }
            match if is_failed { within_failed(sql) } else { within(sql) } {
                // What comes behind it runs.
                WithinReading::Harmless => is_failed &= is_skipped || !rolls_back_to(sql),
                // Behind it another transaction begins, which without the answer to a Sync nobody sees.
                WithinReading::Ends
                    if ends == TransactionPiece::Unit && statements.iter().all(|other| other.sql == *sql) => {
                }
                WithinReading::Ends | WithinReading::Other => return TransactionReading::Other,
                WithinReading::Reads | WithinReading::IsRefused => match functions.plainness(sql, types).0 {
                    Plainness::Plain if may_change_session(functions, sql, types) => {
                        return TransactionReading::Other;
                    }
                    Plainness::Plain => position = functions.plainness_position(),
                    Plainness::Unknown(NotJudged::Unread | NotJudged::Changing) => {
                        return TransactionReading::Unjudged;
                    }
                    Plainness::Unknown(NotJudged::NoSuchName | NotJudged::Unscannable)
                    | Plainness::NotPlain(_) => return TransactionReading::Other,
                },
            }
        }
        TransactionReading::GoesOn(length, ends, position)
    }

    /// The transaction, between whose units the session is, fails with `error`, which its next request is answered with.
    pub fn fail_transaction(&mut self, error: Bytes) {
        self.transaction_failed(error);
        self.recovery.attempt = Attempt::Closed(NotRepeatable::Answered);
    }
}
