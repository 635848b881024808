//! The effects of running a prepared statement on its session.

use std::sync::Arc;

use crate::carried::encoding::EncodingEra;
use crate::pin::PinReason;
use crate::pins::Pins;
use crate::sql::Class;
use crate::sql::effect::Effect;
use crate::sql::made::Made;
use crate::sql::read::{FunctionUse, Reading};
use crate::sql::set_config::{Call, effect_of, keeps_text};

/// The effects of running a statement.
#[derive(Clone, Debug)]
pub(crate) struct StatementEffects {
    pub(crate) class: Class,
    /// `None` when it has no effects that outlive it.
    pub(crate) lasting: Option<Arc<LastingEffects>>,
    pub(crate) calls: FunctionUse,
}

/// Effects that outlive the statement.
#[derive(Debug)]
pub(crate) struct LastingEffects {
    /// They count once it is run, whether or not it succeeds.
    pub(crate) pins: Pins,
    /// Those of them that may count from its Bind on.
    pub(crate) of_functions: Pins,
    pub(crate) effect: Effect,
    /// The encoding era in which its text was sent.
    pub(crate) era: EncodingEra,
    /// What it may create or change.
    pub(crate) made: Made,
}

impl StatementEffects {
    pub(crate) const PLAIN: Self = Self { class: Class::PLAIN, lasting: None, calls: FunctionUse::None };

    pub(crate) fn of(
        mut reading: Reading,
        made: impl FnOnce(&Reading) -> Made,
        body: &[u8],
        era: EncodingEra,
    ) -> Self {
        let (class, calls) = (reading.class, reading.calls);
        if reading.pins.is_empty() && reading.effects.is_empty() {
            return Self { class, lasting: None, calls };
        }
        let made = made(&reading);
        // The server refuses a Parse of several statements.
        let effect = if reading.effects.len() > 1 {
            Effect::Unread
        } else {
            reading.effects.pop().unwrap_or(Effect::None)
        };
        let effect = match effect {
            Effect::SetConfig(calls) if !keeps_text(&calls, body) => Effect::Pin(PinReason::UnknownSetting),
            other => other,
        };
        let lasting = Some(Arc::new(LastingEffects {
            pins: reading.pins,
            of_functions: reading.of_functions,
            effect,
            era,
            made,
        }));
        Self { class, lasting, calls }
    }

    /// The effects of a portal that this Bind creates.
    pub(super) fn with_parameters(&self, bind: &[u8], era: EncodingEra) -> Self {
        let mut effects = self.clone();
        if let Some(lasting) = &self.lasting
            && let Effect::SetConfig(calls) = &lasting.effect
        {
            // Constants and parameter values may be in different encodings.
            let is_of_one = era == lasting.era || calls.iter().all(Call::is_ascii);
            let effect = effect_of(calls, bind).filter(|_| is_of_one);
            let effect = effect.unwrap_or(Effect::Pin(PinReason::UnknownSetting));
            effects.lasting = Some(Arc::new(LastingEffects {
                pins: lasting.pins.clone(),
                of_functions: lasting.of_functions.clone(),
                effect,
                era,
                made: Made::Nothing,
            }));
        }
        effects
    }

    /// Whether it runs other prepared statements.
    pub(super) fn runs_others(&self) -> bool {
        let effect = self.lasting.as_ref().map(|lasting| &lasting.effect);
        matches!(effect, Some(Effect::Execute(_) | Effect::Explained(_)))
    }

    pub(super) fn is_plain(&self) -> bool {
        self.class == Class::PLAIN && self.lasting.is_none() && self.calls == FunctionUse::None
    }
}
