//! What the session has created or changed that may run functions: others have to know once its transaction has ended.

use crate::carried::followed::{Followed, QueuedRequest};
use crate::carried::unsettled::Unsettled;
use crate::pin::PinReason;
use crate::sql::calls::ahead::names_made;
use crate::sql::effect::Effect;
use crate::sql::made::Made;
use crate::sql::read::Reading;

/// Whether a statement or transaction has created or changed functions, or objects that may call them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DefinitionSeen {
    #[default]
    None,
    /// It may have: a statement does so that is not read in full.
    Possible,
    Certain,
}

impl DefinitionSeen {
    /// Of a complete statement with this tag.
    #[inline]
    fn of(tag: &[u8], effect: &Effect) -> Self {
        if matches!(tag.first(), Some(b'C' | b'A' | b'D')) {
            Self::of_utility(tag, effect)
        } else {
            Self::None
        }
    }

    fn of_utility(tag: &[u8], effect: &Effect) -> Self {
        // Another session may have prepared it, and long ago.
        if tag == b"COMMIT PREPARED" {
            return Self::Certain;
        }
        match effect {
            Effect::Pin(PinReason::TemporaryObject) => Self::None,
            _others if defines(tag) => Self::Certain,
            Effect::Pin(reason) if reason.may_define() => Self::Possible,
            Effect::Unread if tag == b"DO" || tag.starts_with(b"CREATE ") => Self::Possible,
            _others => Self::None,
        }
    }
}

/// Whether a statement with this tag creates or changes functions, or objects that may call them. A table that runs something
/// is told from others by its reason.
fn defines(tag: &[u8]) -> bool {
    const KINDS: [&[u8]; 14] = [
        b"FUNCTION",
        b"PROCEDURE",
        b"ROUTINE",
        b"AGGREGATE",
        b"OPERATOR",
        b"VIEW",
        b"POLICY",
        b"TRIGGER",
        b"RULE",
        b"CAST",
        b"DOMAIN",
        b"TYPE",
        b"EXTENSION",
        b"TABLE",
    ];
    let mut words = tag.split(|b| *b == b' ');
    let is_definition = matches!(words.next(), Some(b"CREATE" | b"ALTER"));
    is_definition && words.any(|word| KINDS.contains(&word)) && tag != b"CREATE TABLE"
}

impl Unsettled {
    /// What SQL that is sent will create or change.
    #[inline]
    pub(crate) fn made_by(&self, reading: &Reading, sql: &[u8]) -> Made {
        if reading.makes_objects() && self.functions.is_some() { names_made(sql) } else { Made::Nothing }
    }

    /// The transaction in progress has created or changed this, or may have.
    #[cold]
    fn has_defined(&mut self, seen: DefinitionSeen, made: &Made) {
        self.defined = self.defined.max(seen);
        self.made.add(&made.clone().something());
    }

    /// A transaction has ended: others see what it has created.
    #[inline]
    pub(crate) fn transaction_ended(&mut self) {
        if self.defined != DefinitionSeen::None {
            self.have_made();
        }
    }

    #[cold]
    fn have_made(&mut self) {
        let (made, defined) = (std::mem::take(&mut self.made), std::mem::take(&mut self.defined));
        let Some(functions) = &self.functions else { return };
        match defined {
            DefinitionSeen::None => {}
            DefinitionSeen::Possible => functions.may_be_changed(&made),
            DefinitionSeen::Certain => functions.are_changed(&made),
        }
    }

    /// What was called has turned out to create or change such objects.
    #[cold]
    pub(super) fn called_what_defines(&self) {
        if let Some(functions) = &self.functions {
            functions.may_be_changed(&Made::Anything);
        }
    }
}

impl Followed {
    /// A statement of the front request is complete, with this tag.
    #[inline]
    pub(super) fn defined_by(&mut self, has_effects: bool, tag: &[u8], effect: &Effect) {
        let seen = DefinitionSeen::of(tag, effect);
        if seen != DefinitionSeen::None {
            let front = if has_effects { self.queue.front() } else { None };
            self.unsettled.has_defined(seen, front.map_or(&Made::Anything, QueuedRequest::made));
        }
    }

    /// This request was run, perhaps in part: whether what it calls has created or changed something shows in its reasons
    /// alone.
    pub(super) fn may_have_defined(&mut self, request: &QueuedRequest) {
        if request.pins().iter().any(PinReason::may_define) {
            self.unsettled.has_defined(DefinitionSeen::Possible, request.made());
        }
    }

    /// The requests in flight may have been run, and their transaction may have been committed.
    pub(super) fn may_have_defined_all(&mut self) {
        let Self { queue, unsettled, .. } = self;
        for request in queue.iter().filter(|request| *request.made() != Made::Nothing) {
            unsettled.has_defined(DefinitionSeen::Possible, request.made());
        }
    }
}

/// A session that ends in a transaction may have asked for its COMMIT.
impl Drop for Followed {
    fn drop(&mut self) {
        self.may_have_defined_all();
        self.unsettled.transaction_ended();
    }
}
