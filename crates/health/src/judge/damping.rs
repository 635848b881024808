//! The return of servers that were DOWN, and the hold on standbys that fail again and again.
//!
//! Each failure within [`DAMPING_WINDOW`] doubles the time for which a standby that answers again is held back, up to
//! `damping_max`. A hold only spares sessions from moving to and fro, so it never costs the last server: the primary is
//! not held, nor is a standby while no other serves, which does not wait for `rise` probes either.

use std::time::{Duration, Instant};

use super::Judge;
use super::notice::{Notice, NoticeKind};
use super::settings::JudgeSettings;
use trunkline_topology::Role;

/// Failures within this time make the next return slower.
pub(super) const DAMPING_WINDOW: Duration = Duration::from_secs(300);
/// Failures remembered of one server. 2^9 times the first hold exceeds any sensible `damping_max`.
pub(super) const FAILURES_MAX: usize = 10;

/// How long a standby is held back that has failed so often within [`DAMPING_WINDOW`]. The first failure costs nothing.
pub(super) fn hold(failures: usize, settings: &JudgeSettings) -> Duration {
    let Some(doublings) = failures.checked_sub(1).filter(|&doublings| doublings > 0) else {
        return Duration::ZERO;
    };
    let factor = 1_u32 << doublings.min(FAILURES_MAX - 1);
    (settings.tick * settings.rise).saturating_mul(factor).min(settings.damping_max)
}

impl Judge {
    /// Brings back the servers that answer well enough again and are not held back. Whether there were any.
    pub(super) fn revive(&mut self, now: Instant) -> bool {
        let mut has_revived = false;
        for index in 0..self.servers.len() {
            // Who serves in its place is looked for among all: only for the few that are on their way back.
            if !self.servers[index].liveness.is_returning() {
                continue;
            }
            let is_spared = self.is_spared(index);
            let is_missed = !is_spared && self.servers[index].role() == Role::Standby;
            // One good probe and a login: nothing is better.
            let rise = if is_missed { 1 } else { self.settings.rise };
            let Some(until) = self.servers[index].liveness.returns_at(rise, &self.settings, now) else {
                continue;
            };
            let is_held = until > now && is_spared;
            let server = &mut self.servers[index];
            if !is_held {
                server.liveness.revive();
                has_revived = true;
            } else if server.liveness.hold_until(until) {
                let failures = server.liveness.recent_failures(now);
                let kind = NoticeKind::HeldBack { hold: until - now, failures, within: DAMPING_WINDOW };
                let notice = Notice { name: server.name.clone(), kind };
                self.notices.push(notice);
            }
        }
        has_revived
    }

    /// Whether other standbys serve in a standby's place.
    fn is_spared(&self, index: usize) -> bool {
        let others = self.servers.iter().enumerate().filter(|(other, _)| *other != index);
        self.servers[index].role() == Role::Standby
            && others.into_iter().any(|(_, other)| {
                let is_serving = other.liveness.is_alive() && other.verdict.state.takes_new();
                let has_room = !other.liveness.is_saturated && other.spec.weight > 0;
                is_serving && has_room && other.role() == Role::Standby
            })
    }
}
