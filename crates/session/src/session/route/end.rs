//! The end of a transaction that has no server: it has failed, or nothing was done in it.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use trunkline_codec::backend::TransactionStatus;
use trunkline_codec::frontend::{Describe, Execute, FrontendTag, Parse, Target};
use trunkline_codec::write;

use super::{Messages, UnitPiece};
use crate::conversation::own::Dropping;
use crate::names::{bind_of, compared, describe_of};
use crate::record::Sink;
use crate::session::Session;
use crate::sql::read::TransactionEnd;
use crate::sql::transactions::{ends_without_more, is_ignored_once_failed};

const PARSE_COMPLETE: &[u8] = b"1\0\0\0\x04";
const BIND_COMPLETE: &[u8] = b"2\0\0\0\x04";
const NO_PARAMETERS: &[u8] = b"t\0\0\0\x06\0\0";
const NO_DATA: &[u8] = b"n\0\0\0\x04";

/// What a Bind has behind its names that gives no parameters: no formats of theirs, and none of them.
const WITHOUT_PARAMETERS: &[u8] = &[0; 4];

/// How much of such an end has been read that is a series of an unnamed statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EndSeries<'a> {
    NotBegun,
    Parsed,
    Bound(&'a [u8]),
    Executed,
}

impl Session {
    /// Answers the client's next bytes in the place of a server if all that they do is end the transaction that the session is in without
    /// a server. `None` if a server has to.
    pub fn end_without_server(&mut self, unit: &[u8], now: Instant, out: &mut impl Sink) -> Option<Bytes> {
        let mut answer = self.answer_to_end(unit)?;
        write::ready_for_query(&mut answer, TransactionStatus::Idle);
        self.answer_without_server(unit, &answer, now, out)
    }

    /// Whether the client's next unit gets nothing but an error from any server, as the transaction has failed: it neither ends that nor
    /// goes back in it.
    #[must_use]
    pub fn is_ignored_once_failed(&self, unit: &[u8]) -> bool {
        let (mut messages, mut statements) = (Messages(unit), Vec::new());
        loop {
            let UnitPiece::Message(tag, body) = messages.next() else { return false };
            match tag {
                FrontendTag::Query if statements.is_empty() => {
                    return body.strip_suffix(b"\0").is_some_and(is_ignored_once_failed);
                }
                FrontendTag::Sync => break,
                _extended if self.takes_into(&mut statements, tag, body).is_none() => return false,
                _extended => {}
            }
        }
        !statements.is_empty() && statements.iter().all(|statement| is_ignored_once_failed(statement.sql))
    }

    /// All but its ReadyForQuery.
    fn answer_to_end(&self, unit: &[u8]) -> Option<BytesMut> {
        let status = self.conversation.status;
        let is_between = status != TransactionStatus::Idle
            && self.is_quiet_in(status)
            && self.movability().is_ok()
            && self.recovery.deferred_error.is_none()
            && self.client.dropping == Dropping::Nothing;
        if !is_between {
            return None;
        }
        let (mut messages, mut answer) = (Messages(unit), BytesMut::new());
        let (mut series, mut done) = (EndSeries::NotBegun, TransactionEnd::Rollback);
        loop {
            let UnitPiece::Message(tag, body) = messages.next() else { return None };
            match (tag, series) {
                (FrontendTag::Query, EndSeries::NotBegun) => {
                    done = ends_without_more(body.strip_suffix(b"\0")?)?;
                    self.write_end(&mut answer, done);
                    break;
                }
                (FrontendTag::Parse, EndSeries::NotBegun) => {
                    let parse = Parse::parse(body).ok().filter(|parse| parse.name.is_empty())?;
                    done = ends_without_more(parse.sql).filter(|_| parse.parameter_types.is_empty())?;
                    answer.extend_from_slice(PARSE_COMPLETE);
                    series = EndSeries::Parsed;
                }
                (FrontendTag::Bind, EndSeries::Parsed) => {
                    let bind = bind_of(body).filter(|bind| bind.statement.is_empty())?;
                    body.get(bind.portal.len() + 2..)?.strip_prefix(WITHOUT_PARAMETERS)?;
                    answer.extend_from_slice(BIND_COMPLETE);
                    series = EndSeries::Bound(bind.portal);
                }
                (FrontendTag::Describe, EndSeries::Parsed | EndSeries::Bound(_)) => {
                    match (describe_of(body)?, series) {
                        (Describe { kind: Target::Statement, name: b"" }, _) => {
                            answer.extend_from_slice(NO_PARAMETERS);
                        }
                        (Describe { kind: Target::Portal, name }, EndSeries::Bound(portal))
                            if name == portal => {}
                        _another => return None,
                    }
                    answer.extend_from_slice(NO_DATA);
                }
                (FrontendTag::Execute, EndSeries::Bound(portal)) => {
                    Execute::parse(body).ok().filter(|execute| compared(execute.portal) == portal)?;
                    self.write_end(&mut answer, done);
                    series = EndSeries::Executed;
                }
                (FrontendTag::Sync, EndSeries::Executed) => break,
                _other => return None,
            }
        }
        messages.0.is_empty().then_some(answer)
    }

    fn write_end(&self, answer: &mut BytesMut, end: TransactionEnd) {
        let tag: &[u8] = match end {
            TransactionEnd::Commit if self.conversation.status == TransactionStatus::InTransaction => {
                b"COMMIT"
            }
            TransactionEnd::Commit | TransactionEnd::Rollback => b"ROLLBACK",
        };
        let written = write::command_complete(answer, tag);
        debug_assert!(written.is_ok(), "the tag is short");
    }
}
