//! Aurora: no timelines, one storage, and a writer that every instance names.

use super::*;

const NAMES: [&str; 3] = ["db-a", "db-b", "db-c"];

fn membership(own: &str, writer: &str, instances: &[&str]) -> Option<Arc<Membership>> {
    let instances = instances.iter().map(|&name| name.into()).collect();
    let (own, writer) = (own.into(), Some(writer.into()));
    Some(Arc::new(Membership { own, writer, instances, storage: Storage::Shared }))
}

fn writer(durable: u64) -> Result<RoleFacts, ProbeFailure> {
    Ok(RoleFacts::Primary(PrimaryFacts { flush: Some(Lsn(durable)), insert: None, timeline: None }))
}

fn reader(read: u64) -> Result<RoleFacts, ProbeFailure> {
    Ok(RoleFacts::Standby(StandbyFacts {
        is_paused: None,
        startup: StartupWait::Hidden,
        receiver: Receiver::Present { timeline: None, latest_end: Some(Lsn(read)) },
        ..standby_facts(read, 1)
    }))
}

/// A writer and two readers, of which nobody says which it has to be.
fn cluster() -> Stage {
    let mut stage = Stage::of([ExpectedRole::Any; 3], |_| {});
    stage.system = vec![0; 3];
    stage.answers = vec![writer(1000), reader(1000), reader(1000)];
    all_name(&mut stage, "db-a");
    stage
}

fn all_name(stage: &mut Stage, writer: &str) {
    stage.membership = NAMES.iter().map(|own| membership(own, writer, &NAMES)).collect();
}

#[test]
fn readers_serve_by_their_position_and_lag_by_it() {
    let mut stage = cluster();
    stage.rounds(3);
    stage.expect(PRIMARY, State::Up, "primary");
    stage.expect(R1, State::Up, "in sync");
    stage.answers = vec![writer(5000), reader(1000), reader(5000)];
    stage.rounds(6);
    stage.expect(R1, State::Lagging, "at least");
    stage.expect(R2, State::Up, "in sync");
    // Ahead of a writer's older answer is nothing that shared storage can diverge by.
    stage.answers = vec![writer(5000), reader(5100), reader(5000)];
    stage.rounds(4);
    stage.expect(R1, State::Up, "in sync");
}

#[test]
fn a_failover_is_followed_to_the_new_writer_and_back() {
    let mut stage = cluster();
    stage.rounds(3);
    for (from, to) in [(0, 1), (1, 0)] {
        stage.answers[from] = Err(ProbeFailure::Refused);
        stage.answers[to] = writer(2000);
        all_name(&mut stage, NAMES[to]);
        stage.answers[2] = reader(2000);
        stage.rounds(3);
        let id = |index: usize| [PRIMARY, R1][index];
        stage.expect(id(to), State::Up, "primary");
        stage.expect(R2, State::Up, "in sync");
        assert_eq!(stage.judge.snapshot(stage.now).primary, Some(id(to)));
        stage.answers[from] = reader(2000);
        stage.rounds(4);
        stage.expect(id(from), State::Up, "in sync");
        assert!(!stage.judge.snapshot(stage.now).split_brain);
    }
}

#[test]
fn the_old_writer_that_still_believes_in_itself_is_fenced_by_what_the_others_say() {
    let mut stage = cluster();
    stage.rounds(3);
    stage.answers[1] = writer(2000);
    stage.answers[2] = reader(2000);
    all_name(&mut stage, "db-b");
    stage.membership[0] = membership("db-a", "db-a", &NAMES);
    stage.round();
    stage.expect(R1, State::Fenced, "the cluster's writer is db-a");
    stage.rounds(2);
    assert_eq!(stage.judge.snapshot(stage.now).primary, Some(PRIMARY), "one against one");
    // Nothing is decided by one witness while the other two disagree; by the old writer's own word it is.
    stage.membership[0] = membership("db-a", "db-b", &NAMES);
    stage.rounds(2);
    stage.expect(R1, State::Up, "primary");
    stage.expect(PRIMARY, State::Fenced, "the cluster's writer is db-b");
    assert!(stage.judge.snapshot(stage.now).is_fenced_primary(PRIMARY));
}

#[test]
fn an_instance_of_another_cluster_is_fenced() {
    let mut stage = cluster();
    stage.membership[1] = membership("db-x", "db-y", &["db-x", "db-y"]);
    stage.rounds(3);
    stage.expect(R1, State::Fenced, "belongs to another cluster");
    stage.expect(R2, State::Up, "in sync");
    // One that has just come knows itself alone, and is known.
    stage.membership[1] = membership("db-b", "db-b", &["db-b"]);
    stage.rounds(2);
    stage.expect(R1, State::Up, "in sync");
}

#[test]
fn a_discovered_instance_that_knows_no_writer_takes_no_part_until_somebody_knows_it() {
    let mut stage = cluster();
    // A copy of the storage has the same system identifier.
    stage.system = vec![7; 3];
    let mut specs: Vec<ServerSpec> = stage.judge.servers.iter().map(|server| server.spec.clone()).collect();
    specs[2].origin = trunkline_topology::Origin::Discovered("aurora".into());
    stage.judge = Judge::new(stage.judge.settings().clone(), specs, stage.now);
    let lone = Membership {
        own: "db-x".into(),
        writer: None,
        instances: vec!["db-x".into()],
        storage: Storage::Shared,
    };
    stage.membership[2] = Some(Arc::new(lone.clone()));
    stage.rounds(3);
    stage.expect(PRIMARY, State::Up, "primary");
    stage.expect(R2, State::Unknown, "");
    // The writer knows it, though it knows no writer yet.
    stage.membership[0] = membership("db-a", "db-a", &["db-a", "db-b", "db-x"]);
    stage.rounds(2);
    stage.expect(R2, State::Up, "in sync");
    // In the middle of a failover an answer may be empty.
    stage.membership[0] =
        Some(Arc::new(Membership { own: "db-a".into(), writer: None, instances: Vec::new(), ..lone }));
    stage.rounds(2);
    stage.expect(R2, State::Up, "in sync");
}
