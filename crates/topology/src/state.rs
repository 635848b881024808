//! The verdict on a server, and what it means to others.

use std::fmt;

/// The verdict on a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Not judged: nothing known yet, or the facts do not suffice. Never eligible.
    Unknown,
    /// Fit to serve.
    Up,
    /// Alive, and proven to be further behind than `max_lag`.
    Lagging,
    /// Does not serve.
    Down,
    /// Serves data that is not this cluster's: split brain, diverged, another system.
    Fenced,
    /// Fit, but takes no new sessions by the operator's wish.
    Drain,
    /// Out of service by the operator's wish.
    Maint,
}

impl State {
    /// Every state, in the order of their declaration.
    pub const ALL: [State; 7] =
        [State::Unknown, State::Up, State::Lagging, State::Down, State::Fenced, State::Drain, State::Maint];

    /// The word operators see: `UP`, `LAGGING` ...
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            State::Unknown => "UNKNOWN",
            State::Up => "UP",
            State::Lagging => "LAGGING",
            State::Down => "DOWN",
            State::Fenced => "FENCED",
            State::Drain => "DRAIN",
            State::Maint => "MAINT",
        }
    }
}

/// What each state means to routing, logging and metrics: the one place to extend for a new state.
impl State {
    /// Its label in metrics: `up`, `lagging` ...
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            State::Unknown => "unknown",
            State::Up => "up",
            State::Lagging => "lagging",
            State::Down => "down",
            State::Fenced => "fenced",
            State::Drain => "drain",
            State::Maint => "maint",
        }
    }

    /// Whether new sessions may be given to it.
    #[must_use]
    pub fn takes_new(self) -> bool {
        match self {
            State::Up => true,
            State::Unknown | State::Lagging | State::Down | State::Fenced | State::Drain | State::Maint => {
                false
            }
        }
    }

    /// Whether the sessions that it has may finish on it.
    #[must_use]
    pub fn keeps_old(self) -> bool {
        match self {
            State::Up | State::Lagging | State::Drain => true,
            State::Unknown | State::Down | State::Fenced | State::Maint => false,
        }
    }

    /// Whether it is fit to serve, let the operator want it or not.
    #[must_use]
    pub fn is_fit(self) -> bool {
        match self {
            State::Up | State::Drain => true,
            State::Unknown | State::Lagging | State::Down | State::Fenced | State::Maint => false,
        }
    }

    /// Whether queries for this cluster's own data may go to it: it is not known to be down or of another cluster.
    #[must_use]
    pub fn may_be_asked(self) -> bool {
        match self {
            State::Up | State::Lagging | State::Drain | State::Maint => true,
            State::Unknown | State::Down | State::Fenced => false,
        }
    }

    /// Whether a session that came to write waits for another primary rather than talk to this one.
    #[must_use]
    pub fn is_left_by_writers(self) -> bool {
        match self {
            State::Down | State::Fenced | State::Drain | State::Maint => true,
            State::Unknown | State::Up | State::Lagging => false,
        }
    }

    /// Whether its last known lag still says something: it answers, and with this cluster's data.
    #[must_use]
    pub fn shows_lag(self) -> bool {
        match self {
            State::Unknown | State::Up | State::Lagging | State::Drain | State::Maint => true,
            State::Down | State::Fenced => false,
        }
    }

    /// Whether it is out of service, so that its caches are cold when it returns.
    #[must_use]
    pub fn is_out(self) -> bool {
        match self {
            State::Down | State::Maint => true,
            State::Unknown | State::Up | State::Lagging | State::Fenced | State::Drain => false,
        }
    }

    /// Whether the operator has put the server into this state: nobody needs to be alarmed.
    #[must_use]
    pub fn is_planned(self) -> bool {
        match self {
            State::Drain | State::Maint => true,
            State::Unknown | State::Up | State::Lagging | State::Down | State::Fenced => false,
        }
    }

    /// How loud the log says that a server is in this state now.
    #[must_use]
    pub fn severity(self) -> LogSeverity {
        match self {
            State::Up | State::Drain | State::Maint => LogSeverity::Info,
            State::Unknown | State::Lagging | State::Down | State::Fenced => LogSeverity::Warning,
        }
    }
}

/// How loud the log says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogSeverity {
    /// The operator wanted it, or all is well.
    Info,
    /// The operator will need to act.
    Warning,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
