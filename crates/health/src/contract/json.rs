//! The verdicts as JSON. Durations in seconds; null where nothing is known.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::{Request, Response};
use crate::snapshot::{AdminState, NodeStatus, Snapshot};

/// One server.
pub(super) fn node(snapshot: &Snapshot, node: &NodeStatus, status: u16, request: &Request<'_>) -> Response {
    json_response(status, &Value::Object(members(snapshot, node, request)))
}

/// All servers.
pub(super) fn cluster(snapshot: &Snapshot, request: &Request<'_>) -> Response {
    let members: Vec<Value> =
        snapshot.nodes.iter().map(|node| Value::Object(members(snapshot, node, request))).collect();
    let primary = snapshot.primary.and_then(|id| snapshot.node(id)).map(|node| &*node.name);
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

fn members(snapshot: &Snapshot, node: &NodeStatus, request: &Request<'_>) -> Map<String, Value> {
    let seconds = |duration: Option<Duration>| duration.map(|duration| rounded(duration.as_secs_f64()));
    let hi = seconds(snapshot.lag_at_most(node.id, request.now));
    let admin = match node.admin {
        AdminState::Ready => "ready",
        AdminState::Drain => "drain",
        AdminState::Maint => "maint",
    };
    let members = json!({
        "name": &*node.name,
        "host": &*node.host,
        "port": node.port,
        "address": node.address.as_ref().map(ToString::to_string),
        "role": node.role.as_str(),
        "state": node.state.as_str(),
        "reason": &*node.reason,
        "since_seconds": age(node.since, request.now),
        "admin": admin,
        "eligible": node.is_eligible(),
        "lag": {
            "lo": seconds(node.lag.map(|lag| lag.lo)),
            "est": seconds(node.lag.map(|lag| lag.est)),
            "hi": hi,
            "bytes": node.lag_bytes,
        },
        "fresh_as_of_seconds_ago": hi,
        "in_sync": node.in_sync,
        "timeline": node.timeline.map(|timeline| timeline.0),
        // A string: the number needs 64 bits, of which many readers keep 53.
        "system_identifier": node.system_identifier.map(|id| id.0.to_string()),
        "receiver": node.receiver,
        "paused": node.paused,
        "replay_lsn": node.replay_lsn.map(|lsn| lsn.to_string()),
        "flush_lsn": node.flush_lsn.map(|lsn| lsn.to_string()),
        "weight": node.weight,
        "slow_start": node.slow_start,
        "saturated": node.saturated,
        "version": node.version,
        "last_probe_seconds_ago": node.last_probe.map(|at| age(at, request.now)),
    });
    let Value::Object(mut members) = members else { return Map::new() };
    if let Some(extras) = request.extras.and_then(|extras| extras.nodes.get(&node.id)) {
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
