//! The health snapshot, as `/metrics` shows it.

use std::time::{Duration, Instant};

use trunkline_topology::{Role, ServerStatus, Snapshot, State};

use super::process;
use super::text::{Exposition, Type};

/// The health snapshot alone, in Prometheus' text format 0.0.4: for a process that relays nothing.
#[must_use]
pub fn render_health(snapshot: &Snapshot) -> String {
    let mut out = Exposition::default();
    write(&mut out, snapshot);
    out.finish()
}

pub(super) fn write(out: &mut Exposition, snapshot: &Snapshot) {
    // Not the time the snapshot was taken: ages go on growing when the monitor has stopped.
    let now = Instant::now();
    whole(out, snapshot, now);
    verdicts(out, snapshot, now);
    lag(out, snapshot);
    facts(out, snapshot);
    process::write(out);
}

fn whole(out: &mut Exposition, snapshot: &Snapshot, now: Instant) {
    out.family("trunkline_build_info", Type::Gauge, "Always 1; the version is a label.")
        .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    out.family(
        "trunkline_primary_known",
        Type::Gauge,
        "1 when the cluster's one primary is known, also while it is down.",
    )
    .sample(&[], flag(snapshot.primary.is_some()));
    out.family("trunkline_split_brain", Type::Gauge, "1 when more than one server claims to be the primary.")
        .sample(&[], flag(snapshot.split_brain));
    out.family(
        "trunkline_primary_lost_seconds",
        Type::Gauge,
        "Time since the primary last answered; 0 while it does.",
    )
    .sample(&[], snapshot.primary_lost_at.map_or(0.0, |at| seconds(now.saturating_duration_since(at))));
    out.family("trunkline_health_stale", Type::Gauge, "1 when the verdicts are too old to use.")
        .sample(&[], flag(snapshot.is_stale(now)));
    out.family("trunkline_health_age_seconds", Type::Gauge, "Time since the monitor's last verdicts.")
        .sample(&[], seconds(now.saturating_duration_since(snapshot.taken_at)));
    out.family("trunkline_replicas_up", Type::Gauge, "Standbys that are up.");
    let up = snapshot.servers.iter().filter(|n| n.state.takes_new() && n.role == Role::Standby).count();
    out.sample(&[], up);
}

fn verdicts(out: &mut Exposition, snapshot: &Snapshot, now: Instant) {
    out.family("trunkline_server_state", Type::Gauge, "1 for the state a server is in, 0 for the others.");
    for server in &snapshot.servers {
        for state in State::ALL {
            out.sample(&[("server", &server.name), ("state", state.label())], flag(server.state == state));
        }
    }
    out.family("trunkline_server_role", Type::Gauge, "Always 1; the role a server reports is a label.");
    for server in &snapshot.servers {
        out.sample(&[("server", &server.name), ("role", server.role.as_str())], 1);
    }
    each(out, "trunkline_server_state_age_seconds", "Time in the present state.", snapshot, |server| {
        Some(seconds(now.saturating_duration_since(server.since)))
    });
    each(out, "trunkline_server_probe_age_seconds", "Time since the last probe ended.", snapshot, |server| {
        server.last_probe.map(|at| seconds(now.saturating_duration_since(at)))
    });
    each(
        out,
        "trunkline_server_weight",
        "Configured weight, scaled down in slow start.",
        snapshot,
        |server| Some(server.effective_weight()),
    );
    each(
        out,
        "trunkline_server_saturated",
        "1 when the server has no connection left.",
        snapshot,
        |server| Some(flag(server.saturated)),
    );
    each(
        out,
        "trunkline_server_monitor_refused",
        "1 when the server refuses the monitoring role: its password, its rights or pg_hba.conf are wrong.",
        snapshot,
        |server| Some(flag(server.monitor_refused.is_some())),
    );
}

fn lag(out: &mut Exposition, snapshot: &Snapshot) {
    out.family(
        "trunkline_server_lag_seconds",
        Type::Gauge,
        "Replication lag: proven lower bound, estimate, proven upper bound. Absent when unknown.",
    );
    for server in &snapshot.servers {
        let Some(lag) = &server.lag else { continue };
        let bounds = [("lo", Some(lag.lo)), ("est", Some(lag.est)), ("hi", lag.hi)];
        for (bound, value) in bounds.into_iter().filter_map(|(bound, value)| Some((bound, value?))) {
            out.sample(&[("server", &server.name), ("bound", bound)], seconds(value));
        }
    }
    out.family(
        "trunkline_max_lag_seconds",
        Type::Gauge,
        "Most proven lag of a server that gets reads (max_lag).",
    )
    .sample(&[], seconds(snapshot.max_lag));
    each(out, "trunkline_server_lag_bytes", "WAL not yet replayed, in bytes.", snapshot, |server| {
        server.lag_bytes
    });
    each(out, "trunkline_server_in_sync", "1 when nothing committed is missing.", snapshot, |server| {
        server.in_sync.map(flag)
    });
}

fn facts(out: &mut Exposition, snapshot: &Snapshot) {
    each(out, "trunkline_server_timeline", "Timeline the server is on.", snapshot, |server| {
        server.timeline.map(|timeline| timeline.0)
    });
    each(out, "trunkline_server_receiver", "1 when a WAL receiver is streaming.", snapshot, |server| {
        server.receiver.map(flag)
    });
    each(out, "trunkline_server_replay_paused", "1 when replay is paused.", snapshot, |server| {
        server.paused.map(flag)
    });
}

/// A family with one sample for each server that `read` knows a value of.
fn each<V: std::fmt::Display>(
    out: &mut Exposition,
    name: &'static str,
    help: &str,
    snapshot: &Snapshot,
    read: impl Fn(&ServerStatus) -> Option<V>,
) {
    out.family(name, Type::Gauge, help);
    for server in &snapshot.servers {
        if let Some(value) = read(server) {
            out.sample(&[("server", &server.name)], value);
        }
    }
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

fn flag(is_set: bool) -> u8 {
    u8::from(is_set)
}
