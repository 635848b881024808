//! Where a unit that reads goes, by what standbys show.

use std::time::{Duration, Instant};

use trunkline_codec::ids::Lsn;
use trunkline_routing::FloorPosition;
use trunkline_session::ReadUnit;
use trunkline_topology::Snapshot;

use super::shown::{Standbys, standbys};
use crate::context::TalliedPositions;
use crate::learned::LearnedRequests;

/// What is known of a unit that reads, and of the standbys for it.
pub(super) enum ReadTarget {
    /// A standby has refused such a unit.
    Learned,
    /// It is not known how old the catalog is that it was judged by: a standby's may be another.
    UndatedCatalog,
    /// It is not known yet how far the session has written.
    UnknownFloor,
    /// A standby has to show this.
    Of(Lsn, Standbys),
}

/// Where it goes. `floor` is what the session has written; standbys must be within `within` of the primary.
pub(super) fn read_target(
    unit: ReadUnit,
    floor: FloorPosition,
    within: Option<Duration>,
    learned: &LearnedRequests,
    snapshot: &Snapshot,
    positions: &TalliedPositions,
) -> ReadTarget {
    if learned.knows(unit.key, Instant::now()) {
        return ReadTarget::Learned;
    }
    let Some(position) = unit.position else { return ReadTarget::UndatedCatalog };
    let at_least = match floor {
        FloorPosition::Any => position,
        FloorPosition::At(lsn) => lsn.max(position),
        FloorPosition::Unknown => return ReadTarget::UnknownFloor,
    };
    ReadTarget::Of(at_least, standbys(snapshot, positions, at_least, within))
}
