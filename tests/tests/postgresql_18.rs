//! A newer server than Debian's: protocol 3.2 with its long cancel keys, pipelined implicit transactions.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::sync::OnceLock;
use std::time::Duration;

use trunkline_cluster::Cluster;
use trunkline_codec::startup::ProtocolVersion;
use trunkline_tests::{
    Auth, Endpoint, Login, Watch, Wire, cluster_of, eventually, functions_not_judged, pg18,
    reached_without_a_name, traffic,
};
use trunkline_topology::State;

fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| cluster_of(pg18(), 2, &[]))
}

fn newest() -> Login {
    Login { version: ProtocolVersion::V3_2, ..Login::default() }
}

#[test]
fn each_of_its_functions_is_judged() {
    assert_eq!(functions_not_judged(&cluster().primary), [""; 0]);
    let rules = ["rule pg_settings_n on pg_settings", "rule pg_settings_u on pg_settings"];
    assert_eq!(reached_without_a_name(&cluster().primary), rules);
}

#[test]
fn health_judges_it() {
    let cluster = cluster_of(pg18(), 1, &[]);
    let watch = Watch::over(&cluster);
    let version = watch.server("replica1").version.unwrap();
    assert_eq!(version / 10_000, 18);
    let writes = traffic(&cluster.primary);
    cluster.replicas[0].pause_replay().unwrap();
    watch.await_state("replica1", State::Lagging, Duration::from_secs(15));
    drop(writes);
    cluster.replicas[0].resume_replay().unwrap();
    watch.await_state("replica1", State::Up, Duration::from_secs(15));
}

#[test]
fn protocol_3_2_sessions_work_and_their_long_keys_cancel() {
    for auth in [Auth::Relay, Auth::Verify] {
        let endpoint = Endpoint::over(cluster()).auth(auth).start();
        let mut wire = newest().connect(endpoint.reads());
        assert_eq!(wire.parameters, newest().connect(cluster().replicas[0].port()).parameters);
        let key = wire.key_data.clone().unwrap();
        assert!(key.len() > 8, "{auth:?}: a key of {} bytes", key.len() - 4);
        wire.send_query("SELECT pg_sleep(60) /* long key */");
        let running = "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE query LIKE '%/* long key%' AND state = 'active' AND pid <> pg_backend_pid())";
        eventually(Duration::from_secs(10), "it runs", || {
            cluster().replicas.iter().any(|replica| replica.psql(running).unwrap() == "t")
        });
        wire.cancel(endpoint.reads());
        assert_eq!(wire.read_answer().error.unwrap().code, "57014", "{auth:?}");
        assert_eq!(wire.value("SELECT 1"), "1");
        assert_eq!(Wire::login(endpoint.reads()).key_data.unwrap().len(), 8, "3.0 keeps its short keys");
    }
}

#[test]
fn a_server_of_unknown_version_is_taken_for_an_old_one() {
    for auth in [Auth::Relay, Auth::Verify] {
        let endpoint =
            Endpoint::over(cluster()).auth(auth).through("replica2", 1).not_awaiting("replica2").start();
        let mut wire = Wire::connect(endpoint.reads());
        wire.send(&newest().packet());
        let first = wire.read_message().unwrap();
        assert_eq!((first.tag, &first.body[..]), (b'v', &[0, 3, 0, 0, 0, 0, 0, 0][..]), "{auth:?}");
        let mut wire = newest().connect(endpoint.reads());
        assert_eq!(wire.key_data.as_ref().unwrap().len(), 8, "{auth:?}: a short key");
        assert_eq!(wire.value("SELECT 1"), "1");
    }
}

#[test]
fn its_own_psql_and_pgbench_work() {
    let endpoint = Endpoint::over(cluster()).auth(Auth::Verify).start();
    let install = pg18();
    let run = |program: &str, arguments: &[&str]| {
        let mut command = install.command(program);
        command.env("PGPASSWORD", "postgres").args(["-h", "127.0.0.1", "-U", "postgres"]);
        command.args(["-p", &endpoint.reads().to_string()]).args(arguments).arg("appdb");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(run("psql", &["-XAtqc", "SELECT pg_is_in_recovery()"]), "t\n");
    let mut script = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut script, b"SELECT 1;\n").unwrap();
    let path = script.path().display().to_string();
    for mode in ["simple", "extended", "prepared"] {
        let said = run("pgbench", &["-n", "-M", mode, "-c", "2", "-t", "50", "-f", &path]);
        assert!(said.contains("actually processed: 100/100"), "{said}");
    }
}

#[test]
fn a_query_inside_a_pipeline_stays_in_its_transaction() {
    use bytes::BytesMut;
    use trunkline_codec::write;

    let endpoint = Endpoint::over(cluster()).without("replica2").start();
    let ask = |port| {
        let mut wire = Wire::login(port);
        let mut out = BytesMut::new();
        write::parse(&mut out, b"", b"SELECT 1", &[]).unwrap();
        write::bind(&mut out, b"", b"", std::iter::empty::<Option<&[u8]>>().collect::<Vec<_>>()).unwrap();
        write::execute(&mut out, b"", 0).unwrap();
        write::query(&mut out, b"SELECT 2").unwrap();
        write::sync(&mut out);
        wire.send(&out);
        let first = wire.read_answer().messages;
        (first, wire.read_answer().messages, wire.query("SELECT 'next'").messages)
    };
    let direct = ask(cluster().replicas[0].port());
    assert_eq!(direct.0.last().unwrap().body, b"T", "an implicit transaction from version 18 on");
    assert_eq!(ask(endpoint.reads()), direct);
}
