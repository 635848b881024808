//! A snapshot for unit tests, here and in the crates above.

use std::sync::Arc;
use std::time::{Duration, Instant};

use trunkline_codec::ids::{Lsn, SystemIdentifier, TimelineId};

use crate::snapshot::{AdminState, ExpectedRole, Lag, Origin, Role, ServerId, ServerStatus, Snapshot};
use crate::state::State;

/// A primary and two standbys, all up and in sync.
#[must_use]
pub fn snapshot() -> Snapshot {
    let now = Instant::now();
    let roles = [Role::Primary, Role::Standby, Role::Standby];
    let servers = roles.iter().zip(["primary", "replica1", "replica2"]).zip(0..);
    Snapshot {
        servers: servers.map(|((&role, name), index)| status(ServerId(index), name, role, now)).collect(),
        taken_at: now,
        tick: Duration::from_millis(500),
        probe_timeout: Duration::from_millis(400),
        max_lag: Duration::from_secs(2),
        hard_max_lag: Duration::from_secs(30),
        primary: Some(ServerId(0)),
        timeline: Some(TimelineId(1)),
        written: Arc::from([]),
        primary_lost_at: None,
        split_brain: false,
        is_ready: true,
        is_overrun: false,
    }
}

/// Makes `replica1` lag by 5.2 s.
pub fn lag_replica1(snapshot: &mut Snapshot) {
    let lag = Duration::from_millis(5200);
    let server = &mut snapshot.servers[1];
    server.state = State::Lagging;
    server.reason = "at least 5.20 s behind, above max_lag 2.00 s".into();
    server.lag = Some(Lag { lo: lag, est: lag, hi: Some(lag) });
    server.in_sync = Some(false);
    server.lag_bytes = Some(20 << 20);
}

/// A server that is up and in sync.
#[must_use]
pub fn status(id: ServerId, name: &str, role: Role, now: Instant) -> ServerStatus {
    let is_standby = role == Role::Standby;
    let zero = Lag { lo: Duration::ZERO, est: Duration::ZERO, hi: Some(Duration::from_millis(100)) };
    ServerStatus {
        id,
        name: Arc::from(name),
        host: Arc::from("127.0.0.1"),
        port: 5432,
        address: None,
        expected_role: if is_standby { ExpectedRole::Replica } else { ExpectedRole::Primary },
        role,
        state: State::Up,
        reason: Arc::from(if is_standby { "in sync" } else { "primary" }),
        since: now,
        admin: AdminState::Ready,
        lag: is_standby.then_some(zero),
        lag_bytes: is_standby.then_some(0),
        in_sync: is_standby.then_some(true),
        timeline: Some(TimelineId(1)),
        system_identifier: Some(SystemIdentifier(7_300_000_000_000_000_001)),
        postmaster: None,
        receiver: is_standby.then_some(true),
        paused: is_standby.then_some(false),
        zone: None,
        origin: Origin::Configured,
        is_leaving: false,
        weight: 100,
        slow_start: 1.0,
        saturated: false,
        silent: false,
        monitor_refused: None,
        monitor_refused_code: None,
        replay_lsn: is_standby.then_some(Lsn(0x16_B374_D848)),
        flush_lsn: (!is_standby).then_some(Lsn(0x16_B374_D848)),
        insert_lsn: (!is_standby).then_some(Lsn(0x16_B374_D848)),
        asked_at: Some(now),
        last_probe: Some(now),
        version: Some(150_018),
    }
}
