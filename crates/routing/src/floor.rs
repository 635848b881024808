//! What a session that reads on standbys has written on the primary: how far a standby must be to show it.
//!
//! ```text
//!        a unit that may have written ends           health asks the primary, later
//!  None -----------------------------------> Awaited ------------------------------> At its position
//!                                             ^   ^                                      |    |
//!                                             |   '-------- such a unit ends ------------'    |
//!                                             '------------ another is the primary -----------'
//! ```

use std::time::Instant;

use trunkline_codec::ids::Lsn;
use trunkline_topology::{Role, ServerId, Snapshot};

/// The position from which on a standby shows what the session has written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floor(FloorState);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum FloorState {
    /// It has written nothing.
    #[default]
    None,
    /// It has written until then, and the primary has not been asked since.
    Awaited { primary: Option<ServerId>, since: Instant },
    /// Where the primary was asked for it, after that.
    At { primary: ServerId, lsn: Lsn },
}

/// What a standby must show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloorPosition {
    /// Nothing of the session's own.
    Any,
    /// This.
    At(Lsn),
    /// It is not known yet: only the primary is sure to show it.
    Unknown,
}

impl Floor {
    /// Something that may have written has ended by `now`.
    pub fn raise(&mut self, snapshot: &Snapshot, now: Instant) {
        self.0 = FloorState::Awaited { primary: snapshot.primary, since: now };
    }

    /// The primary has told that it wrote at `lsn` when it was asked, at `asked`.
    pub fn told(&mut self, server: ServerId, asked: Instant, lsn: Lsn) {
        if let FloorState::Awaited { primary: Some(primary), since } = self.0
            && primary == server
            && asked >= since
        {
            self.0 = FloorState::At { primary, lsn };
        }
    }

    /// Until when the session has written, while it is not known where.
    #[must_use]
    pub fn awaited_since(&self) -> Option<Instant> {
        match self.0 {
            FloorState::Awaited { since, .. } => Some(since),
            FloorState::None | FloorState::At { .. } => None,
        }
    }

    /// What a standby must show at `now`.
    pub fn position(&mut self, snapshot: &Snapshot, now: Instant) -> FloorPosition {
        let is_other = |primary: Option<ServerId>| snapshot.primary.is_some() && snapshot.primary != primary;
        match self.0 {
            FloorState::None => return FloorPosition::Any,
            // What the new primary has of it is in front of where that is now. The old one's positions mean nothing there.
            FloorState::Awaited { primary, .. } if is_other(primary) => self.raise(snapshot, now),
            FloorState::At { primary, .. } if is_other(Some(primary)) => self.raise(snapshot, now),
            FloorState::Awaited { .. } | FloorState::At { .. } => {}
        }
        if let FloorState::Awaited { primary: Some(primary), since } = self.0
            && let Some(lsn) = inserted(snapshot, primary, since)
        {
            self.0 = FloorState::At { primary, lsn };
        }
        match self.0 {
            FloorState::At { lsn, .. } => FloorPosition::At(lsn),
            FloorState::None | FloorState::Awaited { .. } => FloorPosition::Unknown,
        }
    }
}

/// Where the primary wrote when it was asked after `since`.
fn inserted(snapshot: &Snapshot, primary: ServerId, since: Instant) -> Option<Lsn> {
    let status = snapshot.server(primary).filter(|status| status.role == Role::Primary)?;
    status.insert_lsn.filter(|_| status.asked_at.is_some_and(|asked| asked >= since))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use trunkline_topology::testing::snapshot;

    const SECOND: Duration = Duration::from_secs(1);

    /// The primary was asked at `asked`, and was at `lsn` then.
    fn asked(snapshot: &mut Snapshot, asked: Instant, lsn: u64) {
        let primary = snapshot.primary;
        let status = snapshot.servers.iter_mut().find(|server| Some(server.id) == primary);
        let status = status.expect("it has a primary");
        status.asked_at = Some(asked);
        status.insert_lsn = Some(Lsn(lsn));
    }

    #[test]
    fn a_session_that_has_written_nothing_may_read_anywhere() {
        let now = Instant::now();
        assert_eq!(Floor::default().position(&snapshot(), now), FloorPosition::Any);
    }

    #[test]
    fn a_look_that_began_before_the_write_ended_proves_nothing() {
        let (now, mut snapshot) = (Instant::now(), snapshot());
        let mut floor = Floor::default();
        floor.raise(&snapshot, now);
        asked(&mut snapshot, now - Duration::from_nanos(1), 100);
        assert_eq!(floor.position(&snapshot, now), FloorPosition::Unknown);
        asked(&mut snapshot, now, 200);
        assert_eq!(floor.position(&snapshot, now), FloorPosition::At(Lsn(200)));
        asked(&mut snapshot, now + SECOND, 300);
        assert_eq!(
            floor.position(&snapshot, now + SECOND),
            FloorPosition::At(Lsn(200)),
            "others have written"
        );
        floor.raise(&snapshot, now + 2 * SECOND);
        assert_eq!(floor.position(&snapshot, now + 2 * SECOND), FloorPosition::Unknown);
    }

    #[test]
    fn what_the_primary_told_beside_health_counts_as_well() {
        let (now, snapshot) = (Instant::now(), snapshot());
        let primary = snapshot.primary.expect("it has one");
        let mut floor = Floor::default();
        floor.told(primary, now, Lsn(1));
        assert_eq!((floor.position(&snapshot, now), floor.awaited_since()), (FloorPosition::Any, None));
        floor.raise(&snapshot, now + SECOND);
        assert_eq!(floor.awaited_since(), Some(now + SECOND));
        floor.told(primary, now, Lsn(100));
        floor.told(ServerId(primary.0 + 1), now + SECOND, Lsn(100));
        assert_eq!(floor.position(&snapshot, now), FloorPosition::Unknown);
        floor.told(primary, now + SECOND, Lsn(200));
        floor.told(primary, now + 2 * SECOND, Lsn(300));
        assert_eq!(floor.awaited_since(), None);
        assert_eq!(floor.position(&snapshot, now), FloorPosition::At(Lsn(200)));
    }

    #[test]
    fn a_primary_that_does_not_tell_where_it_writes_proves_nothing() {
        let (now, mut snapshot) = (Instant::now(), snapshot());
        let mut floor = Floor::default();
        floor.raise(&snapshot, now);
        asked(&mut snapshot, now + SECOND, 100);
        snapshot.servers.iter_mut().for_each(|server| server.insert_lsn = None);
        assert_eq!(floor.position(&snapshot, now + SECOND), FloorPosition::Unknown);
    }

    #[test]
    fn another_primary_is_asked_anew_and_a_lost_one_leaves_what_is_known() {
        let (now, mut snapshot) = (Instant::now(), snapshot());
        let mut floor = Floor::default();
        floor.raise(&snapshot, now);
        asked(&mut snapshot, now, 100);
        assert_eq!(floor.position(&snapshot, now), FloorPosition::At(Lsn(100)));
        let lost = snapshot.primary.take();
        assert_eq!(floor.position(&snapshot, now + SECOND), FloorPosition::At(Lsn(100)));
        let next = snapshot.servers.iter_mut().find(|server| Some(server.id) != lost).expect("a standby");
        next.role = Role::Primary;
        snapshot.primary = Some(next.id);
        asked(&mut snapshot, now + SECOND, 50);
        assert_eq!(floor.position(&snapshot, now + 2 * SECOND), FloorPosition::Unknown, "asked before that");
        asked(&mut snapshot, now + 2 * SECOND, 60);
        assert_eq!(floor.position(&snapshot, now + 3 * SECOND), FloorPosition::At(Lsn(60)));
    }
}
