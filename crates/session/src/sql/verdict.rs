//! What a statement does on a listener that chooses a server for each request: by its words, and then by the catalog.

use std::sync::Arc;

use trunkline_codec::ids::Lsn;

use super::calls::{CalledNames, calls, plain};
use super::fingerprint::Fingerprint;
use super::functions::Functions;
use super::hinted::may_say_something;
use super::plainness::{NotJudged, Plainness, PlainnessEpoch};
use super::read::read;
use super::reads::{NoRead, is_read};

/// A unit that reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadUnit {
    /// The same for units that run the same statements in the same order, but for constants, and were judged by the same catalog: by
    /// another, a function may do something else. Another one for those that begin a transaction.
    pub key: u64,
    /// The WAL position of the catalog it was judged by: a standby that has not replayed it may have other objects.
    pub position: Option<Lsn>,
    /// The catalog that it was judged by.
    pub epoch: PlainnessEpoch,
    /// It calls functions by their names that may write, which the primary runs without a word, or that it does not do so is
    /// not known by its having run: not all rows of it are asked for.
    pub may_call_what_writes: bool,
    /// What it runs is the same for all sessions of a user and database with the same settings.
    pub reads_tables_alone: bool,
    /// Its text says nothing of where it wants to go: it does not begin with a comment.
    pub says_nothing: bool,
}

impl ReadUnit {
    /// One that does nothing but with the session's settings: no server writes for it.
    pub const OF_SETTINGS: ReadUnit = ReadUnit {
        key: 0,
        position: None,
        epoch: PlainnessEpoch::NONE,
        may_call_what_writes: false,
        reads_tables_alone: false,
        says_nothing: false,
    };

    /// A unit that goes on with this statement; `None` if that was judged by another catalog.
    pub(crate) fn and(self, next: ReadUnit) -> Option<ReadUnit> {
        (self.epoch == next.epoch).then_some(ReadUnit {
            key: self.key.rotate_left(7) ^ next.key,
            may_call_what_writes: self.may_call_what_writes || next.may_call_what_writes,
            reads_tables_alone: self.reads_tables_alone && next.reads_tables_alone,
            says_nothing: self.says_nothing && next.says_nothing,
            ..next
        })
    }

    /// The unit, once it has all of its statements: its key is another one under another catalog.
    pub(crate) fn whole(self) -> ReadUnit {
        ReadUnit { key: self.key ^ mark(self.position), ..self }
    }
}

/// A number of a catalog: by the golden ratio, so that near positions differ in many of their bits.
fn mark(position: Option<Lsn>) -> u64 {
    position.map_or(0, |Lsn(position)| position.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Whether the catalog has to say that a standby answers as the primary does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CatalogProof {
    Needed,
    /// The client says it.
    Waived,
}

/// What one statement does.
#[derive(Debug)]
pub(crate) enum StatementVerdict<'a> {
    /// It reads, as far as its words and the catalog tell. The key is its own.
    Reads(ReadUnit),
    /// Its words do more.
    NoRead(NoRead<'a>),
    /// What it names is not known.
    Unknown(NotJudged),
    /// It uses this object, which a standby does differently.
    NotPlain(Arc<str>),
}

/// Judges a statement, whose parameters were declared with these types.
pub(crate) fn judge<'a>(
    functions: &Functions,
    sql: &'a [u8],
    types: &[u8],
    proof: CatalogProof,
) -> StatementVerdict<'a> {
    if let Err(why) = is_read(sql) {
        return StatementVerdict::NoRead(why);
    }
    let (verdict, epoch) = functions.plainness(sql, types);
    // What is not plain by itself has a name.
    let would_read = verdict == Plainness::Plain || proof == CatalogProof::Waived;
    if would_read && may_change_session(functions, sql, types) {
        return StatementVerdict::NotPlain("what may change the session".into());
    }
    match verdict {
        Plainness::Plain => StatementVerdict::Reads(ReadUnit {
            key: Fingerprint::of(sql).bits(),
            position: functions.plainness_position(),
            epoch,
            may_call_what_writes: functions.may_call_what_writes(sql),
            reads_tables_alone: functions.reads_tables_alone(sql),
            says_nothing: !may_say_something(sql),
        }),
        _trusted if proof == CatalogProof::Waived => StatementVerdict::Reads(ReadUnit {
            key: Fingerprint::of(sql).bits(),
            position: functions.plainness_position().or(Some(Lsn(0))),
            epoch,
            may_call_what_writes: true,
            reads_tables_alone: false,
            says_nothing: !may_say_something(sql),
        }),
        Plainness::Unknown(why) => StatementVerdict::Unknown(why),
        Plainness::NotPlain(cause) => StatementVerdict::NotPlain(cause),
    }
}

/// Whether a statement may change its session by what it calls. More counts here than for standbys: a function whose source has the name
/// of a table with a rule may use the rule. A session that it keeps on its server cannot leave a standby, and what that refuses cannot
/// run elsewhere.
pub(crate) fn may_change_session(functions: &Functions, sql: &[u8], types: &[u8]) -> bool {
    let Some(mut found) = calls(sql, functions, &mut CalledNames::default()) else { return false };
    if found.watches_types {
        found.add_types(types, functions);
    }
    found.effect.changes_session()
}

/// What SQL does on a listener that chooses a server for each request, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SqlExplained {
    /// It reads, as far as its words and the catalog tell.
    Reads(ReadUnit),
    /// It begins a transaction.
    BeginsTransaction,
    /// By its words it does more than read, or may: why.
    Words(String),
    /// It uses an object that a standby does differently.
    NotPlain {
        /// The object, and why.
        cause: Arc<str>,
        /// The name or operator in the SQL that leads to it; `None` if nothing is named, as with a cast.
        by: Option<String>,
    },
    /// What it does is not known.
    NotJudged {
        /// Why.
        why: NotJudged,
        /// The name that decided.
        name: Option<String>,
    },
}

impl Functions {
    /// What SQL does as a request of its own, by the judgement that sessions go by.
    #[must_use]
    pub fn explain(&self, sql: &[u8]) -> SqlExplained {
        // The reader rests where nothing asks for it.
        self.keep_in_use();
        match judge(self, sql, &[], CatalogProof::Needed) {
            StatementVerdict::Reads(statement) => SqlExplained::Reads(statement.whole()),
            StatementVerdict::NoRead(NoRead::BeginsTransaction) => SqlExplained::BeginsTransaction,
            StatementVerdict::NoRead(why) => SqlExplained::Words(in_words(&why, sql)),
            StatementVerdict::NotPlain(cause) => SqlExplained::NotPlain { cause, by: self.deciding(sql) },
            StatementVerdict::Unknown(why) => {
                let name = match why {
                    NotJudged::NoSuchName => self.deciding(sql),
                    NotJudged::Unread | NotJudged::Changing | NotJudged::Unscannable => None,
                };
                SqlExplained::NotJudged { why, name }
            }
        }
    }

    /// The name or operator in the SQL that decides whether it is plain.
    fn deciding(&self, sql: &[u8]) -> Option<String> {
        let loaded = self.load();
        let (_verdict, place) = plain::judge_with_place(sql, &[], loaded.plainness.as_ref()?);
        Some(String::from_utf8_lossy(sql.get(place?)?).into_owned())
    }
}

fn in_words(why: &NoRead<'_>, sql: &[u8]) -> String {
    match why {
        NoRead::BeginsTransaction => "it begins a transaction".to_owned(),
        NoRead::Word(word) => {
            format!("{} does more than read, or may", String::from_utf8_lossy(word).to_ascii_uppercase())
        }
        NoRead::Several => "it has several statements".to_owned(),
        NoRead::Nothing => "it has no statement".to_owned(),
        NoRead::Unclear => "its text cannot be split into words".to_owned(),
        NoRead::Effect => match read(sql).pins.first() {
            Some(pin) => format!("it changes the session, or may be done once only: {pin}"),
            None => "it changes the session, or may be done once only".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::functions::{FunctionCatalog, UnlistedFunctions};
    use crate::sql::plainness::PlainnessCatalog;

    /// With the relation `t`, the view `report`, and the operator `<~>`, as the catalog was at this position.
    fn functions(position: u64) -> Functions {
        let plainness = PlainnessCatalog {
            relations: [b"t"[..].into(), b"report"[..].into()].into(),
            words: [(b"report"[..].into(), "function tell (asks for recovery)".into())].into(),
            operators: [(b"<~>"[..].into(), "function near (in C)".into())].into(),
            position: Some(Lsn(position)),
            ..PlainnessCatalog::default()
        };
        let functions = Functions::new(FunctionCatalog::unread(Arc::default(), UnlistedFunctions::Unread));
        assert_eq!(
            functions.explain(b"SELECT 1"),
            SqlExplained::NotJudged { why: NotJudged::Changing, name: None },
            "nobody has looked"
        );
        let number = functions.look_begins();
        let catalog = FunctionCatalog {
            plainness: Some(plainness),
            ..FunctionCatalog::unread(Arc::default(), UnlistedFunctions::Unread)
        };
        functions.look_ended(number, Some(catalog));
        functions
    }

    #[test]
    fn what_decides_is_named() {
        let functions = functions(100);
        for (sql, expected) in [
            ("BEGIN", "BeginsTransaction"),
            ("insert into t values (1)", "Words(\"INSERT does more than read, or may\")"),
            ("SELECT * FROM t FOR UPDATE", "Words(\"UPDATE does more than read, or may\")"),
            ("SHOW search_path", "Words(\"SHOW does more than read, or may\")"),
            ("SELECT 1; SELECT 2", "Words(\"it has several statements\")"),
            (" ; ", "Words(\"it has no statement\")"),
            ("SELECT 'a", "Words(\"its text cannot be split into words\")"),
            (
                "SELECT pg_advisory_lock(1)",
                "Words(\"it changes the session, or may be done once only: advisory lock\")",
            ),
            (
                "SELECT * FROM public.report",
                "NotPlain { cause: \"function tell (asks for recovery)\", by: Some(\"report\") }",
            ),
            ("SELECT 1 <~> 2", "NotPlain { cause: \"function near (in C)\", by: Some(\"<~>\") }"),
            ("SELECT * FROM t, later", "NotJudged { why: NoSuchName, name: Some(\"later\") }"),
            ("SELECT a_new_one(1)", "NotJudged { why: NoSuchName, name: Some(\"a_new_one\") }"),
        ] {
            assert_eq!(format!("{:?}", functions.explain(sql.as_bytes())), expected, "{sql}");
        }
    }

    #[test]
    fn what_is_known_of_a_request_is_forgotten_with_its_catalog() {
        let key = |position, sql: &str| match functions(position).explain(sql.as_bytes()) {
            SqlExplained::Reads(unit) => unit.key,
            other => panic!("{other:?}"),
        };
        assert_eq!(key(100, "SELECT 1 FROM t"), key(100, "select 2 from t"));
        assert_ne!(key(100, "SELECT 1 FROM t"), key(100, "SELECT 1"));
        assert_ne!(key(100, "SELECT 1 FROM t"), key(108, "SELECT 1 FROM t"));
    }
}
