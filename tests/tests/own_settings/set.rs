//! What a session has set.

use trunkline_cluster::Cluster;
use trunkline_codec::write;
use trunkline_tests::{Login, Wire, shared_cluster};

use crate::movers::{Movers, PATIENCE, WHERE};

/// A session straight on a replica, which is what the other must be like.
fn direct(cluster: &Cluster, login: &Login) -> Wire {
    login.connect(cluster.replicas[0].port())
}

/// Runs `steps` in a session that stays and in one that moves then, and has both answer `asks`.
fn same_after_a_move(name: &str, login: &Login, steps: &[&str], asks: &[&str]) {
    let cluster = shared_cluster();
    let movers = Movers::over(cluster, name);
    let (mut stays, mut moves) = (direct(cluster, login), movers.login(login));
    for step in steps {
        for session in [&mut stays, &mut moves] {
            // One of a tiny time-out may need more than one attempt.
            let mut answer = session.query(step);
            while answer.error.as_ref().is_some_and(|error| error.code == "57014") {
                answer = session.query(step);
            }
            assert!(answer.error.is_none(), "{step}: {:?}", answer.error);
        }
    }
    movers.move_it(&mut moves);
    for ask in asks {
        let (expected, got) = (stays.query(ask), moves.query(ask));
        assert_eq!(got.rows, expected.rows, "{ask} after {steps:?}: {:?}", got.error);
    }
    // What an application reads of its driver.
    for name in ["DateStyle", "TimeZone", "IntervalStyle", "client_encoding", "application_name"] {
        assert_eq!(moves.parameters.get(name), stays.parameters.get(name), "{name} after {steps:?}");
    }
}

#[test]
fn settings_that_are_the_sum_of_several_move_as_a_whole() {
    let ask = "SELECT current_setting('DateStyle'), date '2020-02-01'::text, '03/04/2020'::date";
    let login = Login::default();
    let sums: [&[&str]; 4] = [
        &["SET DateStyle = 'SQL'", "SET DateStyle = 'DMY'"],
        &["SET datestyle TO postgres", "BEGIN", "SET LOCAL datestyle TO ymd", "COMMIT"],
        &["SET datestyle TO ymd", "BEGIN", "SET datestyle TO german", "ROLLBACK"],
        &["SET DateStyle = 'German'", "RESET DateStyle", "SET DateStyle = 'YMD'"],
    ];
    for (number, steps) in sums.into_iter().enumerate() {
        same_after_a_move(&format!("sum{number}"), &login, steps, &[ask]);
    }
}

#[test]
fn settings_whose_text_depends_on_others_move_as_values() {
    let steps = [
        "SET intervalstyle = 'sql_standard'",
        "SET TIME ZONE INTERVAL '-1:30' HOUR TO MINUTE",
        "SET intervalstyle = 'postgres'",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        "SET search_path = \"$user\", public",
        "SET application_name = 'it''s me'",
    ];
    let asks = [
        "SELECT timestamptz '2020-01-01 00:00Z'",
        "SHOW timezone",
        "SHOW intervalstyle",
        "SHOW default_transaction_isolation",
        "SHOW default_transaction_read_only",
        "SHOW search_path",
        "SHOW application_name",
    ];
    same_after_a_move("values", &Login::default(), &steps, &asks);
}

/// Sends a Query that is no UTF-8.
fn query_bytes(session: &mut Wire, sql: &[u8]) {
    session.send_with(|out| write::query(out, sql).unwrap());
    let answer = session.read_answer();
    assert!(answer.error.is_none(), "{:?}", answer.error);
}

#[test]
fn a_value_is_read_by_the_encoding_it_was_sent_under() {
    let cluster = shared_cluster();
    let movers = Movers::over(cluster, "encodings");
    let mut session = movers.login(&Login::default());
    assert!(session.query("SET client_encoding = 'LATIN1'").error.is_none());
    query_bytes(&mut session, b"SET app.city = 'Z\xfcrich'");
    assert!(session.query("SET client_encoding = 'UTF8'").error.is_none());
    query_bytes(&mut session, "SET app.lake = 'Zürichsee'".as_bytes());
    movers.move_it(&mut session);
    let answer = session.query("SELECT current_setting('app.city'), current_setting('app.lake')");
    let values = ["Zürich", "Zürichsee"].map(|value| Some(value.to_owned()));
    assert_eq!(answer.rows, [values], "{:?}", answer.error);
    assert_eq!(session.value("SHOW client_encoding"), "UTF8");
    assert!(session.query("RESET client_encoding").error.is_none());
    assert_eq!(
        session.value("SHOW client_encoding"),
        direct(cluster, &Login::default()).value("SHOW client_encoding")
    );
}

#[test]
fn a_session_of_tiny_time_outs_moves_and_keeps_them() {
    let hasty = Login::default().with("options", "-c statement_timeout=1 -c lock_timeout=7");
    let many: Vec<String> = (0..200).map(|n| format!("SET app.a{n} = 'value'")).collect();
    let mut steps: Vec<&str> = many.iter().map(String::as_str).collect();
    let asks = ["SHOW statement_timeout", "SHOW lock_timeout", "SHOW app.a199"];
    same_after_a_move("hasty_login", &hasty, &steps, &asks);
    steps.insert(0, "SET statement_timeout = 1");
    steps.insert(0, "SET idle_in_transaction_session_timeout = 1");
    same_after_a_move("hasty_session", &Login::default(), &steps, &asks);
}

#[test]
fn a_value_that_its_type_changes_is_never_laid_on_as_it_was_sent() {
    let cluster = shared_cluster();
    let movers = Movers::over(cluster, "types");
    for (oid, format, value, home_is_kept) in
        [(1042_u32, 0_u16, "a  ", true), (25, 1, "a  ", false), (0, 1, "x'y", false), (1043, 0, "é", false)]
    {
        let mut session = movers.login(&Login::default());
        let home = session.value(WHERE);
        session.send_with(|out| {
            write::parse(out, b"", b"SELECT set_config('app.tenant', $1, false)", &[oid]).unwrap();
        });
        let mut bind = b"\0\0\0\x01".to_vec();
        bind.extend(format.to_be_bytes());
        bind.extend(1_u16.to_be_bytes());
        bind.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
        bind.extend(value.as_bytes());
        bind.extend([0, 0]);
        let mut message = vec![b'B'];
        message.extend(u32::try_from(bind.len() + 4).unwrap().to_be_bytes());
        message.extend(bind);
        session.send(&message);
        session.send_with(|out| {
            write::execute(out, b"", 0).unwrap();
            write::sync(out);
        });
        let answer = session.read_answer();
        assert!(answer.error.is_none(), "{oid}: {:?}", answer.error);
        let expected = session.value("SHOW app.tenant");
        let name = movers.home(&mut session).name();
        if home_is_kept {
            movers.operator("drain", name);
            movers.endpoint.await_health(name, false, PATIENCE);
            assert_eq!(session.value(WHERE), home, "it is pinned");
            movers.operator("ready", name);
        } else {
            movers.move_it(&mut session);
            assert_ne!(session.value(WHERE), home);
        }
        assert_eq!(session.value("SHOW app.tenant"), expected, "{oid}");
        drop(session);
        movers.endpoint.await_health(name, true, PATIENCE);
    }
}
