//! How far behind is a standby, and does it follow the right primary?

use std::time::{Duration, Instant};

use trunkline_codec::ids::{Lsn, TimelineId};

use super::clock::{ClockReading, LagBasis};
use super::epoch::{Epoch, EpochOrigin, PrimaryWal};
use super::facts::{Receiver, StandbyFacts, StartupWait};
use super::server::{JudgedServer, LastAnswer, Standing};
use super::settings::JudgeSettings;

/// WAL is shipped up to full pages of this size while a transaction is still running.
/// Source: PostgreSQL, src/include/pg_config_manual.h and configure, XLOG_BLCKSZ.
const WAL_PAGE: u64 = 8192;
/// Longest record assumed to straddle the end of the WAL shipped.
const STRADDLE_MAX: u64 = 64 * 1024;

/// Whether a standby follows the epoch's timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Following {
    /// It does, or nothing speaks against it.
    Yes,
    /// It may still be on its way.
    Grace,
    /// It stayed on an older one.
    LeftBehind { theirs: TimelineId, ours: TimelineId },
    /// It says nothing, and a failover happened since it last did.
    Unknown { ours: TimelineId },
    /// It follows a newer one, that of a server which is not the primary.
    Branched { theirs: TimelineId, ours: TimelineId },
}

/// Whether a standby shows everything up to `lsn`.
///
/// The primary's flush position may lie inside a record; such a record cannot be replayed yet. Then having
/// received it and consumed all that was received is as good.
pub(super) fn covers(facts: &StandbyFacts, lsn: Lsn) -> bool {
    if facts.replay.is_some_and(|replay| replay >= lsn) {
        return true;
    }
    let has_received = facts.receive.is_some_and(|receive| receive >= lsn);
    match facts.startup {
        StartupWait::Stream => has_received,
        StartupWait::Other => false,
        StartupWait::Hidden => {
            has_received
                && lsn.0.is_multiple_of(WAL_PAGE)
                && facts.replay.is_some_and(|replay| lsn.bytes_since(replay) <= STRADDLE_MAX)
                && facts.is_paused == Some(false)
                && facts.apply_delay == Some(Duration::ZERO)
        }
    }
}

/// The farthest WAL position a standby knows to exist.
pub(super) fn frontier(facts: &StandbyFacts) -> Lsn {
    facts.replay.max(facts.receive).max(upstream(facts)).unwrap_or_default()
}

/// The farthest position that a standby's upstream has told it of.
pub(super) fn upstream(facts: &StandbyFacts) -> Option<Lsn> {
    match facts.receiver {
        Receiver::Present { latest_end, .. } => latest_end,
        Receiver::Absent | Receiver::Hidden | Receiver::Refused => None,
    }
}

/// Notes which timeline the standby is on. Call once per answer.
pub(super) fn note_timeline(server: &mut JudgedServer, facts: &StandbyFacts, epoch: &Epoch, now: Instant) {
    let Some(ours) = epoch.timeline else { return };
    let theirs = match facts.receiver {
        Receiver::Present { timeline, .. } => timeline,
        // Replay beyond where the new primary began is the only sign that rights leave visible.
        Receiver::Hidden | Receiver::Refused if epoch.first.is_some() && facts.replay > epoch.first => {
            Some(ours)
        }
        Receiver::Hidden | Receiver::Absent | Receiver::Refused => None,
    };
    match theirs {
        Some(theirs) if theirs == ours => {
            server.on_timeline_at = Some(now);
            server.on_newer_since = None;
        }
        Some(theirs) if theirs > ours => {
            let known = server.on_newer_since.filter(|(timeline, _)| *timeline == theirs);
            server.on_newer_since = known.or(Some((theirs, now)));
        }
        Some(_) => server.on_newer_since = None,
        None => {}
    }
}

/// Whether the standby follows the epoch's timeline.
pub(super) fn following(
    server: &JudgedServer,
    facts: &StandbyFacts,
    epoch: &Epoch,
    settings: &JudgeSettings,
    now: Instant,
) -> Following {
    let Some(ours) = epoch.timeline else { return Following::Yes };
    let was_up = server.verdict.state.is_fit();
    let may_wait = was_up && epoch.is_in_grace(settings, now);
    if let Some((theirs, since)) = server.on_newer_since {
        // The promoted server's own answer may come a moment after its standby's.
        let is_settled = now.saturating_duration_since(since) >= settings.tick + settings.probe_timeout;
        return if is_settled { Following::Branched { theirs, ours } } else { Following::Grace };
    }
    match facts.receiver {
        Receiver::Present { timeline: Some(theirs), .. } if theirs < ours => {
            if may_wait {
                Following::Grace
            } else {
                Following::LeftBehind { theirs, ours }
            }
        }
        Receiver::Present { timeline: Some(_), .. } => Following::Yes,
        Receiver::Present { timeline: None, .. }
        | Receiver::Absent
        | Receiver::Hidden
        | Receiver::Refused => {
            let was_seen = server.on_timeline_at.is_some_and(|at| at >= epoch.started_at);
            if epoch.origin == EpochOrigin::Found || was_seen {
                Following::Yes
            } else if may_wait {
                Following::Grace
            } else {
                Following::Unknown { ours }
            }
        }
    }
}

/// Reads the clock for a standby's answer.
pub(super) fn read(
    answer: &LastAnswer,
    facts: &StandbyFacts,
    epoch: &Epoch,
    settings: &JudgeSettings,
) -> ClockReading {
    if let Some(lag) = facts.told_lag {
        let fresh_as_of = answer.sent_at.checked_sub(lag);
        return ClockReading { lo: lag, est: lag, fresh_as_of, is_in_sync: false, basis: LagBasis::LagQuery };
    }
    if !facts.has_position() {
        let fresh_as_of = last_commit_seen(facts, epoch);
        let est = fresh_as_of.map(|at| answer.received_at.saturating_duration_since(at)).unwrap_or_default();
        let basis = LagBasis::LastCommit;
        return ClockReading { lo: Duration::ZERO, est, fresh_as_of, is_in_sync: false, basis };
    }
    let position = facts.replay.or(facts.receive).unwrap_or_default();
    let mut reading = epoch.clock.read(answer.sent_at, position, settings.tick, |lsn| covers(facts, lsn));
    if reading.fresh_as_of.is_none() {
        reading.est = reading.est.max(facts.estimated_lag.unwrap_or_default());
        reading.fresh_as_of = last_commit_seen(facts, epoch);
        if let Some(fresh_as_of) = reading.fresh_as_of.filter(|_| !reading.is_in_sync) {
            let hi = answer.received_at.saturating_duration_since(fresh_as_of);
            reading.est = reading.est.max(hi);
        }
    }
    reading
}

/// When the last commit replayed was made, by the monitor's clock: an upper bound where the LSN clock has
/// none yet. It counts idle time as lag, and is therefore never used otherwise.
fn last_commit_seen(facts: &StandbyFacts, epoch: &Epoch) -> Option<Instant> {
    let since_start_us = i128::from(facts.last_commit_us?) - epoch.clock_offset_us?;
    let distance = Duration::from_micros(u64::try_from(since_start_us.unsigned_abs()).ok()?);
    if since_start_us >= 0 {
        epoch.started_at.checked_add(distance)
    } else {
        epoch.started_at.checked_sub(distance)
    }
}

/// Where the standing goes with a new reading.
pub(super) fn next_standing(
    standing: Standing,
    reading: &ClockReading,
    epoch: &Epoch,
    settings: &JudgeSettings,
    now: Instant,
) -> Standing {
    if reading.lo > settings.max_lag {
        return match standing {
            Standing::Lagging { since, .. } => Standing::Lagging { good: 0, since },
            Standing::Fresh | Standing::Unproven => Standing::Lagging { good: 0, since: now },
        };
    }
    let is_by_positions = reading.basis == LagBasis::Positions;
    let is_bounded = if is_by_positions && (epoch.lost_at.is_some() || epoch.wal == PrimaryWal::Refused) {
        // The primary does not answer: lag is measured against the newest known WAL position, not against the clock.
        reading.fresh_as_of.is_some() || reading.is_in_sync && epoch.clock.newest().is_some()
    } else {
        let bound = settings.max_lag + settings.tick * 2;
        reading.fresh_as_of.is_some_and(|at| now.saturating_duration_since(at) < bound)
    };
    match standing {
        // Without positions nothing would ever prove that it lags.
        Standing::Fresh if reading.basis == LagBasis::LastCommit && !is_bounded => Standing::Unproven,
        Standing::Fresh => Standing::Fresh,
        Standing::Unproven if is_bounded && reading.est < settings.max_lag => Standing::Fresh,
        Standing::Unproven => Standing::Unproven,
        Standing::Lagging { good, since } if is_bounded && reading.est < settings.readmit_lag => {
            let good = good.saturating_add(1);
            let is_held = now.saturating_duration_since(since) < settings.tick;
            if good >= settings.rise && !is_held {
                Standing::Fresh
            } else {
                Standing::Lagging { good, since }
            }
        }
        Standing::Lagging { since, .. } => Standing::Lagging { good: 0, since },
    }
}
