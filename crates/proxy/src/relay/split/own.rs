//! What becomes of a session's reads, and of its own connections, when servers do not take it or it turns to others.

use std::time::Instant;

use trunkline_routing::FloorPosition;
use trunkline_session::ServerRole;
use trunkline_topology::ServerId;

use super::state::UnitPlace;
use crate::limits::{MOVE_RETRY_PAUSE, MOVE_RETRY_PAUSE_MAX, OWN_STAY, REBALANCE_TOLERANCE};
use crate::pool::seat::SeatMode;
use crate::relay::Relay;
use crate::server::positions::AskedPosition;
use crate::server::take::ChoiceReason;

/// For how long no standby is asked, since those that would have done have refused the session, as by a CONNECTION LIMIT, or could
/// not be reached.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StandbyRest {
    times: u32,
    until: Option<Instant>,
}

impl StandbyRest {
    pub(super) fn lasts(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until > now)
    }

    /// The session has got a server of this role.
    pub(super) fn note(&mut self, role: ServerRole, choice: ChoiceReason, now: Instant) {
        match (role, choice) {
            (ServerRole::Primary, ChoiceReason::StandbysFailed) => {
                let pause = MOVE_RETRY_PAUSE * 2_u32.saturating_pow(self.times.min(16));
                self.times += 1;
                self.until = Some(now + pause.min(MOVE_RETRY_PAUSE_MAX));
            }
            (ServerRole::Standby, _) => *self = StandbyRest::default(),
            (ServerRole::Primary, ChoiceReason::Regular | ChoiceReason::OthersBehind) => {}
        }
    }
}

/// Whether a session that has its own connections goes on with the server that it was on last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OwnStay {
    /// As long as that will do: another connection costs a login.
    Stays,
    /// That has more than its share of sessions: one is chosen anew.
    ChoosesAnew,
}

impl Relay {
    /// Whether its server connections are its own: nobody else ever gets them.
    pub(in crate::relay) fn has_own_connections(&self) -> bool {
        self.context.seat.as_ref().is_some_and(|seat| seat.mode() == SeatMode::Own)
    }

    /// The session goes on with `server`: it keeps no connection of its own to the other one that it had in its place.
    pub(super) fn leaves_own_other(&self, server: ServerId) {
        let Some(last) = self.context.last.filter(|last| *last != server) else { return };
        if self.context.split.as_ref().is_some_and(|split| split.other.server == Some(last)) {
            // It was promoted, and has what the session does on the primary.
            return;
        }
        if let Some(seat) = self.context.seat.as_ref().filter(|_| self.has_own_connections()) {
            seat.close_own(last);
        }
    }
}

impl Relay {
    /// The primary has run a unit that only reads. What the session has written before that may not have been asked for: see
    /// [`Relay::ask_primary`].
    pub(super) fn asks_behind_read(&mut self) {
        if !self.has_own_connections() {
            return;
        }
        let snapshot = self.worker.shared.health.load();
        let Some(split) = &mut self.context.split else { return };
        let now = Instant::now();
        let position = split.floor.position(&snapshot, now);
        let since = split.floor.awaited_since().unwrap_or(now);
        if let (FloorPosition::Unknown, Some(primary)) = (position, snapshot.primary) {
            self.ask_position(primary, AskedPosition::Insert, Some(since));
        }
    }

    /// Whether a unit has waited for the session's own connection to the primary while it reads: that was asked meanwhile where it
    /// writes, so that a standby may do by now.
    pub(in crate::relay) fn decides_anew(&self) -> bool {
        let place = self.context.split.as_ref().map(|split| split.place);
        matches!(place, Some(UnitPlace::ReadOnPrimary(_))) && self.has_own_connections()
    }

    /// Whether the session goes on with the server that it has an idle connection of its own to.
    pub(in crate::relay) fn stays_on_own(&self) -> bool {
        let stay = self.context.split.as_ref().map(|split| split.stay);
        stay == Some(OwnStay::Stays) && self.has_own_connections()
    }

    /// Looks now and then whether the server that it was on last has more than its share of sessions.
    #[inline]
    pub(in crate::relay) fn looks_at_own_share(&mut self, now: Instant) {
        if now >= self.context.chosen_at + OWN_STAY && self.has_own_connections() {
            self.compares_shares(now);
        }
    }

    #[cold]
    fn compares_shares(&mut self, now: Instant) {
        let Some(last) = self.context.last else { return };
        let attached = &self.worker.shared.attached;
        let snapshot = self.worker.shared.health.load();
        let servers = self.context.criteria.eligible(&snapshot, &self.live, attached).servers;
        let counted = servers.iter().map(|one| (one.id, one.weight, attached.sessions_on(one.id)));
        let is_even = has_its_share(counted, last);
        match &mut self.context.split {
            Some(split) if !is_even => split.stay = OwnStay::ChoosesAnew,
            Some(_) | None => self.context.chosen_at = now,
        }
    }
}

/// Whether `server` has no more than its share of the sessions on these servers.
#[expect(clippy::cast_precision_loss, reason = "shares of session counts need no exact bits")]
fn has_its_share(servers: impl Iterator<Item = (ServerId, f32, u64)>, server: ServerId) -> bool {
    let (mut all, mut weights, mut own) = (0.0, 0.0, None);
    for (id, weight, count) in servers {
        all += count as f32;
        weights += weight;
        if id == server {
            own = Some((weight, count as f32));
        }
    }
    own.is_some_and(|(weight, count)| {
        let fair = all * weight / weights;
        count - fair < 1.0 || count - fair <= fair * REBALANCE_TOLERANCE
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_with_more_than_its_share_is_left() {
        let is_even = |counts: [u64; 2], weights: [f32; 2]| {
            let servers =
                (0..).zip(weights).zip(counts).map(|((id, weight), count)| (ServerId(id), weight, count));
            has_its_share(servers, ServerId(0))
        };
        assert!(is_even([1, 0], [1.0; 2]) && is_even([52, 48], [1.0; 2]) && is_even([0, 50], [1.0; 2]));
        assert!(!is_even([16, 0], [1.0; 2]) && is_even([16, 8], [2.0, 1.0]));
        assert!(!has_its_share([(ServerId(1), 1.0, 0)].into_iter(), ServerId(0)), "it is not among the best");
    }

    #[test]
    fn standbys_that_fail_are_left_alone_for_longer_each_time_until_one_takes_the_session() {
        let (mut rest, now) = (StandbyRest::default(), Instant::now());
        let failed = |rest: &mut StandbyRest| {
            rest.note(ServerRole::Primary, ChoiceReason::StandbysFailed, now);
            rest.until.map(|until| until - now)
        };
        assert!(!rest.lasts(now));
        let pauses: Vec<_> = (0..20).map(|_| failed(&mut rest)).collect();
        assert_eq!(pauses[..3], [1, 2, 4].map(|times| Some(times * MOVE_RETRY_PAUSE)));
        assert_eq!(pauses[19], Some(MOVE_RETRY_PAUSE_MAX));
        assert!(rest.lasts(now) && !rest.lasts(now + MOVE_RETRY_PAUSE_MAX));
        rest.note(ServerRole::Primary, ChoiceReason::Regular, now);
        assert!(rest.lasts(now), "a write says nothing of standbys");
        rest.note(ServerRole::Standby, ChoiceReason::Regular, now);
        assert!(!rest.lasts(now));
        assert_eq!(failed(&mut rest), Some(MOVE_RETRY_PAUSE));
    }
}
