//! Which of the servers it may have a session gets.

use std::sync::{Arc, Mutex, PoisonError};

use trunkline_topology::{SERVERS_MAX, ServerId};

use crate::candidate::Candidate;
use crate::load::{Attached, Lease};

/// How a server is chosen among the eligible ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// In turn, by weight.
    #[default]
    RoundRobin,
    /// The one with the fewest sessions for its weight.
    LeastOutstanding,
    /// The better of two drawn at random: no herd when many proxies share the servers.
    RandomTwo,
}

/// Chooses for one listener; shared by all threads so that turns are exact.
#[derive(Debug)]
pub struct Balancer {
    balance: Balance,
    attached: Arc<Attached>,
    /// Smooth weighted round-robin: what each server is owed, by slot.
    owed: Mutex<Box<[f32]>>,
}

impl Balancer {
    /// By the sessions that `attached` counts.
    #[must_use]
    pub fn new(balance: Balance, attached: Arc<Attached>) -> Self {
        let owed = vec![0.0; SERVERS_MAX].into();
        Balancer { balance, attached, owed: Mutex::new(owed) }
    }

    /// Takes a place on one of `candidates` not in `excluded`; `None` when there is none.
    #[must_use]
    pub fn choose(&self, candidates: &[Candidate], excluded: &[ServerId]) -> Option<Lease> {
        self.choose_by(self.balance, candidates, excluded)
    }

    /// The same for a session that moves: where sessions are wanted most, whatever the balance.
    #[must_use]
    pub fn choose_for_move(&self, candidates: &[Candidate], excluded: &[ServerId]) -> Option<Lease> {
        self.choose_by(Balance::LeastOutstanding, candidates, excluded)
    }

    /// Owes nothing to the next server that has the slot of `server`, which is forgotten.
    pub fn forget(&self, server: ServerId) {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)[server.index()] = 0.0;
    }

    fn choose_by(&self, balance: Balance, candidates: &[Candidate], excluded: &[ServerId]) -> Option<Lease> {
        let open: Vec<&Candidate> = candidates.iter().filter(|c| !excluded.contains(&c.id)).collect();
        let server = match (balance, open.as_slice()) {
            (_, []) => return None,
            (_, [only]) => only.id,
            (Balance::RoundRobin, open) => self.in_turn(open),
            (Balance::LeastOutstanding, open) => self.least(open),
            (Balance::RandomTwo, open) => self.better_of_two(open),
        };
        Some(self.attached.lease(server))
    }

    fn in_turn(&self, open: &[&Candidate]) -> ServerId {
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut total = 0.0;
        for candidate in open {
            owed[candidate.id.index()] += candidate.weight;
            total += candidate.weight;
        }
        let most = |a: &&&Candidate, b: &&&Candidate| {
            owed[a.id.index()].total_cmp(&owed[b.id.index()]).then(b.id.0.cmp(&a.id.0))
        };
        let chosen = open.iter().max_by(most).map_or(open[0].id, |c| c.id);
        owed[chosen.index()] -= total;
        chosen
    }

    fn least(&self, open: &[&Candidate]) -> ServerId {
        let least = open.iter().map(|c| self.load(c)).fold(f32::INFINITY, f32::min);
        let ties: Vec<&Candidate> = open.iter().copied().filter(|c| self.load(c) <= least).collect();
        if let [only] = ties.as_slice() { only.id } else { self.in_turn(&ties) }
    }

    fn better_of_two(&self, open: &[&Candidate]) -> ServerId {
        let (first, second) = (draw(open), draw(open));
        if self.load(second) < self.load(first) { second.id } else { first.id }
    }

    /// Sessions for its weight, the one about to come included: a heavy server fills first.
    fn load(&self, candidate: &Candidate) -> f32 {
        let sessions = self.attached.sessions_on(candidate.id) + 1;
        #[expect(clippy::cast_precision_loss, reason = "a ratio of session counts needs no exact bits")]
        let sessions = sessions as f32;
        sessions / candidate.weight.max(f32::MIN_POSITIVE)
    }
}

/// One of them at random, by weight: of a server with little, two draws in a row are rare.
fn draw<'c>(open: &[&'c Candidate]) -> &'c Candidate {
    let mut left = fastrand::f32() * open.iter().map(|c| c.weight).sum::<f32>();
    let drawn = open.iter().find(|candidate| {
        left -= candidate.weight;
        left < 0.0
    });
    drawn.unwrap_or(&open[fastrand::usize(..open.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(weights: &[f32]) -> Vec<Candidate> {
        let ids = (0..).map(ServerId);
        ids.zip(weights).map(|(id, &weight)| Candidate { id, weight }).collect()
    }

    fn shares(balance: Balance, weights: &[f32], rounds: usize) -> Vec<u64> {
        let attached = Attached::new();
        let balancer = Balancer::new(balance, Arc::clone(&attached));
        let candidates = candidates(weights);
        let held: Vec<_> = (0..rounds).map(|_| balancer.choose(&candidates, &[])).collect();
        assert!(held.iter().all(Option::is_some));
        (0..).map(ServerId).take(weights.len()).map(|id| attached.sessions_on(id)).collect()
    }

    #[test]
    fn equal_weights_share_to_the_session() {
        assert_eq!(shares(Balance::RoundRobin, &[100.0, 100.0], 100), [50, 50]);
        assert_eq!(shares(Balance::LeastOutstanding, &[100.0, 100.0], 100), [50, 50]);
    }

    #[test]
    fn weights_are_shares() {
        assert_eq!(shares(Balance::RoundRobin, &[100.0, 50.0, 50.0], 100), [50, 25, 25]);
        assert_eq!(shares(Balance::LeastOutstanding, &[100.0, 50.0, 50.0], 100), [50, 25, 25]);
    }

    #[test]
    fn the_better_of_two_keeps_servers_close() {
        let shares = shares(Balance::RandomTwo, &[100.0, 100.0], 400);
        assert!(shares.iter().all(|n| (180..=220).contains(n)), "{shares:?}");
    }

    #[test]
    fn an_excluded_server_is_not_chosen_and_a_lease_ends_with_its_holder() {
        let attached = Attached::new();
        let balancer = Balancer::new(Balance::RoundRobin, Arc::clone(&attached));
        let candidates = candidates(&[100.0, 100.0]);
        let lease = balancer.choose(&candidates, &[ServerId(0)]).expect("one is left");
        assert_eq!(lease.server(), ServerId(1));
        drop(lease);
        assert_eq!(attached.sessions_on(ServerId(1)), 0);
        assert!(balancer.choose(&candidates, &[ServerId(0), ServerId(1)]).is_none());
    }

    #[test]
    fn a_server_without_weight_gets_nothing_while_others_have_some() {
        assert_eq!(shares(Balance::RoundRobin, &[100.0, 0.0], 50), [50, 0]);
        assert_eq!(shares(Balance::LeastOutstanding, &[100.0, 0.0], 50), [50, 0]);
    }
}
