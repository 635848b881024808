//! Ten thousand schedules of clients, connections, faults, reloads and time, each made of a seed, against a model that knows
//! only what the pools have answered. After each step:
//!
//! - a connection is where the model has it, and nobody else has it;
//! - no limit is exceeded, except by what a reload has left over, and that never grows;
//! - nobody waits while there is something for it, and of those who wait for a pool the first is served first;
//! - what is shown adds up.
//!
//! At the end everyone is served, and nothing is left.
//!
//! A failing seed is printed; `TRUNKLINE_SIMULATION_SEED=<seed>` runs it alone, and
//! `TRUNKLINE_SIMULATION_SCHEDULES=<count>` runs more of them.

mod events;
mod model;
mod world;

use world::{Seen, World};

const STEPS: usize = 80;

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

#[test]
fn no_connection_is_lost_or_shared_no_limit_exceeded_and_no_client_starved() {
    let count = number("TRUNKLINE_SIMULATION_SCHEDULES").unwrap_or(10_000);
    let one = number("TRUNKLINE_SIMULATION_SEED");
    let mut seen = Seen::default();
    for seed in one.map_or(0..count, |seed| seed..seed + 1) {
        let named = Named(seed);
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        world.finish();
        seen.add(&world.seen);
        drop(named);
    }
    // Schedules that never get there prove nothing.
    assert!(one.is_some() || seen.has_all(), "{seen:?}");
}
