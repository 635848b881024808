//! What is known of the functions of a database by one look.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::names::cut_in_utf8;
use crate::sql::function_effect::{FunctionEffect, RUN_SQL};
use crate::sql::plainness::PlainnessCatalog;

/// Effects by name, as the server stores it.
pub type EffectsByName = HashMap<Box<[u8]>, Arc<FunctionEffect>>;

/// How a function counts that is neither built in nor listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnlistedFunctions {
    /// It was created since the last look: the session is pinned until the next.
    Unread,
    /// Functions are not read here: it pins.
    Pins,
}

/// Whether event triggers run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EventTriggers {
    /// There are none, or all are disabled.
    #[default]
    None,
    /// One is enabled.
    Enabled,
}

/// The functions of one database.
#[derive(Debug)]
pub struct FunctionCatalog {
    /// Names of the functions of PostgreSQL itself. Catalogs of servers of one version share them.
    pub built_in: Arc<HashSet<Box<[u8]>>>,
    /// User-defined functions and those of extensions, including harmless ones.
    pub functions: EffectsByName,
    /// Relations and types whose use runs such a function, in a policy for example; and functions that can be called
    /// like a column.
    pub words: EffectsByName,
    /// Types that run such a function, by OID: they may be those of parameters.
    pub types: HashMap<u32, Arc<FunctionEffect>>,
    /// Operators that run such a function.
    pub operators: EffectsByName,
    /// The effect of functions that run without a name in the SQL, by an implicit cast for example.
    pub everything: Option<Arc<FunctionEffect>>,
    /// Whether there are event triggers, which run functions for statements that make something.
    pub event_triggers: EventTriggers,
    /// How all other functions count.
    pub unlisted: UnlistedFunctions,
    /// What may run on a standby; `None` until it was asked for and read.
    pub plainness: Option<PlainnessCatalog>,
}

/// The function that a name before a parenthesis calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Called<'a> {
    BuiltIn,
    /// A user-defined function.
    UserDefined(&'a FunctionEffect),
    Unknown,
}

impl FunctionCatalog {
    /// For a database whose functions are not known.
    #[must_use]
    pub fn unread(built_in: Arc<HashSet<Box<[u8]>>>, unlisted: UnlistedFunctions) -> Self {
        let is_built_in = |name: &&&str| built_in.contains(name.as_bytes());
        let effect_of = |name: &&str| Arc::new(FunctionEffect::of_name(name.as_bytes()));
        let functions = RUN_SQL
            .iter()
            .filter(is_built_in)
            .map(|name| (name.as_bytes().into(), effect_of(name)))
            .collect();
        let (words, operators) = (EffectsByName::new(), EffectsByName::new());
        Self {
            built_in,
            functions,
            words,
            types: HashMap::new(),
            operators,
            everything: None,
            event_triggers: EventTriggers::None,
            unlisted,
            plainness: None,
        }
    }

    /// Whether SQL has to be searched for more than calls.
    pub(crate) fn watches_words(&self) -> bool {
        !self.words.is_empty()
            || !self.types.is_empty()
            || !self.operators.is_empty()
            || self.everything.is_some()
    }

    /// Whether there are statements that run something without a call.
    pub(crate) fn watches_statements(&self) -> bool {
        self.watches_words() || self.event_triggers == EventTriggers::Enabled
    }

    /// The function that `name` calls, after case folding. A user-defined function may have the name of a built-in one.
    pub(crate) fn called(&self, name: &[u8]) -> Called<'_> {
        let name = cut_in_utf8(name);
        match self.functions.get(name) {
            Some(effect) => Called::UserDefined(effect),
            None if self.built_in.contains(name) => Called::BuiltIn,
            None => Called::Unknown,
        }
    }
}
