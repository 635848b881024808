//! `trunkline health --observe` beside real servers: which formula was wrong, and for how long.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use trunkline_cluster::{Cluster, MONITOR_PASSWORD, MONITOR_ROLE, send_signal};
use trunkline_tests::{Forwarder, Weather, binary, eventually, own_cluster, traffic};

/// An observation that runs, with its reports.
struct Observation {
    child: Option<Child>,
    directory: TempDir,
}

impl Observation {
    fn of(cluster: &Cluster, more: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new(binary());
        command.args(["health", "--observe", "--max-lag", "2s", "--every", "1s"]).args(more);
        for (index, server) in cluster.servers().enumerate() {
            let flag = if index == 0 { "--primary" } else { "--replica" };
            command.args([flag, &format!("{}=127.0.0.1:{}", server.name(), server.port())]);
        }
        command.args(["--monitor", &format!("user={MONITOR_ROLE} dbname=appdb")]);
        command.args(["--json", "lag.json", "--svg", "lag.svg"]).current_dir(directory.path());
        command.env("TRUNKLINE__MONITOR__PASSWORD", MONITOR_PASSWORD).env("NO_COLOR", "1");
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Self { child: Some(child), directory }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The newest report; null before the first.
    fn report(&self) -> Value {
        std::fs::read_to_string(self.file("lag.json"))
            .map_or(Value::Null, |text| serde_json::from_str(&text).unwrap())
    }

    /// What the newest report says of a server.
    fn server(&self, name: &str) -> Value {
        let report = self.report();
        let servers = report["servers"].as_array().cloned().unwrap_or_default();
        servers.into_iter().find(|server| server["name"] == name).unwrap_or_default()
    }

    fn pid(&self) -> i32 {
        self.child.as_ref().unwrap().id().try_into().unwrap()
    }

    /// Ends it, and returns what it printed.
    fn end(mut self) -> (Output, String, String) {
        send_signal(self.pid(), Signal::SIGTERM);
        let output = self.child.take().unwrap().wait_with_output().unwrap();
        let text = |name| std::fs::read_to_string(self.file(name)).unwrap();
        let (json, svg) = (text("lag.json"), text("lag.svg"));
        (output, json, svg)
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            eprintln!("{:#}", self.report());
            let _gone = child.kill();
            let _reaped = child.wait();
        }
    }
}

/// Seconds of a formula, or of a proof.
fn seconds(server: &Value, path: &str) -> f64 {
    server.pointer(path).and_then(Value::as_f64).unwrap_or_default()
}

fn wrongly_fresh(server: &Value, formula: &str) -> f64 {
    seconds(server, &format!("/formulas/{formula}/fresh_though_lagging_seconds"))
}

fn wrongly_lagging(server: &Value, formula: &str) -> f64 {
    seconds(server, &format!("/formulas/{formula}/lagging_though_fresh_seconds"))
}

/// TCP sockets on which a process listens.
fn listening(pid: i32) -> usize {
    let inodes: BTreeSet<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .flat_map(|table| {
            std::fs::read_to_string(table).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>()
        })
        .filter_map(|line| {
            let cells: Vec<&str> = line.split_whitespace().collect();
            (cells.get(3) == Some(&"0A")).then(|| format!("socket:[{}]", cells[9]))
        })
        .collect();
    assert!(!inodes.is_empty(), "the servers of this test listen");
    let files = std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")).unwrap();
    let links = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
    links.filter(|link| inodes.contains(&link.display().to_string())).count()
}

/// Answers `GET /cluster` as a Patroni that takes `replica1` for far behind, as long as it is asked.
fn pessimistic_patroni() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let body = r#"{"members": [{"name": "replica1", "role": "replica", "lag": 5000000}]}"#;
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut stream = stream;
            let _request = stream.read(&mut [0; 1024]);
            let head =
                format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            let _gone = stream.write_all(format!("{head}{body}").as_bytes());
        }
    });
    port
}

#[test]
fn an_idle_primary_makes_the_age_of_the_last_transaction_wrong_and_nothing_else() {
    let cluster = own_cluster(1);
    let patroni = format!("http://127.0.0.1:{}", pessimistic_patroni());
    let observation = Observation::of(&cluster, &["--patroni", &patroni]);
    eventually(Duration::from_secs(40), "the age was wrong for 5 s", || {
        wrongly_lagging(&observation.server("replica1"), "replay_age") > 5.0
    });
    assert_eq!(listening(observation.pid()), 0, "it serves nothing");
    let replica = observation.server("replica1");
    assert!(seconds(&replica, "/proven/fresh_seconds") > 5.0, "{replica:#}");
    assert_eq!(replica["formulas"]["in_sync"]["now"], true, "{replica:#}");
    for formula in ["in_sync", "combined"] {
        assert_eq!(
            (wrongly_lagging(&replica, formula), wrongly_fresh(&replica, formula)),
            (0.0, 0.0),
            "{formula}"
        );
    }
    assert_eq!(replica["formulas"]["patroni_lag"]["now"], 5_000_000, "Patroni is asked");
    assert!(wrongly_lagging(&replica, "patroni_lag") > 3.0, "{replica:#}");
    let connections = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'trunkline_observe'";
    assert_eq!(cluster.replicas[0].psql(connections).unwrap(), "1");

    let (output, json, svg) = observation.end();
    assert_eq!(output.status.code(), Some(0));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("LAGGING, BUT FRESH") && table.contains("Patroni ?lag=1 MiB"), "{table}");
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["servers"].as_array().map(Vec::len), Some(1), "the primary is no standby: {json}");
    assert!(
        svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>") && svg.contains("replica1"),
        "{svg}"
    );
}

#[test]
fn paused_replay_is_seen_by_all_and_a_standby_that_is_cut_off_is_called_in_sync() {
    let cluster = own_cluster(3);
    let [fresh, paused, cut_off] = [0, 1, 2].map(|at| &cluster.replicas[at]);
    let network = Forwarder::to(cluster.primary.port());
    let conninfo = cut_off.psql("SHOW primary_conninfo").unwrap();
    let through = format!("port={}", network.port());
    let through = conninfo.replace(&format!("port={}", cluster.primary.port()), &through);
    assert_ne!(through, conninfo);
    cut_off.set("primary_conninfo", &through).unwrap();
    let receives =
        format!("SELECT count(*) = 1 FROM pg_stat_wal_receiver WHERE sender_port = {}", network.port());
    cut_off.wait_until("it receives through the forwarder", &receives).unwrap();

    let _writes = traffic(&cluster.primary);
    let observation = Observation::of(&cluster, &["--patroni-lag", "1kB"]);
    eventually(Duration::from_secs(30), "all three are proven fresh", || {
        ["replica1", "replica2", "replica3"]
            .iter()
            .all(|name| seconds(&observation.server(name), "/proven/fresh_seconds") > 0.0)
    });
    paused.pause_replay().unwrap();
    network.set(Weather::Stalled);
    eventually(Duration::from_secs(60), "both lag, and Patroni's key says so of the paused one", || {
        let is_seen = |name: &str| seconds(&observation.server(name), "/proven/lagging_seconds") > 5.0;
        let key = seconds(&observation.server("replica2"), "/formulas/patroni_lag/now");
        is_seen("replica2") && is_seen("replica3") && key > 1024.0
    });

    let server = observation.server("replica2");
    let now = &server["formulas"];
    assert_eq!(now["in_sync"]["now"], false, "{server:#}");
    for formula in ["replay_age", "combined"] {
        assert!(now[formula]["now"].as_f64() > Some(2.0), "{server:#}");
        assert!(wrongly_fresh(&server, formula) < 1.0, "{server:#}");
    }
    assert!(wrongly_fresh(&server, "in_sync") < 1.0, "{server:#}");

    let server = observation.server("replica3");
    assert_eq!(server["formulas"]["in_sync"]["now"], true, "{server:#}");
    assert_eq!(server["state"], "LAGGING", "{server:#}");
    for formula in ["in_sync", "combined"] {
        assert!(wrongly_fresh(&server, formula) > 4.0, "{formula}: {server:#}");
    }
    assert!(wrongly_fresh(&server, "replay_age") < 1.0, "{server:#}");

    let server = observation.server(fresh.name());
    assert_eq!(seconds(&server, "/proven/lagging_seconds"), 0.0, "{server:#}");
    for formula in ["replay_age", "patroni_lag"] {
        assert!(wrongly_lagging(&server, formula) < 1.0, "{formula}: {server:#}");
    }
    network.set(Weather::Fair);
    let (output, _, svg) = observation.end();
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("FRESH, BUT LAGGED"));
    assert!(["replica1", "replica2", "replica3"].iter().all(|name| svg.contains(name)), "{svg}");
}
