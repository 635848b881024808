//! A server that is up and fresh but slow loses weight by degrees, and gets it back.
//!
//! The server is compared with its peers on the same statements: those with one fingerprint, of one user in one database. So
//! a server that happens to have the heavy reports is not slow, only one that takes longer for what its peers do, too. The
//! samples of a statement are kept apart by groups of sessions: one tenant's large rows make its sessions slow, not all of
//! them. Each of those *cells*, a statement of a group of sessions, is slow when its mean time to the first byte is above
//! [`CELL_RATIO`] times that of the peers plus [`SLACK`]; the mean, because a server that stops now and then is slow in the
//! few statements that it stops in.
//!
//! A server is slow when nearly all of its cells are, of several groups; or when half of them are, and the probes of the
//! monitor, which ask every server the same, are slow there as well, or it has been found slow before; and when all of it took [`RATIO`] times as long as its
//! peers take for the same. This is looked at over one window and over more, for what happens seldom shows late; only what
//! is slow [`RUN`] times in a row counts.
//!
//! ```
//! use std::time::Duration;
//! use trunkline_routing::gray::{SpeedSample, SlowJudge};
//! use trunkline_topology::ServerId;
//!
//! let servers = [ServerId(1), ServerId(2), ServerId(3)];
//! let mut judge = SlowJudge::default();
//! for _second in 0..10 {
//!     for (server, millis) in servers.into_iter().zip([51, 1, 1]) {
//!         for session in 0..200 {
//!             judge.take(SpeedSample { server, key: 1, fingerprint: 1, session, first: Duration::from_millis(millis) });
//!         }
//!     }
//!     judge.close_window(&servers, |_is_known| true);
//! }
//! assert_eq!(judge.speed(ServerId(1)), 0.1);
//! assert_eq!(judge.speed(ServerId(2)), 1.0);
//! ```

mod evidence;
mod probes;
mod standing;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use trunkline_topology::ServerId;

pub use self::evidence::{Compared, SpeedSample};
use self::evidence::{Comparison, Evidence, WINDOWS_MAX};
use self::probes::Probes;
use self::standing::SpeedStanding;
pub use self::standing::{FLOOR, SpeedVerdict};

/// How often the judge looks.
pub const WINDOW: Duration = Duration::from_secs(1);

/// How many times as long as its peers a slow server takes for all that was compared.
pub const RATIO: f64 = 2.0;

/// A cell is slow above this many times its peers' mean: a delay shows less in long statements ...
pub const CELL_RATIO: f64 = 1.4;

/// ... plus this: what differs by less is no reason to move anybody.
pub const SLACK: Duration = Duration::from_millis(1);

/// How often in a row a server must be slow until it loses weight.
pub const RUN: u32 = 3;

/// How often in a row it must be as fast as its peers until it gets some back.
pub const RUN_FINE: u32 = 2;

/// Cells that are needed to find a server slow whose probes are as fast as its peers' ...
const CELLS_MIN: usize = 6;

/// ... of so many groups of sessions at least ...
const GROUPS_MIN: u32 = 4;

/// ... and the share of them that must be slow.
const SLOW_SHARE: f64 = 0.85;

/// Cells that are needed when the probes are slow, too, or the server was slow before, or to find that a server is as fast as its peers ...
const CELLS_MIN_PROBED: usize = 2;

/// ... and the share that must be slow in the first case.
const SLOW_SHARE_PROBED: f64 = 0.5;

/// The share of slow cells of a server that is as fast as its peers.
const FINE_SHARE: f64 = 0.3;

/// Windows without enough statements, after which a slow server gets some weight back, to see how it does: the first time.
/// Doubled each time it is found slow again ...
const QUIET_WINDOWS: u32 = 8;

/// ... up to this.
const QUIET_WINDOWS_MAX: u32 = 64;

/// Windows at full weight, after which the past is forgotten.
const FORGIVEN_WINDOWS: u32 = 120;

/// Which servers are slow.
#[derive(Debug, Default)]
pub struct SlowJudge {
    evidence: Evidence,
    probes: Probes,
    servers: BTreeMap<ServerId, SpeedStanding>,
}

/// What was found of one server.
#[derive(Clone, Debug, PartialEq)]
pub struct SpeedFinding {
    /// Which one.
    pub server: ServerId,
    /// The share of its weight that it keeps.
    pub speed: f32,
    /// What it was found to be last; `None` while there are too few statements to compare.
    pub verdict: Option<SpeedVerdict>,
    /// Its cells when it was compared last.
    pub cells: usize,
    /// Those of them that were slow.
    pub slow_cells: usize,
    /// The median of its last probes.
    pub probe: Option<Duration>,
    /// The same of its peers.
    pub probe_of_peers: Option<Duration>,
    /// The most frequent of the statements it was compared by.
    pub statements: Vec<Compared>,
}

impl SlowJudge {
    /// Takes the time of one statement.
    pub fn take(&mut self, sample: SpeedSample) {
        self.evidence.take(sample);
    }

    /// Takes the time of one probe of the monitor.
    pub fn probed(&mut self, server: ServerId, took: Duration) {
        self.probes.take(server, took);
    }

    /// A window is over: judges the standbys that serve, and forgets servers that are no longer known.
    ///
    /// Returns those whose speed has changed.
    pub fn close_window(
        &mut self,
        serving: &[ServerId],
        is_known: impl Fn(ServerId) -> bool,
    ) -> Vec<(ServerId, f32)> {
        self.evidence.close_window(&is_known);
        self.probes.retain(&is_known);
        let before = std::mem::take(&mut self.servers);
        let is_new = |server: &&ServerId| !before.contains_key(server);
        let new = serving.iter().filter(is_new).map(|server| (*server, SpeedStanding::default()));
        let new: Vec<_> = new.collect();
        self.servers =
            before.iter().filter(|(id, _)| is_known(**id)).map(|(id, s)| (*id, s.clone())).collect();
        self.servers.extend(new);
        let all: BTreeSet<ServerId> = serving.iter().copied().collect();
        for server in serving {
            self.judge(*server, serving, &all);
        }
        // Such as one that has become the primary.
        for (_, standing) in self.servers.iter_mut().filter(|(id, _)| !all.contains(id)) {
            standing.rests();
        }
        self.pardon(serving);
        let changed = |(id, standing): (&ServerId, &SpeedStanding)| {
            let was = before.get(id).map_or(1.0, |before| before.speed);
            (was.to_bits() != standing.speed.to_bits()).then_some((*id, standing.speed))
        };
        self.servers.iter().filter_map(changed).collect()
    }

    /// The share of its weight that a server keeps: 1 unless it is slow, never below [`FLOOR`].
    #[must_use]
    pub fn speed(&self, server: ServerId) -> f32 {
        self.servers.get(&server).map_or(1.0, |standing| standing.speed)
    }

    /// What was found, by server.
    pub fn findings(&self) -> impl Iterator<Item = SpeedFinding> + '_ {
        self.servers.iter().map(|(id, standing)| SpeedFinding {
            server: *id,
            speed: standing.speed,
            verdict: standing.verdict,
            cells: standing.cells,
            slow_cells: standing.slow_cells,
            probe: standing.probe,
            probe_of_peers: standing.probe_of_peers,
            statements: standing.statements.clone(),
        })
    }

    fn judge(&mut self, server: ServerId, serving: &[ServerId], all: &BTreeSet<ServerId>) {
        let may_lose = self.may_lose(server, serving);
        let probe = self.probes.compare(server, serving);
        let Some(standing) = self.servers.get_mut(&server) else { return };
        (standing.probe, standing.probe_of_peers) = (probe.own, probe.peers);
        let evidenced = match (probe.is_slow(), standing.speed < 1.0) {
            (true, _) => Evidenced::ByProbes,
            (false, true) => Evidenced::ByItsPast,
            (false, false) => Evidenced::No,
        };
        for span in standing.due() {
            let found = self.evidence.compare(server, all, span);
            let verdict = verdict(&found, evidenced, span);
            if verdict.is_some() {
                (standing.cells, standing.slow_cells) = (found.cells, found.slow);
                standing.statements = found.statements;
            }
            standing.judged(span, verdict, may_lose, probe.is_slow());
        }
        standing.count();
    }

    /// Whether a server may lose weight: never all of them, and of three or more a minority.
    fn may_lose(&self, server: ServerId, serving: &[ServerId]) -> bool {
        let others = serving.iter().filter(|other| **other != server && self.speed(**other) < 1.0).count();
        serving.len() > 1 && others < slow_max(serving.len())
    }

    /// Gives back what more servers have lost than may, because others no longer serve: the fastest first.
    fn pardon(&mut self, serving: &[ServerId]) {
        let mut slow: Vec<ServerId> = serving.iter().copied().filter(|id| self.speed(*id) < 1.0).collect();
        slow.sort_by(|a, b| self.speed(*b).total_cmp(&self.speed(*a)));
        let too_many = slow.len().saturating_sub(slow_max(serving.len()));
        for id in &slow[..too_many] {
            if let Some(standing) = self.servers.get_mut(id) {
                standing.pardoned();
            }
        }
    }
}

/// How many of so many servers may have lost weight.
fn slow_max(serving: usize) -> usize {
    match serving {
        0 | 1 => 0,
        2 => 1,
        many => (many - 1) / 2,
    }
}

/// What else speaks for a server being slow, besides its statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evidenced {
    /// Nothing.
    No,
    /// It was slow before.
    ByItsPast,
    /// Its probes are slow.
    ByProbes,
}

impl Evidenced {
    /// Cells and groups that are needed, and the share of them that must be slow.
    fn needs(self) -> (usize, u32, f64) {
        match self {
            Evidenced::No => (CELLS_MIN, GROUPS_MIN, SLOW_SHARE),
            Evidenced::ByItsPast => (CELLS_MIN_PROBED, 1, SLOW_SHARE),
            Evidenced::ByProbes => (CELLS_MIN_PROBED, 1, SLOW_SHARE_PROBED),
        }
    }
}

/// What the last `span` windows say of a server; `None`: nothing yet.
fn verdict(found: &Comparison, evidenced: Evidenced, span: usize) -> Option<SpeedVerdict> {
    #[expect(clippy::cast_precision_loss, reason = "a share needs no exact bits")]
    let share = found.slow as f64 / found.cells.max(1) as f64;
    let (cells, groups, slow) = evidenced.needs();
    let is_enough = found.cells >= CELLS_MIN_PROBED;
    if found.cells >= cells && found.groups >= groups && share >= slow && found.ratio >= RATIO {
        Some(SpeedVerdict::Slow)
    } else if is_enough && share <= FINE_SHARE {
        Some(SpeedVerdict::Fine)
    } else {
        // More of them may say more.
        (is_enough && span >= WINDOWS_MAX).then_some(SpeedVerdict::Mixed)
    }
}
