//! From the probe's row to facts.

use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::SimpleQueryRow;
use trunkline_codec::ids::{SystemIdentifier, TimelineId};

use crate::judge::{PrimaryFacts, ProbeFailure, Receiver, RoleFacts, StandbyFacts, StartupWait};

/// What does not change while a connection lasts.
pub(super) struct Identity {
    pub(super) version: u32,
    pub(super) system_identifier: Option<SystemIdentifier>,
    pub(super) started_us: i64,
    pub(super) can_see_all: bool,
}

pub(super) fn identity(row: &SimpleQueryRow) -> Result<Identity, ProbeFailure> {
    Ok(Identity {
        version: required(row, "version")?,
        // The catalogue shows the unsigned number as a signed one.
        system_identifier: optional::<i64>(row, "system_identifier")?
            .map(|n| SystemIdentifier(n.cast_unsigned())),
        started_us: required(row, "started_us")?,
        can_see_all: flag(row, "can_see_all")?,
    })
}

pub(super) fn clock_us(row: &SimpleQueryRow) -> Result<i64, ProbeFailure> {
    required(row, "now_us")
}

pub(super) fn role(row: &SimpleQueryRow) -> Result<RoleFacts, ProbeFailure> {
    if flag(row, "rec")? {
        standby(row).map(RoleFacts::Standby)
    } else {
        let timeline = text(row, "tli_hex")?.and_then(|hex| u32::from_str_radix(hex, 16).ok());
        let timeline = timeline.ok_or_else(|| malformed("tli_hex"))?;
        Ok(RoleFacts::Primary(PrimaryFacts { flush: required(row, "lsn")?, timeline: TimelineId(timeline) }))
    }
}

fn standby(row: &SimpleQueryRow) -> Result<StandbyFacts, ProbeFailure> {
    let sees_startup = flag(row, "sees_startup")?;
    Ok(StandbyFacts {
        // NULL before the first record is replayed: nothing is shown yet.
        replay: optional(row, "lsn")?.unwrap_or_default(),
        receive: optional(row, "receive_lsn")?,
        last_commit_us: optional(row, "last_xact_us")?,
        is_paused: flag(row, "is_paused")?,
        startup: match text(row, "startup_wait")? {
            Some("RecoveryWalStream") => StartupWait::Stream,
            Some(_) => StartupWait::Other,
            None if sees_startup => StartupWait::Other,
            None => StartupWait::Hidden,
        },
        receiver: receiver(row)?,
        apply_delay: text(row, "apply_delay")?.and_then(duration).unwrap_or_default(),
    })
}

fn receiver(row: &SimpleQueryRow) -> Result<Receiver, ProbeFailure> {
    if !flag(row, "has_receiver")? {
        return Ok(Receiver::Absent);
    }
    if text(row, "status")?.is_none() {
        return Ok(Receiver::Hidden);
    }
    Ok(Receiver::Present {
        timeline: optional(row, "received_tli")?.map(TimelineId),
        latest_end: optional(row, "latest_end_lsn")?,
    })
}

/// A setting of PostgreSQL's with a unit of time: `0`, `500ms`, `6s`, `5min`, `1h`, `2d`.
fn duration(setting: &str) -> Option<Duration> {
    let unit_at = setting.find(|c: char| !c.is_ascii_digit()).unwrap_or(setting.len());
    let (number, unit) = setting.split_at(unit_at);
    let milliseconds: u64 = match unit.trim() {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.parse::<u64>().ok()?.saturating_mul(milliseconds)))
}

fn text<'r>(row: &'r SimpleQueryRow, column: &'static str) -> Result<Option<&'r str>, ProbeFailure> {
    row.try_get(column).map_err(|_| malformed(column))
}

fn optional<T: FromStr>(row: &SimpleQueryRow, column: &'static str) -> Result<Option<T>, ProbeFailure> {
    text(row, column)?.map(|text| text.parse().map_err(|_| malformed(column))).transpose()
}

fn required<T: FromStr>(row: &SimpleQueryRow, column: &'static str) -> Result<T, ProbeFailure> {
    optional(row, column)?.ok_or_else(|| malformed(column))
}

fn flag(row: &SimpleQueryRow, column: &'static str) -> Result<bool, ProbeFailure> {
    Ok(text(row, column)? == Some("t"))
}

fn malformed(column: &str) -> ProbeFailure {
    ProbeFailure::Malformed(format!("column {column}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_with_units_are_read() {
        let cases = [
            ("0", 0),
            ("500ms", 500),
            ("6s", 6_000),
            ("5min", 300_000),
            ("1h", 3_600_000),
            ("2d", 172_800_000),
        ];
        for (setting, milliseconds) in cases {
            assert_eq!(duration(setting), Some(Duration::from_millis(milliseconds)), "{setting}");
        }
        for setting in ["s", "6 weeks", "-1", ""] {
            assert_eq!(duration(setting), None, "{setting}");
        }
    }
}
