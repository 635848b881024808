//! One server's answer, in the old checker's words.

use std::time::{Duration, Instant};

use super::route::{LagLimit, Route, WantedRole};
use super::{CheckRequest, Response, json, plain};
use trunkline_topology::{Role, ServerStatus, Snapshot};

/// Why a server is not to be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ServerRefusal {
    /// It lags, drains or is full: sessions it has may finish.
    Drain(String),
    /// It does not serve this.
    Unfit(String),
}

/// Why there is no verdict to report.
pub(super) fn untold(snapshot: &Snapshot, now: Instant) -> Option<&'static str> {
    if !snapshot.is_ready {
        Some("not every server has been probed yet")
    } else if snapshot.is_stale(now) {
        Some("stale: the monitor has not finished a round in time")
    } else {
        None
    }
}

/// Why `server` may not be used for `want`, if so.
pub(super) fn refusal(
    snapshot: &Snapshot,
    server: &ServerStatus,
    want: WantedRole,
    now: Instant,
    route: &Route<'_>,
) -> Option<ServerRefusal> {
    if let Some(why) = untold(snapshot, now) {
        return Some(ServerRefusal::Unfit(why.to_owned()));
    }
    let reason = || server.reason.to_string();
    if !server.state.keeps_old() {
        return Some(ServerRefusal::Unfit(reason()));
    }
    if !server.state.takes_new() {
        return Some(ServerRefusal::Drain(reason()));
    }
    if server.saturated {
        return Some(ServerRefusal::Drain("it accepts no further connections".to_owned()));
    }
    let is_wanted = match want {
        WantedRole::Primary => server.role == Role::Primary && snapshot.primary == Some(server.id),
        WantedRole::Replica => server.role == Role::Standby,
        WantedRole::ReadOnly => true,
    };
    if !is_wanted {
        return Some(ServerRefusal::Unfit(format!("role: it is a {}", server.role)));
    }
    match route.lag {
        Some(limit) if server.role == Role::Standby && !is_within(snapshot, server, limit, now, route) => {
            Some(ServerRefusal::Drain("further behind than asked for".to_owned()))
        }
        _ => None,
    }
}

fn is_within(
    snapshot: &Snapshot,
    server: &ServerStatus,
    limit: LagLimit,
    now: Instant,
    route: &Route<'_>,
) -> bool {
    match limit {
        LagLimit::Bytes(limit) => server.lag_bytes.is_some_and(|bytes| bytes <= limit),
        LagLimit::Time(limit) if route.is_guarantee => {
            snapshot.lag_at_most(server.id, now).is_some_and(|hi| hi <= limit)
        }
        LagLimit::Time(limit) => server.lag.is_some_and(|lag| lag.est <= limit),
    }
}

/// Whether `server` may be used for `want`, as HAProxy gets the answer.
pub(super) fn answer(
    snapshot: &Snapshot,
    server: &ServerStatus,
    want: WantedRole,
    request: &CheckRequest<'_>,
    route: &Route<'_>,
) -> Response {
    let refusal = refusal(snapshot, server, want, request.now, route);
    let status = match refusal {
        None => 200,
        Some(ServerRefusal::Drain(_)) if route.is_drain_told => 404,
        Some(_) => 503,
    };
    if route.is_json {
        return json::server(snapshot, server, status, request);
    }
    plain(status, legacy(server, status, refusal.as_ref()))
}

/// The old checker's line; what we know beyond it follows.
fn legacy(server: &ServerStatus, status: u16, refusal: Option<&ServerRefusal>) -> String {
    let head = match status {
        200 => "200 OK",
        404 => "404 Not Found",
        _ => "503 Service Unavailable",
    };
    let name = &server.name;
    let verdict = server.state.as_str().to_ascii_lowercase();
    let reason = match refusal {
        None => &server.reason,
        Some(ServerRefusal::Drain(why) | ServerRefusal::Unfit(why)) => why.as_str(),
    };
    match (refusal, lag_words(server)) {
        (Some(ServerRefusal::Unfit(_)), _) | (Some(ServerRefusal::Drain(_)), None) => {
            format!("{head} - Host: {name}, Error: {reason}, verdict: {verdict}")
        }
        (_, Some(lag)) => {
            format!("{head} - Host: {name} (replica), {lag}, verdict: {verdict}, reason: {reason}")
        }
        (None, None) => {
            let role = if server.role == Role::Primary { "primary" } else { "replica" };
            format!(
                "{head} - Host: {name} ({role}), simple check passed, verdict: {verdict}, reason: {reason}"
            )
        }
    }
}

/// `is_sync: True, lag: 0.00s, real_lag: 0s`, as Python printed it.
fn lag_words(server: &ServerStatus) -> Option<String> {
    let (lag, in_sync) = (server.lag?, server.in_sync?);
    let seconds = |duration: Duration| duration.as_secs_f64();
    Some(if in_sync {
        format!("is_sync: True, lag: {:.2}s, real_lag: 0s", seconds(lag.est))
    } else {
        format!("is_sync: False, lag: {:.2}s, real_lag: {:.2}s", seconds(lag.est), seconds(lag.lo))
    })
}
