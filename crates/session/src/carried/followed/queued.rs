//! Requests with effects that are in flight.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::carried::encoding::EncodingEra;
use crate::carried::prepared::LastingEffects;
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

    /// The effect of its statement that is answered next.
    pub(super) fn next_effect(&self) -> Option<&Effect> {
        match self {
            Self::Query { effects, .. } => effects.front(),
            Self::Execute(lasting) => Some(&lasting.effect),
        }
    }
}
