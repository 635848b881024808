//! Statements that SQL runs: `EXECUTE name`, after a Parse or PREPARE.
//!
//! A name stands for what the server has when it runs. So what pins is gathered when the EXECUTE is sent, from
//! all that the name may stand for then; what is done is looked up when it is complete.

use std::sync::Arc;

use crate::carried::encoding::EncodingEra;
use crate::carried::prepared::{LastingEffects, Prepared, StatementEffects};
use crate::limits::{EXECUTE_DEPTH_MAX, EXECUTE_LOOKUPS_MAX};
use crate::pin::PinReason;
use crate::pins::Pins;
use crate::sql::effect::Effect;
use crate::sql::made::Made;
use crate::sql::read::FunctionUse;

impl StatementEffects {
    /// Adds the reasons of the statement, which may run without the session seeing it.
    pub(crate) fn run_unseen(&self, pins: &mut Pins) {
        let Some(lasting) = &self.lasting else { return };
        pins.extend(&lasting.pins);
        match &lasting.effect {
            Effect::None | Effect::Local | Effect::MayUnlock => {}
            Effect::Change(_) | Effect::SetConfig(_) => pins.add(PinReason::UnknownSetting),
            // Their command tags show them, or they pin by themselves.
            Effect::Unread
            | Effect::DiscardAll
            | Effect::Deallocate(_)
            | Effect::DeallocateAll
            | Effect::Prepare { .. }
            | Effect::Savepoint(_)
            | Effect::Release(_)
            | Effect::RollbackTo(_)
            | Effect::DeclareHold(_)
            | Effect::CloseCursor(_)
            | Effect::CloseAllCursors
            | Effect::Listen(_)
            | Effect::Unlisten(_)
            | Effect::UnlistenAll => {}
            Effect::Execute(_) | Effect::Explained(_) => pins.add(PinReason::UnknownStatement("EXECUTE")),
            Effect::Pin(reason) => pins.add(*reason),
        }
    }
}

impl Prepared {
    /// Adds the reasons of the statements that one with this effect runs, or may run.
    pub(crate) fn pins_behind(&self, effect: &Effect, pins: &mut Pins) {
        let mut lookups = EXECUTE_LOOKUPS_MAX;
        self.gather(effect, pins, &mut lookups);
    }

    fn gather(&self, effect: &Effect, pins: &mut Pins, lookups: &mut usize) {
        let (Effect::Execute(name) | Effect::Explained(name)) = effect else { return };
        for effects in self.called(name) {
            let Some(lasting) = &effects.lasting else { continue };
            let Some(left) = lookups.checked_sub(1) else {
                return pins.add(PinReason::UnknownStatement("EXECUTE"));
            };
            *lookups = left;
            pins.extend(&lasting.pins);
            self.gather(&lasting.effect, pins, lookups);
        }
    }

    /// Whether a statement that one with this effect runs, or may run, calls functions.
    pub(crate) fn calls_behind(&self, effect: &Effect) -> FunctionUse {
        let (Effect::Execute(name) | Effect::Explained(name)) = effect else { return FunctionUse::None };
        let calls = |effects: &StatementEffects| effects.calls == FunctionUse::Possible;
        if self.called(name).any(calls) { FunctionUse::Possible } else { FunctionUse::None }
    }

    /// The reasons of the statements that a Bind finds under a name if the newest Parse fails.
    pub(crate) fn pins_instead(&self, name: &[u8], newest: &StatementEffects) -> Pins {
        let mut pins = Pins::default();
        if !name.is_empty() {
            let others = self.called(name).filter(|effects| !std::ptr::eq(*effects, newest));
            others.take(EXECUTE_LOOKUPS_MAX).for_each(|effects| effects.run_unseen(&mut pins));
        }
        pins
    }

    /// The same effects, with the reasons of the statements that they run.
    pub(crate) fn all_behind(&self, lasting: Arc<LastingEffects>) -> Arc<LastingEffects> {
        if !matches!(lasting.effect, Effect::Execute(_) | Effect::Explained(_)) {
            return lasting;
        }
        let mut pins = lasting.pins.clone();
        self.pins_behind(&lasting.effect, &mut pins);
        Arc::new(LastingEffects {
            pins,
            of_functions: lasting.of_functions.clone(),
            effect: lasting.effect.clone(),
            era: lasting.era,
            made: Made::Nothing,
        })
    }

    /// The effect of a complete statement: for an EXECUTE, that of the statement that it ran. It stays an EXECUTE when
    /// too many of them run each other. With the encoding era in which the text was sent.
    pub(crate) fn effect_behind(&self, mut effect: Effect, mut era: EncodingEra) -> (Effect, EncodingEra) {
        for _ in 0..EXECUTE_DEPTH_MAX {
            let (name, is_explained) = match &effect {
                Effect::Execute(name) => (name, false),
                Effect::Explained(name) => (name, true),
                _other => return (effect, era),
            };
            // The server has no such statement, or the tag shows more.
            let Some(effects) = self.made(name) else { return (Effect::Unread, era) };
            effect = match effects.lasting.as_ref().map(|lasting| &lasting.effect) {
                None | Some(Effect::None) => return (Effect::None, era),
                Some(Effect::Execute(next)) if is_explained => Effect::Explained(next.clone()),
                Some(_) if is_explained => return (effect, era),
                Some(inner) => inner.clone(),
            };
            era = effects.lasting.as_ref().map_or(era, |lasting| lasting.era);
        }
        (effect, era)
    }
}
