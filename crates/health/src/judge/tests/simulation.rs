//! Whatever the schedule, `lo <= truth <= hi`.

use super::*;

/// A small generator, so that a seed is a schedule.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, bound: u64) -> u64 {
        // xorshift64*; Vigna 2016.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }
}

/// A primary that commits and a standby that replays, in milliseconds.
struct World {
    random: Seeded,
    /// (time, position after the commit's record): ascending.
    commits: Vec<(u64, u64)>,
    flush: u64,
    replay: u64,
    /// (time, flushed): what the standby will replay, with its delay.
    shipped: Vec<(u64, u64)>,
    /// (time, flushed) wherever it moved; never forgotten.
    flushes: Vec<(u64, u64)>,
    delay: u64,
    is_paused: bool,
    is_busy: bool,
}

impl World {
    fn step(&mut self, now: u64) {
        if self.random.below(400) == 0 {
            self.is_paused = !self.is_paused;
        }
        if self.random.below(300) == 0 {
            self.is_busy = !self.is_busy;
        }
        if self.random.below(500) == 0 {
            self.delay = self.random.below(4000);
        }
        if self.is_busy && self.random.below(4) == 0 {
            self.flush += 8 + self.random.below(600);
            self.commits.push((now, self.flush));
        } else if self.random.below(50) == 0 {
            // A transaction still running: WAL is flushed up to a page, inside a record, without a commit.
            self.flush = (self.flush / 8192 + 1) * 8192;
        }
        self.shipped.push((now, self.flush));
        if self.flushes.last().is_none_or(|(_, lsn)| *lsn < self.flush) {
            self.flushes.push((now, self.flush));
        }
        if !self.is_paused {
            let ready = self.shipped.partition_point(|(at, _)| at + self.delay <= now);
            if let Some(&(_, flushed)) = self.shipped[..ready].last() {
                // A record that straddles the end of what was shipped cannot be replayed yet.
                let whole =
                    self.commits.iter().rev().find(|(_, end)| *end <= flushed).map_or(0, |(_, end)| *end);
                self.replay = self.replay.max(if flushed % 8192 == 0 { whole } else { flushed });
                self.shipped.drain(..ready - 1);
            }
        }
    }

    /// Age of the oldest commit that the standby does not show.
    fn truth(&self, now: u64) -> u64 {
        let missing = self.commits.iter().find(|(_, end)| *end > self.replay);
        missing.map_or(0, |(at, _)| now - at)
    }
}

#[test]
fn truth_lies_between_the_bounds() {
    let mut bounded = 0;
    for seed in 1..=24 {
        bounded += run(seed);
    }
    assert!(bounded > 1_500, "only {bounded} samples had an upper bound");
}

fn run(seed: u64) -> u32 {
    let mut stage = Stage::new();
    let start = stage.now;
    let at = |ms: u64| start + Duration::from_millis(ms);
    let mut world = World {
        random: Seeded(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
        commits: Vec::new(),
        flush: 1000,
        replay: 1000,
        shipped: Vec::new(),
        flushes: Vec::new(),
        delay: 0,
        is_paused: false,
        is_busy: true,
    };
    let (mut next_primary, mut next_standby, mut bounded) = (0, 0, 0);
    for ms in 0..60_000 {
        world.step(ms);
        // The position is read at some time within the probe, which takes its time on both sides of it.
        if ms >= next_primary {
            next_primary = ms + 300 + world.random.below(700);
            let (sent, received) =
                (at(ms.saturating_sub(world.random.below(80))), at(ms + world.random.below(80)));
            observe(&mut stage, PRIMARY, primary(world.flush, 1), sent, received);
        }
        if ms >= next_standby {
            next_standby = ms + 300 + world.random.below(700);
            let (before, after) = (world.random.below(80), world.random.below(80));
            let (sent, received) = (at(ms.saturating_sub(before)), at(ms + after));
            for id in [R1, R2] {
                observe(&mut stage, id, RoleFacts::Standby(facts(&world)), sent, received);
            }
            bounded += check(&stage, &world, ms, before, seed);
        }
    }
    bounded
}

fn facts(world: &World) -> StandbyFacts {
    let received =
        if world.is_paused || world.delay > 0 { world.flush } else { world.replay.max(world.flush) };
    let has_consumed = !world.is_paused && world.shipped.first().is_some_and(|(_, lsn)| *lsn == world.flush);
    StandbyFacts {
        receive: Some(Lsn(received)),
        startup: if has_consumed { StartupWait::Stream } else { StartupWait::Other },
        is_paused: Some(world.is_paused),
        ..standby_facts(world.replay, 1)
    }
}

fn observe(stage: &mut Stage, id: ServerId, role: RoleFacts, sent_at: Instant, received_at: Instant) {
    let system_identifier = Some(SystemIdentifier(7));
    let (membership, refused) = (None, Vec::new());
    let facts =
        Facts { role, clock_us: 0, system_identifier, started_us: None, version: None, membership, refused };
    let finding = Finding::Answered(Box::new(facts));
    stage.judge.observe(id, Observation { sent_at, received_at, address: None, finding }, received_at);
    stage.now = stage.now.max(received_at);
}

/// The bounds hold for the moment the standby was asked. WAL without a commit counts as missing too, so the
/// proof is that it missed WAL for `lo`: the oldest WAL missing, commit or not, is that old.
fn check(stage: &Stage, world: &World, ms: u64, sent_before: u64, seed: u64) -> u32 {
    let Some(reading) = stage.judge.servers[1].reading else { return 0 };
    let truth = world.truth(ms);
    let missing_wal = world.flushes.iter().find(|(_, lsn)| *lsn > world.replay).map_or(0, |(at, _)| ms - at);
    let lo = u64::try_from(reading.lo.as_millis()).unwrap_or(u64::MAX);
    let bound = missing_wal.max(truth);
    assert!(lo <= bound, "seed {seed} at {ms}: lo {lo} above {bound}, asked {sent_before} ms before");
    let Some(fresh_as_of) = reading.fresh_as_of else { return 0 };
    let asked = stage.now;
    let hi = asked.saturating_duration_since(fresh_as_of);
    assert!(Duration::from_millis(truth) <= hi, "seed {seed} at {ms}: truth {truth} above {hi:?}");
    1
}
