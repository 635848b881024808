//! What must not run on a standby, and what runs it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use trunkline_session::{FunctionEffect, NotPlainByName, PlainnessCatalog};

use super::{Dependency, Dependent, FunctionGraph, UsedName};
use crate::functions::standby;

/// A relation as `pg_class` has it.
#[derive(Clone, Debug)]
pub(in crate::functions) struct RelationRow {
    pub(in crate::functions) oid: u32,
    pub(in crate::functions) name: Box<[u8]>,
    pub(in crate::functions) kind: RelationKind,
}

/// What matters of `relkind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::functions) enum RelationKind {
    Foreign,
    Sequence,
    /// A view of `pg_catalog`.
    SystemView,
    /// A view of the user's own, or a table with row-level security.
    Indirect,
    /// A table.
    Other,
}

/// OID of `pg_class`, the class of relations.
/// Source: PostgreSQL 18, src/include/catalog/pg_class.h.
const PG_CLASS: u32 = 1259;

impl RelationRow {
    /// Why it is not plain, if it is not.
    pub(in crate::functions) fn not_plain(&self) -> Option<FunctionEffect> {
        let name = || String::from_utf8_lossy(&self.name);
        let cause = match self.kind {
            RelationKind::Foreign => format!("foreign table {}", name()),
            RelationKind::Sequence => format!("sequence {}", name()),
            RelationKind::SystemView if standby::is_plain_view(&self.name) => return None,
            RelationKind::SystemView => name().into_owned(),
            RelationKind::Indirect | RelationKind::Other => return None,
        };
        Some(FunctionEffect::not_plain(cause.into()))
    }
}

impl FunctionGraph {
    /// Adds PostgreSQL's own functions and all relations that are not plain. Returns what their dependents must be searched for.
    pub(in crate::functions) fn add_not_plain(&mut self, relations: &[RelationRow]) -> Vec<Dependency> {
        let functions = standby::not_plain_functions();
        // A function with `set_config` in its source has that among its own effects, if it outlasts the call.
        let names = functions.iter().filter(|name| ***name != *b"set_config");
        let names = names.map(|name| (UsedName::Call(name.clone()), of_name(name))).collect();
        let grown = self.follow_names(names);
        let mut found: Vec<Dependency> =
            grown.into_iter().filter_map(|at| super::dependency(self.functions.get(at)?)).collect();
        let bad = || relations.iter().filter_map(|row| Some((row, row.not_plain()?)));
        found.extend(bad().filter(|(row, _)| row.kind != RelationKind::SystemView).map(|(row, effect)| {
            Dependency { class: PG_CLASS, object: row.oid, effect: shared_by_kind(row.kind, effect) }
        }));
        let words =
            bad().map(|(row, effect)| (Dependent::Word { oid: row.oid, name: row.name.clone() }, effect));
        found.extend(self.add_users(words));
        found
    }

    /// What sessions need to judge by.
    pub(in crate::functions) fn plainness(&self, relations: &[RelationRow]) -> PlainnessCatalog {
        let cause = |effect: &FunctionEffect| effect.not_plain.clone();
        let mut functions: HashMap<Box<[u8]>, Option<Arc<str>>> =
            standby::not_plain_functions().iter().map(|name| (name.clone(), cause(&of_name(name)))).collect();
        let mut words: NotPlainByName =
            self.words.iter().filter_map(|(name, effect)| Some((name.clone(), cause(effect)?))).collect();
        for function in &self.functions {
            let cause = cause(&function.effect);
            if let (Some(cause), true) = (&cause, function.is_attribute) {
                words.entry(function.name.clone()).or_insert_with(|| Arc::clone(cause));
            }
            let worst = functions.entry(function.name.clone()).or_default();
            if worst.is_none() {
                *worst = cause;
            }
        }
        let operators =
            self.operators.iter().filter_map(|(name, effect)| Some((name.clone(), cause(effect)?)));
        let types = self.types.iter().filter_map(|(oid, effect)| Some((*oid, cause(effect)?)));
        let attributes = self.functions.iter().filter(|function| function.is_attribute);
        let indirect = relations.iter().filter(|row| row.kind == RelationKind::Indirect);
        let indirect = indirect.map(|row| row.name.clone());
        let indirect = indirect.chain(attributes.map(|function| function.name.clone())).collect();
        let relations: HashSet<Box<[u8]>> = relations.iter().map(|row| row.name.clone()).collect();
        PlainnessCatalog {
            built_in: standby::plain_functions(),
            functions,
            relations,
            indirect,
            words,
            operators: operators.collect(),
            types: types.collect(),
            everything: cause(&self.everything),
            position: None,
        }
    }
}

/// Many have sequences: what uses one of them is searched for at once.
fn shared_by_kind(kind: RelationKind, effect: FunctionEffect) -> FunctionEffect {
    match kind {
        RelationKind::Sequence => FunctionEffect::not_plain("a sequence".into()),
        RelationKind::Foreign | RelationKind::SystemView | RelationKind::Indirect | RelationKind::Other => {
            effect
        }
    }
}

fn of_name(name: &[u8]) -> FunctionEffect {
    FunctionEffect::not_plain(String::from_utf8_lossy(name).into())
}

/// What of PostgreSQL's own a server has that is not plain, with OIDs: of functions that this release does not know, too.
pub(in crate::functions) fn not_plain_built_in(rows: &[(u32, Box<[u8]>)]) -> Vec<(u32, FunctionEffect)> {
    let plain = standby::plain_functions();
    rows.iter().filter(|(_, name)| !plain.contains(name)).map(|(oid, name)| (*oid, of_name(name))).collect()
}

#[cfg(test)]
mod tests {
    use trunkline_session::FunctionSource;

    use super::*;
    use crate::functions::classify::Function;

    /// A function whose source is all that is known of it.
    fn function(oid: u32, name: &str, source: &str) -> Function {
        let source = FunctionSource::read(source.as_bytes());
        let not_plain = source.not_plain.map(|why| format!("function {name} ({why})").into());
        let effect = FunctionEffect::default();
        let name = name.as_bytes().into();
        Function { oid, name, effect, source: Some(source), is_attribute: false, not_plain }.of_standby()
    }

    fn relation(oid: u32, name: &str, kind: RelationKind) -> RelationRow {
        RelationRow { oid, name: name.as_bytes().into(), kind }
    }

    fn graph() -> (FunctionGraph, Vec<Dependency>, Vec<RelationRow>) {
        let functions = vec![
            function(1, "plain", "select count(*) from t"),
            function(
                2,
                "swallows",
                "begin insert into t values (1); exception when others then return 0; end",
            ),
            function(3, "calls_it", "select swallows()"),
            function(4, "asks", "begin if pg_is_in_recovery() then return 1; end if; end"),
            function(5, "reads_remote", "select a from remote"),
            function(6, "reads_sequence", "select last_value from seq"),
            function(7, "watches", "select count(*) from pg_stat_activity"),
            function(8, "sets_locally", "select set_config('work_mem', '1MB', true)"),
            function(9, "reads_tables", "select count(*) from pg_tables"),
        ];
        let relations = vec![
            relation(30_000, "t", RelationKind::Other),
            relation(30_001, "remote", RelationKind::Foreign),
            relation(30_002, "seq", RelationKind::Sequence),
            relation(12_000, "pg_stat_activity", RelationKind::SystemView),
            relation(12_001, "pg_tables", RelationKind::SystemView),
            relation(30_004, "own_view", RelationKind::Indirect),
        ];
        let (mut graph, mut dependencies) = FunctionGraph::new(functions);
        dependencies.extend(graph.add_not_plain(&relations));
        (graph, dependencies, relations)
    }

    #[test]
    fn what_is_not_plain_is_followed_to_what_names_it() {
        let (graph, _, relations) = graph();
        let catalog = graph.plainness(&relations);
        let cause = |name: &str| catalog.functions[name.as_bytes()].as_deref();
        for name in ["plain", "sets_locally", "reads_tables"] {
            assert_eq!(cause(name), None, "{name}");
        }
        let swallows = Some("function swallows (exception handler)");
        assert_eq!((cause("swallows"), cause("calls_it")), (swallows, swallows));
        assert_eq!(cause("asks"), Some("pg_is_in_recovery"));
        assert_eq!(cause("reads_remote"), Some("foreign table remote"));
        assert_eq!(cause("reads_sequence"), Some("sequence seq"));
        assert_eq!(cause("watches"), Some("pg_stat_activity"));
        assert_eq!(cause("set_config"), Some("set_config"), "by its own name");
        assert!(catalog.built_in.contains(&b"count"[..]) && !catalog.built_in.contains(&b"pg_sleep"[..]));
    }

    #[test]
    fn relations_are_known_by_name_and_those_that_are_not_plain_as_words() {
        let (graph, dependencies, relations) = graph();
        let catalog = graph.plainness(&relations);
        assert_eq!(catalog.relations.len(), relations.len());
        assert_eq!(catalog.indirect, [b"own_view"[..].into()].into());
        let mut words: Vec<&str> = catalog.words.values().map(AsRef::as_ref).collect();
        words.sort_unstable();
        assert_eq!(words, ["foreign table remote", "pg_stat_activity", "sequence seq"]);
        let of_relations = dependencies.iter().filter(|dependency| dependency.class == PG_CLASS);
        assert_eq!(of_relations.count(), 2, "no dependencies on a system view are recorded");
    }

    #[test]
    fn the_worst_of_one_name_counts_also_where_the_other_is_built_in() {
        let functions = vec![
            function(1, "f", "select 1"),
            function(2, "f", "begin lock t; end"),
            function(3, "pg_sleep", "select 1"),
        ];
        let catalog = FunctionGraph::new(functions).0.plainness(&[]);
        assert_eq!(catalog.functions[&b"f"[..]].as_deref(), Some("function f (LOCK)"));
        assert_eq!(catalog.functions[&b"pg_sleep"[..]].as_deref(), Some("pg_sleep"));
    }

    #[test]
    fn users_are_not_plain_for_the_same_cause() {
        let (mut graph, _, relations) = graph();
        let effect = FunctionEffect::not_plain("function g (in C)".into());
        let users = [
            Dependent::Operator(b"="[..].into()),
            Dependent::Type { oid: 20_001, name: b"dom"[..].into() },
            Dependent::Word { oid: 30_003, name: b"a_view"[..].into() },
        ];
        graph.add_users(users.map(|user| (user, effect.clone())));
        let catalog = graph.plainness(&relations);
        for word in ["a_view", "dom", "in", "nullif"] {
            assert_eq!(&*catalog.words[word.as_bytes()], "function g (in C)", "{word}");
        }
        assert!(catalog.operators.contains_key(&b"="[..]) && catalog.types.contains_key(&20_001));
        assert_eq!(catalog.everything, None);
        graph.add_users([(Dependent::Nameless, effect)]);
        assert_eq!(graph.plainness(&relations).everything.as_deref(), Some("function g (in C)"));
    }

    #[test]
    fn what_a_later_release_brings_is_not_plain() {
        let rows = [(1, b"count"[..].into()), (2, b"new_in_99"[..].into()), (3, b"pg_sleep"[..].into())];
        let oids: Vec<u32> = not_plain_built_in(&rows).into_iter().map(|(oid, _)| oid).collect();
        assert_eq!(oids, [2, 3]);
    }
}
