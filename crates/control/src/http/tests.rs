//! Over real sockets, with the bytes HAProxy sends.

use std::net::SocketAddr;
use std::time::Instant;

use crate::contract;
use crate::limits::POOLS_LISTED_MAX;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use trunkline_pool::PoolCounts;
use trunkline_telemetry::exposition::{LATENCY_BOUNDS, lint, testing};
use trunkline_telemetry::metrics::{PoolRow, PoolsNow, RouteReason, StatementPhase};
use trunkline_topology::{ServerId, State};

#[derive(Clone)]
struct Fixed(Arc<Snapshot>);

impl Verdicts for Fixed {
    fn newest(&self) -> Arc<Snapshot> {
        Arc::clone(&self.0)
    }

    fn transitions(&self) -> Vec<Transition> {
        let server = &self.0.servers[2];
        vec![Transition {
            server: server.id,
            name: Arc::clone(&server.name),
            from: State::Up,
            to: server.state,
            reason: server.reason.to_string(),
            role: server.role,
            lag: server.lag,
            in_sync: server.in_sync,
            at: Instant::now(),
        }]
    }

    fn listeners(&self) -> Vec<ListenerNow> {
        vec![ListenerNow {
            name: "reads".to_owned(),
            address: SocketAddr::from(([127, 0, 0, 1], 5434)).into(),
            target_session_attrs: "prefer-standby",
            servers: vec![self.0.servers[1].id],
        }]
    }
}

fn verdicts() -> Fixed {
    Fixed(Arc::new(testing::snapshot()))
}

async fn site(metrics: Option<Arc<Metrics>>) -> SocketAddr {
    site_with(metrics, &[]).await
}

async fn site_with(metrics: Option<Arc<Metrics>>, checkers: &[&str]) -> SocketAddr {
    let network = |address: &&str| address.parse::<std::net::IpAddr>().expect("an address").into();
    let checkers = Checkers::new(checkers.iter().map(network).collect());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(serve(listener, checkers, verdicts(), metrics, std::future::pending()));
    address
}

/// Verdicts whose sessions take as long to be counted as a request may take to be sent.
#[derive(Clone)]
struct Slow;

impl Verdicts for Slow {
    fn newest(&self) -> Arc<Snapshot> {
        verdicts().newest()
    }

    fn transitions(&self) -> Vec<Transition> {
        Vec::new()
    }

    async fn sessions(&self) -> Option<Sessions> {
        tokio::time::sleep(REQUEST_TIMEOUT + Duration::from_millis(100)).await;
        None
    }
}

async fn agent() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(serve_agent(listener, verdicts(), std::future::pending()));
    address
}

/// Sends `request` and returns all that comes until the peer closes.
async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("listening");
    stream.write_all(request.as_bytes()).await.expect("open");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer, then the end");
    answer
}

fn split(answer: &str) -> (&str, &str) {
    answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no end of headers in {answer:?}"))
}

fn has_header(head: &str, line: &str) -> bool {
    head.lines().any(|l| l.eq_ignore_ascii_case(line))
}

/// What the contract says to the same question.
fn told(method: &str, target: &str) -> contract::Response {
    let request = contract::CheckRequest { method, target, accept: None, now: Instant::now(), extras: None };
    contract::respond(&testing::snapshot(), &request)
}

#[tokio::test]
async fn every_form_haproxy_sends_gets_the_contracts_answer() {
    let address = site(None).await;
    for (request, method, target) in [
        ("OPTIONS / HTTP/1.0\r\n\r\n", "OPTIONS", "/"),
        ("GET /replica1 HTTP/1.0\r\n\r\n", "GET", "/replica1"),
        ("GET /replica2 HTTP/1.0\r\n\r\n", "GET", "/replica2"),
        ("GET /replica1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "GET", "/replica1"),
        (
            "GET /replica2?drain=404 HTTP/1.0\r\nx-haproxy-server-state: UP 1/3; name=bk/r2; node=h\r\n\r\n",
            "GET",
            "/replica2?drain=404",
        ),
        ("GET http://x:8008/primary HTTP/1.1\r\nHost: x\r\n\r\n", "GET", "/primary"),
        ("GET /nobody HTTP/1.0\r\n\r\n", "GET", "/nobody"),
        ("DELETE /replica1 HTTP/1.1\r\nHost: x\r\n\r\n", "DELETE", "/replica1"),
        ("GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n", "GET", "/readyz"),
    ] {
        let (answer, told) = (exchange(address, request).await, told(method, target));
        let (head, body) = split(&answer);
        let status = head.split_ascii_whitespace().nth(1).and_then(|code| code.parse().ok());
        assert_eq!(status, Some(told.status), "{head}");
        assert_eq!(body, told.body, "{request:?}");
        assert!(has_header(head, &format!("content-type: {}", told.content_type)), "{head}");
        assert!(has_header(head, "cache-control: no-store"), "{head}");
        assert!(has_header(head, &format!("content-length: {}", body.len())), "{head}");
        assert!(has_header(head, "connection: close") || head.starts_with("HTTP/1.0"), "{head}");
    }
}

#[tokio::test]
async fn head_has_the_headers_and_no_body() {
    let address = site(None).await;
    let answer = exchange(address, "HEAD /metrics HTTP/1.0\r\n\r\n").await;
    let (head, body) = split(&answer);
    assert!(head.starts_with("HTTP/1.0 200 OK\r\n"), "{head}");
    assert_eq!(body, "");
}

#[tokio::test]
async fn metrics_pass_the_lint_with_and_without_a_proxy() {
    for metrics in [None, Some(Arc::new(Metrics::new(1)))] {
        let is_proxy = metrics.is_some();
        let address = site(metrics).await;
        let answer = exchange(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let (head, body) = split(&answer);
        assert!(has_header(head, "content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
        lint::check(body);
        assert_eq!(body.contains("trunkline_sessions_active"), is_proxy);
    }
}

#[tokio::test]
async fn a_browser_gets_the_page() {
    let address = site(None).await;
    let answer = exchange(address, "GET / HTTP/1.1\r\nHost: x\r\nAccept: text/html,*/*;q=0.8\r\n\r\n").await;
    let (head, body) = split(&answer);
    assert!(has_header(head, "content-type: text/html; charset=utf-8"), "{head}");
    assert!(body.starts_with("<!DOCTYPE html>") && body.ends_with("</html>\n"));
}

#[tokio::test]
async fn the_json_has_all_that_the_page_shows() {
    let metrics = Arc::new(Metrics::new(1));
    metrics.thread(0).server(ServerId(2)).sessions_active.up();
    metrics.thread(0).server(ServerId(2)).statement_errors.add(2);
    metrics.thread(0).server(ServerId(2)).record(StatementPhase::ServerTotal, Duration::from_millis(3));
    let address = site(Some(metrics)).await;
    let answer = exchange(address, "GET /cluster?format=json HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let cluster: serde_json::Value = serde_json::from_str(split(&answer).1).expect("JSON");
    assert!(cluster["split_brain"].is_boolean() && cluster["stale"].is_boolean());
    let members = cluster["members"].as_array().expect("members");
    for (member, sessions) in members.iter().zip([0, 0, 1]) {
        assert_eq!(member["sessions"], sessions);
        for name in ["name", "state", "role", "in_sync", "reason", "address", "since_seconds", "statements"] {
            assert!(member.get(name).is_some(), "{name}");
        }
        for bound in ["lo", "est", "hi"] {
            assert!(member["lag"].get(bound).is_some(), "{bound}");
        }
    }
    assert_eq!(members.len(), 3);
    assert_eq!(answer.matches("\"name\":").count(), 3, "shell scripts find the servers by it");
    assert_eq!(members[2]["statement_errors"], 2);
    assert_eq!((&members[1]["statements"], &members[2]["statements"]), (&0.into(), &1.into()));
    let counts = members[2]["statement_seconds"].as_array().expect("counts by bound");
    assert_eq!(counts.len(), LATENCY_BOUNDS.len());
    for (count, bound) in counts.iter().zip(LATENCY_BOUNDS) {
        let is_within = bound > Duration::from_millis(3);
        assert_eq!(*count, serde_json::json!([bound.as_secs_f64(), u64::from(is_within)]));
    }
    assert_eq!(cluster["trunkline"]["version"], env!("CARGO_PKG_VERSION"));
    assert!(cluster["trunkline"]["uptime_seconds"].is_number() && cluster["trunkline"]["host"].is_string());
    let [reads] = &cluster["listeners"].as_array().expect("listeners")[..] else { panic!("{cluster}") };
    assert_eq!((&reads["listener"], &reads["address"]), (&"reads".into(), &"127.0.0.1:5434".into()));
    assert_eq!(reads["servers"], serde_json::json!(["replica1"]));
    let [change] = &cluster["changes"].as_array().expect("changes")[..] else { panic!("{cluster}") };
    assert_eq!((&change["server"], &change["from"]), (&"replica2".into(), &"UP".into()));
    assert_eq!((&change["to"], &change["seconds_ago"]), (&"LAGGING".into(), &0.into()));
}

#[tokio::test]
async fn the_cluster_says_where_requests_went_while_a_listener_chooses() {
    let metrics = Arc::new(Metrics::new(1));
    metrics.thread(0).routed.one(RouteReason::Proven);
    let asked = async || {
        let address = site(Some(Arc::clone(&metrics))).await;
        let answer = exchange(address, "GET /cluster?format=json HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let cluster: serde_json::Value = serde_json::from_str(split(&answer).1).expect("JSON");
        cluster["routed"].clone()
    };
    assert!(asked().await.is_null());
    metrics.learned().counted_by(|| Some(2));
    assert_eq!(asked().await, serde_json::json!({"requests": {"proven": 1}, "learned": 2}));
}

#[tokio::test]
async fn the_cluster_has_its_pools_while_there_may_be_any() {
    let asked = async |metrics: Metrics| {
        let address = site(Some(Arc::new(metrics))).await;
        let answer = exchange(address, "GET /cluster?format=json HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let cluster: serde_json::Value = serde_json::from_str(split(&answer).1).expect("JSON");
        cluster["pools"].clone()
    };
    assert!(asked(Metrics::new(1)).await.is_null());
    let counts = PoolCounts {
        cl_waiting: 3,
        sv_active: 20,
        maxwait: Duration::from_millis(1500),
        ..PoolCounts::default()
    };
    let row = PoolRow { server: Some("replica1".into()), database: "app".into(), user: "web".into(), counts };
    let metrics = Metrics::new(1);
    metrics.pools().read_by(move || {
        Some(PoolsNow { rows: vec![row.clone(); POOLS_LISTED_MAX + 1], ..PoolsNow::default() })
    });
    let pools = asked(metrics).await;
    assert_eq!(pools["all"], POOLS_LISTED_MAX + 1);
    let listed = pools["pools"].as_array().expect("a list");
    assert_eq!(listed.len(), POOLS_LISTED_MAX);
    let expected = serde_json::json!({"database": "app", "user": "web", "server": "replica1", "cl_active": 0, "cl_waiting": 3,
        "sv_active": 20, "sv_idle": 0, "sv_used": 0, "sv_tested": 0, "sv_login": 0, "maxwait_seconds": 1.5});
    assert_eq!(listed[0], expected);
}

#[tokio::test]
async fn an_answer_that_takes_the_time_of_a_request_comes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let metrics = Some(Arc::new(Metrics::new(1)));
    tokio::spawn(serve(listener, Checkers::default(), Slow, metrics, std::future::pending()));
    let (metrics, cluster) = tokio::join!(
        exchange(address, "GET /metrics HTTP/1.0\r\n\r\n"),
        exchange(address, "GET /cluster HTTP/1.0\r\n\r\n")
    );
    assert!(metrics.starts_with("HTTP/1.0 200"), "{metrics}");
    assert!(cluster.starts_with("HTTP/1.0 200"), "{cluster}");
}

#[tokio::test]
async fn head_and_body_arrive_together() {
    let address = site(None).await;
    let mut stream = TcpStream::connect(address).await.expect("listening");
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.expect("open");
    let mut chunk = vec![0_u8; 64 * 1024];
    let read = stream.read(&mut chunk).await.expect("an answer");
    let text = String::from_utf8_lossy(&chunk[..read]);
    assert!(split(&text).1.ends_with('\n'), "the first read has the end of the body");
}

#[tokio::test]
async fn a_half_closed_peer_is_answered() {
    let address = site(None).await;
    let mut stream = TcpStream::connect(address).await.expect("listening");
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.expect("open");
    stream.shutdown().await.expect("open");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
}

#[tokio::test]
async fn peers_that_reset_leave_the_site_working() {
    let address = site(None).await;
    for _ in 0..20 {
        let mut stream = TcpStream::connect(address).await.expect("listening");
        stream.set_zero_linger().expect("open");
        stream.write_all(b"GET /replica1 HTTP/1.0\r\n\r\n").await.expect("open");
    }
    assert!(exchange(address, "GET /metrics HTTP/1.0\r\n\r\n").await.starts_with("HTTP/1.0 200"));
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_off() {
    let address = site(None).await;
    let mut stream = TcpStream::connect(address).await.expect("listening");
    let mut sent = 0;
    let header = format!("x: {}\r\n", "y".repeat(1000));
    let _ = stream.write_all(b"GET / HTTP/1.0\r\n").await;
    while sent < 100 * REQUEST_BYTES_MAX && stream.write_all(header.as_bytes()).await.is_ok() {
        sent += header.len();
        tokio::task::yield_now().await;
    }
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(sent < 100 * REQUEST_BYTES_MAX, "{sent} bytes were taken");
}

/// A connection from another address of this machine than the usual one.
async fn connect_from(source: &str, to: SocketAddr) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket
        .bind(SocketAddr::new(source.parse().expect("an address"), 0))
        .expect("all of 127.0.0.0/8 is local");
    socket.connect(to).await.expect("listening")
}

#[tokio::test]
async fn an_address_has_its_share_and_leaves_the_checks_of_others_alone() {
    let address = site_with(None, &[]).await;
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS_PER_ADDRESS_MAX {
        silent.push(connect_from("127.0.0.2", address).await);
    }
    let mut one_more = connect_from("127.0.0.2", address).await;
    assert_eq!(one_more.read(&mut [0]).await.unwrap_or_default(), 0, "it is closed at once");
    assert!(exchange(address, "GET /metrics HTTP/1.0\r\n\r\n").await.starts_with("HTTP/1.0 200"));
}

#[tokio::test]
async fn a_check_is_answered_when_every_other_place_is_taken() {
    let address = site_with(None, &["127.0.0.1"]).await;
    let mut silent = Vec::new();
    for n in 0..CONNECTIONS_MAX {
        let source = format!("127.0.1.{}", n / CONNECTIONS_PER_ADDRESS_MAX);
        silent.push(connect_from(&source, address).await);
    }
    assert!(exchange(address, "GET /metrics HTTP/1.0\r\n\r\n").await.starts_with("HTTP/1.0 200"));
}

#[tokio::test]
async fn the_agent_answers_for_the_server_named() {
    let mut contract = contract::Agent::default();
    let mut line = |words| contract.answer(&testing::snapshot(), words, Instant::now());
    let named = agent().await;
    for words in ["replica1", "replica2", "primary"] {
        assert_eq!(exchange(named, &format!("{words}\n")).await, line(words));
    }
    assert_eq!(exchange(named, "replica1\r\nmore").await, line("replica1"));
    assert_eq!(exchange(named, "").await, line(""));
}

#[tokio::test]
async fn agent_words_without_end_are_cut_off() {
    let address = agent().await;
    let answer = exchange(address, &"x".repeat(AGENT_WORDS_BYTES_MAX)).await;
    assert_eq!(answer.lines().count(), 1, "{answer:?}");
}
