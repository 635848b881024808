//! Prepared statements by name: those that a server connection has, or those that a session wants there.

use std::cmp::Ordering;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use trunkline_codec::frontend::Parse;

use super::search_path::PathId;
use super::shape::Shape;
use crate::names::Name;
use crate::sql::references::has_constants;

/// One statement.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct SharedStatement {
    pub(crate) name: Name,
    /// `None` where the name stands for something that no session knows.
    pub(crate) content: Option<Content>,
}

/// What a name stands for.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Content {
    pub(crate) kind: TextKind,
    /// The body of its Parse, with the types of parameters that it names, or its SQL PREPARE.
    pub(crate) text: Box<[u8]>,
    pub(crate) shape: Shape,
    /// The path it was analysed under.
    pub(crate) analysed: Option<PathId>,
}

impl Content {
    fn sql(&self) -> &[u8] {
        match self.kind {
            TextKind::Parse => Parse::parse_prefix(&self.text).map_or(&self.text, |parse| parse.sql),
            TextKind::Sql => &self.text,
        }
    }
}

/// How a statement was prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TextKind {
    Parse,
    Sql,
}

impl SharedStatement {
    /// Whether a session that wants `self` may use `other`, which has its name on a connection, in place of its own. Their
    /// settings that decide how SQL is read are the same or not, by `reading`.
    fn may_be(&self, other: &Self, reading: ReadingRules) -> bool {
        let Some(content) = &self.content else { return false };
        content.shape.is_known()
            && content.analysed.is_some()
            && self == other
            && (reading == ReadingRules::Same || !has_constants(content.sql()))
    }
}

/// Whether a session and a connection have the same settings that decide how SQL is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadingRules {
    Same,
    Other,
}

/// See the module. It is never empty.
#[derive(Debug)]
pub(crate) struct StatementSet {
    /// By name, ascending.
    statements: Vec<Arc<SharedStatement>>,
    fingerprint: u64,
}

/// Whether these are one and the same set.
#[inline]
pub(crate) fn is_shared(one: &Arc<StatementSet>, other: Option<&Arc<StatementSet>>) -> bool {
    other.is_some_and(|other| Arc::ptr_eq(one, other))
}

/// What becomes of a statement that a connection has when a session takes it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Match<'a> {
    /// The session may use it.
    Usable(&'a Arc<SharedStatement>),
    /// The session has none of this name, or another.
    Foreign(&'a SharedStatement),
}

impl StatementSet {
    /// Of these statements, in any order; `None` where there are none.
    pub(crate) fn new(mut statements: Vec<Arc<SharedStatement>>) -> Option<Arc<Self>> {
        if statements.is_empty() {
            return None;
        }
        statements.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let hash = |statement: &Arc<SharedStatement>| {
            let mut hasher = DefaultHasher::new();
            statement.hash(&mut hasher);
            hasher.finish()
        };
        let fingerprint = statements.iter().map(hash).fold(0, u64::wrapping_add);
        Some(Arc::new(Self { statements, fingerprint }))
    }

    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    pub(crate) fn len(&self) -> usize {
        self.statements.len()
    }

    /// The statements of a connection as a session that wants `wanted` finds them.
    pub(crate) fn matches<'a>(
        &'a self,
        wanted: Option<&'a Self>,
        reading: ReadingRules,
    ) -> impl Iterator<Item = Match<'a>> {
        let mut wanted = wanted.map_or(&[][..], |set| &set.statements).iter().peekable();
        self.statements.iter().map(move |there| {
            while wanted.peek().is_some_and(|own| own.name.cmp(&there.name) == Ordering::Less) {
                wanted.next();
            }
            match wanted.peek() {
                Some(own) if own.name == there.name && own.may_be(there, reading) => Match::Usable(there),
                Some(_) | None => Match::Foreign(there),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::carried::shape::RowColumns;

    fn statement(name: &str, sql: &str, is_known: bool) -> Arc<SharedStatement> {
        let shape =
            Shape { parameters: is_known.then(Box::default), columns: is_known.then_some(RowColumns::None) };
        let text = format!("{name}\0{sql}\0\0\0").into_bytes().into();
        let content = Content { kind: TextKind::Parse, text, shape, analysed: Some(PathId::default()) };
        Arc::new(SharedStatement { name: name.as_bytes().into(), content: Some(content) })
    }

    fn foreign(there: &StatementSet, wanted: Option<&StatementSet>, reading: ReadingRules) -> Vec<String> {
        let name = |it: Match<'_>| match it {
            Match::Foreign(it) => Some(String::from_utf8_lossy(&it.name).into_owned()),
            Match::Usable(_) => None,
        };
        there.matches(wanted, reading).filter_map(name).collect()
    }

    #[test]
    fn only_what_is_known_and_equal_may_be_used() {
        let there = StatementSet::new(vec![
            statement("d", "select 'x'", true),
            statement("a", "select 1", true),
            statement("b", "select 1", false),
            statement("c", "select 1", true),
        ]);
        let wanted = StatementSet::new(vec![
            statement("0", "select 1", true),
            statement("a", "select 1", true),
            statement("b", "select 1", false),
            statement("c", "select 2", true),
            statement("d", "select 'x'", true),
        ]);
        let (there, wanted) = (there.expect("some"), wanted.expect("some"));
        assert_eq!(foreign(&there, Some(&wanted), ReadingRules::Same), ["b", "c"]);
        assert_eq!(foreign(&there, Some(&wanted), ReadingRules::Other), ["b", "c", "d"], "its constant");
        assert_eq!(foreign(&there, None, ReadingRules::Same), ["a", "b", "c", "d"]);
    }

    #[test]
    fn a_connection_goes_from_thread_to_thread() {
        fn goes<T: Send + Sync + Clone>() {}
        goes::<crate::ConnectionState>();
        assert!(size_of::<crate::ConnectionState>() <= 136, "{}", size_of::<crate::ConnectionState>());
    }

    #[test]
    fn fingerprints_tell_contents_and_not_order() {
        let of = |list: &[(&str, &str)]| {
            let list = list.iter().map(|(name, sql)| statement(name, sql, true)).collect();
            StatementSet::new(list).expect("some").fingerprint()
        };
        assert_eq!(of(&[("a", "1"), ("b", "2")]), of(&[("b", "2"), ("a", "1")]));
        assert_ne!(of(&[("a", "1"), ("b", "2")]), of(&[("a", "2"), ("b", "1")]));
        assert!(StatementSet::new(Vec::new()).is_none());
    }
}
