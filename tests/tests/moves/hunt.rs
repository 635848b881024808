//! Many seeds, by several workers on one cluster.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use trunkline_cluster::Cluster;
use trunkline_tests::own_cluster;

use super::compare::{Bench, Counts, Verdict};
use super::generator::{self, Pace};
use super::mover::{MOVE_TIMEOUT, SURE_MOVE_TIMEOUT};
use super::script::Script;
use super::shrink::shrink;

/// Scripts that run beside each other.
const WORKERS: usize = 4;
/// A primary and three replicas, one hunt at a time; the cluster's own watcher removes it when the binary ends.
static SHARED: Mutex<Option<Arc<Cluster>>> = Mutex::new(None);
/// After so many differences a hunt ends: there is enough to look at.
const DIFFERENCES_MAX: usize = 100;

/// When a hunt is over.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    /// Before this seed.
    Seed(u64),
    Time(Duration),
}

/// Which seeds are run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hunt {
    pace: Pace,
    first: u64,
    until: Until,
}

/// What a hunt has found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) scripts: usize,
    pub(crate) announced: usize,
    pub(crate) left: usize,
    pub(crate) stayed: BTreeMap<String, usize>,
    pub(crate) lost: usize,
    /// Seeds, and their least scripts.
    pub(crate) differences: Vec<(u64, Script)>,
}

impl Hunt {
    pub(crate) fn new(pace: Pace, first: u64, until: Until) -> Self {
        Self { pace, first, until }
    }

    /// Runs all seeds, and prints each difference with its least script when it is found.
    pub(crate) fn run(self) -> Found {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let cluster = cluster(&mut shared);
        // What is done to a server is done to all its sessions.
        let numbers = if self.pace == Pace::Slow { WORKERS..WORKERS + 1 } else { 0..WORKERS };
        let (next, found) = (AtomicU64::new(self.first), Mutex::new(Found::default()));
        let began = Instant::now();
        std::thread::scope(|scope| {
            for number in numbers {
                let (cluster, next, found) = (&cluster, &next, &found);
                scope.spawn(move || self.work(Bench::start(cluster, number), began, next, found));
            }
        });
        let found = found.into_inner().unwrap();
        eprintln!(
            "{} scripts in {:.0?}: {} moves, {} stayed where they were, {} servers lost, {} of that announced; {} differ",
            found.scripts,
            began.elapsed(),
            found.left,
            found.stayed.values().sum::<usize>(),
            found.lost,
            found.announced,
            found.differences.len()
        );
        for (why, count) in &found.stayed {
            eprintln!("{count:7} stayed: {why}");
        }
        found
    }

    fn work(self, mut bench: Bench, began: Instant, next: &AtomicU64, found: &Mutex<Found>) {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let is_over = match self.until {
                Until::Seed(end) => seed >= end,
                Until::Time(time) => began.elapsed() >= time,
            };
            if is_over || found.lock().unwrap().differences.len() >= DIFFERENCES_MAX {
                break;
            }
            let script = generator::script(seed, self.pace);
            let verdict = bench.run(&script);
            let is_announced = verdict == Verdict::Announced;
            let difference = match verdict {
                Verdict::Different(first) => {
                    let at = began.elapsed();
                    let (least, difference) = shrink(&mut bench, &script, first);
                    eprintln!("seed {seed}, after {at:.0?}:\n{least}{}", difference.text);
                    Some((seed, least))
                }
                Verdict::Alike | Verdict::Announced => None,
            };
            let mut found = found.lock().unwrap();
            found.scripts += 1;
            found.announced += usize::from(is_announced);
            found.differences.extend(difference);
        }
        bench.mover.settle();
        let mut found = found.lock().unwrap();
        found.left += bench.counts.left;
        for (why, count) in bench.counts.stayed {
            *found.stayed.entry(why).or_default() += count;
        }
        found.lost += bench.counts.lost;
    }
}

fn cluster(shared: &mut Option<Arc<Cluster>>) -> Arc<Cluster> {
    Arc::clone(shared.get_or_insert_with(|| Arc::new(own_cluster(3))))
}

/// How often a script is run whose session should move: what keeps it may be over a moment later.
const ATTEMPTS: usize = 5;

/// Runs scripts that are kept as text, a paragraph each. The first lines of those that differ, or whose session stays where
/// it is although they do not say `# stays`.
pub(crate) fn replay(kept: &str) -> Vec<String> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut bench = Bench::start(&cluster(&mut shared), WORKERS + 1);
    let mut found = Vec::new();
    for paragraph in kept.split("\n\n").filter(|paragraph| paragraph.contains("\nlogin ")) {
        let script: Script = paragraph.parse().unwrap();
        let first = paragraph.lines().next().unwrap_or_default();
        let may_stay = !paragraph.contains("\nmove ") || paragraph.contains("\n# stays\n");
        bench.mover.move_timeout = if may_stay { MOVE_TIMEOUT } else { SURE_MOVE_TIMEOUT };
        for attempt in 1..=ATTEMPTS {
            bench.counts = Counts::default();
            if let Verdict::Different(difference) = bench.run(&script) {
                eprintln!("{paragraph}\n{}", difference.text);
                found.push(first.to_owned());
                break;
            }
            let has_moved = bench.counts.left + bench.counts.lost > 0;
            if may_stay || has_moved {
                break;
            }
            if attempt == ATTEMPTS {
                found.push(format!("{first}: its session stays: {:?}", bench.counts.stayed));
            }
        }
    }
    found
}
