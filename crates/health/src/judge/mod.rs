//! The judgement: observations in, verdicts out. No I/O, no clock, no log.

mod settings;

pub use settings::{JudgeSettings, PrimaryUnknown};

use std::time::Instant;

use crate::snapshot::{NodeId, NodeSpec, NodeStatus, Role, Snapshot, State};

/// Judges the servers.
#[derive(Debug)]
pub struct Judge {
    settings: JudgeSettings,
    nodes: Vec<NodeSpec>,
    started: Instant,
}

impl Judge {
    /// Judges `nodes`, of which nothing is known at `now`.
    #[must_use]
    pub fn new(settings: JudgeSettings, nodes: Vec<NodeSpec>, now: Instant) -> Self {
        Judge { settings, nodes, started: now }
    }

    /// The verdicts at `now`.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let node = |(index, spec): (usize, &NodeSpec)| NodeStatus {
            id: NodeId(u16::try_from(index).unwrap_or(u16::MAX)),
            name: spec.name.as_str().into(),
            host: spec.host.as_str().into(),
            port: spec.port,
            address: None,
            expected_role: spec.expected_role,
            role: Role::Unknown,
            state: State::Unknown,
            reason: "not probed yet".into(),
            since: self.started,
            admin: spec.admin,
            lag: None,
            lag_bytes: None,
            in_sync: None,
            timeline: None,
            system_identifier: None,
            receiver: None,
            paused: None,
            weight: spec.weight,
            slow_start: 1.0,
            saturated: false,
            replay_lsn: None,
            flush_lsn: None,
            last_probe: None,
            version: None,
        };
        Snapshot {
            nodes: self.nodes.iter().enumerate().map(node).collect(),
            taken_at: now,
            tick: self.settings.tick,
            probe_timeout: self.settings.probe_timeout,
            max_lag: self.settings.max_lag,
            hard_max_lag: self.settings.hard_max_lag,
            primary: None,
            primary_lost_at: None,
            split_brain: false,
            is_ready: false,
            is_overrun: false,
        }
    }
}
