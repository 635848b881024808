//! The `search_path` under which statements are analysed.
//!
//! A prepared statement that is used under another `search_path` than the one it was analysed under is analysed again,
//! its constants included; else it keeps the constants as they were read.
//! Source: PostgreSQL 18, src/backend/utils/cache/plancache.c, `RevalidateCachedQuery`.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::sql::effect::Change;

/// A `search_path`, by a hash of the SQL that has set it; zero is the one of the login.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PathId(u64);

impl PathId {
    fn of(sql: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        sql.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// The session's `search_path` as its transaction changes it.
#[derive(Debug, Default)]
pub(crate) struct SearchPath {
    now: PathId,
    /// What it is after a COMMIT.
    staged: PathId,
    /// What it is after a ROLLBACK.
    lasting: PathId,
    /// Number of values that are not known.
    unknown: u64,
}

impl SearchPath {
    pub(crate) fn now(&self) -> PathId {
        self.now
    }

    /// A setting was changed. Returns whether it was this one.
    pub(crate) fn change(&mut self, change: &Change) -> bool {
        let is_path = |key: &str| key == "search_path";
        match change {
            Change::Set { key, sql } if is_path(key) => {
                self.now = PathId::of(sql);
                self.staged = self.now;
            }
            Change::Local { key, sql } if is_path(key) => self.now = PathId::of(sql),
            Change::Reset { key, .. } if is_path(key) => self.reset(),
            Change::ResetAll => self.reset(),
            Change::Set { .. } | Change::Local { .. } | Change::Reset { .. } => return false,
        }
        true
    }

    fn reset(&mut self) {
        self.now = PathId::default();
        self.staged = self.now;
    }

    /// A savepoint has undone some of the transaction's changes.
    pub(crate) fn rolled_back_to_savepoint(&mut self) {
        if self.now == self.lasting && self.staged == self.lasting {
            return;
        }
        self.unknown += 1;
        self.now = PathId(self.unknown);
        self.staged = self.now;
    }

    /// The transaction has ended. Returns whether the path is another one now.
    #[inline]
    pub(crate) fn transaction_ended(&mut self, has_failed: bool) -> bool {
        let before = self.now;
        if has_failed {
            self.staged = self.lasting;
        } else {
            self.lasting = self.staged;
        }
        self.now = self.lasting;
        before != self.now
    }

    /// `DISCARD ALL`, which runs outside of a transaction.
    pub(crate) fn discard_all(&mut self) {
        self.reset();
        self.lasting = self.now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(sql: &str) -> Change {
        Change::Set { key: "search_path".into(), sql: sql.as_bytes().into() }
    }

    fn local(sql: &str) -> Change {
        Change::Local { key: "search_path".into(), sql: sql.as_bytes().into() }
    }

    #[test]
    fn a_local_path_ends_with_its_transaction_and_comes_back_with_its_sql() {
        let mut path = SearchPath::default();
        let login = path.now();
        assert!(path.change(&local("one")));
        let one = path.now();
        assert_ne!(one, login);
        assert!(path.transaction_ended(false), "it is another one");
        assert_eq!(path.now(), login);
        path.change(&local("one"));
        assert_eq!(path.now(), one);
    }

    #[test]
    fn a_commit_keeps_what_a_rollback_undoes() {
        let mut path = SearchPath::default();
        path.change(&set("one"));
        let one = path.now();
        assert!(path.transaction_ended(true));
        assert_eq!(path.now(), PathId::default());
        path.change(&set("one"));
        path.change(&local("two"));
        path.transaction_ended(false);
        assert_eq!(path.now(), one);
        path.change(&Change::ResetAll);
        path.transaction_ended(false);
        assert_eq!(path.now(), PathId::default());
    }

    #[test]
    fn behind_a_savepoint_no_path_is_one_of_before() {
        let mut path = SearchPath::default();
        path.rolled_back_to_savepoint();
        assert_eq!(path.now(), PathId::default(), "nothing was set");
        path.change(&local("one"));
        let one = path.now();
        path.rolled_back_to_savepoint();
        assert!(path.now() != one && path.now() != PathId::default());
        let other = Change::Set { key: "work_mem".into(), sql: Box::default() };
        assert!(!path.change(&other));
    }
}
