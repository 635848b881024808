//! A session that moves is a session that stays: scripts by seed, with moves between any two messages, say the same
//! as on one replica directly.
//!
//! `TRUNKLINE_MOVES_SECONDS` runs other seeds for so long, from `TRUNKLINE_MOVES_FIRST` on; `TRUNKLINE_MOVES_SEED` runs one;
//! `TRUNKLINE_MOVES_SCRIPTS` names a file whose scripts are run in place of those that are kept.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "moves/actions/mod.rs"]
mod actions;
#[path = "moves/compare.rs"]
mod compare;
#[path = "moves/generator.rs"]
mod generator;
#[path = "moves/hunt.rs"]
mod hunt;
#[path = "moves/mover.rs"]
mod mover;
#[path = "moves/questions.rs"]
mod questions;
#[path = "moves/random.rs"]
mod random;
#[path = "moves/script.rs"]
mod script;
#[path = "moves/shrink.rs"]
mod shrink;
#[path = "moves/side.rs"]
mod side;
#[path = "moves/world.rs"]
mod world;

use std::time::Duration;

use generator::Pace;
use hunt::{Found, Hunt, Until};

/// Seeds of the short run.
const SEEDS: u64 = 300;
/// Seeds of the short run whose moves take seconds.
const SLOW_SEEDS: u64 = 8;
/// The long run begins beyond those of the short one, or at `TRUNKLINE_MOVES_FIRST`.
const LONG_RUN: u64 = 1_000_000;

/// The seeds of the short run, or those that the environment asks for.
fn hunt(pace: Pace, seeds: u64) -> Found {
    let variable = |name: &str| std::env::var(name).ok();
    let number = |name| variable(name).map(|text| text.parse::<u64>().unwrap());
    let (first, until) = match (number("TRUNKLINE_MOVES_SEED"), number("TRUNKLINE_MOVES_SECONDS")) {
        (Some(seed), _) => (seed, Until::Seed(seed + 1)),
        (None, Some(seconds)) => {
            let first = number("TRUNKLINE_MOVES_FIRST").unwrap_or(LONG_RUN);
            (first, Until::Time(Duration::from_secs(seconds)))
        }
        (None, None) => (0, Until::Seed(seeds)),
    };
    Hunt::new(pace, first, until).run()
}

#[test]
fn a_session_that_moves_says_what_a_session_that_stays_says() {
    let found = hunt(Pace::Quick, SEEDS);
    assert_eq!(found.differences, [], "of {} scripts", found.scripts);
    assert!(
        found.left >= found.scripts / 4,
        "{} sessions were moved in {} scripts",
        found.left,
        found.scripts
    );
}

#[test]
fn so_does_one_whose_server_crashes_lags_or_is_crowded() {
    let found = hunt(Pace::Slow, SLOW_SEEDS);
    assert_eq!(found.differences, [], "of {} scripts", found.scripts);
    assert!(found.left + found.lost > 0, "no session was moved");
}

#[test]
fn what_was_found_once_stays_mended() {
    let kept = include_str!("moves/kept.txt");
    let differences = match std::env::var("TRUNKLINE_MOVES_SCRIPTS") {
        Ok(path) => hunt::replay(&std::fs::read_to_string(path).unwrap()),
        Err(_) => hunt::replay(kept),
    };
    assert_eq!(differences, [""; 0]);
}

#[test]
fn a_script_reads_as_it_is_written() {
    for seed in 0..50 {
        let script = generator::script(seed, Pace::Quick);
        assert_eq!(script.to_string().parse(), Ok(script));
    }
}
