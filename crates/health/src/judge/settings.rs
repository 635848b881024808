//! How servers are judged.

use std::time::Duration;

use trunkline_topology::{Dialect, ProbeSpec};

/// How servers are judged and how often they are probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JudgeSettings {
    /// A standby proven to be further behind than this leaves.
    pub max_lag: Duration,
    /// It returns when its estimated lag is below this. Default: half of `max_lag`.
    pub readmit_lag: Duration,
    /// Lag beyond which a standby is no fallback either.
    pub hard_max_lag: Duration,
    /// Time between probes of one server.
    pub tick: Duration,
    /// Longest a probe may take; then its connection is dropped.
    pub probe_timeout: Duration,
    /// Longest a login may take, name resolution included.
    pub connect_timeout: Duration,
    /// Time between logins made only to see that logins work.
    pub connect_check_interval: Duration,
    /// Time between probes while the verdict is changing.
    pub fast_interval: Duration,
    /// Soft failures (timeouts, lost connections) in a row that make a server DOWN. Hard ones act at once.
    pub fall: u32,
    /// Good probes in a row that bring a server back.
    pub rise: u32,
    /// Longest a standby that fails again and again is held back while others serve; zero is never.
    pub damping_max: Duration,
    /// Time over which a returning server's weight ramps up.
    pub slow_start: Duration,
    /// After a failover: how long standbys may take to follow the new timeline.
    pub failover_grace: Duration,
    /// How long all servers that answer must have belonged to another cluster before that is the one watched; zero is
    /// for ever.
    pub adopt_after: Duration,
    /// What standbys do while the primary does not answer.
    pub primary_unknown: PrimaryUnknown,
    /// What a standby does of which nothing tells how far behind it is.
    pub lag_unknown: LagUnknown,
    /// How servers are asked that do not say so themselves.
    pub probe: ProbeSpec,
}

/// What a standby does of which nothing tells how far behind it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LagUnknown {
    /// It gets no reads: unknown lag is never zero.
    #[default]
    Drain,
    /// It serves, as the operator wants it.
    Serve,
}

/// What standbys do while the primary does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrimaryUnknown {
    /// They serve: reads go on.
    #[default]
    Serve,
    /// They serve for this long.
    ServeFor(Duration),
    /// They stop.
    Drain,
}

impl JudgeSettings {
    /// The defaults for this lag limit and tick; what depends on them follows.
    #[must_use]
    pub fn new(max_lag: Duration, tick: Duration) -> Self {
        JudgeSettings {
            max_lag,
            readmit_lag: max_lag / 2,
            hard_max_lag: max_lag.max(Duration::from_secs(30)),
            tick,
            probe_timeout: (tick * 4 / 5).min(Duration::from_secs(1)),
            connect_timeout: Duration::from_secs(1),
            connect_check_interval: Duration::from_secs(5),
            fast_interval: tick / 4,
            fall: 2,
            rise: 2,
            damping_max: Duration::from_secs(60),
            slow_start: Duration::from_secs(10),
            failover_grace: Duration::from_secs(10),
            adopt_after: Duration::from_secs(30),
            primary_unknown: PrimaryUnknown::Serve,
            lag_unknown: LagUnknown::Drain,
            probe: ProbeSpec { dialect: Some(Dialect::Auto), ..ProbeSpec::default() },
        }
    }
}

impl Default for JudgeSettings {
    fn default() -> Self {
        Self::new(Duration::from_secs(10), Duration::from_millis(500))
    }
}
