//! The judge's knowledge as others see it.

use std::sync::Arc;
use std::time::Instant;

use trunkline_codec::ids::TimelineId;

use super::Judge;
use super::epoch::Claim;
use super::facts::{Facts, ProbeFailure, Receiver, RoleFacts, StandbyFacts};
use super::server::{JudgedServer, LastAnswer};
use trunkline_topology::{Lag, Postmaster, Role, ServerId, ServerStatus, Snapshot, State};

/// A server entered a state.
#[derive(Clone, Debug)]
pub struct Transition {
    /// Which server.
    pub server: ServerId,
    /// Its configured name.
    pub name: Arc<str>,
    /// The state it was in.
    pub from: State,
    /// The state it is in.
    pub to: State,
    /// Why, in words.
    pub reason: String,
    /// Its role.
    pub role: Role,
    /// How far behind it was.
    pub lag: Option<Lag>,
    /// Whether it had all that the primary's newest sample had.
    pub in_sync: Option<bool>,
    /// When.
    pub at: Instant,
}

/// What others act on: a change of it is worth waking them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Eligibility {
    servers: Vec<(State, Role, bool)>,
    primary: Option<ServerId>,
    timeline: Option<TimelineId>,
    has_primary: bool,
    is_split: bool,
}

impl Transition {
    pub(super) fn new(server: &JudgedServer, from: State, now: Instant) -> Self {
        Transition {
            server: server.id,
            name: Arc::clone(&server.name),
            from,
            to: server.verdict.state,
            reason: server.verdict.to_string(),
            role: server.role(),
            lag: server.lag(now),
            in_sync: server.in_sync(),
            at: now,
        }
    }
}

impl JudgedServer {
    /// What the standby said last, while that still tells how far behind it is: not of a server that is DOWN, nor of one
    /// that no longer answers.
    fn measured(&self) -> Option<&StandbyFacts> {
        let is_measured = self.liveness.is_alive() && self.verdict.state.shows_lag();
        self.standby().filter(|_| is_measured && !self.verdict.reason.is_for_want_of_answers())
    }

    /// How far behind; nothing for a primary, and nothing while nothing is known.
    fn lag(&self, now: Instant) -> Option<Lag> {
        self.measured()?;
        let reading = self.reading?;
        let hi = reading.fresh_as_of.map(|at| now.saturating_duration_since(at));
        // Unproven and unbounded: zero would be a claim.
        if reading.fresh_as_of.is_none() && !reading.is_in_sync && reading.lo.is_zero() {
            return None;
        }
        Some(Lag { lo: reading.lo, est: reading.est, hi })
    }

    fn in_sync(&self) -> Option<bool> {
        self.measured()?;
        self.reading.map(|reading| reading.is_in_sync)
    }

    /// The postmaster that answered last, if that was at the server's present address.
    fn postmaster(&self) -> Option<Postmaster> {
        let LastAnswer { facts, address, .. } = self.answer.as_ref()?;
        let Facts { system_identifier, started_us, .. } = *facts;
        let is_there = *address == self.address;
        started_us.filter(|_| is_there).map(|started_us| Postmaster { system_identifier, started_us })
    }

    fn timeline(&self) -> Option<TimelineId> {
        match &self.answer.as_ref()?.facts.role {
            RoleFacts::Primary(facts) => facts.timeline,
            RoleFacts::Standby(StandbyFacts { receiver: Receiver::Present { timeline, .. }, .. }) => {
                *timeline
            }
            RoleFacts::Standby(_) => None,
        }
    }
}

impl Judge {
    /// The verdicts at `now`.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        Snapshot {
            servers: self.servers.iter().map(|server| self.status(server, now)).collect(),
            taken_at: now,
            tick: self.settings.tick,
            probe_timeout: self.settings.probe_timeout,
            max_lag: self.settings.max_lag,
            hard_max_lag: self.settings.hard_max_lag,
            primary: self.epoch.as_ref().and_then(|epoch| epoch.holder),
            timeline: self.epoch.as_ref().and_then(|epoch| epoch.timeline),
            written: self.epoch.as_ref().map_or_else(Default::default, |epoch| epoch.clock.written()),
            primary_lost_at: self.epoch.as_ref().and_then(|epoch| epoch.lost_at),
            split_brain: self.is_split(),
            is_ready: self.epoch.is_some(),
            is_overrun: self.overrun_at.is_some(),
        }
    }

    pub(super) fn eligibility(&self) -> Eligibility {
        let of = |server: &JudgedServer| (server.verdict.state, server.role(), server.liveness.is_saturated);
        Eligibility {
            servers: self.servers.iter().map(of).collect(),
            primary: self.epoch.as_ref().and_then(|epoch| epoch.holder),
            timeline: self.epoch.as_ref().and_then(|epoch| epoch.timeline),
            has_primary: self.epoch.as_ref().is_some_and(|epoch| epoch.lost_at.is_none()),
            is_split: self.is_split(),
        }
    }

    fn is_split(&self) -> bool {
        self.servers.iter().filter(|server| server.is_serving_as_primary()).any(|server| match server.claim {
            Some(Claim::Rogue | Claim::Contender | Claim::OldTimeline | Claim::Second) => true,
            Some(Claim::Holder | Claim::Twin | Claim::Successor | Claim::OtherSystem) | None => false,
        })
    }

    fn status(&self, server: &JudgedServer, now: Instant) -> ServerStatus {
        let (standby, measured) = (server.standby(), server.measured());
        let newest = self.epoch.as_ref().and_then(|epoch| epoch.clock.newest());
        ServerStatus {
            id: server.id,
            name: Arc::clone(&server.name),
            host: Arc::clone(&server.host),
            port: server.spec.port,
            address: server.address.clone(),
            expected_role: server.spec.expected_role,
            role: server.role(),
            state: server.verdict.state,
            reason: server.verdict.to_string().into(),
            since: server.verdict.since,
            admin: server.admin(),
            lag: server.lag(now),
            lag_bytes: measured.and_then(|facts| Some(newest?.bytes_since(facts.replay?))),
            in_sync: server.in_sync(),
            timeline: server.timeline(),
            system_identifier: server.answer.as_ref().and_then(|answer| answer.facts.system_identifier),
            postmaster: server.postmaster(),
            receiver: measured.and_then(|facts| match facts.receiver {
                Receiver::Absent => Some(false),
                Receiver::Hidden | Receiver::Present { .. } => Some(true),
                Receiver::Refused => None,
            }),
            paused: measured.and_then(|facts| facts.is_paused),
            zone: server.spec.zone.clone(),
            origin: server.spec.origin.clone(),
            is_leaving: server.is_leaving,
            weight: server.spec.weight,
            slow_start: server.slow_start(&self.settings, now),
            saturated: server.liveness.is_saturated,
            silent: server.liveness.is_silent(),
            monitor_refused: server.refused_role().map(|failure| failure.to_string().into()),
            monitor_refused_code: server.refused_role().and_then(ProbeFailure::code),
            replay_lsn: standby.and_then(|facts| facts.replay),
            flush_lsn: server.primary().and_then(|facts| facts.flush),
            insert_lsn: server.primary().and_then(|facts| facts.insert),
            asked_at: server.answer.as_ref().map(|answer| answer.sent_at),
            last_probe: server.observed_at,
            version: server.answer.as_ref().and_then(|answer| answer.facts.version),
        }
    }
}
