//! The verdicts as JSON. Durations in seconds; null where nothing is known.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::{CheckRequest, Response};
use trunkline_topology::{AdminState, ServerStatus, Snapshot};

/// One server.
pub(super) fn server(
    snapshot: &Snapshot,
    server: &ServerStatus,
    status: u16,
    request: &CheckRequest<'_>,
) -> Response {
    json_response(status, &Value::Object(members(snapshot, server, request)))
}

/// All servers.
pub(super) fn cluster(snapshot: &Snapshot, request: &CheckRequest<'_>) -> Response {
    let members: Vec<Value> =
        snapshot.servers.iter().map(|server| Value::Object(members(snapshot, server, request))).collect();
    let primary = snapshot.primary.and_then(|id| snapshot.server(id)).map(|server| &*server.name);
    let mut body = json!({
        "primary": primary,
        "primary_lost_seconds": snapshot.primary_lost_at.map(|at| age(at, request.now)),
        "split_brain": snapshot.split_brain,
        "ready": snapshot.is_ready,
        "stale": snapshot.is_stale(request.now),
        "age_seconds": age(snapshot.taken_at, request.now),
        "tick_seconds": snapshot.tick.as_secs_f64(),
        "max_lag_seconds": snapshot.max_lag.as_secs_f64(),
        "members": members,
    });
    if let (Some(extras), Some(body)) = (request.extras, body.as_object_mut()) {
        body.extend(extras.cluster.clone());
    }
    json_response(200, &body)
}

fn members(snapshot: &Snapshot, server: &ServerStatus, request: &CheckRequest<'_>) -> Map<String, Value> {
    let seconds = |duration: Option<Duration>| duration.map(|duration| rounded(duration.as_secs_f64()));
    let hi = seconds(snapshot.lag_at_most(server.id, request.now));
    let admin = match server.admin {
        AdminState::Ready => "ready",
        AdminState::Drain => "drain",
        AdminState::Maint => "maint",
    };
    let members = json!({
        "name": &*server.name,
        "host": &*server.host,
        "port": server.port,
        "address": server.address.as_ref().map(ToString::to_string),
        "role": server.role.as_str(),
        "state": server.state.as_str(),
        "reason": &*server.reason,
        "since_seconds": age(server.since, request.now),
        "admin": admin,
        "eligible": server.is_eligible(),
        "planned": server.state.is_planned(),
        "lag": {
            "lo": seconds(server.lag.map(|lag| lag.lo)),
            "est": seconds(server.lag.map(|lag| lag.est)),
            "hi": hi,
            "bytes": server.lag_bytes,
        },
        "fresh_as_of_seconds_ago": hi,
        "in_sync": server.in_sync,
        "timeline": server.timeline.map(|timeline| timeline.0),
        // A string: the number needs 64 bits, of which many readers keep 53.
        "system_identifier": server.system_identifier.map(|id| id.0.to_string()),
        "receiver": server.receiver,
        "paused": server.paused,
        "replay_lsn": server.replay_lsn.map(|lsn| lsn.to_string()),
        "flush_lsn": server.flush_lsn.map(|lsn| lsn.to_string()),
        "origin": server.origin.to_string(),
        "zone": server.zone.as_deref(),
        "leaving": server.is_leaving,
        "weight": server.weight,
        "slow_start": server.slow_start,
        "saturated": server.saturated,
        "monitor_refused": server.monitor_refused.as_deref(),
        "version": server.version,
        "last_probe_seconds_ago": server.last_probe.map(|at| age(at, request.now)),
    });
    let Value::Object(mut members) = members else { return Map::new() };
    if let Some(extras) = request.extras.and_then(|extras| extras.servers.get(&server.id)) {
        members.extend(extras.clone());
    }
    members
}

fn age(since: Instant, now: Instant) -> f64 {
    rounded(now.saturating_duration_since(since).as_secs_f64())
}

fn rounded(seconds: f64) -> f64 {
    (seconds * 1e3).round() / 1e3
}

fn json_response(status: u16, body: &Value) -> Response {
    Response { status, content_type: "application/json", body: body.to_string() }
}
