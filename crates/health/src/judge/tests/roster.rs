//! Servers that come and go.

use super::*;
use trunkline_topology::Origin;

fn spec(name: &str, host: &str) -> ServerSpec {
    ServerSpec {
        name: name.to_owned(),
        host: host.to_owned(),
        port: 5432,
        weight: 100,
        ..ServerSpec::default()
    }
}

fn three() -> Vec<ServerSpec> {
    vec![spec("pg1", "h1"), spec("pg2", "h2"), spec("pg3", "h3")]
}

/// A judge of three servers that have answered as a primary and two standbys.
struct Roster {
    judge: Judge,
    now: Instant,
}

impl Roster {
    fn new() -> Self {
        let now = Instant::now() + Duration::from_secs(3600);
        let mut roster = Roster { judge: Judge::new(JudgeSettings::new(MAX_LAG, TICK), three(), now), now };
        roster.round(&[(0, true), (1, false), (2, false)]);
        roster.round(&[(0, true), (1, false), (2, false)]);
        roster
    }

    /// Each of these answers, by slot, as the primary or a standby.
    fn round(&mut self, slots: &[(u16, bool)]) {
        for &(slot, is_primary) in slots {
            let id = self.judge.servers.iter().find(|server| server.id.slot() == slot).expect("there").id;
            let role = if is_primary { primary(1000, 1) } else { standby(1000, 1) };
            self.answer(id, role);
        }
        self.now += TICK;
        self.judge.tick(self.now);
    }

    fn answer(&mut self, id: ServerId, role: RoleFacts) {
        self.answer_as(id, role, Some(7), None);
    }

    /// The same by a server of this cluster, started then.
    fn answer_as(&mut self, id: ServerId, role: RoleFacts, system: Option<u64>, started_us: Option<i64>) {
        let facts = Facts {
            role,
            system_identifier: system.map(SystemIdentifier),
            clock_us: 0,
            started_us,
            version: None,
            membership: None,
            refused: Vec::new(),
        };
        let finding = Finding::Answered(Box::new(facts));
        let at = self.now;
        self.judge.observe(id, Observation { sent_at: at, received_at: at, address: None, finding }, at);
    }

    fn states(&self) -> Vec<(String, State)> {
        let snapshot = self.judge.snapshot(self.now);
        snapshot.servers.iter().map(|server| (server.name.to_string(), server.state)).collect()
    }

    fn set(&mut self, wanted: Vec<ServerSpec>) -> RosterChange {
        self.judge.set_servers(wanted, self.now)
    }
}

#[test]
fn a_server_that_is_not_wanted_drains_and_is_forgotten() {
    let mut roster = Roster::new();
    let before = roster.judge.generation();
    let change = roster.set(vec![spec("pg1", "h1"), spec("pg2", "h2")]);
    assert_eq!(change.leaving, [(ServerId(2), Arc::from("pg3"))]);
    assert!(roster.judge.generation() > before);
    let status = roster.judge.snapshot(roster.now).server(ServerId(2)).cloned().expect("still there");
    assert!(status.is_leaving && status.state == State::Drain, "{status:?}");
    assert!(!roster.judge.forget(ServerId(1), roster.now), "it stays");
    assert!(roster.judge.forget(ServerId(2), roster.now));
    assert_eq!(roster.judge.snapshot(roster.now).server(ServerId(2)).map(|server| server.id), None);
    assert_eq!(roster.states(), [("pg1".to_owned(), State::Up), ("pg2".to_owned(), State::Up)]);
    assert!(!roster.judge.forget(ServerId(2), roster.now), "once");
}

#[test]
fn one_that_comes_serves_only_after_its_checks() {
    let mut roster = Roster::new();
    let mut wanted = three();
    wanted.push(ServerSpec { origin: Origin::Added, ..spec("pg4", "h4") });
    let change = roster.set(wanted);
    let [(id, _)] = change.came.as_slice() else { panic!("{change:?}") };
    assert_eq!(*id, ServerId(3));
    assert_eq!(roster.states()[3], ("pg4".to_owned(), State::Unknown));
    roster.round(&[(0, true), (3, false)]);
    roster.round(&[(0, true), (3, false)]);
    assert_eq!(roster.states()[3], ("pg4".to_owned(), State::Up));
}

#[test]
fn one_that_returns_in_time_is_the_same() {
    let mut roster = Roster::new();
    roster.set(three()[..2].to_vec());
    let change = roster.set(three());
    assert_eq!((change.came.len(), change.stayed.len()), (0, 1));
    assert_eq!(roster.states()[2], ("pg3".to_owned(), State::Up));
}

#[test]
fn a_name_at_another_place_is_another_server_and_a_place_with_another_name_the_same() {
    let mut roster = Roster::new();
    let change = roster.set(vec![spec("pg1", "h1"), spec("two", "h2"), spec("pg3", "h9")]);
    assert_eq!(change.came.len(), 1);
    assert_eq!(change.leaving, [(ServerId(2), Arc::from("pg3@h3:5432"))], "labels in metrics are unique");
    let names: Vec<String> = roster.states().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["pg1", "two", "pg3@h3:5432", "pg3"]);
    assert_eq!(roster.states()[1].1, State::Up, "renamed and no more");
}

#[test]
fn a_slot_rests_before_another_server_has_it() {
    let mut roster = Roster::new();
    let two = three()[..2].to_vec();
    let with = |name: &str, host: &str| [two.clone(), vec![spec(name, host)]].concat();
    roster.set(two.clone());
    assert!(roster.judge.forget(ServerId(2), roster.now));
    let next = roster.set(with("pg4", "h4")).came[0].0;
    assert_eq!(next, ServerId(3), "slot 2 rests");
    roster.set(two.clone());
    roster.judge.forget(next, roster.now);
    roster.now += Duration::from_secs(10);
    let next = roster.set(with("pg5", "h5")).came[0].0;
    assert_eq!((next.slot(), next.generation()), (2, 1));
    // What was asked of its predecessor says nothing of it.
    roster.answer(ServerId(2), standby(1000, 1));
    assert_eq!(roster.states()[2], ("pg5".to_owned(), State::Unknown));
}

#[test]
fn slots_are_bounded_and_those_that_leave_count() {
    let mut roster = Roster::new();
    let many = |from: usize, count: usize| -> Vec<ServerSpec> {
        (from..from + count).map(|number| spec(&format!("m{number}"), &format!("m{number}"))).collect()
    };
    let change = roster.set(many(0, SERVERS_MAX));
    assert_eq!(change.refused.len(), 3, "three are leaving");
    let change = roster.set(many(SERVERS_MAX, 5));
    assert_eq!((change.came.len(), change.refused.len()), (0, 5));
    let all: Vec<ServerId> = roster.judge.servers.iter().map(|server| server.id).collect();
    assert_eq!(all.len(), SERVERS_MAX);
    for id in all {
        assert!(roster.judge.forget(id, roster.now));
    }
    roster.now += Duration::from_secs(10);
    assert_eq!(roster.set(many(SERVERS_MAX, 5)).came.len(), 5);
    assert!(roster.judge.servers.iter().all(|server| server.id.index() < SERVERS_MAX));
}

#[test]
fn a_primary_that_leaves_and_is_forgotten_makes_room_for_the_next() {
    let mut roster = Roster::new();
    roster.set(three()[1..].to_vec());
    assert_eq!(roster.states()[0], ("pg1".to_owned(), State::Drain));
    assert!(roster.judge.forget(ServerId(0), roster.now));
    assert_eq!(roster.judge.snapshot(roster.now).primary, None);
    roster.answer(ServerId(1), primary(1000, 2));
    roster.round(&[(2, false)]);
    assert_eq!(roster.judge.snapshot(roster.now).primary, Some(ServerId(1)));
}

#[test]
fn what_an_operator_set_outlives_another_set_and_not_a_reload() {
    let mut roster = Roster::new();
    roster.judge.set_admin(ServerId(1), AdminState::Drain, roster.now);
    roster.set(three());
    assert_eq!(roster.states()[1].1, State::Drain);
    roster.judge.reload(JudgeSettings::new(MAX_LAG, TICK), roster.now);
    assert_eq!(roster.states()[1].1, State::Up);
}

#[test]
fn without_servers_nothing_is_chosen_and_the_first_to_come_are_all_looked_at() {
    let now = Instant::now() + Duration::from_secs(3600);
    let mut roster = Roster { judge: Judge::new(JudgeSettings::new(MAX_LAG, TICK), Vec::new(), now), now };
    roster.round(&[]);
    assert!(!roster.judge.snapshot(roster.now).is_ready);
    roster.set(three());
    roster.answer(ServerId(0), primary(1000, 1));
    assert!(!roster.judge.snapshot(roster.now).is_ready, "the others may show a newer timeline");
    roster.answer(ServerId(1), primary(1000, 2));
    roster.answer(ServerId(2), standby(1000, 2));
    assert_eq!(roster.judge.snapshot(roster.now).primary, Some(ServerId(1)));
}

fn discovered(name: &str, host: &str) -> ServerSpec {
    ServerSpec { origin: Origin::Discovered(Arc::from("source")), ..spec(name, host) }
}

fn empty() -> Roster {
    let now = Instant::now() + Duration::from_secs(3600);
    Roster { judge: Judge::new(JudgeSettings::new(MAX_LAG, TICK), Vec::new(), now), now }
}

#[test]
fn a_discovered_standby_that_hides_its_cluster_takes_no_part() {
    let mut roster = Roster::new();
    roster.set([three(), vec![discovered("stranger", "h9")]].concat());
    let stranger = ServerId(3);
    roster.answer_as(stranger, standby(1_000_000, 9), None, None);
    roster.now += Duration::from_secs(5);
    let lost = Finding::ConnectFailed(ProbeFailure::Refused);
    let (sent_at, received_at) = (roster.now, roster.now);
    let observation = Observation { sent_at, received_at, address: None, finding: lost };
    roster.judge.observe(ServerId(0), observation, roster.now);
    for _round in 0..10 {
        roster.answer_as(stranger, standby(1_000_000, 9), None, None);
        roster.round(&[(1, false), (2, false)]);
    }
    let states = roster.states();
    assert!(states[1..3].iter().all(|(_, state)| *state == State::Up), "{states:?}");
    assert_ne!(states[3].1, State::Up);
}

#[test]
fn what_an_operator_has_named_begins_before_what_was_only_discovered() {
    let mut roster = empty();
    roster.set([three(), vec![discovered("stranger", "h9")]].concat());
    roster.answer_as(ServerId(3), primary(1000, 7), Some(9), None);
    roster.answer(ServerId(0), primary(1000, 2));
    roster.answer(ServerId(1), standby(1000, 2));
    roster.answer(ServerId(2), standby(1000, 2));
    assert_eq!(roster.judge.snapshot(roster.now).primary, Some(ServerId(0)));
    assert_eq!(roster.states()[3].1, State::Fenced);
}

#[test]
fn without_a_primary_the_standbys_that_are_named_say_which_cluster_it_is() {
    let mut roster = empty();
    roster.set(vec![discovered("stranger", "h9"), spec("pg2", "h2"), spec("pg3", "h3")]);
    roster.answer_as(ServerId(0), standby(1000, 7), Some(9), None);
    roster.answer(ServerId(1), standby(1000, 2));
    roster.answer(ServerId(2), standby(1000, 2));
    roster.now += TICK;
    roster.judge.tick(roster.now);
    let states = roster.states();
    assert_eq!(states[0].1, State::Fenced, "{states:?}");
    assert!(states[1..].iter().all(|(_, state)| *state != State::Down), "{states:?}");
}

#[test]
fn where_all_are_discovered_most_of_them_are_the_cluster() {
    let mut roster = empty();
    let all = [("stranger", "h9"), ("pg1", "h1"), ("pg2", "h2")];
    roster.set(all.map(|(name, host)| discovered(name, host)).to_vec());
    roster.answer_as(ServerId(0), primary(1000, 7), Some(9), None);
    roster.answer(ServerId(1), primary(1000, 2));
    roster.answer(ServerId(2), standby(1000, 2));
    assert_eq!(roster.judge.snapshot(roster.now).primary, Some(ServerId(1)));
    assert_eq!(roster.states()[0].1, State::Fenced);
}

#[test]
fn discovered_servers_of_another_cluster_are_not_adopted_in_the_place_of_named_ones() {
    let mut roster = Roster::new();
    let strangers = ["a", "b", "c", "d", "e"].map(|name| discovered(name, name));
    roster.set([three(), strangers.to_vec()].concat());
    for _second in 0..120 {
        for slot in 0..3 {
            let lost = Finding::ConnectFailed(ProbeFailure::Refused);
            let at = roster.now;
            let observation = Observation { sent_at: at, received_at: at, address: None, finding: lost };
            roster.judge.observe(ServerId(slot), observation, at);
        }
        roster.answer_as(ServerId(3), primary(1000, 1), Some(9), None);
        (4..8).for_each(|slot| roster.answer_as(ServerId(slot), standby(1000, 1), Some(9), None));
        roster.now += Duration::from_secs(1);
        roster.judge.tick(roster.now);
    }
    let states = roster.states();
    assert!(states[3..].iter().all(|(_, state)| *state == State::Fenced), "{states:?}");
}

#[test]
fn a_primary_whose_address_changes_is_no_second_one() {
    let mut roster = Roster::new();
    roster.answer_as(ServerId(0), primary(1000, 1), Some(7), Some(42));
    roster.set(vec![spec("pg1", "h7"), spec("pg2", "h2"), spec("pg3", "h3")]);
    for _round in 0..3 {
        roster.answer_as(ServerId(3), primary(1000, 1), Some(7), Some(42));
        roster.answer_as(ServerId(0), primary(1000, 1), Some(7), Some(42));
        roster.round(&[(1, false), (2, false)]);
        let snapshot = roster.judge.snapshot(roster.now);
        assert_eq!((snapshot.primary, snapshot.split_brain), (Some(ServerId(3)), false));
        assert_eq!(roster.states()[0].1, State::Drain, "its sessions go on until they can leave");
        assert_eq!(roster.states()[3].1, State::Up);
    }
    assert!(roster.judge.forget(ServerId(0), roster.now));
    // Two names of one server that both stay: one is the primary, and nobody is fenced.
    roster.set(vec![
        spec("pg1", "h7"),
        discovered("10.0.0.7", "10.0.0.7"),
        spec("pg2", "h2"),
        spec("pg3", "h3"),
    ]);
    for _round in 0..3 {
        roster.answer_as(ServerId(4), primary(1000, 1), Some(7), Some(42));
        roster.answer_as(ServerId(3), primary(1000, 1), Some(7), Some(42));
        roster.round(&[(1, false), (2, false)]);
        let snapshot = roster.judge.snapshot(roster.now);
        assert_eq!((snapshot.primary, snapshot.split_brain), (Some(ServerId(3)), false));
    }
}

#[test]
fn discovered_servers_that_never_answer_hold_up_no_election_for_ever() {
    let mut roster = empty();
    roster.set([three(), vec![discovered("silent", "h9")]].concat());
    let answers =
        [(ServerId(0), primary(1000, 1)), (ServerId(1), standby(1000, 1)), (ServerId(2), standby(1000, 1))];
    for (id, role) in answers {
        roster.answer(id, role);
    }
    assert!(!roster.judge.snapshot(roster.now).is_ready, "it may be the newest primary");
    let settings = roster.judge.settings();
    roster.now += settings.connect_timeout * (settings.fall + 1);
    roster.set([three(), vec![discovered("silent", "h9"), discovered("later", "h10")]].concat());
    assert_eq!(roster.judge.snapshot(roster.now).primary, Some(ServerId(0)), "nor those that come meanwhile");
}

#[test]
fn a_named_server_is_looked_at_before_the_election_however_long_that_takes() {
    let mut roster = empty();
    roster.set([vec![spec("pg1", "h1")], vec![discovered("pg2", "h2")]].concat());
    roster.answer(ServerId(1), primary(1000, 1));
    roster.now += Duration::from_secs(3600);
    roster.judge.tick(roster.now);
    assert!(!roster.judge.snapshot(roster.now).is_ready);
    roster.answer(ServerId(0), standby(1000, 1));
    assert!(roster.judge.snapshot(roster.now).is_ready);
}
