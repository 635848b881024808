//! Does a server answer? Fall, rise and damping.
//!
//! ```text
//! Unseen --good--> Alive --hard failure, or `fall` soft ones--> Dead --`rise` good ones and a login--> Alive
//!    `------hard failure, or `fall` soft ones------------------^
//! ```

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::facts::{FailureSeverity, ProbeFailure};
use super::settings::JudgeSettings;

/// Deaths within this time make the next recovery slower.
const DAMPING_WINDOW: Duration = Duration::from_secs(300);
/// Longest a recovering server is held back.
const HOLD_MAX: Duration = Duration::from_secs(60);
/// Deaths remembered: 2^9 ticks exceed [`HOLD_MAX`] for any sensible tick.
const DEATHS_MAX: usize = 10;

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
    /// The monitoring role is refused.
    pub(super) refused_login: Option<ProbeFailure>,
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
}

/// What a finding changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LivenessChange {
    None,
    Died,
    Revived,
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
        }
    }

    pub(super) fn life(&self) -> &Life {
        &self.life
    }

    pub(super) fn is_alive(&self) -> bool {
        matches!(self.life, Life::Alive)
    }

    /// The probe's query was answered.
    pub(super) fn answered(&mut self, settings: &JudgeSettings, now: Instant) -> LivenessChange {
        self.probe_failures = 0;
        match &mut self.life {
            Life::Unseen(_) => {
                self.life = Life::Alive;
                LivenessChange::None
            }
            Life::Alive => LivenessChange::None,
            Life::Dead { revival, .. } => {
                let revival = revival.get_or_insert(Revival { good: 0, has_login: false, since: now });
                revival.good = revival.good.saturating_add(1);
                self.revive(settings, now)
            }
        }
    }

    /// A new login succeeded.
    pub(super) fn connected(&mut self, settings: &JudgeSettings, now: Instant) -> LivenessChange {
        self.connect_failures = 0;
        self.is_saturated = false;
        self.refused_login = None;
        if let Life::Dead { revival, .. } = &mut self.life {
            revival.get_or_insert(Revival { good: 0, has_login: false, since: now }).has_login = true;
        }
        self.revive(settings, now)
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
        self.failed(failure, count, settings, now)
    }

    /// How long a returning server is held back from its first good probe on.
    fn hold(&self, settings: &JudgeSettings, now: Instant) -> Duration {
        let recent = self.deaths.iter().filter(|at| now.saturating_duration_since(**at) <= DAMPING_WINDOW);
        match u32::try_from(recent.count()).unwrap_or(u32::MAX) {
            0 | 1 => Duration::ZERO,
            count => (settings.tick * settings.rise).saturating_mul(1 << (count - 1).min(9)).min(HOLD_MAX),
        }
    }

    fn revive(&mut self, settings: &JudgeSettings, now: Instant) -> LivenessChange {
        let hold = self.hold(settings, now);
        match &self.life {
            Life::Dead { revival: Some(revival), .. }
                if revival.has_login
                    && revival.good >= settings.rise
                    && now.saturating_duration_since(revival.since) >= hold =>
            {
                self.life = Life::Alive;
                LivenessChange::Revived
            }
            Life::Unseen(_) | Life::Alive | Life::Dead { .. } => LivenessChange::None,
        }
    }

    fn failed(
        &mut self,
        failure: ProbeFailure,
        count: u32,
        settings: &JudgeSettings,
        now: Instant,
    ) -> LivenessChange {
        let is_fatal = match failure.severity() {
            FailureSeverity::Hard => true,
            FailureSeverity::Soft => count >= settings.fall,
            FailureSeverity::Saturated => {
                self.is_saturated = true;
                return LivenessChange::None;
            }
            FailureSeverity::Misconfigured => {
                self.refused_login = Some(failure);
                return LivenessChange::None;
            }
        };
        match &mut self.life {
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
                // What was known of its logins ended with it.
                (self.is_saturated, self.refused_login) = (false, None);
                self.life = Life::Dead { failure, revival: None };
                self.deaths.push_back(now);
                if self.deaths.len() > DEATHS_MAX {
                    self.deaths.pop_front();
                }
                LivenessChange::Died
            }
        }
    }
}
