//! Clients whose startup packets differ share connections that were logged in without what differs.

use trunkline_session::{ClientThen, SessionState, StartupSettings};

use super::*;

const SET_A: &str = "SELECT pg_catalog.set_config('application_name', 'a', false)";
const SET_B: &str = "SELECT pg_catalog.set_config('application_name', 'b', false)";
const GIVE_A_BACK: &str = ":SET application_name TO 'a'";

fn login() -> Arc<LoginParameters> {
    Arc::new(LoginParameters::new(&[greeting(), status("application_name", "")].concat()))
}

/// A session with this name in its startup packet, whose client was told of it.
fn named(name: &str) -> Talk {
    let told = [greeting(), status("application_name", name)].concat();
    let parameters = Arc::new(LoginParameters::new(&told));
    let settings = SessionSettings { parameters, ..Talk::settings(Mobility::Movable) };
    Talk::of(settings, Instant::now()).starting_with(&[("application_name", name)], &login())
}

impl Talk {
    /// Brings the connection that another session has left to this one's settings, which the server reports.
    #[track_caller]
    fn goes_on_with(&mut self, left: &ConnectionState, reported: &[u8]) -> Vec<String> {
        let wanted = self.session.state();
        assert!(left.fits(&wanted), "it does not fit");
        let alignment = diff(left, &wanted);
        let announce = self.session.differences_on(left, reported);
        assert!(announce.is_empty(), "the client knows {}", printable(&announce));
        let role = self.session.server_role();
        self.session.connection_taken(Arc::from("replica2"), role, announce, left);
        sent(&alignment.messages)
    }

    /// The first connection of a session whose name is `a`.
    fn begins(mut self) -> Self {
        let fresh = ConnectionState::logged_in(false, login());
        assert_eq!(self.goes_on_with(&fresh, &status("application_name", "a")), [SET_A]);
        self
    }

    /// Before these messages the proxy gives the server `a` back, which it confirms.
    #[track_caller]
    fn gets_its_name_back(&mut self, messages: &[Vec<u8>], end: Option<char>) -> &mut Self {
        let step = self.client_step(&messages.concat());
        let ClientThen::Ask(asked) = step.then else { panic!("nothing comes first: {:?}", step.then) };
        assert_eq!(step.forward, 0);
        let sql: Vec<_> = sent(&asked).into_iter().filter(|sql| !sql.starts_with("close")).collect();
        assert!(matches!(sql.as_slice(), [one] if one.ends_with(GIVE_A_BACK)), "{sql:?}");
        self.swallows(&[m('3'), m('1'), m('2'), complete("SET"), m('3'), m('3')]);
        if let Some(status) = end {
            self.swallows(&[ready(status)]);
        }
        self
    }
}

#[test]
fn a_connection_is_brought_to_each_clients_startup_packet() {
    let (mut one, mut other) = (named("a").begins(), named("b"));
    let left = one.ran("select 1", &["SELECT 1"]).checks_in();
    assert_eq!(other.goes_on_with(&left, &status("application_name", "b")), [SET_B], "without a RESET");
    let left = other.checks_in();
    assert!(named("b").checks_out(&left).is_empty(), "of the same packet");
    let mut third = Talk::of(
        SessionSettings { parameters: login(), ..Talk::settings(Mobility::Movable) },
        Instant::now(),
    );
    assert_eq!(third.goes_on_with(&left, &status("application_name", "")), ["RESET ALL"], "who has none");
}

#[test]
fn a_new_client_wants_what_its_packet_asks_for() {
    let packet = StartupSettings::new([("application_name", &b"a"[..])]).expect("one");
    let wanted = SessionState::with_startup(Some(&packet));
    let fresh = ConnectionState::logged_in(false, login());
    assert_eq!(sent(&diff(&fresh, &wanted).messages), [SET_A]);
    let left = named("a").begins().checks_in();
    assert_eq!(left.fingerprint(), wanted.fingerprint());
    assert!(diff(&left, &wanted).is_empty());
    assert!(diff(&fresh, &SessionState::with_startup(None)).is_empty());
}

#[test]
fn reset_is_to_the_startup_packet_on_the_next_connection() {
    for (sql, tag) in [
        ("reset application_name", "RESET"),
        ("set application_name to default", "SET"),
        ("reset all", "RESET"),
        ("discard all", "DISCARD ALL"),
    ] {
        let mut one = named("a").begins();
        one.ran_with("set application_name = 'x'", "SET", &[status("application_name", "x")]);
        one.ran_with(sql, tag, &[status("application_name", "")]);
        let left = one.checks_in();
        assert_eq!(left.fingerprint(), ConnectionState::default().fingerprint(), "{sql}: as it is there");
        one.session.connection_left();
        assert_eq!(one.checks_out(&left), [SET_A], "{sql}");
        assert_eq!(one.checks_in().fingerprint(), named("a").session.state().fingerprint(), "{sql}");
        let mut other = named("b");
        assert_eq!(other.checks_out(&left), [SET_B], "{sql}");
    }
}

#[test]
fn reset_is_to_the_startup_packet_within_a_transaction() {
    let mut one = named("a").begins();
    one.ran_to("begin", &["BEGIN"], 'T').ran_to("reset all", &["RESET"], 'T');
    one.gets_its_name_back(&[query("select 1")], Some('T'));
    one.ran_to("select 1", &["SELECT 1"], 'T').ran_to("commit", &["COMMIT"], 'I');
    assert_eq!(one.checks_in().fingerprint(), named("a").session.state().fingerprint());
}

#[test]
fn what_was_given_back_is_undone_with_its_transaction() {
    let mut one = named("a").begins();
    one.ran_with("set application_name = 'x'", "SET", &[status("application_name", "x")]);
    one.ran_to("begin", &["BEGIN"], 'T').ran_to("reset application_name", &["RESET"], 'T');
    one.gets_its_name_back(&[query("savepoint s")], Some('T'));
    one.ran_to("savepoint s", &["SAVEPOINT"], 'T').ran_to("rollback", &["ROLLBACK"], 'I');
    let own = one.session.state();
    assert!(diff(&one.checks_in(), &own).is_empty(), "it is x again, and wanted");
    one.ran("select 1", &["SELECT 1"]);
    let mut other = named("a");
    assert_eq!(other.checks_out(&one.checks_in()), [SET_A]);
}

#[test]
fn a_savepoint_behind_which_it_was_given_back_undoes_that() {
    let mut one = named("a").begins();
    one.ran_to("begin", &["BEGIN"], 'T');
    one.client(&[query("reset all; savepoint s")]);
    one.server(&[complete("RESET"), complete("SAVEPOINT"), ready('T')]);
    one.gets_its_name_back(&[query("rollback to s")], Some('T'));
    one.ran_to("rollback to s", &["ROLLBACK"], 'T');
    one.gets_its_name_back(&[query("select 1")], Some('T'));
}

#[test]
fn a_series_waits_for_a_reset_in_front_of_it() {
    let mut one = named("a").begins();
    one.client(&[parse("", "reset all"), bind(""), execute()]);
    let rest = [parse("", "select 1"), bind(""), execute(), sync()];
    let step = one.client_step(&rest.concat());
    assert!(matches!(step.then, ClientThen::Ask(_)) && step.forward == 0, "{:?}", step.then);
    one.server(&[m('1'), m('2'), complete("RESET")]).swallows(&[m('3')]);
    one.gets_its_name_back(&rest, None);
    one.client(&rest).server(&[m('1'), m('2'), complete("SELECT 1"), ready('I')]).is_idle();
    assert_eq!(one.checks_in().fingerprint(), named("a").session.state().fingerprint());
}

#[test]
fn a_series_that_fails_takes_back_what_it_was_given() {
    let mut one = named("a").begins();
    one.ran("reset all", &["RESET"]);
    let series = [parse("", "select 1/0"), bind(""), execute(), sync()];
    one.gets_its_name_back(&series, None);
    one.client(&series).server(&[m('1'), m('2'), error(), ready('I')]);
    let left = one.checks_in();
    assert_eq!(left.fingerprint(), ConnectionState::default().fingerprint(), "the server has none");
    assert_eq!(one.checks_out(&left), [SET_A]);
}

#[test]
fn a_session_that_stays_gets_it_back_by_a_request_of_its_own() {
    let mut one = named("a").begins();
    one.ran("listen c", &["LISTEN"]).ran("reset all", &["RESET"]);
    one.gets_its_name_back(&[query("select 1")], Some('I'));
    one.ran("select 1", &["SELECT 1"]).ran("select 2", &["SELECT 1"]).ran("unlisten *", &["UNLISTEN"]);
    assert_eq!(one.checks_in().fingerprint(), named("a").session.state().fingerprint());
}
