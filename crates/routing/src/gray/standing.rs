//! What one server has been found to be so far.

use std::time::Duration;

use super::evidence::{Compared, WINDOWS_MAX};
use super::{FORGIVEN_WINDOWS, QUIET_WINDOWS, QUIET_WINDOWS_MAX, RUN, RUN_FINE};

/// The share of its weight that the slowest server keeps: enough to see when it is fast again.
pub const FLOOR: f32 = 0.1;

/// What is left of the weight after each step down, and what is taken for each step up.
const STEP: f32 = 0.5;

/// What a server was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpeedVerdict {
    /// As fast as its peers.
    Fine,
    /// Slower in some statements or sessions, which may be their own fault.
    Mixed,
    /// Slower than its peers.
    Slow,
}

impl SpeedVerdict {
    /// `fine`, `mixed` or `slow`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            SpeedVerdict::Fine => "fine",
            SpeedVerdict::Mixed => "mixed",
            SpeedVerdict::Slow => "slow",
        }
    }
}

/// Over how many windows a server with its full weight is looked at, each so many windows.
const SPANS: [usize; 3] = [1, 4, WINDOWS_MAX];

/// Windows in which a slow server is neither slow nor as fast as its peers, after which it gets some weight back.
const MIXED_WINDOWS: u32 = 60;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct SpeedStanding {
    pub(super) speed: f32,
    pub(super) verdict: Option<SpeedVerdict>,
    /// How often in a row it was slow, by span.
    slow: [u32; SPANS.len()],
    /// How often in a row it was as fast as its peers, since it has lost weight.
    fine: u32,
    /// Windows it was looked at.
    age: usize,
    /// The span that has found it slow: it is looked at no more often until it has its full weight.
    base: usize,
    /// Windows that have not been judged, since it has lost weight.
    unjudged: usize,
    /// Windows since the last verdict, since it has lost weight.
    quiet: u32,
    /// How many of them it takes until the server is tried with more weight.
    patience: u32,
    /// Windows at full weight.
    full: u32,
    pub(super) cells: usize,
    pub(super) slow_cells: usize,
    pub(super) probe: Option<Duration>,
    pub(super) probe_of_peers: Option<Duration>,
    pub(super) statements: Vec<Compared>,
}

impl Default for SpeedStanding {
    fn default() -> Self {
        SpeedStanding {
            speed: 1.0,
            verdict: None,
            slow: [0; SPANS.len()],
            fine: 0,
            age: 0,
            base: 1,
            unjudged: 0,
            quiet: 0,
            patience: QUIET_WINDOWS,
            full: 0,
            cells: 0,
            slow_cells: 0,
            probe: None,
            probe_of_peers: None,
            statements: Vec::new(),
        }
    }
}

impl SpeedStanding {
    /// Over how many windows to look now.
    pub(super) fn due(&mut self) -> Vec<usize> {
        self.age += 1;
        if self.speed >= 1.0 {
            return SPANS.into_iter().filter(|span| self.age.is_multiple_of(*span)).collect();
        }
        self.unjudged += 1;
        let is_due = self.unjudged >= self.base;
        is_due.then_some(self.unjudged.min(WINDOWS_MAX)).into_iter().collect()
    }

    /// What the last `span` windows say.
    pub(super) fn judged(
        &mut self,
        span: usize,
        verdict: Option<SpeedVerdict>,
        may_lose: bool,
        are_probes_slow: bool,
    ) {
        self.verdict = verdict.or(self.verdict);
        if self.speed >= 1.0 {
            self.judged_at_full_weight(span, verdict, may_lose);
        } else {
            self.judged_slow(verdict, are_probes_slow);
        }
    }

    fn judged_at_full_weight(&mut self, span: usize, verdict: Option<SpeedVerdict>, may_lose: bool) {
        let (Some(verdict), Some(at)) = (verdict, SPANS.iter().position(|of| *of == span)) else { return };
        let run = if verdict == SpeedVerdict::Slow { self.slow[at] + 1 } else { 0 };
        self.slow[at] = run;
        if run < RUN || !may_lose {
            return;
        }
        // What is found slow again soon is not tried again as soon.
        let is_forgiven = self.full >= FORGIVEN_WINDOWS;
        self.patience = if is_forgiven { QUIET_WINDOWS } else { (self.patience * 2).min(QUIET_WINDOWS_MAX) };
        (self.base, self.full) = (span, 0);
        self.loses();
    }

    fn judged_slow(&mut self, verdict: Option<SpeedVerdict>, are_probes_slow: bool) {
        match verdict {
            None => self.nothing_said(are_probes_slow),
            Some(SpeedVerdict::Slow) => self.loses(),
            Some(SpeedVerdict::Mixed) => {
                self.fine = 0;
                // The quiet goes on.
                self.unjudged = 0;
                if self.quiet >= MIXED_WINDOWS {
                    self.regains();
                }
            }
            Some(SpeedVerdict::Fine) => {
                self.fine += 1;
                (self.unjudged, self.quiet) = (0, 0);
                // Each step brings new load, which is looked at before the next.
                if self.fine >= RUN_FINE {
                    self.regains();
                }
            }
        }
    }

    fn nothing_said(&mut self, are_probes_slow: bool) {
        let span = u32::try_from(self.base).unwrap_or(u32::MAX);
        if self.quiet < self.patience.saturating_add(span) {
            return;
        }
        self.verdict = None;
        if are_probes_slow {
            self.quiet = 0;
        } else {
            self.regains();
        }
    }

    /// It does not serve, and there is nothing to look at: it gets its weight back as one without statements does.
    pub(super) fn rests(&mut self) {
        if self.speed < 1.0 {
            self.judged_slow(None, false);
        }
        self.count();
    }

    /// A window was looked at.
    pub(super) fn count(&mut self) {
        if self.speed >= 1.0 {
            self.full = self.full.saturating_add(1);
        } else {
            self.quiet = self.quiet.saturating_add(1);
        }
    }

    /// It has its full weight, because others do not serve.
    pub(super) fn pardoned(&mut self) {
        self.speed = 1.0;
        self.starts_again();
    }

    fn loses(&mut self) {
        self.speed = (self.speed * STEP).max(FLOOR);
        self.starts_again();
    }

    fn regains(&mut self) {
        self.speed = (self.speed / STEP).min(1.0);
        self.starts_again();
    }

    fn starts_again(&mut self) {
        self.slow = [0; SPANS.len()];
        (self.fine, self.unjudged, self.quiet) = (0, 0, 0);
    }
}
