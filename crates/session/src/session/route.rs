//! What the client's next unit does, before a server is chosen for it: whether a standby may be asked first.
//!
//! A unit is a Query, or extended messages up to their Sync. Only one that is at hand as a whole, with nothing behind it, is
//! judged: [`Session::read_unit`]. What the client says of it is in `hints`. Anything that is not proven to read is the primary's.

use trunkline_codec::backend::TransactionStatus;
use trunkline_codec::frontend::{Describe, Execute, FrontendTag, Parse, Target};

use self::defaults::may_be_on_standby;
pub use self::transaction::{TransactionPiece, TransactionReading};
use super::Session;
use crate::carried::followed::Followed;
use crate::carried::residue::{RoleReport, RoleTold};
use crate::conversation::own::Dropping;
use crate::limits::{UNIT_BYTES_MAX, UNIT_STATEMENTS_MAX};
use crate::names::{bind_of, compared, describe_of};
use crate::sql::functions::Functions;
use crate::sql::hinted::may_say_something;
use crate::sql::known_reads::KnownReads;
use crate::sql::plainness::NotJudged;
use crate::sql::reads::{NoRead, is_of_settings};
use crate::sql::transactions::{begins_read_only, begins_read_only_by, begins_transaction};
use crate::sql::verdict::{CatalogProof, ReadUnit, StatementVerdict, judge};

/// What is known of the client's next unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitReading {
    /// Not all of it is there, and there is room for more.
    Incomplete,
    /// All that it does is read, as far as the primary's catalog and its words tell. A standby refuses what it may write.
    Reads(ReadUnit),
    /// The primary's.
    Other(NotProven),
}

/// Why a unit is not proven to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotProven {
    /// It begins a transaction.
    Transaction,
    /// It writes, or what it does is not known.
    Unknown,
    /// It reads by its words, and the catalog is not known at the moment.
    Unjudged,
    /// It does nothing but with the session's settings.
    Settings,
    /// The session has what only the primary can go on with.
    Session,
}

/// What the keys of units that begin a transaction begin with.
const TRANSACTION_KEY: u64 = 0x5452_414e_5341_4354;

/// A statement that a unit runs, describes or prepares.
#[derive(Clone, Copy)]
struct Statement<'a> {
    name: &'a [u8],
    sql: &'a [u8],
    types: &'a [u8],
}

/// The whole messages at the beginning of the client's bytes.
struct Messages<'a>(&'a [u8]);

/// What comes next of the client's bytes.
enum UnitPiece<'a> {
    Message(FrontendTag, &'a [u8]),
    Part,
    Broken,
}

impl<'a> Messages<'a> {
    fn next(&mut self) -> UnitPiece<'a> {
        let Some((&[tag, a, b, c, d], after)) = self.0.split_first_chunk::<5>() else {
            return UnitPiece::Part;
        };
        let length = u32::from_be_bytes([a, b, c, d]);
        let Some(length) = length.checked_sub(4).and_then(|length| usize::try_from(length).ok()) else {
            return UnitPiece::Broken;
        };
        if length > UNIT_BYTES_MAX {
            return UnitPiece::Broken;
        }
        let Some((body, rest)) = after.split_at_checked(length) else { return UnitPiece::Part };
        self.0 = rest;
        UnitPiece::Message(FrontendTag::from_byte(tag), body)
    }
}

/// How statements are judged.
enum Judgement<'k> {
    /// By the catalog, and by what is known of statements from before.
    ByCatalog(&'k mut KnownReads),
    /// By their words alone.
    ByWords,
}

impl Judgement<'_> {
    fn of<'a>(&mut self, functions: &Functions, sql: &'a [u8], types: &[u8]) -> StatementVerdict<'a> {
        let Judgement::ByCatalog(known) = self else {
            return judge(functions, sql, types, CatalogProof::Waived);
        };
        if let Some(read) = known.get(functions, sql, types) {
            return StatementVerdict::Reads(read);
        }
        let verdict = judge(functions, sql, types, CatalogProof::Needed);
        if let StatementVerdict::Reads(read) = verdict {
            known.keep(functions, sql, types, read);
        }
        verdict
    }
}

/// The statements of a unit, in its order.
struct Statements<'a> {
    all: Vec<Statement<'a>>,
    /// Portals that it binds.
    portals: Vec<&'a [u8]>,
    /// Perhaps not all rows of one are asked for.
    is_limited: bool,
}

impl Session {
    /// Judges the client's next bytes, of which nothing was forwarded, while the session has no server. `Other` is always
    /// right, and final once it was said of the beginning of a unit.
    /// `known` are the statements that sessions of this thread have sent before.
    #[must_use]
    pub fn read_unit(&self, bytes: &[u8], known: &mut KnownReads) -> UnitReading {
        self.read_unit_by(bytes, &mut Judgement::ByCatalog(known))
    }

    /// The same where the client says that a standby answers as the primary does: the words decide alone.
    #[must_use]
    pub fn read_trusted_unit(&self, bytes: &[u8]) -> UnitReading {
        self.read_unit_by(bytes, &mut Judgement::ByWords)
    }

    fn read_unit_by(&self, bytes: &[u8], by: &mut Judgement<'_>) -> UnitReading {
        // One whose BEGIN was answered without a server has its status.
        let status = self.conversation.status;
        if status == TransactionStatus::Failed || !self.may_read_on_standby(status) {
            return UnitReading::Other(NotProven::Session);
        }
        let unknown = UnitReading::Other(NotProven::Unknown);
        let mut messages = Messages(bytes);
        let mut statements = Statements { all: Vec::new(), portals: Vec::new(), is_limited: false };
        loop {
            let is_first = statements.all.is_empty() && statements.portals.is_empty();
            let (tag, body) = match messages.next() {
                UnitPiece::Message(tag, body) => (tag, body),
                UnitPiece::Part if bytes.len() < UNIT_BYTES_MAX => return UnitReading::Incomplete,
                UnitPiece::Part | UnitPiece::Broken => return unknown,
            };
            let is_end = match tag {
                FrontendTag::Query if is_first => match body.strip_suffix(b"\0") {
                    Some(sql) => {
                        statements.all.push(Statement { name: b"", sql, types: &[] });
                        true
                    }
                    None => return unknown,
                },
                FrontendTag::Sync => true,
                _extended => {
                    if self.take_extended(tag, body, &mut statements).is_none() {
                        return unknown;
                    }
                    false
                }
            };
            if is_end && !messages.0.is_empty() {
                // What follows may need its answer.
                return unknown;
            }
            if is_end {
                return self.judge(&statements, by);
            }
        }
    }

    /// Units may go to standbys from now on. Has the catalog read that they are judged by. The client is told that it is on a
    /// primary, as at its login.
    pub fn expect_reads(&mut self) {
        self.carried.marks.tell_role(RoleTold::AtLogin(RoleReport::AtLogin));
        if let Some(functions) = &self.carried.functions {
            functions.keep_in_use();
            // The answer does not matter.
            let _unread = functions.plainness(b"SELECT", &[]);
        }
    }

    /// Whether the session is where a unit may go to a standby in a transaction of this status, and its settings are not the
    /// primary's matter.
    fn may_read_on_standby(&self, status: TransactionStatus) -> bool {
        let followed = self.carried.followed.as_deref();
        let settings = followed.and_then(|followed| followed.settings());
        let has_primarys_setting = settings.is_some_and(|settings| {
            settings.has(b"standard_conforming_strings") || !may_be_on_standby(settings)
        });
        self.is_quiet_in(status)
            && self.movability().is_ok()
            && self.recovery.deferred_error.is_none()
            && self.client.dropping == Dropping::Nothing
            && !has_primarys_setting
            && self.carried.parameters.has_standard_strings()
    }

    /// Adds what an extended message runs; `None` where that is not known.
    fn take_extended<'a>(
        &'a self,
        tag: FrontendTag,
        body: &'a [u8],
        statements: &mut Statements<'a>,
    ) -> Option<()> {
        if statements.all.len() >= UNIT_STATEMENTS_MAX || statements.portals.len() >= UNIT_STATEMENTS_MAX {
            return None;
        }
        match tag {
            FrontendTag::Parse => {
                let parse = Parse::parse(body).ok()?;
                // One that is not kept pins the session to where it was prepared, and a name that is taken is refused.
                let has_room = |followed: &Followed| {
                    followed.prepared.has_room(body.len()) && followed.prepared.sql(parse.name).is_none()
                };
                if !parse.name.is_empty() && !self.carried.followed.as_deref().is_some_and(has_room) {
                    return None;
                }
                statements.all.push(Statement {
                    name: compared(parse.name),
                    sql: parse.sql,
                    types: parse.parameter_types,
                });
            }
            FrontendTag::Bind => {
                let bind = bind_of(body)?;
                statements.portals.push(bind.portal);
                self.take_named(bind.statement, statements)?;
            }
            FrontendTag::Describe => {
                let Describe { kind, name } = describe_of(body)?;
                match kind {
                    Target::Statement => self.take_named(name, statements)?,
                    Target::Portal if statements.portals.contains(&name) => {}
                    Target::Portal => return None,
                }
            }
            FrontendTag::Execute => {
                let execute = Execute::parse(body).ok()?;
                let is_bound = statements.portals.contains(&compared(execute.portal));
                if !is_bound {
                    return None;
                }
                // Outside a transaction the Sync of the unit ends it: its other rows are never asked for.
                statements.is_limited |= execute.max_rows > 0;
            }
            FrontendTag::Close => {}
            // A Flush asks for answers before the unit is whole; of the others none reads.
            _other => return None,
        }
        Some(())
    }

    /// Adds a statement by its name: that of this unit, or the one that the session has.
    fn take_named<'a>(&'a self, name: &'a [u8], statements: &mut Statements<'a>) -> Option<()> {
        let of_unit = statements.all.iter().rev().find(|statement| statement.name == name).copied();
        let statement = match of_unit {
            Some(statement) => statement,
            None => {
                let prepared = &self.carried.followed.as_deref()?.prepared;
                let (sql, types) = prepared.sql_and_types(name)?;
                Statement { name, sql, types }
            }
        };
        statements.all.push(statement);
        Some(())
    }

    /// How many of the statements begin a transaction and say what it is, and whether it only reads.
    fn begins_within(&self, statements: &[Statement<'_>]) -> (usize, bool) {
        let default = self.access_default();
        let (mut begun, mut is_read_only) = (None, false);
        for (number, Statement { sql, .. }) in statements.iter().enumerate() {
            if begins_transaction(sql) {
                begun = Some(*sql);
                is_read_only = begins_read_only(sql, default).is_some();
            } else if begun.is_some_and(|begun| begins_read_only_by(begun, sql, default)) {
                is_read_only = true;
            } else {
                return (number, is_read_only);
            }
        }
        (statements.len(), is_read_only)
    }

    fn judge(&self, statements: &Statements<'_>, by: &mut Judgement<'_>) -> UnitReading {
        let unknown = UnitReading::Other(NotProven::Unknown);
        let Some(functions) = &self.carried.functions else { return unknown };
        // The reader rests where nothing asks for it.
        functions.keep_in_use();
        let is_utf8 = self.carried.parameters.is_utf8();
        let status = self.conversation.status;
        let mut is_within = status == TransactionStatus::InTransaction;
        let mut unit: Option<ReadUnit> = None;
        let mut first = 0;
        if status == TransactionStatus::Idle {
            // As if its BEGIN had been answered before the rest came.
            (first, is_within) = self.begins_within(&statements.all);
            if first > 0 && !is_within {
                return UnitReading::Other(NotProven::Transaction);
            }
        }
        let begins_silently = statements.all[..first].iter().all(|begin| !may_say_something(begin.sql));
        for Statement { sql, types, .. } in &statements.all[first..] {
            match by.of(functions, sql, types) {
                StatementVerdict::NoRead(NoRead::BeginsTransaction) => {
                    return UnitReading::Other(NotProven::Transaction);
                }
                StatementVerdict::Reads(_) | StatementVerdict::Unknown(_) if !is_utf8 && !sql.is_ascii() => {
                    return unknown;
                }
                StatementVerdict::Reads(read) => {
                    unit = match unit {
                        None => Some(read),
                        Some(unit) => unit.and(read),
                    };
                    if unit.is_none() {
                        return unknown;
                    }
                }
                StatementVerdict::NoRead(NoRead::Word(_))
                    if status == TransactionStatus::Idle
                        && statements.all.iter().all(|statement| is_of_settings(statement.sql)) =>
                {
                    return UnitReading::Other(NotProven::Settings);
                }
                StatementVerdict::Unknown(NotJudged::Unread | NotJudged::Changing) => {
                    return UnitReading::Other(NotProven::Unjudged);
                }
                StatementVerdict::Unknown(NotJudged::NoSuchName | NotJudged::Unscannable)
                | StatementVerdict::NotPlain(_)
                | StatementVerdict::NoRead(_) => return unknown,
            }
        }
        match unit.map(ReadUnit::whole) {
            // A portal that is suspended goes on in the transaction's next unit.
            Some(_) if is_within && statements.is_limited => unknown,
            Some(unit) => UnitReading::Reads(ReadUnit {
                key: if is_within { unit.key ^ TRANSACTION_KEY } else { unit.key },
                may_call_what_writes: unit.may_call_what_writes || statements.is_limited,
                says_nothing: unit.says_nothing && begins_silently,
                ..unit
            }),
            None if is_within => UnitReading::Other(NotProven::Transaction),
            None => unknown,
        }
    }
}

mod defaults;
mod end;
mod hints;
mod transaction;

#[cfg(test)]
mod tests;
