//! What probes find out.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use trunkline_codec::ids::{Lsn, SystemIdentifier, TimelineId};
use trunkline_codec::sqlstate::SqlState;

use super::asked::RefusedFact;
use super::membership::Membership;
use trunkline_topology::Address;

/// The outcome of one look at one server.
#[derive(Clone, Debug)]
pub struct Observation {
    /// When the question was sent.
    pub sent_at: Instant,
    /// When the answer, or the failure, was there.
    pub received_at: Instant,
    /// The address asked, once the name was resolved.
    pub address: Option<Address>,
    /// What came out.
    pub finding: Finding,
}

/// What one look at a server gave.
#[derive(Clone, Debug)]
pub enum Finding {
    /// The probe's query was answered.
    Answered(Box<Facts>),
    /// A new login succeeded.
    Connected,
    /// The probe's query, or the connection it runs on, failed.
    ProbeFailed(ProbeFailure),
    /// A new login failed.
    ConnectFailed(ProbeFailure),
}

/// What a server said about itself.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What it said of its role.
    pub role: RoleFacts,
    /// Its clock, in microseconds since 1970.
    pub clock_us: i64,
    /// Its cluster's number.
    pub system_identifier: Option<SystemIdentifier>,
    /// When its postmaster started, in microseconds since 1970 by its own clock.
    pub started_us: Option<i64>,
    /// `server_version_num`.
    pub version: Option<u32>,
    /// What it says of a managed cluster, if it is of one.
    pub membership: Option<Arc<Membership>>,
    /// What it did not tell.
    pub refused: Vec<RefusedFact>,
}

/// What a server said of its role.
#[derive(Clone, Debug)]
pub enum RoleFacts {
    /// It is not in recovery.
    Primary(PrimaryFacts),
    /// It is in recovery.
    Standby(StandbyFacts),
}

/// What a primary says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrimaryFacts {
    /// WAL flushed. Not the insert position, which standbys may never reach, nor the write position, which may regress;
    /// that one only where the server refuses to tell this. `None`: it refuses both.
    pub flush: Option<Lsn>,
    /// Where it writes next, if it was asked: all that was committed before is in front of that.
    pub insert: Option<Lsn>,
    /// Its timeline. `None`: there are none, as on Aurora, or it refuses to tell.
    pub timeline: Option<TimelineId>,
}

/// What a standby says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StandbyFacts {
    /// WAL replayed. `None`: it refuses to tell.
    pub replay: Option<Lsn>,
    /// WAL received by streaming since the server started; goes back to a segment's start on restarts.
    pub receive: Option<Lsn>,
    /// Commit time of the last transaction replayed, by the primary's clock, in microseconds since 1970.
    pub last_commit_us: Option<i64>,
    /// Whether replay is paused. `None`: it refuses to tell.
    pub is_paused: Option<bool>,
    /// What the startup process waits for.
    pub startup: StartupWait,
    /// The WAL receiver.
    pub receiver: Receiver,
    /// `recovery_min_apply_delay`. `None`: it refuses to tell.
    pub apply_delay: Option<Duration>,
    /// How far behind it is by the operator's `lag_query`, which is believed.
    pub told_lag: Option<Duration>,
    /// How far behind it is as the platform itself estimates it, which proves nothing.
    pub estimated_lag: Option<Duration>,
}

impl StandbyFacts {
    /// Whether it tells a position, so that the LSN clock can be read for it.
    #[must_use]
    pub fn has_position(&self) -> bool {
        self.replay.is_some() || self.receive.is_some() && self.startup != StartupWait::Hidden
    }
}

/// What the startup process, which replays, waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartupWait {
    /// More WAL from the stream: all that was received is consumed.
    Stream,
    /// Something else, or nothing.
    Other,
    /// The monitoring role may not see it.
    Hidden,
}

/// The WAL receiver of a standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receiver {
    /// None runs.
    Absent,
    /// One runs, but the monitoring role may not see more.
    Hidden,
    /// The server refuses to tell whether one runs.
    Refused,
    /// One runs.
    Present {
        /// The timeline it receives.
        timeline: Option<TimelineId>,
        /// The farthest position its upstream reported.
        latest_end: Option<Lsn>,
    },
}

/// Why a look at a server gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeFailure {
    /// Nothing listens there.
    Refused,
    /// The server's Unix socket cannot be connected to.
    Socket {
        /// Its path.
        path: Arc<Path>,
        /// Why.
        trouble: SocketTrouble,
    },
    /// No answer in time.
    TimedOut {
        /// What was under way.
        phase: ProbePhase,
        /// How long it was given.
        after: Duration,
    },
    /// The connection ended.
    Lost(String),
    /// The host name gave no address.
    Unresolved(String),
    /// The server answers, but there is no TLS with it as `[server_tls]` wants it.
    Tls(String),
    /// This process or machine lacks file descriptors, memory or ports: no probe was sent.
    NoResources(String),
    /// The server refused.
    Refusal {
        /// With this code.
        code: SqlState,
        /// And these words.
        message: String,
    },
    /// The answer makes no sense.
    Malformed(String),
}

/// What is wrong with a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketTrouble {
    /// There is none.
    Missing,
    /// No process listens on it.
    Abandoned,
    /// The proxy's user may not connect to it.
    Denied,
}

/// What a probe was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbePhase {
    /// Name resolution, connect and login.
    Login,
    /// The query.
    Query,
}

/// How much a failure proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailureSeverity {
    /// The server does not serve: DOWN now.
    Hard,
    /// May pass: counts towards `fall`.
    Soft,
    /// It lives, but has no connection to spare.
    Saturated,
    /// The monitoring role is refused, or we lack the means to ask, which says nothing of the server.
    Misconfigured,
}

impl ProbeFailure {
    pub(super) fn severity(&self) -> FailureSeverity {
        match self {
            ProbeFailure::Refused
            | ProbeFailure::Socket { trouble: SocketTrouble::Missing | SocketTrouble::Abandoned, .. } => {
                FailureSeverity::Hard
            }
            ProbeFailure::TimedOut { .. }
            | ProbeFailure::Socket { trouble: SocketTrouble::Denied, .. }
            | ProbeFailure::Lost(_)
            | ProbeFailure::Unresolved(_)
            | ProbeFailure::Tls(_)
            | ProbeFailure::Malformed(_) => FailureSeverity::Soft,
            ProbeFailure::NoResources(_) => FailureSeverity::Misconfigured,
            ProbeFailure::Refusal { code, .. } => match code.as_str() {
                "57P01" | "57P02" | "57P03" => FailureSeverity::Hard,
                "53300" => FailureSeverity::Saturated,
                "3D000" | "42501" => FailureSeverity::Misconfigured,
                code if code.starts_with("28") => FailureSeverity::Misconfigured,
                _ => FailureSeverity::Soft,
            },
        }
    }
}

impl ProbeFailure {
    /// Whether the server refuses the monitoring role: its password, its pg_hba.conf entry, its database or its rights
    /// are wrong.
    pub(crate) fn is_refused_role(&self) -> bool {
        matches!(self, ProbeFailure::Refusal { .. }) && self.severity() == FailureSeverity::Misconfigured
    }

    /// The SQLSTATE that the server gave.
    pub(super) fn code(&self) -> Option<SqlState> {
        match self {
            ProbeFailure::Refusal { code, .. } => Some(*code),
            ProbeFailure::Refused
            | ProbeFailure::Socket { .. }
            | ProbeFailure::TimedOut { .. }
            | ProbeFailure::Lost(_)
            | ProbeFailure::Unresolved(_)
            | ProbeFailure::NoResources(_)
            | ProbeFailure::Tls(_)
            | ProbeFailure::Malformed(_) => None,
        }
    }

    /// Whether it came as the server's own message.
    pub(super) fn is_answer(&self) -> bool {
        matches!(self, ProbeFailure::Refusal { .. } | ProbeFailure::Malformed(_))
    }

    /// Whether the server accepts clients, though not this login or not now.
    pub(crate) fn shows_a_server_at_work(&self) -> bool {
        let ProbeFailure::Refusal { code, .. } = self else { return false };
        matches!(code.as_str(), "53300" | "3D000" | "42501") || code.as_str().starts_with("28")
    }

    /// Whether the connection was ended by an administrator's command.
    pub(crate) fn is_termination(&self) -> bool {
        matches!(self, ProbeFailure::Refusal { code, .. } if *code == SqlState::ADMIN_SHUTDOWN)
    }
}

impl SocketTrouble {
    fn what(self) -> &'static str {
        match self {
            SocketTrouble::Missing => "no socket",
            SocketTrouble::Abandoned => "nothing listens on",
            SocketTrouble::Denied => "no permission for",
        }
    }

    fn advice(self) -> &'static str {
        match self {
            SocketTrouble::Missing => {
                "start the server, or check its port and that unix_socket_directories has this directory"
            }
            SocketTrouble::Abandoned => "start the server",
            SocketTrouble::Denied => {
                "let this process's user into the directory, see unix_socket_group and unix_socket_permissions"
            }
        }
    }
}

impl fmt::Display for ProbeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProbeFailure::Refused => f.write_str("connection refused"),
            ProbeFailure::Socket { path, trouble } => {
                write!(f, "{} {}: {}", trouble.what(), path.display(), trouble.advice())
            }
            ProbeFailure::TimedOut { phase: ProbePhase::Login, after } => {
                write!(f, "no login within {after:?}")
            }
            ProbeFailure::TimedOut { phase: ProbePhase::Query, after } => {
                write!(f, "no answer to the probe within {after:?}")
            }
            ProbeFailure::Lost(text) => write!(f, "connection lost: {text}"),
            ProbeFailure::Unresolved(text) => write!(f, "host name not resolved: {text}"),
            ProbeFailure::Tls(text) => write!(f, "TLS failed: {text}"),
            ProbeFailure::NoResources(text) => write!(f, "not probed, the prober lacks resources: {text}"),
            ProbeFailure::Refusal { code, message } => write!(f, "{message} ({})", code.as_str()),
            ProbeFailure::Malformed(text) => write!(f, "unexpected answer to the probe: {text}"),
        }
    }
}
