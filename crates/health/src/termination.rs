//! Decides what ended a session with FATAL 57P01: the server's shutdown, or an operator's pg_terminate_backend.
//!
//! A fast shutdown and `pg_terminate_backend` send the same bytes. But a postmaster refuses new clients with 57P03
//! before it signals the first backend (PostgreSQL 18, src/backend/postmaster/postmaster.c,
//! `process_pm_shutdown_request`). So a connection begun after the FATAL came is the judge: a login that the session's
//! own postmaster accepts shows a kill. Its name or address may lead to another server by then, so the postmaster is
//! asked who it is.
//!
//! Whatever is not known counts as the server's end, which is hidden from the client: a kill may have to be repeated,
//! but no restart is passed on as a kill.

use std::time::{Duration, Instant};

use crate::judge::ProbeFailure;
use trunkline_topology::Address;
use trunkline_topology::Postmaster;

/// No server that accepts clients has shut down, started and run out of connections sooner than this.
const RESTART_MIN: Duration = Duration::from_millis(100);

/// A server connection that ended with FATAL 57P01.
#[derive(Clone, Debug)]
pub struct Termination {
    /// Where the connection led.
    pub address: Address,
    /// The postmaster at that address when the connection was made, as far as health knew it.
    pub postmaster: Option<Postmaster>,
    /// When the FATAL came.
    pub told_at: Instant,
}

/// What ended a session.
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
    /// The address that the server's name gave.
    pub address: Option<Address>,
    /// The postmaster that accepted the login.
    pub postmaster: Result<Postmaster, ProbeFailure>,
    /// When that was known.
    pub at: Instant,
}

impl Sighting {
    /// What the sighting, which was begun after the termination, says of it.
    #[must_use]
    pub fn judge(&self, ended: &Termination) -> EndedBy {
        let is_same = match &self.postmaster {
            Ok(met) => ended.postmaster == Some(*met),
            // A server that refuses this role, or has no connection slot left, does not identify itself.
            Err(failure) if failure.shows_a_server_at_work() => {
                let is_there = self.address.as_ref() == Some(&ended.address);
                is_there && self.at.saturating_duration_since(ended.told_at) <= RESTART_MIN
            }
            Err(_) => false,
        };
        if is_same { EndedBy::Operator } else { EndedBy::Server }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use trunkline_codec::ids::SystemIdentifier;
    use trunkline_codec::sqlstate::SqlState;

    use super::*;
    use crate::judge::ProbePhase;

    const MS: Duration = Duration::from_millis(1);
    const OWN: Postmaster =
        Postmaster { system_identifier: Some(SystemIdentifier(7)), started_us: 1_000_000 };

    fn address(port: u16) -> Address {
        SocketAddr::from(([127, 0, 0, 1], port)).into()
    }

    /// The judgement on a session of `OWN` at port 1, by a login at `port` that ended `later` than the session.
    fn judge_at(port: u16, later: Duration, postmaster: Result<Postmaster, ProbeFailure>) -> EndedBy {
        let told_at = Instant::now();
        let ended = Termination { address: address(1), postmaster: Some(OWN), told_at };
        Sighting { address: Some(address(port)), postmaster, at: told_at + later }.judge(&ended)
    }

    fn judge(later: Duration, postmaster: Result<Postmaster, ProbeFailure>) -> EndedBy {
        judge_at(1, later, postmaster)
    }

    fn refusal(code: &[u8]) -> Result<Postmaster, ProbeFailure> {
        let code = SqlState::parse(code).expect("it is one");
        Err(ProbeFailure::Refusal { code, message: String::new() })
    }

    #[test]
    fn a_login_at_the_postmaster_of_the_session_shows_a_kill() {
        assert_eq!(judge(10 * MS, Ok(OWN)), EndedBy::Operator);
        assert_eq!(judge_at(2, 10 * MS, Ok(OWN)), EndedBy::Operator, "at another address of it");
    }

    #[test]
    fn a_login_at_a_later_postmaster_shows_a_restart() {
        assert_eq!(judge(10 * MS, Ok(Postmaster { started_us: 1_000_001, ..OWN })), EndedBy::Server);
    }

    /// A standby of the same cluster that has run for longer, or another cluster.
    #[test]
    fn a_login_at_another_server_shows_no_kill() {
        assert_eq!(judge(10 * MS, Ok(Postmaster { started_us: 1, ..OWN })), EndedBy::Server);
        let other = Postmaster { system_identifier: Some(SystemIdentifier(8)), ..OWN };
        assert_eq!(judge(10 * MS, Ok(other)), EndedBy::Server);
    }

    #[test]
    fn a_session_of_an_unknown_postmaster_was_not_killed() {
        let told_at = Instant::now();
        let ended = Termination { address: address(1), postmaster: None, told_at };
        let sighting = Sighting { address: Some(address(1)), postmaster: Ok(OWN), at: told_at };
        assert_eq!(sighting.judge(&ended), EndedBy::Server);
    }

    #[test]
    fn a_server_that_accepts_nobody_went() {
        let timed_out = ProbeFailure::TimedOut { phase: ProbePhase::Login, after: 1000 * MS };
        let failures = [ProbeFailure::Refused, ProbeFailure::Lost(String::new()), timed_out];
        for met in failures.map(Err).into_iter().chain([refusal(b"57P03"), refusal(b"57P01")]) {
            assert_eq!(judge(MS, met), EndedBy::Server);
        }
    }

    #[test]
    fn a_server_that_refuses_only_this_login_is_at_work_if_it_says_so_at_once() {
        for code in [b"28P01", b"28000", b"3D000", b"42501", b"53300"] {
            assert_eq!(judge(RESTART_MIN, refusal(code)), EndedBy::Operator);
            assert_eq!(judge(RESTART_MIN + MS, refusal(code)), EndedBy::Server);
            assert_eq!(judge_at(2, MS, refusal(code)), EndedBy::Server, "another server's word");
        }
    }
}
