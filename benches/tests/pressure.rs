//! Sessions that neither side makes easy: requests and answers in odd pieces, more than any buffer holds, and
//! a client that reads slowly. Every answer must arrive; a wake-up that is lost is a wait without an end.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::BytesMut;
use trunkline_codec::scan::{Piece, ScanPhase, Scanner};
use trunkline_codec::write;

use crate::stage::Stage;

mod stage;

/// How long a byte may take to come. Nobody here pauses for longer than milliseconds.
const STUCK: Duration = Duration::from_secs(30);
/// Sessions at a time.
const SESSIONS: u64 = 12;

/// Numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % limit
    }

    /// Now and then a pause, so that the other side runs dry or full.
    fn pause(&mut self, one_in: usize) {
        if self.below(one_in) == 0 {
            std::thread::sleep(Duration::from_micros(self.below(3000) as u64));
        }
    }
}

/// What a session asks for.
struct Plan {
    requests: Vec<u8>,
    answers: usize,
    rows: usize,
}

/// Many small requests at once: more than may be outstanding.
fn crowd(numbers: &mut Numbers) -> Plan {
    plan((0..6000).map(|_| (numbers.below(3), 1 + numbers.below(40), 0)))
}

/// Few answers, beyond what the sockets hold.
fn flood(numbers: &mut Numbers) -> Plan {
    plan((0..6).map(|_| (numbers.below(40_000), 1 + numbers.below(700), 0)))
}

/// Long requests against long answers: both directions are full.
fn both_ways(numbers: &mut Numbers) -> Plan {
    plan((0..60).map(|_| (numbers.below(3000), 200, numbers.below(600_000))))
}

fn plan(queries: impl Iterator<Item = (usize, usize, usize)>) -> Plan {
    let mut requests = BytesMut::new();
    let (mut answers, mut rows) = (0, 0);
    for (count, bytes, padding) in queries {
        let sql = format!("SELECT 1 /* rows={count} bytes={bytes} {} */", "x".repeat(padding));
        write::query(&mut requests, sql.as_bytes()).expect("no NUL");
        answers += 1;
        rows += count;
    }
    Plan { requests: requests.to_vec(), answers, rows }
}

fn log_in(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the proxy listens");
    stream.set_nodelay(true).expect("a socket");
    stream.set_read_timeout(Some(STUCK)).expect("a socket");
    stream.set_write_timeout(Some(STUCK)).expect("a socket");
    let body = b"\0\x03\0\0user\0bench\0database\0bench\0\0";
    let length = u32::try_from(body.len() + 4).expect("short");
    stream.write_all(&[&length.to_be_bytes()[..], body].concat()).expect("a login");
    let mut welcome = Vec::new();
    while !welcome.ends_with(b"Z\0\0\0\x05I") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a welcome");
        welcome.extend(byte);
    }
    stream
}

fn send(mut stream: &TcpStream, requests: &[u8], numbers: &mut Numbers) {
    let mut rest = requests;
    while !rest.is_empty() {
        let most = if numbers.below(4) == 0 { 60_000 } else { 700 };
        let (piece, later) = rest.split_at(rest.len().min(1 + numbers.below(most)));
        stream.write_all(piece).expect("the proxy takes requests in time");
        rest = later;
        numbers.pause(50);
    }
}

/// (answers, rows)
fn receive(mut stream: &TcpStream, answers: usize, numbers: &mut Numbers) -> (usize, usize) {
    let mut scanner = Scanner::backend();
    scanner.set_phase(ScanPhase::Normal);
    let mut kept = Vec::new();
    let (mut done, mut rows) = (0, 0);
    while done < answers {
        let mut space = vec![0; 1 + numbers.below(100_000)];
        let read = stream
            .read(&mut space)
            .unwrap_or_else(|error| panic!("stuck after {done} of {answers}: {error}"));
        assert_ne!(read, 0, "the session ended after {done} answers");
        kept.extend_from_slice(&space[..read]);
        let mut at = 0;
        while let Some(piece) = scanner.next(&kept, &mut at).expect("sound messages") {
            match piece {
                Piece::Message { tag: b'Z', .. } => done += 1,
                Piece::Message { tag: b'D', .. } | Piece::Start { tag: b'D', .. } => rows += 1,
                Piece::Message { tag: b'E', body } => panic!("{}", String::from_utf8_lossy(body)),
                Piece::Message { .. } | Piece::Start { .. } | Piece::More { .. } => {}
            }
        }
        kept.drain(..at);
        numbers.pause(8);
    }
    (done, rows)
}

/// A session that is stuck the other way round: it never rests.
fn assert_at_rest(stage: &Stage) {
    let ticks = || -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", stage.proxy_id())).expect("it runs");
        let fields = stat.rsplit(')').next().expect("a name in parentheses");
        fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().expect("ticks")).sum()
    };
    let before = ticks();
    std::thread::sleep(Duration::from_millis(500));
    let used = ticks() - before;
    assert!(used < 20, "{used} of 50 hundredths of a second of work with nothing to do");
}

fn one_session(port: u16, seed: u64) -> TcpStream {
    let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15 ^ (seed + 1));
    let plan = [crowd, flood, both_ways][numbers.below(3)](&mut numbers);
    let stream = log_in(port);
    let (mut senders, mut readers) = (Numbers(numbers.0 ^ 7), Numbers(numbers.0 ^ 11));
    std::thread::scope(|scope| {
        scope.spawn(|| send(&stream, &plan.requests, &mut senders));
        let seen = receive(&stream, plan.answers, &mut readers);
        assert_eq!(seen, (plan.answers, plan.rows), "seed {seed}");
    });
    stream
}

fn all_sessions(stage: &Stage) {
    let port = stage.port();
    let sessions: Vec<_> =
        (0..SESSIONS).map(|seed| std::thread::spawn(move || one_session(port, seed))).collect();
    // Still open, with nothing to do.
    let _open: Vec<TcpStream> =
        sessions.into_iter().map(|session| session.join().expect("all is answered")).collect();
    assert_at_rest(stage);
}

#[test]
fn no_session_gets_stuck() {
    all_sessions(&Stage::set(&[]));
}

#[test]
fn no_session_gets_stuck_behind_a_server_that_writes_in_odd_pieces() {
    all_sessions(&Stage::set(&["--chunk", "4093"]));
}
