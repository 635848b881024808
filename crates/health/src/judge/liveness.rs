//! Does a server answer? Fall and rise.
//!
//! ```text
//! Unseen --good--> Alive --hard failure, or `fall` soft ones--> Dead --`rise` good ones and a login--> Alive
//!    `------hard failure, or `fall` soft ones------------------^
//! ```
//!
//! The last step is [`super::damping`]'s, which may hold a server back, and asks a standby for one good probe only while no
//! other serves.

use std::collections::VecDeque;
use std::time::Instant;

use super::damping::{self, DAMPING_WINDOW, FAILURES_MAX};
use super::facts::{FailureSeverity, ProbeFailure};
use super::settings::JudgeSettings;

/// Whether a server answers.
#[derive(Clone, Debug)]
pub(super) struct Liveness {
    life: Life,
    /// Soft failures of the probe in a row.
    probe_failures: u32,
    /// Soft failures of logins in a row. Counted apart: a hung postmaster answers on old connections.
    connect_failures: u32,
    deaths: VecDeque<Instant>,
    /// The monitoring role's new logins fail for want of connections.
    pub(super) is_saturated: bool,
    /// Why the monitoring role may not log in. Only a login ends it: old connections go on working.
    refused_login: Option<ProbeFailure>,
    /// Why it may not ask what it has to, though it may log in. Only an answer ends it.
    refused_query: Option<ProbeFailure>,
}

/// Whether a server answers.
#[derive(Clone, Debug)]
pub(super) enum Life {
    /// It neither answered nor failed often enough.
    Unseen(Option<ProbeFailure>),
    /// It answers.
    Alive,
    /// It does not, or not yet for long enough.
    Dead { failure: ProbeFailure, revival: Option<Revival> },
}

/// How far a dead server's return is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Revival {
    pub(super) good: u32,
    pub(super) has_login: bool,
    since: Instant,
    /// Until when it is held back, if it is.
    pub(super) held_until: Option<Instant>,
}

/// What a finding changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LivenessChange {
    None,
    Died,
}

impl Revival {
    fn new(now: Instant) -> Self {
        Revival { good: 0, has_login: false, since: now, held_until: None }
    }
}

impl Liveness {
    pub(super) fn new() -> Self {
        Liveness {
            life: Life::Unseen(None),
            probe_failures: 0,
            connect_failures: 0,
            deaths: VecDeque::new(),
            is_saturated: false,
            refused_login: None,
            refused_query: None,
        }
    }

    pub(super) fn life(&self) -> &Life {
        &self.life
    }

    pub(super) fn is_alive(&self) -> bool {
        matches!(self.life, Life::Alive)
    }

    /// Whether it is dead and has answered since.
    pub(super) fn is_returning(&self) -> bool {
        matches!(&self.life, Life::Dead { revival: Some(_), .. })
    }

    /// Whether it gives no answer, not even that it does not serve.
    pub(super) fn is_silent(&self) -> bool {
        matches!(&self.life, Life::Dead { failure, revival: None } if !failure.is_answer())
    }

    /// The probe's query was answered.
    pub(super) fn answered(&mut self, now: Instant) {
        self.probe_failures = 0;
        self.refused_query = None;
        match &mut self.life {
            Life::Unseen(_) => self.life = Life::Alive,
            Life::Alive => {}
            Life::Dead { revival, .. } => {
                let revival = revival.get_or_insert(Revival::new(now));
                revival.good = revival.good.saturating_add(1);
            }
        }
    }

    /// A new login succeeded.
    pub(super) fn connected(&mut self, now: Instant) {
        self.connect_failures = 0;
        self.is_saturated = false;
        self.refused_login = None;
        if let Life::Dead { revival, .. } = &mut self.life {
            revival.get_or_insert(Revival::new(now)).has_login = true;
        }
    }

    /// The probe's query failed.
    pub(super) fn probe_failed(
        &mut self,
        failure: ProbeFailure,
        settings: &JudgeSettings,
        now: Instant,
    ) -> LivenessChange {
        self.probe_failures = self.probe_failures.saturating_add(1);
        let count = self.probe_failures;
        note_refusal(&mut self.refused_query, &failure);
        self.failed(failure, count, settings, now)
    }

    /// A login failed.
    pub(super) fn connect_failed(
        &mut self,
        failure: ProbeFailure,
        settings: &JudgeSettings,
        now: Instant,
    ) -> LivenessChange {
        self.connect_failures = self.connect_failures.saturating_add(1);
        let count = self.connect_failures;
        note_refusal(&mut self.refused_login, &failure);
        self.failed(failure, count, settings, now)
    }

    /// When a dead server that has answered `rise` probes may return, or might have done so; `None` for any other.
    pub(super) fn returns_at(&self, rise: u32, settings: &JudgeSettings, now: Instant) -> Option<Instant> {
        let Life::Dead { revival: Some(revival), .. } = &self.life else { return None };
        let is_ready = revival.has_login && revival.good >= rise;
        is_ready.then(|| revival.since + damping::hold(self.recent_failures(now), settings))
    }

    /// Why the monitoring role is refused, or cannot even try: what the server says comes first.
    pub(super) fn refusal(&self) -> Option<&ProbeFailure> {
        let both = || [&self.refused_login, &self.refused_query].into_iter().flatten();
        both().find(|failure| failure.is_refused_role()).or_else(|| both().next())
    }

    /// How often it died within [`DAMPING_WINDOW`].
    pub(super) fn recent_failures(&self, now: Instant) -> usize {
        self.deaths.iter().filter(|at| now.saturating_duration_since(**at) <= DAMPING_WINDOW).count()
    }

    /// Notes that its return is held back. Whether that is news.
    pub(super) fn hold_until(&mut self, until: Instant) -> bool {
        match &mut self.life {
            Life::Dead { revival: Some(revival), .. } => revival.held_until.replace(until).is_none(),
            Life::Unseen(_) | Life::Alive | Life::Dead { revival: None, .. } => false,
        }
    }

    /// It is back.
    pub(super) fn revive(&mut self) {
        self.life = Life::Alive;
    }

    fn failed(
        &mut self,
        failure: ProbeFailure,
        count: u32,
        settings: &JudgeSettings,
        now: Instant,
    ) -> LivenessChange {
        let (is_fatal, shows_life) = match failure.severity() {
            FailureSeverity::Hard => (true, false),
            FailureSeverity::Soft => (count >= settings.fall, false),
            FailureSeverity::Saturated => {
                self.is_saturated = true;
                (false, true)
            }
            FailureSeverity::Misconfigured => (false, true),
        };
        match &mut self.life {
            // It answers on a connection that it let in before, and refuses another.
            Life::Dead { revival: Some(_), .. } if shows_life => LivenessChange::None,
            Life::Dead { failure: why, revival } => {
                *why = failure;
                *revival = None;
                LivenessChange::None
            }
            Life::Unseen(why) if !is_fatal => {
                *why = Some(failure);
                LivenessChange::None
            }
            Life::Alive if !is_fatal => LivenessChange::None,
            Life::Alive | Life::Unseen(_) => {
                // What was known of its connections ended with it.
                self.is_saturated = false;
                self.life = Life::Dead { failure, revival: None };
                self.deaths.push_back(now);
                if self.deaths.len() > FAILURES_MAX {
                    self.deaths.pop_front();
                }
                LivenessChange::Died
            }
        }
    }
}

/// Notes why the monitoring role is refused, or cannot even try. That it could not try takes back no refusal.
fn note_refusal(known: &mut Option<ProbeFailure>, failure: &ProbeFailure) {
    let is_kept = !failure.is_refused_role() && known.as_ref().is_some_and(ProbeFailure::is_refused_role);
    if failure.severity() == FailureSeverity::Misconfigured && !is_kept {
        *known = Some(failure.clone());
    }
}
