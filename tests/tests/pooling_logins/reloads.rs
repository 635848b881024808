//! What a server's configuration says, read again while clients are connected.

use std::time::Duration;

use trunkline_tests::{Endpoint, PoolRole, eventually, own_cluster};

use super::{PATIENCE, fine};

const ZONE: &str = "SHOW timezone";
/// The proxy reads what the server says each second.
const BETWEEN: Duration = Duration::from_millis(200);

#[test]
fn a_reported_setting_of_the_server_reaches_who_was_told_another_before() {
    let cluster = own_cluster(0);
    let primary = &cluster.primary;
    primary.set("TimeZone", "Etc/UTC").unwrap();
    let role = PoolRole::create(&cluster, "of_zones");
    let endpoint = Endpoint::over(&cluster).pooling(2).start();
    let mut first = role.connect(endpoint.writes());
    eventually(PATIENCE, "it is in force", || first.value(ZONE) == "Etc/UTC");
    // One connection serves them all. None has asked since when the other one is opened for it.
    let mut others: Vec<_> = (0..40).map(|_| role.connect(endpoint.writes())).collect();
    others.iter_mut().for_each(|other| fine(other, "SELECT 1"));
    primary.set("TimeZone", "Asia/Tokyo").unwrap();
    eventually(PATIENCE, "the server has read it", || first.value(ZONE) == "Asia/Tokyo");
    fine(&mut first, "BEGIN");
    let kept = first.value("SELECT pg_backend_pid()");
    let end = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'of_zones' AND pid <> {kept}"
    );
    let mut seen = Vec::new();
    let is_new = |seen: &Vec<String>| seen.last().is_some_and(|zone| zone == "Asia/Tokyo");
    while !is_new(&seen) && others.len() > 5 {
        primary.psql(&end).unwrap();
        std::thread::sleep(BETWEEN);
        seen.extend(others.pop().map(|mut other| other.value(ZONE)));
    }
    assert!(is_new(&seen), "{seen:?}");
    // Whoever gets that connection has it, too.
    for mut other in others.into_iter().take(5) {
        assert_eq!(other.value(ZONE), "Asia/Tokyo");
    }
    assert_eq!(role.connect(endpoint.writes()).value(ZONE), "Asia/Tokyo");
    fine(&mut first, "COMMIT");
}
