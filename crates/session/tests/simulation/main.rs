//! Seeded schedules of a random client, a model server and every interleaving and chunking between, for a session that
//! stays on its server. Those that move are in the proxy, with the real relay: `relay/simulation`.
//!
//! A failing seed is printed; `TRUNKLINE_SIMULATION_SEED=<seed>` runs it alone, and
//! `TRUNKLINE_SIMULATION_SCHEDULES=<count>` runs more of them.

mod flights;
mod pooled;
mod shared;
mod world;

use trunkline_model::{Rng, script, wire};
use world::{End, World};

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

/// Runs `schedule` with many seeds, or the one asked for.
fn each_seed(schedule: impl FnMut(&mut Rng)) {
    each_seed_of(20_000, schedule);
}

/// The same, with so many seeds.
fn each_seed_of(count: u64, mut schedule: impl FnMut(&mut Rng)) {
    let count = number("TRUNKLINE_SIMULATION_SCHEDULES").unwrap_or(count);
    let seeds = number("TRUNKLINE_SIMULATION_SEED").map_or(0..count, |seed| seed..seed + 1);
    for seed in seeds {
        let named = Named(seed);
        schedule(&mut Rng::new(seed));
        drop(named);
    }
}

fn chunk(rng: &mut Rng) -> usize {
    match rng.below(4) {
        0 => 1 + rng.below(8),
        1 => 1 + rng.below(100),
        _large => 1 + rng.below(100_000),
    }
}

/// One event of a schedule without faults.
fn event(rng: &mut Rng, world: &mut World) {
    match rng.below(3) {
        0 => {
            let most = chunk(rng);
            world.client_sends(most);
        }
        1 => {
            world.server.step();
            if rng.one_in(20) && !world.server.is_closed {
                world.server.send_async();
            }
        }
        _arrival => {
            let most = chunk(rng);
            world.server_arrives(most);
        }
    }
    world.tick(rng);
    world.check();
}

fn run_to_the_end(rng: &mut Rng, world: &mut World) {
    loop {
        let before = (world.relayed, world.server.input.len(), world.server.put_out);
        event(rng, world);
        let is_quiet = !world.has_more_script() && world.server.output.is_empty();
        if is_quiet && before == (world.relayed, world.server.input.len(), world.server.put_out) {
            world.client_sends(usize::MAX);
            world.server.step();
            world.server_arrives(usize::MAX);
            world.check();
            if world.server.input.is_empty() || world.server.is_closed {
                break;
            }
        }
    }
    world.server_arrives(usize::MAX);
}

#[test]
fn nothing_is_lost_changed_or_misjudged_without_faults() {
    let (mut untracked, mut statements, mut schedules) = (0_u64, 0, 0_u64);
    each_seed(|rng| {
        let script = script::script(rng);
        let mut world = World::new(rng, script);
        run_to_the_end(rng, &mut world);
        world.check_complete();
        schedules += 1;
        untracked += u64::from(world.is_untracked());
        statements += world.records.begun.len();
    });
    println!("{schedules} schedules, {statements} statements, {untracked} ended untracked");
    assert!(untracked * 10 <= schedules, "too few schedules say anything: {untracked} of {schedules}");
}

#[test]
fn a_death_at_any_byte_gives_at_most_one_error_and_never_inside_a_message() {
    let mut ends = [0_usize; 4];
    each_seed(|rng| {
        let script = script::script(rng);
        let mut world = World::new(rng, script);
        for _ in 0..rng.below(60) {
            event(rng, &mut world);
        }
        let mut end = End::NotYet;
        for _ in 0..5 {
            kill(rng, &mut world);
            end = world.server_ends(rng);
            if end != End::NotYet {
                break;
            }
            for _ in 0..rng.below(10) {
                event(rng, &mut world);
            }
        }
        ends[end as usize] += 1;
    });
    println!("ends {ends:?} (not yet, report, cut, close)");
}

/// The server dies with or without a word, and some of what it had said arrives.
fn kill(rng: &mut Rng, world: &mut World) {
    if !world.server.is_closed {
        let words = match rng.below(4) {
            0 => Vec::new(),
            1 => wire::report(b'E', "FATAL", "57P01"),
            2 => wire::report(b'N', "WARNING", "57P01"),
            _crash => wire::report(b'N', "WARNING", "57P02"),
        };
        world.server.die(&words);
    }
    let cut = if rng.one_in(2) { rng.below(world.server.output.len() + 1) } else { usize::MAX };
    world.server.output.truncate(cut);
    while !world.server.output.is_empty() {
        let most = chunk(rng);
        world.server_arrives(most);
        if rng.one_in(3) {
            let most = chunk(rng);
            world.client_sends(most);
        }
        world.check();
    }
}
