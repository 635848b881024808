//! What sequences have given on a connection is for the client that took it.

use std::time::Instant;

use super::*;

/// How long a session keeps its connection after an INSERT for sure: half of the second that the docs say.
const STAY: Duration = Duration::from_millis(500);
/// How often a round may take longer.
const ROUNDS_MAX: usize = 20;

/// What a round of INSERTs and of questions for their sequences gives that takes no longer than sessions stay.
#[track_caller]
fn in_time<T>(mut round: impl FnMut() -> T) -> T {
    for _ in 0..ROUNDS_MAX {
        let began = Instant::now();
        let seen = round();
        if began.elapsed() < STAY {
            return seen;
        }
    }
    panic!("each of {ROUNDS_MAX} rounds took longer than {STAY:?}");
}

#[test]
fn sequence_values_are_each_clients_own() {
    let role = role("of_sequences");
    shared_cluster()
        .primary
        .psql("CREATE SEQUENCE pooled; GRANT ALL ON SEQUENCE pooled TO of_sequences")
        .unwrap();
    for threads in THREADS {
        let pool = pool(2, threads);
        let [mut first, mut second] = [(), ()].map(|()| role.connect(pool.writes()));
        // From then on nextval pins.
        assert_eq!(code(&second.query("SELECT lastval()")), "55000");
        let drawn = first.value("SELECT nextval('pooled')");
        assert_eq!(code(&second.query("SELECT currval('pooled')")), "55000");
        assert_eq!(code(&second.query("SELECT lastval()")), "55000");
        let other = second.value("SELECT nextval('pooled')");
        for _ in 0..TURNS {
            assert_eq!(first.value("SELECT currval('pooled')"), drawn);
            assert_eq!(second.value("SELECT lastval()"), other);
        }
    }
}

#[test]
fn what_a_columns_default_took_from_a_sequence_is_each_clients_own() {
    let role = role("of_serial");
    for threads in THREADS {
        let pool = pool(3, threads);
        let [mut first, mut second, mut third] = [(), (), ()].map(|()| role.connect(pool.writes()));
        run(&mut first, "DROP TABLE IF EXISTS serial; CREATE TABLE serial (id serial, whose text)");
        let insert = |whose: &str| format!("INSERT INTO serial (whose) VALUES ('{whose}')");
        let asks = |whose: &str| {
            let last = "SELECT max(id) = (SELECT lastval()) FROM serial WHERE whose = ";
            format!("{last} '{whose}'")
        };
        for _ in 0..=TURNS {
            let answers = in_time(|| {
                run(&mut second, &insert("second"));
                run(&mut third, &insert("third"));
                [third.query(&asks("third")), second.query(&asks("second"))]
            });
            assert_eq!(answers.each_ref().map(Answer::value), ["t", "t"]);
        }
    }
}

#[test]
fn a_client_that_adds_rows_for_long_may_ask_for_its_sequence_once_others_have() {
    let role = role("of_asking");
    let pool = pool(3, 2);
    let [mut first, mut second, mut third] = [(), (), ()].map(|()| role.connect(pool.writes()));
    // A client that makes a table is pinned.
    run(&mut first, "CREATE TABLE asking (id serial, x int)");
    run(&mut first, "DISCARD ALL");
    let insert = "INSERT INTO asking (x) VALUES (1)";
    // More than a session stays for before it is known that some ask.
    for _ in 0..50 {
        run(&mut first, insert);
    }
    let mut last = 50;
    let told = in_time(|| {
        run(&mut second, insert);
        last += 1;
        second.query("SELECT lastval()")
    });
    assert_eq!(told.value(), last.to_string());
    let told = in_time(|| {
        run(&mut first, insert);
        last += 1;
        assert_eq!(third.value("SELECT 'between'"), "between");
        first.query("SELECT lastval()")
    });
    assert_eq!(told.value(), last.to_string());
}

#[test]
fn a_client_that_adds_rows_keeps_nobody_waiting_for_long() {
    let role = role("of_adding");
    for threads in THREADS {
        let pool = pool(1, threads);
        let [mut first, mut second] = [(), ()].map(|()| role.connect(pool.writes()));
        run(&mut first, "DROP TABLE IF EXISTS adding; CREATE TABLE adding (id serial, x int)");
        run(&mut first, "DISCARD ALL");
        for turn in 0..TURNS {
            run(&mut first, "INSERT INTO adding (x) VALUES (1)");
            assert_eq!(second.value("SELECT 'served'"), "served", "{turn}: its client is idle");
        }
        // Nor while it goes on and on.
        for _ in 0..TURNS {
            first.send_query("INSERT INTO adding (x) VALUES (1)");
            second.send_query("SELECT 'served'");
            assert_eq!(first.read_answer().error, None);
            assert_eq!(second.read_answer().value(), "served");
        }
    }
}

#[test]
fn a_client_that_names_nextval_keeps_nobody_waiting_for_long() {
    let role = role("of_drawing");
    let sql = "CREATE SEQUENCE drawing; GRANT ALL ON SEQUENCE drawing TO of_drawing";
    shared_cluster().primary.psql(sql).unwrap();
    for threads in THREADS {
        let pool = pool(1, threads);
        let [mut first, mut second] = [(), ()].map(|()| role.connect(pool.writes()));
        fine(&first.prepare("drawn", "SELECT nextval('drawing')"));
        for turn in 0..TURNS {
            let drawn = match turn % 3 {
                0 => first.query("SELECT nextval('drawing')"),
                1 => first.execute("drawn", &[]),
                _again => first.query("SELECT setval('drawing', 100)"),
            };
            fine(&drawn);
            assert_eq!(second.value("SELECT 'served'"), "served", "{turn}: its client is idle");
        }
        // On the connection of the other, who has drawn last.
        assert_eq!(code(&second.query("SELECT currval('drawing')")), "55000");
        assert_eq!(code(&second.query("SELECT lastval()")), "55000");
    }
}
