//! `[auth] mode = "login"`: the proxy asks for the password, and a server is the judge of it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Once;
use std::time::Duration;

use trunkline_cluster::{Cluster, MONITOR_ROLE, PgInstall};
use trunkline_tests::{
    Auth, Endpoint, EndpointBuilder, Login, Wire, http_get, own_cluster, psql_output, shared_cluster,
};

/// Far beyond what a healthy machine needs.
const PATIENCE: Duration = Duration::from_secs(30);

/// A cluster whose monitoring role may not read stored secrets.
fn cluster() -> &'static Cluster {
    static PREPARED: Once = Once::new();
    let cluster = shared_cluster();
    PREPARED.call_once(|| hide_secrets(cluster));
    cluster
}

fn hide_secrets(cluster: &Cluster) {
    cluster.primary.psql(&format!("REVOKE SELECT ON pg_authid FROM {MONITOR_ROLE}")).unwrap();
    cluster.wait_caught_up().unwrap();
}

/// With TLS for clients.
fn with_tls(endpoint: EndpointBuilder) -> EndpointBuilder {
    endpoint.key("client_tls.cert_file", "\"self-signed\"")
}

/// What one psql is told over TLS, and whether it got in.
fn over_tls(port: u16, user: &str, password: &str, sql: &str) -> (bool, String) {
    let as_user = [("PGSSLMODE", "require"), ("PGUSER", user), ("PGPASSWORD", password)];
    let output = psql_output(port, &as_user, sql);
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap().trim_end().to_owned())
}

/// How many logins had this outcome.
fn logins(endpoint: &Endpoint, outcome: &str) -> u64 {
    let metrics = http_get(endpoint.http(), "/metrics").unwrap().body;
    let name = format!("trunkline_logins_total{{outcome=\"{outcome}\"}}");
    metrics.lines().find_map(|line| line.strip_prefix(&name)?.trim().parse().ok()).unwrap_or_default()
}

/// A psql that stays, over TLS.
struct Psql {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Psql {
    fn start(port: u16, user: &str, password: &str) -> Self {
        let mut command: Command = PgInstall::find(None).unwrap().command("psql");
        command.args(["-XAtq", "-d"]).arg(format!(
            "host=127.0.0.1 port={port} user={user} password={password} dbname=appdb sslmode=require"
        ));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Psql { child, input, output }
    }

    #[track_caller]
    fn value(&mut self, sql: &str) -> String {
        writeln!(self.input, "{sql};").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "psql has ended");
        line.trim_end().to_owned()
    }
}

impl Drop for Psql {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A session of this user outlives the SIGKILL of its server.
#[track_caller]
fn outlives_its_server(cluster: &Cluster, endpoint: &Endpoint, user: &str, password: &str) {
    let before = logins(endpoint, "logged_in");
    let mut session = Psql::start(endpoint.reads(), user, password);
    session.value("SET application_name = 'kept'; SELECT 1");
    let own = session.value("SELECT current_setting('cluster_name')");
    assert_eq!(logins(endpoint, "logged_in"), before + 1);
    let victim = cluster.servers().find(|server| server.name() == own).unwrap();
    victim.kill_postmaster();
    victim.wait_stopped(PATIENCE).unwrap();
    assert_ne!(session.value("SELECT current_setting('cluster_name')"), own, "{user}");
    let kept = session.value("SELECT current_user || ' ' || current_setting('application_name')");
    assert_eq!(kept, format!("{user} kept"));
    victim.start().unwrap();
    endpoint.await_health(&own, true, PATIENCE);
}

#[test]
fn login_lets_in_by_tls_who_the_server_lets_in() {
    let endpoint = with_tls(Endpoint::over(cluster())).auth(Auth::Login).start();
    for port in [endpoint.reads(), endpoint.writes()] {
        for (user, password) in [("app", "app secret"), ("md5_user", "md5"), ("trust_user", "any")] {
            assert_eq!(over_tls(port, user, password, "SELECT current_user"), (true, user.to_owned()));
        }
    }
    assert_eq!(logins(&endpoint, "logged_in"), 6);
}

#[test]
fn login_refuses_in_the_servers_own_words_and_asks_one_server_alone() {
    let cluster = cluster();
    let endpoint = with_tls(Endpoint::over(cluster)).auth(Auth::Login).start();
    let words = "password authentication failed for user \"expired_user\"";
    let told = || cluster.servers().map(|server| server.log().matches(words).count()).sum::<usize>();
    let before = told();
    let (is_in, said) = over_tls(endpoint.reads(), "expired_user", "e", "SELECT 1");
    assert!(!is_in && said.contains(words), "{said}");
    assert_eq!(told(), before + 1);
    for (user, password) in [("app", "wrong"), ("md5_user", "wrong"), ("nobody", "x"), ("nologin_user", "n")]
    {
        let (_, ours) = over_tls(endpoint.reads(), user, password, "SELECT 1");
        let direct = Login::of(user, password).try_connect(cluster.replicas[0].port()).unwrap_err();
        let first = direct.text.lines().next().unwrap();
        assert!(ours.contains(first), "{user}: {ours}, not {first}");
    }
    let (_, said) = over_tls(endpoint.reads(), "app", "", "SELECT 1");
    assert!(said.contains("password"), "{said}");
}

#[test]
fn clients_that_nothing_protects_are_relayed() {
    let endpoint = with_tls(Endpoint::over(cluster())).auth(Auth::Login).start();
    let trace = Wire::connect(endpoint.reads()).trace_login(&Login::of("app", "app secret"));
    assert!(trace.starts_with("R10R11R12R0") && trace.ends_with('Z'), "{trace}");
    assert_eq!((logins(&endpoint, "relayed"), logins(&endpoint, "logged_in")), (1, 0));
}

#[test]
fn password_goes_to_no_server_over_a_connection_that_does_not_protect_it() {
    let endpoint = with_tls(Endpoint::over(cluster())).auth(Auth::Login).start();
    let (is_in, said) = over_tls(endpoint.reads(), "cleartext_user", "clear", "SELECT 1");
    assert!(!is_in && said.contains("the proxy does not send the password to its server"), "{said}");
    assert!(said.contains("sslmode=verify-ca or verify-full"), "{said}");
    assert!(!endpoint.log().contains("clear\""), "{}", endpoint.log());
}

#[test]
fn sessions_outlive_their_server_by_what_its_method_has_yielded() {
    let cluster = own_cluster(2);
    let roles = "CREATE ROLE app LOGIN PASSWORD 'secret'; CREATE ROLE trust_user LOGIN; \
                 SET password_encryption = 'md5'; CREATE ROLE md5_user LOGIN PASSWORD 'md5'";
    cluster.primary.psql(roles).unwrap();
    hide_secrets(&cluster);
    let endpoint = with_tls(Endpoint::over(&cluster)).auth(Auth::Login).start();
    for (user, password) in [("app", "secret"), ("md5_user", "md5"), ("trust_user", "any")] {
        outlives_its_server(&cluster, &endpoint, user, password);
    }
}

#[test]
fn password_itself_goes_over_a_servers_unix_socket() {
    let cluster = own_cluster(2);
    cluster.primary.psql("CREATE ROLE local_user LOGIN PASSWORD 'secret'").unwrap();
    hide_secrets(&cluster);
    for server in cluster.servers() {
        let file = server.data_dir().join("pg_hba.conf");
        let rules = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("local all local_user password\n{rules}")).unwrap();
        server.psql("SELECT pg_reload_conf()").unwrap();
    }
    let endpoint = with_tls(Endpoint::over_sockets(&cluster)).auth(Auth::Login).start();
    outlives_its_server(&cluster, &endpoint, "local_user", "secret");
    let (is_in, said) = over_tls(endpoint.reads(), "local_user", "wrong", "SELECT 1");
    assert!(!is_in && said.contains("password authentication failed"), "{said}");
}
