//! `[auth] mode = "login"`: the proxy asks for the password, and a server is the judge of it; and what `auto` becomes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Once;
use std::time::Duration;

use trunkline_cluster::{Cluster, MONITOR_PASSWORD, MONITOR_ROLE, PgInstall, StopMode};
use trunkline_tests::{
    Auth, Certificates, Endpoint, EndpointBuilder, Login, ServerError, Wire, binary, cluster_of, eventually,
    http_get, own_cluster, psql_output, shared_cluster, tls_is_on,
};

#[path = "logging_in/memory.rs"]
mod memory;

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
fn for_tls_clients(endpoint: EndpointBuilder) -> EndpointBuilder {
    let [certificate, key] = Certificates::shared().endpoint();
    endpoint
        .key("client_tls.cert_file", &format!("{certificate:?}"))
        .key("client_tls.key_file", &format!("{key:?}"))
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
    let endpoint = for_tls_clients(Endpoint::over(cluster())).auth(Auth::Login).start();
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
    let endpoint = for_tls_clients(Endpoint::over(cluster)).auth(Auth::Login).start();
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
    if tls_is_on() {
        return;
    }
    let endpoint = for_tls_clients(Endpoint::over(cluster())).auth(Auth::Login).start();
    let trace = Wire::connect(endpoint.reads()).trace_login(&Login::of("app", "app secret"));
    assert!(trace.starts_with("R10R11R12R0") && trace.ends_with('Z'), "{trace}");
    assert_eq!((logins(&endpoint, "relayed"), logins(&endpoint, "logged_in")), (1, 0));
}

#[test]
fn password_goes_to_no_server_over_a_connection_that_does_not_protect_it() {
    let endpoint = for_tls_clients(Endpoint::over(cluster())).auth(Auth::Login);
    let endpoint = endpoint.key("server_tls.sslmode", "\"prefer\"").start();
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
    let endpoint = for_tls_clients(Endpoint::over(&cluster)).auth(Auth::Login).start();
    for (user, password) in [("app", "secret"), ("md5_user", "md5"), ("trust_user", "any")] {
        outlives_its_server(&cluster, &endpoint, user, password);
    }
}

#[test]
fn session_whose_password_was_changed_ends_with_its_server() {
    let cluster = own_cluster(2);
    cluster.primary.psql("CREATE ROLE app LOGIN PASSWORD 'old'").unwrap();
    hide_secrets(&cluster);
    let endpoint = for_tls_clients(Endpoint::over(&cluster)).auth(Auth::Login).start();
    let mut session = Psql::start(endpoint.reads(), "app", "old");
    let own = session.value("SELECT current_setting('cluster_name')");
    cluster.primary.psql("ALTER ROLE app PASSWORD 'new'").unwrap();
    cluster.wait_caught_up().unwrap();
    let victim = cluster.servers().find(|server| server.name() == own).unwrap();
    victim.kill_postmaster();
    victim.wait_stopped(PATIENCE).unwrap();
    writeln!(session.input, "SELECT 1;").unwrap();
    let mut line = String::new();
    session.output.read_line(&mut line).unwrap();
    assert_eq!(line, "", "no other server takes what the proxy has kept");
    assert!(endpoint.log().contains("password authentication failed") || endpoint.log().contains("28P01"));
    assert!(over_tls(endpoint.reads(), "app", "new", "SELECT 1").0);
}

#[test]
fn auto_asks_where_both_legs_have_tls_and_the_password_itself_goes_to_a_server_that_is_verified() {
    let settings = Certificates::shared().server_settings();
    let settings = settings.each_ref().map(|(name, value)| (name.as_str(), value.as_str()));
    let cluster = cluster_of(PgInstall::find(None).unwrap(), 2, &settings);
    let roles = "CREATE ROLE app LOGIN PASSWORD 'secret'; CREATE ROLE cleartext_user LOGIN PASSWORD 'clear'";
    cluster.primary.psql(roles).unwrap();
    hide_secrets(&cluster);
    let endpoint = Endpoint::over(&cluster).with_tls().auth(Auth::Auto).start();
    for (user, password) in [("app", "secret"), ("cleartext_user", "clear")] {
        outlives_its_server(&cluster, &endpoint, user, password);
    }
    let is_encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert_eq!(over_tls(endpoint.reads(), "app", "secret", is_encrypted), (true, "t".to_owned()));
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
    let endpoint = for_tls_clients(Endpoint::over_sockets(&cluster)).auth(Auth::Login).start();
    outlives_its_server(&cluster, &endpoint, "local_user", "secret");
    let (is_in, said) = over_tls(endpoint.reads(), "local_user", "wrong", "SELECT 1");
    assert!(!is_in && said.contains("password authentication failed"), "{said}");
}

/// Waits until the log says what `auto` has become.
#[track_caller]
fn await_choice(endpoint: &Endpoint, mode: &str) {
    let line = format!("auth.mode={mode} ");
    eventually(PATIENCE, &line, || endpoint.log().contains(&line));
}

/// What `trunkline status` prints.
fn status(endpoint: &Endpoint) -> String {
    let http = format!("127.0.0.1:{}", endpoint.http());
    let output = Command::new(binary()).args(["status", "--http", &http]).output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

#[test]
fn auto_verifies_where_stored_secrets_can_be_read() {
    let superuser = "\"user=postgres password=postgres dbname=appdb\"";
    let endpoint = for_tls_clients(Endpoint::over(cluster()))
        .auth(Auth::Auto)
        .key("monitor.conninfo", superuser)
        .start();
    drop(Login::of("app", "app secret").connect(endpoint.reads()));
    let as_app = over_tls(endpoint.reads(), "app", "app secret", "SELECT current_user");
    assert_eq!(as_app, (true, "app".to_owned()));
    assert_eq!(logins(&endpoint, "verified"), 2);
    let said = status(&endpoint);
    let line = "auth      verify, chosen by auto: the monitoring role may read stored secrets\n";
    assert!(said.contains(line), "{said}");
    let error = Login::of("trust_user", "").try_connect(endpoint.reads()).unwrap_err();
    assert_eq!(error.code, "28P01", "it is no server that decides: {error:?}");
}

#[test]
fn auto_asks_for_passwords_where_secrets_may_not_be_read_and_relays_whom_it_may_not_ask() {
    if tls_is_on() {
        return;
    }
    let endpoint = for_tls_clients(Endpoint::over(cluster())).auth(Auth::Auto).start();
    let as_app = over_tls(endpoint.reads(), "app", "app secret", "SELECT current_user");
    assert_eq!(as_app, (true, "app".to_owned()));
    drop(Login::of("app", "app secret").connect(endpoint.reads()));
    assert_eq!((logins(&endpoint, "logged_in"), logins(&endpoint, "relayed")), (1, 1));
    let said = status(&endpoint);
    let line =
        "auth      login, chosen by auto: the monitoring role may not read stored secrets (SQLSTATE 42501)\n";
    assert!(said.contains(line) && said.contains("`trunkline init-sql`"), "{said}");
    await_choice(&endpoint, "login");
}

#[test]
fn auto_relays_where_no_client_can_be_asked() {
    if tls_is_on() {
        return;
    }
    let endpoint = Endpoint::over(cluster()).auth(Auth::Auto).start();
    for (user, password) in [("app", "app secret"), ("cleartext_user", "clear"), ("trust_user", "")] {
        assert_eq!(Login::of(user, password).connect(endpoint.reads()).value("SELECT current_user"), user);
    }
    assert_eq!(logins(&endpoint, "relayed"), 3);
    await_choice(&endpoint, "relay");
}

#[test]
fn auto_asks_clients_of_a_unix_socket_where_there_is_no_tls() {
    if tls_is_on() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().to_str().unwrap();
    let listener = format!("[[listener]]\nname = \"local\"\naddress = \"{socket}:5432\"\n");
    let endpoint = Endpoint::over(cluster()).auth(Auth::Auto).toml(&listener).start();
    let of = |password| {
        let as_app = [("PGHOST", socket), ("PGUSER", "app"), ("PGPASSWORD", password)];
        psql_output(5432, &as_app, "SELECT current_user")
    };
    assert_eq!(String::from_utf8(of("app secret").stdout).unwrap(), "app\n");
    assert!(!of("wrong").status.success());
    drop(Login::of("app", "app secret").connect(endpoint.reads()));
    assert_eq!((logins(&endpoint, "logged_in"), logins(&endpoint, "relayed")), (1, 1));
}

#[test]
fn auto_with_a_users_file_asks_no_server() {
    let users = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(users.path(), "\"app\" \"app secret\"\n").unwrap();
    let file = format!("{:?}", users.path());
    let endpoint = Endpoint::over(cluster()).auth(Auth::Auto).key("auth.users_file", &file).start();
    drop(Login::of("app", "app secret").connect(endpoint.reads()));
    assert_eq!(Login::default().try_connect(endpoint.reads()).unwrap_err().code, "28P01");
    assert_eq!(logins(&endpoint, "verified"), 1);
}

#[test]
fn auto_keeps_logins_waiting_until_a_server_has_answered() {
    let cluster = own_cluster(1);
    cluster.servers().for_each(|server| server.stop(StopMode::Fast).unwrap());
    let endpoint =
        for_tls_clients(Endpoint::over(&cluster)).auth(Auth::Auto).key("timeouts.acquire", "\"60s\"");
    let endpoint = endpoint.key("timeouts.login", "\"60s\"").not_awaiting("primary").not_awaiting("replica1");
    let endpoint = endpoint.start();
    let port = endpoint.reads();
    let waiting = std::thread::spawn(move || over_tls(port, "postgres", "postgres", "SELECT current_user"));
    eventually(PATIENCE, "a login waits", || status(&endpoint).contains("logins wait"));
    assert_eq!(["verified", "logged_in", "relayed"].map(|way| logins(&endpoint, way)), [0; 3]);
    cluster.servers().for_each(|server| server.start().unwrap());
    assert_eq!(waiting.join().unwrap(), (true, "postgres".to_owned()));
    assert_eq!(logins(&endpoint, "verified"), 1);
}

#[test]
fn auto_that_verifies_falls_to_nothing_weaker_when_the_right_is_lost() {
    let cluster = own_cluster(1);
    let endpoint = for_tls_clients(Endpoint::over(&cluster)).auth(Auth::Auto).with_admin();
    let endpoint = endpoint.key("auth.cache_ttl", "\"0\"").start();
    assert!(over_tls(endpoint.reads(), "postgres", "postgres", "SELECT 1").0);
    await_choice(&endpoint, "verify");
    hide_secrets(&cluster);
    for reloads in [false, true] {
        if reloads {
            assert_eq!(endpoint.admin(&["reload"]).0, Some(0));
        }
        let (is_in, said) = over_tls(endpoint.reads(), "postgres", "postgres", "SELECT 1");
        assert!(!is_in && said.contains("the proxy cannot verify passwords now"), "{said}");
    }
    assert_eq!(logins(&endpoint, "verified"), 1);
}

#[test]
fn auto_asks_again_at_a_reload_whether_secrets_can_be_read() {
    let cluster = own_cluster(1);
    hide_secrets(&cluster);
    let endpoint = for_tls_clients(Endpoint::over(&cluster)).auth(Auth::Auto).with_admin().start();
    assert!(over_tls(endpoint.reads(), "postgres", "postgres", "SELECT 1").0);
    cluster.primary.psql(&format!("GRANT SELECT ON pg_authid TO {MONITOR_ROLE}")).unwrap();
    cluster.wait_caught_up().unwrap();
    assert!(over_tls(endpoint.reads(), "postgres", "postgres", "SELECT 1").0);
    assert_eq!((logins(&endpoint, "logged_in"), logins(&endpoint, "verified")), (2, 0), "it was decided");
    assert_eq!(endpoint.admin(&["reload"]).0, Some(0));
    assert!(over_tls(endpoint.reads(), "postgres", "postgres", "SELECT 1").0);
    assert_eq!((logins(&endpoint, "logged_in"), logins(&endpoint, "verified")), (2, 1));
}

#[test]
fn check_says_what_auto_would_become() {
    let cluster = cluster();
    let check_with = |query: Option<&str>, more: &[&str]| {
        let mut command = Command::new(binary());
        command.envs(query.map(|query| ("TRUNKLINE__AUTH__QUERY", query)));
        command.args(["check", "--connect", "--primary", &format!("127.0.0.1:{}", cluster.primary.port())]);
        command.args(more).current_dir(std::env::temp_dir());
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let check = |more: &[&str]| check_with(None, more);
    let monitor = format!("user={MONITOR_ROLE} password={MONITOR_PASSWORD} dbname=appdb");
    let (status, said) = check_with(Some("SELECT * FROM of_another.database($1)"), &["--monitor", &monitor]);
    assert_eq!((status, said.contains("SQLSTATE 3F000")), (Some(1), true), "{said}");
    assert!(said.contains("auth      auto: no server says whether stored secrets can be read"), "{said}");
    let (status, said) = check(&["--monitor", &monitor]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("auth      relay, chosen by auto: the monitoring role may not read"), "{said}");
    let (_, said) = check(&["--monitor", "user=postgres password=postgres dbname=appdb"]);
    assert!(said.contains("auth      verify, chosen by auto: the monitoring role may read"), "{said}");
    let (_, said) = check(&["--monitor", &monitor, "--auth", "login"]);
    assert!(said.contains("auth      login, configured"), "{said}");
}
