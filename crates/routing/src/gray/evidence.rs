//! The times of statements, by window, server, statement and group of sessions.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use trunkline_topology::ServerId;

use super::probes::upper_median;
use super::{CELL_RATIO, SLACK};

/// Windows that are kept, to be judged together where there are few statements.
pub(super) const WINDOWS_MAX: usize = 10;

/// Statements that are followed: the most frequent ones.
pub(super) const FOLLOWED_MAX: usize = 64;

/// Statements whose samples are counted to find those.
const COUNTED_MAX: usize = 1024;

/// What one sample counts for; it is forgotten after some [`WINDOWS_MAX`] windows.
const SAMPLE_COUNTS: u32 = 16;

/// Groups that sessions are divided into.
const GROUPS: usize = 16;

/// Samples without which a cell says nothing.
const SAMPLES_MIN: u32 = 5;

/// Statements that are shown of a comparison.
const SHOWN_MAX: usize = 5;

/// The time of one statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpeedSample {
    /// The server that answered.
    pub server: ServerId,
    /// What must be equal of statements that are compared: a hash of fingerprint, user and database.
    pub key: u64,
    /// The statement's fingerprint, to show it.
    pub fingerprint: u64,
    /// The session's number.
    pub session: u64,
    /// From when the statement was sent to the first byte of its answer.
    pub first: Duration,
}

/// One statement as a server and its peers answer it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Compared {
    /// Its fingerprint.
    pub fingerprint: u64,
    /// Samples from the server.
    pub samples: u32,
    /// The mean time to the first byte there.
    pub own: Duration,
    /// The same on its peers: the median of theirs.
    pub peers: Duration,
}

/// What a comparison has found.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Comparison {
    pub(super) cells: usize,
    pub(super) slow: usize,
    /// Groups of sessions that have cells.
    pub(super) groups: u32,
    /// How many times as long as its peers the server took for all of it.
    pub(super) ratio: f64,
    pub(super) statements: Vec<Compared>,
}

/// Samples of one statement in one group of sessions.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    count: u32,
    nanos: u64,
}

type Window = HashMap<(ServerId, u64), [Cell; GROUPS]>;

/// The median of the groups' means of a statement, by server.
type Medians = HashMap<u64, Vec<(ServerId, f64)>>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// Of the last so many windows, since the last one ended.
    medians: HashMap<usize, Medians>,
    /// The one under way last.
    windows: VecDeque<Window>,
    /// How frequent statements are, and their fingerprints.
    counted: HashMap<u64, (u32, u64)>,
    followed: BTreeSet<u64>,
}

impl Cell {
    fn add(&mut self, other: Cell) {
        self.count = self.count.saturating_add(other.count);
        self.nanos = self.nanos.saturating_add(other.nanos);
    }

    #[expect(clippy::cast_precision_loss, reason = "a mean needs no exact bits")]
    fn mean(self) -> f64 {
        self.nanos as f64 / f64::from(self.count.max(1))
    }

    fn says_something(&self) -> bool {
        self.count >= SAMPLES_MIN
    }
}

impl Evidence {
    pub(super) fn take(&mut self, sample: SpeedSample) {
        let has_room = self.counted.len() < COUNTED_MAX;
        match self.counted.get_mut(&sample.key) {
            Some((count, _)) => *count = count.saturating_add(SAMPLE_COUNTS),
            None if has_room => {
                self.counted.insert(sample.key, (SAMPLE_COUNTS, sample.fingerprint));
            }
            None => return,
        }
        if !self.followed.contains(&sample.key) {
            if self.followed.len() >= FOLLOWED_MAX {
                return;
            }
            self.followed.insert(sample.key);
        }
        if self.windows.is_empty() {
            self.windows.push_back(Window::new());
        }
        let Some(window) = self.windows.back_mut() else { return };
        let cells = window.entry((sample.server, sample.key)).or_default();
        let nanos = u64::try_from(sample.first.as_nanos()).unwrap_or(u64::MAX);
        if let Some(cell) = cells.get_mut(group(sample.session)) {
            cell.add(Cell { count: 1, nanos });
        }
    }

    /// The window under way ends with the next call. Statements that have become rare give their places to others.
    pub(super) fn close_window(&mut self, is_known: impl Fn(ServerId) -> bool) {
        self.medians.clear();
        self.windows.iter_mut().for_each(|window| window.retain(|(server, _), _| is_known(*server)));
        // The one that has just ended is still compared: it is the last but one from now on.
        if self.windows.len() > WINDOWS_MAX {
            self.windows.pop_front();
        }
        self.windows.push_back(Window::new());
        let mut most: Vec<(u32, u64)> = self.counted.iter().map(|(key, (count, _))| (*count, *key)).collect();
        most.sort_unstable_by(|a, b| b.cmp(a));
        self.followed = most.into_iter().take(FOLLOWED_MAX).map(|(_, key)| key).collect();
        self.counted.retain(|_, (count, _)| {
            *count -= *count / 8 + 1;
            *count > 0
        });
    }

    /// Compares a server with its peers by the last so many windows that have ended.
    pub(super) fn compare(
        &mut self,
        server: ServerId,
        serving: &BTreeSet<ServerId>,
        windows: usize,
    ) -> Comparison {
        if !self.medians.contains_key(&windows) {
            let medians = self.medians_of(windows);
            self.medians.insert(windows, medians);
        }
        let mut found = Comparison::default();
        let mut groups = 0_u32;
        let (mut own_total, mut peers_total) = (0.0, 0.0);
        for (key, medians) in self.medians.get(&windows).into_iter().flatten() {
            let of_peers = medians.iter().filter(|(peer, _)| *peer != server && serving.contains(peer));
            let Some(peers) = upper_median(of_peers.map(|(_, median)| *median)) else { continue };
            let own = self.cells(server, *key, windows);
            if !own.iter().any(Cell::says_something) {
                continue;
            }
            let limit = peers * CELL_RATIO + SLACK.as_secs_f64() * 1e9;
            let mut all = Cell::default();
            for (group, cell) in (0_u32..).zip(own).filter(|(_, cell)| cell.says_something()) {
                groups |= 1 << group;
                found.cells += 1;
                found.slow += usize::from(cell.mean() > limit);
                all.add(cell);
            }
            own_total += all.mean() * f64::from(all.count);
            peers_total += peers * f64::from(all.count);
            found.statements.push(Compared {
                fingerprint: self.counted.get(key).map_or(0, |(_, fingerprint)| *fingerprint),
                samples: all.count,
                own: nanoseconds(all.mean()),
                peers: nanoseconds(peers),
            });
        }
        found.groups = groups.count_ones();
        found.ratio = if peers_total > 0.0 { own_total / peers_total } else { 1.0 };
        found.statements.sort_unstable_by_key(|compared| std::cmp::Reverse(compared.samples));
        found.statements.truncate(SHOWN_MAX);
        found
    }

    /// Servers and statements, in all windows.
    #[cfg(test)]
    pub(super) fn rows(&self) -> usize {
        self.windows.iter().map(HashMap::len).sum()
    }

    fn medians_of(&self, windows: usize) -> Medians {
        let mut medians = Medians::new();
        let ended = self.windows.iter().rev().skip(1).take(windows);
        let pairs: BTreeSet<(ServerId, u64)> = ended.flat_map(|window| window.keys().copied()).collect();
        for (server, key) in pairs.into_iter().filter(|(_, key)| self.followed.contains(key)) {
            let cells = self.cells(server, key, windows).into_iter();
            let median = upper_median(cells.filter(Cell::says_something).map(Cell::mean));
            medians.entry(key).or_default().extend(median.map(|median| (server, median)));
        }
        medians
    }

    fn cells(&self, server: ServerId, key: u64, windows: usize) -> [Cell; GROUPS] {
        let mut sum = [Cell::default(); GROUPS];
        for window in self.windows.iter().rev().skip(1).take(windows) {
            if let Some(cells) = window.get(&(server, key)) {
                sum.iter_mut().zip(cells).for_each(|(sum, cell)| sum.add(*cell));
            }
        }
        sum
    }
}

fn group(session: u64) -> usize {
    // Below GROUPS.
    (session % GROUPS as u64) as usize
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "means of durations")]
fn nanoseconds(nanos: f64) -> Duration {
    Duration::from_nanos(nanos as u64)
}
