//! What servers run of a statement before they are told to: user-defined functions, to read constants and parameters of their
//! types, and to plan.

use super::{Prepared, Step};
use crate::pins::Pins;

impl Prepared {
    /// Why what these steps prepare pins the session before it is run.
    pub(crate) fn pins_of(&self, steps: &[Step]) -> Pins {
        let mut pins = Pins::default();
        for step in steps {
            if let Step::Learn(name) | Step::Check(name) = step
                && let Some(lasting) = self.get(name).and_then(|saved| saved.effects.lasting.as_ref())
            {
                pins.extend(&lasting.of_functions);
            }
        }
        pins
    }
}
