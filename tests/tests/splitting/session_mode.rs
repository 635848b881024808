//! In session mode a session has a connection to the primary and one to a replica, which no other session ever gets.

use std::thread::scope;

use trunkline_cluster::Server;
use trunkline_tests::psql_output;

use super::*;

/// Each session has its own connections.
fn own(cluster: &Cluster) -> EndpointBuilder {
    endpoint(cluster).key("pool.pool_mode", "\"session\"")
}

const WHO: &str = "SELECT pg_backend_pid()";
const READ: &str = "SELECT count(*) FROM generate_series(1, 3) AS i";

fn replicas() -> impl Iterator<Item = &'static Server> {
    shared_cluster().replicas.iter()
}

/// The processes of a role on all replicas.
fn on_replicas(role: PoolRole) -> Vec<i32> {
    replicas().flat_map(|replica| role.processes(replica)).collect()
}

#[track_caller]
fn all_gone(role: PoolRole) {
    eventually(PATIENCE, "its connections are closed", || {
        role.processes(&shared_cluster().primary).is_empty() && on_replicas(role).is_empty()
    });
}

/// Reads until that has been done on a replica, and as often again.
fn reads(endpoint: &Endpoint, wire: &mut Wire) {
    reads_on_replica(endpoint, wire, READ);
    (0..20).for_each(|_| run(wire, READ));
}

#[test]
fn a_session_has_its_own_connections_and_takes_each_when_it_is_needed() {
    let cluster = shared_cluster();
    let role = PoolRole::create(cluster, "of_own");
    let primary = || role.processes(&cluster.primary);
    let endpoint = own(cluster).start();
    let [mut wire, mut other] = [(), ()].map(|()| role.connect(endpoint.writes()));
    let [pid, others] = [&mut wire, &mut other].map(|wire| wire.value(WHO));
    let told = |wire: &Wire| i32::from_be_bytes(*wire.key_data.as_ref().unwrap().first_chunk().unwrap());
    assert_eq!(told(&wire).to_string(), pid, "it is that of the client's own process");
    for _ in 0..20 {
        run(&mut wire, "BEGIN");
        run(&mut wire, "COMMIT");
    }
    assert_eq!(primary().len(), 2);
    assert!(on_replicas(role).is_empty(), "neither has read");
    reads(&endpoint, &mut wire);
    let replica = on_replicas(role);
    assert_eq!(replica.len(), 1, "one reads");
    reads(&endpoint, &mut other);
    for _ in 0..20 {
        assert_eq!([&mut wire, &mut other].map(|wire| wire.value(WHO)), [&*pid, &*others]);
        [&mut wire, &mut other].into_iter().for_each(|wire| run(wire, READ));
    }
    let both = on_replicas(role);
    assert!(both.len() == 2 && both.contains(&replica[0]), "{both:?} {replica:?}");
    assert_eq!(primary().len(), 2);
    drop(wire);
    eventually(PATIENCE, "those of one are closed", || primary().len() == 1 && on_replicas(role).len() == 1);
    assert_eq!(other.value(WHO), others, "the other has its own still");
    other.send_with(write::terminate);
    all_gone(role);
}

#[test]
fn two_hundred_sessions_leave_nothing_behind() {
    let cluster = shared_cluster();
    let role = PoolRole::create(cluster, "of_many");
    sql(cluster, "CREATE TABLE of_all (n int); GRANT ALL ON of_all TO of_many");
    let endpoint = own(cluster).with_admin().start();
    reads(&endpoint, &mut role.connect(endpoint.writes()));
    scope(|scope| {
        for thread in 0..8 {
            let endpoint = &endpoint;
            scope.spawn(move || {
                for n in 0..25 {
                    let mut wire = role.connect(endpoint.writes());
                    run(&mut wire, "INSERT INTO of_all VALUES (1)");
                    (0..5).for_each(|_| run(&mut wire, "SELECT count(*) FROM of_all"));
                    match (thread + n) % 3 {
                        0 => wire.send_with(write::terminate),
                        // It vanishes while its server works.
                        1 => wire.send_query("SELECT count(*) FROM generate_series(1, 1000000) AS i"),
                        _ => {}
                    }
                }
            });
        }
    });
    assert_eq!(sql(cluster, "SELECT count(*) FROM of_all"), "200");
    all_gone(role);
    let (_, sessions) = endpoint.admin(&["sessions"]);
    assert!(!sessions.contains("of_many"), "{sessions}");
}

#[test]
fn what_sequences_have_given_is_known_however_often_the_session_reads_elsewhere() {
    let cluster = shared_cluster();
    let role = PoolRole::create(cluster, "of_numbers");
    sql(
        cluster,
        "CREATE TABLE numbered (id serial, n int); GRANT ALL ON numbered, numbered_id_seq TO of_numbers;
         CREATE SEQUENCE given; GRANT ALL ON given TO of_numbers",
    );
    let endpoint = own(cluster).start();
    let mut wire = role.connect(endpoint.writes());
    // More of them than a pool's session waits for questions at all.
    for n in 1..=20 {
        run(&mut wire, "INSERT INTO numbered (n) VALUES (0)");
        if n == 20 {
            reads(&endpoint, &mut wire);
        }
    }
    assert_eq!(wire.value("SELECT lastval()"), "20");
    let mut wire = role.connect(endpoint.writes());
    assert_eq!(wire.value("SELECT nextval('given')"), "1");
    reads(&endpoint, &mut wire);
    assert_eq!(wire.value("SELECT currval('given')"), "1");
}

#[test]
fn where_replicas_refuse_the_session_it_reads_on_the_primary() {
    let cluster = shared_cluster();
    let role = PoolRole::create(cluster, "of_limits");
    let endpoint = own(cluster).start();
    reads(&endpoint, &mut role.connect(endpoint.writes()));
    all_gone(role);
    sql(cluster, "ALTER ROLE of_limits CONNECTION LIMIT 1");
    cluster.wait_caught_up().unwrap();
    let direct: Vec<Wire> = replicas().map(|replica| role.connect(replica.port())).collect();
    let mut wire = role.connect(endpoint.writes());
    eventually(PATIENCE, "it has given up asking them", || {
        run(&mut wire, READ);
        count(&endpoint, "no_standby") > 0
    });
    for _ in 0..20 {
        run(&mut wire, READ);
    }
    assert_eq!(role.processes(&cluster.primary).len(), 1);
    drop(direct);
    reads(&endpoint, &mut wire);
    assert_eq!(on_replicas(role).len(), 1);
}

#[test]
fn an_idle_connection_that_ends_is_replaced_unnoticed() {
    let cluster = shared_cluster();
    let role = PoolRole::create(cluster, "of_losses");
    let endpoint = own(cluster).with_admin().start();
    let mut wire = role.connect(endpoint.writes());
    run(&mut wire, "SET my.tenant = 'a'");
    for _ in 0..3 {
        reads(&endpoint, &mut wire);
        let pid = wire.value(WHO);
        let on_replica = on_replicas(role);
        for server in cluster.servers() {
            server
                .psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'of_losses'")
                .unwrap();
        }
        all_gone(role);
        assert_eq!(wire.value("SELECT current_setting('my.tenant')"), "a");
        assert_ne!(wire.value(WHO), pid);
        reads(&endpoint, &mut wire);
        assert!(on_replicas(role).iter().all(|pid| !on_replica.contains(pid)));
    }
    let of = |server: &Server| role.processes(server).len();
    let place = replicas().find(|replica| of(replica) > 0).unwrap();
    assert_eq!(endpoint.admin(&["drain", place.name()]).0, Some(0));
    eventually(PATIENCE, "the drained one is left", || of(place) == 0);
    reads(&endpoint, &mut wire);
    assert_eq!((on_replicas(role).len(), of(place)), (1, 0));
    assert_eq!(endpoint.admin(&["ready", place.name()]).0, Some(0));
}

#[test]
fn a_session_that_reads_on_another_replica_leaves_the_last_one() {
    let cluster = own_cluster(2);
    let role = PoolRole::create(&cluster, "of_one");
    sql(&cluster, "CREATE TABLE of_two (n int); GRANT ALL ON of_two TO of_one");
    cluster.wait_caught_up().unwrap();
    let endpoint = own(&cluster).start();
    let mut wire = role.connect(endpoint.writes());
    let read = "SELECT count(*) FROM of_two";
    reads_on_replica(&endpoint, &mut wire, read);
    let of = |server: &Server| role.processes(server).len();
    let (last, other) = match &cluster.replicas[..] {
        [one, two] if of(one) > 0 => (one, two),
        [one, two] => (two, one),
        _ => panic!("there are two"),
    };
    assert_eq!((of(last), of(other)), (1, 0));
    last.pause_replay().unwrap();
    run(&mut wire, "INSERT INTO of_two VALUES (1)");
    reads_on_replica(&endpoint, &mut wire, read);
    assert_eq!(wire.value(read), "1");
    eventually(PATIENCE, "the last one is left", || (of(last), of(other)) == (0, 1));
    last.resume_replay().unwrap();
}

#[test]
fn an_override_gives_its_user_connections_of_its_own() {
    let cluster = shared_cluster();
    let [shares, owns] = ["of_shares", "of_owns"].map(|name| PoolRole::create(cluster, name));
    let of_user = "[[pool.override]]\nuser = \"of_owns\"\npool_mode = \"session\"\n";
    let builder = endpoint(cluster).key("pool.pool_mode", "\"transaction\"");
    let mut endpoint = builder.key("pool.pool_size", "1").toml(of_user).with_admin().start();
    let mut wires: Vec<Wire> = (0..3).map(|_| owns.connect(endpoint.writes())).collect();
    let mut others: Vec<Wire> = (0..3).map(|_| shares.connect(endpoint.writes())).collect();
    wires.iter_mut().chain(&mut others).for_each(|wire| reads(&endpoint, wire));
    assert_eq!([owns, shares].map(|role| role.processes(&cluster.primary).len()), [3, 1]);
    assert_eq!(on_replicas(owns).len(), 3);
    let pids: Vec<String> = wires.iter_mut().map(|wire| wire.value(WHO)).collect();
    // A session keeps the mode that it began with.
    endpoint.rewrite("pool.pool_mode", "\"session\"");
    assert_eq!(endpoint.admin(&["reload"]).0, Some(0));
    wires.iter_mut().chain(&mut others).for_each(|wire| reads(&endpoint, wire));
    assert_eq!(wires.iter_mut().map(|wire| wire.value(WHO)).collect::<Vec<_>>(), pids);
    let _new: Vec<Wire> = (0..3).map(|_| shares.connect(endpoint.writes())).collect();
    assert_eq!(shares.processes(&cluster.primary).len(), 4);
}

#[test]
fn a_client_gets_the_notices_of_its_own_login() {
    let cluster = shared_cluster();
    let role = PoolRole::create(cluster, "warned_of_own");
    cluster.primary.psql("ALTER ROLE warned_of_own SET default_tablespace = 'no such'").unwrap();
    cluster.wait_caught_up().unwrap();
    let endpoint = own(cluster).start();
    let said = |port: u16| {
        let output = psql_output(port, &[("PGUSER", role.name), ("PGPASSWORD", "postgres")], WHO);
        String::from_utf8(output.stderr).unwrap()
    };
    let directly = said(cluster.primary.port());
    assert!(directly.contains("WARNING:  invalid value for parameter"), "{directly}");
    assert_eq!(said(endpoint.writes()), directly);
}
