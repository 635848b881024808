//! The statements that portals run.

use trunkline_codec::frontend::Bind;

use super::texts::TextId;
use super::{Prepared, StatementEffects};
use crate::carried::encoding::EncodingEra;
use crate::limits::PORTALS_MAX;
use crate::names::{bind_of, describe_of, executed_portal};
use crate::pin::PinReason;
use crate::pins::Pins;
use crate::sql::Class;
use crate::sql::read::FunctionUse;

/// What is remembered of a portal.
#[derive(Debug, Default)]
pub(super) struct Portal {
    /// The SQL of its statement, for the log.
    text: Option<TextId>,
    /// `None` where it only reads.
    effects: Option<StatementEffects>,
}

impl Portal {
    fn is_empty(&self) -> bool {
        self.text.is_none() && self.effects.is_none()
    }
}

/// What a Bind does. The server reads its parameters and plans its statement, by which functions run.
#[derive(Debug)]
pub(crate) struct BoundStatement {
    pub(crate) text: Option<TextId>,
    pub(crate) class: Class,
    /// Why the session is pinned from when it is sent.
    pub(crate) pins: Pins,
    pub(crate) calls: FunctionUse,
}

impl Prepared {
    /// A Bind was sent. Returns its SQL for the log. Whether it may be sent again is in its class.
    ///
    /// # Errors
    /// Instead of the class, what pins because of it.
    #[inline]
    pub(crate) fn bind_sent(&mut self, body: &[u8], era: EncodingEra) -> BoundStatement {
        let class = if self.is_movable { self.class_of_bind(body) } else { Class::PLAIN };
        let plain = BoundStatement { text: None, class, pins: Pins::default(), calls: FunctionUse::None };
        if !self.is_logged() && self.odd == 0 && self.portals.is_empty() {
            self.unnamed_portal = Portal::default();
            return plain;
        }
        let Some(bind) = bind_of(body) else { return plain };
        let mut pins = Pins::default();
        let effects = if self.odd > 0 { self.effects_of_bind(&bind, body, era, &mut pins) } else { None };
        let text = self.text_of(bind.statement);
        let text = self.shown(text);
        let calls = effects.as_ref().map_or(FunctionUse::None, |effects| effects.calls);
        let lasting = effects.as_ref().and_then(|effects| effects.lasting.clone());
        self.put_portal(bind.portal, Portal { text, effects }, &mut pins);
        let class = if pins.is_empty() { class } else { Class::PLAIN };
        if let Some(lasting) = lasting {
            pins.extend(&lasting.of_functions);
        }
        BoundStatement { text: self.texts.retain(text), class, pins, calls }
    }

    #[inline]
    fn class_of_bind(&mut self, body: &[u8]) -> Class {
        let is_unnamed = body.starts_with(b"\0\0");
        if is_unnamed && !self.pending.is_empty() && self.notes.is_made_and_bound() {
            Class::PLAIN
        } else if self.notes.heed_bind() || self.has_other_path || (is_unnamed && self.unnamed.is_some()) {
            self.note_bind(body)
        } else {
            Class::PLAIN
        }
    }

    /// The effects of the portal that a Bind creates; `None` where it only reads.
    #[cold]
    fn effects_of_bind(
        &self,
        bind: &Bind<'_>,
        body: &[u8],
        era: EncodingEra,
        pins: &mut Pins,
    ) -> Option<StatementEffects> {
        let effects = self.resolve(bind.statement).map_or(&StatementEffects::PLAIN, |it| &it.saved.effects);
        pins.extend(&self.pins_instead(bind.statement, effects));
        let effects = effects.with_parameters(body, era);
        if !bind.portal.is_empty() {
            // A FETCH may run it, too.
            effects.run_unseen(pins);
        }
        Some(effects).filter(|effects| !effects.is_plain())
    }

    /// The SQL of all statements that a Bind may find under the name that it has, as of [`Self::sql_behind`].
    pub(crate) fn sql_bound(&self, body: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
        bind_of(body).into_iter().flat_map(|bind| self.sql_behind(bind.statement))
    }

    /// The SQL of the statement that a Bind names, as far as it is kept.
    pub(crate) fn sql_of_bind(&self, body: &[u8]) -> Option<&[u8]> {
        self.texts.sql(self.text_of(bind_of(body)?.statement))
    }

    /// The text of a statement as it will be once everything sent is answered.
    fn text_of(&self, statement: &[u8]) -> Option<TextId> {
        self.resolve(statement).filter(|resolved| !resolved.is_closed)?.saved.text
    }

    fn put_portal(&mut self, name: &[u8], portal: Portal, pins: &mut Pins) {
        let before = if name.is_empty() {
            std::mem::replace(&mut self.unnamed_portal, portal)
        } else if portal.is_empty() {
            self.portals.remove(name).unwrap_or_default()
        } else if let Some(known) = self.portals.get_mut(name) {
            std::mem::replace(known, portal)
        } else if self.portals.len() < PORTALS_MAX {
            self.portals.insert(name.into(), portal).unwrap_or_default()
        } else {
            self.put_beyond_limit(name, portal, pins)
        };
        self.texts.release(before.text);
    }

    /// One portal too many: effects stand before texts for the log. Returns what is not remembered.
    #[cold]
    fn put_beyond_limit(&mut self, name: &[u8], portal: Portal, pins: &mut Pins) -> Portal {
        if portal.effects.is_none() {
            return portal;
        }
        let only_text = self.portals.iter().find(|(_, known)| known.effects.is_none());
        let Some(displaced) = only_text.map(|(name, _)| name.clone()) else {
            pins.add(PinReason::StatementsTooLarge);
            return portal;
        };
        self.portals.insert(name.into(), portal);
        self.portals.remove(&displaced).unwrap_or_default()
    }

    /// An Execute was sent. Returns its SQL for the log, and its effects.
    #[inline]
    pub(crate) fn execute_sent(&mut self, body: &[u8]) -> (Option<TextId>, StatementEffects) {
        if self.unnamed_portal.is_empty() && self.portals.is_empty() {
            return (None, StatementEffects::PLAIN);
        }
        let name = executed_portal(body).unwrap_or_default();
        let portal = if name.is_empty() { Some(&self.unnamed_portal) } else { self.portals.get(name) };
        let Some(portal) = portal else { return (None, StatementEffects::PLAIN) };
        let effects = portal.effects.clone().unwrap_or(StatementEffects::PLAIN);
        (self.texts.retain(portal.text), effects)
    }

    /// The SQL of the statement that a Describe names, for the log.
    pub(crate) fn described_text(&mut self, body: &[u8]) -> Option<TextId> {
        if !self.is_logged() {
            return None;
        }
        let text = self.text_of(describe_of(body)?.name);
        self.shown(text)
    }

    /// Whether there may be a portal that does more than read, or will be of what is in flight.
    pub(crate) fn has_portals(&self) -> bool {
        !self.portals.is_empty() || !self.unnamed_portal.is_empty() || !self.pending.is_empty()
    }

    /// The session is idle outside a transaction: portals are gone.
    #[inline]
    pub(crate) fn portals_ended(&mut self) {
        if !self.portals.is_empty() {
            self.portals.drain().for_each(|(_, portal)| self.texts.release(portal.text));
        }
        if !self.unnamed_portal.is_empty() {
            let unnamed = std::mem::take(&mut self.unnamed_portal);
            self.texts.release(unnamed.text);
        }
        self.notes.portals_ended();
    }
}
