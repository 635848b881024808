//! SCRAM bound to TLS connections: from clients, and to servers that let in nobody else.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use tempfile::TempDir;
use trunkline_cluster::{Cluster, MONITOR_PASSWORD, MONITOR_ROLE, PgInstall, Server};
use trunkline_tests::{
    Auth, Endpoint, EndpointBuilder, eventually, http_get, own_cluster, pg18, psql_output,
};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// The kind of key, and of signature, that most have.
const USUAL: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -sha256";

/// Certificates for 127.0.0.1, made by `openssl`.
struct Certificates(TempDir);

impl Certificates {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, file: &str) -> String {
        self.0.path().join(file).display().to_string()
    }

    /// `NAME.crt`, its own root, and `NAME.key`; `words` are more of `openssl req`.
    fn make(&self, name: &str, words: &str) {
        let made = format!(
            "req -new -x509 -nodes -days 30 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 -keyout {name}.key -out {name}.crt {words}"
        );
        let output = Command::new("openssl").args(made.split(' ')).current_dir(&self.0).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn install(&self, name: &str, server: &Server) {
        let owner = server.data_dir().metadata().unwrap();
        for kind in ["crt", "key"] {
            let file = server.data_dir().join(format!("server.{kind}"));
            std::fs::copy(self.path(&format!("{name}.{kind}")), &file).unwrap();
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
            std::os::unix::fs::chown(&file, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
    }
}

/// A cluster whose role `app` gets in by TLS and SCRAM only, with certificates like the file `server` of these.
fn tls_cluster(replicas: usize, certificates: &Certificates) -> Cluster {
    let cluster = own_cluster(replicas);
    cluster.primary.psql("CREATE ROLE app LOGIN PASSWORD 'app secret'").unwrap();
    cluster.wait_caught_up().unwrap();
    for server in cluster.servers() {
        certificates.install("server", server);
        let file = server.data_dir().join("pg_hba.conf");
        let rules = std::fs::read_to_string(&file).unwrap();
        let own =
            "hostssl all app 127.0.0.1/32 scram-sha-256\nhostnossl all app 0.0.0.0/0 reject\n".to_owned();
        std::fs::write(&file, own + &rules).unwrap();
        server.set("ssl", "on").unwrap();
        let direct = Client { mode: "require", ..Client::default() };
        eventually(PATIENCE, "the server speaks TLS", || direct.run(server.port()).is_ok());
    }
    cluster
}

/// Over TLS on both legs, each verified in full.
fn verified(cluster: &Cluster, certificates: &Certificates) -> EndpointBuilder {
    let quoted = |file: &str| format!("\"{}\"", certificates.path(file));
    Endpoint::over(cluster)
        .auth(Auth::Verify)
        .key("client_tls.sslmode", "\"require\"")
        .key("client_tls.cert_file", &quoted("proxy.crt"))
        .key("client_tls.key_file", &quoted("proxy.key"))
        .key("server_tls.sslmode", "\"verify-full\"")
        .key("server_tls.sslrootcert", &quoted("server.crt"))
}

/// How psql connects.
#[derive(Clone, Copy)]
struct Client<'a> {
    user: &'a str,
    password: &'a str,
    mode: &'a str,
    root: &'a str,
    binding: &'a str,
}

impl Default for Client<'_> {
    fn default() -> Self {
        Client { user: "app", password: "app secret", mode: "disable", root: "/none", binding: "prefer" }
    }
}

impl<'a> Client<'a> {
    fn environment(self) -> [(&'static str, &'a str); 6] {
        [
            ("PGUSER", self.user),
            ("PGPASSWORD", self.password),
            ("PGSSLMODE", self.mode),
            ("PGSSLROOTCERT", self.root),
            ("PGCHANNELBINDING", self.binding),
            ("PGAPPNAME", "bound"),
        ]
    }

    /// Who it is logged in as, or what it is told.
    fn run(self, port: u16) -> Result<String, String> {
        let sql = "SELECT current_user || ' ' || ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        said(&psql_output(port, &self.environment(), sql))
    }
}

fn said(output: &Output) -> Result<String, String> {
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

#[track_caller]
fn refused(outcome: Result<String, String>, why: &[&str]) {
    let error = outcome.expect_err("it is refused");
    for why in why {
        assert!(error.contains(why), "{error}\nis not: {why}");
    }
}

/// What a client of each PostgreSQL may say: it gets in, and its session is encrypted on the server's leg too.
const IN: &str = "app true";

#[test]
fn a_client_that_demands_channel_binding_reaches_a_server_that_demands_tls() {
    let certificates = Certificates::new();
    certificates.make("server", USUAL);
    certificates.make("proxy", USUAL);
    let cluster = tls_cluster(1, &certificates);
    // The proxy's own role binds its logins, too: for probes, secrets, settings and functions.
    let monitor =
        format!("\"user={MONITOR_ROLE} password={MONITOR_PASSWORD} dbname=appdb channel_binding=require\"");
    let endpoint = verified(&cluster, &certificates).key("monitor.conninfo", &monitor).start();
    let root = certificates.path("proxy.crt");
    let client = Client { mode: "verify-full", root: &root, ..Client::default() };
    for binding in ["require", "prefer", "disable"] {
        for port in [endpoint.reads(), endpoint.writes()] {
            assert_eq!(Client { binding, ..client }.run(port).as_deref(), Ok(IN), "{binding}");
        }
    }
    let bound = Client { binding: "require", ..client };
    for (user, password) in [("app", "wrong"), ("app", ""), ("nobody", "app secret")] {
        let words = format!("FATAL:  password authentication failed for user \"{user}\"");
        let password = if password.is_empty() { " " } else { password };
        refused(Client { user, password, ..bound }.run(endpoint.reads()), &[&words]);
    }
    let direct = cluster.replicas[0].port();
    refused(Client::default().run(direct), &["pg_hba.conf rejects connection"]);
}

#[test]
fn libpq_of_18_binds_its_login_over_tls_that_begins_at_once() {
    let certificates = Certificates::new();
    certificates.make("server", USUAL);
    certificates.make("proxy", USUAL);
    let cluster = tls_cluster(1, &certificates);
    let endpoint = verified(&cluster, &certificates).start();
    for negotiation in ["postgres", "direct"] {
        let target = format!(
            "host=127.0.0.1 port={} dbname=appdb user=app password='app secret' sslmode=verify-full channel_binding=require sslnegotiation={negotiation} sslrootcert={}",
            endpoint.reads(),
            certificates.path("proxy.crt"),
        );
        let mut psql = pg18().command("psql");
        let output = psql.args(["-XAtq", "-c", "SELECT current_user", &target]).output().unwrap();
        assert_eq!(said(&output).as_deref(), Ok("app"), "{negotiation}");
    }
}

#[test]
fn every_kind_of_certificate_that_names_a_hash_is_bound_to_as_libpq_does() {
    let certificates = Certificates::new();
    certificates.make("server", "-newkey rsa:2048 -sha384");
    let cluster = tls_cluster(1, &certificates);
    for words in [
        "-newkey rsa:2048 -sha256",
        "-newkey rsa:2048 -sha512",
        "-newkey rsa:2048 -sha1",
        "-newkey rsa:2048 -sha384 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:-1",
        "-newkey ec -pkeyopt ec_paramgen_curve:P-384 -sha384",
    ] {
        certificates.make("proxy", words);
        let endpoint = verified(&cluster, &certificates).start();
        let client = Client { mode: "require", binding: "require", ..Client::default() };
        assert_eq!(client.run(endpoint.reads()).as_deref(), Ok(IN), "{words}");
    }
}

#[test]
fn a_certificate_without_a_hash_is_not_bound_to() {
    let certificates = Certificates::new();
    for name in ["server", "proxy"] {
        certificates.make(name, "-newkey ed25519");
    }
    // libpq gives up where such a server offers to bind, unless it is told not to.
    let cluster = own_cluster(1);
    cluster.primary.psql("CREATE ROLE app LOGIN PASSWORD 'app secret'").unwrap();
    cluster.wait_caught_up().unwrap();
    let off = Client { mode: "require", binding: "disable", ..Client::default() };
    for server in cluster.servers() {
        certificates.install("server", server);
        server.set("ssl", "on").unwrap();
        eventually(PATIENCE, "the server speaks TLS", || off.run(server.port()).is_ok());
    }
    let endpoint = verified(&cluster, &certificates).start();
    let client = Client { mode: "require", ..Client::default() };
    refused(client.run(cluster.replicas[0].port()), &["could not find digest"]);
    assert_eq!(client.run(endpoint.reads()).as_deref(), Ok(IN));
    assert_eq!(off.run(endpoint.reads()).as_deref(), Ok(IN));
    let bound = Client { binding: "require", ..client };
    refused(bound.run(endpoint.reads()), &["channel binding is required"]);
}

/// The sum of a family of metrics over all labels.
fn counted(endpoint: &Endpoint, family: &str) -> f64 {
    let metrics = http_get(endpoint.http(), "/metrics").unwrap().body;
    let samples = metrics.lines().filter(|line| line.starts_with(&format!("{family}{{")));
    samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[test]
fn bound_sessions_survive_the_sigkill_of_their_server() {
    let certificates = Certificates::new();
    certificates.make("server", USUAL);
    certificates.make("proxy", USUAL);
    let cluster = tls_cluster(2, &certificates);
    let endpoint = verified(&cluster, &certificates).start();
    let root = certificates.path("proxy.crt");
    let client = Client { mode: "verify-full", root: &root, binding: "require", ..Client::default() };
    let victim = &cluster.replicas[0];
    let script = certificates.path("script");
    std::fs::write(Path::new(&script), "SELECT relname FROM pg_catalog.pg_class WHERE oid = 1259;").unwrap();
    let output = std::thread::scope(|scope| {
        let mut pgbench = PgInstall::find(None).unwrap().command("pgbench");
        pgbench.args(["-n", "-M", "prepared", "-c", "6", "-j", "1", "-T", "6", "-f", &script, "-h"]);
        pgbench.args(["127.0.0.1", "-p", &endpoint.reads().to_string(), "appdb"]);
        pgbench.envs(client.environment());
        let run = scope.spawn(move || pgbench.output().unwrap());
        let working = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND query <> ''";
        eventually(PATIENCE, "sessions are at work on the victim", || {
            victim.psql(working).is_ok_and(|count| count.parse::<u32>().is_ok_and(|count| count >= 2))
        });
        victim.kill_postmaster();
        victim.wait_stopped(PATIENCE).unwrap();
        victim.start().unwrap();
        run.join().unwrap()
    });
    let told = said(&output).unwrap();
    assert!(told.contains("number of failed transactions: 0 "), "{told}\n{}", endpoint.log());
    assert!(counted(&endpoint, "trunkline_session_moves_total") >= 1.0, "{}", endpoint.log());
    assert_eq!(counted(&endpoint, "trunkline_sessions_lost_total"), 0.0, "{}", endpoint.log());
}

#[test]
fn a_scram_login_is_relayed_except_from_one_tls_connection_to_another() {
    let certificates = Certificates::new();
    certificates.make("server", USUAL);
    certificates.make("proxy", USUAL);
    let cluster = tls_cluster(1, &certificates);
    let to_server = |mode: &str| {
        let endpoint = verified(&cluster, &certificates).auth(Auth::Relay);
        endpoint.key("client_tls.sslmode", "\"prefer\"").key("server_tls.sslmode", &format!("\"{mode}\""))
    };
    let plain = Client::default();
    let encrypted = Client { mode: "require", ..plain };
    let other = |client| Client { user: "postgres", password: "postgres", ..client };
    let tls = to_server("verify-full").start();
    assert_eq!(plain.run(tls.reads()).as_deref(), Ok(IN));
    let why = [
        "FATAL:  the proxy cannot relay a SCRAM login from one TLS connection to another",
        "HINT:  Set mode = \"verify\" or \"login\" in section [auth]",
    ];
    refused(encrypted.run(tls.reads()), &why);
    assert_eq!(Client { binding: "disable", ..encrypted }.run(tls.reads()).as_deref(), Ok(IN));
    refused(Client { binding: "require", ..encrypted }.run(tls.reads()), &["channel binding is required"]);
    let unencrypted = to_server("disable").start();
    for client in [plain, encrypted] {
        assert_eq!(other(client).run(unencrypted.reads()).as_deref(), Ok("postgres false"));
    }
}
