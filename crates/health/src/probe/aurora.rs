//! From the rows of `aurora_replica_status()` to facts.
//!
//! One row per instance of the cluster, the same on each of them but for their age; the asked one's own is of now.
//! Source: Amazon Aurora User Guide, `aurora_replica_status`.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::SimpleQueryRow;
use trunkline_codec::ids::Lsn;

use super::answer::{asked, asked_text, is_in_recovery, malformed};
use crate::judge::{
    Membership, PrimaryFacts, ProbeFailure, Receiver, RoleFacts, StandbyFacts, StartupWait, Storage,
};

/// Most instances that are believed of one cluster; Aurora has 16.
const INSTANCES_MAX: usize = 64;
/// The session of the writer.
const WRITER_SESSION: &str = "MASTER_SESSION_ID";

/// What one instance says of itself and the others.
pub(super) fn facts(rows: &[SimpleQueryRow]) -> Result<(RoleFacts, Option<Arc<Membership>>), ProbeFailure> {
    let first = rows.first().ok_or_else(|| malformed("rec"))?;
    let rows: Vec<_> = rows.iter().filter(|row| server(row).is_some()).take(INSTANCES_MAX).collect();
    let writer = rows.iter().find(|row| asked_text(row, "session_id") == Some(WRITER_SESSION));
    // Its own name may be refused; then its row is the one without an age.
    let own_name = asked_text(first, "instance").map(str::to_owned).or_else(|| ageless(&rows));
    let own = rows.iter().find(|row| own_name.as_deref() == server(row));
    let written = writer.map(|row| lsn(row, "durable_lsn")).transpose()?.flatten();
    let role = if is_in_recovery(first)? {
        let own_position = |column| own.map(|row| lsn(row, column)).transpose().map(Option::flatten);
        RoleFacts::Standby(StandbyFacts {
            replay: own_position("current_read_lsn")?,
            receive: own_position("highest_lsn_rcvd")?,
            last_commit_us: None,
            is_paused: None,
            startup: StartupWait::Hidden,
            receiver: Receiver::Present { timeline: None, latest_end: written },
            apply_delay: Some(Duration::ZERO),
            told_lag: None,
            estimated_lag: own.and_then(|row| estimate(row)),
        })
    } else {
        let is_writer = writer.is_some_and(|row| own_name.as_deref() == server(row));
        RoleFacts::Primary(PrimaryFacts {
            flush: written.filter(|_| is_writer),
            insert: None,
            timeline: None,
        })
    };
    let membership = own_name.map(|own| {
        let named = |row: &SimpleQueryRow| server(row).map(Arc::from);
        Arc::new(Membership {
            own: own.into(),
            writer: writer.and_then(|row| named(row)),
            instances: rows.iter().filter_map(|row| named(row)).collect(),
            storage: Storage::Shared,
        })
    });
    Ok((role, membership))
}

fn server(row: &SimpleQueryRow) -> Option<&str> {
    asked_text(row, "server_id")
}

/// The one instance whose row has no age, if it is one.
fn ageless(rows: &[&SimpleQueryRow]) -> Option<String> {
    let mut ageless = rows.iter().filter(|row| asked_text(row, "last_update_timestamp").is_none());
    match (ageless.next(), ageless.next()) {
        (Some(row), None) => server(row).map(str::to_owned),
        _ => None,
    }
}

/// A position: Aurora's are numbers.
fn lsn(row: &SimpleQueryRow, column: &'static str) -> Result<Option<Lsn>, ProbeFailure> {
    let Some(text) = asked_text(row, column) else { return Ok(None) };
    let position = if text.contains('/') { text.parse().ok() } else { text.parse().ok().map(Lsn) };
    position.map(Some).ok_or_else(|| malformed(column))
}

fn estimate(row: &SimpleQueryRow) -> Option<Duration> {
    let milliseconds: f64 = asked(row, "replica_lag_in_msec").ok()??;
    Duration::try_from_secs_f64(milliseconds / 1e3).ok()
}
