//! From the probe's row to facts.

use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::SimpleQueryRow;
use trunkline_codec::ids::{Lsn, SystemIdentifier, TimelineId};
use trunkline_codec::sqlstate::SqlState;

use crate::judge::{
    AskedFact, PrimaryFacts, ProbeFailure, Receiver, RefusedFact, RoleFacts, StandbyFacts, StartupWait,
};

/// What does not change while a connection lasts. What the server refuses to tell is `None`.
#[derive(Debug, Default)]
pub(super) struct Identity {
    pub(super) version: u32,
    pub(super) system_identifier: Option<SystemIdentifier>,
    pub(super) started_us: Option<i64>,
    pub(super) can_see_all: bool,
    /// `rds.extensions`, on RDS and Aurora.
    pub(super) rds_extensions: Option<String>,
    pub(super) has_rds_tools: bool,
}

pub(super) fn identity(row: &SimpleQueryRow) -> Result<Identity, ProbeFailure> {
    Ok(Identity {
        version: required(row, "version")?,
        // The catalogue shows the unsigned number as a signed one.
        system_identifier: asked::<i64>(row, "system_identifier")?
            .map(|n| SystemIdentifier(n.cast_unsigned())),
        started_us: asked(row, "started_us")?,
        can_see_all: asked_text(row, "can_see_all") == Some("t"),
        rds_extensions: asked_text(row, "rds_extensions").map(str::to_owned),
        has_rds_tools: asked_text(row, "has_rds_tools") == Some("t"),
    })
}

pub(super) fn clock_us(row: &SimpleQueryRow) -> Result<i64, ProbeFailure> {
    required(row, "now_us")
}

pub(super) fn is_in_recovery(row: &SimpleQueryRow) -> Result<bool, ProbeFailure> {
    flag(row, "rec")
}

/// What PostgreSQL's own functions tell, and the operator's `lag_query` where there is one.
pub(super) fn role(row: &SimpleQueryRow) -> Result<RoleFacts, ProbeFailure> {
    let told = told(row);
    if is_in_recovery(row)? {
        standby(row, told).map(RoleFacts::Standby)
    } else {
        let timeline = match asked_text(row, "tli_hex") {
            Some(hex) => Some(u32::from_str_radix(hex, 16).map_err(|_| malformed("tli_hex"))?),
            None => None,
        };
        let flush = match told {
            Some(Told::Position(lsn)) => Some(lsn),
            Some(Told::Lag(_) | Told::Unknown) | None => {
                asked(row, "flush_lsn")?.or(asked(row, "write_lsn")?)
            }
        };
        let insert = asked(row, "insert_lsn")?;
        Ok(RoleFacts::Primary(PrimaryFacts { flush, insert, timeline: timeline.map(TimelineId) }))
    }
}

fn standby(row: &SimpleQueryRow, told: Option<Told>) -> Result<StandbyFacts, ProbeFailure> {
    let apply_delay = asked_text(row, "apply_delay");
    let is_replay_told = has(row, "replay_lsn");
    let replay = match told {
        Some(Told::Position(lsn)) => Some(lsn),
        Some(Told::Lag(_) | Told::Unknown) => None,
        // NULL before the first record is replayed: nothing is shown yet.
        None => asked(row, "replay_lsn")?.or(is_replay_told.then(Lsn::default)),
    };
    Ok(StandbyFacts {
        replay,
        receive: asked(row, "receive_lsn")?,
        last_commit_us: asked(row, "last_xact_us")?,
        is_paused: asked_text(row, "is_paused").map(|paused| paused == "t"),
        startup: match asked_text(row, "startup_wait") {
            Some("RecoveryWalStream") => StartupWait::Stream,
            Some(_) => StartupWait::Other,
            None if asked_text(row, "sees_startup") == Some("t") => StartupWait::Other,
            None => StartupWait::Hidden,
        },
        receiver: receiver(row)?,
        // The setting is missing where there is no such thing.
        apply_delay: has(row, "apply_delay").then(|| apply_delay.and_then(duration).unwrap_or_default()),
        told_lag: match told {
            Some(Told::Lag(lag)) => Some(lag),
            Some(Told::Position(_) | Told::Unknown) | None => None,
        },
        estimated_lag: None,
    })
}

/// What `lag_query` gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Lag(Duration),
    Position(Lsn),
    Unknown,
}

/// What `lag_query` gave, if it was asked. Nonsense tells nothing: the server is there all the same.
fn told(row: &SimpleQueryRow) -> Option<Told> {
    has(row, "told_lag").then(|| asked_text(row, "told_lag").and_then(read_told).unwrap_or(Told::Unknown))
}

/// What is wrong with what `lag_query` gave, if anything is.
pub(super) fn lag_nonsense(row: &SimpleQueryRow) -> Option<RefusedFact> {
    let text = asked_text(row, "told_lag")?;
    let code = SqlState::INVALID_TEXT_REPRESENTATION;
    read_told(text).is_none().then_some(RefusedFact { fact: AskedFact::LagAnswer, code })
}

fn read_told(text: &str) -> Option<Told> {
    let text = text.trim();
    if text.contains('/') {
        return text.parse().ok().map(Told::Position);
    }
    let milliseconds: f64 = text.parse().ok()?;
    // Below zero is what two clocks make of no lag at all.
    Duration::try_from_secs_f64(milliseconds.max(0.0) / 1e3)
        .ok()
        .filter(|_| milliseconds.is_finite())
        .map(Told::Lag)
}

fn receiver(row: &SimpleQueryRow) -> Result<Receiver, ProbeFailure> {
    match asked_text(row, "has_receiver") {
        None => return Ok(Receiver::Refused),
        Some("t") => {}
        Some(_) => return Ok(Receiver::Absent),
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

/// Whether the statement asked for a column.
pub(super) fn has(row: &SimpleQueryRow, column: &str) -> bool {
    row.columns().iter().any(|had| had.name() == column)
}

/// A column's text; nothing where the statement did not ask for it, or it is NULL.
pub(super) fn asked_text<'r>(row: &'r SimpleQueryRow, column: &'static str) -> Option<&'r str> {
    row.try_get(column).ok().flatten()
}

/// A column's value; nothing where the statement did not ask for it, or it is NULL.
pub(super) fn asked<T: FromStr>(
    row: &SimpleQueryRow,
    column: &'static str,
) -> Result<Option<T>, ProbeFailure> {
    asked_text(row, column).map(|text| text.parse().map_err(|_| malformed(column))).transpose()
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

pub(super) fn malformed(column: &str) -> ProbeFailure {
    ProbeFailure::Malformed(format!("column {column}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_query_gives_milliseconds_or_a_position() {
        for (text, milliseconds) in [("0", 0), ("1500", 1500), ("12.5", 12), (" 3 ", 3), ("-7", 0)] {
            let Some(Told::Lag(lag)) = read_told(text) else { panic!("{text}") };
            assert_eq!(lag.as_millis(), milliseconds, "{text}");
        }
        assert_eq!(read_told("0/16B3748"), Some(Told::Position(Lsn(0x016B_3748))));
        for text in ["", "soon", "1e400", "NaN", "inf", "0/", "1/2/3"] {
            assert_eq!(read_told(text), None, "{text}");
        }
    }

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
