//! The `search_path` under which statements are analysed.
//!
//! A prepared statement that is used under another `search_path` than the one it was analysed under is analysed again,
//! its constants included; else it keeps the constants as they were read.
//! Source: PostgreSQL 18, src/backend/utils/cache/plancache.c, `RevalidateCachedQuery`.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::sql::effect::Change;
use crate::sql::path_names::{PathNames, path_names};

/// A `search_path`, by a hash of its names; zero is the one of the login.
///
/// Two that differ by it may still be the same to the server: a value that the login has given and the same one set
/// later, or one from the parameters of two different Binds. What `"$user"` stands for is not told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct PathId(u64);

impl PathId {
    /// Of the SQL that has set it, or of the Bind that has its value.
    fn of(sql: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        match path_names(sql) {
            Some(PathNames::Default) => return Self::default(),
            Some(PathNames::Listed(names)) => names.hash(&mut hasher),
            None => sql.hash(&mut hasher),
        }
        Self(hasher.finish())
    }
}

/// The session's `search_path` as its transaction changes it. `None` is one that is not known.
#[derive(Debug)]
pub(crate) struct SearchPath {
    now: Option<PathId>,
    /// What it is after a COMMIT.
    staged: Option<PathId>,
    /// What it is after a ROLLBACK.
    lasting: Option<PathId>,
    /// The transaction has set it, perhaps to what it was.
    is_set: bool,
}

impl Default for SearchPath {
    fn default() -> Self {
        let login = Some(PathId::default());
        Self { now: login, staged: login, lasting: login, is_set: false }
    }
}

impl SearchPath {
    pub(crate) fn now(&self) -> Option<PathId> {
        self.now
    }

    /// Whether the present path is known to be another one.
    pub(crate) fn is_other(&self, path: PathId) -> bool {
        self.now.is_some_and(|now| now != path)
    }

    /// A setting was changed. Returns whether it was this one; of `RESET ALL`, whether the path is another one now.
    pub(crate) fn change(&mut self, change: &Change) -> bool {
        let before = self.now;
        let is_path = |key: &str| key == "search_path";
        match change {
            Change::Set { key, sql } if is_path(key) => self.set(PathId::of(sql)),
            Change::Local { key, sql } if is_path(key) => {
                self.now = Some(PathId::of(sql));
                self.is_set = true;
            }
            Change::Reset { key, .. } if is_path(key) => self.set(PathId::default()),
            Change::ResetAll => {
                self.set(PathId::default());
                return before != self.now;
            }
            Change::Set { .. } | Change::Local { .. } | Change::Reset { .. } => return false,
        }
        true
    }

    fn set(&mut self, path: PathId) {
        self.now = Some(path);
        self.staged = self.now;
        self.is_set = true;
    }

    /// A savepoint has undone some of the transaction's changes, but for those that are kept and the local ones before
    /// it. Returns whether the path may be another one now.
    pub(crate) fn rolled_back_to_savepoint<'a>(&mut self, kept: impl Iterator<Item = &'a Change>) -> bool {
        if !self.is_set {
            return false;
        }
        self.staged = self.lasting;
        for change in kept {
            self.change(change);
        }
        self.now = None;
        true
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
        self.is_set = false;
        before != self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str) -> Change {
        Change::Set {
            key: "search_path".into(),
            sql: format!("set search_path = {name}").into_bytes().into(),
        }
    }

    fn local(name: &str) -> Change {
        let sql = format!("set local search_path to {name}").into_bytes().into();
        Change::Local { key: "search_path".into(), sql }
    }

    #[test]
    fn a_local_path_ends_with_its_transaction_and_comes_back_with_its_names() {
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
    fn a_path_is_known_by_its_names() {
        let same = [
            "set search_path = one, Public",
            "SET search_path TO one,public;",
            "set local search_path to one , public",
        ];
        let called = "SELECT pg_catalog.set_config('search_path', 'one, public', false)";
        for sql in same.into_iter().chain([called]) {
            assert_eq!(PathId::of(sql.as_bytes()), PathId::of(same[0].as_bytes()), "{sql}");
        }
        for sql in
            ["set search_path = 'one, public'", "set search_path = public, one", "set search_path = one", "x"]
        {
            assert_ne!(PathId::of(sql.as_bytes()), PathId::of(same[0].as_bytes()), "{sql}");
        }
        assert_eq!(PathId::of(b"set local search_path to default"), PathId::default());
        for schema in
            ["set search_path = \"default\"", "SELECT pg_catalog.set_config('search_path', 'default', false)"]
        {
            assert_ne!(PathId::of(schema.as_bytes()), PathId::default(), "{schema}");
        }
    }

    #[test]
    fn a_commit_keeps_what_a_rollback_undoes() {
        let mut path = SearchPath::default();
        path.change(&set("one"));
        let one = path.now();
        assert!(path.transaction_ended(true));
        assert_eq!(path.now(), Some(PathId::default()));
        path.change(&set("one"));
        path.change(&local("two"));
        path.transaction_ended(false);
        assert_eq!(path.now(), one);
        assert!(path.change(&Change::ResetAll));
        path.transaction_ended(false);
        assert_eq!(path.now(), Some(PathId::default()));
        assert!(!path.change(&Change::ResetAll), "it is the same");
    }

    #[test]
    fn behind_a_savepoint_no_path_is_known() {
        let mut path = SearchPath::default();
        assert!(!path.rolled_back_to_savepoint(std::iter::empty()), "nothing was set");
        path.change(&local("one"));
        assert!(path.is_other(PathId::default()));
        assert!(path.rolled_back_to_savepoint(std::iter::empty()));
        assert_eq!(path.now(), None);
        assert!(!path.is_other(PathId::default()));
        path.transaction_ended(false);
        assert_eq!(path.now(), Some(PathId::default()), "nothing is left of it");
        path.change(&local("one"));
        path.change(&local("default"));
        assert!(path.rolled_back_to_savepoint(std::iter::empty()), "it may be the one before");
        path.transaction_ended(true);
        path.change(&set("one"));
        let one = path.now();
        path.change(&set("two"));
        path.rolled_back_to_savepoint([set("one")].iter());
        path.transaction_ended(false);
        assert_eq!(path.now(), one);
        let other = Change::Set { key: "work_mem".into(), sql: Box::default() };
        assert!(!path.change(&other));
    }
}
