//! SQL that arrives in parts: it is never read whole, so single words decide.

use crate::carried::followed::Followed;
use crate::pin::PinReason;
use crate::pins::Pins;
use crate::sql::suspicious_names::{has_word, suspicious_names};

/// Bytes of a long Query or Parse kept to find a name that two of its parts share.
const CARRY: usize = 128;

/// What a part of a long text has.
#[derive(Debug, Default)]
pub(crate) struct LongPart {
    pub(crate) pins: Pins,
    /// Whether it must not be run twice.
    pub(crate) is_once: bool,
}

impl Followed {
    /// Whether long statements may still be run is looked at where calls are settled.
    pub(super) fn long_statements_may_have_ended(&mut self) {
        // Of a long one the text is not kept.
        if self.prepared.is_saved() && !self.prepared.has_portals() {
            self.unsettled.recent_calls.long_statements_ended();
        }
    }

    /// A part of a long Query or Parse goes to the server.
    pub(crate) fn long_part(&mut self, part: &[u8]) -> LongPart {
        self.carry.extend_from_slice(part);
        let found = suspicious_names(&self.carry);
        let mut pins = found.of_any_statement();
        if self.prepared.has_odd() && has_word(&self.carry, b"execute") {
            pins.add(PinReason::UnknownStatement("EXECUTE"));
        }
        pins.extend(&self.unsettled.read_part(&self.carry));
        let kept = self.carry.len().saturating_sub(CARRY);
        self.carry.drain(..kept);
        self.pin_all(&pins);
        LongPart { is_once: found.is_once || !pins.is_empty(), pins }
    }
}
