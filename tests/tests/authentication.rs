//! Who gets in, who does not, and what each is told.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::{Duration, Instant};

use bytes::BytesMut;
use trunkline_codec::startup::{ProtocolVersion, StartupMessage};
use trunkline_tests::{
    Auth, Endpoint, Login, ServerError, Wire, eventually, own_cluster, psql_output, shared_cluster, tls_is_on,
};

fn refusal(port: u16, login: &Login) -> ServerError {
    match login.try_connect(port) {
        Ok(_) => panic!("{} got in", login.user),
        Err(error) => error,
    }
}

/// The type bytes and authentication codes that a login sees.
fn exchange(port: u16, login: &Login) -> String {
    let mut wire = Wire::connect(port);
    let trace = wire.trace_login(login);
    assert!(!trace.is_empty(), "{}: the connection closed without a word", login.user);
    trace
}

#[test]
fn relay_lets_in_who_the_server_lets_in() {
    let endpoint = Endpoint::over(shared_cluster()).start();
    for (user, password) in [
        ("postgres", "postgres"),
        ("app", "app secret"),
        ("md5_user", "md5"),
        ("cleartext_user", "clear"),
        ("trust_user", ""),
    ] {
        assert_eq!(Login::of(user, password).connect(endpoint.reads()).value("SELECT current_user"), user);
    }
}

#[test]
fn relay_refuses_in_the_servers_own_words() {
    let cluster = shared_cluster();
    let endpoint = Endpoint::over(cluster).start();
    let missing = Login { parameters: vec![("database".into(), "missing".into())], ..Login::default() };
    for login in [
        Login::of("app", "wrong"),
        Login::of("md5_user", "wrong"),
        Login::of("cleartext_user", "wrong"),
        Login::of("nobody", "x"),
        Login::of("nologin_user", "n"),
        Login::of("expired_user", "e"),
        Login::default().with("no_such_setting", "1"),
        missing,
    ] {
        let direct = refusal(cluster.replicas[0].port(), &login);
        assert_eq!(refusal(endpoint.reads(), &login), direct, "{login:?}");
    }
}

#[test]
fn verify_lets_in_scram_and_md5_users_and_reads_what_the_server_reports() {
    let cluster = shared_cluster();
    let endpoint = Endpoint::over(cluster).auth(Auth::Verify).start();
    for (user, password) in [("postgres", "postgres"), ("app", "app secret"), ("md5_user", "md5")] {
        let mut wire = Login::of(user, password).with("application_name", "wire").connect(endpoint.reads());
        assert_eq!(wire.value("SELECT current_user"), user);
        assert_eq!(wire.parameters["in_hot_standby"], "on");
        assert_eq!(wire.parameters["application_name"], "wire");
        let direct =
            Login::of(user, password).with("application_name", "wire").connect(cluster.replicas[0].port());
        assert_eq!(wire.parameters, direct.parameters);
    }
    assert!(
        psql_output(endpoint.writes(), &[("PGUSER", "app"), ("PGPASSWORD", "app secret")], "SELECT 1")
            .status
            .success()
    );
}

#[test]
fn verify_refuses_as_the_server_does() {
    let cluster = shared_cluster();
    let endpoint = Endpoint::over(cluster).auth(Auth::Verify).start();
    let missing = Login { parameters: vec![("database".into(), "missing".into())], ..Login::default() };
    for login in [
        Login::of("app", "wrong"),
        Login::of("md5_user", "wrong"),
        Login::of("app", ""),
        Login::of("nobody", "x"),
        Login::of("expired_user", "e"),
        missing,
    ] {
        let direct = refusal(cluster.replicas[0].port(), &login);
        let ours = refusal(endpoint.reads(), &login);
        let seen = |error: &ServerError| (error.severity.clone(), error.code.clone(), first_line(error));
        assert_eq!(seen(&ours), seen(&direct), "{login:?}");
    }
}

#[test]
fn verify_cuts_names_as_the_server_does_and_takes_none_for_another() {
    let cluster = own_cluster(1);
    let cut = "u".repeat(63);
    let lossy = "adm\u{fffd}";
    for user in [cut.as_str(), lossy] {
        cluster.primary.psql(&format!("CREATE ROLE \"{user}\" LOGIN PASSWORD 'kept'")).unwrap();
    }
    cluster.wait_caught_up().unwrap();
    let endpoint = Endpoint::over(&cluster).auth(Auth::Verify).start();
    let long = Login::of(&format!("{cut}v"), "kept");
    for port in [cluster.replicas[0].port(), endpoint.reads()] {
        assert_eq!(long.connect(port).value("SELECT current_user"), cut);
    }
    assert_eq!(Login::of(lossy, "kept").connect(endpoint.reads()).value("SELECT current_user"), lossy);
    for port in [cluster.replicas[0].port(), endpoint.reads()] {
        let parameters = [(&b"user"[..], &b"adm\xff"[..]), (b"database", b"appdb")];
        let mut packet = BytesMut::new();
        StartupMessage::new(ProtocolVersion::V3_0, parameters).unwrap().encode(&mut packet);
        let mut wire = Wire::connect(port);
        wire.send(&packet);
        let error = wire.finish_login(&Login::of(lossy, "kept")).unwrap_err();
        assert_eq!(error.code, "28P01", "{error:?}");
    }
}

#[test]
fn verify_refuses_a_role_without_login_like_an_unknown_one() {
    // The server would say that the role is not permitted to log in, and so that it exists.
    let endpoint = Endpoint::over(shared_cluster()).auth(Auth::Verify).start();
    let error = refusal(endpoint.reads(), &Login::of("nologin_user", "n"));
    assert_eq!((error.severity.as_str(), error.code.as_str()), ("FATAL", "28P01"), "{error:?}");
}

fn first_line(error: &ServerError) -> String {
    error.text.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn verify_does_not_tell_which_users_exist() {
    let endpoint = Endpoint::over(shared_cluster()).auth(Auth::Verify).start();
    let known = exchange(endpoint.reads(), &Login::of("app", "wrong"));
    for user in ["nobody", "nobody else", "trust_user", "nologin_user"] {
        assert_eq!(exchange(endpoint.reads(), &Login::of(user, "wrong")), known, "{user}");
    }
    // A salt that changes at each attempt would give the mock away.
    let salt = |user: &str| Wire::connect(endpoint.reads()).scram_salt(&Login::of(user, "x"));
    assert_eq!(salt("nobody"), salt("nobody"));
    assert_ne!(salt("nobody"), salt("nobody else"));
}

#[test]
fn two_proxies_show_the_same_salt_for_a_user_who_does_not_exist() {
    let cluster = shared_cluster();
    let endpoints = [(); 2].map(|()| Endpoint::over(cluster).auth(Auth::Verify).start());
    let salt = |endpoint: &Endpoint| Wire::connect(endpoint.reads()).scram_salt(&Login::of("nobody", "x"));
    assert_eq!(salt(&endpoints[0]), salt(&endpoints[1]));
    let [keyed, same, other] = ["a", "a", "b"].map(|nonce| {
        Endpoint::over(cluster).auth(Auth::Verify).key("auth.mock_nonce", &format!("\"{nonce}\"")).start()
    });
    assert_eq!(salt(&keyed), salt(&same));
    assert_ne!(salt(&keyed), salt(&other));
}

#[test]
fn a_secret_too_long_is_none() {
    let cluster = own_cluster(1);
    let salt = "A".repeat(1 << 20);
    let key = format!("{}=", "A".repeat(43));
    for (user, salt) in [("hoarder", salt.as_str()), ("usual", "AAAAAAAAAAAAAAAAAAAAAA==")] {
        let verifier = format!("SCRAM-SHA-256$4096:{salt}${key}:{key}");
        let sql = format!("CREATE ROLE {user} LOGIN; ALTER ROLE {user} PASSWORD '{verifier}'");
        let mut wire = Wire::login(cluster.primary.port());
        assert!(wire.query(&sql).error.is_none());
    }
    let custom = "SELECT rolname::text, rolpassword FROM pg_authid WHERE rolname = $1 -- ours\\n;";
    let endpoints = [
        Endpoint::over(&cluster).auth(Auth::Verify).start(),
        Endpoint::over(&cluster).auth(Auth::Verify).key("auth.query", &format!("\"{custom}\"")).start(),
    ];
    for endpoint in endpoints {
        let salt = |user| Wire::connect(endpoint.reads()).scram_salt(&Login::of(user, "x"));
        assert_eq!(salt("usual"), "s=AAAAAAAAAAAAAAAAAAAAAA==");
        assert_eq!(
            salt("hoarder").len(),
            salt("usual").len(),
            "a made-up salt, as for a user without a password"
        );
    }
}

#[test]
fn verify_knows_a_new_role_and_a_changed_password_at_once() {
    let cluster = own_cluster(1);
    // So many failures of so many users would close the door to this address.
    let endpoint = Endpoint::over(&cluster).auth(Auth::Verify).key("auth.failures_max", "0").start();
    for round in 0..20 {
        let user = format!("role{round}");
        let port = if round % 2 == 0 { endpoint.reads() } else { endpoint.writes() };
        // Now the proxy has heard that there is no such role.
        assert_eq!(refusal(port, &Login::of(&user, "old")).code, "28P01");
        cluster.primary.psql(&format!("CREATE ROLE {user} LOGIN PASSWORD 'old'")).unwrap();
        drop(Login::of(&user, "old").connect(port));
        for password in ["new", "new", "newer"] {
            cluster.primary.psql(&format!("ALTER ROLE {user} PASSWORD '{password}'")).unwrap();
            drop(Login::of(&user, password).connect(port));
        }
        assert_eq!(refusal(port, &Login::of(&user, "old")).code, "28P01");
        cluster.primary.psql(&format!("ALTER ROLE {user} VALID UNTIL '2001-01-01'")).unwrap();
        assert_eq!(refusal(port, &Login::of(&user, "newer")).code, "28P01");
    }
}

#[test]
fn verify_waits_for_a_standby_that_has_yet_to_replay_a_role() {
    let cluster = own_cluster(1);
    // With a fallback the primary would take the session.
    let endpoint = Endpoint::over(&cluster)
        .auth(Auth::Verify)
        .key("health.fallback.mode", "\"none\"")
        .flag("--log-level", "debug")
        .start();
    let replica = &cluster.replicas[0];
    replica.pause_replay().unwrap();
    cluster.primary.psql("CREATE ROLE late LOGIN PASSWORD 'late'").unwrap();
    std::thread::scope(|scope| {
        let login = scope.spawn(|| Login::of("late", "late").try_connect(endpoint.reads()));
        eventually(Duration::from_secs(30), "the standby has refused it", || {
            endpoint.log().contains("standby refuses a password that the primary accepts")
        });
        replica.resume_replay().unwrap();
        assert!(login.join().unwrap().is_ok());
    });
}

#[test]
fn verify_makes_do_with_cached_secrets_while_no_server_answers_for_them() {
    let cluster = own_cluster(1);
    let endpoint = Endpoint::over(&cluster).auth(Auth::Verify).start();
    drop(Login::default().connect(endpoint.reads()));
    cluster.primary.pause();
    let took = [(); 4].map(|()| {
        let began = Instant::now();
        drop(Login::default().connect(endpoint.reads()));
        began.elapsed()
    });
    // The machine may be busy now and then; a server that is waited for costs each of them.
    assert!(took.iter().any(|took| *took < Duration::from_secs(1)), "{took:?}");
    cluster.primary.resume();
}

#[test]
fn verify_passes_on_what_the_server_refuses_after_the_password() {
    let cluster = own_cluster(1);
    cluster.primary.psql("CREATE ROLE one LOGIN PASSWORD 'one' CONNECTION LIMIT 1").unwrap();
    cluster.wait_caught_up().unwrap();
    let endpoint = Endpoint::over(&cluster).without("primary").auth(Auth::Verify).start();
    let held = Login::of("one", "one").connect(endpoint.reads());
    let error = refusal(endpoint.reads(), &Login::of("one", "one"));
    assert_eq!((error.code.as_str(), error.severity.as_str()), ("53300", "FATAL"), "{error:?}");
    drop(held);
}

#[test]
fn verify_takes_users_from_a_file() {
    let cluster = shared_cluster();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let md5 = cluster.primary.psql("SELECT rolpassword FROM pg_authid WHERE rolname = 'md5_user'").unwrap();
    let scram = cluster.primary.psql("SELECT rolpassword FROM pg_authid WHERE rolname = 'app'").unwrap();
    std::io::Write::write_all(&mut file, format!("\"app\" \"{scram}\"\n\"md5_user\" \"{md5}\"\n").as_bytes())
        .unwrap();
    let path = format!("{:?}", file.path());
    let endpoint = Endpoint::over(cluster).auth(Auth::Verify).key("auth.users_file", &path).start();
    for (user, password) in [("app", "app secret"), ("md5_user", "md5")] {
        assert_eq!(Login::of(user, password).connect(endpoint.reads()).value("SELECT current_user"), user);
    }
    assert_eq!(refusal(endpoint.reads(), &Login::default()).code, "28P01");
}

#[test]
fn a_password_on_file_answers_scram_and_md5_and_is_not_shown_to_a_server_that_is_not_verified() {
    let users = "\"app\" \"app secret\"\n\"md5_user\" \"md5\"\n\"cleartext_user\" \"clear\"\n";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), users).unwrap();
    let path = format!("{:?}", file.path());
    let endpoint = Endpoint::over(shared_cluster()).auth(Auth::Verify).key("auth.users_file", &path);
    let endpoint = endpoint.key("server_tls.sslmode", "\"prefer\"").start();
    for (user, password) in [("app", "app secret"), ("md5_user", "md5")] {
        assert_eq!(Login::of(user, password).connect(endpoint.reads()).value("SELECT current_user"), user);
    }
    let error = refusal(endpoint.reads(), &Login::of("cleartext_user", "clear"));
    assert_eq!(error.code, "28000", "{error:?}");
    for words in ["does not send the password", "verify-ca or verify-full", "Unix socket", "scram-sha-256"] {
        assert!(error.text.contains(words), "{error:?}");
    }
}

#[test]
fn relay_holds_a_password_back_that_came_by_tls_and_would_go_on_without() {
    let endpoint =
        Endpoint::over(shared_cluster()).with_tls().key("server_tls.sslmode", "\"disable\"").start();
    let run = |user, password| {
        let as_user = [("PGSSLMODE", "require"), ("PGUSER", user), ("PGPASSWORD", password)];
        psql_output(endpoint.reads(), &as_user, "SELECT current_user")
    };
    let output = run("app", "app secret");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "app\n", "{output:?}");
    let output = run("cleartext_user", "clear");
    assert!(String::from_utf8_lossy(&output.stderr).contains("does not send the password"), "{output:?}");
}

#[test]
fn relay_holds_a_password_back_that_came_by_a_unix_socket() {
    if tls_is_on() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().to_str().unwrap();
    let listener = format!("[[listener]]\nname = \"local\"\naddress = \"{socket}:5432\"\n");
    let _endpoint = Endpoint::over(shared_cluster()).toml(&listener).start();
    let run = |user, password| {
        let as_user = [("PGHOST", socket), ("PGUSER", user), ("PGPASSWORD", password)];
        psql_output(5432, &as_user, "SELECT current_user")
    };
    let output = run("app", "app secret");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "app\n", "{output:?}");
    let output = run("cleartext_user", "clear");
    assert!(String::from_utf8_lossy(&output.stderr).contains("does not send the password"), "{output:?}");
}

#[test]
fn secrets_never_reach_the_log() {
    let cluster = shared_cluster();
    let endpoint = Endpoint::over(cluster).auth(Auth::Verify).flag("--log-level", "trace").start();
    drop(Login::of("app", "app secret").connect(endpoint.reads()));
    let _refused = Login::of("app", "a wrong secret").try_connect(endpoint.reads());
    drop(Login::of("md5_user", "md5").connect(endpoint.reads()));
    let log = endpoint.log();
    let stored = cluster.primary.psql("SELECT rolpassword FROM pg_authid WHERE rolname = 'app'").unwrap();
    for secret in
        ["app secret", "a wrong secret", "SCRAM-SHA-256$", stored.as_str(), "password=trunkline_monitor"]
    {
        assert!(!log.contains(secret), "the log contains {secret:?}");
    }
}
