//! Whether SQL does the same on a hot standby as on the primary, or is refused there.
//!
//! A standby refuses what writes. What it runs and should not, since it answers differently there or has an effect that the
//! primary should have, is known from the catalog: functions, and the objects that run them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use trunkline_codec::ids::Lsn;

use super::calls::{ahead, plain};
use super::functions::Functions;

/// Whether SQL that reads may run on a standby.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plainness {
    /// A standby answers as the primary does, or refuses.
    Plain,
    /// Only the primary gives the right answer: the SQL uses this object, which is named for people.
    NotPlain(Arc<str>),
    /// It is not known: the primary, too.
    Unknown(NotJudged),
}

/// Why the plainness of SQL is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotJudged {
    /// The catalog has not been read yet, or cannot be.
    Unread,
    /// The catalog may have changed since it was read.
    Changing,
    /// It names a function or relation that the catalog has not, perhaps a new one.
    NoSuchName,
    /// It cannot be split into tokens, has names that are not in UTF-8 or are escaped, or is too long.
    Unscannable,
}

impl NotJudged {
    /// In words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unread => "the catalog is not read",
            Self::Changing => "the catalog may have changed",
            Self::NoSuchName => "a name is not in the catalog",
            Self::Unscannable => "the text is not understood",
        }
    }
}

/// What a verdict was found by. It counts while [`Functions::is_plainness_of`] says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PlainnessEpoch(u64);

impl PlainnessEpoch {
    /// No catalog has been judged by.
    pub(crate) const NONE: PlainnessEpoch = PlainnessEpoch(u64::MAX);
}

/// What is not plain, by the name that has to appear in SQL.
pub type NotPlainByName = HashMap<Box<[u8]>, Arc<str>>;

/// What plainness is judged by: the objects of one database. Names are as the server stores them; the value of each is what is
/// not plain, for people.
#[derive(Debug, Default)]
pub struct PlainnessCatalog {
    /// Functions of PostgreSQL that are plain. Catalogs share them.
    pub built_in: Arc<HashSet<Box<[u8]>>>,
    /// Its others, and all functions besides; `None` for a plain one. Of functions of one name, the worst counts.
    pub functions: HashMap<Box<[u8]>, Option<Arc<str>>>,
    /// Relations of any schema, also those of PostgreSQL.
    pub relations: HashSet<Box<[u8]>>,
    /// What may run functions of users that SQL does not name, plain ones too: views, tables with row-level security, and functions
    /// that can be called like a column.
    pub indirect: HashSet<Box<[u8]>>,
    /// Relations and types that are not plain, and functions that can be called like a column.
    pub words: NotPlainByName,
    /// Operators that are not plain.
    pub operators: NotPlainByName,
    /// Types that are not plain, by OID: they may be those of parameters.
    pub types: HashMap<u32, Arc<str>>,
    /// What runs without a name in the SQL, by an implicit cast for example.
    pub everything: Option<Arc<str>>,
    /// Where the server's WAL was when this was read, or later: only a standby that has replayed it has these objects.
    pub position: Option<Lsn>,
}

impl Functions {
    /// Judges SQL that reads, with the OIDs of the types that its parameters were declared with, four bytes each. The first call
    /// has the reader begin to read what this needs: until then it is [`NotJudged::Unread`].
    ///
    /// The verdict may be kept with its epoch, by a fingerprint that keeps the names in the SQL apart.
    pub fn plainness(&self, sql: &[u8], types: &[u8]) -> (Plainness, PlainnessEpoch) {
        self.want_plainness();
        // Before the catalog: one that is published in between makes the verdict an old one.
        let epoch = PlainnessEpoch(self.generation());
        let verdict = match self.may_judge(sql) {
            Ok(()) => match &self.load().plainness {
                Some(catalog) => plain::judge(sql, types, catalog),
                None => Plainness::Unknown(NotJudged::Unread),
            },
            Err(why) => Plainness::Unknown(why),
        };
        (verdict, epoch)
    }

    /// Whether SQL that is plain may write by a function that it calls.
    pub(crate) fn may_call_what_writes(&self, sql: &[u8]) -> bool {
        self.load().plainness.as_ref().is_none_or(|catalog| plain::may_call_what_writes(sql, catalog))
    }

    /// Whether SQL that is plain runs nothing but functions of PostgreSQL's own, as far as it names what it reads: only operators and
    /// types of users run others.
    pub(crate) fn reads_tables_alone(&self, sql: &[u8]) -> bool {
        self.load().plainness.as_ref().is_some_and(|catalog| plain::reads_tables_alone(sql, catalog))
    }

    /// Whether a verdict on this SQL that was kept with `epoch` still counts. It reads a few numbers; the SQL only for the moment
    /// until what a session has created is known. A verdict of the kind unknown must not be kept.
    pub fn is_plainness_of(&self, epoch: PlainnessEpoch, sql: &[u8]) -> bool {
        self.keep_in_use();
        self.generation() == epoch.0 && self.may_judge(sql).is_ok()
    }

    /// The position of the catalog in force: a standby that has not replayed it may have other objects. `None` when it is not known.
    ///
    /// The catalog is that of the primary while one serves, and about a second old at most, by an interval or a few that a look
    /// takes: what a session of this proxy creates is waited for, what others create may be missed so long.
    pub fn plainness_position(&self) -> Option<Lsn> {
        self.load().plainness.as_ref()?.position
    }

    /// Whether the reader must find out what is plain.
    #[must_use]
    pub fn wants_plainness(&self) -> bool {
        self.plainness_wanted.load(Ordering::Relaxed)
    }

    /// Has the reader find that out.
    pub fn want_plainness(&self) {
        if !self.wants_plainness() && !self.plainness_wanted.swap(true, Ordering::AcqRel) {
            self.next_look();
        }
    }

    fn may_judge(&self, sql: &[u8]) -> Result<(), NotJudged> {
        if !self.is_current() {
            return Err(NotJudged::Changing);
        }
        if self.is_change_ahead() && !ahead::ahead_in(sql, self).is_empty() {
            return Err(NotJudged::Changing);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::functions::{FunctionCatalog, UnlistedFunctions, hash_of};
    use crate::sql::made::Made;

    /// With a relation `t`; more is known by a later look.
    fn catalog(relations: &[&str]) -> FunctionCatalog {
        let relations = relations.iter().map(|name| name.as_bytes().into()).collect();
        let plainness = PlainnessCatalog { relations, ..PlainnessCatalog::default() };
        FunctionCatalog {
            plainness: Some(plainness),
            ..FunctionCatalog::unread(Arc::default(), UnlistedFunctions::Unread)
        }
    }

    fn look(functions: &Functions, catalog: Option<FunctionCatalog>) {
        let number = functions.look_begins();
        functions.look_ended(number, catalog);
    }

    const READ: &[u8] = b"select * from t";

    #[test]
    fn who_asks_first_has_the_catalog_read() {
        let functions = Functions::new(FunctionCatalog::unread(Arc::default(), UnlistedFunctions::Unread));
        look(&functions, None);
        assert!(!functions.wants_plainness() && !functions.is_awaited());
        assert_eq!(functions.plainness(READ, &[]).0, Plainness::Unknown(NotJudged::Unread));
        assert!(functions.wants_plainness() && functions.is_awaited());
        look(&functions, Some(catalog(&["t"])));
        assert_eq!(functions.plainness(READ, &[]).0, Plainness::Plain);
        assert!(!functions.is_awaited(), "once is enough");
    }

    #[test]
    fn a_verdict_counts_until_the_next_catalog() {
        let functions = Functions::new(catalog(&["t"]));
        look(&functions, None);
        let (verdict, epoch) = functions.plainness(READ, &[]);
        assert_eq!(verdict, Plainness::Plain);
        look(&functions, None);
        assert!(functions.is_plainness_of(epoch, READ), "the look has found nothing new");
        look(&functions, Some(catalog(&["u"])));
        assert!(!functions.is_plainness_of(epoch, READ));
        assert_eq!(functions.plainness(READ, &[]).0, Plainness::Unknown(NotJudged::NoSuchName));
    }

    #[test]
    fn a_catalog_that_may_be_old_judges_nothing() {
        let functions = Functions::new(catalog(&["t"]));
        assert_eq!(
            functions.plainness(READ, &[]).0,
            Plainness::Unknown(NotJudged::Changing),
            "not looked yet"
        );
        look(&functions, None);
        let (_, epoch) = functions.plainness(READ, &[]);
        functions.is_not_watched();
        assert!(!functions.is_plainness_of(epoch, READ));
        assert_eq!(functions.plainness(READ, &[]).0, Plainness::Unknown(NotJudged::Changing));
        look(&functions, None);
        assert!(functions.is_plainness_of(epoch, READ));
    }

    #[test]
    fn what_a_session_may_have_made_is_unknown_to_those_who_name_it() {
        let functions = Functions::new(catalog(&["t", "u"]));
        look(&functions, None);
        let (_, epoch) = functions.plainness(READ, &[]);
        functions.may_be_changed(&Made::of(vec![hash_of(b"t")]));
        assert!(!functions.is_plainness_of(epoch, READ));
        assert_eq!(functions.plainness(READ, &[]).0, Plainness::Unknown(NotJudged::Changing));
        assert!(functions.is_plainness_of(epoch, b"select * from u"));
        assert_eq!(functions.plainness(b"select * from u", &[]).0, Plainness::Plain);
        look(&functions, None);
        assert!(functions.is_plainness_of(epoch, READ));
    }

    #[test]
    fn a_verdict_that_is_kept_keeps_the_reader_looking() {
        let functions = Functions::new(catalog(&["t"]));
        look(&functions, None);
        let (_, epoch) = functions.plainness(READ, &[]);
        assert!(functions.take_use() && !functions.take_use());
        assert!(functions.is_plainness_of(epoch, READ));
        assert!(functions.take_use());
    }
}
