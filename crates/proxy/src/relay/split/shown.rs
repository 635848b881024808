//! What standbys show to a session that reads there.

use std::time::{Duration, Instant};

use trunkline_codec::ids::Lsn;
use trunkline_routing::eligible::shows;
use trunkline_topology::{Role, ServerId, ServerStatus, Snapshot};

use crate::context::TalliedPositions;

/// Which standbys are up.
pub(super) enum Standbys {
    NoneUp,
    /// All of them may lag for longer than is wanted.
    NoneFresh,
    /// These, and none is known to show enough.
    NoneShows(Vec<ServerId>),
    /// One by what health knows, or this one by what it has told since.
    OneShows(Option<ServerId>),
}

pub(super) fn standbys(
    snapshot: &Snapshot,
    positions: &TalliedPositions,
    at_least: Lsn,
    within: Option<Duration>,
) -> Standbys {
    let all = snapshot.servers.iter().filter(|server| is_up(server));
    if all.clone().next().is_none() {
        return Standbys::NoneUp;
    }
    let now = Instant::now();
    let up = all.filter(|server| within.is_none_or(|within| snapshot.is_within(server.id, within, now)));
    if up.clone().next().is_none() {
        return Standbys::NoneFresh;
    }
    if up.clone().any(|server| shows(snapshot, server, at_least)) {
        return Standbys::OneShows(None);
    }
    let told = |id| positions.of(id).is_some_and(|told| told.lsn >= at_least);
    match up.clone().map(|server| server.id).find(|id| told(*id)) {
        Some(one) => Standbys::OneShows(Some(one)),
        None => Standbys::NoneShows(up.map(|server| server.id).collect()),
    }
}

/// Whether it is a standby that may be asked.
pub(super) fn is_up(server: &ServerStatus) -> bool {
    server.role == Role::Standby && server.state.takes_new() && server.weight > 0
}
