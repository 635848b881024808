//! From what is remembered of a server to its state. The first rule that applies decides.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::clock::LagBasis;
use super::epoch::{Claim, Epoch, PrimaryWal};
use super::facts::StandbyFacts;
use super::liveness::{Life, Revival};
use super::reason::{AdoptionHint, Fitness, Reason, Return};
use super::server::{JudgedServer, LastAnswer, Standing};
use super::settings::{JudgeSettings, LagUnknown, PrimaryUnknown};
use super::standby::{Following, following};
use trunkline_codec::ids::SystemIdentifier;
use trunkline_topology::{AdminState, ExpectedRole, Role, State};

/// An answer older than this many ticks, plus the timeouts, says nothing any more.
const ANSWER_TICKS_MAX: u32 = 3;

/// The state of a server, and why.
pub(super) fn decide(
    server: &JudgedServer,
    epoch: Option<&Epoch>,
    settings: &JudgeSettings,
    now: Instant,
) -> (State, Reason) {
    if server.admin() == AdminState::Maint {
        return (State::Maint, Reason::Maint);
    }
    let (state, reason) = decide_fitness(server, epoch, settings, now);
    match state {
        State::Up | State::Lagging if server.is_leaving => (State::Drain, Reason::Leaving),
        State::Up | State::Lagging if server.admin() == AdminState::Drain => (State::Drain, Reason::Drain),
        _ => (state, reason),
    }
}

fn decide_fitness(
    server: &JudgedServer,
    epoch: Option<&Epoch>,
    settings: &JudgeSettings,
    now: Instant,
) -> (State, Reason) {
    let failure = match server.liveness.life() {
        Life::Alive => return decide_alive(server, epoch, settings, now),
        Life::Unseen(failure) => failure.clone(),
        Life::Dead { failure, revival } => {
            let reason = match revival {
                Some(revival) => Reason::Reviving(awaited(revival, settings, now), failure.clone()),
                None if failure.is_refused_role() => Reason::LoginRefused(failure.clone()),
                None => Reason::Dead(failure.clone()),
            };
            return (State::Down, reason);
        }
    };
    let reason = match server.liveness.refusal() {
        Some(refusal) => Reason::LoginRefused(refusal.clone()),
        None if server.liveness.is_saturated => Reason::Saturated,
        None => Reason::NotProbed(failure),
    };
    (State::Unknown, reason)
}

/// What a server that answers again waits for.
fn awaited(revival: &Revival, settings: &JudgeSettings, now: Instant) -> Return {
    match revival.held_until {
        Some(until) => Return::Hold(until.saturating_duration_since(now)),
        None if revival.has_login => Return::Probes { good: revival.good, rise: settings.rise },
        None => Return::Login,
    }
}

fn decide_alive(
    server: &JudgedServer,
    epoch: Option<&Epoch>,
    settings: &JudgeSettings,
    now: Instant,
) -> (State, Reason) {
    let Some(answer) = &server.answer else { return (State::Unknown, Reason::NotProbed(None)) };
    if let Some(reason) = too_old(server, answer, settings, now) {
        return (State::Unknown, reason);
    }
    let Some(epoch) = epoch else { return (State::Unknown, Reason::NotAllProbed) };
    match server.role() {
        Role::Unknown => (State::Unknown, Reason::NotProbed(None)),
        Role::Primary => decide_primary(server, epoch, settings, now),
        Role::Standby => match server.standby() {
            Some(facts) => decide_standby(server, facts, epoch, settings, now),
            None => (State::Unknown, Reason::NotProbed(None)),
        },
    }
}

/// A server that is alive but answers no probe is not judged by old facts.
fn too_old(
    server: &JudgedServer,
    answer: &LastAnswer,
    settings: &JudgeSettings,
    now: Instant,
) -> Option<Reason> {
    let age = now.saturating_duration_since(answer.received_at);
    let patience = settings.tick * ANSWER_TICKS_MAX + settings.probe_timeout;
    match server.liveness.refusal() {
        Some(refusal) if age > settings.tick + settings.probe_timeout => {
            Some(Reason::LoginRefused(refusal.clone()))
        }
        _ if age <= patience + settings.connect_timeout => None,
        _ if server.liveness.is_saturated => Some(Reason::Saturated),
        _ => Some(Reason::Unprobed(age)),
    }
}

fn decide_primary(
    server: &JudgedServer,
    epoch: &Epoch,
    settings: &JudgeSettings,
    now: Instant,
) -> (State, Reason) {
    let Some(facts) = server.primary() else { return (State::Unknown, Reason::NotProbed(None)) };
    let theirs = server.system();
    if let Some(verdict) = unrecognised(server, epoch) {
        return verdict;
    }
    match server.claim {
        None => (State::Unknown, Reason::NotAllProbed),
        Some(Claim::OtherSystem) => (State::Fenced, other_system(theirs, epoch, settings, now)),
        Some(Claim::OldTimeline | Claim::Second) if writer_of(epoch).is_some() => {
            (State::Fenced, Reason::NotTheWriter { writer: writer_of(epoch).cloned() })
        }
        Some(Claim::OldTimeline) => {
            (State::Fenced, Reason::OldPrimary { theirs: facts.timeline, ours: epoch.timeline })
        }
        Some(Claim::Contender) => (State::Fenced, Reason::Contender { theirs: facts.timeline }),
        Some(Claim::Second) => (State::Fenced, Reason::SecondPrimary),
        Some(Claim::Rogue) => (State::Down, Reason::Promoted),
        Some(Claim::Holder | Claim::Twin | Claim::Successor)
            if server.spec.expected_role == ExpectedRole::Replica =>
        {
            // A promotion takes it out of reads at once; as the primary it serves when it has proven to be one.
            if now.saturating_duration_since(epoch.held_since) < settings.failover_grace {
                (State::Down, Reason::Promoted)
            } else {
                (State::Up, Reason::Primary { is_expected: false })
            }
        }
        Some(Claim::Holder | Claim::Twin | Claim::Successor) => {
            (State::Up, Reason::Primary { is_expected: true })
        }
    }
}

fn decide_standby(
    server: &JudgedServer,
    facts: &StandbyFacts,
    epoch: &Epoch,
    settings: &JudgeSettings,
    now: Instant,
) -> (State, Reason) {
    let theirs = server.system();
    if epoch.is_foreign(&server.identity()) {
        return (State::Fenced, other_system(theirs, epoch, settings, now));
    }
    if let Some(verdict) = unrecognised(server, epoch) {
        return verdict;
    }
    if let Some((replay, flush)) = server.divergence {
        return (State::Fenced, Reason::Ahead { replay, flush });
    }
    let follows = following(server, facts, epoch, settings, now);
    match follows {
        Following::Yes | Following::Grace => {}
        Following::LeftBehind { theirs, ours } => {
            return (State::Down, Reason::LeftBehind { theirs, ours });
        }
        Following::Unknown { ours } => return (State::Down, Reason::TimelineUnknown { ours }),
        Following::Branched { theirs, ours } => {
            return (State::Fenced, Reason::Branched { theirs, ours });
        }
    }
    if let Some(delay) = facts.apply_delay.filter(|delay| *delay > settings.max_lag) {
        return (State::Lagging, Reason::Delayed { delay, max_lag: settings.max_lag });
    }
    if let Some(verdict) = without_primary(epoch, settings, now) {
        return verdict;
    }
    let lo = server.reading.map_or(Duration::ZERO, |reading| reading.lo);
    match server.standing {
        Standing::Unproven if !is_measured(facts) => unmeasured(settings),
        Standing::Unproven if epoch.clock.newest().is_some() => (State::Unknown, Reason::Unproven),
        Standing::Unproven if epoch.wal == PrimaryWal::Refused => unmeasured(settings),
        Standing::Unproven if facts.told_lag.is_none() => (State::Unknown, Reason::NoPrimarySeen),
        Standing::Unproven => (State::Unknown, Reason::Unproven),
        Standing::Lagging { .. } if lo > settings.max_lag => {
            let is_paused = facts.is_paused == Some(true);
            let reason = Reason::Behind { lo, max_lag: settings.max_lag, is_paused };
            (State::Lagging, reason)
        }
        Standing::Lagging { .. } => {
            (State::Lagging, Reason::CatchingUp { lo, readmit_lag: settings.readmit_lag })
        }
        Standing::Fresh => {
            let fitness = fitness(server, epoch, follows, now);
            (State::Up, Reason::Standby(fitness))
        }
    }
}

/// A discovered server that does not tell of which cluster it is.
fn unrecognised(server: &JudgedServer, epoch: &Epoch) -> Option<(State, Reason)> {
    let is_recognised = epoch.recognises(&server.identity(), &server.spec.origin);
    (!is_recognised).then_some((State::Unknown, Reason::Unidentified))
}

/// The instance that writes, where the platform says so and there are no timelines.
fn writer_of(epoch: &Epoch) -> Option<&Arc<str>> {
    let membership = epoch.membership.as_ref().filter(|_| epoch.timeline.is_none())?;
    membership.writer.as_ref()
}

/// Whether anything tells how far behind a standby is.
fn is_measured(facts: &StandbyFacts) -> bool {
    facts.has_position() || facts.told_lag.is_some()
}

/// Of a standby of which nothing tells how far behind it is.
fn unmeasured(settings: &JudgeSettings) -> (State, Reason) {
    match settings.lag_unknown {
        LagUnknown::Serve => (State::Up, Reason::Standby(Fitness::Unmeasured)),
        LagUnknown::Drain => (State::Unknown, Reason::LagUnknown),
    }
}

fn other_system(
    theirs: Option<SystemIdentifier>,
    epoch: &Epoch,
    settings: &JudgeSettings,
    now: Instant,
) -> Reason {
    let hint = match epoch.replacement {
        Some(other) if Some(other.system) == theirs => {
            if other.has_quorum && !settings.adopt_after.is_zero() {
                let age = now.saturating_duration_since(other.since);
                AdoptionHint::In(settings.adopt_after.saturating_sub(age))
            } else {
                AdoptionHint::ByHand
            }
        }
        Some(_) | None => AdoptionHint::None,
    };
    Reason::OtherSystem { theirs, ours: epoch.system, hint }
}

fn fitness(server: &JudgedServer, epoch: &Epoch, follows: Following, now: Instant) -> Fitness {
    match (server.reading, epoch.lost_at) {
        _ if follows == Following::Grace => Fitness::Following,
        (Some(reading), _) if reading.basis == LagBasis::LagQuery => Fitness::Told(reading.est),
        (Some(reading), _) if reading.basis == LagBasis::LastCommit => Fitness::Commit(reading.est),
        (Some(reading), None) if reading.is_in_sync && epoch.wal == PrimaryWal::Refused => Fitness::Upstream,
        (Some(reading), None) if reading.is_in_sync => Fitness::InSync,
        (Some(reading), Some(lost_at)) if reading.is_in_sync => {
            Fitness::PrimaryGone(now.saturating_duration_since(lost_at))
        }
        (Some(reading), _) => Fitness::Behind(reading.est),
        (None, _) => Fitness::Following,
    }
}

/// Applies `primary_unknown` to standbys whose primary does not answer.
fn without_primary(epoch: &Epoch, settings: &JudgeSettings, now: Instant) -> Option<(State, Reason)> {
    let is_mute = epoch.wal == PrimaryWal::Refused && epoch.clock.newest().is_some();
    if is_mute && settings.primary_unknown == PrimaryUnknown::Drain {
        return Some((State::Unknown, Reason::PrimaryMute));
    }
    let since = now.saturating_duration_since(epoch.lost_at?);
    let is_allowed = match settings.primary_unknown {
        PrimaryUnknown::Serve => true,
        PrimaryUnknown::ServeFor(limit) => since <= limit,
        PrimaryUnknown::Drain => false,
    };
    if is_allowed { None } else { Some((State::Unknown, Reason::PrimaryGone(since))) }
}
