//! What a session logged in with, whatever new logins are given by now.

use trunkline_cluster::{Cluster, Server};
use trunkline_tests::{Login, Wire, eventually, own_cluster, shared_cluster};

use crate::movers::{Movers, PATIENCE};

/// A role of the test's own, with what is set for it.
fn role(cluster: &Cluster, name: &str, settings: &[&str]) -> Login {
    run(cluster, &format!("CREATE ROLE {name} LOGIN PASSWORD 'kept'"));
    settings.iter().for_each(|setting| run(cluster, &format!("ALTER ROLE {name} {setting}")));
    Login::of(name, "kept")
}

/// Runs SQL on the primary and waits until the replicas have it.
fn run(cluster: &Cluster, sql: &str) {
    cluster.primary.psql(sql).unwrap();
    cluster.wait_caught_up().unwrap();
}

/// The answers to `asks`, one text each.
fn answers(session: &mut Wire, asks: &[&str]) -> Vec<String> {
    let answer = |ask: &&str| {
        let answer = session.query(ask);
        format!("{ask}: {:?} {:?}", answer.rows, answer.error.map(|error| error.code))
    };
    asks.iter().map(answer).collect()
}

/// A session straight on a server, to which nothing may happen, and one that moves once `change` was made: both
/// answer the same, before and after they give up what they have set.
fn stays_its_own(cluster: &Cluster, name: &str, login: &Login, change: impl FnOnce(), asks: &[&str]) {
    let movers = Movers::over(cluster, name);
    movers.await_looks();
    let mut moves = movers.login(login);
    let home = movers.home(&mut moves);
    let mut stays = login.connect(home.port());
    let before = answers(&mut stays, asks);
    assert_eq!(answers(&mut moves, asks), before);
    change();
    movers.await_looks();
    movers.move_it(&mut moves);
    let log = movers.endpoint.log();
    assert_eq!(answers(&mut moves, asks), before, "{log}");
    for again in ["RESET ALL", "DISCARD ALL"] {
        assert!(moves.query("SET work_mem = '77MB'").error.is_none());
        assert!(moves.query(again).error.is_none());
        assert_eq!(answers(&mut moves, asks), before, "after {again}");
    }
    movers.move_it(&mut moves);
    assert_eq!(answers(&mut moves, asks), before, "after a second move");
}

#[test]
fn what_alter_role_and_alter_database_change_is_for_new_sessions() {
    let cluster = shared_cluster();
    run(cluster, "CREATE SCHEMA v1; CREATE SCHEMA v2; CREATE ROLE reader; CREATE ROLE writer");
    let login = role(
        cluster,
        "svc",
        &["SET search_path = v1", "SET app.tenant = 'a'", "IN DATABASE appdb SET lock_timeout = '5s'"],
    );
    run(cluster, "GRANT reader, writer TO svc; ALTER ROLE svc SET role = reader");
    let change = || {
        for sql in [
            "ALTER ROLE svc SET search_path = v2",
            "ALTER ROLE svc SET app.tenant = 'b'",
            "ALTER ROLE svc SET app.other = 'x'",
            "ALTER ROLE svc SET role = writer",
            "ALTER ROLE svc SET statement_timeout = '1s'",
            "ALTER ROLE svc SET DateStyle = 'SQL, DMY'",
            "ALTER ROLE svc SET TimeZone = 'Asia/Tokyo'",
            "ALTER DATABASE appdb SET work_mem = '9MB'",
            "ALTER ROLE svc IN DATABASE appdb SET lock_timeout = '7s'",
            "ALTER ROLE ALL SET bytea_output = 'escape'",
        ] {
            run(cluster, sql);
        }
    };
    let asks = [
        "SHOW search_path",
        "SHOW app.tenant",
        "SELECT coalesce(current_setting('app.other', true), '')",
        "SELECT current_user, session_user",
        "SHOW DateStyle",
        "SHOW TimeZone",
        "SHOW work_mem",
        "SHOW lock_timeout",
        "SHOW statement_timeout",
        "SHOW bytea_output",
    ];
    stays_its_own(cluster, "altered", &login, change, &asks);
    run(cluster, "ALTER DATABASE appdb RESET ALL; ALTER ROLE ALL RESET ALL");
}

#[test]
fn a_change_just_before_or_behind_a_login_is_not_taken_for_what_it_gave() {
    let cluster = shared_cluster();
    let login = role(cluster, "racing", &["SET statement_timeout = '90s'"]);
    let movers = Movers::over(cluster, "raced");
    movers.await_looks();
    for round in 0..6 {
        let [before, behind] = [2 * round, 2 * round + 1];
        run(cluster, &format!("ALTER ROLE racing SET statement_timeout = '{}s'", 10 + before));
        let mut session = movers.login(&login);
        run(cluster, &format!("ALTER ROLE racing SET statement_timeout = '{}s'", 10 + behind));
        movers.move_it(&mut session);
        assert_eq!(session.value("SHOW statement_timeout"), format!("{}s", 10 + before));
        run(cluster, "ALTER ROLE racing SET search_path = elsewhere");
        movers.move_it(&mut session);
        assert_eq!(session.value("SHOW search_path"), "\"$user\", public", "{}", movers.endpoint.log());
        run(cluster, "ALTER ROLE racing RESET search_path");
    }
    run(cluster, "ALTER ROLE racing RESET ALL");
}

#[test]
fn a_server_that_refuses_one_setting_has_the_others() {
    let cluster = shared_cluster();
    run(cluster, "CREATE ROLE clerk");
    let login = role(cluster, "moody", &["SET lock_timeout = '5s'", "SET role = clerk"]);
    run(cluster, "GRANT clerk TO moody");
    let movers = Movers::over(cluster, "moody");
    movers.await_looks();
    let mut session = movers.login(&login);
    assert_eq!(session.value("SELECT current_user"), "clerk");
    run(cluster, "ALTER ROLE moody RESET ALL; REVOKE clerk FROM moody");
    movers.move_it(&mut session);
    let log = movers.endpoint.log();
    assert_eq!(session.value("SHOW lock_timeout"), "5s", "{log}");
    assert!(log.contains("server refuses default settings of a moved session"), "{log}");
}

fn with_other_configuration(server: &Server) {
    for (name, value) in [
        ("work_mem", "9MB"),
        ("TimeZone", "Asia/Tokyo"),
        ("search_path", "elsewhere"),
        ("extra_float_digits", "-3"),
        ("IntervalStyle", "iso_8601"),
    ] {
        server.set(name, value).unwrap();
    }
}

#[test]
fn another_servers_configuration_is_not_the_sessions() {
    let cluster = own_cluster(2);
    let asks =
        ["SHOW work_mem", "SHOW TimeZone", "SHOW search_path", "SELECT 1::float8 / 3", "SHOW IntervalStyle"];
    // One replica or the other: wherever the session begins.
    with_other_configuration(&cluster.replicas[1]);
    eventually(PATIENCE, "the configuration is loaded", || {
        cluster.replicas[1].psql("SHOW work_mem").is_ok_and(|shown| shown == "9MB")
    });
    stays_its_own(&cluster, "configured", &Login::default(), || {}, &asks);
}

#[test]
fn what_the_client_asks_for_itself_is_its_own_wherever_it_is() {
    let cluster = shared_cluster();
    let login = role(cluster, "asking", &["SET search_path = v1"])
        .with("search_path", "mine")
        .with("options", "-c work_mem=7MB");
    let change =
        || run(cluster, "ALTER ROLE asking SET search_path = v2; ALTER ROLE asking SET work_mem = '1MB'");
    stays_its_own(cluster, "asked", &login, change, &["SHOW search_path", "SHOW work_mem"]);
}

#[test]
fn a_server_that_cannot_be_looked_at_takes_sessions_all_the_same() {
    let cluster = own_cluster(2);
    let login = role(&cluster, "svc", &["SET TimeZone = 'Asia/Tokyo'"]);
    run(&cluster, "REVOKE SELECT ON pg_db_role_setting FROM PUBLIC");
    let movers = Movers::over(&cluster, "blind");
    let complaints = || movers.endpoint.log().matches("could not read the server's default settings").count();
    eventually(PATIENCE, "there is a line for each server", || complaints() == 3);
    let mut session = movers.login(&login);
    run(&cluster, "ALTER ROLE svc SET TimeZone = 'UTC'");
    movers.move_it(&mut session);
    assert_eq!(session.value("SHOW TimeZone"), "Asia/Tokyo", "the greeting tells");
    assert_eq!(complaints(), 3, "{}", movers.endpoint.log());
}
