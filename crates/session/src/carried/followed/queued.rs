//! Requests with effects that are in flight.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::carried::encoding::EncodingEra;
use crate::carried::prepared::LastingEffects;
use crate::pin::PinReason;
use crate::pins::Pins;
use crate::sql::effect::Effect;
use crate::sql::made::Made;

/// What the requests in flight will do, one for each with effects.
#[derive(Debug)]
pub(crate) enum QueuedRequest {
    /// Statements of a Query, those not completed yet.
    Query {
        effects: VecDeque<Effect>,
        pins: Pins,
        era: EncodingEra,
        made: Made,
    },
    Execute(Arc<LastingEffects>),
}

impl QueuedRequest {
    /// The reasons that pin the session from when it is sent.
    pub(in crate::carried) fn pins(&self) -> &Pins {
        match self {
            Self::Query { pins, .. } => pins,
            Self::Execute(lasting) => &lasting.pins,
        }
    }

    /// What its statements may create or change.
    pub(in crate::carried) fn made(&self) -> &Made {
        match self {
            Self::Query { made, .. } => made,
            Self::Execute(lasting) => &lasting.made,
        }
    }

    /// Whether it is told of what it does to objects, see [`PinReason::is_of_objects`].
    pub(super) fn is_of_objects(&self) -> bool {
        let is_told = |effect: &Effect| effect.pin().is_some_and(PinReason::is_of_objects);
        let by_effect = match self {
            Self::Query { effects, .. } => effects.iter().any(is_told),
            Self::Execute(lasting) => is_told(&lasting.effect),
        };
        by_effect || self.pins().iter().any(PinReason::is_of_objects)
    }

    /// The effect of its statement that is answered next.
    pub(super) fn next_effect(&self) -> Option<&Effect> {
        match self {
            Self::Query { effects, .. } => effects.front(),
            Self::Execute(lasting) => Some(&lasting.effect),
        }
    }
}
