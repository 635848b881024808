//! Sessions stay in the proxy's own zone while that has enough healthy capacity, and cross to others by degrees.
//!
//! Let `healthy` be the weight in force of the servers in the proxy's own zone that a session may have, and `configured` the
//! weight that all servers of that kind in the zone were given. While `healthy / configured` is at least `spill`, sessions
//! stay in the zone. Below it, they stay with the share `healthy / (configured * spill)`: each server in the zone then has
//! the load that it has at the limit, never more than `1 / spill` of its usual one, and nothing jumps. Without a healthy
//! server in the zone all sessions cross; without one elsewhere all stay.

use std::sync::Arc;

use trunkline_topology::{ServerStatus, Snapshot};

use crate::candidate::Candidate;

/// What a server outside of the zone weighs, relative to its share, while sessions stay: so little that it is taken only by
/// a search that the servers in the zone have failed.
const RESERVE: f32 = 1e-6;

/// Where the proxy is, and when its sessions leave there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ZonePreference {
    /// The proxy's own zone, in the words of the servers' zones; `None`: it prefers no server.
    pub own: Option<Arc<str>>,
    /// The share of the zone's configured weight, 0 to 1, below which sessions begin to leave it. 0: only when it has no
    /// server for them.
    pub spill: f32,
}

impl ZonePreference {
    /// Whether a session of this proxy on `server` is in another zone. A zone that is not known is not another one.
    #[must_use]
    pub fn crosses(&self, server: &ServerStatus) -> bool {
        matches!((&self.own, &server.zone), (Some(own), Some(zone)) if own != zone)
    }

    fn is_own(&self, server: &ServerStatus) -> bool {
        self.own.is_some() && self.own == server.zone
    }

    /// Weighs `candidates` by their zones; their sum stays. `configured` is the weight that the zone's servers of the kind
    /// were given.
    pub(crate) fn weigh(&self, snapshot: &Snapshot, configured: f32, candidates: &mut [Candidate]) {
        if self.own.is_none() {
            return;
        }
        let is_own =
            |candidate: &Candidate| snapshot.server(candidate.id).is_some_and(|server| self.is_own(server));
        let (mut own, mut others) = (0.0, 0.0);
        for candidate in candidates.iter() {
            *if is_own(candidate) { &mut own } else { &mut others } += candidate.weight;
        }
        if own <= 0.0 || others <= 0.0 {
            return;
        }
        let stay = stays(own, configured, self.spill);
        let all = own + others;
        let (own, others) = (all * stay / own, all * (1.0 - stay).max(RESERVE) / others);
        for candidate in candidates {
            candidate.weight *= if is_own(candidate) { own } else { others };
        }
    }

    /// The weight given to those of `servers` that are in the proxy's zone.
    pub(crate) fn configured<'s>(&self, servers: impl Iterator<Item = &'s ServerStatus>) -> f32 {
        servers.filter(|server| self.is_own(server)).map(|server| f32::from(server.weight)).sum()
    }
}

/// The share of sessions that stays in a zone.
fn stays(healthy: f32, configured: f32, spill: f32) -> f32 {
    let enough = configured * spill;
    if healthy >= enough { 1.0 } else { healthy / enough }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use trunkline_topology::testing::snapshot;
    use trunkline_topology::{Role, ServerId, State};

    use super::*;
    use crate::attrs::{Fallback, TargetSessionAttrs};
    use crate::eligible::{Rules, eligible};
    use crate::load::Attached;

    const STANDBYS: Rules = Rules {
        attrs: TargetSessionAttrs::Standby,
        fallback: Fallback::None,
        standing_in_max: 0,
        only: None,
    };

    /// Standbys by zone, weight, whether they are up, and slow start; the proxy is in zone `a`.
    fn fleet(servers: &[(&str, u16, bool, f32)]) -> Snapshot {
        let mut fleet = snapshot();
        let standby = fleet.servers[1].clone();
        fleet.servers.truncate(1);
        for (slot, (zone, weight, is_up, slow_start)) in (1..).zip(servers) {
            let mut server = standby.clone();
            server.id = ServerId(slot);
            server.name = format!("s{slot}").into();
            server.zone = Some((*zone).into());
            server.weight = *weight;
            server.state = if *is_up { State::Up } else { State::Down };
            server.slow_start = *slow_start;
            assert_eq!(server.role, Role::Standby);
            fleet.servers.push(server);
        }
        fleet
    }

    /// The share of sessions that each server gets.
    fn shares(fleet: &Snapshot, spill: f32) -> Vec<f32> {
        let load = Attached::new();
        load.prefer(ZonePreference { own: Some("a".into()), spill });
        let servers = eligible(&STANDBYS, fleet, &load).servers;
        let all: f32 = servers.iter().map(|candidate| candidate.weight).sum();
        let mut shares = vec![0.0; fleet.servers.len() - 1];
        servers.iter().for_each(|candidate| shares[candidate.id.index() - 1] = candidate.weight / all);
        shares
    }

    fn assert_near(found: &[f32], expected: &[f32]) {
        let is_near = found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-4);
        assert!(is_near && found.len() == expected.len(), "{found:?}, expected {expected:?}");
    }

    #[test]
    fn sessions_stay_while_the_zone_has_its_share_and_cross_by_degrees_below() {
        let with = |up: [bool; 4]| {
            let [a, b, c, d] = up;
            fleet(&[("a", 100, a, 1.0), ("a", 100, b, 1.0), ("a", 100, c, 1.0), ("b", 100, d, 1.0)])
        };
        assert_near(&shares(&with([true; 4]), 0.5), &[1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0, 0.0]);
        assert_near(&shares(&with([true, true, false, true]), 0.5), &[0.5, 0.5, 0.0, 0.0]);
        let one_left = 2.0 / 3.0;
        assert_near(&shares(&with([true, false, false, true]), 0.5), &[one_left, 0.0, 0.0, 1.0 - one_left]);
        assert_near(&shares(&with([false, false, false, true]), 0.5), &[0.0, 0.0, 0.0, 1.0]);
        assert_near(&shares(&with([true, false, false, false]), 0.5), &[1.0, 0.0, 0.0, 0.0]);
        assert_near(&shares(&with([true, false, false, true]), 0.0), &[1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn a_server_without_a_zone_is_elsewhere_and_crosses_nothing() {
        let mut fleet = fleet(&[("a", 100, true, 1.0), ("b", 100, true, 1.0)]);
        fleet.servers[2].zone = None;
        assert_near(&shares(&fleet, 0.5), &[1.0, 0.0]);
        let zones = ZonePreference { own: Some("a".into()), spill: 0.5 };
        assert!(!zones.crosses(&fleet.servers[2]) && !zones.crosses(&fleet.servers[1]));
        fleet.servers[2].zone = Some("b".into());
        assert!(zones.crosses(&fleet.servers[2]));
        assert!(!ZonePreference::default().crosses(&fleet.servers[2]), "the proxy's own is not known");
    }

    #[test]
    fn one_that_the_zone_has_failed_finds_the_others_by_their_weights() {
        let fleet = fleet(&[("a", 100, true, 1.0), ("b", 100, true, 1.0), ("b", 300, true, 1.0)]);
        let load = Attached::new();
        load.prefer(ZonePreference { own: Some("a".into()), spill: 0.5 });
        let balancer = crate::Balancer::new(crate::Balance::RandomTwo, Arc::clone(&load));
        let servers = eligible(&STANDBYS, &fleet, &load).servers;
        let held: Vec<_> = (0..400).map(|_| balancer.choose(&servers, &[ServerId(1)])).collect();
        assert!(held.iter().all(Option::is_some));
        let (light, heavy) = (load.sessions_on(ServerId(2)), load.sessions_on(ServerId(3)));
        assert!((80..=120).contains(&light), "{light} and {heavy}");
        let near: Vec<_> = (0..400).map(|_| balancer.choose(&servers, &[])).collect();
        assert!(near.iter().flatten().all(|lease| lease.server() == ServerId(1)), "none crosses");
    }

    fn servers() -> impl Strategy<Value = Vec<(&'static str, u16, bool, f32)>> {
        let zone = prop_oneof![Just("a"), Just("b"), Just("c")];
        prop::collection::vec((zone, 0_u16..1000, any::<bool>(), 0.01_f32..1.0), 1..12)
    }

    proptest! {
        /// Whoever may have a server finds one, and no server in the zone has more than its usual load over `spill`.
        #[test]
        fn there_is_never_nobody_and_never_a_cliff(servers in servers(), spill in 0.05_f32..1.0) {
            let fleet = fleet(&servers);
            let shares = shares(&fleet, spill);
            let is_there = servers.iter().any(|(_, weight, is_up, _)| *is_up && *weight > 0);
            let sum: f32 = shares.iter().sum();
            prop_assert_eq!(is_there, sum > 0.99, "{:?}", shares);
            let others = servers.iter().any(|(zone, weight, is_up, _)| *zone != "a" && *is_up && *weight > 0);
            let configured: f32 = servers.iter().filter(|s| s.0 == "a").map(|s| f32::from(s.1)).sum();
            for ((zone, weight, _, start), share) in servers.iter().zip(&shares) {
                if *zone == "a" && others && *share > 0.0 {
                    let usual = f32::from(*weight) * start / configured;
                    prop_assert!(*share <= usual / spill * 1.001, "{} of {}", share, usual);
                }
            }
        }

        /// A little less health moves a little of the load.
        #[test]
        fn what_stays_follows_what_is_healthy(servers in servers(), spill in 0.05_f32..1.0, at in 0_usize..12) {
            let mut servers = servers;
            let at = at % servers.len();
            servers[at].2 = true;
            let own = |servers: &[(&'static str, u16, bool, f32)]| -> f32 {
                let shares = shares(&fleet(servers), spill);
                servers.iter().zip(shares).filter(|(server, _)| server.0 == "a").map(|(_, share)| share).sum()
            };
            let before = own(&servers);
            let configured: f32 = servers.iter().filter(|s| s.0 == "a").map(|s| f32::from(s.1)).sum();
            let step = 0.01;
            servers[at].3 += step;
            let after = own(&servers);
            if servers[at].0 == "a" {
                let most = step * f32::from(servers[at].1) / (configured * spill).max(f32::MIN_POSITIVE);
                prop_assert!(after + 1e-3 >= before && after - before <= most + 1e-3, "{} to {}", before, after);
            } else {
                prop_assert!((after - before).abs() < 1e-3, "{} to {}", before, after);
            }
        }
    }
}
