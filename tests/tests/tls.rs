//! TLS on both legs: who may come by it, whom it leads to, and that nothing else changes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use trunkline_cluster::{Cluster, PgInstall};
use trunkline_tests::{
    Auth, Certificates, Endpoint, EndpointBuilder, Pgbench, binary, eventually, http_get, own_cluster, pg17,
    pg18, pgbench, psql_output, tls_cluster,
};

#[path = "tls/cancels.rs"]
mod cancels;
#[path = "tls/negotiation.rs"]
mod negotiation;
#[path = "tls/reloads.rs"]
mod reloads;
#[path = "tls/server_leg.rs"]
mod server_leg;
#[path = "tls/system_roots.rs"]
mod system_roots;

/// How long a change of state may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A cluster that demands TLS.
fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| tls_cluster(None, 2))
}

/// An endpoint with TLS on both legs.
fn both() -> EndpointBuilder {
    Endpoint::over(cluster()).auth(Auth::Verify).with_tls()
}

fn root() -> String {
    Certificates::shared().root().display().to_string()
}

/// What a query returns, or what the client says.
fn ask(port: u16, extra: &[(&str, &str)], sql: &str) -> Result<String, String> {
    let output = psql_output(port, extra, sql);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

const ENCRYPTED: &str = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

#[test]
fn verified_clients_reach_servers_that_demand_tls() {
    let endpoint = both().start();
    let root = root();
    let verified = [("PGSSLMODE", "verify-full"), ("PGSSLROOTCERT", root.as_str())];
    assert_eq!(ask(endpoint.reads(), &verified, ENCRYPTED).as_deref(), Ok("t"));
    assert_eq!(ask(endpoint.writes(), &verified, "SELECT pg_is_in_recovery()").as_deref(), Ok("f"));
    // The client decides, as by PgBouncer's `prefer`.
    assert_eq!(ask(endpoint.reads(), &[("PGSSLMODE", "disable")], ENCRYPTED).as_deref(), Ok("t"));
}

#[test]
fn a_listener_that_requires_tls_refuses_others_in_the_words_of_a_server() {
    let endpoint = both().key("client_tls.sslmode", "\"require\"").start();
    let refused = ask(endpoint.reads(), &[("PGSSLMODE", "disable")], "SELECT 1").unwrap_err();
    assert!(refused.contains("no encryption"), "{refused}");
    assert_eq!(ask(endpoint.reads(), &[("PGSSLMODE", "require")], "SELECT 1").as_deref(), Ok("1"));
}

#[test]
fn a_server_that_is_not_whom_it_should_be_serves_nobody_and_the_reason_is_said() {
    let stranger = rcgen_root();
    let endpoint = Endpoint::over(cluster())
        .auth(Auth::Verify)
        .with_tls()
        .toml(&format!(
            "[[server]]\nname = \"replica1\"\naddress = \"127.0.0.1:{}\"\nsslrootcert = {stranger:?}\n",
            cluster().replicas[0].port()
        ))
        .without("replica1")
        .start();
    eventually(PATIENCE, "the reason is TLS", || {
        member(&endpoint, "replica1").contains("TLS failed: certificate verify failed")
    });
    for _ in 0..5 {
        assert_eq!(ask(endpoint.reads(), &[], "SHOW cluster_name").as_deref(), Ok("replica2"));
    }
}

/// What is said of a server, as JSON.
fn member(endpoint: &Endpoint, name: &str) -> String {
    let body = http_get(endpoint.http(), "/cluster").unwrap().body;
    let members: serde_json::Value = serde_json::from_str(&body).unwrap();
    let members = members["members"].as_array().unwrap().clone();
    members.into_iter().find(|member| member["name"] == name).unwrap().to_string()
}

/// A root that has signed nothing.
fn rcgen_root() -> String {
    let directory = tempfile::tempdir().unwrap().keep();
    let key = directory.join("key");
    let certificate = directory.join("root.crt");
    let status = Command::new("openssl")
        .args(["req", "-new", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-subj", "/CN=stranger", "-keyout"])
        .args([key.as_os_str(), "-out".as_ref(), certificate.as_os_str()])
        .output()
        .unwrap();
    assert!(status.status.success(), "{status:?}");
    certificate.display().to_string()
}

#[test]
fn a_server_without_tls_is_refused_where_it_must_have_it() {
    let cluster = own_cluster(1);
    let endpoint = Endpoint::over(&cluster)
        .auth(Auth::Verify)
        .key("server_tls.sslmode", "\"require\"")
        .not_awaiting("primary")
        .not_awaiting("replica1")
        .start();
    let said = || http_get(endpoint.http(), "/cluster").unwrap().body;
    let wanted = "the server does not support SSL, but sslmode requires it";
    eventually(PATIENCE, "the servers are refused", || said().matches(wanted).count() == 2);
}

#[test]
fn either_kind_is_tried_where_sslmode_allows_both() {
    // The server takes no connection without TLS: `allow` begins without and goes on with it.
    let endpoint =
        Endpoint::over(cluster()).auth(Auth::Verify).key("server_tls.sslmode", "\"allow\"").start();
    assert_eq!(ask(endpoint.reads(), &[], ENCRYPTED).as_deref(), Ok("t"));
    // A server that takes none with TLS: `prefer` goes on without.
    let other = own_cluster(1);
    for server in other.servers() {
        let hba = server.data_dir().join("pg_hba.conf");
        let rules = std::fs::read_to_string(&hba).unwrap();
        std::fs::write(&hba, format!("hostssl all all 127.0.0.1/32 reject\n{rules}")).unwrap();
        for (name, value) in Certificates::shared().server_settings() {
            server.psql(&format!("ALTER SYSTEM SET {name} = '{value}'")).unwrap_or_default();
        }
        server.psql("SELECT pg_reload_conf()").unwrap();
    }
    let endpoint = Endpoint::over(&other).auth(Auth::Verify).key("server_tls.sslmode", "\"prefer\"").start();
    assert_eq!(ask(endpoint.writes(), &[], ENCRYPTED).as_deref(), Ok("f"));
}

#[test]
fn password_on_file_goes_itself_to_servers_that_are_verified_alone() {
    cluster().primary.psql("CREATE ROLE cleartext_user LOGIN PASSWORD 'clear'").unwrap();
    cluster().wait_caught_up().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "\"cleartext_user\" \"clear\"\n").unwrap();
    let as_user = [("PGUSER", "cleartext_user"), ("PGPASSWORD", "clear")];
    for (sslmode, is_shown) in [("verify-ca", true), ("verify-full", true), ("require", false)] {
        let endpoint = both()
            .key("server_tls.sslmode", &format!("{sslmode:?}"))
            .key("auth.users_file", &format!("{:?}", file.path()))
            .start();
        match ask(endpoint.reads(), &as_user, "SELECT current_user") {
            Ok(user) => assert!(is_shown && user == "cleartext_user", "{sslmode}: {user}"),
            Err(said) => {
                assert!(!is_shown && said.contains("does not send the password"), "{sslmode}: {said}");
            }
        }
    }
}

#[test]
fn pgbench_over_tls_on_both_legs_survives_the_sigkill_of_a_replica() {
    let cluster = tls_cluster(None, 2);
    let endpoint = Endpoint::over(&cluster).auth(Auth::Verify).with_tls().start();
    let port = endpoint.reads();
    let run = std::thread::spawn(move || {
        pgbench(port, &["-c", "6", "-j", "2", "-T", "8", "-M", "prepared"], "SELECT count(*) FROM pg_class;")
    });
    eventually(PATIENCE, "both replicas are at work", || {
        endpoint.sessions_on("replica1") > 0 && endpoint.sessions_on("replica2") > 0
    });
    cluster.replicas[0].kill_postmaster();
    let Pgbench { is_success, processed, output } = run.join().unwrap();
    assert!(is_success && processed > Some(100), "{output}");
    assert!(!output.contains("error"), "{output}");
}

#[test]
fn check_connect_and_profile_speak_tls_too() {
    let endpoint = both().start();
    let root = root();
    let dsn = format!(
        "host=127.0.0.1 port={} user=postgres password=postgres dbname=appdb sslmode=verify-full sslrootcert={root}",
        endpoint.reads()
    );
    let profile =
        Command::new(binary()).args(["profile", "--dsn", &dsn, "--runs", "3", "SELECT 1"]).output().unwrap();
    let said = String::from_utf8_lossy(&profile.stderr).into_owned();
    assert!(profile.status.success(), "{said}");

    let file = tempfile::NamedTempFile::new().unwrap();
    let server = cluster().replicas[0].port();
    let config = format!(
        "[monitor]\nconninfo = \"user={} password={} dbname=appdb\"\n[server_tls]\nsslmode = \"verify-full\"\n\
         sslrootcert = {root:?}\n[[server]]\naddress = \"127.0.0.1:{server}\"\n",
        trunkline_cluster::MONITOR_ROLE,
        trunkline_cluster::MONITOR_PASSWORD,
    );
    std::fs::write(file.path(), &config).unwrap();
    let check =
        || Command::new(binary()).args(["check", "--connect", "--config"]).arg(file.path()).output().unwrap();
    let output = check();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("standby") && !said.contains("TLS failed"), "{said}");
    std::fs::write(file.path(), config.replace(&root, &rcgen_root())).unwrap();
    let said = String::from_utf8_lossy(&check().stdout).into_owned();
    assert!(said.contains("TLS failed") && said.contains("none of the roots"), "{said}");
}
