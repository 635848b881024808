//! Rules of hba_file: who comes in how, and what those outside are told.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;
use trunkline_tests::{
    Endpoint, EndpointBuilder, Login, ServerError, Wire, binary, eventually, own_cluster, psql_output,
    shared_cluster,
};

/// Rules, maps, users and certificates of one test.
struct Files(TempDir);

impl Files {
    fn with_rules(rules: &str) -> Self {
        let files = Files(tempfile::tempdir().unwrap());
        files.write("hba", rules);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn quoted(&self, name: &str) -> String {
        format!("{:?}", self.path(name))
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// An endpoint for the shared cluster with these rules, and TLS for those who want it.
    fn endpoint(&self) -> EndpointBuilder {
        let builder = Endpoint::over(shared_cluster()).key("auth.hba_file", &self.quoted("hba"));
        builder.key("client_tls.cert_file", "\"self-signed\"")
    }

    fn openssl(&self, words: &[&str]) {
        let output = Command::new("openssl").args(words).current_dir(&self.0).output().unwrap();
        assert!(output.status.success(), "openssl {words:?}\n{}", String::from_utf8_lossy(&output.stderr));
    }

    /// A root for clients.
    fn make_root(&self) {
        let make = "req -new -x509 -nodes -days 30 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -keyout root.key \
                    -out root.crt -subj /CN=root";
        self.openssl(&make.split_whitespace().collect::<Vec<_>>());
    }

    /// A certificate for a client, `name.crt` with `name.key`.
    fn make_client(&self, name: &str, subject: &str) {
        let request = format!(
            "req -new -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -keyout {name}.key -out {name}.csr -subj"
        );
        self.openssl(&request.split_whitespace().chain([subject]).collect::<Vec<_>>());
        self.write("extensions", "basicConstraints=CA:FALSE");
        let sign = format!(
            "x509 -req -in {name}.csr -days 30 -CA root.crt -CAkey root.key -CAcreateserial -extfile extensions \
             -out {name}.crt"
        );
        self.openssl(&sign.split_whitespace().collect::<Vec<_>>());
    }
}

/// Who a psql is, and what it ends with: its answer or its error.
#[derive(Clone, Debug, Default)]
struct Psql {
    environment: Vec<(String, String)>,
}

impl Psql {
    fn of(user: &str, password: &str) -> Self {
        Psql::default().with("PGUSER", user).with("PGPASSWORD", password)
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    fn plain(self) -> Self {
        self.with("PGSSLMODE", "disable")
    }

    fn over_tls(self) -> Self {
        self.with("PGSSLMODE", "require")
    }

    fn certificate(self, files: &Files, name: &str) -> Self {
        let path = |ending: &str| files.path(&format!("{name}.{ending}")).display().to_string();
        self.over_tls().with("PGSSLCERT", &path("crt")).with("PGSSLKEY", &path("key"))
    }

    fn run(&self, port: u16) -> Result<String, String> {
        let environment: Vec<(&str, &str)> =
            self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let output = psql_output(port, &environment, "SELECT current_user");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim_end().to_owned();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    #[track_caller]
    fn comes_in(&self, port: u16) {
        let user = &self.environment.iter().find(|(name, _)| name == "PGUSER").unwrap().1;
        assert_eq!(self.run(port).as_ref(), Ok(user), "{self:?}");
    }

    #[track_caller]
    fn is_told(&self, port: u16, words: &str) {
        let told = self.run(port).unwrap_err();
        assert!(told.contains(words), "{self:?}: {told}");
    }
}

fn refusal(port: u16, login: &Login) -> ServerError {
    match login.try_connect(port) {
        Ok(_) => panic!("{} got in", login.user),
        Err(error) => error,
    }
}

#[test]
fn each_client_comes_in_by_the_method_of_its_rule() {
    let files = Files::with_rules(
        "hostssl postgres app 127.0.0.1/32 login\n\
         host all cleartext_user 127.0.0.1/32 relay\n\
         host all app 127.0.0.1/32 scram-sha-256\n\
         host all md5_user 127.0.0.1/32 md5\n\
         hostssl \"appdb\" trust_user samehost trust\n\
         hostnossl postgres trust_user samehost trust\n\
         hostssl all /^postgr 127.0.0.1/32 password\n\
         host all nobody samenet md5\n",
    );
    let endpoint = files.endpoint().start();
    let port = endpoint.reads();
    Psql::of("cleartext_user", "clear").plain().comes_in(port);
    for psql in [Psql::of("app", "app secret").plain(), Psql::of("app", "app secret").over_tls()] {
        psql.comes_in(port);
    }
    Psql::of("app", "wrong").is_told(port, "password authentication failed for user \"app\"");
    Psql::of("app", "app secret").with("PGDATABASE", "postgres").over_tls().comes_in(port);
    Psql::of("md5_user", "md5").plain().comes_in(port);
    Psql::of("md5_user", "wrong").is_told(port, "password authentication failed for user \"md5_user\"");
    Psql::of("trust_user", "").over_tls().comes_in(port);
    Psql::of("postgres", "postgres").over_tls().comes_in(port);
    Psql::of("nobody", "x").is_told(port, "password authentication failed for user \"nobody\"");
    let plain = Psql::of("trust_user", "").plain();
    plain.is_told(
        port,
        "no pg_hba.conf entry for host \"127.0.0.1\", user \"trust_user\", database \"appdb\", no encryption",
    );
    let elsewhere = Psql::of("trust_user", "").with("PGDATABASE", "postgres");
    elsewhere.clone().plain().comes_in(port);
    elsewhere.over_tls().is_told(port, "user \"trust_user\", database \"postgres\", SSL encryption");
    // How they were asked: cleartext by the server, SCRAM and md5 by the proxy.
    for (login, asked) in [
        (Login::of("cleartext_user", "clear"), "R3"),
        (Login::of("app", "app secret"), "R10"),
        (Login::of("md5_user", "md5"), "R5"),
    ] {
        let trace = Wire::connect(port).trace_login(&login);
        assert!(trace.starts_with(asked), "{}: {trace}", login.user);
    }
    let page = trunkline_tests::http_get(endpoint.http(), "/metrics").unwrap().body;
    let ended = |outcome: &str| {
        let sample = format!("trunkline_logins_total{{outcome=\"{outcome}\"}} ");
        page.lines().find_map(|line| line.strip_prefix(&sample)).unwrap().to_owned()
    };
    assert_eq!(["relayed", "logged_in"].map(ended), ["2", "1"]);
}

#[test]
fn a_rule_for_scram_lets_nobody_in_by_an_md5_hash() {
    let files = Files::with_rules("host all all all scram-sha-256\n");
    let endpoint = files.endpoint().start();
    let login = Login::of("md5_user", "md5");
    assert_eq!(refusal(endpoint.reads(), &login).code, "28P01");
    assert!(Wire::connect(endpoint.reads()).trace_login(&login).starts_with("R10"));
}

#[test]
fn a_password_in_the_clear_is_asked_for_inside_tls_only() {
    let files = Files::with_rules("host all all all password\n");
    let endpoint = files.endpoint().start();
    let login = Login::of("app", "app secret");
    assert!(Wire::connect(endpoint.reads()).trace_login(&login).starts_with("E"), "it is not asked for");
    let psql = Psql::of("app", "app secret");
    psql.clone().plain().is_told(endpoint.reads(), "the proxy takes a password in the clear only over TLS");
    psql.over_tls().comes_in(endpoint.reads());
    Psql::of("app", "wrong").over_tls().is_told(endpoint.reads(), "password authentication failed");
}

#[test]
fn who_comes_in_without_a_password_needs_a_server_that_trusts_or_a_secret_on_file() {
    let files = Files::with_rules("host all all all trust\n");
    files.write("users", "\"app\" \"app secret\"\n");
    let endpoint = files.endpoint().start();
    // The server asks this one for SCRAM, and a verifier does not answer that; of an md5 hash it is enough.
    Psql::of("app", "")
        .is_told(endpoint.reads(), "HINT:  Put the user's password into the proxy's users_file");
    Psql::of("md5_user", "").comes_in(endpoint.reads());
    let endpoint = files.endpoint().key("auth.users_file", &files.quoted("users")).start();
    Psql::of("app", "").comes_in(endpoint.reads());
    Psql::of("trust_user", "").comes_in(endpoint.reads());
}

#[test]
fn clients_are_refused_in_postgresqls_words() {
    let cluster = own_cluster(1);
    let rules = "host all postgres 127.0.0.1/32 scram-sha-256\n\
                 host all trunkline_monitor 127.0.0.1/32 scram-sha-256\n\
                 host replication all 127.0.0.1/32 reject\n\
                 host all app 127.0.0.1/32 reject\n";
    let files = Files::with_rules(rules);
    let server = &cluster.primary;
    let own = server.data_dir().join("pg_hba.conf");
    fs::write(&own, format!("local all all trust\n{rules}")).unwrap();
    server.psql("SELECT pg_reload_conf()").unwrap();
    let endpoint = Endpoint::over(&cluster).key("auth.hba_file", &files.quoted("hba")).start();
    let other = |user: &str| Login::of(user, "x").with("database", "postgres");
    eventually(Duration::from_secs(30), "the server has read the rules", || {
        refusal(server.port(), &other("app")).text.contains("rejects")
    });
    for login in [
        Login::of("app", "x"),
        Login::of("somebody", "x"),
        Login::of("odd \"name\"", "x"),
        other("app"),
        Login::of("repl", "x").with("replication", "true"),
        Login::of("repl", "x").with("replication", "database"),
    ] {
        let (ours, theirs) = (refusal(endpoint.writes(), &login), refusal(server.port(), &login));
        assert_eq!((&ours.code, &ours.text), (&theirs.code, &theirs.text), "{login:?}");
    }
    let log = endpoint.log();
    let place = format!("by the rule at {}:4", files.path("hba").display());
    assert!(log.contains(&place), "the log names the rule");
}

/// The output and the status of `trunkline check` with these keys of `[auth]`.
fn check(keys: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trunkline.toml");
    fs::write(&file, format!("[[server]]\nname = \"a\"\naddress = \"127.0.0.1:1\"\n[auth]\n{keys}\n"))
        .unwrap();
    let output = Command::new(binary()).args(["check", "--config"]).arg(&file).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn check_names_the_file_and_the_line_and_what_to_do() {
    let files = Files::with_rules("# rules\ninclude more\nhost all all all trust\nhost all all all gues\n");
    files.write("more", "\nhost all +admins all trust\nhostssl all all all cert map=m\n");
    files.write("ident", "m a b\nm a\n");
    let hba = format!("hba_file = {}", files.quoted("hba"));
    let (status, said) = check(&hba);
    assert_eq!(status, Some(2), "{said}");
    for (file, line, words) in [
        ("more", 2, "\"+admins\": the proxy does not know who is a member of a role\n  HINT: "),
        ("more", 3, "there is no line for map \"m\" in ident_file\n  HINT: "),
        ("hba", 4, "invalid authentication method \"gues\"\n  HINT: Write one of: trust, "),
    ] {
        let told = format!("{}:{line}: {words}", files.path(file).display());
        assert!(said.contains(&told), "{told}\n{said}");
    }
    let (_, said) = check(&format!("{hba}\nident_file = {}", files.quoted("ident")));
    assert!(said.contains(&format!("{}:2: a line has three words", files.path("ident").display())), "{said}");
    files.write("hba", "hostssl all all all scram-sha-256 clientcert=verify-ca\n");
    let (_, said) = check(&hba);
    assert!(
        said.contains("hba:1: the rule demands a client certificate, and client_tls.ca_file is not set"),
        "{said}"
    );
    let (_, said) = check("hba_file = \"/nonexistent\"");
    assert!(said.contains("auth.hba_file: could not read /nonexistent: "), "{said}");
    let (_, said) = check("ident_file = \"/nonexistent\"");
    assert!(said.contains("auth.ident_file: is set without auth.hba_file"), "{said}");
    files.write("hba", "host all all all scram-sha-256\nhostssl all all all cert\n");
    let (_, said) = check(&format!("{hba}\n[client_tls]\nca_file = {}", files.quoted("root.crt")));
    let warning = "hba:2: the rule is for no client: no listener has TLS\n  HINT: ";
    assert!(said.contains(warning), "{said}");
    files.write("hba", "host all all all scram-sha-256\n");
    let (status, said) = check(&hba);
    assert!(status == Some(0) && said.contains("auth      by the rules of "), "{said}");
}

#[test]
fn a_reload_reads_the_rules_again_and_keeps_them_when_they_are_broken() {
    let files = Files::with_rules("host all app all scram-sha-256\n");
    let endpoint = files.endpoint().with_admin().start();
    let (app, md5) = (Psql::of("app", "app secret"), Psql::of("md5_user", "md5"));
    app.comes_in(endpoint.reads());
    md5.is_told(endpoint.reads(), "no pg_hba.conf entry");

    files.write("hba", "host all md5_user all md5\nhost all app all nothing\n");
    let (status, said) = endpoint.admin(&["reload"]);
    assert!(status != Some(0) && said.contains(&format!("{}:2: ", files.path("hba").display())), "{said}");
    app.comes_in(endpoint.reads());
    md5.is_told(endpoint.reads(), "no pg_hba.conf entry");

    files.write("hba", "host all md5_user all md5\nhost all app all reject\n");
    endpoint.signal(Signal::SIGHUP);
    eventually(Duration::from_secs(60), "the rules are in force", || md5.run(endpoint.reads()).is_ok());
    app.is_told(endpoint.reads(), "pg_hba.conf rejects connection for host");
}

#[test]
fn a_certificate_says_who_its_client_is() {
    let files = Files::with_rules(
        "hostssl all app 127.0.0.1/32 cert map=people\n\
         hostssl all trust_user 127.0.0.1/32 cert clientname=DN map=services\n\
         hostssl all md5_user 127.0.0.1/32 md5 clientcert=verify-full\n\
         hostssl all postgres 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\n\
         hostssl all all all cert\n",
    );
    files.write(
        "ident",
        "people /^(.*)@db\\.example$ \\1\n\
         services \"/^CN=worker-\\d+,OU=jobs,O=Example\\\\, Inc\\.$\" trust_user\n",
    );
    files.write("users", "\"app\" \"app secret\"\n\"md5_user\" \"md5\"\n\"postgres\" \"postgres\"\n");
    files.make_root();
    files.make_client("app", "/CN=app@db.example");
    files.make_client("worker", "/O=Example, Inc./OU=jobs/CN=worker-12");
    files.make_client("md5", "/CN=md5_user");
    files.make_client("trusted", "/CN=trust_user");
    // As PostgreSQL's manual makes it: of X.509 version 1.
    let sign = "x509 -req -in md5.csr -days 30 -CA root.crt -CAkey root.key -CAcreateserial -out md5.crt";
    files.openssl(&sign.split(' ').collect::<Vec<_>>());
    let endpoint = files
        .endpoint()
        .key("client_tls.ca_file", &files.quoted("root.crt"))
        .key("auth.ident_file", &files.quoted("ident"))
        .key("auth.users_file", &files.quoted("users"))
        .start();
    let port = endpoint.reads();
    Psql::of("app", "").certificate(&files, "app").comes_in(port);
    Psql::of("app", "")
        .certificate(&files, "md5")
        .is_told(port, "certificate authentication failed for user \"app\"");
    Psql::of("app", "app secret").over_tls().is_told(port, "connection requires a valid client certificate");
    Psql::of("trust_user", "").certificate(&files, "worker").comes_in(port);
    let other = Psql::of("trust_user", "").certificate(&files, "trusted");
    other.is_told(port, "certificate authentication failed for user \"trust_user\"");
    // A certificate beside a password.
    Psql::of("md5_user", "md5").certificate(&files, "md5").comes_in(port);
    let foreign = Psql::of("md5_user", "md5").certificate(&files, "app");
    foreign.is_told(port, "password authentication failed for user \"md5_user\"");
    Psql::of("md5_user", "wrong").certificate(&files, "md5").is_told(port, "password authentication failed");
    Psql::of("postgres", "postgres").certificate(&files, "app").comes_in(port);
    Psql::of("postgres", "postgres")
        .over_tls()
        .is_told(port, "connection requires a valid client certificate");
    // Without a map the name is the user's.
    Psql::of("md5_user", "")
        .with("PGDATABASE", "postgres")
        .certificate(&files, "md5")
        .is_told(port, "password");
    let log = endpoint.log().replace('\\', "");
    assert!(log.contains("no match in usermap \"people\" for \"md5_user\""), "the log says why");
    // One that no root vouches for does not get as far as a rule.
    let stranger = Files::with_rules("");
    stranger.make_root();
    stranger.make_client("app", "/CN=app@db.example");
    assert!(Psql::of("app", "").certificate(&stranger, "app").run(port).is_err());
}

#[test]
fn the_user_of_a_unix_socket_is_known_by_its_peer() {
    let files =
        Files::with_rules("local all app peer map=m\nlocal all trust_user ident\nhost all all all reject\n");
    files.write("ident", "m root app\nm postgres nobody\n");
    files.write("users", "\"app\" \"app secret\"\n");
    let (host, port) = (files.0.path().to_str().unwrap(), 5434);
    let listener = format!("[[listener]]\nname = \"local\"\naddress = \"{host}:{port}\"\n");
    let endpoint = files
        .endpoint()
        .toml(&listener)
        .key("auth.ident_file", &files.quoted("ident"))
        .key("auth.users_file", &files.quoted("users"))
        .start();
    let local = |user| Psql::of(user, "").with("PGHOST", host);
    if !nix::unistd::getuid().is_root() {
        println!("the maps of this test are for root");
        return;
    }
    local("app").comes_in(port);
    local("trust_user").is_told(port, "Peer authentication failed for user \"trust_user\"");
    local("other").is_told(
        port,
        "no pg_hba.conf entry for host \"[local]\", user \"other\", database \"appdb\", no encryption",
    );
    Psql::of("app", "").plain().is_told(endpoint.reads(), "pg_hba.conf rejects connection");
    assert!(endpoint.log().replace('\\', "").contains("the client is \"root\""), "the log says why");
}
