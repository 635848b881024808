//! What the client knows of its statements' parameters and columns.
//!
//! For a named statement they come from the client's own Describe; without one, the proxy describes it once when the
//! session is idle. The unnamed statement is mostly run in the series that prepares it and never again: the proxy
//! describes it only when the client uses it again, or when the session is about to leave a server that still answers.

use std::collections::{HashMap, VecDeque};

use trunkline_codec::backend::BackendTag;
use trunkline_codec::frontend::{Describe, Target};

use super::presence::Presence;
use super::{Pending, Prepared, SavedStatement, StatementOrigin, Wire};
use crate::carried::shape::{RowColumns, Shape, Types, columns_of, types_of};
use crate::limits::{PORTALS_MAX, PREPARED_MAX, QUESTIONS_MAX};
use crate::names::{Name, bind_of, describe_of};
use crate::sql::Class;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Named statements prepared since the session was last idle whose description is not known.
    young: Vec<Name>,
    /// Parses of named statements in flight.
    pending: usize,
    /// Statements whose Describes are in flight and noted, or those of their portals, oldest first.
    describing: VecDeque<Name>,
    /// Statements of portals, where they are young.
    portals: HashMap<Name, Name>,
    unnamed_portal: Option<Name>,
    unnamed: UnnamedUse,
    /// The unnamed statement was bound since it was prepared.
    pub(super) is_unnamed_used: bool,
    /// It or some portal was described since: the client may know its columns.
    pub(super) is_unnamed_told: bool,
    /// The server has refused to describe the unnamed statement.
    is_unnamed_refused: bool,
    /// Named statements that are described after their next use.
    asked_when_used: Vec<(Name, NotAsked)>,
}

/// Why a statement is described after its next use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NotAsked {
    /// The server has refused to describe it under the settings of that time.
    Refused,
    /// A description would read its constants under other settings than that use. It does not under the `search_path` of
    /// its last use.
    ReadLater,
}

/// How the client uses the unnamed statement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum UnnamedUse {
    /// There is none, or it is of an earlier series.
    #[default]
    Settled,
    /// It was prepared in this series.
    Made,
    /// It was bound in the series that prepared it.
    Bound,
    /// It was bound in a later one.
    BoundAgain,
}

impl Notes {
    /// A Parse was sent; `before` is the unnamed statement until it is answered.
    pub(super) fn parse_sent(&mut self, name: &[u8], before: Option<&SavedStatement>) {
        if name.is_empty() {
            self.unnamed = UnnamedUse::Made;
            self.is_unnamed_refused = false;
            self.is_unnamed_used = false;
            // It may be skipped, and then the one before is still there.
            self.is_unnamed_told &= before.is_some();
        } else {
            self.pending += 1;
        }
    }

    pub(super) fn parse_ended(&mut self, name: &[u8]) {
        self.pending -= usize::from(!name.is_empty());
    }

    /// A named statement was prepared.
    pub(super) fn made(&mut self, name: &Name, shape: &Shape) {
        if !shape.is_known() && self.young.len() < PREPARED_MAX {
            self.young.push(name.clone());
        }
    }

    #[inline]
    fn has_young(&self) -> bool {
        !self.young.is_empty() || self.pending > 0 || !self.asked_when_used.is_empty()
    }

    /// Notes that the unnamed statement is bound, if it was prepared in this series and there is nothing else to note.
    #[inline]
    pub(super) fn is_made_and_bound(&mut self) -> bool {
        let is_so = self.unnamed == UnnamedUse::Made && !self.has_young() && self.unnamed_portal.is_none();
        if is_so {
            self.unnamed = UnnamedUse::Bound;
            self.is_unnamed_used = true;
        }
        is_so
    }

    /// Whether a Bind may tell something.
    #[inline]
    pub(super) fn heed_bind(&self) -> bool {
        self.has_young() || self.unnamed_portal.is_some()
    }

    /// Another server was taken: nothing is in flight, and descriptions that the old one did not give are lost.
    pub(super) fn server_taken(&mut self) {
        *self = Self::default();
    }

    pub(super) fn portals_ended(&mut self) {
        if self.unnamed == UnnamedUse::Bound {
            self.unnamed = UnnamedUse::Settled;
        }
        if !self.portals.is_empty() {
            self.portals.clear();
        }
        self.unnamed_portal = None;
    }
}

impl Prepared {
    /// Whether the proxy describes statements at the next idle point.
    #[inline]
    pub(crate) fn has_questions(&self) -> bool {
        !self.notes.young.is_empty()
            || matches!(self.notes.unnamed, UnnamedUse::Made | UnnamedUse::BoundAgain)
    }

    /// Whether a statement has to be described before another server could be compared with what its client knows.
    #[inline]
    pub(crate) fn must_describe(&self) -> bool {
        (self.has_questions() && self.has_unknown_question()) || self.has_undescribed()
    }

    #[cold]
    fn has_unknown_question(&self) -> bool {
        let is_unnamed_asked = matches!(self.notes.unnamed, UnnamedUse::Made | UnnamedUse::BoundAgain);
        (is_unnamed_asked && self.is_unknown(b""))
            || self.notes.young.iter().any(|name| self.is_unknown(name))
    }

    /// Statements that the proxy describes while the session is idle: at most [`QUESTIONS_MAX`] of them.
    pub(crate) fn questions(&mut self) -> Vec<Name> {
        let young = self.notes.young.len().saturating_sub(QUESTIONS_MAX - 1);
        let mut names = self.notes.young.split_off(young);
        let is_read_later =
            |name: &mut Name| self.get(name).is_some_and(|saved| self.is_read_at_next_use(saved));
        let later: Vec<Name> = names.extract_if(.., is_read_later).collect();
        later.into_iter().for_each(|name| self.ask_when_used(name, NotAsked::ReadLater));
        if matches!(self.notes.unnamed, UnnamedUse::Made | UnnamedUse::BoundAgain) {
            self.notes.unnamed = UnnamedUse::Settled;
            names.push(Name::default());
        }
        names.retain(|name| self.is_unknown(name) && self.is_there(name));
        names
    }

    /// Whether the server would describe the statement itself: under its name it may have nothing, or a stand-in. Such a one is
    /// described when it is prepared again.
    fn is_there(&self, name: &[u8]) -> bool {
        self.get(name).is_some_and(|saved| match saved.wire {
            Wire::OfClient => name.is_empty() || saved.presence == Presence::Present,
            Wire::OfContent(id) => self.has_content(saved, id),
        })
    }

    /// The same for a session that is about to leave its server, its last chance to describe them.
    pub(crate) fn last_questions(&mut self) -> Vec<Name> {
        if self.is_unknown(b"") && !self.notes.is_unnamed_refused {
            self.notes.unnamed = UnnamedUse::Made;
        }
        self.questions()
    }

    /// Statements whose description did not come, because the server refused the first of them, which will be asked
    /// for again when it is bound: the settings may be others then. The others will be in any case.
    pub(crate) fn not_described(&mut self, names: Vec<Name>) {
        let mut names = names.into_iter();
        match names.next() {
            Some(refused) if refused.is_empty() => self.notes.is_unnamed_refused = true,
            Some(refused) => self.ask_when_used(refused, NotAsked::Refused),
            None => {}
        }
        self.notes.young.extend(names.filter(|name| !name.is_empty()));
    }

    /// Those that are gone since give way.
    fn ask_when_used(&mut self, name: Name, why: NotAsked) {
        let Self { named, notes, .. } = self;
        notes.asked_when_used.retain(|(known, _)| named.contains_key(known) && *known != name);
        notes.asked_when_used.push((name, why));
    }

    /// Whether a statement can be described only after its next use: another server's cannot be compared with it.
    pub(crate) fn has_undescribed(&self) -> bool {
        self.notes.asked_when_used.iter().any(|(name, _)| self.is_unknown(name))
    }

    /// The `search_path` is another one: what it keeps from being described no more is asked for.
    pub(super) fn ask_under_other_path(&mut self) {
        let mut later = std::mem::take(&mut self.notes.asked_when_used);
        let is_asked = |(name, why): &mut (Name, NotAsked)| {
            *why == NotAsked::ReadLater
                && !self.get(name).is_some_and(|saved| self.is_read_at_next_use(saved))
        };
        let asked: Vec<_> = later.extract_if(.., is_asked).map(|(name, _)| name).collect();
        self.notes.young.extend(asked);
        self.notes.asked_when_used = later;
    }

    /// A statement that is used again is asked for again, if it could not be before.
    pub(super) fn ask_again(&mut self, statement: &[u8]) {
        let Some(at) = self.notes.asked_when_used.iter().position(|(name, _)| **name == *statement) else {
            return;
        };
        let (name, _) = self.notes.asked_when_used.swap_remove(at);
        self.notes.young.push(name);
    }

    /// What is known of a statement has changed.
    pub(super) fn description_changed(&mut self, name: &[u8]) {
        if let Some(saved) = self.named.get_mut(name) {
            match saved.wire {
                Wire::OfContent(id) => self.contents.described(id, &saved.shape),
                Wire::OfClient => {
                    saved.shared.take();
                    self.sets.changed();
                }
            }
        }
    }

    /// Whether a description would tell what is not known. That of a stand-in tells nothing of the statement.
    fn is_unknown(&self, name: &[u8]) -> bool {
        self.get(name).is_some_and(|saved| {
            !saved.shape.is_known()
                && saved.origin != StatementOrigin::Unsaved
                && saved.presence != Presence::StandIn
        })
    }

    /// A Bind was sent that may be of a statement not known yet. It is not sent again to another server, which could
    /// not be held to what it does not know.
    #[cold]
    pub(super) fn note_bind(&mut self, body: &[u8]) -> Class {
        let Some(bind) = bind_of(body) else { return Class::PLAIN };
        let is_pending = self.is_pending(bind.statement);
        self.used(bind.statement);
        self.ask_again(bind.statement);
        if bind.statement.is_empty() {
            self.notes.unnamed = match self.notes.unnamed {
                UnnamedUse::Made | UnnamedUse::Bound => UnnamedUse::Bound,
                UnnamedUse::Settled | UnnamedUse::BoundAgain => UnnamedUse::BoundAgain,
            };
        }
        let is_unknown = is_pending || self.is_unknown(bind.statement);
        let of = (is_unknown && !bind.statement.is_empty()).then(|| Name::from(bind.statement));
        if bind.portal.is_empty() {
            self.notes.unnamed_portal = of;
        } else if let Some(of) = of
            && self.notes.portals.len() < PORTALS_MAX
        {
            self.notes.portals.insert(bind.portal.into(), of);
        }
        if is_unknown && !is_pending { Class::ONCE } else { Class::PLAIN }
    }

    /// A statement is bound: from its rows the client may know columns that no Describe has shown.
    fn used(&mut self, statement: &[u8]) {
        self.notes.is_unnamed_used |= statement.is_empty();
        for pending in &mut self.pending {
            if let Pending::Parse { name, saved, .. } = pending
                && **name == *statement
            {
                saved.is_used = true;
            }
        }
        self.analysed(statement);
        if let Some(saved) = self.get_mut(statement) {
            saved.is_used = true;
        }
    }

    pub(super) fn is_pending(&self, statement: &[u8]) -> bool {
        let is_it =
            |pending: &Pending| matches!(pending, Pending::Parse { name, .. } if **name == *statement);
        self.pending.iter().any(is_it)
    }

    /// A Describe was sent. Whether its answer is to be noted.
    pub(crate) fn describe_sent(&mut self, body: &[u8]) -> bool {
        let Some(Describe { kind, name }) = describe_of(body) else { return false };
        self.notes.is_unnamed_told |= kind == Target::Portal || name.is_empty();
        if kind == Target::Statement && self.has_other_path {
            self.analysed(name);
        }
        let statement = match kind {
            Target::Statement if name.is_empty() || self.notes.has_young() => Some(Name::from(name)),
            Target::Portal if name.is_empty() => self.notes.unnamed_portal.clone(),
            Target::Portal => self.notes.portals.get(name).cloned(),
            Target::Statement => None,
        };
        let Some(statement) = statement else { return false };
        self.notes.describing.push_back(statement);
        true
    }

    /// The noted Describe at the front is answered with the types of parameters.
    pub(crate) fn parameters_described(&mut self, body: &[u8]) {
        let Some(statement) = self.notes.describing.front().cloned() else { return };
        if let (Some(saved), Some(types)) = (self.get_mut(&statement), types_of(body)) {
            saved.shape.parameters = Some(types);
            self.description_changed(&statement);
        }
    }

    /// The same with its columns: that is its end.
    pub(crate) fn columns_described(&mut self, tag: BackendTag, body: &[u8]) {
        let Some(statement) = self.notes.describing.pop_front() else { return };
        if let (Some(saved), Some(columns)) = (self.get_mut(&statement), columns_of(tag, body)) {
            saved.shape.columns = Some(columns);
            self.description_changed(&statement);
        }
    }

    /// The noted Describe at the front has no answer.
    pub(crate) fn describe_dropped(&mut self) {
        self.notes.describing.pop_front();
    }

    /// The server has described a statement to the proxy. A statement with too long a description stays on this server.
    pub(crate) fn learned(&mut self, name: &[u8], shape: Shape) {
        if let Some(saved) = self.get_mut(name) {
            saved.shape = shape;
            self.description_changed(name);
        }
        self.put(name, Presence::Present);
    }

    /// A statement's shape cannot be compared on another server.
    pub(crate) fn cannot_be_known(&mut self, name: &[u8]) {
        let Some(saved) = self.get(name).filter(|saved| saved.origin != StatementOrigin::Unsaved) else {
            return;
        };
        let (bytes, text) = (self.kept_bytes(saved), saved.text);
        self.unsaved += 1;
        self.bytes -= if name.is_empty() { 0 } else { bytes };
        let text = self.kept_unsaved(text);
        if let Some(saved) = self.get_mut(name) {
            (saved.origin, saved.text) = (StatementOrigin::Unsaved, text);
            self.description_changed(name);
        }
    }

    /// The types noted of a statement that returns rows.
    pub(crate) fn parameters_of_rows(&self, name: &[u8]) -> Option<&Types> {
        let shape = &self.get(name)?.shape;
        match shape.columns? {
            RowColumns::Rows(_) | RowColumns::OfTheMoment => shape.parameters.as_ref(),
            RowColumns::None => None,
        }
    }

    /// Whether a statement is known to return no rows.
    pub(super) fn returns_no_rows(&self, name: &[u8]) -> bool {
        let has_none = |saved: &SavedStatement| {
            saved.shape.columns == Some(RowColumns::None) && !saved.passes_on(&self.texts)
        };
        self.get(name).is_some_and(has_none)
    }

    /// The types noted of a statement.
    pub(super) fn types(&self, name: &[u8]) -> Option<&Types> {
        self.get(name)?.shape.parameters.as_ref()
    }
}
