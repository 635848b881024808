//! What is remembered of one server.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use trunkline_codec::ids::{Lsn, SystemIdentifier, TimelineId};

use super::asked::RefusedFacts;
use super::clock::ClockReading;
use super::epoch::Claim;
use super::facts::{Facts, PrimaryFacts, ProbeFailure, RoleFacts, StandbyFacts};
use super::liveness::Liveness;
use super::membership::{ClusterIdentity, Membership};
use super::notice::NoticeKind;
use super::reason::{Reason, RefusedLogin};
use super::settings::JudgeSettings;
use trunkline_topology::{Address, AdminState, Role, ServerId, ServerSpec, State};

/// Share of its weight a returning server starts with.
const SLOW_START_FLOOR: f32 = 0.05;

/// What is remembered of one server.
#[derive(Debug)]
pub(super) struct JudgedServer {
    pub(super) id: ServerId,
    pub(super) spec: ServerSpec,
    pub(super) name: Arc<str>,
    pub(super) host: Arc<str>,
    /// What an operator has set in the place of `spec.admin`.
    pub(super) by_hand: Option<AdminState>,
    /// It is no longer wanted, and is forgotten when its sessions have gone.
    pub(super) is_leaving: bool,
    pub(super) address: Option<Address>,
    pub(super) liveness: Liveness,
    /// When anything was found out last, good or bad.
    pub(super) observed_at: Option<Instant>,
    pub(super) answer: Option<LastAnswer>,
    /// What it is while it is not in recovery.
    pub(super) claim: Option<Claim>,
    /// It was promoted while the primary lived; forgotten when it is in recovery again.
    pub(super) was_rogue: bool,
    /// Since when it has been a primary beside the cluster's own, not followed by most of the standbys.
    pub(super) contends_since: Option<Instant>,
    /// It showed WAL that the primary does not have. Holds until it restarts or its WAL is rewound.
    pub(super) divergence: Option<(Lsn, Lsn)>,
    /// A replayed position to compare with the primary's next answer, and when it was reported.
    pub(super) unchecked: Option<(Lsn, Instant)>,
    /// When it was last seen on the epoch's timeline.
    pub(super) on_timeline_at: Option<Instant>,
    /// Since when it follows a timeline newer than the epoch's.
    pub(super) on_newer_since: Option<(TimelineId, Instant)>,
    pub(super) standing: Standing,
    pub(super) reading: Option<ClockReading>,
    pub(super) verdict: Verdict,
    /// The refusal of the monitoring role that was noticed last.
    pub(super) noticed_refusal: Option<ProbeFailure>,
    /// When its weight began to ramp up.
    pub(super) ramp_from: Option<Instant>,
    /// It was out of service since it was up last: its return ramps up.
    pub(super) was_out: bool,
}

/// A server's last answer.
#[derive(Clone, Debug)]
pub(super) struct LastAnswer {
    pub(super) facts: Facts,
    /// The address that was asked.
    pub(super) address: Option<Address>,
    pub(super) sent_at: Instant,
    pub(super) received_at: Instant,
}

/// How a standby's lag is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing is proven.
    Unproven,
    /// It was shown to be fresh, and is not proven to lag.
    Fresh,
    /// It was proven to lag.
    Lagging { good: u32, since: Instant },
}

/// A state and its reason.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    pub(super) state: State,
    pub(super) reason: Reason,
    /// Why the server refuses the monitoring role, where that is not the reason itself.
    pub(super) warning: Option<ProbeFailure>,
    /// What the server refuses to tell, so that the verdict rests on the rest.
    pub(super) refusals: RefusedFacts,
    pub(super) since: Instant,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)?;
        if !self.refusals.is_empty() && !self.reason.is_for_want_of_answers() {
            write!(f, "; {}", self.refusals)?;
        }
        match &self.warning {
            Some(failure) => write!(f, "; but {}", RefusedLogin(failure)),
            None => Ok(()),
        }
    }
}

impl JudgedServer {
    pub(super) fn new(id: ServerId, spec: ServerSpec, now: Instant) -> Self {
        JudgedServer {
            id,
            name: spec.name.as_str().into(),
            host: spec.host.as_str().into(),
            spec,
            by_hand: None,
            is_leaving: false,
            address: None,
            liveness: Liveness::new(),
            observed_at: None,
            answer: None,
            claim: None,
            was_rogue: false,
            contends_since: None,
            divergence: None,
            unchecked: None,
            on_timeline_at: None,
            on_newer_since: None,
            standing: Standing::Unproven,
            reading: None,
            verdict: Verdict {
                state: State::Unknown,
                reason: Reason::NotProbed(None),
                warning: None,
                refusals: RefusedFacts::of(&[], Role::Unknown),
                since: now,
            },
            noticed_refusal: None,
            ramp_from: None,
            was_out: false,
        }
    }

    /// What the operator wants of it.
    pub(super) fn admin(&self) -> AdminState {
        self.by_hand.unwrap_or(self.spec.admin)
    }

    /// Takes over what is wanted of it now. Its place is the same.
    pub(super) fn respecify(&mut self, spec: ServerSpec) {
        if *self.name != *spec.name {
            self.name = spec.name.as_str().into();
        }
        self.spec = spec;
    }

    pub(super) fn role(&self) -> Role {
        match self.answer.as_ref().map(|answer| &answer.facts.role) {
            None => Role::Unknown,
            Some(RoleFacts::Primary(_)) => Role::Primary,
            Some(RoleFacts::Standby(_)) => Role::Standby,
        }
    }

    pub(super) fn primary(&self) -> Option<&PrimaryFacts> {
        match &self.answer.as_ref()?.facts.role {
            RoleFacts::Primary(facts) => Some(facts),
            RoleFacts::Standby(_) => None,
        }
    }

    pub(super) fn standby(&self) -> Option<&StandbyFacts> {
        match &self.answer.as_ref()?.facts.role {
            RoleFacts::Standby(facts) => Some(facts),
            RoleFacts::Primary(_) => None,
        }
    }

    /// Its cluster's number, as it said itself.
    pub(super) fn system(&self) -> Option<SystemIdentifier> {
        self.answer.as_ref()?.facts.system_identifier
    }

    /// By what its cluster is known, as it said itself.
    pub(super) fn identity(&self) -> ClusterIdentity<'_> {
        ClusterIdentity { system: self.system(), membership: self.membership() }
    }

    /// What it says of a managed cluster.
    pub(super) fn membership(&self) -> Option<&Membership> {
        self.answer.as_ref()?.facts.membership.as_deref()
    }

    /// What it refuses to tell of what its verdict may rest on.
    pub(super) fn refusals(&self) -> RefusedFacts {
        let refused = self.answer.as_ref().map_or(&[][..], |answer| &answer.facts.refused);
        RefusedFacts::of(refused, self.role())
    }

    /// Whether it answers, is not in recovery, and did so lately.
    pub(super) fn is_serving_as_primary(&self) -> bool {
        self.liveness.is_alive() && self.role() == Role::Primary
    }

    /// Takes in an answer, and forgets what it ends.
    pub(super) fn answered(&mut self, answer: LastAnswer) {
        let replay_before = self.standby().and_then(|facts| facts.replay);
        let role_before = self.role();
        self.answer = Some(answer);
        if self.role() != role_before {
            (self.standing, self.reading) = (Standing::Unproven, None);
            (self.divergence, self.unchecked) = (None, None);
            (self.on_timeline_at, self.on_newer_since) = (None, None);
        }
        // Replay goes back only when the data directory was rewound or made anew.
        let replay = self.standby().and_then(|facts| facts.replay);
        if replay.is_some() && replay < replay_before {
            self.divergence = None;
        }
    }

    /// Why it refuses the monitoring role, if it does.
    pub(super) fn refused_role(&self) -> Option<&ProbeFailure> {
        self.liveness.refusal().filter(|failure| failure.is_refused_role())
    }

    /// What changed in that since it was asked last.
    pub(super) fn refusal_news(&mut self) -> Option<NoticeKind> {
        let refusal = self.refused_role().cloned();
        if refusal == self.noticed_refusal {
            return None;
        }
        self.noticed_refusal.clone_from(&refusal);
        Some(match refusal {
            Some(failure) => NoticeKind::MonitorRefused(failure.to_string()),
            None => NoticeKind::MonitorAccepted,
        })
    }

    /// What was known of it as a server of one cluster says nothing of it in another.
    pub(super) fn forget_cluster(&mut self) {
        (self.claim, self.was_rogue, self.contends_since) = (None, false, None);
        (self.divergence, self.unchecked) = (None, None);
        (self.on_timeline_at, self.on_newer_since) = (None, None);
        (self.standing, self.reading) = (Standing::Unproven, None);
    }

    /// Notes that it left `from` for its present state.
    pub(super) fn entered(&mut self, from: State, now: Instant) {
        let to = self.verdict.state;
        if to.is_out() {
            self.was_out = true;
        } else if to.takes_new() && !from.takes_new() && self.was_out {
            (self.was_out, self.ramp_from) = (false, Some(now));
        }
    }

    /// What was proven before it died says nothing of what it will be.
    pub(super) fn died(&mut self) {
        self.standing = Standing::Unproven;
        self.divergence = None;
        self.unchecked = None;
        self.was_out = true;
    }

    /// Share of the weight in force.
    pub(super) fn slow_start(&self, settings: &JudgeSettings, now: Instant) -> f32 {
        match self.ramp_from {
            Some(from) if settings.slow_start > Duration::ZERO => {
                let done =
                    now.saturating_duration_since(from).as_secs_f32() / settings.slow_start.as_secs_f32();
                done.clamp(SLOW_START_FLOOR, 1.0)
            }
            Some(_) | None => 1.0,
        }
    }
}
