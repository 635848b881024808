//! What the page tells of this process beside the verdicts: where sessions go, what has changed, how much is done.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::system::uname;
use serde_json::{Map, Value, json};
use trunkline_health::judge::Transition;
use trunkline_telemetry::exposition::LATENCY_BOUNDS;
use trunkline_telemetry::metrics::{Label, Metrics, PoolRow, RouteReason, StatementPhase};
use trunkline_topology::{Address, ServerId, Snapshot};

use crate::limits::POOLS_LISTED_MAX;

/// A listener, and where its sessions go.
#[derive(Clone, Debug)]
pub struct ListenerNow {
    /// Its configured name.
    pub name: String,
    /// Where it listens.
    pub address: Address,
    /// Which servers its sessions may have, in libpq's words.
    pub target_session_attrs: &'static str,
    /// The servers that a new session may have now.
    pub servers: Vec<ServerId>,
}

/// Who authenticates clients.
#[derive(Clone, Debug)]
pub struct AuthNow {
    /// The mode in force; `None` while no server has answered `auto`.
    pub mode: Option<&'static str>,
    /// Why it is this one, or that it is not known.
    pub why: String,
    /// What would make more sessions movable.
    pub hint: Option<&'static str>,
}

/// What weighs the servers besides their verdicts.
#[derive(Clone, Debug)]
pub struct SpreadNow {
    /// The proxy's own zone.
    pub zone: Option<Arc<str>>,
    /// The servers that were compared.
    pub speeds: Vec<SpeedNow>,
}

/// How fast a server is, compared with its peers.
#[derive(Clone, Debug)]
pub struct SpeedNow {
    /// Which one.
    pub server: ServerId,
    /// The share of its weight that it keeps.
    pub speed: f32,
    /// `fine`, `mixed` or `slow`; `None` while there was too little to compare.
    pub verdict: Option<&'static str>,
    /// How many statements, by groups of sessions, were compared last.
    pub cells: usize,
    /// How many of those were slow.
    pub slow_cells: usize,
    /// The median time of the monitor's last probes.
    pub probe: Option<Duration>,
    /// The same of its peers.
    pub probe_of_peers: Option<Duration>,
    /// The most frequent of the statements.
    pub statements: Vec<StatementSpeed>,
}

/// How fast a server answers one statement.
#[derive(Clone, Debug)]
pub struct StatementSpeed {
    /// The statement's fingerprint.
    pub fingerprint: u64,
    /// How many times were measured.
    pub samples: u32,
    /// The mean time to the first byte.
    pub own: Duration,
    /// The same of its peers.
    pub peers: Duration,
}

/// What was measured of a server's speed.
pub(super) fn speed(speed: &SpeedNow) -> Value {
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
    let statements = speed.statements.iter().map(|statement| {
        json!({
            "fingerprint": format!("{:016x}", statement.fingerprint),
            "samples": statement.samples,
            "first_byte_seconds": statement.own.as_secs_f64(),
            "peers_first_byte_seconds": statement.peers.as_secs_f64(),
        })
    });
    json!({
        "share": speed.speed,
        "verdict": speed.verdict,
        "cells": speed.cells,
        "slow_cells": speed.slow_cells,
        "probe_seconds": seconds(speed.probe),
        "peers_probe_seconds": seconds(speed.probe_of_peers),
        "statements": statements.collect::<Vec<_>>(),
    })
}

/// Who authenticates clients, and why.
pub(super) fn auth(auth: &AuthNow) -> Value {
    json!({ "mode": auth.mode, "why": auth.why, "hint": auth.hint })
}

/// Which process answers, and since when it serves.
pub(super) fn process(started: Instant) -> Value {
    json!({
        "host": uname().nodename().to_string_lossy(),
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": started.elapsed().as_secs(),
    })
}

/// The listeners; servers by name.
pub(super) fn listeners(listeners: &[ListenerNow], snapshot: &Snapshot) -> Value {
    let told = listeners.iter().map(|listener| {
        let names = listener.servers.iter().filter_map(|id| snapshot.server(*id)).map(|server| &*server.name);
        json!({
            "listener": listener.name,
            "address": listener.address.to_string(),
            "target_session_attrs": listener.target_session_attrs,
            "servers": names.collect::<Vec<_>>(),
        })
    });
    told.collect()
}

/// The certificates in force, and why newer ones are not.
pub(super) fn certificates(metrics: &Metrics) -> Value {
    let now = unix_seconds();
    let told = metrics.certificates().rows().into_iter().map(|row| {
        json!({
            "leg": row.leg.word(),
            "file": row.file,
            "expires_at": row.expires_at,
            "expires_in_seconds": row.expires_at.map(|at| at.saturating_sub(now)),
            "problem": row.problem,
        })
    });
    told.collect()
}

/// The sources of servers, as they last answered. An age below zero is that of a clock that was set.
pub(super) fn sources(metrics: &Metrics) -> Value {
    let now = unix_seconds();
    let age = |at: u64| now.saturating_sub(i64::try_from(at).unwrap_or(i64::MAX));
    let told = metrics.sources().rows().into_iter().map(|row| {
        let members = row.members.into_iter().map(|member| {
            json!({ "name": member.name, "place": member.place, "role": member.role, "tags": member.tags })
        });
        json!({
            "source": row.name,
            "kind": row.kind,
            "members": members.collect::<Vec<_>>(),
            "answered_at": row.answered_at,
            "answered_seconds_ago": row.answered_at.map(age),
            "from": if row.is_from_disk { "disk" } else { "source" },
            "errors": row.errors,
            "error": row.error,
            "keep_problem": row.keep_problem,
        })
    });
    told.collect()
}

/// The pools, in the words of PgBouncer's SHOW POOLS: the clients of a database and user, of no server, and their
/// connections to each server. `None` while no session may share a server connection.
pub(super) fn pools(metrics: &Metrics) -> Option<Value> {
    let rows = metrics.pools().now()?.rows;
    let listed = rows.iter().take(POOLS_LISTED_MAX).map(|row| {
        let PoolRow { server, database, user, counts } = row;
        json!({
            "database": &**database,
            "user": &**user,
            "server": server.as_deref(),
            "cl_active": counts.cl_active,
            "cl_waiting": counts.cl_waiting,
            "sv_active": counts.sv_active,
            "sv_idle": counts.sv_idle,
            "sv_used": counts.sv_used,
            "sv_tested": counts.sv_tested,
            "sv_login": counts.sv_login,
            "maxwait_seconds": counts.maxwait.as_secs_f64(),
        })
    });
    Some(json!({ "all": rows.len(), "pools": listed.collect::<Vec<_>>() }))
}

/// Where the requests went of listeners that choose a server for each, by reason, and how many are known to be the primary's.
/// `None` while there are no such listeners.
pub(super) fn routed(metrics: &Metrics) -> Option<Value> {
    let learned = metrics.learned().now()?;
    let requests = by_cause(RouteReason::ALL, |reason| metrics.sum(|t| t.routed.of(reason).value()));
    Some(json!({ "requests": requests, "learned": learned }))
}

/// Counts by cause, those that are not zero.
pub(super) fn by_cause<L: Label>(causes: &[L], count: impl Fn(L) -> u64) -> Map<String, Value> {
    let counted = causes.iter().map(|cause| (cause.word().to_owned(), count(*cause)));
    counted.filter(|(_, n)| *n > 0).map(|(word, n)| (word, n.into())).collect()
}

fn unix_seconds() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    i64::try_from(now).unwrap_or(i64::MAX)
}

/// The changes of state, the newest first.
pub(super) fn changes(transitions: &[Transition]) -> Value {
    let told = transitions.iter().map(|change| {
        json!({
            "seconds_ago": change.at.elapsed().as_secs(),
            "server": &*change.name,
            "from": change.from.as_str(),
            "to": change.to.as_str(),
            "reason": change.reason,
        })
    });
    told.collect()
}

/// What a server has done since the start. Times are cumulative counts by upper bound in seconds, as in Prometheus, so
/// that who asks twice knows those of the time between.
pub(super) fn work(metrics: &Metrics, server: ServerId) -> Map<String, Value> {
    let times = metrics.latency(server, StatementPhase::ServerTotal);
    let counts = LATENCY_BOUNDS.iter().map(|bound| json!([bound.as_secs_f64(), times.count_up_to(*bound)]));
    let told = json!({
        "sessions": metrics.sessions_on(server),
        "statements": times.count(),
        "statement_errors": metrics.sum_on(server, |counted| counted.statement_errors.value()),
        "statement_seconds": counts.collect::<Vec<_>>(),
    });
    match told {
        Value::Object(told) => told,
        _ => Map::new(),
    }
}
