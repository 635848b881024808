//! Judges two servers without a PostgreSQL, a clock or a wait: `judge [seconds of lag]`
//!
//! The primary writes once a second and the replica replays what was written so many seconds ago (4 by default, with
//! a `max_lag` of 2 s). What is printed is what the log of a real monitor would say.

use std::error::Error;
use std::time::{Duration, Instant};

use trunkline_codec::ids::{Lsn, SystemIdentifier, TimelineId};
use trunkline_health::JudgeSettings;
use trunkline_health::judge::{
    Facts, Finding, Judge, Observation, PrimaryFacts, Receiver, RoleFacts, StandbyFacts, StartupWait,
};
use trunkline_topology::{AdminState, ExpectedRole, ServerId, ServerSpec};

const TICK: Duration = Duration::from_secs(1);
const MAX_LAG: Duration = Duration::from_secs(2);
/// WAL that the primary writes in a tick, in bytes.
const WRITTEN: u64 = 1000;
const TIMELINE: TimelineId = TimelineId(1);

fn server(name: &str, expected_role: ExpectedRole) -> ServerSpec {
    let host = "db.example".to_owned();
    ServerSpec {
        name: name.to_owned(),
        host,
        port: 5432,
        expected_role,
        weight: 100,
        admin: AdminState::Ready,
        ..ServerSpec::default()
    }
}

/// What the replica answers that has replayed up to `replay`.
fn standby(replay: Lsn) -> RoleFacts {
    RoleFacts::Standby(StandbyFacts {
        replay: Some(replay),
        receive: Some(replay),
        last_commit_us: None,
        is_paused: Some(false),
        startup: StartupWait::Stream,
        receiver: Receiver::Present { timeline: Some(TIMELINE), latest_end: None },
        apply_delay: Some(Duration::ZERO),
        told_lag: None,
        estimated_lag: None,
    })
}

/// An answer that came at once.
fn answered(role: RoleFacts, now: Instant) -> Observation {
    let facts = Facts {
        role,
        clock_us: 0,
        system_identifier: Some(SystemIdentifier(1)),
        started_us: None,
        version: Some(180_000),
        membership: None,
        refused: Vec::new(),
    };
    Observation { sent_at: now, received_at: now, address: None, finding: Finding::Answered(Box::new(facts)) }
}

fn main() -> Result<(), Box<dyn Error>> {
    let lag: u64 = std::env::args().nth(1).map_or(Ok(4), |seconds| seconds.parse())?;
    let started = Instant::now();
    let servers = vec![server("primary", ExpectedRole::Primary), server("replica1", ExpectedRole::Replica)];
    let mut judge = Judge::new(JudgeSettings::new(MAX_LAG, TICK), servers, started);
    for second in 0_u32..10 {
        let now = started + TICK * second;
        let flush = WRITTEN * (u64::from(second) + 100);
        let primary = RoleFacts::Primary(PrimaryFacts {
            flush: Some(Lsn(flush)),
            insert: None,
            timeline: Some(TIMELINE),
        });
        judge.observe(ServerId(0), answered(primary, now), now);
        // Nothing written before the first second is missing.
        let replay = flush.saturating_sub(WRITTEN * lag.min(u64::from(second)));
        judge.observe(ServerId(1), answered(standby(Lsn(replay)), now), now);
        judge.tick(now);
        while let Some(change) = judge.poll_transition() {
            println!("{second} s  {} {} -> {}: {}", change.name, change.from, change.to, change.reason);
        }
    }
    Ok(())
}
