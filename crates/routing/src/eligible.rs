//! Which servers a listener's sessions may have.
//!
//! A stale snapshot is used as it is: the last verdicts beat none, and a connect that fails is tried elsewhere.

use trunkline_topology::{Role, ServerId, ServerStatus, Snapshot, State};

use crate::attrs::{Fallback, TargetSessionAttrs};

/// What kind of servers [`Candidates`] are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tier {
    /// Standbys that are up.
    Up,
    /// Standbys that lag, within `hard_max_lag`.
    Lagging,
    /// The primary.
    Primary,
    /// Standbys and the primary alike: the listener accepts any.
    Any,
    /// No server may be used.
    Empty,
}

/// A server a session may have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Which one.
    pub id: ServerId,
    /// Its share: configured weight times slow start.
    pub weight: f32,
}

/// The servers a session may have now; choose among them by balance.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidates {
    /// In configuration order.
    pub servers: Vec<Candidate>,
    /// What kind they are: anything but the wanted kind is a fallback worth a count.
    pub tier: Tier,
}

impl Fallback {
    fn tiers(self) -> &'static [Tier] {
        match self {
            Fallback::None => &[],
            Fallback::Primary => &[Tier::Primary],
            Fallback::Lagging => &[Tier::Lagging],
            Fallback::LaggingThenPrimary => &[Tier::Lagging, Tier::Primary],
        }
    }
}

/// The servers a new session may have.
#[must_use]
pub fn candidates(snapshot: &Snapshot, attrs: TargetSessionAttrs, fallback: &Fallback) -> Candidates {
    let tiers: &[Tier] = match attrs {
        TargetSessionAttrs::Any | TargetSessionAttrs::ReadOnly => &[Tier::Any],
        TargetSessionAttrs::ReadWrite | TargetSessionAttrs::Primary => &[Tier::Primary],
        TargetSessionAttrs::Standby | TargetSessionAttrs::PreferStandby => &[Tier::Up],
    };
    let fallbacks: &[Tier] = match attrs {
        TargetSessionAttrs::Any
        | TargetSessionAttrs::ReadOnly
        | TargetSessionAttrs::ReadWrite
        | TargetSessionAttrs::Primary => &[],
        TargetSessionAttrs::Standby | TargetSessionAttrs::PreferStandby => fallback.tiers(),
    };
    tiers
        .iter()
        .chain(fallbacks)
        .copied()
        .filter(|tier| attrs != TargetSessionAttrs::Standby || *tier != Tier::Primary)
        .map(|tier| Candidates { servers: members(snapshot, tier), tier })
        .find(|candidates| !candidates.servers.is_empty())
        .unwrap_or(Candidates { servers: Vec::new(), tier: Tier::Empty })
}

/// The primary, if sessions of such a listener may have it in the standbys' place.
#[must_use]
pub fn primary_as_fallback(
    snapshot: &Snapshot,
    attrs: TargetSessionAttrs,
    fallback: &Fallback,
) -> Vec<Candidate> {
    let is_allowed = attrs == TargetSessionAttrs::PreferStandby && fallback.tiers().contains(&Tier::Primary);
    if is_allowed { members(snapshot, Tier::Primary) } else { Vec::new() }
}

/// Whether a session that is on `id` may stay there: as for a new one, but a saturated server keeps what it has.
#[must_use]
pub fn may_stay(snapshot: &Snapshot, attrs: TargetSessionAttrs, fallback: &Fallback, id: ServerId) -> bool {
    let Some(server) = snapshot.server(id) else { return false };
    let is_kind = match attrs {
        TargetSessionAttrs::Any | TargetSessionAttrs::ReadOnly => true,
        TargetSessionAttrs::ReadWrite | TargetSessionAttrs::Primary => is_the_primary(snapshot, server),
        TargetSessionAttrs::Standby | TargetSessionAttrs::PreferStandby => server.role == Role::Standby,
    };
    (is_kind && server.state.takes_new())
        || candidates(snapshot, attrs, fallback).servers.iter().any(|candidate| candidate.id == id)
}

/// Whether a session that may not stay on `id` is better off without any server: what a fenced one shows is not this
/// cluster's, and a session of the primary's waits for the next one instead of talking to the last.
#[must_use]
pub fn is_worse_than_none(snapshot: &Snapshot, attrs: TargetSessionAttrs, id: ServerId) -> bool {
    let Some(server) = snapshot.server(id) else { return true };
    let is_no_primary = server.state.takes_new() && !is_the_primary(snapshot, server);
    let is_left = server.state.is_left_by_writers() || is_no_primary;
    server.state == State::Fenced || (attrs.is_primary_only() && is_left)
}

fn members(snapshot: &Snapshot, tier: Tier) -> Vec<Candidate> {
    snapshot
        .servers
        .iter()
        .filter(|server| !server.saturated && server.weight > 0 && is_member(snapshot, server, tier))
        .map(|server| Candidate { id: server.id, weight: server.effective_weight() })
        .collect()
}

fn is_member(snapshot: &Snapshot, server: &ServerStatus, tier: Tier) -> bool {
    match tier {
        Tier::Up => server.state.takes_new() && server.role == Role::Standby,
        Tier::Lagging => {
            let is_within = server.lag.is_some_and(|lag| lag.lo <= snapshot.hard_max_lag);
            server.state == State::Lagging && server.role == Role::Standby && is_within
        }
        Tier::Primary => server.state.takes_new() && is_the_primary(snapshot, server),
        Tier::Any => is_member(snapshot, server, Tier::Up) || is_member(snapshot, server, Tier::Primary),
        Tier::Empty => false,
    }
}

fn is_the_primary(snapshot: &Snapshot, server: &ServerStatus) -> bool {
    server.role == Role::Primary && snapshot.primary == Some(server.id)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use trunkline_codec::ids::TimelineId;

    use super::*;
    use trunkline_topology::testing::{lag_replica1, snapshot};

    fn ids(snapshot: &Snapshot, attrs: &str, fallback: Fallback) -> (Vec<u16>, Tier) {
        let attrs = attrs.parse().expect("one of libpq's words");
        let candidates = candidates(snapshot, attrs, &fallback);
        (candidates.servers.iter().map(|candidate| candidate.id.0).collect(), candidates.tier)
    }

    #[test]
    fn each_word_gets_its_servers() {
        let snapshot = snapshot();
        for (attrs, servers, tier) in [
            ("any", vec![0, 1, 2], Tier::Any),
            ("read-only", vec![0, 1, 2], Tier::Any),
            ("read-write", vec![0], Tier::Primary),
            ("primary", vec![0], Tier::Primary),
            ("standby", vec![1, 2], Tier::Up),
            ("prefer-standby", vec![1, 2], Tier::Up),
        ] {
            assert_eq!(ids(&snapshot, attrs, Fallback::Primary), (servers, tier), "{attrs}");
        }
    }

    #[test]
    fn the_fallback_decides_when_no_standby_is_up() {
        let mut snapshot = snapshot();
        lag_replica1(&mut snapshot);
        snapshot.servers[2].state = State::Down;
        let empty = (vec![], Tier::Empty);
        for (attrs, fallback, expected) in [
            ("prefer-standby", Fallback::Primary, (vec![0], Tier::Primary)),
            ("prefer-standby", Fallback::None, empty.clone()),
            ("prefer-standby", Fallback::Lagging, (vec![1], Tier::Lagging)),
            ("prefer-standby", Fallback::LaggingThenPrimary, (vec![1], Tier::Lagging)),
            ("standby", Fallback::Primary, empty.clone()),
            ("standby", Fallback::LaggingThenPrimary, (vec![1], Tier::Lagging)),
        ] {
            assert_eq!(ids(&snapshot, attrs, fallback), expected, "{attrs} {fallback}");
        }
        snapshot.hard_max_lag = Duration::from_secs(5);
        assert_eq!(ids(&snapshot, "prefer-standby", Fallback::LaggingThenPrimary), (vec![0], Tier::Primary));
        assert_eq!(ids(&snapshot, "prefer-standby", Fallback::Lagging), empty);
    }

    #[test]
    fn only_up_servers_with_room_and_weight_take_sessions() {
        for state in State::ALL {
            let mut snapshot = snapshot();
            snapshot.servers[1].state = state;
            let has = ids(&snapshot, "standby", Fallback::None).0.contains(&1);
            assert_eq!(has, state == State::Up, "{state}");
        }
        let mut snapshot = snapshot();
        snapshot.servers[1].saturated = true;
        snapshot.servers[2].weight = 0;
        assert_eq!(ids(&snapshot, "standby", Fallback::None).1, Tier::Empty);
        let stays = |id| may_stay(&snapshot, TargetSessionAttrs::Standby, &Fallback::None, ServerId(id));
        assert!(stays(1), "a full server keeps what it has");
        assert!(!stays(0));
    }

    #[test]
    fn reads_go_on_with_the_primary_down() {
        let mut snapshot = snapshot();
        snapshot.servers[0].state = State::Down;
        assert_eq!(ids(&snapshot, "prefer-standby", Fallback::Primary), (vec![1, 2], Tier::Up));
        assert_eq!(ids(&snapshot, "read-write", Fallback::Primary).1, Tier::Empty);
    }

    #[test]
    fn a_promoted_replica_is_nobodys_standby() {
        let mut snapshot = snapshot();
        snapshot.servers[1].role = Role::Primary;
        assert_eq!(ids(&snapshot, "standby", Fallback::None).0, [2]);
        assert_eq!(ids(&snapshot, "primary", Fallback::None).0, [0], "one primary is known");
    }

    #[test]
    fn what_is_worse_than_no_server_depends_on_what_is_wanted() {
        let worse = |snapshot: &Snapshot, attrs, id| is_worse_than_none(snapshot, attrs, ServerId(id));
        let mut snapshot = snapshot();
        for (state, for_writes, for_reads) in [
            (State::Up, false, false),
            (State::Unknown, false, false),
            (State::Lagging, false, false),
            (State::Drain, true, false),
            (State::Maint, true, false),
            (State::Down, true, false),
            (State::Fenced, true, true),
        ] {
            snapshot.servers[0].state = state;
            assert_eq!(worse(&snapshot, TargetSessionAttrs::ReadWrite, 0), for_writes, "{state}");
            assert_eq!(worse(&snapshot, TargetSessionAttrs::PreferStandby, 0), for_reads, "{state}");
        }
        assert!(worse(&snapshot, TargetSessionAttrs::Primary, 1), "a standby takes no writes");
    }

    #[test]
    fn an_old_primary_is_fenced_also_while_it_is_silent() {
        let mut snapshot = snapshot();
        assert!(!snapshot.is_fenced_primary(ServerId(0)));
        snapshot.servers[0].state = State::Down;
        assert!(!snapshot.is_fenced_primary(ServerId(0)), "it is the newest there is");
        snapshot.timeline = Some(TimelineId(2));
        assert!(snapshot.is_fenced_primary(ServerId(0)));
        assert!(!snapshot.is_fenced_primary(ServerId(1)), "a standby accepts no writes");
        snapshot.timeline = Some(TimelineId(1));
        snapshot.servers[0].state = State::Fenced;
        assert!(snapshot.is_fenced_primary(ServerId(0)), "a second one");
    }
}
