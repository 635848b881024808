//! The effects of functions including those they call: a function that calls one with an effect has that effect,
//! too.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use trunkline_session::{
    EffectsByName, EventTriggers, FunctionCatalog, FunctionEffect, FunctionSource, RUN_SQL,
    UnlistedFunctions, operator_words,
};

mod plain;

pub(super) use plain::{RelationKind, RelationRow, not_plain_built_in};

use super::BuiltIn;
use super::classify::Function;
use crate::limits::FUNCTION_EFFECTS_BYTES_MAX;

/// An object with an effect, whose dependents are searched for.
#[derive(Clone, Debug)]
pub(super) struct Dependency {
    pub(super) class: u32,
    pub(super) object: u32,
    pub(super) effect: FunctionEffect,
}

/// Something that runs a function with an effect when it is used.
#[derive(Clone, Debug)]
pub(super) enum Dependent {
    Function(u32),
    Word {
        oid: u32,
        name: Box<[u8]>,
    },
    Operator(Box<[u8]>),
    /// Without a name when it is an array.
    Type {
        oid: u32,
        name: Box<[u8]>,
    },
    /// A cast between built-in types, or an operator class for one.
    Nameless,
}

/// OID of `pg_proc`, the class of functions.
/// Source: PostgreSQL 18, src/include/catalog/pg_proc.h.
pub(super) const PG_PROC: u32 = 1255;

/// A name by which something with an effect can be used.
enum UsedName {
    Call(Box<[u8]>),
    Word(Box<[u8]>),
    Operator(Box<[u8]>),
}

/// All functions of a database, and what uses them.
#[derive(Debug, Default)]
pub(super) struct FunctionGraph {
    functions: Vec<Function>,
    places: HashMap<u32, usize>,
    /// Functions that call or mention a name, by its hash.
    mentions: HashMap<u64, Vec<usize>>,
    /// Functions that use operators.
    operate: Vec<usize>,
    /// Bytes of the effects, which are copied to each function that calls them.
    bytes: usize,
    words: HashMap<Box<[u8]>, FunctionEffect>,
    /// OIDs of the relations and types among the words.
    named: BTreeSet<u32>,
    operators: HashMap<Box<[u8]>, FunctionEffect>,
    types: HashMap<u32, FunctionEffect>,
    everything: FunctionEffect,
}

impl FunctionGraph {
    /// The graph of these functions, and the objects whose dependents must be searched for.
    pub(super) fn new(functions: Vec<Function>) -> (Self, Vec<Dependency>) {
        let places = functions.iter().enumerate().map(|(place, function)| (function.oid, place)).collect();
        let mut graph = Self { functions, places, ..Self::default() };
        graph.bytes = graph.functions.iter().map(|function| bytes_of(&function.effect)).sum();
        graph.index();
        let fresh = graph.functions.iter().filter(|f| !f.effect.is_harmless()).flat_map(names_of).collect();
        graph.follow_names(fresh);
        let dependencies = graph.functions.iter().filter_map(dependency).collect();
        (graph, dependencies)
    }

    fn index(&mut self) {
        for (at, function) in self.functions.iter().enumerate() {
            let Some(source) = &function.source else { continue };
            for name in source.names() {
                self.mentions.entry(name).or_default().push(at);
            }
            if source.has_operators() {
                self.operate.push(at);
            }
        }
    }

    /// Whether the effects exceed the limit: then they were not followed to the end.
    pub(super) fn is_too_much(&self) -> bool {
        self.bytes > FUNCTION_EFFECTS_BYTES_MAX
    }

    /// Adds what uses something with an `effect`. Returns the functions that mention them, whose dependents must
    /// be searched for next.
    pub(super) fn add_users(
        &mut self,
        users: impl IntoIterator<Item = (Dependent, FunctionEffect)>,
    ) -> Vec<Dependency> {
        let mut fresh = Vec::new();
        for (user, effect) in users {
            match user {
                Dependent::Function(oid) => {
                    let Some(at) = self.places.get(&oid).copied() else { continue };
                    if self.grow(at, &effect) {
                        fresh.extend(self.functions.get(at).map(names_of).unwrap_or_default());
                    }
                }
                Dependent::Word { oid, name } => {
                    self.named.insert(oid);
                    fresh.extend(self.add_word(name, effect));
                }
                Dependent::Operator(name) => {
                    for word in operator_words(&name) {
                        fresh.extend(self.add_word(word.as_bytes().into(), effect.clone()));
                    }
                    if self.operators.entry(name.clone()).or_default().add(&effect) {
                        fresh.push((UsedName::Operator(name), effect));
                    }
                }
                Dependent::Type { oid, name } => {
                    self.types.entry(oid).or_default().add(&effect);
                    if !name.is_empty() {
                        self.named.insert(oid);
                        fresh.extend(self.add_word(name, effect));
                    }
                }
                Dependent::Nameless => {
                    self.everything.add(&effect);
                }
            }
        }
        let grown = self.follow_names(fresh);
        grown.into_iter().filter_map(|at| dependency(self.functions.get(at)?)).collect()
    }

    fn add_word(&mut self, word: Box<[u8]>, effect: FunctionEffect) -> Option<(UsedName, FunctionEffect)> {
        let has_grown = self.words.entry(word.clone()).or_default().add(&effect);
        has_grown.then_some((UsedName::Word(word), effect))
    }

    /// Adds the effects to functions that mention these names, to those that mention these functions, and so on.
    fn follow_names(&mut self, fresh: Vec<(UsedName, FunctionEffect)>) -> Vec<usize> {
        let mut grown = BTreeSet::new();
        let mut waiting = VecDeque::new();
        let mut is_waiting = vec![false; self.functions.len()];
        let mut names = fresh;
        loop {
            for (name, effect) in names {
                for at in self.users_of(&name) {
                    if self.grow(at, &effect) {
                        grown.insert(at);
                        if !std::mem::replace(&mut is_waiting[at], true) {
                            waiting.push_back(at);
                        }
                    }
                }
            }
            let Some(at) = waiting.pop_front().filter(|_| !self.is_too_much()) else { break };
            is_waiting[at] = false;
            names = names_of(&self.functions[at]);
        }
        grown.into_iter().collect()
    }

    /// The functions whose sources contain this name.
    fn users_of(&self, name: &UsedName) -> Vec<usize> {
        let has_it = |at: &usize| {
            self.functions[*at].source.as_ref().is_some_and(|source| match name {
                UsedName::Call(name) => source.calls(name),
                UsedName::Word(name) => source.mentions(name),
                UsedName::Operator(name) => source.operates(name),
            })
        };
        let among = match name {
            UsedName::Call(name) | UsedName::Word(name) => self.mentions.get(&FunctionSource::hash_of(name)),
            UsedName::Operator(_) => Some(&self.operate),
        };
        among.into_iter().flatten().copied().filter(has_it).collect()
    }

    /// Adds an effect to a function. Returns whether that changed anything.
    fn grow(&mut self, at: usize, effect: &FunctionEffect) -> bool {
        let Some(function) = self.functions.get_mut(at) else { return false };
        let before = bytes_of(&function.effect);
        let has_grown = function.effect.add(effect);
        self.bytes = (self.bytes - before).saturating_add(bytes_of(&function.effect));
        has_grown
    }

    /// Whether something runs a function with an effect that cannot be seen in SQL.
    pub(super) fn is_everything_of_interest(&self) -> bool {
        !self.everything.is_harmless()
    }

    /// Relations and types that run something when they are named: under another name they would not be known.
    pub(super) fn named(&self) -> Vec<u32> {
        self.named.iter().copied().collect()
    }

    /// The catalog for sessions.
    pub(super) fn catalog(&self, built_in: BuiltIn) -> FunctionCatalog {
        let harmless = Arc::new(FunctionEffect::default());
        let shared = |effect: &FunctionEffect| {
            if effect.is_harmless() { Arc::clone(&harmless) } else { Arc::new(effect.clone()) }
        };
        let mut by_name: HashMap<&[u8], FunctionEffect> = HashMap::with_capacity(self.functions.len());
        let mut words = self.words.clone();
        for function in &self.functions {
            by_name.entry(&function.name).or_default().add(&function.effect);
            if function.is_attribute && !function.effect.is_harmless() {
                words.entry(function.name.clone()).or_default().add(&function.effect);
            }
        }
        for name in RUN_SQL.iter().map(|name| name.as_bytes()).filter(|name| built_in.contains(*name)) {
            by_name.entry(name).or_default().add(&FunctionEffect::of_name(name));
        }
        let functions: EffectsByName =
            by_name.iter().map(|(name, effect)| ((*name).into(), shared(effect))).collect();
        let all = |effects: &HashMap<Box<[u8]>, FunctionEffect>| -> EffectsByName {
            effects.iter().map(|(name, effect)| (name.clone(), shared(effect))).collect()
        };
        FunctionCatalog {
            built_in,
            functions,
            words: all(&words),
            operators: all(&self.operators),
            types: self.types.iter().map(|(oid, effect)| (*oid, shared(effect))).collect(),
            everything: self.is_everything_of_interest().then(|| shared(&self.everything)),
            event_triggers: EventTriggers::None,
            unlisted: UnlistedFunctions::Unread,
            plainness: None,
        }
    }
}

/// The bytes of a copy of it.
fn bytes_of(effect: &FunctionEffect) -> usize {
    effect.sets.iter().map(|setting| size_of::<Box<str>>() + setting.len()).sum()
}

/// An effect that leaves nothing on a connection does not matter to statements that use a relation.
fn dependency(function: &Function) -> Option<Dependency> {
    function.effect.concerns_users().then(|| Dependency {
        class: PG_PROC,
        object: function.oid,
        effect: function.effect.clone(),
    })
}

fn names_of(function: &Function) -> Vec<(UsedName, FunctionEffect)> {
    let mut names = vec![(UsedName::Call(function.name.clone()), function.effect.clone())];
    if function.is_attribute {
        names.push((UsedName::Word(function.name.clone()), function.effect.clone()));
    }
    names
}

#[cfg(test)]
mod tests {
    use trunkline_session::PinReason;

    use super::*;
    use crate::limits::FUNCTIONS_MAX;

    fn function(oid: u32, name: &str, source: &str) -> Function {
        let source = FunctionSource::read(source.as_bytes());
        let effect = source.effect.clone();
        Function {
            oid,
            name: name.as_bytes().into(),
            effect,
            source: Some(source),
            is_attribute: false,
            not_plain: None,
        }
    }

    fn effect_of(graph: &FunctionGraph, name: &str) -> FunctionEffect {
        let catalog = graph.catalog(BuiltIn::default());
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
        let (graph, dependencies) = FunctionGraph::new(tenants());
        for name in ["set_tenant", "outer_one", "outermost"] {
            assert_eq!(effect_of(&graph, name), FunctionEffect::sets("app.tenant"), "{name}");
        }
        let both = effect_of(&graph, "both");
        assert_eq!((both.pins.first(), both.sets.len()), (Some(PinReason::AdvisoryLock), 1));
        assert!(effect_of(&graph, "plain").is_harmless() && effect_of(&graph, "reads_view").is_harmless());
        assert_eq!(dependencies.len(), 5);
    }

    #[test]
    fn users_are_followed_to_the_functions_that_mention_them() {
        let (mut graph, _) = FunctionGraph::new(tenants());
        let view = (
            Dependent::Word { oid: 30_000, name: b"tenant_view"[..].into() },
            FunctionEffect::sets("app.tenant"),
        );
        let dependencies = graph
            .add_users([view.clone(), (Dependent::Operator(b"<~>"[..].into()), FunctionEffect::sets("a.b"))]);
        let mut found: Vec<u32> = dependencies.iter().map(|dependency| dependency.object).collect();
        found.sort_unstable();
        assert_eq!(found, [7, 8, 9]);
        assert_eq!(effect_of(&graph, "calls_reader"), FunctionEffect::sets("app.tenant"));
        assert!(graph.add_users([view]).is_empty(), "nothing new");
        assert_eq!(graph.named(), [30_000], "its name is known");
        let catalog = graph.catalog(BuiltIn::default());
        assert!(
            catalog.words.contains_key(&b"tenant_view"[..]) && catalog.operators.contains_key(&b"<~>"[..])
        );
        assert!(catalog.everything.is_none());
        graph.add_users([(Dependent::Nameless, FunctionEffect::sets("a.b"))]);
        assert!(graph.catalog(BuiltIn::default()).everything.is_some());
    }

    #[test]
    fn an_operator_is_used_by_the_keywords_that_stand_for_it() {
        let sources = ["select nullif(x, y) from t", "select x like y", "select x = y"];
        let functions = sources.iter().zip(["f", "g", "h"]).zip(1..);
        let (mut graph, _) =
            FunctionGraph::new(functions.map(|((source, name), oid)| function(oid, name, source)).collect());
        graph.add_users([(Dependent::Operator(b"="[..].into()), FunctionEffect::sets("a.b"))]);
        for (name, is_user) in [("f", true), ("g", false), ("h", true)] {
            assert_eq!(!effect_of(&graph, name).is_harmless(), is_user, "{name}");
        }
        let catalog = graph.catalog(BuiltIn::default());
        for word in ["nullif", "case", "in", "distinct", "using", "natural"] {
            assert!(catalog.words.contains_key(word.as_bytes()), "{word}");
        }
        assert!(!catalog.words.contains_key(&b"like"[..]));
    }

    #[test]
    fn a_type_is_used_by_its_name_and_by_its_number() {
        let (mut graph, _) = FunctionGraph::new(vec![function(1, "f", "select x::dom")]);
        let uses =
            |oid, name: &[u8]| (Dependent::Type { oid, name: name.into() }, FunctionEffect::sets("a.b"));
        assert_eq!(graph.add_users([uses(20_001, b"dom"), uses(20_000, b"")]).len(), 1);
        let catalog = graph.catalog(BuiltIn::default());
        assert!(catalog.types.contains_key(&20_000) && catalog.types.contains_key(&20_001));
        assert_eq!(catalog.words.len(), 1);
        assert_eq!(graph.named(), [20_001], "an array is named as its elements are");
    }

    #[test]
    fn a_name_does_what_any_function_of_that_name_does() {
        let overloaded =
            vec![function(1, "f", "select 1"), function(2, "f", "select set_config('a.b', 'c', false)")];
        assert_eq!(effect_of(&FunctionGraph::new(overloaded).0, "f"), FunctionEffect::sets("a.b"));
    }

    #[test]
    fn functions_that_call_each_other_come_to_an_end() {
        let functions = vec![
            function(1, "a", "select b(), set_config('a.a', '', false)"),
            function(2, "b", "select a(), set_config('b.b', '', false)"),
        ];
        let (graph, _) = FunctionGraph::new(functions);
        assert_eq!(effect_of(&graph, "a"), effect_of(&graph, "b"));
        assert_eq!(effect_of(&graph, "a").sets.len(), 2);
    }

    /// Functions that call one another in a chain, the deepest first or last, and all set something of their own.
    fn chain(length: u32) -> Vec<Function> {
        let one = |n: u32| {
            function(n, &format!("f{n}"), &format!("select f{}(), set_config('a.s{n}', '', false)", n + 1))
        };
        (0..length).map(one).collect()
    }

    #[test]
    fn a_long_chain_is_followed_in_the_time_of_its_calls() {
        let length = u32::try_from(FUNCTIONS_MAX).expect("few");
        let mut functions: Vec<Function> =
            (0..length).map(|n| function(n, &format!("f{n}"), &format!("select f{}()", n + 1))).collect();
        functions.push(function(length, &format!("f{length}"), "select set_config('a.b', '', false)"));
        // Each function is looked at in each round where there is no index: four hundred million looks.
        let (graph, dependencies) = FunctionGraph::new(functions);
        assert_eq!((dependencies.len(), graph.is_too_much()), (FUNCTIONS_MAX + 1, false));
    }

    #[test]
    fn what_functions_do_is_bounded_in_all() {
        let (graph, _) = FunctionGraph::new(chain(100));
        assert!(!graph.is_too_much());
        assert_eq!(
            effect_of(&graph, "f0").pins.first(),
            Some(PinReason::UnknownSetting),
            "it sets more than is read back"
        );
        let effect = |n: usize| FunctionEffect::sets(&format!("{}.{n}", "s".repeat(100)));
        let mut many = chain(2);
        for n in 0..FUNCTION_EFFECTS_BYTES_MAX / 100 {
            let mut one = function(u32::try_from(n).expect("few") + 10, &format!("g{n}"), "select 1");
            one.effect = effect(n);
            many.push(one);
        }
        assert!(FunctionGraph::new(many).0.is_too_much());
    }

    #[test]
    fn a_notification_in_a_trigger_does_not_concern_those_who_read() {
        let (_, dependencies) =
            FunctionGraph::new(vec![function(1, "notifies", "begin perform pg_notify('a', 'b'); end")]);
        assert!(dependencies.is_empty());
    }
}
