//! Which servers a listener's sessions may have.
//!
//! Everything that routes, or reports how it would route, calls [`eligible`]: taking a server, moving, spreading sessions
//! again, and the answer to `pgsql-check`.
//!
//! A stale snapshot is used unchanged: old verdicts are better than none, and a failed connect tries the next server.

use trunkline_codec::ids::Lsn;
use trunkline_topology::{Role, ServerId, ServerStatus, Snapshot, State};

use crate::attrs::{Fallback, TargetSessionAttrs};
use crate::candidate::Candidate;
use crate::load::Attached;

/// What a session may have, by its listener and its own startup packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The listener's attributes, or stricter ones.
    pub attrs: TargetSessionAttrs,
    /// Where reads go when no standby is up.
    pub fallback: Fallback,
    /// Sessions that the primary takes in the standbys' place; zero is no bound.
    pub standing_in_max: u64,
    /// Only this server will do.
    pub only: Option<ServerId>,
}

/// The servers a session may have now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Eligible {
    /// Those with room for one more, in configuration order; choose among them by balance.
    pub servers: Vec<Candidate>,
    /// Some match, but have no room.
    pub is_full: bool,
    /// All that match have no free connection.
    pub is_saturated: bool,
}

/// What kind of servers may be used now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tier {
    /// Standbys that are up.
    Up,
    /// Standbys that lag, within `hard_max_lag`.
    Lagging,
    /// The primary.
    Primary,
    /// Standbys and the primary alike: the listener accepts any.
    Any,
}

impl Rules {
    /// The most sessions that the primary takes in the standbys' place.
    #[must_use]
    pub fn standing_in_most(&self) -> u64 {
        match self.standing_in_max {
            0 => u64::MAX,
            most => most,
        }
    }

    /// Whether such a session has `server` in the place of a standby.
    #[must_use]
    pub fn stands_in(&self, server: &ServerStatus) -> bool {
        self.attrs == TargetSessionAttrs::PreferStandby && server.role == Role::Primary
    }

    /// The kinds of servers wanted, the best first.
    fn tiers(&self) -> impl Iterator<Item = Tier> {
        let (wanted, fallbacks) = match self.attrs {
            TargetSessionAttrs::Any | TargetSessionAttrs::ReadOnly => (Tier::Any, &[][..]),
            TargetSessionAttrs::ReadWrite | TargetSessionAttrs::Primary => (Tier::Primary, &[][..]),
            TargetSessionAttrs::Standby | TargetSessionAttrs::PreferStandby => {
                (Tier::Up, self.fallback.tiers())
            }
        };
        let may_be = |tier: &Tier| self.attrs != TargetSessionAttrs::Standby || *tier != Tier::Primary;
        std::iter::once(wanted).chain(fallbacks.iter().copied()).filter(may_be)
    }

    /// The servers of the best kind that has any, however many sessions they have.
    fn members(&self, snapshot: &Snapshot) -> Vec<Candidate> {
        self.tiers()
            .map(|tier| members(snapshot, tier))
            .find(|servers| !servers.is_empty())
            .unwrap_or_default()
    }

    /// Whether such a session could have the server, were it well.
    fn may_ever_have(&self, server: &ServerStatus) -> bool {
        let is_standby = server.role != Role::Primary;
        !server.is_leaving
            && match self.attrs {
                TargetSessionAttrs::Any | TargetSessionAttrs::ReadOnly => true,
                TargetSessionAttrs::ReadWrite | TargetSessionAttrs::Primary => !is_standby,
                TargetSessionAttrs::Standby | TargetSessionAttrs::PreferStandby => is_standby,
            }
    }

    /// Whether servers match that have no free connection.
    fn finds_saturated(&self, snapshot: &Snapshot) -> bool {
        let is_match = |server: &ServerStatus| {
            let is_member = self.tiers().any(|tier| is_member(snapshot, server, tier));
            is_member && server.weight > 0 && self.only.is_none_or(|only| server.id == only)
        };
        snapshot.servers.iter().any(|server| server.saturated && is_match(server))
    }

    /// Whether one more such session finds room there.
    fn has_room(&self, snapshot: &Snapshot, id: ServerId, load: &Attached) -> bool {
        let stands_in = snapshot.server(id).is_some_and(|server| self.stands_in(server));
        !stands_in || load.standing_in_on(id) < self.standing_in_most()
    }
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
pub fn eligible(rules: &Rules, snapshot: &Snapshot, load: &Attached) -> Eligible {
    let mut servers = rules.members(snapshot);
    servers.retain(|candidate| rules.only.is_none_or(|only| candidate.id == only));
    let all = servers.len();
    servers.retain(|candidate| rules.has_room(snapshot, candidate.id, load));
    let is_saturated = all == 0 && rules.finds_saturated(snapshot);
    weigh(rules, snapshot, load, &mut servers);
    Eligible { is_full: servers.len() < all, is_saturated, servers }
}

/// What is known besides the verdicts: who is slow, and who is near.
fn weigh(rules: &Rules, snapshot: &Snapshot, load: &Attached, servers: &mut [Candidate]) {
    for candidate in servers.iter_mut() {
        candidate.weight *= load.speed(candidate.id);
    }
    if servers.len() > 1 {
        let zones = load.zones();
        let of_the_kind = snapshot.servers.iter().filter(|server| rules.may_ever_have(server));
        zones.weigh(snapshot, zones.configured(of_the_kind), servers);
    }
}

/// The primary, if such a session may have it in the standbys' place though some are up.
#[must_use]
pub fn primary_as_fallback(rules: &Rules, snapshot: &Snapshot, load: &Attached) -> Vec<Candidate> {
    let is_allowed = rules.only.is_none()
        && rules.attrs == TargetSessionAttrs::PreferStandby
        && rules.fallback.tiers().contains(&Tier::Primary);
    let mut servers = if is_allowed { members(snapshot, Tier::Primary) } else { Vec::new() };
    servers.retain(|candidate| rules.has_room(snapshot, candidate.id, load));
    servers
}

/// Whether the server showed at least `lsn` when it was asked last.
#[must_use]
pub fn shows(snapshot: &Snapshot, server: &ServerStatus, lsn: Lsn) -> bool {
    is_the_primary(snapshot, server) || server.replay_lsn.is_some_and(|replayed| replayed >= lsn)
}

/// Whether a session that is on `id` may stay there: as for a new one, but a full server keeps what it has.
#[must_use]
pub fn may_stay(rules: &Rules, snapshot: &Snapshot, id: ServerId) -> bool {
    let Some(server) = snapshot.server(id) else { return false };
    let is_kind = match rules.attrs {
        TargetSessionAttrs::Any | TargetSessionAttrs::ReadOnly => true,
        TargetSessionAttrs::ReadWrite | TargetSessionAttrs::Primary => is_the_primary(snapshot, server),
        TargetSessionAttrs::Standby | TargetSessionAttrs::PreferStandby => server.role == Role::Standby,
    };
    (is_kind && server.state.takes_new())
        || rules.members(snapshot).iter().any(|candidate| candidate.id == id)
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

/// The servers to ask about users and functions, the primary first: it alone knows what has changed a moment ago. The
/// same standby comes first every time, so that the connection to it is kept.
#[must_use]
pub fn to_ask(snapshot: &Snapshot) -> Vec<&ServerStatus> {
    let primary = snapshot.serving_primary().map(|server| server.id);
    let rank = |server: &ServerStatus| {
        if Some(server.id) == primary {
            Some(0)
        } else if server.state.takes_new() {
            Some(1)
        } else {
            (server.state == State::Lagging).then_some(2)
        }
    };
    let mut ranked: Vec<_> =
        snapshot.servers.iter().filter_map(|server| Some((rank(server)?, server))).collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, server)| server).collect()
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

    fn rules(attrs: &str, fallback: Fallback) -> Rules {
        let attrs = attrs.parse().expect("one of libpq's words");
        Rules { attrs, fallback, standing_in_max: 0, only: None }
    }

    fn numbers(servers: &[Candidate]) -> Vec<u32> {
        servers.iter().map(|candidate| candidate.id.0).collect()
    }

    fn ids(snapshot: &Snapshot, attrs: &str, fallback: Fallback) -> Vec<u32> {
        let idle = Attached::new();
        numbers(&eligible(&rules(attrs, fallback), snapshot, &idle).servers)
    }

    #[test]
    fn each_word_gets_its_servers() {
        let snapshot = snapshot();
        for (attrs, servers) in [
            ("any", vec![0, 1, 2]),
            ("read-only", vec![0, 1, 2]),
            ("read-write", vec![0]),
            ("primary", vec![0]),
            ("standby", vec![1, 2]),
            ("prefer-standby", vec![1, 2]),
        ] {
            assert_eq!(ids(&snapshot, attrs, Fallback::Primary), servers, "{attrs}");
        }
    }

    #[test]
    fn the_fallback_decides_when_no_standby_is_up() {
        let mut snapshot = snapshot();
        lag_replica1(&mut snapshot);
        snapshot.servers[2].state = State::Down;
        for (attrs, fallback, expected) in [
            ("prefer-standby", Fallback::Primary, vec![0]),
            ("prefer-standby", Fallback::None, vec![]),
            ("prefer-standby", Fallback::Lagging, vec![1]),
            ("prefer-standby", Fallback::LaggingThenPrimary, vec![1]),
            ("standby", Fallback::Primary, vec![]),
            ("standby", Fallback::LaggingThenPrimary, vec![1]),
        ] {
            assert_eq!(ids(&snapshot, attrs, fallback), expected, "{attrs} {fallback:?}");
        }
        snapshot.hard_max_lag = Duration::from_secs(5);
        assert_eq!(ids(&snapshot, "prefer-standby", Fallback::LaggingThenPrimary), [0]);
        assert_eq!(ids(&snapshot, "prefer-standby", Fallback::Lagging), [0_u32; 0]);
    }

    #[test]
    fn only_up_servers_with_room_and_weight_take_sessions() {
        for state in State::ALL {
            let mut snapshot = snapshot();
            snapshot.servers[1].state = state;
            let has = ids(&snapshot, "standby", Fallback::None).contains(&1);
            assert_eq!(has, state == State::Up, "{state}");
        }
        let mut snapshot = snapshot();
        snapshot.servers[1].saturated = true;
        snapshot.servers[2].weight = 0;
        assert_eq!(ids(&snapshot, "standby", Fallback::None), [0_u32; 0]);
        let is_saturated = |snapshot: &Snapshot| {
            eligible(&rules("standby", Fallback::None), snapshot, &Attached::new()).is_saturated
        };
        assert!(is_saturated(&snapshot), "one has no free connection");
        snapshot.servers[1].weight = 0;
        assert!(!is_saturated(&snapshot), "none takes sessions");
        snapshot.servers[1].weight = 100;
        let stays = |id| may_stay(&rules("standby", Fallback::None), &snapshot, ServerId(id));
        assert!(stays(1), "a full server keeps what it has");
        assert!(!stays(0));
    }

    /// What the router, the answer to `pgsql-check` and the rebalancer see of it.
    #[test]
    fn a_primary_that_stands_in_for_as_many_as_it_takes_is_full() {
        let mut snapshot = snapshot();
        (snapshot.servers[1].state, snapshot.servers[2].state) = (State::Down, State::Down);
        let load = Attached::new();
        let rules = Rules { standing_in_max: 2, ..rules("prefer-standby", Fallback::Primary) };
        let asked = |rules: &Rules| {
            let eligible = eligible(rules, &snapshot, &load);
            (numbers(&eligible.servers), eligible.is_full)
        };
        let stand_in = || load.lease(ServerId(0)).standing_in(2).expect("there is room");
        let first = stand_in();
        assert_eq!(asked(&rules), (vec![0], false), "one below the bound");
        let _second = stand_in();
        assert_eq!(asked(&rules), (vec![], true), "at the bound");
        assert!(primary_as_fallback(&rules, &snapshot, &load).is_empty(), "nor for one that moves");
        assert!(may_stay(&rules, &snapshot, ServerId(0)), "it keeps what it has");
        let others = Rules { attrs: TargetSessionAttrs::ReadWrite, ..rules };
        assert_eq!(asked(&others), (vec![0], false), "its own sessions do not stand in");
        assert_eq!(asked(&Rules { standing_in_max: 0, ..rules }), (vec![0], false), "zero is no bound");
        drop(first);
        assert_eq!(asked(&rules), (vec![0], false), "a place was given back");
    }

    #[test]
    fn a_session_that_named_its_server_gets_that_one_or_none() {
        let mut snapshot = snapshot();
        let load = Attached::new();
        let rules = Rules { only: Some(ServerId(2)), ..rules("prefer-standby", Fallback::Primary) };
        assert_eq!(numbers(&eligible(&rules, &snapshot, &load).servers), [2]);
        snapshot.servers[2].state = State::Down;
        assert_eq!(eligible(&rules, &snapshot, &load), Eligible::default());
        assert!(primary_as_fallback(&rules, &snapshot, &load).is_empty());
    }

    #[test]
    fn the_primary_is_asked_first_and_standbys_when_it_is_down() {
        let mut snapshot = snapshot();
        lag_replica1(&mut snapshot);
        let asked =
            |snapshot: &Snapshot| -> Vec<u32> { to_ask(snapshot).iter().map(|server| server.id.0).collect() };
        assert_eq!(asked(&snapshot), [0, 2, 1]);
        snapshot.servers[0].state = State::Down;
        assert_eq!(asked(&snapshot), [2, 1]);
        snapshot.servers[1].state = State::Fenced;
        snapshot.servers[2].state = State::Unknown;
        assert_eq!(asked(&snapshot), [0_u32; 0], "none that is not known to be of this cluster");
    }

    #[test]
    fn reads_go_on_with_the_primary_down() {
        let mut snapshot = snapshot();
        snapshot.servers[0].state = State::Down;
        assert_eq!(ids(&snapshot, "prefer-standby", Fallback::Primary), [1, 2]);
        assert_eq!(ids(&snapshot, "read-write", Fallback::Primary), [0_u32; 0]);
    }

    #[test]
    fn a_promoted_replica_is_nobodys_standby() {
        let mut snapshot = snapshot();
        snapshot.servers[1].role = Role::Primary;
        assert_eq!(ids(&snapshot, "standby", Fallback::None), [2]);
        assert_eq!(ids(&snapshot, "primary", Fallback::None), [0], "one primary is known");
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
