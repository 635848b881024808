//! A position that the client has been told elsewhere, and that its reads must see: `trunkline.min_lsn`.

use std::time::Instant;

use trunkline_codec::ids::{Lsn, TimelineId};
use trunkline_session::MinLsn;
use trunkline_topology::{Role, Snapshot};

use super::shown::{Standbys, standbys};
use super::state::UnitPlace;
use super::waiting::MissingPosition;
use crate::context::TalliedPositions;
use crate::relay::Relay;

/// What such a position means for the unit at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MinLsnMeaning {
    /// Standbys must show this.
    Standbys(Lsn),
    /// Only the primary shows it for sure: it is of a timeline that has ended.
    Primary,
    /// It may be beyond all that was written: the primary has not been asked since the unit came.
    Awaited,
    /// It is beyond all that was written.
    Beyond,
}

/// What is known of where the primary writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct WrittenWal {
    pub(super) timeline: Option<TimelineId>,
    /// When it was asked last, and where it wrote then.
    pub(super) asked: Option<(Instant, Lsn)>,
}

impl WrittenWal {
    pub(super) fn known(snapshot: &Snapshot, positions: &TalliedPositions) -> Self {
        let primary = snapshot.serving_primary().filter(|status| status.role == Role::Primary);
        let by_health = primary.and_then(|status| status.asked_at.zip(status.insert_lsn));
        let told = primary.and_then(|status| positions.of(status.id)).map(|told| (told.asked_at, told.lsn));
        WrittenWal { timeline: snapshot.timeline, asked: by_health.max(told) }
    }

    /// What the position means for a unit that has come at `came_at`.
    pub(super) fn meaning_of(&self, min: MinLsn, came_at: Instant) -> MinLsnMeaning {
        // What stands for a position that is not known.
        if min.timeline == Some(TimelineId(0)) {
            return MinLsnMeaning::Primary;
        }
        let is_asked_since = self.asked.is_some_and(|(asked_at, _)| asked_at >= came_at);
        let late = if is_asked_since { MinLsnMeaning::Beyond } else { MinLsnMeaning::Awaited };
        if let (Some(wanted), Some(timeline)) = (min.timeline, self.timeline) {
            if wanted < timeline {
                return MinLsnMeaning::Primary;
            }
            // There may have been a promotion that is not known here.
            if wanted > timeline {
                return late;
            }
        }
        match self.asked {
            Some((_, written)) if written >= min.lsn => MinLsnMeaning::Standbys(min.lsn),
            _other => late,
        }
    }
}

impl Relay {
    /// What the position means that the present unit must see; `None` if there is none.
    pub(super) fn min_lsn(&self, snapshot: &Snapshot) -> Option<MinLsnMeaning> {
        let split = self.context.split.as_ref()?;
        let min = split.hints.min_lsn?;
        let positions = &self.worker.positions;
        let meaning = WrittenWal::known(snapshot, positions).meaning_of(min, split.came_at);
        let is_of_past = meaning == MinLsnMeaning::Primary;
        let may_compare = min.timeline.is_none() || min.timeline <= snapshot.timeline;
        // What a standby has replayed was written. Of a primary that is gone, nothing else is known.
        if !is_of_past
            && may_compare
            && let Standbys::OneShows(_) = standbys(snapshot, positions, min.lsn, None)
        {
            return Some(MinLsnMeaning::Standbys(min.lsn));
        }
        Some(meaning)
    }

    /// What standbys must show besides, for a unit that must see a position; `None` if it is the primary's.
    pub(super) fn with_min_lsn(&mut self, at_least: Lsn, snapshot: &Snapshot) -> Option<Lsn> {
        match self.min_lsn(snapshot) {
            None => Some(at_least),
            Some(MinLsnMeaning::Standbys(lsn)) => Some(lsn.max(at_least)),
            Some(MinLsnMeaning::Primary | MinLsnMeaning::Beyond) => None,
            Some(MinLsnMeaning::Awaited) => {
                self.misses(MissingPosition::Written);
                self.ask_primary(snapshot, UnitPlace::Undecided, Instant::now());
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_position_is_compared_with_what_the_primary_has_told_since() {
        let now = Instant::now();
        let [before, since] = [now - Duration::from_nanos(1), now].map(|at| (at, Lsn(100)));
        let min = |timeline: Option<u32>, lsn| MinLsn { timeline: timeline.map(TimelineId), lsn: Lsn(lsn) };
        let of = |asked, min| WrittenWal { timeline: Some(TimelineId(2)), asked }.meaning_of(min, now);
        let reached = MinLsnMeaning::Standbys(Lsn(100));
        for timeline in [None, Some(2)] {
            assert_eq!(of(Some(before), min(timeline, 100)), reached);
            assert_eq!(of(Some(since), min(timeline, 100)), reached);
            assert_eq!(of(Some(before), min(timeline, 101)), MinLsnMeaning::Awaited);
            assert_eq!(of(Some(since), min(timeline, 101)), MinLsnMeaning::Beyond);
            assert_eq!(of(None, min(timeline, 0)), MinLsnMeaning::Awaited);
        }
        assert_eq!(of(Some(since), min(Some(1), u64::MAX)), MinLsnMeaning::Primary);
        assert_eq!(of(None, min(Some(1), 0)), MinLsnMeaning::Primary);
        assert_eq!(of(Some(before), min(Some(3), 0)), MinLsnMeaning::Awaited);
        assert_eq!(of(Some(since), min(Some(3), 0)), MinLsnMeaning::Beyond);
        let unknown = WrittenWal { timeline: None, asked: Some(since) };
        assert_eq!(unknown.meaning_of(min(Some(3), 100), now), reached);
        assert_eq!(unknown.meaning_of(min(Some(0), u64::MAX), now), MinLsnMeaning::Primary);
    }
}
