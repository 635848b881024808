//! The contract, bit by bit.

use serde_json::{Map, Value};

use super::*;
use trunkline_topology::State;
use trunkline_topology::testing::{lag_replica1, snapshot};

fn ask(snapshot: &Snapshot, target: &str) -> (u16, String) {
    ask_as(snapshot, "GET", target)
}

fn ask_as(snapshot: &Snapshot, method: &str, target: &str) -> (u16, String) {
    let request = CheckRequest { method, target, accept: None, now: snapshot.taken_at, extras: None };
    let Response { status, body, .. } = respond(snapshot, &request);
    (status, body)
}

#[test]
fn the_old_checkers_words_are_kept() {
    let mut snapshot = snapshot();
    let replica = "200 OK - Host: replica1 (replica), is_sync: True, lag: 0.00s, real_lag: 0s";
    let primary = "200 OK - Host: primary (primary), simple check passed";
    assert_eq!(ask(&snapshot, "/replica1"), (200, format!("{replica}, verdict: up, reason: in sync")));
    assert_eq!(ask(&snapshot, "/primary"), (200, format!("{primary}, verdict: up, reason: primary")));
    assert_eq!(ask(&snapshot, "/"), ask(&snapshot, "/replica1"));
    assert_eq!(ask(&snapshot, "http://checker:8008/replica1"), ask(&snapshot, "/replica1"));
    lag_replica1(&mut snapshot);
    let lagging =
        "503 Service Unavailable - Host: replica1 (replica), is_sync: False, lag: 5.20s, real_lag: 5.20s";
    let (status, body) = ask(&snapshot, "/replica1");
    assert_eq!(status, 503);
    assert!(body.starts_with(lagging), "{body}");
    snapshot.servers[1].state = State::Down;
    snapshot.servers[1].reason = "connection refused".into();
    let down = "503 Service Unavailable - Host: replica1, Error: connection refused, verdict: down";
    assert_eq!(ask(&snapshot, "/replica1"), (503, down.to_owned()));
}

#[test]
fn lagging_may_be_told_as_404_and_down_never() {
    let mut snapshot = snapshot();
    lag_replica1(&mut snapshot);
    assert_eq!(ask(&snapshot, "/replica1?drain=404").0, 404);
    snapshot.servers[1].state = State::Down;
    assert_eq!(ask(&snapshot, "/replica1?drain=404").0, 503);
}

#[test]
fn a_promoted_replica_fails_its_own_path() {
    let mut snapshot = snapshot();
    snapshot.servers[1].role = Role::Primary;
    snapshot.servers[1].lag = None;
    snapshot.primary = Some(ServerId(1));
    assert_eq!(ask(&snapshot, "/replica1").0, 503);
    assert_eq!(ask(&snapshot, "/replica1/primary").0, 200);
    assert_eq!(ask(&snapshot, "/replica1/replica").0, 503);
}

#[test]
fn lag_may_be_asked_for_in_time_and_bytes() {
    let mut snapshot = snapshot();
    lag_replica1(&mut snapshot);
    snapshot.servers[1].state = State::Up;
    for (query, status) in [
        ("lag=6s", 200),
        ("lag=5s", 503),
        ("lag=30MB", 200),
        ("lag=10MB", 503),
        ("lag=x", 400),
        ("lag=6s&guarantee=hi", 200),
    ] {
        assert_eq!(ask(&snapshot, &format!("/replica1?{query}")).0, status, "{query}");
    }
    snapshot.servers[1].lag = None;
    snapshot.servers[1].lag_bytes = None;
    assert_eq!(ask(&snapshot, "/replica1?lag=1h").0, 503, "unknown is not zero");
    assert_eq!(ask(&snapshot, "/replica1?lag=9GB").0, 503, "unknown is not zero");
}

#[test]
fn fleet_paths_speak_for_all_servers() {
    let mut snapshot = snapshot();
    for path in [
        "/replica",
        "/read-only",
        "/read-write",
        "/health",
        "/livez",
        "/readyz",
        "/liveness",
        "/readiness",
        "/cluster",
    ] {
        assert_eq!(ask(&snapshot, path).0, 200, "{path}");
    }
    snapshot.servers[0].state = State::Down;
    assert_eq!(ask(&snapshot, "/read-write").0, 503);
    assert_eq!(ask(&snapshot, "/replica").0, 200);
    for server in &mut snapshot.servers {
        server.state = State::Down;
    }
    for (path, status) in [
        ("/replica", 503),
        ("/read-only", 503),
        ("/health", 503),
        ("/livez", 200),
        ("/healthz", 200),
        ("/readyz", 200),
    ] {
        assert_eq!(ask(&snapshot, path).0, status, "{path}");
    }
}

#[test]
fn stale_verdicts_are_not_told() {
    let snapshot = snapshot();
    let at = |seconds| CheckRequest {
        method: "GET",
        target: "/replica1",
        accept: None,
        now: snapshot.taken_at + Duration::from_secs(seconds),
        extras: None,
    };
    assert_eq!(respond(&snapshot, &at(1)).status, 200);
    assert_eq!(respond(&snapshot, &at(3)).status, 503);
    assert_eq!(respond(&snapshot, &CheckRequest { target: "/livez", ..at(3) }).status, 200);
    assert_eq!(respond(&snapshot, &CheckRequest { target: "/livez", ..at(11) }).status, 503);
}

#[test]
fn only_a_200_says_ok() {
    let mut snapshot = snapshot();
    snapshot.servers[1].state = State::Down;
    snapshot.servers[1].reason = "lost TOKYO, said OK".into();
    for target in ["/replica1", "/replica1?format=json", "/TOKYO", "/replica1?lag=OK", "/replica1/OK"] {
        let (status, body) = ask(&snapshot, target);
        assert!(status != 200 && !body.contains("OK"), "{target}: {status} {body}");
    }
}

#[test]
fn every_request_has_an_answer() {
    let snapshot = snapshot();
    assert_eq!(ask_as(&snapshot, "POST", "/replica1").0, 405);
    assert_eq!(ask_as(&snapshot, "HEAD", "/replica1"), (200, String::new()));
    assert_eq!(ask_as(&snapshot, "OPTIONS", "/replica1").0, 200);
    for target in [
        "",
        "//",
        "?",
        "/nobody",
        "/replica1/x",
        "/replica1/replica/x",
        "*",
        "http://",
        "/%00",
        "/ü?ü=ü&&=",
        "://",
    ] {
        let (status, _) = ask(&snapshot, target);
        assert!([200, 404].contains(&status), "{target}: {status}");
    }
}

#[test]
fn json_has_every_server_and_what_others_add() {
    let snapshot = snapshot();
    let sessions = |n: u64| Map::from_iter([("sessions".to_owned(), Value::from(n))]);
    let extras = Extras { cluster: sessions(7), servers: [(ServerId(1), sessions(3))].into() };
    let request = CheckRequest {
        method: "GET",
        target: "/cluster",
        accept: None,
        now: snapshot.taken_at,
        extras: Some(&extras),
    };
    let response = respond(&snapshot, &request);
    assert_eq!(response.content_type, "application/json");
    let body: Value = serde_json::from_str(&response.body).expect("it is JSON");
    assert_eq!((&body["primary"], &body["sessions"]), (&Value::from("primary"), &Value::from(7)));
    assert_eq!(body["members"][1]["sessions"], 3);
    assert_eq!(body["members"][1]["state"], "UP");
    assert_eq!(body["members"][0]["lag"]["lo"], Value::Null);
    let one = CheckRequest { target: "/replica1", accept: Some("application/json"), ..request };
    let body: Value = serde_json::from_str(&respond(&snapshot, &one).body).expect("it is JSON");
    assert_eq!(body["name"], "replica1");
}

#[test]
fn json_says_whether_an_operator_has_taken_a_server_out() {
    let mut snapshot = snapshot();
    for (state, eligible, planned) in [
        (State::Up, true, false),
        (State::Drain, false, true),
        (State::Maint, false, true),
        (State::Down, false, false),
    ] {
        snapshot.servers[1].state = state;
        let request = CheckRequest {
            method: "GET",
            target: "/cluster",
            accept: None,
            now: snapshot.taken_at,
            extras: None,
        };
        let body: Value = serde_json::from_str(&respond(&snapshot, &request).body).expect("it is JSON");
        let member = &body["members"][1];
        assert_eq!((&member["eligible"], &member["planned"]), (&eligible.into(), &planned.into()), "{state}");
    }
}

#[test]
fn the_agent_weighs_by_lag_and_does_not_flap() {
    let mut snapshot = snapshot();
    let mut agent = Agent::default();
    let mut say = |snapshot: &Snapshot, words: &str| agent.answer(snapshot, words, snapshot.taken_at);
    assert_eq!(say(&snapshot, "replica1\n"), "ready up 100% # in sync\n");
    assert_eq!(say(&snapshot, "nobody"), "ready down # no such server\n");
    let mut at = |millis: u64| {
        let lag = Duration::from_millis(millis);
        snapshot.servers[1].lag = Some(trunkline_topology::Lag { lo: lag, est: lag, hi: Some(lag) });
        say(&snapshot, "replica1")
    };
    assert_eq!(at(500), "ready up 100% # in sync\n");
    assert_eq!(at(700), "ready up 100% # in sync\n", "one step is not told");
    assert_eq!(at(1250), "ready up 60% # in sync\n");
    assert_eq!(at(1400), "ready up 60% # in sync\n");
    assert_eq!(at(2000), "ready up 10% # in sync\n");
    lag_replica1(&mut snapshot);
    assert!(say(&snapshot, "replica1").starts_with("ready up 0% # lagging"));
    snapshot.servers[1].state = State::Down;
    assert!(say(&snapshot, "replica1").starts_with("ready down # "));
}
