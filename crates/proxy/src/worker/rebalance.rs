//! Spreads sessions again after a server has come back: those of long-lived connection pools would never move
//! otherwise.
//!
//! Each worker orders some of its sessions to move, from the server that exceeds its share most. Their next server
//! is chosen when they send a request.

use trunkline_routing::{Candidate, Rules, eligible};
use trunkline_topology::ServerId;

use crate::context::Worker;
use crate::limits::{MOVES_PER_ROUND_MIN, MOVES_PER_ROUND_SHARE, REBALANCE_TOLERANCE};

/// One round over all listeners.
pub(super) fn round(worker: &Worker) {
    let shared = &worker.shared;
    let snapshot = shared.health.load();
    let live = shared.live();
    for listener in shared.listeners.load().iter() {
        let rules = Rules { attrs: listener.settings.options.target_session_attrs, ..live.rules() };
        let eligible = eligible(&rules, &snapshot, &shared.attached);
        let sessions = |server| shared.attached.sessions_on(server);
        if let Some((server, surplus)) = most_beyond_its_share(&eligible.servers, sessions) {
            let own_part = surplus.div_ceil(shared.workers.len().max(1));
            worker.slots.order_moves((listener.number, server), own_part);
        }
    }
}

/// The server with the largest surplus worth moving, and how many sessions to move in one round.
fn most_beyond_its_share(
    candidates: &[Candidate],
    sessions: impl Fn(ServerId) -> u64,
) -> Option<(ServerId, usize)> {
    #[expect(clippy::cast_precision_loss, reason = "shares of session counts need no exact bits")]
    let counted: Vec<(ServerId, f32, f32)> =
        candidates.iter().map(|c| (c.id, c.weight, sessions(c.id) as f32)).collect();
    let all: f32 = counted.iter().map(|(_, _, count)| count).sum();
    let weights: f32 = counted.iter().map(|(_, weight, _)| weight).sum();
    if weights <= 0.0 {
        return None;
    }
    let surplus = |&(id, weight, count): &(ServerId, f32, f32)| {
        let fair = all * weight / weights;
        (id, count - fair, fair)
    };
    let (server, surplus, fair) = counted.iter().map(surplus).max_by(|a, b| a.1.total_cmp(&b.1))?;
    if surplus < 1.0 || surplus <= fair * REBALANCE_TOLERANCE {
        return None;
    }
    let most = (all * MOVES_PER_ROUND_SHARE).max(MOVES_PER_ROUND_MIN);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at least 1, at most all sessions"
    )]
    let moves = surplus.min(most).floor() as usize;
    Some((server, moves))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(counts: &[u64], weights: &[f32]) -> Option<(u32, usize)> {
        let candidates: Vec<Candidate> =
            (0..).zip(weights).map(|(id, &weight)| Candidate { id: ServerId(id), weight }).collect();
        most_beyond_its_share(&candidates, |server| counts[server.index()]).map(|(n, moves)| (n.0, moves))
    }

    #[test]
    fn the_fullest_gives_and_at_a_bounded_rate() {
        assert_eq!(plan(&[16, 0], &[100.0, 100.0]), Some((0, 4)));
        assert_eq!(plan(&[0, 5000], &[100.0, 100.0]), Some((1, 100)));
    }

    #[test]
    fn what_is_nearly_even_stays() {
        assert_eq!(plan(&[2, 1], &[100.0, 100.0]), None);
        assert_eq!(plan(&[52, 48], &[100.0, 100.0]), None);
        assert_eq!(plan(&[10], &[100.0]), None);
        assert_eq!(plan(&[], &[]), None);
        assert_eq!(plan(&[5, 0], &[0.0, 0.0]), None);
    }

    #[test]
    fn a_server_in_slow_start_is_filled_as_its_weight_grows() {
        assert_eq!(plan(&[20, 0], &[100.0, 5.0]), None);
        assert_eq!(plan(&[20, 0], &[100.0, 50.0]), Some((0, 4)));
    }
}
