//! Seeded schedules of the real relay: a random client, model servers, and every interleaving and chunking between.
//!
//! A failing seed is printed; `TRUNKLINE_SIMULATION_SEED=<seed>` runs it alone, and
//! `TRUNKLINE_SIMULATION_SCHEDULES=<count>` runs more of them.

mod client_view;
mod journey;
mod servers;
mod world;

use trunkline_model::Rng;
use trunkline_reactor::block_on;

use self::journey::{Journey, Tally};

/// Names the seed when a schedule panics.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failing schedule: TRUNKLINE_SIMULATION_SEED={}", self.0);
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Schedules of one run; of an unoptimised build each takes ten times as long. CI runs as many as an optimised one has.
const SCHEDULES: u64 = if cfg!(debug_assertions) { 300 } else { 20_000 };

#[test]
fn a_session_that_moves_says_what_one_server_would_have_said() {
    let count = number("TRUNKLINE_SIMULATION_SCHEDULES").unwrap_or(SCHEDULES);
    let only = number("TRUNKLINE_SIMULATION_SEED");
    let seeds = only.map_or(0..count, |seed| seed..seed + 1);
    let (mut ends, mut all) = ([0_usize; 6], Tally::default());
    // Nothing here waits for the reactor: it is there for the timers, none of which ends.
    let run = block_on(async {
        for seed in seeds {
            let named = Named(seed);
            let rng = &mut Rng::new(seed);
            let mut journey = Journey::new(rng);
            let end = journey.run(rng);
            ends[end as usize] += 1;
            if only.is_some() {
                journey.tell(end);
            }
            all.add(&journey.tally);
            drop(named);
        }
    });
    run.expect("a thread of its own");
    println!("ends {ends:?} (complete, fatal, cut, error, untracked, left)");
    println!("{all:?}");
    if only.is_none() && count >= SCHEDULES {
        all.assert_rich();
    }
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        self.deaths += other.deaths;
        self.deaths_in_login += other.deaths_in_login;
        self.refusals += other.refusals;
        self.moves += other.moves;
        self.repeats += other.repeats;
        self.failed += other.failed;
        self.failed_in_transaction += other.failed_in_transaction;
        self.refused += other.refused;
        self.half_closed += other.half_closed;
    }

    /// All kinds of faults have occurred.
    fn assert_rich(&self) {
        assert!(
            self.refusals > 0
                && self.deaths_in_login > 0
                && self.moves > 0
                && self.repeats > 0
                && self.half_closed > 0
        );
        assert!(self.failed > self.failed_in_transaction && self.failed_in_transaction > self.refused);
        assert!(self.refused > 0);
    }
}
