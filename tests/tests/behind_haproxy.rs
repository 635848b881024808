//! HAProxy in front of Trunkline, and HAProxy checked by it: Debian's own package, as the compose profiles use it.
//! Without an `haproxy` on the machine each test says so and ends.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;
use trunkline_cluster::{Cluster, PortLease};
use trunkline_tests::{
    Auth, Endpoint, EndpointBuilder, Login, eventually, own_cluster, psql, shared_cluster, traffic,
};

/// A running HAProxy with one frontend, ended when dropped.
struct Haproxy {
    child: Child,
    port: PortLease,
    directory: TempDir,
}

impl Haproxy {
    /// With this backend; `None` where no HAProxy is installed.
    fn start(backend: &str) -> Option<Self> {
        if Command::new("haproxy").arg("-v").output().is_err() {
            eprintln!("skipped: no haproxy here (apt-get install haproxy)");
            return None;
        }
        let directory = tempfile::Builder::new().prefix("trunkline-haproxy-").tempdir().unwrap();
        let port = PortLease::take().unwrap();
        let config = format!(
            "global\n log stdout format raw local0\n stats socket {socket} level admin\n\
             defaults\n mode tcp\n log global\n option tcplog\n timeout connect 1s\n timeout client 1m\n \
             timeout server 1m\n timeout check 800ms\n retries 3\n option redispatch 1\n \
             default-server inter 500ms fastinter 100ms downinter 200ms fall 2 rise 2\n\
             frontend clients\n bind 127.0.0.1:{port}\n default_backend servers\nbackend servers\n{backend}\n",
            socket = directory.path().join("socket").display(),
            port = port.port(),
        );
        let file = directory.path().join("haproxy.cfg");
        std::fs::write(&file, config).unwrap();
        let log = File::create(directory.path().join("log")).unwrap();
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&file).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap();
        let haproxy = Self { child, port, directory };
        eventually(Duration::from_secs(30), "HAProxy answers", || {
            haproxy.column("BACKEND", "status").is_some()
        });
        Some(haproxy)
    }

    fn port(&self) -> u16 {
        self.port.port()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// A column of `show stat` for a server of the backend.
    fn column(&self, server: &str, column: &str) -> Option<String> {
        let mut socket = UnixStream::connect(self.directory.path().join("socket")).ok()?;
        socket.write_all(b"show stat\n").ok()?;
        let mut table = String::new();
        socket.read_to_string(&mut table).ok()?;
        let mut lines = table.lines();
        let at = lines.next()?.trim_start_matches("# ").split(',').position(|name| name == column)?;
        let row = lines.find(|line| line.starts_with(&format!("servers,{server},")))?;
        row.split(',').nth(at).map(str::to_owned)
    }

    #[track_caller]
    fn await_status(&self, server: &str, status: &str, limit: Duration) -> Duration {
        eventually(limit, &format!("HAProxy has {server} as {status}"), || {
            self.column(server, "status").is_some_and(|now| now.starts_with(status))
        })
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("HAProxy's log:\n{}", self.log());
        }
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

const SOON: Duration = Duration::from_secs(15);
/// For a server to come back.
const LATER: Duration = Duration::from_secs(30);

/// Reads whose clients are named by HAProxy.
fn behind(cluster: &Cluster) -> EndpointBuilder {
    Endpoint::over(cluster).toml(
        "[[listener]]\nname = \"reads\"\naddress = \"127.0.0.1:1\"\nproxy_protocol_from = \"127.0.0.1\"\n",
    )
}

/// The backend of the old setup: straight to the servers, checked by Trunkline. In front of Trunklines nobody
/// should have HAProxy end sessions: it also ends those that it is about to send to another server.
fn straight(cluster: &Cluster, check: &str, server: &str) -> String {
    let servers = cluster.servers().enumerate().map(|(index, one)| {
        let backup = if index == 0 { "backup" } else { "" };
        let (name, port) = (one.name(), one.port());
        let server = server.replace("NAME", name);
        format!(" server {name} 127.0.0.1:{port} check {server} {backup}\n")
    });
    let ending = " default-server on-marked-down shutdown-sessions\n";
    format!(" balance roundrobin\n{ending}{check}\n{}", servers.collect::<String>())
}

#[test]
fn both_versions_of_the_header_carry_the_clients_address() {
    for send in ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options unique-id"] {
        let endpoint = behind(shared_cluster()).flag("--log-statements", "0").start();
        let server = format!(" server one 127.0.0.1:{} {send}\n", endpoint.reads());
        let Some(haproxy) = Haproxy::start(&server) else { return };
        assert_eq!(psql(haproxy.port(), "SELECT 41 + 1"), "42");
        eventually(SOON, "HAProxy has logged the session", || haproxy.log().contains(" servers/one "));
        let log = haproxy.log();
        let line = log.lines().find(|line| line.contains(" servers/one ")).unwrap();
        let client = line.split_whitespace().next().unwrap();
        eventually(SOON, "the statement is logged with the client's address", || {
            endpoint.log().contains(&format!("client.addr={client}"))
        });
    }
}

#[test]
fn readiness_and_health_checks_with_a_header_of_their_own_pass() {
    let endpoint = behind(shared_cluster()).start();
    let (reads, http) = (endpoint.reads(), endpoint.http());
    for backend in [
        format!(
            " option httpchk\n http-check send meth GET uri /readyz\n http-check expect status 200\n \
             server one 127.0.0.1:{reads} check port {http} send-proxy-v2\n"
        ),
        format!(
            " option pgsql-check user hacheck\n server one 127.0.0.1:{reads} check send-proxy-v2 check-send-proxy\n"
        ),
    ] {
        let Some(haproxy) = Haproxy::start(&backend) else { return };
        // Before the first check it is UP, too.
        eventually(SOON, "HAProxy has checked it", || {
            haproxy.column("one", "check_status").is_some_and(|status| status.starts_with("L7"))
        });
        assert_eq!(haproxy.column("one", "status").unwrap(), "UP", "{backend}");
        assert_eq!(psql(haproxy.port(), "SELECT 41 + 1"), "42");
    }
    assert!(!endpoint.log().contains("refused"), "checks are nothing to complain of: {}", endpoint.log());
}

#[test]
fn pgsql_check_notices_the_end_of_a_proxy() {
    let endpoint = Endpoint::over(shared_cluster()).start();
    let server =
        format!(" option pgsql-check user hacheck\n server one 127.0.0.1:{} check\n", endpoint.reads());
    let Some(haproxy) = Haproxy::start(&server) else { return };
    haproxy.await_status("one", "UP", SOON);
    endpoint.signal(Signal::SIGKILL);
    haproxy.await_status("one", "DOWN", SOON);
}

#[test]
fn killing_one_of_two_proxies_costs_no_new_connection() {
    let mut endpoints = [0, 1].map(|_| behind(shared_cluster()).auth(Auth::Verify).start());
    let servers = endpoints.iter().enumerate().map(|(index, endpoint)| {
        let (reads, http) = (endpoint.reads(), endpoint.http());
        format!(" server proxy{index} 127.0.0.1:{reads} check port {http} send-proxy-v2\n")
    });
    let check = " balance roundrobin\n option httpchk\n http-check send meth GET uri /readyz\n";
    let Some(haproxy) = Haproxy::start(&format!("{check}{}", servers.collect::<String>())) else { return };
    haproxy.await_status("proxy1", "UP", SOON);
    for session in 0..200 {
        if session == 50 {
            endpoints[0].signal(Signal::SIGKILL);
            endpoints[0].await_end(SOON);
        }
        let session = Login::default().try_connect(haproxy.port());
        assert_eq!(session.map(|mut wire| wire.value("SELECT 1")), Ok("1".to_owned()));
    }
    haproxy.await_status("proxy0", "DOWN", SOON);
}

#[test]
fn verdicts_by_http_take_a_dead_replica_out_and_the_primary_in() {
    let cluster = own_cluster(2);
    let Some((_endpoint, haproxy)) = checked(&cluster) else { return };
    let [first, second] = &cluster.replicas[..] else { panic!("there are two") };
    first.kill();
    haproxy.await_status("replica1", "DOWN", SOON);
    assert_eq!(psql(haproxy.port(), "SHOW cluster_name"), "replica2");
    second.kill();
    haproxy.await_status("replica2", "DOWN", SOON);
    assert_eq!(psql(haproxy.port(), "SHOW cluster_name"), "primary", "the backup serves");
    first.start().unwrap();
    haproxy.await_status("replica1", "UP", LATER);
    assert_eq!(psql(haproxy.port(), "SHOW cluster_name"), "replica1");
    second.start().unwrap();
    haproxy.await_status("replica2", "UP", LATER);
}

#[test]
fn a_lagging_replica_is_drained_by_404_and_weighed_down_by_the_agent() {
    let cluster = own_cluster(2);
    let agent = PortLease::take().unwrap();
    let address = format!("127.0.0.1:{}", agent.port());
    let endpoint = Endpoint::over(&cluster).flag("--agent", &address).start();
    let http = endpoint.http();
    let by_404 = format!(
        " option httpchk\n http-check disable-on-404\n http-check connect port {http} addr 127.0.0.1\n \
         http-check send meth GET uri-lf \"/%[srv_name]?drain=404\""
    );
    let weighed = format!(
        "weight 100 agent-check agent-addr 127.0.0.1 agent-port {} agent-inter 200ms agent-send \"NAME\\n\"",
        agent.port()
    );
    let Some(drained) = Haproxy::start(&straight(&cluster, &by_404, "")) else { return };
    let Some(weighed) = Haproxy::start(&straight(&cluster, "", &weighed)) else { return };
    let weight = |haproxy: &Haproxy| haproxy.column("replica1", "weight").unwrap();
    assert_eq!(weight(&weighed), "100");
    let _writes = traffic(&cluster.primary);
    cluster.replicas[0].psql("SELECT pg_wal_replay_pause()").unwrap();
    drained.await_status("replica1", "NOLB", SOON);
    eventually(SOON, "its weight is 0", || weight(&weighed) == "0");
    for haproxy in [&drained, &weighed] {
        assert_eq!(psql(haproxy.port(), "SHOW cluster_name"), "replica2");
    }
    cluster.replicas[0].psql("SELECT pg_wal_replay_resume()").unwrap();
    drained.await_status("replica1", "UP", SOON);
    eventually(SOON, "its weight is back", || weight(&weighed) == "100");
}

/// HAProxy of the old setup, checked by an endpoint's HTTP; `None` where no HAProxy is installed.
fn checked(cluster: &Cluster) -> Option<(Endpoint, Haproxy)> {
    let endpoint = Endpoint::over(cluster).start();
    let check = format!(
        " option httpchk\n http-check connect port {} addr 127.0.0.1\n \
         http-check send meth GET uri-lf /%[srv_name]\n http-check expect string OK",
        endpoint.http()
    );
    let haproxy = Haproxy::start(&straight(cluster, &check, ""))?;
    Some((endpoint, haproxy))
}

/// Who answers a new connection through HAProxy.
fn answerer(haproxy: &Haproxy) -> String {
    psql(haproxy.port(), "SHOW cluster_name")
}

#[test]
fn a_hung_replica_is_left_and_comes_back() {
    let cluster = own_cluster(2);
    let Some((_endpoint, haproxy)) = checked(&cluster) else { return };
    cluster.replicas[0].pause();
    haproxy.await_status("replica1", "DOWN", SOON);
    assert_eq!([answerer(&haproxy), answerer(&haproxy)], ["replica2", "replica2"]);
    cluster.replicas[0].resume();
    haproxy.await_status("replica1", "UP", LATER);
}

#[test]
fn with_both_replicas_lagging_the_primary_serves_until_they_return_one_by_one() {
    let cluster = own_cluster(2);
    let Some((_endpoint, haproxy)) = checked(&cluster) else { return };
    let _writes = traffic(&cluster.primary);
    for replica in &cluster.replicas {
        replica.pause_replay().unwrap();
    }
    for name in ["replica1", "replica2"] {
        haproxy.await_status(name, "DOWN", SOON);
    }
    assert_eq!(answerer(&haproxy), "primary");
    for (replica, name) in cluster.replicas.iter().zip(["replica1", "replica2"]) {
        replica.resume_replay().unwrap();
        haproxy.await_status(name, "UP", LATER);
        assert!(answerer(&haproxy).starts_with("replica"), "the backup is one again");
    }
}

#[test]
fn reads_go_on_while_the_primary_is_down() {
    let cluster = own_cluster(2);
    let Some((endpoint, haproxy)) = checked(&cluster) else { return };
    cluster.primary.kill();
    haproxy.await_status("primary", "DOWN", SOON);
    // Twice as long as HAProxy takes to leave a server that is refused.
    let until = std::time::Instant::now() + Duration::from_secs(3);
    while std::time::Instant::now() < until {
        assert!(answerer(&haproxy).starts_with("replica"));
        assert_eq!((endpoint.status_of("/replica1"), endpoint.status_of("/replica2")), (200, 200));
    }
    cluster.primary.start().unwrap();
    haproxy.await_status("primary", "UP", LATER);
}

#[test]
fn a_replica_cut_off_from_the_primary_leaves_although_clients_still_reach_it() {
    let cluster = own_cluster(2);
    let Some((_endpoint, haproxy)) = checked(&cluster) else { return };
    let _writes = traffic(&cluster.primary);
    let sender =
        cluster.primary.psql("SELECT pid FROM pg_stat_replication WHERE application_name = 'replica1'");
    let sender = sender.unwrap().parse().unwrap();
    trunkline_cluster::send_signal(sender, Signal::SIGSTOP);
    haproxy.await_status("replica1", "DOWN", SOON);
    let in_sync = "SELECT pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn()";
    assert_eq!(cluster.replicas[0].psql(in_sync).unwrap(), "t", "to itself it is in sync");
    assert_eq!([answerer(&haproxy), answerer(&haproxy)], ["replica2", "replica2"]);
    trunkline_cluster::send_signal(sender, Signal::SIGCONT);
    haproxy.await_status("replica1", "UP", LATER);
}
