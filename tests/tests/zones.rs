//! Sessions stay in the proxy's own zone while that has enough healthy servers.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::io::Write as _;
use std::time::Duration;

use nix::sys::signal::Signal;
use trunkline_cluster::StopMode;
use trunkline_tests::{Auth, Endpoint, Wire, eventually, http_get, own_cluster};

/// A session whose move was broken off some times on a busy machine waits a minute until the next.
const PATIENCE: Duration = Duration::from_secs(150);

fn zoned(zones: [&str; 3]) -> String {
    let table = |(number, zone): (usize, &str)| {
        format!("[[server]]\nname = \"replica{number}\"\naddress = \"127.0.0.1:1\"\nzone = \"{zone}\"\n")
    };
    (1..).zip(zones).map(table).collect()
}

fn crossed(endpoint: &Endpoint, name: &str) -> u64 {
    let text = http_get(endpoint.http(), "/metrics").unwrap().body;
    let begins = format!("trunkline_sessions_crossed_zone_total{{server=\"{name}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&begins)?.parse().ok()).unwrap()
}

#[test]
fn sessions_stay_in_the_proxys_zone_and_cross_by_degrees_when_its_servers_go() {
    let cluster = own_cluster(3);
    let mut zone = tempfile::NamedTempFile::new().unwrap();
    zone.write_all(b"a\n").unwrap();
    let endpoint = Endpoint::over(&cluster)
        .auth(Auth::Verify)
        .toml(&zoned(["a", "a", "b"]))
        .key("runtime.zone_file", &format!("{:?}", zone.path()))
        .key("runtime.zone_spill", "0.8")
        .start();
    let mut sessions: Vec<Wire> = (0..20).map(|_| Wire::login(endpoint.reads())).collect();
    let on = |name: &str| endpoint.sessions_on(name);
    assert_eq!((on("replica1"), on("replica2"), on("replica3")), (10, 10, 0));
    assert_eq!(crossed(&endpoint, "replica3"), 0);

    // Half of the zone's weight is left, of which 0.8 would be enough: 0.5 / 0.8 of the sessions stay.
    cluster.replicas[0].stop(StopMode::Fast).unwrap();
    endpoint.await_health("replica1", false, PATIENCE);
    eventually(PATIENCE, "some have crossed, most have not", || {
        sessions.iter_mut().for_each(|wire| _ = wire.value("SELECT 1"));
        (6..=9).contains(&on("replica3")) && on("replica2") + on("replica3") == 20
    });
    assert!(crossed(&endpoint, "replica3") > 0);
    assert_eq!(crossed(&endpoint, "replica2"), 0);

    cluster.replicas[1].stop(StopMode::Fast).unwrap();
    endpoint.await_health("replica2", false, PATIENCE);
    assert_eq!(sessions[0].value("SELECT 1"), "1");
    eventually(PATIENCE, "all have crossed", || {
        sessions.iter_mut().for_each(|wire| _ = wire.value("SELECT 1"));
        on("replica3") == 20
    });

    cluster.replicas[0].start().unwrap();
    cluster.replicas[1].start().unwrap();
    eventually(PATIENCE, "they are at home again", || {
        sessions.iter_mut().for_each(|wire| _ = wire.value("SELECT 1"));
        on("replica3") == 0 && on("replica1") >= 8 && on("replica2") >= 8
    });
}

#[test]
fn a_reload_moves_the_proxy_to_another_zone() {
    let cluster = own_cluster(3);
    let mut endpoint = Endpoint::over(&cluster)
        .auth(Auth::Verify)
        .toml(&zoned(["a", "b", "b"]))
        .key("runtime.zone", "\"a\"")
        .start();
    let mut sessions: Vec<Wire> = (0..8).map(|_| Wire::login(endpoint.reads())).collect();
    assert_eq!(endpoint.sessions_on("replica1"), 8);
    endpoint.rewrite("runtime.zone", "\"b\"");
    endpoint.signal(Signal::SIGHUP);
    eventually(PATIENCE, "all have moved", || {
        sessions.iter_mut().for_each(|wire| _ = wire.value("SELECT 1"));
        endpoint.sessions_on("replica1") == 0 && endpoint.sessions_on("replica2") == 4
    });
}
