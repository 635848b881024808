//! TLS of clients and servers: what is shown of it, and handshakes that take long or never end.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use trunkline_tests::{
    Auth, Certificates, Endpoint, EndpointBuilder, eventually, http_get, own_cluster, psql_output,
    shared_cluster,
};

const PATIENCE: Duration = Duration::from_secs(10);
const SELF_SIGNED: &str = "[client_tls]\ncert_file = \"self-signed\"\n";

fn endpoint() -> EndpointBuilder {
    Endpoint::over(shared_cluster()).toml(SELF_SIGNED)
}

fn handshakes(endpoint: &Endpoint, leg: &str, result: &str) -> u64 {
    let text = http_get(endpoint.http(), "/metrics").unwrap().body;
    let line = format!("trunkline_tls_handshakes_total{{leg=\"{leg}\",result=\"{result}\"}} ");
    text.lines().find_map(|found| found.strip_prefix(&line)).unwrap().parse().unwrap()
}

/// A client that has asked for TLS and has been let.
fn asked(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]).unwrap();
    let mut answer = [0];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, *b"S");
    stream
}

/// The beginning of a handshake record of 512 bytes.
const BEGINNING: [u8; 6] = [0x16, 3, 1, 2, 0, 1];

#[test]
fn a_handshake_of_a_byte_now_and_then_ends_at_the_limit_of_logins() {
    let endpoint = endpoint().key("timeouts.login", "\"2s\"").start();
    let began = Instant::now();
    let mut stream = asked(endpoint.reads());
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let drip = BEGINNING.iter().chain(std::iter::repeat(&0));
    for byte in drip.take(100) {
        // Whether it still listens is said by the read.
        let _reset = stream.write_all(&[*byte]);
        match stream.read(&mut [0; 64]) {
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            _ended => break,
        }
    }
    let took = began.elapsed();
    assert!((Duration::from_millis(1900)..Duration::from_secs(20)).contains(&took), "{took:?}");
    eventually(PATIENCE, "it is counted", || handshakes(&endpoint, "client", "abandoned") == 1);
}

#[test]
fn handshakes_that_never_end_make_room_for_one_that_does() {
    let endpoint = endpoint().key("limits.startups_max", "8").key("runtime.threads", "1").start();
    let held: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut stream = asked(endpoint.reads());
            stream.write_all(&BEGINNING).unwrap();
            stream
        })
        .collect();
    let output = psql_output(endpoint.reads(), &[("PGSSLMODE", "require")], "SELECT 1");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(handshakes(&endpoint, "client", "completed"), 1);
    eventually(Duration::from_secs(30), "the oldest have made room", || {
        handshakes(&endpoint, "client", "abandoned") >= 32
    });
    drop(held);
}

#[test]
fn what_is_no_tls_is_a_handshake_that_failed() {
    let endpoint = endpoint().start();
    let mut stream = asked(endpoint.reads());
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer.first(), Some(&0x15), "an alert: {answer:?}");
    // The alert comes first.
    eventually(PATIENCE, "it is counted", || handshakes(&endpoint, "client", "failed") == 1);
    eventually(PATIENCE, "it is logged", || endpoint.log().contains("TLS handshake failed"));
}

#[test]
fn version_and_cipher_of_both_legs_are_shown() {
    let cluster = own_cluster(0);
    // As the servers' user, in the data directory.
    let make = "openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 9 -subj /CN=primary \
                -keyout server.key -out server.crt 2>&1; chmod 600 server.key";
    cluster.primary.psql(&format!("COPY (SELECT 1) TO PROGRAM '{make}'")).unwrap();
    cluster.primary.set("ssl", "on").unwrap();
    let tables = format!("{SELF_SIGNED}[server_tls]\nsslmode = \"require\"\n");
    let endpoint = Endpoint::over(&cluster)
        .auth(Auth::Verify)
        .with_admin()
        .key("log.statements.threshold", "\"0\"")
        .key("log.connections", "\"on\"")
        .toml(&tables)
        .start();
    let mut command = Command::new("psql");
    command
        .env("PGPASSWORD", "postgres")
        .env("PGSSLMODE", "require")
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    command.args([
        "-X",
        "-h",
        "127.0.0.1",
        "-U",
        "postgres",
        "-d",
        "appdb",
        "-p",
        &endpoint.writes().to_string(),
    ]);
    let mut psql = command.spawn().unwrap();
    psql.stdin.as_mut().unwrap().write_all(b"SELECT 'shown';\n").unwrap();
    let tls = "TLSv1.3 TLS_AES_256_GCM_SHA384";
    eventually(Duration::from_secs(20), "the statement is logged", || endpoint.log().contains("'shown'"));
    let log = endpoint.log();
    let both = format!("tls.client=\"{tls}\" tls.server=\"{tls}\"");
    for message in ["message=\"connection authorized\"", "message=statement"] {
        let line =
            log.lines().find(|line| line.contains(message)).unwrap_or_else(|| panic!("{message}: {log}"));
        assert!(line.contains(&both), "{line}");
    }
    let (_, json) = endpoint.admin(&["sessions", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["sessions"][0]["tls"], serde_json::json!({"client": tls, "server": tls}), "{json}");
    let (_, table) = endpoint.admin(&["sessions"]);
    assert!(table.contains("CLIENT TLS") && table.contains(tls), "{table}");
    assert!(handshakes(&endpoint, "server", "completed") >= 1);
    drop(psql.stdin.take());
    psql.wait().unwrap();
}

#[test]
fn a_server_whose_tls_fails_is_reached_without_by_prefer_and_the_operator_is_told_once() {
    let cluster = own_cluster(0);
    for (name, value) in Certificates::shared().server_settings() {
        cluster.primary.set(&name, &value).unwrap();
    }
    cluster.primary.set("ssl_max_protocol_version", "TLSv1.2").unwrap();
    let endpoint = Endpoint::over(&cluster)
        .auth(Auth::Verify)
        .key("server_tls.sslmode", "\"prefer\"")
        .key("server_tls.ssl_min_protocol_version", "\"TLSv1.3\"")
        .start();
    let is_encrypted = || {
        let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let output = psql_output(endpoint.writes(), &[], sql);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).trim_end() == "t"
    };
    for _ in 0..3 {
        assert!(!is_encrypted());
    }
    assert_eq!(handshakes(&endpoint, "server", "plaintext"), 3);
    assert_eq!(handshakes(&endpoint, "server", "failed"), 0);
    let told = "TLS with the server failed, connections to it go without: its sslmode is prefer";
    assert_eq!(endpoint.log().matches(told).count(), 1, "{}", endpoint.log());

    cluster.primary.set("ssl_max_protocol_version", "TLSv1.3").unwrap();
    eventually(Duration::from_secs(60), "it is told that this is over", || {
        is_encrypted() && endpoint.log().contains("TLS with the server succeeds now")
    });
    assert!(handshakes(&endpoint, "server", "completed") >= 1);
    assert_eq!(endpoint.log().matches(told).count(), 1, "{}", endpoint.log());
}
