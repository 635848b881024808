//! What everyone reads: the verdict on every server at one moment.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use trunkline_codec::ids::{Lsn, SystemIdentifier, TimelineId};
use trunkline_codec::sqlstate::SqlState;

use crate::address::Address;
use crate::dialect::ProbeSpec;
use crate::state::State;

/// Verdicts older than this many ticks (plus the probe timeout) are stale.
const STALE_AFTER_TICKS: u32 = 3;

/// Most servers of one cluster that are watched at one time: a bound for everything kept per server.
pub const SERVERS_MAX: usize = 1024;

/// Bits of a [`ServerId`] that are its slot.
const SLOT_BITS: u32 = 16;

/// One server from the moment it comes until it is forgotten; never that of another one.
///
/// Those that are there together have different slots. The slot of a forgotten server is given to another one later, with
/// another generation: tables that are indexed by slot stay small however many servers come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(pub u32);

impl ServerId {
    /// The server that has `slot` as its `generation`-th holder, counted from 0.
    #[must_use]
    pub fn new(slot: u16, generation: u16) -> Self {
        Self(u32::from(generation) << SLOT_BITS | u32::from(slot))
    }

    /// The slot, as an index into tables of what is kept per server.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.slot())
    }

    /// The slot.
    #[must_use]
    pub fn slot(self) -> u16 {
        // The lower half.
        (self.0 & u32::from(u16::MAX)) as u16
    }

    /// How many servers have had the slot before.
    #[must_use]
    pub fn generation(self) -> u16 {
        (self.0 >> SLOT_BITS) as u16
    }
}

/// A server as it is wanted: configured, discovered, or added by an operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerSpec {
    /// Name in logs, paths and metrics, such as `replica1`.
    pub name: String,
    /// Host name or address, resolved again at every connect; or the directory of a Unix socket.
    pub host: String,
    /// Port.
    pub port: u16,
    /// What the operator expects it to be. The role itself is always measured.
    pub expected_role: ExpectedRole,
    /// Share of sessions relative to the other servers.
    pub weight: u16,
    /// What the operator wants of it.
    pub admin: AdminState,
    /// Where it stands, such as an availability zone; `None`: unknown.
    pub zone: Option<Arc<str>>,
    /// Who says that it is there.
    pub origin: Origin,
    /// How it is asked, where that differs from the other servers.
    pub probe: ProbeSpec,
}

/// Who says that a server is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The configuration.
    #[default]
    Configured,
    /// An operator, by `trunkline server add`: until a restart.
    Added,
    /// A source of `[discovery]`, by its name.
    Discovered(Arc<str>),
}

impl Origin {
    /// Whether an operator says so.
    #[must_use]
    pub fn is_operator(&self) -> bool {
        match self {
            Origin::Configured | Origin::Added => true,
            Origin::Discovered(_) => false,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Configured => f.pad("configured"),
            Origin::Added => f.pad("added"),
            Origin::Discovered(source) => f.pad(source),
        }
    }
}

/// The role the operator expects a server to have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpectedRole {
    /// Whatever it reports: for clusters with automatic failover.
    #[default]
    Any,
    /// The primary.
    Primary,
    /// A standby. Its promotion takes it out of reads at once.
    Replica,
}

/// What the operator wants of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AdminState {
    /// Serve when fit.
    #[default]
    Ready,
    /// Take no new sessions; those it has may finish.
    Drain,
    /// Out of service.
    Maint,
}

/// The role a server reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It has not answered yet.
    Unknown,
    /// Not in recovery.
    Primary,
    /// In recovery.
    Standby,
}

impl Role {
    /// `unknown`, `primary` or `standby`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Unknown => "unknown",
            Role::Primary => "primary",
            Role::Standby => "standby",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One run of one server, from its start to its shutdown. A name, or an address that moves, may lead to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Postmaster {
    /// Its cluster's number.
    pub system_identifier: Option<SystemIdentifier>,
    /// `pg_postmaster_start_time()`, in microseconds since 1970 by the server's clock. It stays as it is when that clock
    /// is set.
    pub started_us: i64,
}

/// How far a standby is behind the primary, in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// Proven: it is at least this far behind.
    pub lo: Duration,
    /// Best estimate, for display and weights; `lo` where nothing better is known.
    pub est: Duration,
    /// Proven when the snapshot was taken: it is at most this far behind. `None`: no bound is known.
    pub hi: Option<Duration>,
}

/// Everything known about one server.
#[derive(Clone, Debug)]
pub struct ServerStatus {
    /// Which one.
    pub id: ServerId,
    /// Its configured name.
    pub name: Arc<str>,
    /// Its configured host.
    pub host: Arc<str>,
    /// Its configured port.
    pub port: u16,
    /// The address its host name gave last.
    pub address: Option<Address>,
    /// The role the operator expects.
    pub expected_role: ExpectedRole,
    /// The role it reported last.
    pub role: Role,
    /// The verdict.
    pub state: State,
    /// Why, in words.
    pub reason: Arc<str>,
    /// When it entered `state`.
    pub since: Instant,
    /// What the operator wants of it.
    pub admin: AdminState,
    /// How far behind; `None` on a primary, on a server that is DOWN or FENCED, and where nothing is known, which is
    /// never the same as zero.
    pub lag: Option<Lag>,
    /// WAL bytes it has yet to replay.
    pub lag_bytes: Option<u64>,
    /// Whether it had replayed all that the primary's newest sample had.
    pub in_sync: Option<bool>,
    /// Its timeline, where it says.
    pub timeline: Option<TimelineId>,
    /// Its cluster's number.
    pub system_identifier: Option<SystemIdentifier>,
    /// The postmaster behind `address`, as it said itself.
    pub postmaster: Option<Postmaster>,
    /// Whether a WAL receiver runs.
    pub receiver: Option<bool>,
    /// Whether replay is paused.
    pub paused: Option<bool>,
    /// Where it stands, such as an availability zone.
    pub zone: Option<Arc<str>>,
    /// Who says that it is there.
    pub origin: Origin,
    /// It is no longer wanted: its sessions leave it, and then it is forgotten.
    pub is_leaving: bool,
    /// Configured weight.
    pub weight: u16,
    /// Share of the weight in force now, 0 to 1: ramps up after a recovery, because caches are cold.
    pub slow_start: f32,
    /// It answers, but accepts no further connections (53300): no new sessions.
    pub saturated: bool,
    /// It is DOWN because it gives no answer at all. One that says that it shuts down, or has the wrong role, is not
    /// silent: what it was asked before it may still answer.
    pub silent: bool,
    /// Why it refuses the monitoring role, if it does: a wrong password, pg_hba.conf, database or right.
    pub monitor_refused: Option<Arc<str>>,
    /// With which SQLSTATE it does.
    pub monitor_refused_code: Option<SqlState>,
    /// Standby: last WAL position replayed.
    pub replay_lsn: Option<Lsn>,
    /// Primary: last WAL position flushed.
    pub flush_lsn: Option<Lsn>,
    /// Primary: where it writes next, if that was asked. Behind all that was committed, flushed or not.
    pub insert_lsn: Option<Lsn>,
    /// When it was asked for the positions above.
    pub asked_at: Option<Instant>,
    /// When the last probe or connection check ended.
    pub last_probe: Option<Instant>,
    /// `server_version_num`, such as 150018.
    pub version: Option<u32>,
}

impl ServerStatus {
    /// Whether new sessions may be given to it as far as its own verdict goes.
    #[must_use]
    pub fn is_eligible(&self) -> bool {
        self.state.takes_new() && !self.saturated
    }

    /// Where it is connected to.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        let (host, address) = (Arc::clone(&self.host), self.address.clone());
        Endpoint { host, port: self.port, address, origin: self.origin.clone() }
    }

    /// The weight in force now.
    #[must_use]
    pub fn effective_weight(&self) -> f32 {
        f32::from(self.weight) * self.slow_start
    }
}

/// Where a server is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The host as it is configured: the name that its certificate is for.
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
    /// The address that its name gave last, if that is known: then nobody else looks the name up.
    pub address: Option<Address>,
    /// Who says that it is there, and so how far it is believed.
    pub origin: Origin,
}

impl Endpoint {
    /// Of a server that no name has been looked up for.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        Self { host: host.into(), port, address: None, origin: Origin::Configured }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// The primary had flushed no WAL beyond `lsn` at `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushedWal {
    /// When.
    pub at: Instant,
    /// Where its WAL ended.
    pub lsn: Lsn,
}

/// The verdict on every server at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The servers in configuration order, then those that came later; one of them by [`Snapshot::server`].
    pub servers: Vec<ServerStatus>,
    /// When it was taken.
    pub taken_at: Instant,
    /// Time between probes of one server.
    pub tick: Duration,
    /// Longest a probe may take.
    pub probe_timeout: Duration,
    /// The lag limit in force.
    pub max_lag: Duration,
    /// Lag beyond which a server serves nobody, not even as a fallback.
    pub hard_max_lag: Duration,
    /// The one primary of this cluster, also while it is down.
    pub primary: Option<ServerId>,
    /// The newest timeline known of this cluster.
    pub timeline: Option<TimelineId>,
    /// Where the primary's WAL ended, when, oldest first.
    pub written: Arc<[FlushedWal]>,
    /// Since when the primary does not answer; `None` while it does.
    pub primary_lost_at: Option<Instant>,
    /// Whether a second server claims to be a primary.
    pub split_brain: bool,
    /// Whether every server has been looked at once.
    pub is_ready: bool,
    /// The monitor slept (a suspended machine, a starved process): wait for a whole tick.
    pub is_overrun: bool,
}

impl Snapshot {
    /// A server's status.
    #[must_use]
    pub fn server(&self, id: ServerId) -> Option<&ServerStatus> {
        let in_place = self.servers.get(id.index()).filter(|server| server.id == id);
        in_place.or_else(|| self.servers.iter().find(|server| server.id == id))
    }

    /// A server's status, by its configured name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&ServerStatus> {
        self.servers.iter().find(|server| &*server.name == name)
    }

    /// Whether a server accepts writes that would be lost to this cluster, as far as it has told: it is another
    /// cluster's, a second primary, or one that a failover has left behind on an older timeline.
    #[must_use]
    pub fn is_fenced_primary(&self, id: ServerId) -> bool {
        let Some(server) = self.server(id) else { return false };
        let is_behind =
            matches!((server.timeline, self.timeline), (Some(theirs), Some(ours)) if theirs < ours);
        server.role == Role::Primary && (server.state == State::Fenced || is_behind)
    }

    /// Where the WAL ended, at most, of which a server may have shown something at `at` or before. `None` while neither
    /// it nor the primary has been asked since.
    ///
    /// Commits that did not wait for their WAL (`synchronous_commit = off`) may show on the primary before they are
    /// flushed.
    #[must_use]
    pub fn shown_at_most(&self, id: ServerId, at: Instant) -> Option<Lsn> {
        let written = self.written.iter().find(|written| written.at >= at).map(|written| written.lsn);
        let own = self.server(id).filter(|server| server.asked_at.is_some_and(|asked| asked >= at));
        let replayed = own.and_then(|server| server.replay_lsn);
        match (written, replayed) {
            (Some(written), Some(replayed)) => Some(written.min(replayed)),
            (written, replayed) => written.or(replayed),
        }
    }

    /// How long a snapshot is believed.
    #[must_use]
    pub fn stale_after(&self) -> Duration {
        self.tick * STALE_AFTER_TICKS + self.probe_timeout
    }

    /// Whether the verdicts are too old to report as current.
    #[must_use]
    pub fn is_stale(&self, now: Instant) -> bool {
        self.is_overrun || now.saturating_duration_since(self.taken_at) > self.stale_after()
    }

    /// The primary's status while it is known, answers and is not fenced.
    #[must_use]
    pub fn serving_primary(&self) -> Option<&ServerStatus> {
        self.primary
            .and_then(|id| self.server(id))
            .filter(|server| server.role == Role::Primary)
            .filter(|server| server.state.is_fit())
    }

    /// How far behind a standby can be at most at `now`; grows until it is probed again.
    #[must_use]
    pub fn lag_at_most(&self, id: ServerId, now: Instant) -> Option<Duration> {
        let hi = self.server(id)?.lag?.hi?;
        Some(hi + now.saturating_duration_since(self.taken_at))
    }

    /// Whether a standby is proven to be no further behind than this at `now`.
    #[must_use]
    pub fn is_within(&self, id: ServerId, limit: Duration, now: Instant) -> bool {
        self.lag_at_most(id, now).is_some_and(|lag| lag <= limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::snapshot;

    #[test]
    fn what_was_shown_is_bounded_by_the_first_look_since() {
        let mut snapshot = snapshot();
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        snapshot.written = [(1, 100), (2, 200), (3, 300)]
            .map(|(time, lsn)| FlushedWal { at: at(time), lsn: Lsn(lsn) })
            .into();
        let replica = ServerId(1);
        snapshot.servers[1].asked_at = None;
        assert_eq!(snapshot.shown_at_most(replica, at(0)), Some(Lsn(100)));
        assert_eq!(snapshot.shown_at_most(replica, at(2)), Some(Lsn(200)));
        assert_eq!(snapshot.shown_at_most(replica, at(4)), None, "nobody was asked since");
        (snapshot.servers[1].asked_at, snapshot.servers[1].replay_lsn) = (Some(at(3)), Some(Lsn(150)));
        assert_eq!(snapshot.shown_at_most(replica, at(3)), Some(Lsn(150)), "it had replayed less");
        assert_eq!(snapshot.shown_at_most(replica, at(1)), Some(Lsn(100)), "it had replayed less then");
        assert_eq!(snapshot.shown_at_most(ServerId(0), at(3)), Some(Lsn(300)));
    }
}
