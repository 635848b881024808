//! Handshakes by the thousand, and storms of them: bounded, and no burden on who is there already.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use trunkline_tests::{
    Auth, Certificates, ClientStream, Endpoint, EndpointBuilder, Login, SetWhenDropped, Wire, eventually,
    http_get, shared_cluster,
};

#[path = "tls_crowds/slow.rs"]
mod slow;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn endpoint() -> EndpointBuilder {
    let [certificate, key] = Certificates::shared().endpoint().map(|path| format!("{path:?}"));
    Endpoint::over(shared_cluster())
        .auth(Auth::Verify)
        .key("client_tls.cert_file", &certificate)
        .key("client_tls.key_file", &key)
}

/// Says a figure past the harness, which hides what passing tests print.
fn figure(text: &str) {
    let _unseen = writeln!(std::io::stderr(), "    {text}");
}

fn handshakes(endpoint: &Endpoint, result: &str) -> u64 {
    let text = http_get(endpoint.http(), "/metrics").unwrap().body;
    let line = format!("trunkline_tls_handshakes_total{{leg=\"client\",result=\"{result}\"}} ");
    text.lines().find_map(|found| found.strip_prefix(&line)).unwrap().parse().unwrap()
}

/// Files that the endpoint has open.
fn open_files(endpoint: &Endpoint) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", endpoint.pid())).unwrap().count()
}

/// A client from `address` that has asked for TLS and was let.
fn asked(address: Ipv4Addr, port: u16) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((address, 0)).into()).unwrap();
    socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]).unwrap();
    let mut answer = [0];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, *b"S");
    stream
}

/// What a client's handshake begins with. Servers do not mind who else has sent the same.
fn client_hello() -> Vec<u8> {
    let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let mut end = rustls::ClientConnection::new(Certificates::shared().client(), name).unwrap();
    let mut hello = Vec::new();
    end.write_tls(&mut hello).unwrap();
    hello
}

/// A session over TLS.
fn session(port: u16) -> Wire {
    let stream = ClientStream::seal(asked(Ipv4Addr::LOCALHOST, port), Certificates::shared().client());
    let mut wire = Wire::over(stream.unwrap());
    let login = Login::default();
    wire.send(&login.packet());
    wire.finish_login(&login).unwrap();
    wire
}

/// Lets this process have so many files.
///
/// # Panics
/// When the machine does not.
fn allow_files(wanted: u64) {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted))
            .unwrap_or_else(|error| panic!("{wanted} open files are needed, {hard} allowed: {error}"));
    }
}

/// Handshakes that are held half open at one time.
const CROWD: usize = 10_000;
/// Addresses they come from: one has a quarter of the places at most.
const ADDRESSES: u8 = 8;
/// What each may cost the endpoint in memory, in bytes.
const HALF_OPEN_MAX: u64 = 16 * 1024;
/// Of the crowd, those that send a byte every second.
const DRIPPING: usize = 500;

#[test]
fn ten_thousand_half_open_handshakes_cost_little_and_end_with_the_login() {
    allow_files(CROWD as u64 + 1000);
    let endpoint = endpoint()
        .key("limits.connections_max", "100")
        .key("limits.startups_max", &(CROWD + 400).to_string())
        .key("timeouts.login", "\"30s\"")
        .start();
    let mut kept = session(endpoint.reads());
    assert_eq!(kept.value("SELECT 1"), "1");
    let (files, before) = (open_files(&endpoint), endpoint.resident_bytes());
    let hello = client_hello();
    let began = Instant::now();
    let mut crowd: Vec<TcpStream> = (0..CROWD)
        .map(|index| {
            let last = u8::try_from(index % usize::from(ADDRESSES)).unwrap() + 1;
            let mut stream = asked(Ipv4Addr::new(127, 0, 0, last), endpoint.reads());
            stream.write_all(&hello[..1 + index % (hello.len() - 1)]).unwrap();
            stream
        })
        .collect();
    let came = began.elapsed();
    let held = open_files(&endpoint) - files;
    let each = endpoint.resident_bytes().saturating_sub(before) / CROWD as u64;
    figure(&format!(
        "{CROWD} half-open handshakes in {came:?}, {held} of them at one time, {each} bytes each"
    ));
    assert!(each < HALF_OPEN_MAX, "{each} bytes each");
    // A connection of the endpoint's own may have ended meanwhile.
    assert!(came > Duration::from_secs(25) || held >= CROWD - 10, "{held} are open");
    // Who is there goes on, and who comes gets in, while some of them speak.
    let mut seconds = 0;
    while open_files(&endpoint) > files + DRIPPING {
        seconds += 1;
        assert!(seconds < 60, "they are still there");
        for stream in crowd.iter_mut().take(DRIPPING) {
            // It may have been closed already.
            let _reset = stream.write_all(&[0]);
        }
        assert_eq!(kept.value("SELECT 1"), "1");
        assert_eq!(session(endpoint.reads()).value("SELECT 1"), "1");
        std::thread::sleep(Duration::from_secs(1));
    }
    for stream in &mut crowd {
        let mut rest = [0; 64];
        loop {
            match stream.read(&mut rest) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error) => panic!("one is still open after {:?}: {error}", began.elapsed()),
            }
        }
    }
    let failed = || handshakes(&endpoint, "failed");
    eventually(PATIENCE, "all are counted", || handshakes(&endpoint, "abandoned") + failed() >= CROWD as u64);
    eventually(PATIENCE, "files are closed", || open_files(&endpoint) <= files + 6);
    assert_eq!(kept.value("SELECT 1"), "1");
    assert!(!endpoint.log().contains("panic"));
}

/// Handshakes that a storm begins at once, again and again.
const BURST: usize = 256;
/// Sessions beside it.
const BUSY: usize = 4;
/// From one query of theirs to the next.
const PACE: Duration = Duration::from_millis(10);
/// How long is measured each time.
const ROUND: Duration = Duration::from_secs(2);
/// Most pairs of such rounds. What other processes do for a moment spoils some of them; a thread that has no time for its
/// sessions spoils each: if it computes what has come of a burst at one time, p99 is more than ten times the usual one.
const PAIRS_MAX: usize = 12;
/// The part of a burst, in handshakes, whose time p99 may have on top of twice the usual one: what the machine is doing
/// counts in it, too.
const PART_OF_BURST: usize = BURST / 8;

/// Clients that come all at once, have the server's flight computed and leave, until it is over; how many.
fn storm(port: u16, is_over: &AtomicBool) -> usize {
    let hello = client_hello();
    let mut count = 0;
    while !is_over.load(Ordering::Relaxed) {
        let mut clients: Vec<TcpStream> = (0..BURST).map(|_| asked(Ipv4Addr::LOCALHOST, port)).collect();
        for client in &mut clients {
            client.write_all(&hello).unwrap();
        }
        for client in &mut clients {
            client.read_exact(&mut [0; 64]).unwrap();
        }
        count += BURST;
    }
    count
}

/// How long after it was due each query of sessions was answered, while a storm is at `stormed`: of a stall all queries
/// count that would have been asked meanwhile. And how many handshakes the storm had.
fn asking(sessions: &mut [Wire], stormed: u16) -> (Vec<Duration>, usize) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let storm = scope.spawn(|| storm(stormed, &is_over));
        // Also where a query fails: the storm would not end.
        let over = SetWhenDropped(&is_over);
        let until = Instant::now() + ROUND;
        let asking: Vec<_> = sessions
            .iter_mut()
            .map(|session| {
                scope.spawn(move || {
                    let mut took = Vec::new();
                    let mut due = Instant::now();
                    while due < until {
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                        assert_eq!(session.value("SELECT 1"), "1");
                        took.push(due.elapsed());
                        due += PACE;
                    }
                    took
                })
            })
            .collect();
        let took = asking.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        drop(over);
        (took, storm.join().unwrap())
    })
}

fn percentile(took: &mut [Duration], percent: usize) -> Duration {
    took.sort_unstable();
    took[(took.len() - 1) * percent / 100]
}

/// Two rounds, one after the other: the same storm at another endpoint takes the same from the machine, so that what is left
/// is the thread's own. Whether the sessions kept their pace.
fn keep_their_pace(sessions: &mut [Wire], other: &Endpoint, own: &Endpoint) -> bool {
    let began = Instant::now();
    let (mut quiet, beside) = asking(sessions, other.reads());
    let part = began.elapsed() * u32::try_from(PART_OF_BURST).unwrap() / u32::try_from(beside).unwrap();
    let (mut stormy, within) = asking(sessions, own.reads());
    let (count, stormy_count) = (quiet.len(), stormy.len());
    let [usual, usual_stormy] = [&mut quiet, &mut stormy].map(|took| percentile(took, 50));
    let [quiet, stormy] = [&mut quiet, &mut stormy].map(|took| percentile(took, 99));
    figure(&format!(
        "p99 of queries {quiet:?}, of {count} with {beside} handshakes elsewhere; {stormy:?}, of {stormy_count}, with {within} on the same thread: {:.2} times, and {part:?} are allowed on top (p50 {usual:?}, {usual_stormy:?})",
        stormy.as_secs_f64() / quiet.as_secs_f64(),
    ));
    // One burst is no storm.
    within > BURST && stormy < quiet * 2 + part
}

#[test]
fn a_storm_of_handshakes_leaves_busy_sessions_their_pace() {
    let [own, other] = [(); 2].map(|()| {
        endpoint()
            .key("runtime.threads", "1")
            // One address has a quarter.
            .key("limits.startups_max", &(8 * BURST).to_string())
            .start()
    });
    let mut sessions: Vec<Wire> = (0..BUSY).map(|_| session(own.reads())).collect();
    let kept = (0..PAIRS_MAX).any(|_| keep_their_pace(&mut sessions, &other, &own));
    assert!(kept, "the pace was lost in each of {PAIRS_MAX} storms");
}

/// Time that the only worker of the endpoint has run. Source: proc(5), schedstat, the first field.
fn worker_time(endpoint: &Endpoint) -> Duration {
    let mut threads = std::fs::read_dir(format!("/proc/{}/task", endpoint.pid())).unwrap();
    // Other threads may end meanwhile.
    let is_worker = |thread: &std::path::Path| {
        std::fs::read_to_string(thread.join("comm")).is_ok_and(|name| name.trim_end() == "worker-0")
    };
    let worker = threads.find_map(|thread| Some(thread.unwrap().path()).filter(|path| is_worker(path)));
    let text = std::fs::read_to_string(worker.unwrap().join("schedstat")).unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// What each of the first ten handshakes takes of the processor, after a start.
fn first_ten() -> Vec<Duration> {
    let endpoint = endpoint().key("runtime.threads", "1").start();
    let mut held = Vec::new();
    let costs = (1..=10).map(|nth| {
        let before = worker_time(&endpoint);
        let socket = asked(Ipv4Addr::LOCALHOST, endpoint.reads());
        // Kept, so that no end of one is a cost of the next.
        held.push(ClientStream::seal(socket, Certificates::shared().client()).unwrap());
        // Its end is not seen by the client, which has sent its last flight; the counter is.
        eventually(PATIENCE, "it is over", || handshakes(&endpoint, "completed") == nth);
        worker_time(&endpoint).saturating_sub(before)
    });
    costs.collect()
}

/// Starts of which the medians are compared.
const STARTS: usize = 5;

#[test]
fn the_first_handshake_after_the_start_costs_what_the_tenth_costs() {
    let costs: Vec<Vec<Duration>> = (0..STARTS).map(|_| first_ten()).collect();
    let median =
        |nth: usize| percentile(&mut costs.iter().map(|of_start| of_start[nth]).collect::<Vec<_>>(), 50);
    let (first, tenth) = (median(0), median(9));
    figure(&format!("the first handshake took {first:?} of the worker's time, the tenth {tenth:?}"));
    // Without the warm-up before `/readyz` the first takes some 40 ms more.
    let most = tenth * 2 + Duration::from_millis(4);
    assert!(first < most, "{first:?} and then {tenth:?}: {costs:?}");
}
