//! Servers that sources name come and go by themselves.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use trunkline_cluster::{Cluster, MONITOR_PASSWORD, MONITOR_ROLE, PgInstall, PortLease, Server, send_signal};
use trunkline_discovery::testing::FakeDns;
use trunkline_tests::{
    Auth, Endpoint, EndpointBuilder, Wire, binary, cluster_of, eventually, http_get, own_cluster, tls_is_on,
};

/// Far beyond what a healthy machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Servers that also listen on other addresses of the loopback.
const ADDRESSES: (&str, &str) = ("listen_addresses", "127.0.0.1,127.0.0.2,127.0.0.3");

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// An endpoint that knows no server, but those of `tables`.
fn without_servers(cluster: &Cluster, tables: &str) -> EndpointBuilder {
    let mut builder = Endpoint::over(cluster).auth(Auth::Verify).toml(tables);
    for server in cluster.servers() {
        builder = builder.without(server.name());
    }
    with_any_name(builder)
}

/// The servers' certificates are for 127.0.0.1.
fn with_any_name(builder: EndpointBuilder) -> EndpointBuilder {
    if tls_is_on() { builder.key("server_tls.sslmode", "\"verify-ca\"") } else { builder }
}

/// A source that asks `dns` for the SRV records of `_pg._tcp.test`.
fn dns_source(dns: &FakeDns) -> String {
    format!(
        "[[discovery.source]]\nname = \"names\"\nkind = \"dns\"\nnames = [\"_pg._tcp.test\"]\n\
         resolver = \"{}\"\nttl_max = \"1s\"\n",
        dns.address()
    )
}

/// Makes `dns` name these servers and no others.
fn name_servers(dns: &FakeDns, servers: &[&Server]) {
    let targets: Vec<_> = servers.iter().map(|server| format!("{}.test", server.name())).collect();
    for target in &targets {
        dns.addresses(target, 1, &[ip("127.0.0.1")]);
    }
    let record = |(server, target): (&&Server, &String)| (0, 0, server.port(), target.clone());
    let records: Vec<_> = servers.iter().zip(&targets).map(record).collect();
    let records: Vec<_> =
        records.iter().map(|(p, w, port, target)| (*p, *w, *port, target.as_str())).collect();
    dns.services("_pg._tcp.test", 1, &records);
}

fn cluster_json(endpoint: &Endpoint) -> serde_json::Value {
    serde_json::from_str(&http_get(endpoint.http(), "/cluster").unwrap().body).unwrap()
}

/// The server `name` as `/cluster` shows it.
fn shown(endpoint: &Endpoint, name: &str) -> Option<serde_json::Value> {
    let cluster = cluster_json(endpoint);
    let member = cluster["members"].as_array().unwrap().iter().find(|member| member["name"] == name)?.clone();
    Some(member)
}

/// The port of the server that a new session for reads is on.
fn read_port(endpoint: &Endpoint) -> u16 {
    Wire::login(endpoint.reads()).value("SELECT current_setting('port')").parse().unwrap()
}

fn status(endpoint: &Endpoint) -> String {
    let address = format!("127.0.0.1:{}", endpoint.http());
    let output = Command::new(binary()).args(["status", "--http", &address]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn state_dir_key(directory: &Path) -> String {
    format!("{:?}", directory.display().to_string())
}

#[test]
fn servers_of_srv_records_serve_come_and_go_without_an_error() {
    let cluster = own_cluster(2);
    let [replica1, replica2] = &cluster.replicas[..] else { panic!("two replicas were asked for") };
    let dns = FakeDns::start().unwrap();
    name_servers(&dns, &[&cluster.primary, replica1]);
    let endpoint = without_servers(&cluster, &dns_source(&dns)).start();
    endpoint.await_health("primary", true, PATIENCE);
    endpoint.await_health("replica1", true, PATIENCE);
    assert_eq!(shown(&endpoint, "replica1").unwrap()["origin"], "names");
    assert_eq!(Wire::login(endpoint.writes()).value("SELECT pg_is_in_recovery()"), "f");
    assert_eq!(read_port(&endpoint), replica1.port());

    let mut reader = Wire::login(endpoint.reads());
    name_servers(&dns, &[&cluster.primary, replica1, replica2]);
    endpoint.await_health("replica2", true, PATIENCE);
    name_servers(&dns, &[&cluster.primary, replica2]);
    eventually(PATIENCE, "replica1 is forgotten", || {
        assert_eq!(reader.value("SELECT 1"), "1", "a session goes on");
        shown(&endpoint, "replica1").is_none()
    });
    assert_eq!(reader.value("SELECT current_setting('port')"), replica2.port().to_string());
    assert_eq!(read_port(&endpoint), replica2.port());
    let metrics = http_get(endpoint.http(), "/metrics").unwrap().body;
    assert!(metrics.contains("trunkline_discovery_members{source=\"names\"} 2\n"), "{metrics}");
    assert!(!metrics.contains("server=\"replica1\""), "nothing is left of it: {metrics}");
}

#[test]
fn a_name_whose_address_changes_is_followed() {
    let cluster = cluster_of(PgInstall::find(None).unwrap(), 1, &[ADDRESSES]);
    let dns = FakeDns::start().unwrap();
    dns.addresses("reads.test", 1, &[ip("127.0.0.2")]);
    let source = format!(
        "[[discovery.source]]\nkind = \"dns\"\nnames = [\"reads.test:{}\"]\nresolver = \"{}\"\nttl_max = \"1s\"\n",
        cluster.replicas[0].port(),
        dns.address()
    );
    let builder = Endpoint::over(&cluster).auth(Auth::Verify).without("replica1").toml(&source);
    let endpoint = with_any_name(builder).start();
    endpoint.await_health("127.0.0.2", true, PATIENCE);
    let mut reader = Wire::login(endpoint.reads());
    dns.addresses("reads.test", 1, &[ip("127.0.0.3")]);
    eventually(PATIENCE, "the new address has taken over", || {
        assert_eq!(reader.value("SELECT 1"), "1", "a session goes on");
        shown(&endpoint, "127.0.0.2").is_none() && endpoint.status_of("/127.0.0.3") == 200
    });
    assert_eq!(Wire::login(endpoint.reads()).value("SELECT host(inet_server_addr())"), "127.0.0.3");
}

#[test]
fn a_source_that_fails_changes_nothing_and_a_restart_goes_on_from_its_last_good_answer() {
    let cluster = own_cluster(1);
    let state = tempfile::tempdir().unwrap();
    let dns = FakeDns::start().unwrap();
    name_servers(&dns, &[&cluster.primary, &cluster.replicas[0]]);
    let tables = dns_source(&dns);
    let builder =
        || without_servers(&cluster, &tables).key("discovery.state_dir", &state_dir_key(state.path()));
    let endpoint = builder().start();
    endpoint.await_health("replica1", true, PATIENCE);
    dns.fails("_pg._tcp.test");
    eventually(PATIENCE, "the source is known to fail", || {
        cluster_json(&endpoint)["sources"][0]["error"].is_string()
    });
    let told = status(&endpoint);
    assert!(told.contains("! source names gives no answer, its servers stay, answered "), "{told}");
    assert_eq!(endpoint.status_of("/replica1"), 200);
    assert_eq!(read_port(&endpoint), cluster.replicas[0].port());
    drop(endpoint);

    let endpoint = builder().start();
    endpoint.await_health("replica1", true, PATIENCE);
    endpoint.await_health("primary", true, PATIENCE);
    assert_eq!(read_port(&endpoint), cluster.replicas[0].port());
    let told = status(&endpoint);
    assert!(told.contains("ago, before the start"), "{told}");
    name_servers(&dns, &[&cluster.primary, &cluster.replicas[0]]);
    eventually(PATIENCE, "the source answers again", || {
        cluster_json(&endpoint)["sources"][0]["from"] == "source"
    });
}

#[test]
fn a_standby_that_begins_to_replicate_serves_by_itself() {
    let cluster = own_cluster(1);
    let source = format!(
        "[[discovery.source]]\nkind = \"standbys\"\nnetworks = \"127.0.0.0/8\"\nport = {}\ninterval = \"500ms\"\n",
        cluster.replicas[0].port()
    );
    let endpoint = Endpoint::over(&cluster).without("replica1").toml(&source).start();
    endpoint.await_health("replica1", true, PATIENCE);
    assert_eq!(shown(&endpoint, "replica1").unwrap()["origin"], "standbys");
    assert_eq!(shown(&endpoint, "primary").unwrap()["origin"], "configured");
    assert_eq!(read_port(&endpoint), cluster.replicas[0].port());
    cluster.replicas[0].kill();
    endpoint.await_health("replica1", false, PATIENCE);
    assert!(shown(&endpoint, "replica1").is_some(), "one that restarts is not forgotten");
    cluster.replicas[0].start().unwrap();
    endpoint.await_health("replica1", true, PATIENCE);
}

#[test]
fn a_standby_of_a_standby_is_found_where_its_upstream_is_a_server() {
    let cluster = own_cluster(1);
    let upstream = &cluster.replicas[0];
    // By its Unix socket the primary does not see where it is: what is found is found below it.
    let conninfo = upstream.psql("SELECT current_setting('primary_conninfo')").unwrap();
    let directory = cluster.socket_dir().display().to_string();
    upstream.set("primary_conninfo", &format!("{conninfo} host={directory}")).unwrap();
    let by_socket = "SELECT bool_and(client_addr IS NULL) FROM pg_stat_replication";
    cluster.primary.wait_until("the standby comes by the socket", by_socket).unwrap();
    let below = cluster.add_standby("below", upstream).unwrap();
    let source = format!(
        "[[discovery.source]]\nkind = \"standbys\"\nnetworks = \"127.0.0.0/8\"\nport = {}\ninterval = \"500ms\"\n",
        below.port()
    );
    let endpoint = Endpoint::over(&cluster).toml(&source).start();
    endpoint.await_health("below", true, PATIENCE);
    assert_eq!(shown(&endpoint, "below").unwrap()["origin"], "standbys");
}

#[test]
fn after_a_failover_the_new_primary_is_asked_for_its_standbys() {
    let cluster = own_cluster(1);
    let replica = &cluster.replicas[0];
    let source = format!(
        "[[discovery.source]]\nkind = \"standbys\"\nnetworks = \"127.0.0.0/8\"\nport = {}\ninterval = \"500ms\"\n",
        replica.port()
    );
    let endpoint = Endpoint::over(&cluster).without("replica1").toml(&source).start();
    endpoint.await_health("replica1", true, PATIENCE);
    cluster.primary.kill();
    eventually(PATIENCE, "nobody can be asked", || {
        cluster_json(&endpoint)["sources"][0]["error"].to_string().contains("no primary serves")
    });
    replica.promote().unwrap();
    eventually(PATIENCE, "the new primary has answered", || {
        cluster_json(&endpoint)["sources"][0]["error"].is_null()
    });
    let mut writer = Wire::login(endpoint.writes());
    assert_eq!(writer.value("SELECT current_setting('port')"), replica.port().to_string());
    assert_eq!(writer.value("SELECT pg_is_in_recovery()"), "f");
    assert!(shown(&endpoint, "replica1").is_some(), "the source has named it");
}

#[test]
fn a_standby_outside_of_the_networks_is_not_used() {
    let cluster = own_cluster(1);
    let source = format!(
        "[[discovery.source]]\nkind = \"standbys\"\nnetworks = \"10.0.0.0/8\"\nport = {}\ninterval = \"500ms\"\n",
        cluster.replicas[0].port()
    );
    let endpoint = Endpoint::over(&cluster).without("replica1").toml(&source).start();
    eventually(PATIENCE, "it is said", || endpoint.log().contains("outside of the networks of the source"));
    eventually(PATIENCE, "the source has answered", || {
        cluster_json(&endpoint)["sources"][0]["answered_at"].is_number()
    });
    assert_eq!(cluster_json(&endpoint)["members"].as_array().unwrap().len(), 1);
}

#[test]
fn a_managed_cluster_says_its_own_topology() {
    let cluster = cluster_of(PgInstall::find(None).unwrap(), 1, &[ADDRESSES]);
    let port = cluster.replicas[0].port();
    let functions = format!(
        "CREATE SCHEMA rds_tools;
         CREATE FUNCTION rds_tools.show_topology(text) RETURNS TABLE (id text, endpoint text, port int)
         LANGUAGE sql AS $$ VALUES ('db-A', '2', {port}) $$;
         GRANT USAGE ON SCHEMA rds_tools TO PUBLIC;
         SET allow_system_table_mods = on;
         CREATE FUNCTION pg_catalog.aurora_replica_status()
         RETURNS TABLE (server_id text, session_id text, last_update_timestamp timestamptz)
         LANGUAGE sql AS $$ VALUES ('3', 'b0a1', NULL::timestamptz), ('9', 'gone', now() - interval '1 hour') $$"
    );
    cluster.primary.psql(&functions).unwrap();
    cluster.wait_caught_up().unwrap();
    let source = |kind: &str| {
        format!(
            "[[discovery.source]]\nkind = \"{kind}\"\nendpoint = \"127.0.0.{{id}}:{port}\"\ninterval = \"500ms\"\n"
        )
    };
    let tables = source("rds") + &source("aurora");
    let endpoint = with_any_name(Endpoint::over(&cluster).without("replica1").toml(&tables)).start();
    endpoint.await_health("2", true, PATIENCE);
    endpoint.await_health("3", true, PATIENCE);
    assert_eq!(shown(&endpoint, "2").unwrap()["origin"], "rds");
    assert_eq!(shown(&endpoint, "3").unwrap()["host"], "127.0.0.3");
    assert!(shown(&endpoint, "9").is_none(), "an instance that is silent for an hour is gone");
}

#[test]
fn check_connect_lists_what_sources_name_and_asks_those_servers() {
    let cluster = own_cluster(1);
    let dns = FakeDns::start().unwrap();
    name_servers(&dns, &[&cluster.primary, &cluster.replicas[0]]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trunkline.toml");
    std::fs::write(&file, dns_source(&dns)).unwrap();
    let check = || {
        let mut command = Command::new(binary());
        command.args(["check", "--connect", "--config"]).arg(&file);
        command.args(["--monitor", "user=trunkline_monitor dbname=appdb"]);
        command.env("TRUNKLINE__MONITOR__PASSWORD", trunkline_cluster::MONITOR_PASSWORD);
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    };
    let (status, text) = check();
    assert_eq!(status, Some(0), "{text}");
    let place = format!("replica1  127.0.0.1:{}", cluster.replicas[0].port());
    assert_eq!(text.matches(&place).count(), 2, "named by the source, asked as a server: {text}");
    dns.fails("_pg._tcp.test");
    let (status, text) = check();
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("source names (dns): "), "{text}");
}

/// A `trunkline health` that ends with the test.
struct HealthCommand(Child);

impl HealthCommand {
    fn start(config: &Path, more: &[&str]) -> Self {
        let mut command = Command::new(binary());
        command.args(["health", "--config", config.to_str().unwrap()]).args(more);
        command.env("TRUNKLINE__MONITOR__PASSWORD", MONITOR_PASSWORD);
        Self(command.stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for HealthCommand {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[test]
fn health_checks_and_observations_follow_a_source() {
    let cluster = own_cluster(2);
    let [replica1, replica2] = &cluster.replicas[..] else { panic!("two replicas were asked for") };
    let dns = FakeDns::start().unwrap();
    name_servers(&dns, &[&cluster.primary, replica1]);
    let (http, agent) = (PortLease::take().unwrap(), PortLease::take().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("health.toml");
    let monitor = format!("[monitor]\nuser = \"{MONITOR_ROLE}\"\ndbname = \"appdb\"\n");
    std::fs::write(&config, dns_source(&dns) + &monitor).unwrap();
    let (http_at, agent_at) = (format!("127.0.0.1:{}", http.port()), format!("127.0.0.1:{}", agent.port()));
    let health = HealthCommand::start(&config, &["--http", &http_at, "--agent", &agent_at]);
    let json = directory.path().join("lag.json");
    let observe = ["--observe", "--every", "1s", "--json", json.to_str().unwrap()];
    let _observation = HealthCommand::start(&config, &observe);
    let is_fit = |name: &str| http_get(http.port(), name).is_some_and(|answer| answer.status == 200);
    let is_observed = |name: &str| {
        let report: Option<serde_json::Value> =
            std::fs::read(&json).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let servers = report.and_then(|report| report["servers"].as_array().cloned()).unwrap_or_default();
        servers.iter().any(|server| server["name"] == name)
    };
    eventually(PATIENCE, "both are there", || is_fit("/primary") && is_fit("/replica1"));
    eventually(PATIENCE, "it is observed", || is_observed("replica1"));
    assert!(!is_observed("replica2"));

    name_servers(&dns, &[&cluster.primary, replica2]);
    eventually(PATIENCE, "replica2 has come", || is_fit("/replica2") && is_observed("replica2"));
    eventually(PATIENCE, "replica1 has gone", || {
        http_get(http.port(), "/replica1").is_some_and(|answer| answer.status == 404)
    });

    // A server that is configured stays when its source is not.
    std::fs::write(
        &config,
        format!(
            "[[server]]\nname = \"named\"\naddress = \"127.0.0.1:{}\"\n[monitor]\nuser = \"{MONITOR_ROLE}\"\n",
            cluster.primary.port()
        ),
    )
    .unwrap();
    send_signal(health.0.id().try_into().unwrap(), Signal::SIGHUP);
    eventually(PATIENCE, "the configuration is in force", || {
        is_fit("/named") && http_get(http.port(), "/replica2").is_some_and(|answer| answer.status == 404)
    });
}
