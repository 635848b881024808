//! Whose end it is when a server ends a session with FATAL 57P01: the server's own, or an operator's kill.
//!
//! A fast shutdown and `pg_terminate_backend` send the same bytes. But a postmaster refuses new clients with 57P03
//! before it signals the first backend (PostgreSQL 18, src/backend/postmaster/postmaster.c,
//! `process_pm_shutdown_request`). So a connection begun after the FATAL came is the judge: a login that the postmaster
//! accepts which had accepted the session shows a kill.
//!
//! Whatever is not known counts as the server's end, which is hidden from the client: a kill may have to be repeated,
//! but no restart is passed on as a kill.

use std::time::{Duration, Instant};

use crate::judge::Failure;

/// The rate at which two clocks may differ is one in this many: a session that began right after its server did is
/// not taken for one of another postmaster, however long both live.
const CLOCK_RATE: u32 = 1000;

/// No server that accepts clients has shut down, started and run out of connections sooner than this.
const RESTART_MIN: Duration = Duration::from_millis(100);

/// A server connection that ended with FATAL 57P01. Both instants are the proxy's own.
#[derive(Clone, Copy, Debug)]
pub struct Termination {
    /// When its login was done.
    pub connected_at: Instant,
    /// When the FATAL came.
    pub told_at: Instant,
}

/// Whose end a session's end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedBy {
    /// The server went, or it is not known that it did not.
    Server,
    /// An operator ended this session; the server serves on.
    Operator,
}

/// What one fresh connection to a server has shown.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// For how long the postmaster that accepted the login has run, by the server's clock.
    pub uptime: Result<Duration, Failure>,
    /// When that was known.
    pub at: Instant,
}

impl Sighting {
    /// What the sighting, which was begun after the termination, says of it.
    ///
    /// An uptime is the difference of two times of the server's wall clock. A step of that clock matters only to
    /// sessions that began within its size of their postmaster's start: set back, their kill is hidden. Set forward
    /// during a restart by more than they had lived, the restart is told as a kill.
    #[must_use]
    pub fn judge(&self, ended: Termination) -> EndedBy {
        let is_same = match &self.uptime {
            Ok(uptime) => {
                // The session's postmaster began before its login was done, any other after the FATAL was sent.
                let age = self.at.saturating_duration_since(ended.connected_at);
                *uptime >= age - age / CLOCK_RATE
            }
            // Of a server that refuses this role, or has no connection left, the start is not known.
            Err(failure) if failure.shows_a_server_at_work() => {
                self.at.saturating_duration_since(ended.told_at) <= RESTART_MIN
            }
            Err(_) => false,
        };
        if is_same { EndedBy::Operator } else { EndedBy::Server }
    }
}

#[cfg(test)]
mod tests {
    use trunkline_codec::sqlstate::SqlState;

    use super::*;
    use crate::judge::Phase;

    const MS: Duration = Duration::from_millis(1);
    const HOUR: Duration = Duration::from_secs(3600);

    /// The judgement on a session that lived for `lived`, by a sighting `later` than its end.
    fn judge(lived: Duration, later: Duration, uptime: Result<Duration, Failure>) -> EndedBy {
        let connected_at = Instant::now();
        let told_at = connected_at + lived;
        Sighting { uptime, at: told_at + later }.judge(Termination { connected_at, told_at })
    }

    fn refusal(code: &[u8]) -> Result<Duration, Failure> {
        let code = SqlState::parse(code).expect("it is one");
        Err(Failure::Refusal { code, message: String::new() })
    }

    #[test]
    fn a_login_at_the_postmaster_of_the_session_shows_a_kill() {
        for lived in [5 * MS, HOUR, HOUR * 24 * 365] {
            assert_eq!(judge(lived, 10 * MS, Ok(lived + 30 * MS)), EndedBy::Operator);
        }
    }

    #[test]
    fn a_login_at_another_postmaster_shows_a_restart() {
        for lived in [5 * MS, HOUR, HOUR * 24 * 365] {
            for (later, uptime) in [(100 * MS, 50 * MS), (1000 * MS, 900 * MS)] {
                assert_eq!(judge(lived, later, Ok(uptime)), EndedBy::Server, "{lived:?} {uptime:?}");
            }
        }
    }

    #[test]
    fn clocks_of_different_rates_do_not_hide_a_kill() {
        // The session began a second after its postmaster; 50 ppm are 130 s in a month.
        let month = HOUR * 24 * 30;
        assert_eq!(judge(month, 10 * MS, Ok(month - Duration::from_secs(130))), EndedBy::Operator);
    }

    #[test]
    fn a_server_that_accepts_nobody_went() {
        let timed_out = Failure::TimedOut { phase: Phase::Login, after: 1000 * MS };
        let failures = [Failure::Refused, Failure::Lost(String::new()), timed_out];
        for uptime in failures.map(Err).into_iter().chain([refusal(b"57P03"), refusal(b"57P01")]) {
            assert_eq!(judge(HOUR, MS, uptime), EndedBy::Server);
        }
    }

    #[test]
    fn a_server_that_refuses_only_this_login_is_at_work_if_it_says_so_at_once() {
        for code in [b"28P01", b"28000", b"3D000", b"42501", b"53300"] {
            assert_eq!(judge(HOUR, RESTART_MIN, refusal(code)), EndedBy::Operator);
            assert_eq!(judge(HOUR, RESTART_MIN + MS, refusal(code)), EndedBy::Server);
        }
    }
}
