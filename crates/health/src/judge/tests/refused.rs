//! What a server refuses to tell costs that fact, and not the verdict.

use super::*;
use trunkline_topology::Origin;

fn refuse(fact: AskedFact) -> Vec<RefusedFact> {
    let code = SqlState::parse(b"42501").expect("a code of five characters");
    vec![RefusedFact { fact, code }]
}

/// A stage on which R1 answers without `fact`.
fn without(fact: AskedFact) -> Stage {
    let mut stage = Stage::new();
    stage.refused[1] = refuse(fact);
    if fact == AskedFact::SystemIdentifier {
        stage.system[1] = 0;
    }
    stage.answers[1] = Ok(RoleFacts::Standby(lacking(fact, standby_facts(1000, 1))));
    stage
}

fn lacking(fact: AskedFact, mut facts: StandbyFacts) -> StandbyFacts {
    match fact {
        AskedFact::Replayed => facts.replay = None,
        AskedFact::Received => facts.receive = None,
        AskedFact::Paused => facts.is_paused = None,
        AskedFact::Startup => facts.startup = StartupWait::Hidden,
        AskedFact::Receiver => facts.receiver = Receiver::Refused,
        AskedFact::ApplyDelay => facts.apply_delay = None,
        _ => {}
    }
    facts
}

const OF_STANDBYS: [AskedFact; 7] = [
    AskedFact::SystemIdentifier,
    AskedFact::Replayed,
    AskedFact::Received,
    AskedFact::Paused,
    AskedFact::Startup,
    AskedFact::Receiver,
    AskedFact::ApplyDelay,
];

#[test]
fn a_standby_that_refuses_one_fact_serves_says_so_and_is_seen_to_lag() {
    for fact in OF_STANDBYS {
        let mut stage = without(fact);
        stage.rounds(3);
        stage.expect(R1, State::Up, &format!("{} (42501) is refused", fact.function()));
        stage.expect(R2, State::Up, "in sync");
        assert!(!stage.server(R2).reason.contains("refused"));
        stage.answers[0] = Ok(primary(2000, 1));
        stage.answers[2] = Ok(standby(2000, 1));
        stage.rounds(6);
        stage.expect(R1, State::Lagging, fact.function());
        stage.answers[1] = Ok(RoleFacts::Standby(lacking(fact, standby_facts(2000, 1))));
        stage.rounds(4);
        stage.expect(R1, State::Up, fact.function());
    }
}

#[test]
fn a_standby_that_tells_no_position_is_not_taken_for_current() {
    let mut stage = without(AskedFact::Replayed);
    let silent = StandbyFacts { replay: None, receive: None, ..standby_facts(0, 1) };
    stage.answers[1] = Ok(RoleFacts::Standby(silent));
    stage.rounds(5);
    stage.expect(R1, State::Unknown, "nothing tells how far behind");
    assert_eq!(stage.server(R1).lag, None);
    let settings = JudgeSettings { lag_unknown: LagUnknown::Serve, ..stage.judge.settings().clone() };
    stage.judge.reload(settings, stage.now);
    stage.expect(R1, State::Up, "serves by lag_unknown");
    assert_eq!(stage.server(R1).lag, None, "unknown lag is never zero");
}

#[test]
fn a_recent_commit_is_enough_and_an_old_one_is_not() {
    let mut stage = without(AskedFact::Replayed);
    let since = |now: Instant, stage: &Stage| {
        i64::try_from((now - stage.judge.epoch.as_ref().expect("begun").started_at).as_micros())
            .expect("short")
    };
    stage.round();
    for _ in 0..4 {
        let last_commit_us = Some(since(stage.now, &stage));
        let facts = StandbyFacts { replay: None, receive: None, last_commit_us, ..standby_facts(0, 1) };
        stage.answers[1] = Ok(RoleFacts::Standby(facts));
        // The primary's clock goes with the stage's.
        if let Some(epoch) = &mut stage.judge.epoch {
            epoch.clock_offset_us = Some(0);
        }
        stage.ask(R1);
        stage.now += TICK;
    }
    stage.expect(R1, State::Up, "by the last commit replayed");
    stage.now += MAX_LAG * 2;
    stage.ask(R1);
    stage.expect(R1, State::Unknown, "nothing tells how far behind");
}

#[test]
fn lag_query_is_believed_in_both_directions_and_its_null_in_neither() {
    let mut stage = Stage::new();
    let told = |lag: Option<u64>| {
        let told_lag = lag.map(Duration::from_millis);
        let facts = standby_facts(0, 1);
        Ok(RoleFacts::Standby(StandbyFacts { replay: None, receive: None, told_lag, ..facts }))
    };
    stage.answers[1] = told(Some(50));
    stage.rounds(3);
    stage.expect(R1, State::Up, "0.05 s behind by lag_query");
    assert_eq!(stage.lag(R1).est, Duration::from_millis(50));
    stage.answers[1] = told(Some(5000));
    stage.round();
    stage.expect(R1, State::Lagging, "at least 5.00 s behind");
    stage.answers[1] = told(Some(0));
    stage.rounds(4);
    stage.expect(R1, State::Up, "by lag_query");
    stage.answers[1] = told(None);
    stage.rounds(2);
    stage.expect(R1, State::Unknown, "nothing tells how far behind");
}

/// A primary that tells neither position.
fn mute(timeline: u32) -> RoleFacts {
    RoleFacts::Primary(PrimaryFacts { flush: None, insert: None, timeline: Some(TimelineId(timeline)) })
}

/// A standby whose upstream has told it of WAL up to `latest`.
fn told_by_upstream(replay: u64, latest: u64) -> RoleFacts {
    let receiver = Receiver::Present { timeline: Some(TimelineId(1)), latest_end: Some(Lsn(latest)) };
    RoleFacts::Standby(StandbyFacts { receiver, ..standby_facts(replay, 1) })
}

#[test]
fn standbys_of_a_primary_without_a_position_are_compared_with_what_their_upstream_sent() {
    let mut stage = Stage::new();
    stage.refused[0] = refuse(AskedFact::Flushed);
    stage.answers = vec![Ok(mute(1)), Ok(told_by_upstream(1000, 1000)), Ok(told_by_upstream(1000, 1000))];
    stage.rounds(3);
    stage.expect(PRIMARY, State::Up, "pg_current_wal_flush_lsn (42501) is refused");
    stage.expect(R1, State::Up, "the primary does not tell its position");
    stage.answers[1] = Ok(told_by_upstream(1000, 2000));
    stage.answers[2] = Ok(told_by_upstream(2000, 2000));
    stage.rounds(6);
    stage.expect(R1, State::Lagging, "behind");
    stage.expect(R2, State::Up, "upstream");
    let settings = JudgeSettings { primary_unknown: PrimaryUnknown::Drain, ..stage.judge.settings().clone() };
    stage.judge.reload(settings, stage.now);
    stage.expect(R2, State::Unknown, "primary_unknown");
}

#[test]
fn a_primary_that_falls_silent_takes_the_proofs_with_it() {
    let mut stage = Stage::started();
    stage.expect(R1, State::Up, "in sync");
    stage.answers[0] = Ok(mute(1));
    stage.rounds(2);
    stage.expect(R1, State::Unknown, "nothing tells how far behind");
    stage.answers[0] = Ok(primary(1000, 1));
    stage.rounds(2);
    stage.expect(R1, State::Up, "in sync");
}

/// A primary that tells no timeline.
fn timeless(flush: u64) -> RoleFacts {
    RoleFacts::Primary(PrimaryFacts { flush: Some(Lsn(flush)), insert: None, timeline: None })
}

#[test]
fn a_failover_without_timelines_goes_to_the_one_that_is_there_and_fences_the_other() {
    let mut stage = Stage::of([ExpectedRole::Any; 3], |_| {});
    stage.answers[0] = Ok(timeless(1000));
    stage.rounds(3);
    stage.expect(PRIMARY, State::Up, "primary");
    // One that is promoted beside the primary is not followed.
    stage.answers[1] = Ok(timeless(1100));
    stage.rounds(3);
    stage.expect(R1, State::Fenced, "split brain");
    stage.answers[0] = Err(ProbeFailure::Refused);
    stage.rounds(3);
    stage.expect(R1, State::Up, "primary");
    stage.answers[2] = Ok(standby(1100, 2));
    stage.rounds(3);
    stage.expect(R2, State::Up, "in sync");
    stage.answers[0] = Ok(timeless(1200));
    stage.rounds(4);
    stage.expect(PRIMARY, State::Fenced, "split brain");
    stage.expect(R1, State::Up, "primary");
}

#[test]
fn a_discovered_server_that_does_not_tell_its_cluster_is_not_served() {
    let mut stage = Stage::new();
    stage.judge.servers[1].spec.origin = Origin::Discovered("dns".into());
    stage.system[1] = 0;
    stage.rounds(3);
    stage.expect(R1, State::Unknown, "found by discovery");
    stage.expect(R2, State::Up, "in sync");
    stage.system[1] = 7;
    stage.rounds(2);
    stage.expect(R1, State::Up, "in sync");
    // Nor can it be known of which cluster it is while the primary does not say of which that one is.
    let mut stage = Stage::new();
    stage.judge.servers[1].spec.origin = Origin::Discovered("dns".into());
    stage.system = vec![0, 7, 0];
    stage.rounds(3);
    stage.expect(R1, State::Unknown, "found by discovery");
    stage.expect(R2, State::Up, "in sync");
}

#[test]
fn a_discovered_stranger_does_not_become_the_primary() {
    let mut stage = Stage::of([ExpectedRole::Any; 3], |_| {});
    stage.judge.servers[1].spec.origin = Origin::Discovered("dns".into());
    stage.system[1] = 0;
    stage.answers[1] = Ok(primary(9000, 9));
    stage.rounds(3);
    stage.expect(PRIMARY, State::Up, "primary");
    stage.answers[0] = Err(ProbeFailure::Refused);
    stage.rounds(3);
    stage.expect(R1, State::Unknown, "found by discovery");
    assert_eq!(stage.judge.snapshot(stage.now).primary, Some(PRIMARY));
}
