//! The configurations on README's first page, as they are written there.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use serde_json::{Value, json};
use trunkline_tests::{Auth, Endpoint, EndpointBuilder, eventually, http_get, psql, root, shared_cluster};

const PATIENCE: Duration = Duration::from_secs(30);
const HEADING: &str = "## Before what you run";

/// The configuration there that has this line.
fn configuration(line: &str) -> String {
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    let section = text.split(HEADING).nth(1).unwrap().split("\n## ").next().unwrap();
    let mut blocks = section.split("```toml\n").skip(1).map(|block| block.split("```").next().unwrap());
    blocks.find(|block| block.lines().any(|other| other == line)).unwrap().to_owned()
}

/// The proxy with no servers but those of `configuration`.
fn start(configuration: &str) -> EndpointBuilder {
    // Over TLS the suite would write those keys, too, and for `relay` as well.
    if configuration.contains("[server_tls]") {
        return Endpoint::over_none().auth(Auth::Verify).toml(configuration);
    }
    let builder = Endpoint::over(shared_cluster()).toml(configuration);
    shared_cluster().servers().fold(builder, |builder, server| builder.without(server.name()))
}

fn source(endpoint: &Endpoint) -> Value {
    let cluster: Value = serde_json::from_str(&http_get(endpoint.http(), "/cluster").unwrap().body).unwrap();
    cluster["sources"][0].clone()
}

/// Answers every request of HTTP with `body`, for as long as the test runs.
fn answering(body: String) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let request = BufReader::new(stream.try_clone().unwrap());
            let has_end = request.lines().map_while(Result::ok).any(|line| line.is_empty());
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            // The other side may have gone.
            let _sent = has_end.then(|| stream.write_all(format!("{head}{body}").as_bytes()));
        }
    });
    port
}

#[test]
fn plain_hosts_begin_with_one_of_them() {
    let cluster = shared_cluster();
    let written = configuration("kind = \"standbys\"")
        .replace("10.0.0.11:5432", &format!("127.0.0.1:{}", cluster.primary.port()))
        .replace("10.0.0.0/24", "127.0.0.0/8");
    let endpoint = start(&written).start();
    endpoint.await_health("pg1", true, PATIENCE);
    assert_eq!(psql(endpoint.writes(), "SHOW cluster_name"), "primary");
    // All servers of this cluster are at one address, and the source gives them the primary's port: nobody is added.
    eventually(PATIENCE, "the primary was asked", || source(&endpoint)["answered_at"].is_number());
}

#[test]
fn patroni_names_the_servers() {
    let member = |(index, server): (usize, &trunkline_cluster::Server)| {
        let role = if index == 0 { "leader" } else { "replica" };
        let state = if index == 0 { "running" } else { "streaming" };
        json!({"name": server.name(), "role": role, "state": state, "host": "127.0.0.1", "port": server.port(), "timeline": 1})
    };
    let members: Vec<Value> = shared_cluster().servers().enumerate().map(member).collect();
    let rest = answering(json!({"members": members, "scope": "demo"}).to_string());
    let written = configuration("kind = \"patroni\"").replace("10.0.0.12:8008", &format!("127.0.0.1:{rest}"));
    // The others do not answer.
    let written = written.replace("10.0.0.11:8008", "127.0.0.1:1").replace("10.0.0.13:8008", "127.0.0.1:1");
    let endpoint = start(&written).start();
    for server in shared_cluster().servers() {
        endpoint.await_health(server.name(), true, PATIENCE);
    }
    let read = psql(endpoint.reads(), "SHOW cluster_name");
    assert!(read.starts_with("replica"), "{read}");
    assert_eq!(psql(endpoint.writes(), "SHOW cluster_name"), "primary");
}

#[test]
fn kubernetes_and_aurora_are_waited_for() {
    let roots = tempfile::NamedTempFile::new().unwrap();
    let made = rcgen::generate_simple_self_signed(["example.com".to_owned()]).unwrap();
    fs::write(roots.path(), made.cert.pem()).unwrap();
    let builders = [
        start(&configuration("kind = \"kubernetes\""))
            .env("KUBERNETES_SERVICE_HOST", "127.0.0.1")
            .env("KUBERNETES_SERVICE_PORT", "1"),
        start(
            &configuration("kind = \"aurora\"")
                .replace("/etc/trunkline/rds-global-bundle.pem", &roots.path().display().to_string()),
        ),
    ];
    for builder in builders {
        let endpoint = builder.start();
        eventually(PATIENCE, "why there is no answer is said", || source(&endpoint)["error"].is_string());
        assert_eq!(endpoint.status_of("/readyz"), 503, "nobody can be served");
    }
}
