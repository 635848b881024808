//! What is given, what differs, and who was given what, without a server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures_util::FutureExt as _;
use trunkline_codec::startup::{ProtocolVersion, StartupMessage};
use trunkline_codec::write;
use trunkline_topology::ServerId;

use super::differences::{ReportedDefaults, corrected, differences};
use super::digests::LoginDigests;
use super::generation::{Builder, DefaultsVersion, Generation};
use super::history::History;
use super::own::{LoginTime, confirmed};
use super::startup::extended;
use super::{Reuse, ServerDefaults};
use crate::limits::{DEFAULTS_AGE_MAX, DEFAULTS_AGE_OF_REUSE, DEFAULTS_GENERATIONS_MAX, DEFAULTS_ROWS_MAX};

/// A database, a role and a setting; an empty name is for all.
type Row = (&'static str, &'static str, &'static str);

fn generation(rows: &[Row], server: &[(&str, &str)]) -> Generation {
    let mut builder = Builder::default();
    for (name, value) in [("work_mem", "4096"), ("search_path", "public")].iter().chain(server) {
        builder.server([name, value, "user", "configuration file", ""]).expect("few");
    }
    builder.server(["log_statement", "none", "superuser", "default", ""]).expect("few");
    builder.server(["port", "5432", "postmaster", "command line", ""]).expect("few");
    builder.server(["lock_timeout", "500", "user", "user", "0"]).expect("few");
    builder.server(["client_encoding", "UTF8", "user", "client", "SQL_ASCII"]).expect("few");
    for (database, role, setting) in rows {
        let name = |name: &'static str| Some(name).filter(|name| !name.is_empty());
        builder.setting(name(database), name(role), setting).expect("few");
    }
    builder.superuser("root").expect("few");
    builder.finish("today", None)
}

fn packet(user: &str, parameters: &[(&str, &str)]) -> StartupMessage {
    let all = [("user", user)];
    let all = all.iter().chain(parameters).map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    StartupMessage::new(ProtocolVersion::V3_0, all).expect("short")
}

fn told(values: &[(&str, &str)]) -> ReportedDefaults {
    ReportedDefaults::of(values.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())))
}

/// What `svc` asks for in `db` to have it as in `own` where it would be as in `now`.
fn asked(own: &Generation, now: &Generation, parameters: &[(&str, &str)]) -> Vec<String> {
    asked_by("svc", own, now, parameters)
}

fn asked_by(user: &str, own: &Generation, now: &Generation, parameters: &[(&str, &str)]) -> Vec<String> {
    let [own, now] = [own, now].map(|generation| generation.login(user, "db"));
    let settings = differences(&own, &now, &told(&[]), &packet(user, parameters));
    settings.iter().map(|s| format!("{}={}", s.name, String::from_utf8_lossy(&s.value))).collect()
}

#[test]
fn the_narrower_setting_counts_as_in_postgresql() {
    let rows = [
        ("", "", "work_mem=1MB"),
        ("db", "", "work_mem=2MB"),
        ("", "svc", "work_mem=3MB"),
        ("db", "svc", "work_mem=4MB"),
    ];
    for (count, value) in [(0, "4096"), (1, "1MB"), (2, "2MB"), (3, "3MB"), (4, "4MB")] {
        let generation = generation(&rows[..count], &[]);
        assert_eq!(generation.login("svc", "db").value("work_mem"), Some(value));
        let [other_user, other_database] = [generation.login("app", "db"), generation.login("svc", "x")];
        assert_ne!(other_user.value("work_mem"), Some("4MB"));
        assert_ne!(other_database.value("work_mem"), Some("4MB"));
    }
    let long = "n".repeat(80);
    let mut builder = Builder::default();
    builder.setting(None, Some(&long[..63]), "a.b=c").expect("few");
    assert_eq!(builder.finish("", None).login(&long, "db").value("a.b"), Some("c"), "servers cut names");
}

#[test]
fn a_digest_is_that_of_the_generation_at_hand_on_each_server() {
    let generations =
        ["work_mem=1MB", "work_mem=2MB"].map(|set| Arc::new(generation(&[("", "svc", set)], &[])));
    let digests = LoginDigests::default();
    let names = ["svc", "db"];
    let own = generations.each_ref().map(|generation| generation.login("svc", "db").digest());
    assert_ne!(own[0], own[1]);
    // They change places, and one comes anew.
    for (server, at) in [(0, 0), (2, 1), (0, 0), (0, 1), (2, 0), (2, 1), (0, 0)] {
        assert_eq!(digests.of(ServerId(server), &generations[at], names), own[at], "{server} {at}");
    }
    let again = Arc::new(generation(&[("", "svc", "work_mem=3MB")], &[]));
    assert_eq!(digests.of(ServerId(0), &again, names), again.login("svc", "db").digest());
}

#[test]
fn what_would_be_given_otherwise_is_asked_for() {
    let none = generation(&[], &[]);
    let some =
        generation(&[("", "svc", "search_path=v1"), ("db", "", "App.Tenant=a"), ("", "svc", "role=r")], &[]);
    let other = generation(&[("", "svc", "search_path=v2")], &[("work_mem", "9999")]);
    assert!(asked(&some, &some, &[]).is_empty());
    assert_eq!(asked(&some, &none, &[]), ["app.tenant=a", "role=r", "search_path=v1"], "gone since");
    assert_eq!(asked(&some, &other, &[]), ["app.tenant=a", "role=r", "search_path=v1", "work_mem=4096"]);
    assert_eq!(asked(&none, &some, &[]), ["app.tenant=", "role=none", "search_path=public"], "new since");
}

#[test]
fn what_the_client_asks_for_itself_is_left_to_it() {
    let [v1, v2] = ["search_path=v1", "search_path=v2"].map(|set| generation(&[("", "svc", set)], &[]));
    assert_eq!(asked(&v1, &v2, &[("work_mem", "1MB")]), ["search_path=v1"]);
    for own in [[("Search_Path", "x")], [("options", "-c search_path=x")]] {
        assert!(asked(&v1, &v2, &own).is_empty());
    }
}

#[test]
fn only_superusers_ask_for_what_is_theirs() {
    let [none, all] = ["none", "all"].map(|value| {
        let setting = format!("log_statement={value}").leak();
        generation(&[("db", "", setting)], &[])
    });
    assert!(asked(&none, &all, &[]).is_empty());
    assert_eq!(asked_by("root", &none, &all, &[]), ["log_statement=none"]);
    let hidden = generation(&[("", "svc", "lock_timeout=1s")], &[]);
    let none = generation(&[], &[]);
    assert_eq!(asked(&none, &hidden, &[]), ["lock_timeout=0"], "the monitoring role has its own");
    let encoded = generation(&[("", "svc", "client_encoding=LATIN1")], &[]);
    assert!(asked(&none, &encoded, &[]).is_empty(), "only what the server says at the login shows it");
    let port = generation(&[("", "svc", "port=1")], &[]);
    assert!(asked(&port, &none, &[]).is_empty(), "of the whole server");
}

#[test]
fn a_reported_value_is_asked_for_as_it_was_reported() {
    let [own, now] = ["datestyle=SQL", "datestyle=German"]
        .map(|set| generation(&[("", "svc", set)], &[]).login("svc", "db"));
    let told = told(&[("DateStyle", "SQL, DMY"), ("server_version", "15")]);
    let level = differences(&own, &now, &told, &packet("svc", &[]));
    assert!(level.is_empty(), "no such setting is known");
    let with = |set| generation(&[("", "svc", set)], &[("DateStyle", "ISO, DMY")]).login("svc", "db");
    let settings = differences(&with("datestyle=SQL"), &with("datestyle=German"), &told, &packet("svc", &[]));
    assert_eq!(settings.len(), 1);
    assert_eq!(*settings[0].value, *b"SQL, DMY");
}

#[test]
fn a_greeting_that_is_wrong_is_corrected_once() {
    let mut login_reply = BytesMut::new();
    for (name, value) in [("TimeZone", "Asia/Tokyo"), ("DateStyle", "ISO, MDY"), ("is_superuser", "on")] {
        write::parameter_status(&mut login_reply, name.as_bytes(), value.as_bytes()).expect("short");
    }
    let told = told(&[("TimeZone", "UTC"), ("DateStyle", "ISO, MDY"), ("is_superuser", "off")]);
    let own = packet("svc", &[]);
    let right = extended(&own, &corrected(&told, &login_reply, &own, &own));
    assert_eq!(right, packet("svc", &[("timezone", "UTC")]));
    assert!(corrected(&told, &login_reply, &own, &right).is_empty(), "it is asked for already");
    let own = packet("svc", &[("timezone", "Asia/Tokyo")]);
    assert!(corrected(&told, &login_reply, &own, &own).is_empty(), "it is the client's own");
}

#[test]
fn a_startup_packet_is_extended_as_far_as_there_is_room() {
    let setting = |name: &str, length: usize| super::startup::StartupSetting {
        name: name.into(),
        value: vec![b'x'; length].into(),
    };
    let own = packet("svc", &[]);
    let extended = extended(&own, &[setting("a.a", 9000), setting("a.b", 9000), setting("a.c", 10)]);
    let names: Vec<_> = extended.parameters().map(|(name, _)| name).collect();
    assert_eq!(names, [&b"user"[..], b"a.a", b"a.c"]);
}

/// Times in seconds after a start.
fn clock() -> impl Fn(u64) -> Instant {
    let start = Instant::now();
    move |seconds| start + Duration::from_secs(seconds)
}

#[test]
fn a_new_client_waits_for_a_look_unless_the_last_has_failed() {
    let one = Arc::new(generation(&[], &[]));
    let server = ServerDefaults::default();
    let now = Instant::now() + Duration::from_secs(60);
    let looked_at = |at: Instant| server.publish(History::default().found(Arc::clone(&one), at, at));
    assert_eq!(server.reuse(now), None, "before the first look");
    looked_at(now - DEFAULTS_AGE_MAX);
    assert_eq!(server.reuse(now), None, "a look will tell");
    server.failed();
    assert_eq!(server.reuse(now), Some(Reuse::Unknown));
    let just_so = now - DEFAULTS_AGE_MAX + Duration::from_millis(1);
    looked_at(just_so);
    assert_eq!(server.reuse(now), Some(Reuse::Known));
    server.failed();
    assert_eq!(server.reuse(now), Some(Reuse::Known), "it was in time all the same");
    looked_at(now);
    assert_eq!(server.reuse(now + DEFAULTS_AGE_MAX * 2), None, "one has succeeded meanwhile");
}

#[test]
fn all_that_may_have_been_in_force_during_a_login_is_noticed() {
    let sets = ["a.b=1", "a.b=2"];
    let [one, two] = sets.map(|set| Arc::new(generation(&[("", "svc", set)], &[])));
    let at = clock();
    let history = History::default().found(Arc::clone(&one), at(2), at(3)).confirmed(at(10));
    let in_force = |history: &History, began, ended| -> Vec<_> {
        history.in_force(at(began), at(ended)).into_iter().map(|found| found.generation).collect()
    };
    assert!(history.has_looked_since(at(9)) && !history.has_looked_since(at(10)));
    for login in [(4, 5), (0, 5), (0, 1)] {
        assert_eq!(in_force(&history, login.0, login.1), [Arc::clone(&one)]);
    }
    let history = history.found(Arc::clone(&two), at(20), at(21)).confirmed(at(30));
    let expected: [(u64, u64, &[&Arc<Generation>]); 6] = [
        (5, 9, &[&one]),
        (5, 10, &[&one, &two]),
        (11, 12, &[&one, &two]),
        (19, 22, &[&one, &two]),
        (20, 22, &[&one, &two]),
        (21, 22, &[&two]),
    ];
    for (began, ended, generations) in expected {
        assert_eq!(
            in_force(&history, began, ended).iter().collect::<Vec<_>>(),
            generations,
            "{began} {ended}"
        );
    }
    let mut history = history;
    for n in 0..DEFAULTS_GENERATIONS_MAX as u64 {
        let next = if n % 2 == 0 { &one } else { &two };
        history = history.found(Arc::clone(next), at(40 + n), at(40 + n));
    }
    assert_eq!(in_force(&history, 5, 9), [one], "the oldest is kept no more");
}

#[test]
fn a_client_of_an_earlier_login_has_defaults_read_that_are_not_fresh() {
    let (server, looked) = (ServerDefaults::default(), Instant::now());
    let is_asked_at = |after: Duration| {
        let age = server.reuse(looked + after);
        (age, server.login.notified().now_or_never().is_some())
    };
    assert_eq!(is_asked_at(Duration::ZERO), (None, true), "nothing is known yet");
    server.publish(History::default().found(Arc::new(generation(&[], &[])), looked, looked));
    let moment = Duration::from_millis(1);
    assert_eq!(is_asked_at(DEFAULTS_AGE_OF_REUSE - moment), (Some(Reuse::Known), false));
    assert_eq!(is_asked_at(DEFAULTS_AGE_OF_REUSE), (Some(Reuse::Known), true));
    assert_eq!(is_asked_at(DEFAULTS_AGE_MAX - moment), (Some(Reuse::Known), true));
    assert_eq!(is_asked_at(DEFAULTS_AGE_MAX), (None, true));
}

#[test]
fn what_is_kept_is_bounded_and_shared() {
    let mut builder = Builder::default();
    for _ in 0..DEFAULTS_ROWS_MAX {
        builder.superuser("s").expect("within the limit");
    }
    assert!(builder.superuser("s").is_err());
    let mut builder = Builder::default();
    assert!(builder.superuser(&"s".repeat(crate::limits::DEFAULTS_BYTES_MAX + 1)).is_err());

    let first = generation(&[("", "svc", "a.b=1")], &[]);
    let mut builder = Builder::default();
    builder.setting(None, Some("svc"), "a.b=1").expect("few");
    let second = builder.finish("today", Some(&first));
    assert!(second.login("svc", "db").shares_with(&first.login("svc", "db")));
}

/// What a login at `seconds` was given, of two generations of which one was found last at 0 and the other first at 10,
/// and what is to be asked for.
fn given_at(seconds: u64, told_zone: &str) -> (Option<String>, Vec<Box<str>>) {
    let [rome, tokyo] = [("Europe/Rome", "1s"), ("Asia/Tokyo", "2s")].map(|(zone, timeout)| {
        let sets = [format!("TimeZone={zone}"), format!("statement_timeout={timeout}")];
        let rows = sets.map(|set| ("", "svc", &*set.leak()));
        Arc::new(generation(&rows, &[("TimeZone", "UTC"), ("statement_timeout", "0")]))
    });
    let at = clock();
    let history = History::default().found(rome, at(0), at(0)).found(tokyo, at(10), at(10));
    let login = LoginTime { began: at(seconds), ended: at(seconds) };
    let (given, keys) = confirmed(&history, login, ["svc", "db"], &told(&[("TimeZone", told_zone)]));
    (given.and_then(|login| login.value("timezone").map(str::to_owned)), keys)
}

#[test]
fn where_the_looks_around_a_login_differ_the_greeting_tells_and_the_rest_is_asked_for() {
    for (seconds, zone) in [(1, "Europe/Rome"), (9, "Asia/Tokyo")] {
        assert_eq!(given_at(seconds, "elsewhere").0.as_deref(), Some(zone), "at {seconds}");
        for told in ["Europe/Rome", "Asia/Tokyo"] {
            let (zone, keys) = given_at(seconds, told);
            assert_eq!(zone.as_deref(), Some(told), "at {seconds}");
            assert_eq!(keys, ["statement_timeout".into()], "at {seconds}");
        }
    }
    let (zone, keys) = given_at(11, "Asia/Tokyo");
    assert_eq!((zone.as_deref(), keys), (Some("Asia/Tokyo"), Vec::new()), "nothing has changed since");
}

#[test]
fn what_the_server_has_told_counts_before_what_looks_have_found() {
    let rows = [("", "svc", "statement_timeout=1s"), ("", "svc", "app.tenant=a")];
    let login = generation(&rows, &[]).login("svc", "db");
    let told = login.with_told(vec![
        ("statement_timeout".into(), Some("2000".into())),
        ("app.tenant".into(), None),
        ("app.other".into(), Some("b".into())),
    ]);
    let now = generation(&rows, &[("statement_timeout", "0")]).login("svc", "db");
    let settings = differences(&told, &now, &self::told(&[]), &packet("svc", &[]));
    let settings: Vec<_> = settings.iter().map(|s| (&*s.name, &*s.value)).collect();
    let expected: [(&str, &[u8]); 3] =
        [("app.other", b"b"), ("app.tenant", b""), ("statement_timeout", b"2000")];
    assert_eq!(settings, expected);
}

#[test]
fn a_session_takes_part_in_a_reload_and_not_in_a_restart() {
    let with = |started: &str, value: &str| {
        let mut builder = Builder::default();
        builder.server(["work_mem", value, "user", "configuration file", "4096"]).expect("few");
        Arc::new(builder.finish(started, None))
    };
    let first = with("today", "1").login("svc", "db");
    for (later, value) in [(with("today", "2"), "2"), (with("tomorrow", "2"), "1")] {
        assert_eq!(first.reloaded(&later.login("svc", "db")).value("work_mem"), Some(value));
    }
    let at = clock();
    let history = History::default().found(with("today", "1"), at(0), at(0));
    let history = history.found(with("today", "2"), at(10), at(11));
    let login = LoginTime { began: at(4), ended: at(5) };
    let (given, keys) = confirmed(&history, login, ["svc", "db"], &told(&[]));
    assert_eq!(given.expect("known").value("work_mem"), Some("2"));
    assert!(keys.is_empty(), "whichever it was, it is the same by now");
}

#[test]
fn a_login_is_of_a_version_that_is_not_newer() {
    let mut builder = Builder::default();
    builder.loaded("20");
    builder.row(None, Some("svc"), "700");
    builder.setting(None, Some("svc"), "a.b=1").expect("few");
    builder.row(Some("db"), None, "701");
    builder.row(Some("db"), Some("other"), "702");
    let login = builder.finish("10", None).login("svc", "db");
    let is_of = |started: &str, loaded: &str, rows: &str| {
        let values = [started, loaded, rows, "10", "5"].map(|value| Some(value.as_bytes()));
        login.is_of(&DefaultsVersion::of_values(values.into_iter()).expect("complete"))
    };
    assert!(is_of("10", "20", "f:t:700 t:f:701"));
    assert!(is_of("10", "19", "f:t:700 t:f:701"), "the process that looks has heard of it later");
    assert!(!is_of("10", "21", "f:t:700 t:f:701"), "read again");
    assert!(!is_of("11", "20", "f:t:700 t:f:701"), "started again");
    for rows in ["", "f:t:703 t:f:701", "f:t:700", "f:f:699 f:t:700 t:f:701", "f:t:700 t:f:701 t:t:704"] {
        assert!(!is_of("10", "20", rows), "{rows}");
    }
    assert_eq!(DefaultsVersion::of_values([Some(&b"10"[..]), None].into_iter()), None);
}

/// `svc` of `db` with this OID.
fn named(role: u32) -> Arc<Generation> {
    let mut builder = Builder::default();
    builder.identities.role("svc", role);
    builder.identities.database("db", 5);
    Arc::new(builder.finish("today", None))
}

#[test]
fn a_role_that_gets_the_name_of_another_has_a_digest_of_its_own() {
    let [former, latter] = [named(10), named(11)];
    let digest = |generation: &Generation| generation.login("svc", "db").digest();
    assert_eq!(digest(&former), digest(&named(10)));
    assert_ne!(digest(&former), digest(&latter));
    let at = clock();
    let history = History::default().found(Arc::clone(&former), at(0), at(3));
    let history = history.found(Arc::clone(&latter), at(10), at(20));
    let given = |began, ended| {
        let login = LoginTime { began: at(began), ended: at(ended) };
        let (given, keys) = confirmed(&history, login, ["svc", "db"], &told(&[]));
        assert!(keys.is_empty(), "no setting differs");
        given.expect("known").digest()
    };
    assert_eq!(given(1, 2), digest(&former));
    assert_eq!(given(11, 12), digest(&latter));
    let between = [given(4, 5), given(4, 5)];
    assert!(!between.contains(&digest(&former)) && !between.contains(&digest(&latter)));
    assert_ne!(between[0], between[1], "in doubt, nobody else may be the same");
}
