//! Lag, timelines, failover, split brain, and life without the primary.

use super::*;

#[test]
fn an_idle_primary_is_no_lag() {
    let mut stage = Stage::started();
    stage.rounds(200);
    stage.expect(R1, State::Up, "in sync");
    assert!(stage.lag(R1).hi.expect("bounded") <= TICK * 2);
    stage.answers[0] = Ok(primary(2000, 1));
    stage.round();
    stage.expect(R1, State::Up, "");
}

#[test]
fn proven_lag_evicts_and_catching_up_readmits() {
    let mut stage = Stage::started();
    stage.answers[0] = Ok(primary(2000, 1));
    stage.answers[2] = Ok(standby(2000, 1));
    stage.rounds(4);
    stage.expect(R1, State::Up, "behind");
    stage.rounds(2);
    stage.expect(R1, State::Lagging, "above max_lag");
    stage.expect(R2, State::Up, "");
    stage.answers[1] = Ok(standby(2000, 1));
    stage.round();
    stage.expect(R1, State::Lagging, "catching up");
    stage.round();
    stage.expect(R1, State::Up, "in sync");
    assert!((stage.server(R1).slow_start - 1.0).abs() < f32::EPSILON, "its caches are warm");
}

#[test]
fn a_record_cut_by_the_flush_position_is_no_lag() {
    let mut stage = Stage::started();
    stage.answers[0] = Ok(primary(8192, 1));
    let mut facts = standby_facts(8100, 1);
    facts.receive = Some(Lsn(8192));
    for startup in [StartupWait::Stream, StartupWait::Hidden] {
        facts.startup = startup;
        stage.answers[1] = Ok(RoleFacts::Standby(facts));
        stage.answers[2] = Ok(standby(8192, 1));
        stage.rounds(10);
        stage.expect(R1, State::Up, "in sync");
    }
    facts.startup = StartupWait::Other;
    stage.answers[1] = Ok(RoleFacts::Standby(facts));
    stage.rounds(6);
    stage.expect(R1, State::Lagging, "");
}

#[test]
fn a_restart_of_a_standby_on_an_idle_primary_needs_no_write() {
    let mut stage = Stage::started();
    stage.observe(R1, Finding::ConnectFailed(ProbeFailure::Refused));
    let mut facts = standby_facts(1000, 1);
    (facts.receive, facts.startup, facts.receiver) = (Some(Lsn(0)), StartupWait::Other, Receiver::Absent);
    stage.answers[1] = Ok(RoleFacts::Standby(facts));
    stage.rounds(2);
    stage.expect(R1, State::Up, "in sync");
}

#[test]
fn a_delay_above_the_limit_is_never_eligible() {
    let mut stage = Stage::new();
    let facts = StandbyFacts { apply_delay: Some(Duration::from_secs(6)), ..standby_facts(1000, 1) };
    stage.answers[1] = Ok(RoleFacts::Standby(facts));
    stage.rounds(3);
    stage.expect(R1, State::Lagging, "recovery_min_apply_delay");
}

#[test]
fn reads_go_on_without_the_primary() {
    let mut stage = Stage::started();
    stage.answers[0] = Err(ProbeFailure::Refused);
    stage.rounds(200);
    for id in [R1, R2] {
        stage.expect(id, State::Up, "primary has not answered");
    }
    assert!(stage.lag(R1).hi.expect("bounded") > Duration::from_secs(90), "it does not pretend to be fresh");
    // One that has less than the other is behind what is known to exist.
    stage.answers[2] = Ok(standby(1500, 1));
    stage.rounds(6);
    stage.expect(R1, State::Lagging, "");
    stage.expect(R2, State::Up, "");
}

#[test]
fn a_start_without_the_primary_measures_against_the_farthest_standby() {
    let mut stage = Stage::new();
    stage.answers = vec![Err(ProbeFailure::Refused), Ok(standby(900, 1)), Ok(standby(1000, 1))];
    stage.round();
    stage.expect(R1, State::Unknown, "not yet known");
    stage.expect(R2, State::Up, "");
    assert_eq!(stage.lag(R2).hi, None);
    stage.rounds(6);
    stage.expect(R1, State::Lagging, "");
}

#[test]
fn the_policy_may_stop_reads_without_the_primary() {
    let mut stage =
        Stage::with(|settings| settings.primary_unknown = PrimaryUnknown::ServeFor(Duration::from_secs(3)));
    stage.round();
    stage.answers[0] = Err(ProbeFailure::Refused);
    stage.rounds(2);
    stage.expect(R1, State::Up, "");
    stage.rounds(8);
    stage.expect(R1, State::Unknown, "primary_unknown");
}

#[test]
fn a_promoted_replica_is_down_at_once_and_its_followers_fenced() {
    let mut stage = Stage::started();
    stage.answers[1] = Ok(primary(1100, 2));
    stage.answers[2] = Ok(standby(1000, 2));
    stage.ask(R1);
    stage.expect(R1, State::Down, "promoted");
    stage.rounds(4);
    stage.expect(PRIMARY, State::Up, "");
    stage.expect(R2, State::Fenced, "follows timeline 2");
    assert!(stage.judge.snapshot(stage.now).split_brain);
    // Its promotion stays a mistake when the primary restarts.
    stage.answers[0] = Err(ProbeFailure::Refused);
    stage.rounds(4);
    stage.expect(R1, State::Down, "promoted");
    stage.answers[0] = Ok(primary(1100, 1));
    stage.rounds(4);
    stage.expect(PRIMARY, State::Up, "");
}

#[test]
fn after_a_failover_the_new_primary_serves_and_the_old_one_is_fenced() {
    let mut stage = Stage::started();
    stage.answers[0] = Err(ProbeFailure::Refused);
    stage.rounds(2);
    stage.answers[1] = Ok(primary(990, 2));
    stage.round();
    stage.expect(R1, State::Down, "promoted");
    stage.expect(R2, State::Up, "following");
    stage.answers[2] = Ok(standby(990, 2));
    stage.rounds(22);
    stage.expect(R2, State::Up, "in sync");
    stage.expect(R1, State::Up, "primary after its promotion");
    stage.answers[0] = Ok(primary(1200, 1));
    stage.rounds(4);
    stage.expect(PRIMARY, State::Fenced, "timeline 1");
    assert_eq!(stage.judge.snapshot(stage.now).primary, Some(R1));
}

#[test]
fn a_standby_left_on_the_old_timeline_has_the_grace_time() {
    let mut stage = Stage::started();
    stage.answers[0] = Err(ProbeFailure::Refused);
    stage.rounds(2);
    stage.answers[1] = Ok(primary(1000, 2));
    stage.rounds(10);
    stage.expect(R2, State::Up, "");
    stage.rounds(12);
    stage.expect(R2, State::Down, "still on timeline 1");
}

#[test]
fn wal_that_the_primary_does_not_have_fences() {
    let mut stage = Stage::started();
    stage.answers[1] = Ok(standby(1001, 1));
    stage.rounds(2);
    stage.expect(R1, State::Fenced, "ahead of the primary");
    // The primary getting past it proves nothing.
    stage.answers[0] = Ok(primary(2000, 1));
    stage.answers[1] = Ok(standby(2000, 1));
    stage.rounds(2);
    stage.expect(R1, State::Fenced, "diverged");
}

#[test]
fn another_clusters_server_is_fenced() {
    let mut stage = Stage::new();
    stage.system[1] = 8;
    stage.rounds(2);
    stage.expect(R1, State::Fenced, "another cluster");
}

#[test]
fn of_two_primaries_found_the_newer_timeline_wins() {
    let mut stage = Stage::new();
    stage.answers[0] = Ok(primary(1000, 1));
    stage.answers[1] = Ok(primary(1000, 2));
    stage.rounds(2);
    stage.expect(PRIMARY, State::Fenced, "split brain");
    assert_eq!(stage.judge.snapshot(stage.now).primary, Some(R1));
}

/// A replica that replays nothing while the primary, asked `asks` times a tick, writes on from `lsn`.
fn stuck(stage: &mut Stage, lsn: &mut u64, asks: u64, time: Duration) -> ServerStatus {
    let end = stage.now + time;
    while stage.now < end {
        let until = stage.now + TICK;
        for _ in 0..asks {
            *lsn += 8;
            stage.answers[0] = Ok(primary(*lsn, 1));
            stage.ask(PRIMARY);
        }
        stage.answers[2] = Ok(standby(*lsn, 1));
        stage.ask(R1);
        stage.ask(R2);
        stage.judge.tick(stage.now);
        stage.now = until.max(stage.now);
    }
    stage.server(R1)
}

#[test]
fn a_primary_that_is_asked_often_does_not_make_the_oldest_proof_forgotten() {
    let settings = JudgeSettings::new(Duration::from_secs(60), TICK);
    let mut stage = Stage::with(|all| *all = settings);
    stage.round();
    let server = stuck(&mut stage, &mut 1000, 240, Duration::from_secs(200));
    assert_eq!(server.state, State::Lagging, "{}", server.reason);
}

#[test]
fn a_larger_limit_is_kept_from_its_reload_on() {
    let mut stage = Stage::started();
    stage.judge.reload(JudgeSettings::new(Duration::from_secs(300), TICK), stage.now);
    let mut lsn = 1000;
    let server = stuck(&mut stage, &mut lsn, 1, Duration::from_secs(250));
    assert_eq!(server.state, State::Up, "{}", server.reason);
    let server = stuck(&mut stage, &mut lsn, 1, Duration::from_secs(100));
    assert_eq!(server.state, State::Lagging, "{}", server.reason);
}

/// All servers of a stage, from now on those of a new cluster.
fn reinitialise(stage: &mut Stage) {
    stage.system = vec![8; 3];
    // A new cluster begins with less WAL, on the first timeline.
    stage.answers = vec![Ok(primary(500, 1)), Ok(standby(500, 1)), Ok(standby(500, 1))];
}

#[test]
fn a_cluster_re_initialised_as_a_whole_is_adopted_after_a_while() {
    let mut stage = Stage::with(|settings| settings.adopt_after = Duration::from_secs(5));
    stage.round();
    reinitialise(&mut stage);
    stage.rounds(2);
    for id in [PRIMARY, R1, R2] {
        stage.expect(id, State::Fenced, "this cluster's is 7; adopted in");
        stage.expect(
            id,
            State::Fenced,
            "at once by `trunkline adopt`, or by a restart of `trunkline health`",
        );
    }
    stage.rounds(12);
    stage.expect(PRIMARY, State::Up, "primary");
    stage.expect(R1, State::Up, "in sync");
    stage.expect(R2, State::Up, "in sync");
    let told: Vec<_> = std::iter::from_fn(|| stage.judge.poll_notice()).map(|notice| notice.kind).collect();
    let (system, was) = (SystemIdentifier(8), Some(SystemIdentifier(7)));
    assert_eq!(told, [NoticeKind::Adopted { system, was }]);
}

#[test]
fn no_cluster_is_adopted_while_a_server_of_the_present_one_answers() {
    let mut stage = Stage::with(|settings| settings.adopt_after = Duration::from_secs(5));
    stage.round();
    let last = stage.answers[2].clone();
    reinitialise(&mut stage);
    (stage.system[2], stage.answers[2]) = (7, last);
    stage.rounds(30);
    let lines = [stage.server(PRIMARY), stage.server(R1)].map(|server| server.reason.to_string());
    assert!(lines.iter().all(|reason| reason.ends_with("this cluster's is 7")), "{lines:?}");
    let still_there = stage.judge.adopt(stage.now).expect_err("one is left");
    assert_eq!(still_there, AdoptionRefusal::StillThere(vec!["replica2".into()]));
    // In maintenance it is not asked.
    stage.judge.set_admin(R2, AdminState::Maint, stage.now);
    stage.rounds(12);
    stage.expect(PRIMARY, State::Up, "primary");
    stage.judge.set_admin(R2, AdminState::Ready, stage.now);
    stage.expect(R2, State::Fenced, "another cluster");
}

#[test]
fn the_cluster_that_is_adopted_is_not_that_of_a_server_in_maintenance() {
    for second in [Ok(primary(500, 1)), Ok(standby(500, 1))] {
        let mut stage = Stage::of([ExpectedRole::Any; 3], |_| {});
        stage.answers[0] = Ok(primary(1000, 5));
        stage.round();
        // The old server goes on, on a newer timeline than the new cluster's.
        stage.judge.set_admin(PRIMARY, AdminState::Maint, stage.now);
        stage.system = vec![7, 8, 8];
        (stage.answers[1], stage.answers[2]) = (second, Ok(standby(500, 1)));
        stage.rounds(2);
        assert_eq!(stage.judge.adopt(stage.now), Ok(SystemIdentifier(8)));
        stage.rounds(2);
        stage.expect(R1, State::Up, "");
        stage.expect(R2, State::Up, "");
        let ours = stage.judge.epoch.as_ref().and_then(|epoch| epoch.system);
        assert_eq!(ours, Some(SystemIdentifier(8)));
        stage.judge.set_admin(PRIMARY, AdminState::Ready, stage.now);
        stage.expect(PRIMARY, State::Fenced, "this cluster's is 8");
    }
}

#[test]
fn a_single_server_of_another_cluster_is_adopted_only_when_an_operator_says_so() {
    let mut stage = Stage::with(|settings| settings.adopt_after = Duration::from_secs(5));
    stage.round();
    assert_eq!(
        stage.judge.adopt(stage.now),
        Err(AdoptionRefusal::StillThere(["primary", "replica1", "replica2"].map(Into::into).to_vec()))
    );
    reinitialise(&mut stage);
    stage.answers[1] = Err(ProbeFailure::Refused);
    stage.answers[2] = Err(ProbeFailure::Refused);
    stage.rounds(30);
    stage.expect(
        PRIMARY,
        State::Fenced,
        "this cluster's is 7; `trunkline adopt`, or a restart of `trunkline health`",
    );
    assert_eq!(stage.judge.adopt(stage.now), Ok(SystemIdentifier(8)));
    stage.expect(PRIMARY, State::Up, "primary");
    // Its standbys come later.
    (stage.answers[1], stage.answers[2]) = (Ok(standby(500, 1)), Ok(standby(500, 1)));
    stage.rounds(3);
    stage.expect(R1, State::Up, "in sync");
}

#[test]
fn servers_of_two_other_clusters_are_not_adopted() {
    let mut stage = Stage::with(|settings| settings.adopt_after = Duration::from_secs(5));
    stage.round();
    reinitialise(&mut stage);
    stage.system[1] = 9;
    stage.rounds(30);
    stage.expect(PRIMARY, State::Fenced, "this cluster's is 7");
    assert_eq!(stage.judge.adopt(stage.now), Err(AdoptionRefusal::Several));
}

/// Three servers of no fixed role, of which R1 was promoted while the primary lives.
fn promoted_beside_the_primary() -> Stage {
    let mut stage = Stage::of([ExpectedRole::Any; 3], |_| {});
    stage.round();
    stage.answers[1] = Ok(primary(1100, 2));
    stage.rounds(3);
    stage
}

#[test]
fn a_server_promoted_beside_the_primary_takes_over_only_when_most_standbys_follow_it() {
    let mut stage = promoted_beside_the_primary();
    stage.expect(PRIMARY, State::Up, "primary");
    stage.expect(R1, State::Fenced, "promoted to timeline 2 beside the primary");
    assert!(stage.judge.snapshot(stage.now).split_brain);
    assert!(stage.judge.snapshot(stage.now).is_fenced_primary(R1), "no write goes there");
    stage.answers[2] = Ok(standby(1100, 2));
    stage.rounds(2);
    stage.expect(R1, State::Up, "primary");
    stage.expect(PRIMARY, State::Fenced, "timeline 1");
    stage.expect(R2, State::Up, "");
}

#[test]
fn a_server_promoted_beside_the_primary_takes_over_when_that_is_gone() {
    let mut stage = promoted_beside_the_primary();
    stage.answers[0] = Err(ProbeFailure::Refused);
    stage.rounds(2);
    stage.expect(R1, State::Up, "primary");
}

#[test]
fn a_mistaken_promotion_does_not_take_over_when_the_primary_restarts() {
    let mut stage = promoted_beside_the_primary();
    // Longer than failover_grace.
    stage.rounds(22);
    stage.answers[0] = Err(ProbeFailure::Refused);
    stage.rounds(4);
    stage.expect(R1, State::Fenced, "split brain");
    stage.answers[0] = Ok(primary(1000, 1));
    stage.rounds(4);
    stage.expect(PRIMARY, State::Up, "primary");
    stage.expect(R2, State::Up, "in sync");
    // A primary that does not come back is another matter.
    stage.answers[0] = Err(ProbeFailure::Refused);
    stage.rounds(24);
    stage.expect(R1, State::Up, "primary");
}

#[test]
fn a_standby_whose_timeline_is_hidden_bears_out_no_promotion() {
    let mut stage = Stage::of([ExpectedRole::Any; 3], |_| {});
    stage.round();
    let hidden = StandbyFacts { receiver: Receiver::Hidden, ..standby_facts(1100, 2) };
    (stage.answers[1], stage.answers[2]) = (Ok(primary(1100, 2)), Ok(RoleFacts::Standby(hidden)));
    stage.rounds(3);
    stage.expect(R1, State::Fenced, "most standbys do not follow it");
    stage.answers[0] = Err(ProbeFailure::Refused);
    stage.rounds(2);
    stage.expect(R1, State::Up, "primary");
}

#[test]
fn a_promotion_without_a_witness_takes_over_at_once() {
    let mut stage = Stage::of([ExpectedRole::Any; 3], |_| {});
    stage.answers[2] = Err(ProbeFailure::Refused);
    stage.rounds(2);
    stage.answers[1] = Ok(primary(1100, 2));
    stage.rounds(2);
    stage.expect(R1, State::Up, "primary");
    stage.expect(PRIMARY, State::Fenced, "timeline 1");
}
