//! What the client is told of where it has written: `trunkline.report_lsn`.

use std::time::Instant;

use trunkline_session::UnitEffect;

use super::state::{Split, UnitPlace};
use crate::relay::Relay;

impl Relay {
    /// The unit at hand has got its server: one that standbys have shown only to read writes nothing that the client is told of.
    pub(super) fn notes_effect(&mut self) {
        let Some(split) = &self.context.split else { return };
        let UnitPlace::ReadOnPrimary(unit) = split.place else {
            return self.session.unit_does(UnitEffect::MayWrite);
        };
        let settings = self.session.settings_fingerprint();
        let pool = self.context.seat.as_ref().map(|seat| (seat.id(), self.context.own.digest()));
        let key = pool.and_then(|pool| Split::shared_key(unit, settings, pool));
        let others = &self.worker.shared.run_on_standbys;
        let only_reads =
            split.only_reads(unit, settings) || key.is_some_and(|key| others.knows(key, Instant::now()));
        self.session.unit_does(if only_reads { UnitEffect::OnlyReads } else { UnitEffect::MayWrite });
    }
}
