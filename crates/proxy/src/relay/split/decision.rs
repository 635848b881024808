//! Why the present unit goes where it does: for its count, which is that of where it has run, and the log of its statements.

use trunkline_telemetry::metrics::{CounterSet, Label as _, RouteReason};
use trunkline_telemetry::statement_log::{ShownData, StatementRoute};

/// What was decided for the present unit.
#[derive(Debug)]
pub(super) struct Decision {
    /// `None`: nothing was, it goes where the session is already.
    reason: Option<RouteReason>,
    tally: UnitTally,
    shown: Option<ShownData>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UnitTally {
    Due,
    Counted,
}

/// Whether a unit is decided for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnitVisit {
    First,
    /// It has lost its server, or could not go to the one it was for.
    Again,
}

impl Decision {
    /// Nothing is decided.
    pub(super) fn none() -> Self {
        Decision { reason: None, tally: UnitTally::Counted, shown: None }
    }

    /// A unit goes somewhere for this reason.
    pub(super) fn made(&mut self, reason: RouteReason, visit: UnitVisit) {
        let tally = match visit {
            UnitVisit::First => UnitTally::Due,
            UnitVisit::Again => self.tally,
        };
        *self = Decision { reason: Some(reason), tally, shown: None };
    }

    /// Its server, a standby, is known to show this.
    pub(super) fn shows(&mut self, shown: ShownData) {
        self.shown = Some(shown);
    }

    /// Counts the unit, once, by the reason of the last decision.
    pub(super) fn count(&mut self, routed: &CounterSet<RouteReason, { RouteReason::COUNT }>) {
        if let (Some(reason), UnitTally::Due) = (self.reason, self.tally) {
            self.tally = UnitTally::Counted;
            routed.one(reason);
        }
    }

    /// For the log of a statement of the unit.
    pub(super) fn route(&self) -> StatementRoute {
        StatementRoute { reason: self.reason, shown: self.shown }
    }
}

#[cfg(test)]
mod tests {
    use trunkline_telemetry::metrics::Metrics;

    use super::*;

    #[test]
    fn a_unit_counts_once_and_for_its_last_reason() {
        let metrics = Metrics::new(1).thread(0);
        let routed = &metrics.routed;
        let counted = || RouteReason::ALL.iter().map(|reason| routed.of(*reason).value()).sum::<u64>();
        let mut decision = Decision::none();
        decision.count(routed);
        assert_eq!(counted(), 0, "nothing was decided");
        decision.made(RouteReason::Proven, UnitVisit::First);
        decision.made(RouteReason::Refused, UnitVisit::Again);
        decision.count(routed);
        decision.made(RouteReason::NoStandby, UnitVisit::Again);
        decision.count(routed);
        assert_eq!((counted(), routed.of(RouteReason::Refused).value()), (1, 1));
        decision.made(RouteReason::Proven, UnitVisit::First);
        decision.count(routed);
        assert_eq!((counted(), routed.of(RouteReason::Proven).value()), (2, 1));
    }
}
