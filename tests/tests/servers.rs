//! Servers that come and go while sessions live.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::Signal;
use trunkline_cluster::Server;
use trunkline_tests::{
    Auth, Endpoint, Forwarder, Login, eventually, http_get, own_cluster, psql, shared_cluster,
};

const PATIENCE: Duration = Duration::from_secs(30);

fn address(server: &Server) -> String {
    format!("127.0.0.1:{}", server.port())
}

/// Names of the servers that there are.
fn names(endpoint: &Endpoint) -> Vec<String> {
    let body = http_get(endpoint.http(), "/cluster").unwrap().body;
    let cluster: serde_json::Value = serde_json::from_str(&body).unwrap();
    let members = cluster["members"].as_array().unwrap().iter();
    members.map(|member| member["name"].as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn done(endpoint: &Endpoint, arguments: &[&str]) -> String {
    let (status, said) = endpoint.admin(arguments);
    assert_eq!(status, Some(0), "{arguments:?}: {said}");
    said
}

#[track_caller]
fn refused(endpoint: &Endpoint, arguments: &[&str], why: &str) {
    let (status, said) = endpoint.admin(arguments);
    assert!(status != Some(0) && said.contains(why), "{arguments:?}: {status:?}, {said}");
}

/// `[[server]]` entries, one for each name and address.
fn entries(servers: &[(&str, String)]) -> String {
    let entry = |(name, address): &(&str, String)| {
        format!("[[server]]\nname = \"{name}\"\naddress = \"{address}\"\n")
    };
    servers.iter().map(entry).collect()
}

#[test]
fn an_operator_adds_a_replica_and_takes_another_out() {
    let cluster = own_cluster(2);
    let [first, second] = [&cluster.replicas[0], &cluster.replicas[1]];
    let endpoint = Endpoint::over(&cluster).auth(Auth::Verify).without(second.name()).with_admin().start();
    let mut wires: Vec<_> = (0..6).map(|_| Login::default().connect(endpoint.reads())).collect();
    assert_eq!(wires[0].value("SHOW cluster_name"), first.name());
    assert_eq!(wires[0].query("PREPARE of_mine AS SELECT 42").error, None);
    done(&endpoint, &["server", "add", second.name(), &address(second)]);
    endpoint.await_health(second.name(), true, PATIENCE);
    done(&endpoint, &["server", "remove", first.name()]);
    eventually(PATIENCE, "it is forgotten", || names(&endpoint) == ["primary", second.name()]);
    for wire in &mut wires {
        assert_eq!(wire.value("SHOW cluster_name"), second.name());
    }
    assert_eq!(wires[0].value("EXECUTE of_mine"), "42", "what it had goes with it");
    let metrics = http_get(endpoint.http(), "/metrics").unwrap().body;
    assert!(!metrics.contains("server=\"replica1\"") && metrics.contains("server=\"replica2\""), "{metrics}");
    let idle = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%trunkline%'";
    eventually(PATIENCE, "nobody watches it", || first.psql(idle).unwrap() == "0");
    assert!(
        endpoint.log().contains("message=\"server forgotten\" server.name=replica1"),
        "{}",
        endpoint.log()
    );
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    let endpoint = Endpoint::over(shared_cluster()).with_admin().start();
    let replica = address(&shared_cluster().replicas[0]);
    refused(
        &endpoint,
        &["server", "add", "replica1", "127.0.0.1:1"],
        "there is a server \"replica1\" already",
    );
    refused(&endpoint, &["server", "add", "twin", &replica], "is server \"replica1\" already");
    refused(&endpoint, &["server", "add", "metrics", "127.0.0.1:1"], "a path of the HTTP checks");
    refused(&endpoint, &["server", "add", "a/b", "127.0.0.1:1"], "no valid name");
    refused(&endpoint, &["server", "add", "replica9", "127.0.0.1:99999"], "port");
    refused(
        &endpoint,
        &["server", "remove", "replica9"],
        "no server is named \"replica9\"; there are primary",
    );
    refused(&endpoint, &["server", "set", "replica1"], "nothing to set");
    refused(&endpoint, &["server", "set", "replica1", "--weight", "1001"], "1001");
    assert_eq!(names(&endpoint).len(), shared_cluster().servers().count());
}

#[test]
fn a_weight_holds_until_the_configuration_is_read_again() {
    let endpoint = Endpoint::over(shared_cluster()).with_admin().start();
    let only = |expected: &str| {
        let got: Vec<String> = (0..4).map(|_| psql(endpoint.reads(), "SHOW cluster_name")).collect();
        got.iter().all(|name| name == expected)
    };
    done(&endpoint, &["server", "set", "replica1", "--weight", "0"]);
    assert!(only("replica2"));
    done(&endpoint, &["server", "set", "replica1", "--zone", "a"]);
    assert!(only("replica2"), "the weight stays");
    done(&endpoint, &["reload"]);
    assert!(!only("replica2"));
}

#[test]
fn a_saved_server_is_there_after_a_restart_and_a_removed_one_is_not() {
    let cluster = own_cluster(2);
    let [first, second] = [&cluster.replicas[0], &cluster.replicas[1]];
    let primary = ("primary", address(&cluster.primary));
    let start = Endpoint::over(&cluster)
        .without(first.name())
        .without(second.name())
        .without("primary")
        .toml(&format!("# Ours.\n{}", entries(&[primary, ("replica1", address(first))])));
    let endpoint = start.with_admin().start();
    let said = done(&endpoint, &["server", "add", "replica2", &address(second), "--weight", "50", "--save"]);
    let file = said.lines().find_map(|line| line.strip_prefix("saved in ")).unwrap();
    done(&endpoint, &["server", "remove", "replica1", "--save"]);
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains("# Ours.") && text.contains("weight = 50") && !text.contains("replica1"), "{text}");
    done(&endpoint, &["reload"]);
    eventually(PATIENCE, "as saved", || names(&endpoint) == ["primary", "replica2"]);
    endpoint.await_health("replica2", true, PATIENCE);
    assert_eq!(psql(endpoint.reads(), "SHOW cluster_name"), "replica2");
}

#[test]
fn a_reload_changes_servers_without_an_error_to_a_session() {
    let cluster = own_cluster(2);
    let [first, second] = [&cluster.replicas[0], &cluster.replicas[1]];
    let (primary, other) = (("primary", address(&cluster.primary)), Forwarder::to(second.port()));
    let builder = Endpoint::over(&cluster).without(first.name()).without(second.name()).without("primary");
    let mut endpoint =
        builder.auth(Auth::Verify).toml(&entries(&[primary.clone(), ("replica1", address(first))])).start();
    eventually(PATIENCE, "it serves", || endpoint.status_of("/replica1") == 200);
    let mut wire = Login::default().connect(endpoint.reads());
    assert_eq!(wire.value("SHOW cluster_name"), "replica1");
    // The name leads to another place: the server there is another one.
    endpoint.replace_toml(&entries(&[primary.clone(), ("replica1", address(second))]));
    endpoint.signal(Signal::SIGHUP);
    eventually(PATIENCE, "it moves", || wire.value("SHOW cluster_name") == "replica2");
    eventually(PATIENCE, "the old one is forgotten", || names(&endpoint) == ["primary", "replica1"]);
    // The place has another name: it is the same server, and nobody moves.
    let pid = wire.value("SELECT pg_backend_pid()");
    endpoint.replace_toml(&entries(&[primary.clone(), ("reports", address(second))]));
    endpoint.signal(Signal::SIGHUP);
    eventually(PATIENCE, "it is renamed", || names(&endpoint) == ["primary", "reports"]);
    assert_eq!(wire.value("SELECT pg_backend_pid()"), pid);
    // All of them at other places.
    let writes = Forwarder::to(cluster.primary.port());
    let at = |forwarder: &Forwarder| format!("127.0.0.1:{}", forwarder.port());
    endpoint.replace_toml(&entries(&[("primary", at(&writes)), ("reports", at(&other))]));
    endpoint.signal(Signal::SIGHUP);
    eventually(PATIENCE, "all have moved", || {
        names(&endpoint) == ["primary", "reports"] && other.connections() > 1 && wire.value("SELECT 1") == "1"
    });
    assert_eq!(psql(endpoint.writes(), "SHOW cluster_name"), "primary");
    assert!(!endpoint.log().contains("needs a restart"));
}

/// Sessions that query as fast as they can until they are told to stop.
struct Load {
    is_over: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(port: u16, sessions: usize) -> Self {
        let (is_over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..sessions).map(|number| {
            let (is_over, answered) = (Arc::clone(&is_over), Arc::clone(&answered));
            std::thread::spawn(move || {
                let mut errors = Vec::new();
                let mut wire = Login::default().connect(port);
                assert_eq!(wire.query(&format!("SET application_name = 'session {number}'")).error, None);
                while !is_over.load(Relaxed) {
                    let answer = wire.query("SELECT current_setting('application_name')");
                    match answer.error {
                        Some(error) => errors.push(format!("{error:?}")),
                        None => assert_eq!(answer.value(), format!("session {number}")),
                    }
                    answered.fetch_add(1, Relaxed);
                }
                errors
            })
        });
        let threads = threads.collect();
        Load { is_over, answered, threads }
    }

    /// The errors that they got, and how many queries were answered.
    fn end(self) -> (Vec<String>, u64) {
        self.is_over.store(true, Relaxed);
        let errors = self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        (errors, self.answered.load(Relaxed))
    }
}

fn descriptors(endpoint: &Endpoint) -> usize {
    fs::read_dir(format!("/proc/{}/fd", endpoint.pid())).unwrap().count()
}

fn series(endpoint: &Endpoint) -> usize {
    http_get(endpoint.http(), "/metrics")
        .unwrap()
        .body
        .lines()
        .filter(|line| line.contains("server="))
        .count()
}

#[test]
fn a_thousand_changes_under_load_leave_no_error_and_nothing_behind() {
    const PLACES: usize = 10;
    const CHANGES: usize = 1000;
    let cluster = own_cluster(2);
    let endpoint = Endpoint::over(&cluster).auth(Auth::Verify).with_admin().start();
    // Many places of the two replicas, each a server of its own.
    let places: Vec<Forwarder> =
        (0..PLACES).map(|place| Forwarder::to(cluster.replicas[place % 2].port())).collect();
    // What is opened once, and stays.
    let first = Load::start(endpoint.reads(), 8);
    eventually(PATIENCE, "all have begun", || first.answered.load(Relaxed) > 100);
    drop(first.end());
    eventually(PATIENCE, "they have gone", || {
        endpoint.sessions_on("replica1") + endpoint.sessions_on("replica2") == 0
    });
    let before = (descriptors(&endpoint), series(&endpoint));
    let (load, memory) = (Load::start(endpoint.reads(), 8), endpoint.resident_bytes());
    let mut present = [false; PLACES];
    for change in 0..CHANGES {
        let at = change * 7 % PLACES;
        present[at] = !present[at];
        let path = match !present[at] {
            true => format!("/servers/place{at}/remove"),
            false => format!("/servers/place{at}/add?host=127.0.0.1&port={}", places[at].port()),
        };
        let (status, said) = endpoint.admin_post(&path);
        assert_eq!(status, 200, "{path}: {said}");
        if change % 100 == 99 {
            // So that some of them serve, and those that have left are forgotten.
            let now = present.iter().filter(|is_present| **is_present).count() + 3;
            eventually(PATIENCE, "those that left are forgotten", || names(&endpoint).len() == now);
            let there = (0..PLACES).filter(|at| present[*at]);
            there.for_each(|at| _ = endpoint.await_health(&format!("place{at}"), true, PATIENCE));
        }
    }
    for at in (0..PLACES).filter(|at| present[*at]) {
        assert_eq!(endpoint.admin_post(&format!("/servers/place{at}/remove")).0, 200);
    }
    eventually(PATIENCE, "all have left", || names(&endpoint).len() == 3);
    let (errors, answered) = load.end();
    assert_eq!(errors, Vec::<String>::new(), "of {answered} answers");
    assert!(answered > 1000, "{answered}");
    eventually(PATIENCE, "nothing is open any more", || descriptors(&endpoint) <= before.0 + 2);
    assert_eq!(series(&endpoint), before.1, "nothing is counted any more");
    assert!(places.iter().all(|place| place.connections() == 0), "nobody is watched any more");
    let grown = endpoint.resident_bytes().saturating_sub(memory);
    assert!(grown < 64 << 20, "{grown} bytes more");
}
