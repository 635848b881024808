//! What may come first on a connection.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bytes::BytesMut;
use trunkline_cluster::PgInstall;
use trunkline_codec::startup::{ProtocolVersion, gssenc_request, ssl_request};
use trunkline_tests::{
    Auth, Endpoint, Login, ServerError, Wire, eventually, http_get, own_cluster, shared_cluster,
};

/// What comes back for encryption requests one after the other: each answer, and the end of it.
fn negotiated(mut stream: impl Read + Write, requests: &[Request], user: &str) -> Vec<String> {
    let mut seen = Vec::new();
    for request in requests {
        match request {
            Request::Ssl => send(&mut stream, ssl_request),
            Request::Gssenc => send(&mut stream, gssenc_request),
            Request::Startup => stream.write_all(&Login::of(user, "").packet()).unwrap(),
        }
        match answer(&mut stream) {
            Reply::Declined => seen.push("N".to_owned()),
            Reply::Ready => seen.push("ready".to_owned()),
            Reply::Refused(error) => {
                // Behind the colon are the versions that either one knows.
                let text = error.text.split(':').next().unwrap_or_default();
                seen.push(format!("{} {} {text}", error.severity, error.code));
                return seen;
            }
        }
    }
    seen
}

/// What may come before a session, and one that begins it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    Ssl,
    Gssenc,
    Startup,
}

/// What it is answered with.
enum Reply {
    Declined,
    Ready,
    Refused(ServerError),
}

fn send(stream: &mut impl Write, request: fn(&mut BytesMut)) {
    let mut packet = BytesMut::new();
    request(&mut packet);
    stream.write_all(&packet).unwrap();
}

fn answer(stream: &mut impl Read) -> Reply {
    loop {
        let mut tag = [0];
        stream.read_exact(&mut tag).unwrap();
        if tag == *b"N" {
            return Reply::Declined;
        }
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let mut body = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap() - 4];
        stream.read_exact(&mut body).unwrap();
        match tag {
            [b'E'] => return Reply::Refused(ServerError::parse(&body)),
            [b'Z'] => return Reply::Ready,
            _ => {}
        }
    }
}

/// On a Unix socket a server has neither kind of encryption, as an endpoint without a certificate: it says `N` to both.
#[test]
fn encryption_requests_in_every_order_end_as_with_a_server() {
    use Request::{Gssenc, Ssl, Startup};
    let server = &shared_cluster().primary;
    let socket = server.socket_dir().join(format!(".s.PGSQL.{}", server.port()));
    let endpoint = Endpoint::over(shared_cluster()).start();
    for (requests, declined) in [
        (&[Ssl, Startup][..], 1),
        (&[Gssenc, Startup], 1),
        (&[Gssenc, Ssl, Startup], 2),
        (&[Ssl, Gssenc, Startup], 2),
        // Each once.
        (&[Ssl, Ssl], 1),
        (&[Gssenc, Gssenc], 1),
        (&[Ssl, Gssenc, Ssl], 2),
        (&[Gssenc, Ssl, Gssenc], 2),
        // And none later.
        (&[Startup, Ssl], 0),
        (&[Startup, Gssenc], 0),
        (&[Ssl, Startup, Gssenc], 1),
    ] {
        let direct = negotiated(UnixStream::connect(&socket).unwrap(), requests, "postgres");
        assert_eq!(direct.iter().take_while(|reply| *reply == "N").count(), declined, "{requests:?}");
        assert_eq!(direct.last().is_some_and(|last| last == "ready"), requests.last() == Some(&Startup));
        let through = TcpStream::connect(("127.0.0.1", endpoint.writes())).unwrap();
        assert_eq!(negotiated(through, requests, "trust_user"), direct, "{requests:?}");
    }
}

#[test]
fn what_came_to_no_session_is_counted_for_what_it_was() {
    let endpoint = Endpoint::over(shared_cluster()).start();
    let count = |sample: &str| {
        let metrics = http_get(endpoint.http(), "/metrics").unwrap().body;
        let value = metrics.lines().find_map(|line| line.strip_prefix(sample)?.trim().parse::<u64>().ok());
        value.unwrap_or_default()
    };
    let outcome = |word: &str| count(&format!("trunkline_logins_total{{outcome=\"{word}\"}}"));
    let refused = |reason: &str| count(&format!("trunkline_sessions_refused_total{{reason=\"{reason}\"}}"));

    // A check of the port is no login.
    drop(Wire::connect(endpoint.reads()));
    let mut wire = Wire::connect(endpoint.reads());
    wire.send(&[0, 0, 0, 8, 0, 9, 0, 0]);
    assert!(wire.read_answer().error.is_some(), "no such protocol");
    eventually(Duration::from_secs(30), "it is the proxy's refusal", || outcome("proxy_refused") == 1);
    let mut wire = Wire::connect(endpoint.reads());
    wire.send(&[0, 0, 0, 100, 0, 3, 0, 0]);
    drop(wire);
    eventually(Duration::from_secs(30), "the client has left", || refused("client_gone") == 1);
    assert_eq!((outcome("abandoned"), outcome("server_refused"), refused("protocol")), (1, 0, 1));
}

#[test]
fn bytes_behind_an_encryption_request_are_refused() {
    let endpoint = Endpoint::over(shared_cluster()).start();
    let mut wire = Wire::connect(endpoint.reads());
    let mut packet = BytesMut::new();
    ssl_request(&mut packet);
    packet.extend_from_slice(&Login::default().packet());
    wire.send(&packet);
    let rest = wire.read_to_end().unwrap();
    let rest = rest.strip_prefix(b"N").unwrap_or(&rest);
    assert_eq!(rest.first(), Some(&b'E'), "{rest:?}");
    assert_eq!(ServerError::parse(&rest[5..]).code, "08P01");
}

#[test]
fn a_newer_minor_version_is_negotiated_as_the_server_negotiates() {
    let cluster = shared_cluster();
    for auth in [Auth::Relay, Auth::Verify] {
        let endpoint = Endpoint::over(cluster).auth(auth).start();
        let version = ProtocolVersion { major: 3, minor: 9999 };
        let login = Login { version, ..Login::default() }.with("_pq_.unknown", "1");
        let first = |port| {
            let mut wire = Wire::connect(port);
            wire.send(&login.packet());
            wire.read_message().unwrap()
        };
        let negotiated = first(endpoint.reads());
        let servers = first(cluster.replicas[0].port());
        assert_eq!(negotiated, servers, "{auth:?}");
        assert_eq!(negotiated.tag, b'v');
        assert_eq!(login.connect(endpoint.reads()).value("SELECT 1"), "1");
    }
}

#[test]
fn protocol_3_2_is_offered_by_no_listener_that_may_use_an_older_server() {
    let cluster = shared_cluster();
    let direct = cluster.replicas[0].port();
    for auth in [Auth::Relay, Auth::Verify] {
        let endpoint = Endpoint::over(cluster).auth(auth).start();
        for minor in [1, 2, 9999] {
            let login = Login { version: ProtocolVersion { major: 3, minor }, ..Login::default() };
            let negotiated = |port| {
                let mut wire = Wire::connect(port);
                wire.send(&login.packet());
                wire.read_message().unwrap()
            };
            assert_eq!(negotiated(endpoint.reads()), negotiated(direct), "{auth:?} 3.{minor}");
            let trace = |port| Wire::connect(port).trace_login(&login);
            assert_eq!(trace(endpoint.reads()), trace(direct), "{auth:?} 3.{minor}");
            let mut wire = login.connect(endpoint.reads());
            assert_eq!(wire.key_data.as_ref().unwrap().len(), 8, "a short key");
            assert_eq!(wire.value("SELECT 1"), "1");
        }
    }
}

#[test]
fn another_major_version_is_refused() {
    let endpoint = Endpoint::over(shared_cluster()).start();
    let mut wire = Wire::connect(endpoint.reads());
    wire.send(b"\0\0\0\x09\0\x04\0\0\0");
    assert_eq!(wire.read_answer().error.unwrap().code, "0A000");
}

#[test]
fn haproxys_pgsql_check_is_answered_without_a_server_session() {
    let cluster = own_cluster(1);
    let endpoint = Endpoint::over(&cluster).start();
    let sessions = || {
        // In the statistics after the session's end.
        cluster.replicas[0]
            .psql("SELECT sum(sessions) FROM pg_stat_database WHERE datname = 'hacheck'")
            .unwrap()
    };
    let before = sessions();
    for _ in 0..20 {
        let mut wire = Wire::connect(endpoint.reads());
        wire.send(b"\0\0\0\x16\0\x03\0\0user\0hacheck\0\0");
        let message = wire.read_message().unwrap();
        assert_eq!(message.tag, b'R');
        assert!(message.body.len() + 5 < 256);
    }
    assert_eq!(sessions(), before);
    assert!(!cluster.replicas[0].log().contains("hacheck"), "the server never hears of it");
}

#[test]
fn haproxys_pgsql_check_fails_when_no_server_is_eligible() {
    let cluster = own_cluster(1);
    let endpoint = Endpoint::over(&cluster).key("health.fallback.mode", "\"none\"").start();
    cluster.replicas[0].kill();
    endpoint.await_health("replica1", false, Duration::from_secs(15));
    let mut wire = Wire::connect(endpoint.reads());
    wire.send(b"\0\0\0\x16\0\x03\0\0user\0hacheck\0\0");
    let error = wire.read_answer().error.unwrap();
    assert_eq!(error.code, "57P03", "{error:?}");
}

#[test]
fn a_replication_session_is_relayed() {
    let cluster = own_cluster(1);
    for auth in [Auth::Relay, Auth::Verify] {
        let endpoint = Endpoint::over(&cluster).auth(auth).start();
        let mut wire = Login::default().with("replication", "true").connect(endpoint.writes());
        let answer = wire.query("IDENTIFY_SYSTEM");
        let system = cluster.primary.psql("SELECT system_identifier FROM pg_control_system()").unwrap();
        assert_eq!(answer.value(), system);
        let mut logical = Login::default().with("replication", "database").connect(endpoint.writes());
        assert_eq!(logical.value("SELECT pg_is_in_recovery()"), "f");
        let replica = Login::default().with("replication", "database").connect(endpoint.reads());
        assert_eq!(replica.parameters["in_hot_standby"], "on", "reads are not taken to the primary");
        let bad = Login::default().with("replication", "maybe").try_connect(endpoint.writes()).unwrap_err();
        assert_eq!(bad.code, "22023", "{bad:?}");
    }
}

#[test]
fn pg_dump_finds_its_snapshot_with_several_jobs() {
    let cluster = shared_cluster();
    let install = PgInstall::find(None).unwrap();
    for auth in [Auth::Relay, Auth::Verify] {
        let endpoint = Endpoint::over(cluster).auth(auth).start();
        let directory = tempfile::tempdir().unwrap();
        let mut dump = install.command("pg_dump");
        dump.env("PGPASSWORD", "postgres").args([
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-j",
            "4",
            "-Fd",
            "-p",
        ]);
        dump.arg(endpoint.reads().to_string()).arg("-f").arg(directory.path().join("dump")).arg("appdb");
        let output = dump.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn sessions_that_share_a_name_go_where_its_snapshot_is() {
    let endpoint = Endpoint::over(shared_cluster()).auth(Auth::Verify).start();
    let login = |name: &str| Login::default().with("application_name", name).connect(endpoint.reads());
    let mut exporter = login("dump");
    assert!(exporter.query("BEGIN ISOLATION LEVEL REPEATABLE READ").error.is_none());
    let snapshot = exporter.value("SELECT pg_export_snapshot()");
    let server = exporter.value("SHOW cluster_name");
    for _ in 0..4 {
        let mut worker = login("dump");
        assert_eq!(worker.value("SHOW cluster_name"), server);
        let set =
            format!("BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '{snapshot}'; COMMIT");
        assert!(worker.query(&set).error.is_none());
    }
    let others: Vec<String> = (0..4).map(|_| login("another").value("SHOW cluster_name")).collect();
    assert!(others.iter().any(|other| *other != server), "others are spread as ever: {others:?}");
    assert!(exporter.query("COMMIT").error.is_none());
    assert_eq!(exporter.value("SELECT 1"), "1");
    let after: Vec<String> = (0..4).map(|_| login("dump").value("SHOW cluster_name")).collect();
    assert!(after.iter().any(|other| *other != server), "and so are these once it is gone: {after:?}");
}

#[test]
fn pg_basebackup_and_pg_receivewal_run_through_the_endpoint() {
    let cluster = own_cluster(1);
    let endpoint = Endpoint::over(&cluster).start();
    let install = PgInstall::find(None).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let tool = |name: &str| {
        let mut command = install.command(name);
        command.env("PGPASSWORD", "postgres").args(["-h", "127.0.0.1", "-U", "postgres", "-p"]);
        command.arg(endpoint.writes().to_string());
        command
    };
    let copy = directory.path().join("copy");
    let output =
        tool("pg_basebackup").args(["-c", "fast", "-X", "stream", "-D"]).arg(&copy).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(install.command("pg_verifybackup").arg(&copy).output().unwrap().status.success());

    let wal = directory.path().join("wal");
    std::fs::create_dir(&wal).unwrap();
    let mut receiver = tool("pg_receivewal").arg("-D").arg(&wal).spawn().unwrap();
    let walsender =
        "SELECT EXISTS (SELECT 1 FROM pg_stat_replication WHERE application_name = 'pg_receivewal')";
    cluster.primary.wait_until("pg_receivewal streams", walsender).unwrap();
    cluster.primary.psql("CREATE TABLE t (); SELECT pg_switch_wal()").unwrap();
    let is_whole = |entry: std::fs::DirEntry| entry.path().extension().is_none();
    eventually(Duration::from_secs(20), "a whole segment is received", || {
        std::fs::read_dir(&wal).unwrap().flatten().any(is_whole)
    });
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(receiver.id()).unwrap()),
        nix::sys::signal::Signal::SIGINT,
    )
    .unwrap();
    assert!(receiver.wait().unwrap().success(), "it ends in order through the endpoint");
}

#[test]
fn a_client_that_leaves_before_saying_anything_is_nothing_to_log_loudly() {
    let endpoint = Endpoint::over(shared_cluster()).key("limits.connections_max", "500").start();
    for _ in 0..20 {
        drop(Wire::connect(endpoint.reads()));
    }
    let mut wire = Wire::login(endpoint.reads());
    assert_eq!(wire.value("SELECT 1"), "1");
    let log = endpoint.log();
    assert!(!log.contains("level=error") && !log.contains("level=warn"), "{log}");
}
