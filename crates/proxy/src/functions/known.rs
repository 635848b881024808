//! What functions do together: what calls one that leaves something behind leaves it behind, too.

use std::collections::HashMap;
use std::sync::Arc;

use trunkline_session::{Deed, Deeds, FunctionCatalog, Otherwise};

use super::BuiltIn;
use super::classify::Function;

/// Something that is of interest, with what it does: its users are looked for.
#[derive(Clone, Debug)]
pub(super) struct Seed {
    pub(super) class: u32,
    pub(super) object: u32,
    pub(super) deed: Deed,
}

/// Something that runs a function when it is used.
#[derive(Clone, Debug)]
pub(super) enum User {
    Function(u32),
    Word(Box<[u8]>),
    Operator(Box<[u8]>),
    /// Something without a name.
    Cast,
}

/// OID of `pg_proc`, the class of functions.
/// Source: PostgreSQL 18, src/include/catalog/pg_proc.h.
pub(super) const PG_PROC: u32 = 1255;

/// A name by which something of interest can be used.
enum Name {
    Call(Box<[u8]>),
    Word(Box<[u8]>),
    Operator(Box<[u8]>),
}

/// All functions of a database, and who uses them.
#[derive(Debug, Default)]
pub(super) struct Known {
    functions: Vec<Function>,
    places: HashMap<u32, usize>,
    words: HashMap<Box<[u8]>, Deed>,
    operators: HashMap<Box<[u8]>, Deed>,
    everything: Deed,
}

impl Known {
    /// The functions, and the seeds to look for users of.
    pub(super) fn new(functions: Vec<Function>) -> (Self, Vec<Seed>) {
        let places = functions.iter().enumerate().map(|(place, function)| (function.oid, place)).collect();
        let mut known = Self { functions, places, ..Self::default() };
        let fresh = known.functions.iter().filter(|f| !f.deed.is_harmless()).flat_map(names_of).collect();
        known.follow_names(fresh);
        let seeds = known.functions.iter().filter_map(seed).collect();
        (known, seeds)
    }

    /// These use something that does `deed`. Functions that mention them are found: the seeds of the next round.
    pub(super) fn add_users(&mut self, users: impl IntoIterator<Item = (User, Deed)>) -> Vec<Seed> {
        let mut fresh = Vec::new();
        for (user, deed) in users {
            match user {
                User::Function(oid) => {
                    let Some(function) = self.places.get(&oid).and_then(|at| self.functions.get_mut(*at))
                    else {
                        continue;
                    };
                    if function.deed.add(&deed) {
                        fresh.extend(names_of(function));
                    }
                }
                User::Word(name) => {
                    if self.words.entry(name.clone()).or_default().add(&deed) {
                        fresh.push((Name::Word(name), deed));
                    }
                }
                User::Operator(name) => {
                    if self.operators.entry(name.clone()).or_default().add(&deed) {
                        fresh.push((Name::Operator(name), deed));
                    }
                }
                User::Cast => {
                    self.everything.add(&deed);
                }
            }
        }
        let grown = self.follow_names(fresh);
        grown.into_iter().filter_map(|at| seed(self.functions.get(at)?)).collect()
    }

    /// Functions that mention these names, and those that mention them, and so on.
    fn follow_names(&mut self, mut fresh: Vec<(Name, Deed)>) -> Vec<usize> {
        let mut grown = Vec::new();
        while !fresh.is_empty() {
            let mut next = Vec::new();
            for (at, function) in self.functions.iter_mut().enumerate() {
                let Some(source) = &function.source else { continue };
                let mut has_grown = false;
                for (name, deed) in &fresh {
                    let is_mentioned = match name {
                        Name::Call(name) => source.calls(name),
                        Name::Word(name) => source.mentions(name),
                        Name::Operator(name) => source.operates(name),
                    };
                    has_grown |= is_mentioned && function.deed.add(deed);
                }
                if has_grown {
                    next.extend(names_of(function));
                    grown.push(at);
                }
            }
            fresh = next;
        }
        grown
    }

    /// Whether something runs such a function that nobody can see in SQL.
    pub(super) fn is_everything_of_interest(&self) -> bool {
        !self.everything.is_harmless()
    }

    /// What sessions are told.
    pub(super) fn catalog(&self, built_in: BuiltIn) -> FunctionCatalog {
        let harmless = Arc::new(Deed::default());
        let shared =
            |deed: &Deed| if deed.is_harmless() { Arc::clone(&harmless) } else { Arc::new(deed.clone()) };
        let mut by_name: HashMap<&[u8], Deed> = HashMap::with_capacity(self.functions.len());
        let mut words = self.words.clone();
        for function in &self.functions {
            by_name.entry(&function.name).or_default().add(&function.deed);
            if function.is_attribute && !function.deed.is_harmless() {
                words.entry(function.name.clone()).or_default().add(&function.deed);
            }
        }
        let functions: Deeds = by_name.iter().map(|(name, deed)| ((*name).into(), shared(deed))).collect();
        let all = |deeds: &HashMap<Box<[u8]>, Deed>| -> Deeds {
            deeds.iter().map(|(name, deed)| (name.clone(), shared(deed))).collect()
        };
        FunctionCatalog {
            built_in,
            functions,
            words: all(&words),
            operators: all(&self.operators),
            everything: self.is_everything_of_interest().then(|| shared(&self.everything)),
            otherwise: Otherwise::Unread,
        }
    }
}

/// What is run once only is of no interest to those who look at a relation.
fn seed(function: &Function) -> Option<Seed> {
    let is_of_interest = function.deed.pin.is_some() || !function.deed.sets.is_empty();
    is_of_interest.then(|| Seed { class: PG_PROC, object: function.oid, deed: function.deed.clone() })
}

fn names_of(function: &Function) -> Vec<(Name, Deed)> {
    let mut names = vec![(Name::Call(function.name.clone()), function.deed.clone())];
    if function.is_attribute {
        names.push((Name::Word(function.name.clone()), function.deed.clone()));
    }
    names
}

#[cfg(test)]
mod tests {
    use trunkline_session::{FunctionSource, PinReason};

    use super::*;

    fn function(oid: u32, name: &str, source: &str) -> Function {
        let source = FunctionSource::read(source.as_bytes());
        let deed = source.deed.clone();
        Function { oid, name: name.as_bytes().into(), deed, source: Some(source), is_attribute: false }
    }

    fn deed_of(known: &Known, name: &str) -> Deed {
        let catalog = known.catalog(BuiltIn::default());
        (*catalog.functions[name.as_bytes()]).clone()
    }

    fn tenants() -> Vec<Function> {
        vec![
            function(1, "outermost", "begin perform outer_one(x); end"),
            function(2, "outer_one", "select public.set_tenant($1)"),
            function(3, "set_tenant", "select set_config('app.tenant', $1, false)"),
            function(4, "lock_it", "select pg_advisory_lock(1)"),
            function(5, "both", "select set_tenant('a'), lock_it()"),
            function(6, "plain", "select 1"),
            function(7, "reads_view", "select * from tenant_view"),
            function(8, "calls_reader", "select reads_view() <=> 1"),
            function(9, "uses_operator", "select 1 <~> 2"),
        ]
    }

    #[test]
    fn callers_do_what_they_call_however_deep_and_in_any_order() {
        let (known, seeds) = Known::new(tenants());
        for name in ["set_tenant", "outer_one", "outermost"] {
            assert_eq!(deed_of(&known, name), Deed::sets("app.tenant"), "{name}");
        }
        let both = deed_of(&known, "both");
        assert_eq!((both.pin, both.sets.len()), (Some(PinReason::AdvisoryLock), 1));
        assert!(deed_of(&known, "plain").is_harmless() && deed_of(&known, "reads_view").is_harmless());
        assert_eq!(seeds.len(), 5);
    }

    #[test]
    fn users_are_followed_to_the_functions_that_mention_them() {
        let (mut known, _) = Known::new(tenants());
        let view = (User::Word(b"tenant_view"[..].into()), Deed::sets("app.tenant"));
        let seeds = known.add_users([view.clone(), (User::Operator(b"<~>"[..].into()), Deed::sets("a.b"))]);
        let mut found: Vec<u32> = seeds.iter().map(|seed| seed.object).collect();
        found.sort_unstable();
        assert_eq!(found, [7, 8, 9]);
        assert_eq!(deed_of(&known, "calls_reader"), Deed::sets("app.tenant"));
        assert!(known.add_users([view]).is_empty(), "nothing new");
        let catalog = known.catalog(BuiltIn::default());
        assert!(
            catalog.words.contains_key(&b"tenant_view"[..]) && catalog.operators.contains_key(&b"<~>"[..])
        );
        assert!(catalog.everything.is_none());
        known.add_users([(User::Cast, Deed::sets("a.b"))]);
        assert!(known.catalog(BuiltIn::default()).everything.is_some());
    }

    #[test]
    fn a_name_does_what_any_function_of_that_name_does() {
        let overloaded =
            vec![function(1, "f", "select 1"), function(2, "f", "select set_config('a.b', 'c', false)")];
        assert_eq!(deed_of(&Known::new(overloaded).0, "f"), Deed::sets("a.b"));
    }

    #[test]
    fn functions_that_call_each_other_come_to_an_end() {
        let functions = vec![
            function(1, "a", "select b(), set_config('a.a', '', false)"),
            function(2, "b", "select a(), set_config('b.b', '', false)"),
        ];
        let (known, _) = Known::new(functions);
        assert_eq!(deed_of(&known, "a"), deed_of(&known, "b"));
        assert_eq!(deed_of(&known, "a").sets.len(), 2);
    }

    #[test]
    fn a_notification_in_a_trigger_does_not_concern_those_who_read() {
        let (_, seeds) = Known::new(vec![function(1, "notifies", "begin perform pg_notify('a', 'b'); end")]);
        assert!(seeds.is_empty());
    }
}
