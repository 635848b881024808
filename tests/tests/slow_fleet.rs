//! A pool of long-lived sessions through everything that happens to servers in a bad night.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use trunkline_cluster::{Cluster, Server, StopMode};
use trunkline_tests::{Auth, Commits, Endpoint, Login, Wire, eventually, own_cluster, psql, python, traffic};

/// How long anything may take on a busy machine. A server that dies again and again is trusted later each time.
const PATIENCE: Duration = Duration::from_secs(120);
/// As the harness sets it for every endpoint.
const MAX_LAG: Duration = Duration::from_secs(2);

/// Twenty threads, a connection each, kept for the whole time. What is read is what the same expressions give in
/// Python. Outside a transaction nothing may fail. Inside one, a lost server may say so, once.
const POOL: &str = r#"
import pathlib, threading, time, psycopg

stop = pathlib.Path(STOP_FILE)
lost = {"08006", "57P01", "57P02", "40001"}
rounds, told, failures = [0] * 20, [0] * 20, []

def connect(i):
    conn = psycopg.connect("", autocommit=True)
    conn.prepare_threshold = 2
    conn.execute(f"SET work_mem = '{i + 1}MB'")
    conn.execute(f"SET search_path = schema_{i}, public")
    conn.execute("SELECT set_config('app.member', %s, false)", (str(i),))
    return conn

def member(i):
    conn = connect(i)
    while not stop.exists():
        n = rounds[i]
        said = conn.execute("SELECT current_setting('work_mem'), current_setting('search_path'), current_setting('app.member')").fetchone()
        assert said == (f"{i + 1}MB", f"schema_{i}, public", str(i)), said
        assert conn.execute("SELECT %s::int * 2, %s::text", (n, f"r{n}")).fetchone() == (n * 2, f"r{n}")
        assert conn.execute("SELECT sum(i) FROM numbers WHERE i <= %s", (n % 500,)).fetchone()[0] == ((n % 500) * (n % 500 + 1) // 2 or None)
        try:
            with conn.transaction(), conn.cursor(name="portal") as cur:
                cur.itersize = 50
                cur.execute("SELECT i FROM numbers WHERE i <= 200 ORDER BY i")
                assert [row[0] for row in cur] == list(range(1, 201))
        except psycopg.Error as error:
            if error.sqlstate not in lost:
                raise
            told[i] += 1
            if conn.closed:
                conn = connect(i)
        rounds[i] += 1
        time.sleep(0.1)

def guarded(i):
    try:
        member(i)
    except BaseException as error:
        failures.append(f"member {i}, round {rounds[i]}: {type(error).__name__} {getattr(error, 'sqlstate', None)}: {error}")

threads = [threading.Thread(target=guarded, args=(i,)) for i in range(20)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print("\n".join(failures) or f"unharmed: {min(rounds) > 0}, told at most once a fault: {max(told) <= 12}")
"#;

fn verified(cluster: &Cluster, admin: &Path) -> Endpoint {
    Endpoint::over(cluster).auth(Auth::Verify).flag("--admin", admin.to_str().unwrap()).start()
}

#[test]
fn a_pool_reads_the_same_through_every_fault() {
    let cluster = own_cluster(2);
    let numbers = "CREATE TABLE numbers AS SELECT i FROM generate_series(1, 500) AS i";
    cluster.primary.psql(numbers).unwrap();
    cluster.wait_caught_up().unwrap();
    let endpoint = verified(&cluster, &cluster.directory().join("admin.sock"));
    let stop = cluster.directory().join("stop");
    let program = POOL.replace("STOP_FILE", &format!("{:?}", stop.to_str().unwrap()));
    let port = endpoint.reads();
    let said = std::thread::scope(|scope| {
        let end = EndOfThePool(&stop);
        let pool = scope.spawn(move || python(port, &program));
        let [first, second] = &cluster.replicas[..] else { panic!("two replicas") };
        eventually(PATIENCE, "the pool is at work on both", || busy(first) && busy(second));
        let faults: [(Fault, &Server); 4] =
            [(killed, first), (shut_down, second), (hung, first), (lagging, second)];
        for (fault, victim) in faults {
            fault(&cluster, &endpoint, victim);
            healthy(&endpoint, victim);
            eventually(PATIENCE, "the pool is back on both", || busy(first) && busy(second));
        }
        both_die(&endpoint, first, second);
        drop(end);
        pool.join().unwrap()
    });
    assert_eq!(said, "unharmed: True, told at most once a fault: True", "{}", endpoint.log());
}

/// Tells the pool to end, also when the test fails.
struct EndOfThePool<'p>(&'p Path);

impl Drop for EndOfThePool<'_> {
    fn drop(&mut self) {
        let _ended = std::fs::write(self.0, "");
    }
}

fn busy(server: &Server) -> bool {
    let pool = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'appdb' AND query LIKE '%app.member%'";
    server.psql(pool).is_ok_and(|count| count.parse::<u32>().is_ok_and(|count| count >= 2))
}

fn healthy(endpoint: &Endpoint, server: &Server) {
    endpoint.await_health(server.name(), true, PATIENCE);
}

/// A fault, and its end.
type Fault = fn(&Cluster, &Endpoint, &Server);

fn killed(_: &Cluster, endpoint: &Endpoint, server: &Server) {
    server.kill_postmaster();
    server.wait_stopped(PATIENCE).unwrap();
    endpoint.await_health(server.name(), false, PATIENCE);
    server.start().unwrap();
}

fn shut_down(_: &Cluster, endpoint: &Endpoint, server: &Server) {
    for mode in [StopMode::Fast, StopMode::Immediate] {
        server.stop(mode).unwrap();
        endpoint.await_health(server.name(), false, PATIENCE);
        server.start().unwrap();
        healthy(endpoint, server);
    }
}

fn hung(_: &Cluster, endpoint: &Endpoint, server: &Server) {
    server.pause();
    endpoint.await_health(server.name(), false, PATIENCE);
    eventually(PATIENCE, "nobody waits for the hung server", || endpoint.sessions_on(server.name()) == 0);
    server.resume();
}

fn lagging(cluster: &Cluster, endpoint: &Endpoint, server: &Server) {
    let _writes = traffic(&cluster.primary);
    server.pause_replay().unwrap();
    endpoint.await_health(server.name(), false, PATIENCE);
    server.resume_replay().unwrap();
}

/// One after the other, and back in the same order: in between only the primary is left.
fn both_die(endpoint: &Endpoint, first: &Server, second: &Server) {
    for server in [first, second] {
        server.kill_postmaster();
        server.wait_stopped(PATIENCE).unwrap();
        endpoint.await_health(server.name(), false, PATIENCE);
    }
    assert_eq!(psql(endpoint.reads(), "SHOW cluster_name"), "primary");
    for server in [first, second] {
        server.start().unwrap();
        healthy(endpoint, server);
        eventually(PATIENCE, "the pool leaves the primary", || busy(server));
    }
}

/// One read: when it was asked, and how many commits it showed.
struct Read {
    asked: Instant,
    commits: usize,
}

fn read(port: u16, is_over: &AtomicBool) -> Vec<Read> {
    let mut wires: Vec<Wire> = (0..6).map(|_| Login::default().connect(port)).collect();
    let mut reads = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        for wire in &mut wires {
            let asked = Instant::now();
            reads.push(Read { asked, commits: wire.value("SELECT count(*) FROM truth").parse().unwrap() });
        }
        std::thread::sleep(Duration::from_millis(15));
    }
    reads
}

/// Tells the threads to end, also when the test fails.
struct End<'e>(&'e AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn no_session_reads_what_is_older_than_the_limit_and_a_second() {
    let cluster = own_cluster(2);
    cluster.primary.psql("CREATE TABLE truth (number bigint)").unwrap();
    cluster.wait_caught_up().unwrap();
    let endpoint = verified(&cluster, &cluster.directory().join("admin.sock"));
    let (commits, is_over) = (Commits::default(), AtomicBool::new(false));
    let port = endpoint.reads();
    let reads = std::thread::scope(|scope| {
        scope.spawn(|| commits.write(&cluster.primary, &is_over));
        let reader = scope.spawn(|| read(port, &is_over));
        let end = End(&is_over);
        let lagging = &cluster.replicas[0];
        lagging.pause_replay().unwrap();
        endpoint.await_health(lagging.name(), false, PATIENCE);
        // Far enough behind for a read that should not have been served to show.
        std::thread::sleep(2 * MAX_LAG);
        lagging.resume_replay().unwrap();
        endpoint.await_health(lagging.name(), true, PATIENCE);
        drop(end);
        reader.join().unwrap()
    });
    let oldest = reads.iter().map(|read| commits.age(read.commits, read.asked)).max().unwrap();
    assert!(oldest > MAX_LAG / 2, "the replica lagged while it served: {oldest:?}");
    assert!(oldest <= MAX_LAG + Duration::from_secs(1), "a read was {oldest:?} old");
}
