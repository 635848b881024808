//! Loads on servers, in simulated time: which of them cost a server weight, and how soon.

use std::sync::Arc;

use super::*;
use crate::{Attached, Balance, Balancer, Candidate, Lease};

const MS: f64 = 1e-3;

/// Schedules of faults that are tried.
const SCHEDULES: u64 = 1000;

/// Samples of one session in one second, at most.
const SAMPLES: usize = 20;

/// Sessions that are spread again in a second, at most.
const MOVES: usize = 4;

/// One session's statements.
struct Load {
    /// Which tenant's: its rows, not its statements, differ from the others'.
    tenant: u64,
    /// How often it runs something, in a second, if the server is that fast.
    rate: f64,
    place: Option<Lease>,
}

/// A cluster, the sessions on it, and the judge.
struct World {
    random: fastrand::Rng,
    servers: Vec<ServerId>,
    attached: Arc<Attached>,
    balancer: Balancer,
    sessions: Vec<Load>,
    judge: SlowJudge,
    /// Statements that each server ran in the last second, by slot.
    statements: Vec<f64>,
    /// Whether the monitor's probes are measured, too.
    has_probes: bool,
    now: u64,
}

/// How long a server takes for a statement, in seconds: by server, session, tenant, statement and time. The server's own
/// part comes before the statement's time is known.
type Took<'t> = dyn Fn(&mut fastrand::Rng, ServerId, &Context) -> f64 + 't;

struct Context {
    session: u64,
    tenant: u64,
    key: u64,
    now: u64,
}

impl World {
    fn new(seed: u64, servers: u32, sessions: usize) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let attached = Attached::new();
        let load = |_| Load { tenant: random.u64(..4), rate: 10.0 + 90.0 * random.f64(), place: None };
        let sessions = (0..sessions).map(load).collect();
        World {
            sessions,
            servers: (1..=servers).map(ServerId).collect(),
            balancer: Balancer::new(Balance::LeastOutstanding, Arc::clone(&attached)),
            attached,
            judge: SlowJudge::default(),
            statements: vec![0.0; servers as usize + 1],
            has_probes: true,
            now: 0,
            random,
        }
    }

    fn candidates(&self) -> Vec<Candidate> {
        let candidate = |id: &ServerId| Candidate { id: *id, weight: 100.0 * self.attached.speed(*id) };
        self.servers.iter().map(candidate).collect()
    }

    /// Sessions without a server get one, and a few of those on the fullest one move.
    fn spread(&mut self) {
        let candidates = self.candidates();
        let weights: f32 = candidates.iter().map(|c| c.weight).sum();
        #[expect(clippy::cast_precision_loss, reason = "few sessions")]
        let all = self.sessions.len() as f32;
        let surplus = |c: &Candidate| self.attached.sessions_on(c.id) as f32 - all * c.weight / weights;
        let fullest = candidates.iter().max_by(|a, b| surplus(a).total_cmp(&surplus(b)));
        let Some(fullest) = fullest.map(|c| (c.id, surplus(c))) else { return };
        let mut moves = if fullest.1 < 1.0 { 0 } else { MOVES.min(fullest.1 as usize) };
        for session in &mut self.sessions {
            if moves > 0 && session.place.as_ref().is_some_and(|lease| lease.server() == fullest.0) {
                moves -= 1;
                session.place = None;
            }
            if session.place.is_none() {
                session.place = self.balancer.choose(&candidates, &[]);
            }
        }
    }

    /// One second of statements: a session runs one after the other, and thinks in between.
    fn second(&mut self, took: &Took<'_>) {
        self.spread();
        self.statements.fill(0.0);
        for (number, session) in (0_u64..).zip(&self.sessions) {
            let Some(lease) = &session.place else { continue };
            let (mut at, mut samples) = (0.0, 0);
            while at < 1.0 && samples < SAMPLES {
                let key = self.random.u64(..6) * self.random.u64(..2);
                let context = Context { session: number, tenant: session.tenant, key, now: self.now };
                let first = took(&mut self.random, lease.server(), &context);
                at += first + 1.0 / session.rate;
                samples += 1;
                let first = Duration::from_secs_f64(first);
                self.judge.take(SpeedSample {
                    server: lease.server(),
                    key,
                    fingerprint: key,
                    session: number,
                    first,
                });
            }
            self.statements[lease.server().index()] += samples as f64 / at;
        }
        for &server in self.servers.iter().filter(|_| self.has_probes) {
            let context = Context { session: u64::MAX, tenant: u64::MAX, key: 0, now: self.now };
            let took = took(&mut self.random, server, &context);
            self.judge.probed(server, Duration::from_secs_f64(took));
        }
        self.now += 1;
        for (server, speed) in self.judge.close_window(&self.servers, |_| true) {
            self.attached.slow(server, speed);
        }
    }

    /// The lowest speed of any server in so many seconds.
    fn lowest(&mut self, seconds: u64, took: &Took<'_>) -> f32 {
        let mut lowest = 1.0_f32;
        for _ in 0..seconds {
            self.second(took);
            lowest = self.servers.iter().map(|id| self.attached.speed(*id)).fold(lowest, f32::min);
        }
        lowest
    }

    /// A server's share of the statements, relative to an even one.
    fn share(&self, server: ServerId) -> f64 {
        let even = self.statements.iter().sum::<f64>() / self.servers.len() as f64;
        self.statements[server.index()] / even
    }
}

/// What a healthy server takes: each statement has its own time, with a tail.
fn usual(random: &mut fastrand::Rng, key: u64) -> f64 {
    let base = [0.3, 0.8, 2.0, 5.0, 20.0, 60.0][key as usize % 6] * MS;
    base * (0.7 - 0.5 * random.f64().max(1e-6).ln())
}

fn delayed(
    server: ServerId,
    from: u64,
    until: u64,
) -> impl Fn(&mut fastrand::Rng, ServerId, &Context) -> f64 {
    move |random, at, context| {
        let is_delayed = at == server && (from..until).contains(&context.now);
        usual(random, context.key) + if is_delayed { 50.0 * MS } else { 0.0 }
    }
}

#[test]
fn a_delayed_replica_of_three_loses_its_share_in_15_s_and_has_it_again_in_60_s() {
    for seed in 0..20 {
        let has_probes = seed % 3 > 0;
        let mut world = World::new(seed, 3, if has_probes { 9 } else { 24 } + (seed as usize % 5) * 12);
        world.has_probes = has_probes;
        let slow = ServerId(2);
        let took = delayed(slow, 20, 90);
        assert!(world.lowest(20, &took) >= 0.8, "seed {seed}: before");
        world.lowest(15, &took);
        let left = world.share(slow);
        assert!(!has_probes || left < 0.2, "seed {seed}: {left} of its share is left");
        // Statements alone convince later, and it is tried now and then.
        assert!(world.lowest(45, &took) <= 0.5, "seed {seed}");
        assert!(!has_probes || world.share(slow) < 0.2, "seed {seed}: it stays away while it is slow");
        world.lowest(60, &took);
        // Of nine sessions, each runs as much as it likes, and one may be missing.
        let most = if world.sessions.len() > 9 { 0.8 } else { 0.5 };
        assert!(world.share(slow) > most, "seed {seed}: {} after 60 s", world.share(slow));
        assert!(world.attached.speed(slow) > 0.8, "seed {seed}");
        assert!(world.attached.speed(ServerId(1)) >= 0.8 && world.attached.speed(ServerId(3)) >= 0.8);
    }
}

#[test]
fn one_of_two_loses_its_share_too() {
    for seed in 0..20 {
        let mut world = World::new(seed, 2, 16);
        let took = delayed(ServerId(1), 0, 30);
        world.lowest(30, &took);
        assert!(world.attached.speed(ServerId(1)) < 0.3, "seed {seed}");
        world.lowest(60, &took);
        assert!(world.attached.speed(ServerId(1)) > 0.8, "seed {seed}");
    }
}

/// A processor that others use: the server stands still for most of the time, and few statements notice.
#[test]
fn a_server_that_stands_still_now_and_then_is_slow() {
    for seed in 0..20 {
        let mut world = World::new(seed, 3, 24);
        let took = |random: &mut fastrand::Rng, at, context: &Context| {
            let stands = at == ServerId(1) && random.u32(..8) == 0;
            usual(random, context.key % 3) + if stands { 90.0 * MS } else { 0.0 }
        };
        world.lowest(60, &took);
        let found: Vec<_> = world.judge.findings().collect();
        assert!(world.attached.speed(ServerId(1)) <= 0.5, "seed {seed}: {found:?}");
    }
}

#[test]
fn a_cold_cache_costs_weight_until_it_is_warm() {
    for seed in 0..20 {
        let mut world = World::new(seed, 3, 24);
        // Ten times as slow at first; the probe reads nothing.
        let took = |random: &mut fastrand::Rng, at, context: &Context| {
            let warm = (context.now as f64 / 40.0).min(1.0);
            let is_cold = at == ServerId(3) && context.session != u64::MAX;
            usual(random, context.key) * if is_cold { 10.0 - 9.0 * warm } else { 1.0 } + 0.5 * MS
        };
        let lowest = world.lowest(40, &took);
        assert!(lowest < 0.8, "seed {seed}: {lowest}");
        world.lowest(60, &took);
        assert!(world.attached.speed(ServerId(3)) > 0.8, "seed {seed}");
    }
}

/// Loads that are uneven and nobody's fault, ten minutes each: no weight is ever below four fifths.
mod skewed {
    use super::*;

    const MINUTES_10: u64 = 600;
    const SEEDS: u64 = 2;

    fn assert_keeps(name: &str, servers: u32, took: &Took<'_>) {
        for seed in 0..SEEDS {
            let mut world = World::new(seed, servers, 18);
            world.has_probes = seed % 2 == 0;
            let lowest = world.lowest(MINUTES_10, took);
            assert!(lowest >= 0.8, "{name}, seed {seed}: {lowest}");
        }
    }

    #[test]
    fn the_heavy_statements_run_on_one_server() {
        // Statements of their own, which no other server has.
        for seed in 0..SEEDS {
            let mut world = World::new(seed, 3, 18);
            let took = |random: &mut fastrand::Rng, at: ServerId, context: &Context| {
                usual(random, context.key) * if at == ServerId(1) && context.key > 3 { 3.0 } else { 1.0 }
            };
            assert!(world.lowest(MINUTES_10, &took) >= 0.8, "seed {seed}");
        }
    }

    #[test]
    fn one_heavy_tenant_has_half_of_the_sessions_of_a_server() {
        assert_keeps("tenant", 3, &|random, at, context| {
            let is_heavy = at == ServerId(2) && context.session % 2 == 0 && context.session != u64::MAX;
            usual(random, context.key) * if is_heavy { 20.0 } else { 1.0 }
        });
    }

    #[test]
    fn one_tenant_is_heavy_wherever_it_is() {
        assert_keeps("tenants", 3, &|random, _, context| {
            usual(random, context.key) * if context.tenant == 0 { 30.0 } else { 1.0 }
        });
    }

    #[test]
    fn all_wait_for_locks_now_and_then() {
        // A replayed ACCESS EXCLUSIVE lock stops everybody on one standby for a second or two.
        assert_keeps("locks", 3, &|random, at, context| {
            let waits = context.now % 30 < 2 && at == ServerId(1 + (context.now / 30 % 3) as u32);
            usual(random, context.key) + if waits { 1.5 } else { 0.0 }
        });
    }

    #[test]
    fn all_are_slow_together() {
        assert_keeps("all", 3, &|random, _, context| {
            usual(random, context.key) * if context.now % 120 > 60 { 40.0 } else { 1.0 }
        });
    }

    #[test]
    fn a_server_is_idle_and_another_has_better_hardware() {
        assert_keeps("hardware", 3, &|random, at, context| {
            usual(random, context.key) * if at == ServerId(1) { 0.6 } else { 1.0 }
        });
    }

    #[test]
    fn two_servers_with_bursts() {
        assert_keeps("bursts", 2, &|random, at, context| {
            let bursts = random.u32(..50) == 0 && at == ServerId(1 + (context.now / 45 % 2) as u32);
            usual(random, context.key) * if bursts { 12.0 } else { 1.0 }
        });
    }
}

/// Whatever happens: nobody goes below the floor, and some have all of their weight.
#[test]
fn a_thousand_schedules_leave_a_majority_untouched() {
    for seed in 0..SCHEDULES {
        let mut world = World::new(seed, 2 + (seed % 5) as u32, 4);
        world.has_probes = seed % 3 > 0;
        let mut random = fastrand::Rng::with_seed(seed ^ 0xdead);
        let faults: Vec<(f64, u64, u64)> =
            world.servers.iter().map(|_| (random.f64() * 0.1, random.u64(..20), random.u64(..40))).collect();
        let took = |random: &mut fastrand::Rng, at: ServerId, context: &Context| {
            let (delay, from, until) = faults[at.index() - 1];
            usual(random, context.key % 3) + if (from..until).contains(&context.now) { delay } else { 0.0 }
        };
        for _ in 0..40 {
            world.second(&took);
            let speeds: Vec<f32> = world.servers.iter().map(|id| world.attached.speed(*id)).collect();
            let slow = speeds.iter().filter(|speed| **speed < 1.0).count();
            assert!(slow <= slow_max(speeds.len()), "seed {seed}: {speeds:?}");
            assert!(speeds.iter().all(|speed| (FLOOR..=1.0).contains(speed)), "seed {seed}: {speeds:?}");
        }
    }
}
