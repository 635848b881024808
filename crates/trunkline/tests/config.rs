//! The two stages of the configuration: raw and checked.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use trunkline::config::checked::{CheckedConfig, settings};
use trunkline::config::flags::{FlagSessions, Flags, ListenerFlag, ServerFlag};
use trunkline::config::raw::ConfigPurpose;
use trunkline::config::{ConfigSources, Loaded, Problems, file, keys, load, sample};
use trunkline_health::JudgeSettings;
use trunkline_pool::PoolMode;
use trunkline_proxy::settings::{AuthMode, RouteBy};
use trunkline_routing::{Fallback, TargetSessionAttrs};
use trunkline_tls::TlsVersion;
use trunkline_tls::accept::ClientSslMode;
use trunkline_topology::ExpectedRole;

#[path = "config/warned.rs"]
mod warned;

struct Given {
    directory: tempfile::TempDir,
    request: ConfigSources,
}

impl Given {
    fn file(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trunkline.toml");
        std::fs::write(&path, text).unwrap();
        let flags = Flags { file: Some(path), ..Flags::default() };
        Given { directory, request: ConfigSources { flags, environment: HashMap::new() } }
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.request.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    fn flag(mut self, key: &'static str, flag: &'static str, value: &str) -> Self {
        self.request.flags.values.push((key, flag, value.to_owned()));
        self
    }

    fn replica(mut self, text: &str) -> Self {
        self.request.flags.servers.push(ServerFlag {
            flag: "--replica",
            role: ExpectedRole::Replica,
            text: text.to_owned(),
        });
        self
    }

    fn checked(self) -> CheckedConfig {
        settings(load(&self.request)).map_err(|problems| problems.to_string()).unwrap()
    }

    /// The problems, with the file's directory cut off.
    fn problems(self) -> String {
        let problems: Problems = settings(load(&self.request)).err().unwrap();
        problems.to_string().replace(&format!("{}/", self.directory.path().display()), "")
    }
}

const SERVER: &str = "[[server]]\naddress = \"db1:5432\"\n";

#[test]
fn every_problem_is_reported_at_once_with_its_line() {
    let problems = Given::file(
        r#"
[[server]]
name = "replica1"
adress = "127.0.0.1:5433"

[[server]]
name = "replica1"
address = "127.0.0.1:5433"
weight = -1

[health]
max_lagg = "2s"
tick = 500
rise = "two"

[healt]
fall = 2

[timeouts]
connections_max = 5

[auth]
mode = "verfy"
"#,
    )
    .problems();
    for expected in [
        "trunkline.toml:4: server.adress: unknown key\n  HINT: Did you mean \"address\"?",
        "trunkline.toml:9: server.weight: -1 is not valid here\n  HINT: Write a whole number from 0 to 1000.",
        "trunkline.toml:12: health.max_lagg: unknown key\n  HINT: Did you mean \"max_lag\"?",
        "trunkline.toml:13: health.tick: the unit is missing in 500\n",
        "trunkline.toml:14: health.rise: \"two\" is not valid here\n",
        "trunkline.toml:16: [healt]: unknown section\n  HINT: Did you mean [health]?",
        "trunkline.toml:20: timeouts.connections_max: unknown key\n  HINT: \"connections_max\" belongs in [limits].",
        "trunkline.toml:23: auth.mode: \"verfy\" is not valid here\n  HINT: Write one of: auto, verify, login, relay.",
        "trunkline.toml:2: server.address: is missing",
        "9 problems in the configuration",
    ] {
        assert!(problems.contains(expected), "missing:\n{expected}\nin:\n{problems}");
    }
}

#[test]
fn a_syntax_error_does_not_hide_the_others() {
    let problems = Given::file("[health]\nmax_lag = = 2s\ntikc = \"1s\"\n").problems();
    assert!(problems.contains("trunkline.toml:2: not valid TOML"), "{problems}");
    assert!(problems.contains("trunkline.toml:3: health.tikc: unknown key"), "{problems}");
}

#[test]
fn what_only_the_whole_shows_points_at_its_line() {
    let problems = Given::file(&format!(
        "{SERVER}[[listener]]\nname = \"a\"\naddress = \"127.0.0.1:8008\"\n[health]\nmax_lag = \"1s\"\nreadmit_lag = \"2s\"\n"
    ))
    .problems();
    assert!(problems.contains("trunkline.toml:8: health.readmit_lag: 2s is above max_lag, 1s"), "{problems}");
    assert!(problems.contains("127.0.0.1:8008 is the address of listener \"a\" already"), "{problems}");
}

#[test]
fn no_server_at_all_says_how_to_name_one() {
    let problems = Given::file("").problems();
    assert!(problems.contains("server: there is none"), "{problems}");
    assert!(problems.contains("--primary HOST:PORT"), "{problems}");
}

#[test]
fn a_file_that_is_named_must_exist() {
    let mut given = Given::file("");
    given.request.flags.file = Some(PathBuf::from("/nowhere/trunkline.toml"));
    assert!(given.problems().contains("flag --config: could not read /nowhere/trunkline.toml"));
}

#[test]
fn the_sample_parses_to_the_defaults() {
    let text = sample::sample();
    let checked = Given::file(&text).checked();
    // Its servers and listeners come first.
    let example: String = text.split_inclusive('\n').take_while(|line| *line != "[monitor]\n").collect();
    assert!(example.contains("\n[[server]]\n") && example.contains("\n[[listener]]\n"), "{example}");
    let bare = Given::file(&example).checked();
    assert_eq!(format!("{:?}", checked.proxy), format!("{:?}", bare.proxy));
    assert_eq!(checked.log, bare.log);
}

#[test]
fn the_defaults_of_the_table_are_those_of_the_crates() {
    let proxy = Given::file(SERVER).checked().proxy;
    assert_eq!(proxy.health.judge, JudgeSettings::default());
    assert_eq!(proxy.fallback.mode, Fallback::default());
    assert_eq!(proxy.http, Some("127.0.0.1:8008".parse().unwrap()));
    assert_eq!((proxy.agent, proxy.threads), (None, 0));
    let listener = &proxy.listeners[0];
    assert_eq!(
        (listener.name.as_str(), listener.address.to_string()),
        ("reads", "127.0.0.1:5434".to_owned())
    );
    assert_eq!(listener.options.target_session_attrs, TargetSessionAttrs::PreferStandby);
}

#[test]
fn the_lag_limits_follow_max_lag() {
    let judge = Given::file(&format!("{SERVER}[health]\nmax_lag = \"2s\"\n")).checked().proxy.health.judge;
    assert_eq!((judge.max_lag, judge.readmit_lag), (Duration::from_secs(2), Duration::from_secs(1)));
}

#[test]
fn environment_overrides_the_file_and_flags_override_both() {
    let text = format!("{SERVER}[health]\nmax_lag = \"1s\"\ntick = \"200ms\"\nrise = 3\n");
    let checked = Given::file(&text)
        .env("TRUNKLINE__HEALTH__MAX_LAG", "2s")
        .env("TRUNKLINE__HEALTH__TICK", "300ms")
        .env("TRUNKLINE__LOG__STATEMENTS__THRESHOLD", "0")
        .env("TRUNKLINE__LIMITS__CONNECTIONS_MAX", "77")
        .flag("health.max_lag", "--max-lag", "3s")
        .checked();
    let judge = &checked.proxy.health.judge;
    assert_eq!(
        (judge.max_lag, judge.tick, judge.rise),
        (Duration::from_secs(3), Duration::from_millis(300), 3)
    );
    assert_eq!(checked.proxy.statement_log.threshold, Some(Duration::ZERO));
    assert_eq!(checked.proxy.limits.connections_max, 77);
}

#[test]
fn environment_names_a_server_in_the_variable() {
    let text = "[[server]]\nname = \"replica-1\"\naddress = \"db1:5432\"\n";
    let checked = Given::file(text)
        .env("TRUNKLINE__SERVER__REPLICA_1__WEIGHT", "7")
        .env("TRUNKLINE__SERVER__PRIMARY__ADDRESS", "db0:5432")
        .env("TRUNKLINE__SERVER__PRIMARY__ROLE", "primary")
        .checked();
    let servers = &checked.proxy.health.servers;
    assert_eq!((servers[0].name.as_str(), servers[0].weight), ("replica-1", 7));
    assert_eq!((servers[1].name.as_str(), servers[1].expected_role), ("primary", ExpectedRole::Primary));
}

#[test]
fn the_former_word_for_a_server_is_refused_with_its_line_and_the_new_word() {
    let problems =
        Given::file("[http]\n[[target]]\naddress = \"db1\"\n[[target]]\naddress = \"db2\"\nweigth = 1\n")
            .problems();
    for expected in [
        "trunkline.toml:2: target: unknown key\n  HINT: Write [[server]].",
        "trunkline.toml:4: target: unknown key\n  HINT: Write [[server]].",
        "trunkline.toml:6: server.weigth: unknown key\n  HINT: Did you mean \"weight\"?",
        "3 problems in the configuration",
    ] {
        assert!(problems.contains(expected), "missing:\n{expected}\nin:\n{problems}");
    }
    let problems = Given::file(&format!("{SERVER}\n[target]\n")).problems();
    assert!(
        problems.contains("trunkline.toml:4: target: unknown key\n  HINT: Write [[server]]."),
        "{problems}"
    );
    let problems = Given::file(SERVER).env("TRUNKLINE__TARGET__REPLICA1__WEIGHT", "7").problems();
    let expected = "environment variable TRUNKLINE__TARGET__REPLICA1__WEIGHT: target.replica1.weight: unknown key\n  \
                    HINT: Write TRUNKLINE__SERVER__REPLICA1__WEIGHT.";
    assert!(problems.contains(expected), "{problems}");
    assert!(problems.ends_with("1 problem in the configuration"), "{problems}");
}

#[test]
fn a_wrong_variable_is_named() {
    let problems = Given::file(SERVER)
        .env("TRUNKLINE__HEALTH__MAXLAG", "2s")
        .env("TRUNKLINE__LIMITS__CONNECTIONS_MAX", "many")
        .env("TRUNKLINE_HTTP", "not ours")
        .problems();
    assert!(
        problems.contains("environment variable TRUNKLINE__HEALTH__MAXLAG: health.maxlag: unknown key"),
        "{problems}"
    );
    assert!(problems.contains("environment variable TRUNKLINE__LIMITS__CONNECTIONS_MAX"), "{problems}");
    assert!(problems.ends_with("2 problems in the configuration"), "{problems}");
}

#[test]
fn flags_suffice_without_a_file() {
    let server = |flag, role, text: &str| ServerFlag { flag, role, text: text.to_owned() };
    let listener = |flag, sessions, text: &str| ListenerFlag { flag, sessions, text: text.to_owned() };
    let flags = Flags {
        file: None,
        purpose: ConfigPurpose::Proxy,
        servers: vec![
            server("--primary", ExpectedRole::Primary, "primary=127.0.0.1:5441"),
            server("--replica", ExpectedRole::Replica, "replica1=127.0.0.1:5442"),
            server("--replica", ExpectedRole::Replica, "db3:5433"),
        ],
        listeners: vec![
            listener("--reads", FlagSessions::Reads, "127.0.0.1:5434"),
            listener("--writes", FlagSessions::Writes, "localhost:5431"),
            listener("--split", FlagSessions::Split, "127.0.0.1:5436"),
        ],
        values: vec![
            ("monitor.conninfo", "--monitor", "user=u password='a b' dbname=d".to_owned()),
            ("auth.mode", "--auth", "verify".to_owned()),
        ],
    };
    let proxy = settings(load(&ConfigSources { flags, environment: HashMap::new() })).unwrap().proxy;
    let names: Vec<_> = proxy.health.servers.iter().map(|server| server.name.as_str()).collect();
    assert_eq!(names, ["primary", "replica1", "db3"]);
    assert_eq!(proxy.listeners[1].options.target_session_attrs, TargetSessionAttrs::ReadWrite);
    assert_eq!(proxy.listeners[1].address.to_string(), "127.0.0.1:5431");
    let split = &proxy.listeners[2].options;
    assert_eq!((split.route, split.pool_mode), (RouteBy::Statement, Some(PoolMode::Transaction)));
    assert_eq!(proxy.health.login.config.get_password(), Some(&b"a b"[..]));
    assert_eq!(proxy.auth.mode, AuthMode::Verify);
}

#[test]
fn bare_addresses_are_named_after_their_host_and_port_when_they_share_it() {
    let proxy = Given::file("").replica("db1:5432").replica("db1:5433").replica("db2").checked().proxy;
    let names: Vec<_> = proxy.health.servers.iter().map(|server| server.name.as_str()).collect();
    assert_eq!(names, ["db1:5432", "db1:5433", "db2"]);
}

#[test]
fn a_password_comes_from_a_command_or_is_written_and_not_both() {
    let command = "[monitor]\npassword_command = [\"cat\", \"/run/it\"]\n";
    let checked = Given::file(&format!("{SERVER}{command}")).checked();
    assert_eq!(checked.password_command, Some(vec!["cat".to_owned(), "/run/it".to_owned()]));
    let problems = Given::file(&format!("{SERVER}{command}password = \"it\"\n")).problems();
    assert!(problems.contains("monitor.password_command: is set together with a password"), "{problems}");
    let flagged =
        Given::file(&format!("{SERVER}{command}")).flag("monitor.conninfo", "--monitor", "password=it");
    assert_eq!(flagged.checked().password_command, None, "a flag wins");
    for wrong in ["[]", "[\"\"]", "\"cat /run/it\"", "[1]"] {
        let problems = Given::file(&format!("{SERVER}[monitor]\npassword_command = {wrong}\n")).problems();
        assert!(problems.contains("Write a program and its arguments"), "{wrong}: {problems}");
    }
}

#[test]
fn a_password_is_never_repeated() {
    let problems =
        Given::file(SERVER).flag("monitor.conninfo", "--monitor", "user=u password='s3cret").problems();
    assert!(problems.contains("flag --monitor"), "{problems}");
    assert!(!problems.contains("s3cret"), "{problems}");
}

#[test]
fn a_file_cut_anywhere_is_reported_and_never_panics() {
    let text = sample::sample();
    let ends = (0..text.len()).rev().filter(|end| text.is_char_boundary(*end)).step_by(7);
    for end in ends {
        let (mut raw, mut problems) = (keys::defaults(), Problems::default());
        file::apply("cut.toml", &text[..end], &mut raw, &mut problems);
        let warnings = Problems::default();
        let _valid_or_not =
            settings(Loaded { raw, file: None, problems, warnings, admin_places: Vec::new(), pod_api: None });
    }
}

#[test]
fn a_monitor_flag_wins_part_by_part() {
    let text = format!("{SERVER}[monitor]\nuser = \"file\"\ndbname = \"file\"\n");
    let login = Given::file(&text)
        .env("TRUNKLINE__MONITOR__PASSWORD", "from the environment")
        .flag("monitor.conninfo", "--monitor", "user=flag")
        .checked()
        .proxy
        .health
        .login
        .config;
    assert_eq!((login.get_user(), login.get_dbname()), (Some("flag"), Some("file")));
    assert_eq!(login.get_password(), Some(&b"from the environment"[..]));
}

fn warnings(given: Given) -> String {
    given.checked().warnings.to_string()
}

#[test]
fn a_variable_with_one_underscore_is_named_with_what_was_meant() {
    let said = warnings(
        Given::file(SERVER)
            .env("TRUNKLINE_MONITOR_PASSWORD", "s3cret")
            .env("TRUNKLINE_LOG_STATEMENTS_THRESHOLD", "1s")
            .env("TRUNKLINE_SERVER_REPLICA_1_ADDRESS", "db2")
            .env("TRUNKLINE_HTTP", "127.0.0.1:8008")
            .env("TRUNKLINE__MONITOR__USER", "u"),
    );
    for expected in [
        "environment variable TRUNKLINE_MONITOR_PASSWORD: is not read: two underscores are missing\n  \
         HINT: Write TRUNKLINE__MONITOR__PASSWORD.",
        "HINT: Write TRUNKLINE__LOG__STATEMENTS__THRESHOLD.",
        "HINT: Write TRUNKLINE__SERVER__REPLICA_1__ADDRESS.",
    ] {
        assert!(said.contains(expected), "missing:\n{expected}\nin:\n{said}");
    }
    assert!(!said.contains("s3cret") && said.contains("4 problems"), "{said}");
}

#[test]
fn a_server_that_is_the_proxy_itself_is_a_problem() {
    let text = "[[server]]\naddress = \"localhost:5434\"\n";
    let problems = Given::file(text).problems();
    assert!(
        problems.contains("trunkline.toml:2: server.address: localhost:5434 is where listener \"reads\" of this proxy listens\n"),
        "{problems}"
    );
    // The health checks alone open no listener.
    let mut given = Given::file(text);
    given.request.flags.purpose = ConfigPurpose::HealthChecks;
    let _valid = given.checked();
}

#[test]
fn two_servers_with_one_address_are_a_problem_however_it_is_written() {
    let problems = Given::file("").replica("a=localhost:5432").replica("b=127.0.0.1:5432").problems();
    assert!(
        problems.contains("flag --replica: server.address: 127.0.0.1:5432 is server \"a\" already"),
        "{problems}"
    );
}

#[test]
fn a_listener_has_the_tls_of_all_but_for_what_it_says_itself() {
    let file = format!(
        "{SERVER}[client_tls]\ncert_file = \"self-signed\"\nmin_protocol_version = \"TLSv1.3\"\n\
         [[listener]]\nname = \"a\"\naddress = \"127.0.0.1:1\"\n\
         [[listener]]\nname = \"b\"\naddress = \"127.0.0.1:2\"\nclient_tls.sslmode = \"require\"\n\
         [[listener]]\nname = \"c\"\naddress = \"127.0.0.1:3\"\n[listener.client_tls]\nsslmode = \"disable\"\n"
    );
    let given = Given::file(&file).env("TRUNKLINE__LISTENER__A__CLIENT_TLS__MIN_PROTOCOL_VERSION", "TLSv1.2");
    let proxy = given.checked().proxy;
    let told = proxy.listeners.iter().map(|listener| {
        let tls = &listener.options.tls;
        (listener.name.as_str(), tls.sslmode(), tls.min_protocol_version)
    });
    let expected = [
        ("a", ClientSslMode::Prefer, TlsVersion::V12),
        ("b", ClientSslMode::Require, TlsVersion::V13),
        ("c", ClientSslMode::Disable, TlsVersion::V13),
    ];
    assert_eq!(told.collect::<Vec<_>>(), expected);
    let wrong =
        Given::file(&file.replace("sslmode = \"disable\"", "sslmode = \"verify-full\"\nsslmod = 1\n"));
    let problems = wrong.problems();
    assert!(problems.contains("listener.client_tls.sslmod: unknown key"), "{problems}");
    assert!(
        problems.contains("listener \"c\": client_tls: client_tls.sslmode verify-ca and verify-full need"),
        "{problems}"
    );
}
