//! The API of Kubernetes, with the slices of a cluster of CloudNativePG.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use trunkline_discovery::kubernetes::KubernetesSettings;
use trunkline_discovery::{Discovery, SourceKind, SourceSettings, Surroundings};

use crate::certificates::{Authority, ClientCertificates};
use crate::fake::{Fake, Piece, Reply};
use crate::{error, follow, names, until};

/// A list, as an API server of Kubernetes 1.30 writes it.
const LIST: &str = include_str!("slices/list.json");

/// A watch of the same, from the list's version on: a line for each change.
const WATCH: &str = include_str!("slices/watch.jsonl");

/// What an API server says when a version is too old, as the event of a watch.
const GONE: &str = r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old resource version: 20150 (20400)","reason":"Expired","code":410}}"#;

/// An API whose lists are all the same, and whose watches the test plays.
pub(crate) struct FakeApi {
    pub(crate) fake: Fake,
    pub(crate) watches: UnboundedReceiver<UnboundedSender<Piece>>,
}

pub(crate) async fn api(list: &'static str) -> FakeApi {
    let (begun, watches) = unbounded_channel();
    let fake = Fake::start(move |head| {
        if !head.contains("watch=1") {
            return Reply::Whole("200 OK", list.to_owned());
        }
        let (sender, pieces) = unbounded_channel();
        let _test_over = begun.send(sender);
        Reply::Stream(pieces)
    })
    .await;
    FakeApi { fake, watches }
}

impl FakeApi {
    async fn next_watch(&mut self) -> UnboundedSender<Piece> {
        tokio::time::timeout(crate::PATIENCE, self.watches.recv()).await.expect("a watch comes").unwrap()
    }

    /// Paths of all requests, without what they have in common.
    fn asked(&self) -> Vec<String> {
        let heads = self.fake.heads();
        let path = |head: &String| head.split(' ').nth(1).unwrap_or_default().to_owned();
        let prefix = "/apis/discovery.k8s.io/v1/namespaces/db/endpointslices?labelSelector=kubernetes.io%2Fservice-name%20in%20%28pg-rw%2Cpg-ro%2Cpg-r%29";
        heads.iter().map(|head| path(head).replace(prefix, "")).collect()
    }
}

pub(crate) fn settings(fake: &Fake) -> KubernetesSettings {
    let services = ["pg-rw", "pg-ro", "pg-r"].map(str::to_owned).to_vec();
    KubernetesSettings {
        namespace: Some("db".to_owned()),
        ..KubernetesSettings::in_pod(fake.url.clone(), services)
    }
}

fn kubernetes(fake: &Fake) -> SourceKind {
    SourceKind::Kubernetes(settings(fake))
}

fn line(number: usize) -> Piece {
    Piece::Bytes(format!("{}\n", WATCH.lines().nth(number).unwrap()))
}

#[tokio::test]
async fn pods_of_several_services_come_once_each_with_their_zones() {
    let mut api = api(LIST).await;
    let (_discovery, mut found) = follow(kubernetes(&api.fake));
    let source = until(&mut found, |source| source.answer.is_some()).await;
    let shown: Vec<String> = source
        .members()
        .iter()
        .map(|member| format!("{} {}:{} {:?}", member.name, member.host, member.port, member.zone.as_deref()))
        .collect();
    assert_eq!(
        shown,
        [
            r#"pg-1 10.244.1.7:5432 Some("eu-1a")"#,
            r#"pg-2 10.244.2.9:5432 Some("eu-1b")"#,
            r#"pg-3 10.244.3.4:5432 Some("eu-1c")"#,
        ],
        "one that is not ready is kept, one that terminates is not"
    );
    api.next_watch().await;
    assert_eq!(api.asked(), ["", "&watch=1&allowWatchBookmarks=true&timeoutSeconds=1&resourceVersion=20150"]);
}

#[tokio::test]
async fn a_watch_is_followed_however_its_lines_are_cut() {
    let mut api = api(LIST).await;
    let (_discovery, mut found) = follow(kubernetes(&api.fake));
    let watch = api.next_watch().await;
    // A pod comes; another terminates; a slice goes.
    for (number, expected) in [(0, "pg-1 pg-2 pg-3 pg-4"), (1, "pg-1 pg-3 pg-4"), (2, "pg-1 pg-3 pg-4")] {
        let Piece::Bytes(text) = line(number) else { panic!("it is text") };
        let (first, second) = text.split_at(text.len() / 2);
        watch.send(Piece::Bytes(first.to_owned())).unwrap();
        watch.send(Piece::Bytes(second.to_owned())).unwrap();
        until(&mut found, |source| names(source) == expected).await;
    }
}

#[tokio::test]
async fn a_watch_that_ends_or_is_cut_goes_on_at_its_last_bookmark() {
    let mut api = api(LIST).await;
    let (_discovery, mut found) = follow(kubernetes(&api.fake));
    let watch = api.next_watch().await;
    watch.send(line(0)).unwrap();
    // A bookmark, and half of what comes next.
    watch.send(line(3)).unwrap();
    let Piece::Bytes(text) = line(1) else { panic!("it is text") };
    watch.send(Piece::Bytes(text[..text.len() / 2].to_owned())).unwrap();
    until(&mut found, |source| names(source) == "pg-1 pg-2 pg-3 pg-4").await;
    drop(watch);
    let watch = api.next_watch().await;
    watch.send(Piece::End).unwrap();
    let watch = api.next_watch().await;
    watch.send(line(1)).unwrap();
    let source = until(&mut found, |source| names(source) == "pg-1 pg-3 pg-4").await;
    assert_eq!(source.last_error, None, "a watch that ends is no error");
    let versions: Vec<_> =
        api.asked().iter().map(|path| path.split("Version=").nth(1).unwrap_or("list").to_owned()).collect();
    assert_eq!(versions, ["list", "20150", "20300", "20300"]);
}

#[tokio::test]
async fn a_watch_that_falls_silent_begins_again() {
    let mut api = api(LIST).await;
    let (_discovery, mut found) = follow(kubernetes(&api.fake));
    let _silent = api.next_watch().await;
    let _next = api.next_watch().await;
    let source = until(&mut found, |source| source.answer.is_some()).await;
    assert_eq!((source.last_error, api.asked().len()), (None, 3), "one list, two watches");
}

#[tokio::test]
async fn what_an_api_has_forgotten_is_listed_again() {
    let mut api = api(LIST).await;
    let (_discovery, mut found) = follow(kubernetes(&api.fake));
    let watch = api.next_watch().await;
    watch.send(line(0)).unwrap();
    until(&mut found, |source| names(source) == "pg-1 pg-2 pg-3 pg-4").await;
    watch.send(Piece::Bytes(format!("{GONE}\n"))).unwrap();
    // The list knows nothing of the pod.
    let source = until(&mut found, |source| names(source) == "pg-1 pg-2 pg-3").await;
    assert_eq!(source.last_error, None);
    api.next_watch().await;
    assert_eq!(api.asked().iter().filter(|path| path.is_empty()).count(), 2);
}

#[tokio::test]
async fn a_watch_refused_with_410_leads_to_a_list_without_a_storm() {
    let fake = Fake::start(|head| match head.contains("watch=1") {
        true => Reply::Whole("410 Gone", String::new()),
        false => Reply::Whole("200 OK", LIST.to_owned()),
    })
    .await;
    let began = std::time::Instant::now();
    let (_discovery, mut found) = follow(kubernetes(&fake));
    until(&mut found, |_| fake.heads().len() >= 6).await;
    assert!(began.elapsed() > Duration::from_millis(700), "two pauses lie between three lists");
}

#[tokio::test]
async fn what_is_no_event_is_told_and_changes_nothing() {
    for (piece, told) in [
        ("{\"type\":\"ADDED\"}\n".to_owned(), "cannot be read"),
        ("<html>\n".to_owned(), "cannot be read"),
        (" ".repeat(3 << 20), "a line of a watch is too long"),
        (GONE.replace("410", "500") + "\n", "refuses: 500 too old"),
    ] {
        let mut api = api(LIST).await;
        let (_discovery, mut found) = follow(kubernetes(&api.fake));
        let watch = api.next_watch().await;
        let before = until(&mut found, |source| source.answer.is_some()).await;
        watch.send(Piece::Bytes(piece)).unwrap();
        let source = until(&mut found, |source| source.last_error.is_some()).await;
        assert!(error(&source).contains(told), "{}", error(&source));
        assert_eq!(source.members(), before.members());
        api.next_watch().await;
    }
}

#[tokio::test]
async fn no_endpoints_left_is_no_answer() {
    let mut api = api(LIST).await;
    let (_discovery, mut found) = follow(kubernetes(&api.fake));
    let watch = api.next_watch().await;
    for slice in ["pg-rw-x7k2p", "pg-ro-9w4vd", "pg-r-c5tqz", "pg-r-6mv8s"] {
        let event = format!(
            r#"{{"type":"DELETED","object":{{"metadata":{{"name":"{slice}","resourceVersion":"20500"}}}}}}"#
        );
        watch.send(Piece::Bytes(event + "\n")).unwrap();
    }
    let source = until(&mut found, |source| source.is_failing()).await;
    assert!(error(&source).contains("names no member"), "{}", error(&source));
    assert!(!source.members().is_empty());
}

#[tokio::test]
async fn a_port_is_the_only_one_or_named() {
    let two = LIST.replace(
        r#"{"name": "postgres", "port": 5432, "protocol": "TCP"}"#,
        r#"{"name": "metrics", "port": 9187, "protocol": "TCP"}, {"name": "postgres", "port": 5433, "protocol": "TCP"}"#,
    );
    let fake = Fake::start(move |head| match head.contains("watch=1") {
        true => Reply::Silence,
        false => Reply::Whole("200 OK", two.clone()),
    })
    .await;
    let (_discovery, mut found) = follow(kubernetes(&fake));
    let source = until(&mut found, |source| source.is_failing()).await;
    let text = error(&source);
    assert!(text.contains(r#"several ports, "metrics", "postgres": set port_name"#), "{text}");
    for (port_name, told) in [("postgres", ""), ("pgsql", "has no port \"pgsql\"")] {
        let settings = KubernetesSettings { port_name: Some(port_name.to_owned()), ..settings(&fake) };
        let (_discovery, mut found) = follow(SourceKind::Kubernetes(settings));
        let source = until(&mut found, |source| source.is_failing() || source.answer.is_some()).await;
        assert!(error(&source).contains(told), "{}", error(&source));
        assert!(source.members().iter().all(|member| member.port == 5433));
        assert_eq!(source.members().is_empty(), port_name == "pgsql");
    }
}

#[tokio::test]
async fn a_missing_right_is_told_with_what_to_do() {
    let fake = Fake::start(|_| Reply::Whole("403 Forbidden", String::new())).await;
    let (_discovery, mut found) = follow(kubernetes(&fake));
    let source = until(&mut found, |source| source.is_failing()).await;
    assert!(error(&source).contains("needs list and watch on endpointslices"), "{}", error(&source));
}

#[tokio::test]
async fn a_token_is_read_each_time_and_the_namespace_is_the_pods_own() {
    let authority = Authority::new();
    let config = authority.server("localhost", ClientCertificates::Ignored);
    let wanted = std::sync::Arc::new(Mutex::new("one".to_owned()));
    let valid = std::sync::Arc::clone(&wanted);
    let fake = Fake::start_tls(config, move |head| {
        let is_valid = head.contains(&format!("authorization: Bearer {}\r\n", valid.lock().unwrap()));
        match (is_valid, head.contains("watch=1")) {
            (false, _) => Reply::Whole("401 Unauthorized", String::new()),
            (true, false) => Reply::Whole("200 OK", LIST.to_owned()),
            (true, true) => Reply::Whole("200 OK", String::new()),
        }
    })
    .await;
    std::fs::write(authority.file("token"), "one\n").unwrap();
    std::fs::write(authority.file("namespace"), "db\n").unwrap();
    let settings = KubernetesSettings {
        ca_file: authority.file("ca.crt"),
        token_file: Some(authority.file("token").into()),
        namespace: None,
        namespace_file: authority.file("namespace").into(),
        ..settings(&fake)
    };
    let (_discovery, mut found) = follow(SourceKind::Kubernetes(settings));
    until(&mut found, |source| source.answer.is_some()).await;
    assert!(fake.heads()[0].contains("/namespaces/db/"), "{}", fake.heads()[0]);
    "two".clone_into(&mut wanted.lock().unwrap());
    let source = until(&mut found, |source| source.is_failing()).await;
    assert!(error(&source).contains("401"), "{}", error(&source));
    std::fs::write(authority.file("token"), "two\n").unwrap();
    until(&mut found, |source| !source.is_failing()).await;
}

#[tokio::test]
async fn a_token_is_not_shown_without_tls() {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "one").unwrap();
    let mut api = api(LIST).await;
    let settings = KubernetesSettings { token_file: Some(token), ..settings(&api.fake) };
    let (_discovery, _found) = follow(SourceKind::Kubernetes(settings));
    api.next_watch().await;
    assert!(api.fake.heads().iter().all(|head| !head.to_lowercase().contains("authorization")));
}

#[tokio::test]
async fn a_source_that_stays_as_it_is_goes_on_undisturbed_by_a_reload() {
    let mut api = api(LIST).await;
    // So long that no second watch comes by itself.
    let interval = Duration::from_secs(3600);
    let kind = kubernetes(&api.fake);
    let source =
        |name: &str, weight| SourceSettings { name: name.into(), kind: kind.clone(), weight, interval };
    let (one, other) = (source("one", 100), source("other", 100));
    let runtime = tokio::runtime::Handle::current();
    let discovery = Discovery::start(vec![one.clone(), other], None, Surroundings::default(), &runtime);
    let mut found = discovery.found();
    let mut watches = Vec::new();
    for _ in 0..2 {
        watches.push(api.next_watch().await);
    }
    let heavy = source("third", 7);
    discovery.set(vec![heavy, one], None);
    watches.push(api.next_watch().await);
    let now = until(&mut found, |source| &*source.name == "third" && source.answer.is_some()).await;
    assert_eq!(now.weight, 7);
    assert_eq!(
        found.borrow().sources.iter().map(|source| &*source.name).collect::<Vec<_>>(),
        ["third", "one"]
    );
    // Only the task of the source that is gone has let go of its connection, and no other has come.
    tokio::time::timeout(crate::PATIENCE, api.fake.left.recv()).await.unwrap();
    assert_eq!((api.asked().len(), api.fake.left.try_recv().ok()), (6, None));
    drop(discovery);
    for _ in 0..2 {
        tokio::time::timeout(crate::PATIENCE, api.fake.left.recv()).await.expect("all tasks end").unwrap();
    }
}
