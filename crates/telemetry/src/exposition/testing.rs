//! Snapshots for tests.

use std::time::{Duration, Instant};

use trunkline_topology::{
    AdminState, ExpectedRole, Lag, Origin, Role, ServerId, ServerStatus, Snapshot, State,
};

/// A primary and two standbys: `replica1` up, 20 ms behind, `replica2` lagging by 5.2 s.
#[must_use]
pub fn snapshot() -> Snapshot {
    let mut primary = server(0, "primary", Role::Primary, State::Up);
    primary.lag = None;
    let replica1 = server(1, "replica1", Role::Standby, State::Up);
    let mut replica2 = server(2, "replica2", Role::Standby, State::Lagging);
    replica2.in_sync = Some(false);
    replica2.lag_bytes = Some(84_000);
    replica2.lag = Some(Lag { lo: Duration::from_millis(5200), est: Duration::from_millis(5300), hi: None });
    replica2.reason = "lag 5.2 s is above max_lag 2 s".into();
    Snapshot {
        servers: vec![primary, replica1, replica2],
        taken_at: Instant::now(),
        tick: Duration::from_millis(500),
        probe_timeout: Duration::from_millis(400),
        max_lag: Duration::from_secs(2),
        hard_max_lag: Duration::from_secs(30),
        timeline: None,
        written: std::sync::Arc::default(),
        primary: Some(ServerId(0)),
        primary_lost_at: None,
        split_brain: false,
        is_ready: true,
        is_overrun: false,
    }
}

fn server(id: u16, name: &str, role: Role, state: State) -> ServerStatus {
    let hi = Some(Duration::from_millis(520));
    ServerStatus {
        id: ServerId(id.into()),
        name: name.into(),
        host: "127.0.0.1".into(),
        port: 1,
        address: None,
        expected_role: ExpectedRole::Any,
        role,
        state,
        reason: "fit".into(),
        since: Instant::now(),
        admin: AdminState::Ready,
        lag: Some(Lag { lo: Duration::ZERO, est: Duration::from_millis(20), hi }),
        lag_bytes: Some(0),
        in_sync: Some(true),
        timeline: None,
        system_identifier: None,
        postmaster: None,
        receiver: Some(true),
        paused: Some(false),
        zone: None,
        origin: Origin::Configured,
        is_leaving: false,
        weight: 100,
        slow_start: 1.0,
        saturated: false,
        silent: false,
        monitor_refused: None,
        monitor_refused_code: None,
        replay_lsn: None,
        flush_lsn: None,
        insert_lsn: None,
        asked_at: None,
        last_probe: Some(Instant::now()),
        version: Some(150_018),
    }
}
