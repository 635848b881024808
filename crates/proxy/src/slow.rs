//! Which servers are slow: collects what sessions and the monitor measure, has it judged, and tells routing.
//!
//! What is judged, and how, is in [`trunkline_routing::gray`].

#![expect(clippy::disallowed_methods, reason = "the control thread has tokio's timers")]

use std::collections::HashMap;
use std::sync::Weak;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};
use trunkline_routing::gray::{SlowJudge, WINDOW};
use trunkline_topology::{Role, ServerId, ServerStatus, Snapshot};

use crate::context::Shared;
use crate::limits::SLOW_LOOKS_PER_WINDOW;
use crate::settings::SlowServers;
use crate::speeds::SpeedSamples;

/// Judges the servers for as long as the proxy runs.
pub(crate) async fn watch(shared: Weak<Shared>, mut samples: SpeedSamples) {
    let mut watched = Watched::default();
    // More often than windows end, so that the queue is short and no probe is missed.
    let mut looks = interval(WINDOW / SLOW_LOOKS_PER_WINDOW);
    looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut look = 0;
    loop {
        looks.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        let snapshot = shared.health.load_full();
        let is_on = match shared.live().spread.slow_servers {
            SlowServers::Shift => true,
            SlowServers::Off => false,
        };
        while let Some(sample) = samples.next() {
            if is_on {
                watched.judge.take(sample);
            }
        }
        if !is_on {
            watched.give_up(&shared);
            continue;
        }
        watched.look_at_probes(&snapshot);
        look += 1;
        if look % SLOW_LOOKS_PER_WINDOW == 0 {
            watched.close_window(&shared, &snapshot);
        }
    }
}

/// The judge, and what it was told.
#[derive(Debug, Default)]
struct Watched {
    judge: SlowJudge,
    /// When each server was asked last.
    asked: HashMap<ServerId, Instant>,
}

impl Watched {
    fn look_at_probes(&mut self, snapshot: &Snapshot) {
        self.asked.retain(|id, _| snapshot.server(*id).is_some());
        for server in &snapshot.servers {
            let Some(asked) = server.asked_at else { continue };
            if self.asked.insert(server.id, asked) == Some(asked) {
                continue;
            }
            if let Some(took) = probe_time(server) {
                self.judge.probed(server.id, took);
            }
        }
    }

    fn close_window(&mut self, shared: &Shared, snapshot: &Snapshot) {
        let serving: Vec<ServerId> = snapshot.servers.iter().filter(|s| serves(s)).map(|s| s.id).collect();
        let changed = self.judge.close_window(&serving, |id| snapshot.server(id).is_some());
        for (id, speed) in changed {
            let before = shared.attached.speed(id);
            shared.attached.slow(id, speed);
            shared.metrics.set_speed(id, speed);
            if let Some(server) = snapshot.server(id) {
                log(server, before, speed);
            }
        }
        shared.speeds.found(self.judge.findings().collect());
    }

    /// It is switched off: everybody has the full weight.
    fn give_up(&mut self, shared: &Shared) {
        for finding in self.judge.findings().filter(|finding| finding.speed < 1.0) {
            shared.attached.slow(finding.server, 1.0);
            shared.metrics.set_speed(finding.server, 1.0);
        }
        *self = Watched::default();
        shared.speeds.found(Vec::new());
    }
}

/// Standbys do the same work; what the primary has to do besides is nobody's measure.
fn serves(server: &ServerStatus) -> bool {
    server.role == Role::Standby && server.state.takes_new() && !server.is_leaving && server.weight > 0
}

/// From the question to its answer.
fn probe_time(server: &ServerStatus) -> Option<Duration> {
    server.last_probe?.checked_duration_since(server.asked_at?)
}

fn log(server: &ServerStatus, before: f32, speed: f32) {
    if before >= 1.0 {
        tracing::warn!(
            server.name = %server.name, speed,
            hint = "trunkline status --why shows what was measured; [health] slow_servers = \"off\" keeps its sessions there",
            "server is slower than its peers in the same statements, it gets fewer sessions"
        );
    } else if speed >= 1.0 {
        tracing::info!(server.name = %server.name, "server is as fast as its peers again, it has its full share");
    } else {
        tracing::info!(server.name = %server.name, before, speed, "share of a slow server changed");
    }
}

#[cfg(test)]
mod tests {
    use trunkline_topology::testing::snapshot;

    use super::*;

    #[test]
    fn a_probe_is_measured_once_by_its_own_times() {
        let mut snapshot = snapshot();
        let mut watched = Watched::default();
        let asked = Instant::now();
        let took = Duration::from_millis(7);
        for round in 0..10 {
            let asked = asked + Duration::from_secs(round / 2);
            for server in &mut snapshot.servers {
                (server.asked_at, server.last_probe) = (Some(asked), Some(asked + took));
            }
            watched.look_at_probes(&snapshot);
        }
        // A check of the connection alone ends before the next question is answered.
        snapshot.servers[1].asked_at = Some(asked + Duration::from_secs(60));
        watched.look_at_probes(&snapshot);
        watched.judge.close_window(&[ServerId(1), ServerId(2)], |_| true);
        let findings: Vec<_> = watched.judge.findings().collect();
        assert!(findings.iter().all(|finding| finding.probe == Some(took)), "{findings:?}");
    }

    #[test]
    fn standbys_that_take_sessions_are_compared() {
        let mut snapshot = snapshot();
        let compared = |snapshot: &Snapshot| snapshot.servers.iter().map(serves).collect::<Vec<_>>();
        assert_eq!(compared(&snapshot), [false, true, true]);
        snapshot.servers[1].is_leaving = true;
        snapshot.servers[2].weight = 0;
        assert_eq!(compared(&snapshot), [false, false, false]);
    }
}
