//! The effect of a user-defined function on a session that calls it.

use std::sync::Arc;

use crate::limits::{READ_BACK_MAX, SETTING_NAME_MAX};
use crate::pin::PinReason;
use crate::pins::Pins;
use crate::sql::suspicious_names::suspicious_names;

/// The effect of a function on the session that calls it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FunctionEffect {
    /// It changes the session in these ways, which cannot be restored on another server. Each may end by itself.
    pub pins: Pins,
    /// Settings, in lower case, that it may change: their values can be read afterwards.
    pub sets: Vec<Box<str>>,
    /// It has effects outside of its session, so it must not be run twice.
    pub is_once: bool,
    /// It takes values of sequences, which `currval` and `lastval` tell.
    pub uses_sequences: bool,
    /// It creates or changes objects. Where it changes the session, too, those may do so when they are used.
    pub creates: bool,
    /// What a standby must not run, for people. It is followed apart from the rest, from which it may come.
    pub not_plain: Option<Arc<str>>,
}

impl FunctionEffect {
    /// The effect of a function that pins.
    #[must_use]
    pub fn pins(reason: PinReason) -> Self {
        Self { pins: Pins::from(reason), is_once: true, ..Self::default() }
    }

    /// The effect of a function that may change a setting.
    #[must_use]
    pub fn sets(key: &str) -> Self {
        if key.len() > SETTING_NAME_MAX {
            return Self::pins(PinReason::UnknownSetting);
        }
        Self { sets: vec![key.into()], is_once: true, ..Self::default() }
    }

    /// Only the primary gives the right answer to what runs it; `cause` names it for people.
    #[must_use]
    pub fn not_plain(cause: Arc<str>) -> Self {
        Self { not_plain: Some(cause), ..Self::default() }
    }

    /// The effect of the clause `SET key` of a function, whose value ends with the call; `pg_temp` stands for a
    /// `search_path` that names it before others.
    #[must_use]
    pub fn of_clause(key: &str) -> Self {
        match key.to_ascii_lowercase() {
            // A path in which objects are temporary without saying so.
            key if key == "pg_temp" => Self::pins(PinReason::TemporaryObject),
            key if key == "seed" => Self::pins(PinReason::SideEffects("setseed")),
            // A custom setting exists from then on.
            key if key.contains('.') => Self::sets(&key),
            _ends => Self::default(),
        }
    }

    /// The effect of a function of PostgreSQL or an extension, by its name or that of its C function.
    #[must_use]
    pub fn of_name(name: &[u8]) -> Self {
        if let Some(runner) = RUN_SQL.iter().find(|runner| runner.as_bytes() == name) {
            return Self::pins(PinReason::SideEffects(runner));
        }
        let found = suspicious_names(name);
        let mut pins = found.pins;
        if found.has_set_config {
            pins.add(PinReason::UnknownSetting);
        }
        let (is_once, uses_sequences) = (found.is_once || found.has_sequence, found.has_sequence);
        Self { pins, is_once, uses_sequences, ..Self::default() }
    }

    /// Whether it changes nothing in the session, may be run again, and anywhere.
    #[must_use]
    pub fn is_harmless(&self) -> bool {
        !self.changes_session() && !self.is_once && self.not_plain.is_none()
    }

    /// Whether it changes something in the session.
    #[must_use]
    pub fn changes_session(&self) -> bool {
        !self.pins.is_empty() || !self.sets.is_empty()
    }

    /// Whether who uses what runs it is concerned: by what it changes in the session or takes from sequences, or as it must run on
    /// the primary.
    #[must_use]
    pub fn concerns_users(&self) -> bool {
        self.changes_session() || self.uses_sequences || self.not_plain.is_some()
    }

    /// What it makes beside temporary objects, such as an index on one, runs nothing that it does itself.
    pub(crate) fn see_what_it_creates(&mut self) {
        let runs_more =
            || !self.sets.is_empty() || self.pins.iter().any(|reason| !reason.is_told_by_server());
        if self.creates && runs_more() {
            self.pins.add(PinReason::UnknownStatement("CREATE"));
        }
    }

    /// Adds the effect of `other`. Returns whether this one has grown.
    pub fn add(&mut self, other: &Self) -> bool {
        let size = |effect: &Self| {
            let flags = (effect.is_once, effect.uses_sequences, effect.not_plain.is_some());
            (effect.pins.len(), effect.sets.len(), flags)
        };
        let before = size(self);
        self.pins.extend(&other.pins);
        for key in &other.sets {
            if let Err(at) = self.sets.binary_search(key) {
                self.sets.insert(at, key.clone());
            }
        }
        if self.sets.len() > READ_BACK_MAX {
            self.pins.add(PinReason::UnknownSetting);
            self.sets.truncate(READ_BACK_MAX);
        }
        self.is_once |= other.is_once;
        self.uses_sequences |= other.uses_sequences;
        if self.not_plain.is_none() {
            self.not_plain.clone_from(&other.not_plain);
        }
        self.see_what_it_creates();
        before != size(self)
    }
}

/// Functions of PostgreSQL that run SQL which they are given as a value, or read a relation or index that they are given so:
/// what that calls is not seen.
/// Source: PostgreSQL 14 to 18, src/include/catalog/pg_proc.dat. `cursor_to_xml` fetches from a cursor that was declared by SQL.
pub const RUN_SQL: [&str; 13] = [
    "query_to_xml",
    "query_to_xmlschema",
    "query_to_xml_and_xmlschema",
    "table_to_xml",
    "table_to_xml_and_xmlschema",
    "schema_to_xml",
    "schema_to_xml_and_xmlschema",
    "database_to_xml",
    "database_to_xml_and_xmlschema",
    "ts_stat",
    "ts_rewrite",
    "brin_summarize_new_values",
    "brin_summarize_range",
];
