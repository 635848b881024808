//! Idle connections make room at a server's own limit.

use trunkline_tests::{eventually, shared_cluster};

use super::{PATIENCE, closed_for, fine, pool, primary, role};

#[test]
fn idle_connections_make_room_at_the_limit_of_a_role() {
    let role = role("of_room");
    let endpoint = pool(5).key("auth.cache_ttl", "\"1h\"").start();
    // A connection with another packet cannot serve it.
    let mut other = role.login().with("search_path", "pg_catalog").connect(endpoint.writes());
    fine(&mut other, "SELECT 1");
    eventually(PATIENCE, "it is idle", || endpoint.pooled("sv_active", role) == 0);
    primary().psql("ALTER ROLE of_room CONNECTION LIMIT 1").unwrap();
    let mut client = role.connect(endpoint.writes());
    assert_eq!(client.value("SELECT 'served'"), "served");
    assert_eq!(other.value("SELECT 'served, too'"), "served, too");
    assert!(closed_for(&endpoint, "evicted") >= 2);
    primary().psql("ALTER ROLE of_room CONNECTION LIMIT -1").unwrap();
}

#[test]
fn a_client_goes_to_another_server_before_an_idle_connection_is_closed_for_it() {
    let endpoint = pool(5).start();
    let turns = role("of_turns");
    for (round, name) in ["of_two_1", "of_two_2", "of_two_3", "of_two_4"].into_iter().enumerate() {
        let role = role(name);
        primary().psql(&format!("ALTER ROLE {name} CONNECTION LIMIT 1")).unwrap();
        shared_cluster().wait_caught_up().unwrap();
        // A connection with another packet cannot serve it.
        let mut other = role.login().with("search_path", "pg_catalog").connect(endpoint.reads());
        fine(&mut other, "SELECT 1");
        eventually(PATIENCE, "it is idle", || endpoint.pooled("sv_active", role) == 0);
        // The servers take turns: in every other round it is the full one's.
        let _another = (round % 2 == 1).then(|| turns.connect(endpoint.reads()));
        assert_eq!(role.connect(endpoint.reads()).value("SELECT 'served'"), "served");
    }
    assert_eq!(closed_for(&endpoint, "evicted"), 0);
}
