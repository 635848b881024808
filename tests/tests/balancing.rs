//! Reads are spread over the replicas, writes go to the primary.

use std::collections::BTreeMap;
use std::time::Duration;

use trunkline_tests::{Auth, Endpoint, Login, Wire, eventually, psql, psql_output, shared_cluster};

fn servers_of(port: u16, sessions: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..sessions {
        *counts.entry(psql(port, "SHOW cluster_name")).or_default() += 1;
    }
    counts
}

#[test]
fn a_hundred_fresh_psql_are_spread_evenly_over_two_replicas() {
    for auth in [Auth::Relay, Auth::Verify] {
        let endpoint = Endpoint::over(shared_cluster()).auth(auth).start();
        let counts = servers_of(endpoint.reads(), 100);
        assert_eq!(counts.values().sum::<usize>(), 100);
        for replica in ["replica1", "replica2"] {
            let count = counts.get(replica).copied().unwrap_or_default();
            assert!((48..=52).contains(&count), "{auth:?}: {counts:?}");
        }
    }
}

#[test]
fn writes_go_to_the_primary_and_reads_never_do_while_a_replica_is_fit() {
    let endpoint = Endpoint::over(shared_cluster()).start();
    assert_eq!(servers_of(endpoint.writes(), 10), BTreeMap::from([("primary".to_owned(), 10)]));
    assert!(!servers_of(endpoint.reads(), 10).contains_key("primary"));
}

#[test]
fn weights_set_the_shares() {
    let weights = "[[server]]\nname = \"replica1\"\naddress = \"127.0.0.1:1\"\nweight = 30\n\
                   [[server]]\nname = \"replica2\"\naddress = \"127.0.0.1:1\"\nweight = 10\n";
    let endpoint = Endpoint::over(shared_cluster()).toml(weights).start();
    let counts = servers_of(endpoint.reads(), 40);
    let count = counts.get("replica1").copied().unwrap_or_default();
    assert!((28..=32).contains(&count), "{counts:?}");
}

#[test]
fn least_outstanding_gives_the_next_session_to_the_server_with_fewest() {
    let listener =
        "[[listener]]\nname = \"reads\"\naddress = \"127.0.0.1:1\"\nbalance = \"least-outstanding\"\n";
    let endpoint = Endpoint::over(shared_cluster()).toml(listener).key("runtime.threads", "1").start();
    let mut held: Vec<Wire> = (0..10).map(|_| Wire::login(endpoint.reads())).collect();
    let names: Vec<String> = held.iter_mut().map(|wire| wire.value("SHOW cluster_name")).collect();
    let of = |name: &str| names.iter().filter(|other| *other == name).count();
    assert_eq!((of("replica1"), of("replica2")), (5, 5), "{names:?}");
    // All sessions of replica1 leave: the next five belong there.
    let mut index = 0;
    held.retain(|_| {
        index += 1;
        names[index - 1] != "replica1"
    });
    let leave = std::time::Duration::from_secs(5);
    trunkline_tests::eventually(leave, "the sessions are gone", || endpoint.sessions_on("replica1") == 0);
    let mut next: Vec<Wire> = (0..5).map(|_| Wire::login(endpoint.reads())).collect();
    for wire in &mut next {
        assert_eq!(wire.value("SHOW cluster_name"), "replica1");
    }
}

#[test]
fn sessions_that_named_their_server_stay_while_others_make_room() {
    let endpoint = Endpoint::over(shared_cluster()).auth(Auth::Verify).key("runtime.threads", "1").start();
    let named = Login::default().with("options", "-c trunkline.server=replica1");
    let mut named: Vec<Wire> = (0..8).map(|_| named.connect(endpoint.reads())).collect();
    let backends = |wires: &mut Vec<Wire>| -> Vec<String> {
        wires.iter_mut().map(|wire| wire.value("SELECT pg_backend_pid()")).collect()
    };
    let before = backends(&mut named);
    let mut free: Vec<Wire> = (0..8).map(|_| Wire::login(endpoint.reads())).collect();
    eventually(Duration::from_secs(30), "all others are on the other replica", || {
        free.iter_mut().all(|wire| wire.value("SHOW cluster_name") == "replica2")
    });
    assert_eq!(backends(&mut named), before);
}

#[test]
fn libpq_finds_the_role_it_asks_for() {
    let endpoint = Endpoint::over(shared_cluster()).start();
    let ask =
        |port, attrs| psql_output(port, &[("PGTARGETSESSIONATTRS", attrs)], "SELECT pg_is_in_recovery()");
    for (port, attrs, recovery) in [
        (endpoint.reads(), "standby", "t\n"),
        (endpoint.reads(), "read-only", "t\n"),
        (endpoint.writes(), "read-write", "f\n"),
        (endpoint.writes(), "primary", "f\n"),
    ] {
        let output = ask(port, attrs);
        assert_eq!(String::from_utf8_lossy(&output.stdout), recovery, "{attrs}: {output:?}");
    }
    assert!(!ask(endpoint.reads(), "primary").status.success());
}

#[test]
fn startup_options_that_look_like_the_proxys_are_refused_with_those_there_are() {
    let endpoint = Endpoint::over(shared_cluster()).start();
    for (login, name) in [
        (Login::default().with("trunkline.target", "replica1"), "trunkline.target"),
        (Login::default().with("options", "-c trunkline.retri=on"), "trunkline.retri"),
    ] {
        let Err(refusal) = login.try_connect(endpoint.reads()) else { panic!("it was accepted") };
        assert_eq!(refusal.code, "42704", "{refusal:?}");
        let said = format!("unrecognized configuration parameter \"{name}\"");
        assert!(refusal.text.contains(&said) && refusal.text.contains("trunkline.retry"), "{refusal:?}");
    }
}
