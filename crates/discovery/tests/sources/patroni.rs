//! Patroni's REST API.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use trunkline_discovery::http::HttpUrl;
use trunkline_discovery::limits::{ANSWER_BYTES_MAX, ERROR_TEXT_MAX};
use trunkline_discovery::patroni::PatroniSettings;
use trunkline_discovery::{RoleHint, SourceKind};

use crate::fake::{Fake, Reply};
use crate::{error, follow, names, until};

/// As Patroni 4 answers, with tags that a configuration can have.
pub(crate) const CLUSTER: &str = r#"{
  "members": [
    {"name": "pg1", "role": "leader", "state": "running", "api_url": "http://10.0.0.1:8008/patroni", "host": "10.0.0.1",
     "port": 5432, "timeline": 5, "tags": {"clonefrom": true, "zone": "a"}},
    {"name": "pg2", "role": "sync_standby", "state": "streaming", "api_url": "http://10.0.0.2:8008/patroni",
     "host": "10.0.0.2", "port": 5433, "timeline": 5, "lag": 0, "receive_lsn": "0/4000060",
     "tags": {"nofailover": true, "replicatefrom": "pg1", "weight": 50, "zone": "b"}},
    {"name": "pg3", "role": "replica", "state": "streaming", "api_url": "http://10.0.0.3:8008/patroni",
     "host": "10.0.0.3", "port": 5432, "timeline": 5, "lag": 0, "tags": {"noloadbalance": true, "weight": 50}},
    {"name": "pg4", "role": "replica", "state": "creating replica", "api_url": "http://10.0.0.4:8008/patroni",
     "host": "10.0.0.4", "port": 5432, "lag": "unknown"},
    {"name": "pg5", "role": "replica", "state": "", "api_url": "http://10.0.0.5:8008/patroni", "lag": "unknown"}
  ],
  "scope": "demo",
  "scheduled_switchover": {"at": "2026-09-24T10:36:00+02:00", "from": "pg1", "to": "pg3"}
}"#;

pub(crate) fn patroni(urls: &[&HttpUrl]) -> SourceKind {
    SourceKind::Patroni(settings(urls))
}

pub(crate) fn settings(urls: &[&HttpUrl]) -> PatroniSettings {
    let urls = urls.iter().map(|url| (*url).clone()).collect();
    PatroniSettings { urls, timeout: Duration::from_secs(10), http: Default::default() }
}

pub(crate) fn ok(body: &str) -> Reply {
    Reply::Whole("200 OK", body.to_owned())
}

/// Answers each question as `first` says, and from the `after`-th on as `then` says.
async fn changing(after: usize, first: fn() -> Reply, then: fn() -> Reply) -> Fake {
    let asked = AtomicUsize::new(0);
    Fake::start(move |_| if asked.fetch_add(1, Ordering::Relaxed) < after { first() } else { then() }).await
}

#[tokio::test]
async fn a_member_that_is_silent_holds_up_no_other() {
    let silent = [Fake::start(|_| Reply::Silence).await, Fake::start(|_| Reply::Silence).await];
    let fake = Fake::start(|_| ok(CLUSTER)).await;
    // Each may take longer than this test is waited for.
    let mut settings = settings(&[&silent[0].url, &silent[1].url, &fake.url]);
    settings.timeout = Duration::from_secs(3600);
    let (_discovery, mut found) = follow(SourceKind::Patroni(settings));
    let source = until(&mut found, |source| source.answer.is_some()).await;
    assert_eq!((names(&source).as_str(), source.errors), ("pg1 pg2 pg3 pg4", 0));
    assert_eq!(silent[1].heads().len(), 1, "it was asked beside the first");
}

#[tokio::test]
async fn members_come_with_roles_and_tags() {
    let fake = Fake::start(|_| ok(CLUSTER)).await;
    let (_discovery, mut found) = follow(patroni(&[&fake.url]));
    let source = until(&mut found, |source| source.answer.is_some()).await;
    assert_eq!(names(&source), "pg1 pg2 pg3 pg4", "pg5 has not said where it is");
    let shown: Vec<String> = source
        .members()
        .iter()
        .map(|member| {
            let mut text = format!("{}:{} {}", member.host, member.port, member.role.as_str());
            for tag in &member.tags {
                write!(text, " {tag}").unwrap();
            }
            format!("{text} weight {:?} zone {:?}", member.weight, member.zone.as_deref())
        })
        .collect();
    assert_eq!(
        shown,
        [
            r#"10.0.0.1:5432 primary clonefrom weight None zone Some("a")"#,
            r#"10.0.0.2:5433 replica nofailover replicatefrom=pg1 weight Some(50) zone Some("b")"#,
            "10.0.0.3:5432 replica noloadbalance weight Some(0) zone None",
            "10.0.0.4:5432 unknown weight None zone None",
        ]
    );
    let head = &fake.heads()[0];
    assert!(head.starts_with("GET /cluster HTTP/1.1\r\n"), "{head}");
    assert!(!head.to_lowercase().contains("authorization"), "{head}");
}

#[tokio::test]
async fn an_answer_of_http_1_0_is_read_to_its_end() {
    // As Python's http.server gives it, which Patroni is made with.
    let answer = || {
        let head =
            "HTTP/1.0 200 OK\r\nServer: BaseHTTP/0.6 Python/3.11.2\r\nContent-Type: application/json\r\n\r\n";
        Reply::Raw(format!("{head}{CLUSTER}").into_bytes())
    };
    let fake = Fake::start(move |_| answer()).await;
    let (_discovery, mut found) = follow(patroni(&[&fake.url]));
    let source = until(&mut found, |source| source.answer.is_some()).await;
    assert_eq!((names(&source).as_str(), source.last_error), ("pg1 pg2 pg3 pg4", None));
}

#[tokio::test]
async fn a_change_of_leader_is_counted() {
    fn switched() -> Reply {
        ok(&CLUSTER.replace("\"leader\"", "\"other\"").replace("\"sync_standby\"", "\"leader\""))
    }
    let fake = changing(3, || ok(CLUSTER), switched).await;
    let (_discovery, mut found) = follow(patroni(&[&fake.url]));
    let before = until(&mut found, |source| source.answer.is_some()).await;
    let leader = |name: &'static str| {
        move |source: &trunkline_discovery::SourceStatus| {
            source.members().iter().any(|member| member.name == name && member.role == RoleHint::Primary)
        }
    };
    assert!(leader("pg1")(&before));
    let after = until(&mut found, leader("pg2")).await;
    assert_eq!(after.role_changes, before.role_changes + 1);
    let again = until(&mut found, |source| source.answer != after.answer).await;
    assert_eq!(again.role_changes, after.role_changes, "it is counted once");
}

#[tokio::test]
async fn another_url_is_asked_when_one_is_away_and_is_the_first_from_then_on() {
    // Nobody listens there any more.
    let away = Fake::start(|_| Reply::Silence).await.url.clone();
    let broken = Fake::start(|_| Reply::Whole("503 Service Unavailable", String::new())).await;
    let fake = Fake::start(|_| ok(CLUSTER)).await;
    let (_discovery, mut found) = follow(patroni(&[&away, &broken.url, &fake.url]));
    let source = until(&mut found, |source| source.answer.is_some()).await;
    assert!(!source.is_failing());
    let asked = || fake.heads().len();
    let at_first = asked();
    until(&mut found, |_| asked() >= at_first + 3).await;
    assert_eq!(broken.heads().len(), 1, "who answers last is asked first");
}

#[tokio::test]
async fn all_urls_that_give_no_answer_are_told() {
    let slow = Fake::start(|_| Reply::Silence).await;
    let broken = Fake::start(|_| Reply::Whole("503 Service Unavailable", String::new())).await;
    let settings = PatroniSettings { timeout: Duration::from_secs(2), ..settings(&[&slow.url, &broken.url]) };
    let (_discovery, mut found) = follow(SourceKind::Patroni(settings));
    let source = until(&mut found, |source| source.errors_since >= 2).await;
    let text = error(&source);
    assert!(text.contains(&format!("{} did not answer within 2 s", slow.url)), "{text}");
    assert!(text.contains(&format!("{} refuses: its status is 503", broken.url)), "{text}");
    assert_eq!(source.answer, None);
}

fn two_leaders() -> Reply {
    ok(&CLUSTER.replace("\"sync_standby\"", "\"leader\""))
}

fn ten_thousand() -> Reply {
    let members: Vec<String> =
        (0..10_000).map(|n| format!(r#"{{"name":"m{n}","host":"h{n}","port":5432}}"#)).collect();
    ok(&format!(r#"{{"members":[{}]}}"#, members.join(",")))
}

fn nested() -> Reply {
    ok(&format!(
        r#"{{"members":[{{"name":"a","tags":{{"x":{}{}}}}}]}}"#,
        "[".repeat(50_000),
        "]".repeat(50_000)
    ))
}

fn endless_body() -> Reply {
    // The first of them is a head, and the rest its body: without a length it ends with the connection.
    Reply::Endless(format!("HTTP/1.1 200 OK\r\n\r\n{}", " ".repeat(64 << 10)).into_bytes())
}

fn endless_head() -> Reply {
    Reply::Endless(format!("HTTP/1.1 200 OK\r\nX-Long: {}", "x".repeat(64 << 10)).into_bytes())
}

/// What a case is, what is answered, and what is told of it.
type Case = (&'static str, fn() -> Reply, &'static str);

#[tokio::test]
async fn what_a_hostile_patroni_says_changes_nothing_and_is_told() {
    let cases: &[Case] = &[
        ("two leaders", two_leaders, "two leaders, \"pg1\" and \"pg2\""),
        ("nobody", || ok(r#"{"members": []}"#), "names no member"),
        ("nobody with a place", || ok(r#"{"members": [{"name": "pg1"}]}"#), "names no member"),
        ("10 000 members", ten_thousand, "names 10000 members"),
        ("a name twice", || ok(&CLUSTER.replace("pg2", "pg1")), "names \"pg1\" twice"),
        ("a place twice", || ok(&CLUSTER.replace("10.0.0.4", "10.0.0.1")), "at one place, 10.0.0.1:5432"),
        ("a path", || ok(&CLUSTER.replace("\"10.0.0.3\"", "\"/run/x\"")), "no host of a server"),
        ("a port of 0", || ok(&CLUSTER.replace("5433", "0")), "the port of \"pg2\" is 0"),
        ("garbage", || ok("<html>"), "cannot be read"),
        ("arrays without end", nested, "recursion limit"),
        ("no HTTP", || Reply::Raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec()), "cannot be read"),
        ("a head without end", endless_head, "cannot be read"),
        ("a body without end", endless_body, "longer than 4194304 bytes"),
        (
            "a body that is cut",
            || Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{".to_vec()),
            "could not ask",
        ),
    ];
    for &(what, reply, told) in cases {
        let fake = changing(1, || ok(CLUSTER), reply).await;
        let (_discovery, mut found) = follow(patroni(&[&fake.url]));
        let before = until(&mut found, |source| source.answer.is_some()).await;
        let source = until(&mut found, |source| source.errors_since >= 1).await;
        assert!(error(&source).contains(told), "{what}: {}", error(&source));
        assert_eq!(source.members(), before.members(), "{what}");
        assert!(error(&source).len() <= ERROR_TEXT_MAX, "{what}");
    }
}

#[tokio::test]
async fn an_answer_has_a_longest_length() {
    let padded = |length: usize| CLUSTER.to_owned() + &" ".repeat(length - CLUSTER.len());
    for (length, is_read) in [(ANSWER_BYTES_MAX, true), (ANSWER_BYTES_MAX + 1, false)] {
        let body = padded(length);
        let fake = Fake::start(move |_| ok(&body)).await;
        let (_discovery, mut found) = follow(patroni(&[&fake.url]));
        let source = until(&mut found, |source| source.is_failing() || source.answer.is_some()).await;
        assert_eq!(source.answer.is_some(), is_read, "{length}: {}", error(&source));
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let other = Fake::start(|_| ok(CLUSTER)).await;
    let place = other.url.clone();
    let fake = Fake::start(move |_| {
        Reply::Raw(
            format!("HTTP/1.1 302 Found\r\nLocation: {place}/cluster\r\nContent-Length: 0\r\n\r\n")
                .into_bytes(),
        )
    })
    .await;
    let (_discovery, mut found) = follow(patroni(&[&fake.url]));
    let source = until(&mut found, |source| source.errors_since >= 2).await;
    assert!(error(&source).contains("status is 302"), "{}", error(&source));
    assert_eq!(other.heads(), Vec::<String>::new());
}

#[tokio::test]
async fn an_answer_after_errors_ends_them() {
    let fake = changing(2, || Reply::Whole("500 Internal Server Error", String::new()), || ok(CLUSTER)).await;
    let (_discovery, mut found) = follow(patroni(&[&fake.url]));
    let source = until(&mut found, |source| source.answer.is_some()).await;
    assert!(!source.is_failing());
    assert!(source.last_error.is_some(), "when it was is known");
}
