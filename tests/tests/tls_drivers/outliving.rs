//! What the first page of README shows of TLS, while a server is killed that lets nobody in but by TLS and SCRAM.

use std::time::Duration;

use trunkline_cluster::Cluster;
use trunkline_tests::{Auth, Certificates, Endpoint, eventually, http_get, pg18, psql_output, tls_cluster};

use super::libpq::client;
use super::printed;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// All that its pg_hba.conf says.
const DEMANDING: &str = "local all,replication all trust
hostssl all,replication all 127.0.0.1/32 scram-sha-256
hostnossl all,replication all 0.0.0.0/0 reject
";

/// A primary and two standbys that demand TLS and SCRAM of everybody.
fn demanding() -> Cluster {
    let cluster = tls_cluster(Some(pg18()), 2);
    cluster.primary.psql("CREATE ROLE app LOGIN PASSWORD 'app secret'").unwrap();
    cluster.wait_caught_up().unwrap();
    for server in cluster.servers() {
        std::fs::write(server.data_dir().join("pg_hba.conf"), DEMANDING).unwrap();
        server.psql("SELECT pg_reload_conf()").unwrap();
        let rules =
            "SELECT string_agg(type || ' ' || auth_method, ', ' ORDER BY rule_number) FROM pg_hba_file_rules";
        assert_eq!(server.psql(rules).unwrap(), "local trust, hostssl scram-sha-256, hostnossl reject");
        let refused = || {
            let output = psql_output(server.port(), &[("PGSSLMODE", "disable")], "SELECT 1");
            String::from_utf8_lossy(&output.stderr).contains("pg_hba.conf rejects connection")
        };
        eventually(PATIENCE, "nobody comes in without TLS", refused);
    }
    cluster
}

/// The sum of a family of metrics over all labels.
fn counted(endpoint: &Endpoint, family: &str) -> f64 {
    let metrics = http_get(endpoint.http(), "/metrics").unwrap().body;
    let samples = metrics.lines().filter(|line| line.starts_with(&format!("{family}{{")));
    samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[test]
fn verified_sessions_outlive_the_sigkill_of_a_server_that_demands_tls_and_scram() {
    let cluster = demanding();
    let victim = &cluster.replicas[0];
    let mut script = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut script, b"SELECT relname FROM pg_class WHERE oid = 1259;\n").unwrap();
    let root = Certificates::shared().root().display().to_string();
    // Both legs in the one way, then both in the other.
    for negotiation in ["postgres", "direct"] {
        let endpoint = Endpoint::over(&cluster)
            .auth(Auth::Verify)
            .with_tls()
            .key("client_tls.sslmode", "\"require\"")
            .key("server_tls.sslnegotiation", &format!("{negotiation:?}"))
            .start();
        let said = "SELECT current_user || ' ' || ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let target = format!(
            "host=127.0.0.1 port={} dbname=appdb user=app password='app secret' sslmode=verify-full \
             channel_binding=require sslnegotiation={negotiation} sslrootcert={root}",
            endpoint.reads()
        );
        let mut psql = pg18().command("psql");
        assert_eq!(printed(&psql.args(["-XAtqc", said, &target]).output().unwrap()), "app true");

        let mut pgbench = client("pgbench", endpoint.reads(), negotiation);
        pgbench.args(["-n", "-M", "prepared", "-c", "6", "-j", "1", "-T", "8", "-f"]).arg(script.path());
        let run = std::thread::spawn(move || pgbench.output().unwrap());
        let working = "SELECT count(*) FROM pg_stat_activity JOIN pg_stat_ssl USING (pid)
                       WHERE usename = 'app' AND ssl AND query LIKE '%1259%'";
        eventually(PATIENCE, "sessions are at work on the victim", || {
            victim.psql(working).is_ok_and(|count| count.parse::<u32>().is_ok_and(|count| count >= 2))
        });
        victim.kill_postmaster();
        victim.wait_stopped(PATIENCE).unwrap();
        victim.start().unwrap();
        let told = printed(&run.join().unwrap());
        assert!(told.contains("number of failed transactions: 0 "), "{negotiation}: {told}");
        assert!(counted(&endpoint, "trunkline_session_moves_total") >= 1.0, "{negotiation}: {told}");
        assert!(counted(&endpoint, "trunkline_sessions_lost_total") == 0.0, "{negotiation}: {told}");
    }
}
