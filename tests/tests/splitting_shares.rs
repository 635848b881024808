//! One port for reads and writes: how many of the reads run on replicas whose clients send one request after another, without a
//! pause.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::{Duration, Instant};

use trunkline_cluster::Cluster;
use trunkline_tests::{Answer, Endpoint, Login, PoolRole, Wire};
use trunkline_tests::{own_cluster, shared_cluster};

const PATIENCE: Duration = Duration::from_secs(60);

/// Its listener for writes splits. Sessions share four connections of a pool, or have their own.
fn endpoint(cluster: &Cluster, pool_mode: &str) -> Endpoint {
    let listener =
        "[[listener]]\nname = \"writes\"\ntarget_session_attrs = \"read-write\"\nroute = \"statement\"\n";
    let builder = Endpoint::over(cluster).pooling(4).toml(listener).key("health.max_lag", "\"600s\"");
    builder.key("pool.pool_mode", &format!("\"{pool_mode}\"")).start()
}

fn sql(cluster: &Cluster, text: &str) -> String {
    cluster.primary.psql(text).unwrap()
}

fn count(endpoint: &Endpoint, reason: &str) -> u64 {
    endpoint.routed().get(reason).copied().unwrap_or_default()
}

/// How a request is sent.
type Ask = fn(&mut Wire, &str, &str) -> Answer;

fn simple(wire: &mut Wire, sql: &str, who: &str) -> Answer {
    wire.query(&sql.replace("$1", who))
}

fn extended(wire: &mut Wire, sql: &str, who: &str) -> Answer {
    wire.extended(sql, &[who])
}

/// Sessions that write, read what they have written so many times, and so on, each for itself. Returns the percentage of reads that
/// ran on replicas.
fn share(endpoint: &Endpoint, role: PoolRole, ask: Ask, reads: u64) -> u64 {
    const SESSIONS: u64 = 3;
    const ROUNDS: u64 = 60;
    let before = count(endpoint, "proven");
    std::thread::scope(|scope| {
        for who in 0..SESSIONS {
            scope.spawn(move || {
                let (mut wire, who) = (role.connect(endpoint.writes()), who.to_string());
                let read = "SELECT count(*) FROM shared_out WHERE who = $1";
                let first: u64 = ask(&mut wire, read, &who).value().parse().unwrap();
                for n in 1..=ROUNDS {
                    let answer = ask(&mut wire, "INSERT INTO shared_out VALUES ($1)", &who);
                    assert_eq!(answer.error, None);
                    for _ in 0..reads {
                        assert_eq!(ask(&mut wire, read, &who).value(), (first + n).to_string());
                    }
                }
            });
        }
    });
    (count(endpoint, "proven") - before) * 100 / (SESSIONS * (1 + ROUNDS * reads))
}

#[test]
fn most_reads_right_behind_writes_run_on_replicas() {
    let cluster = shared_cluster();
    let role = PoolRole::create(cluster, "of_shares");
    sql(cluster, "CREATE TABLE shared_out (who int); GRANT ALL ON shared_out TO of_shares");
    for pool_mode in ["transaction", "session"] {
        let endpoint = endpoint(cluster, pool_mode);
        let asked: [(&str, Ask); 2] = [("simple", simple), ("extended", extended)];
        for (how, ask) in asked {
            for reads in [3, 9] {
                // A machine that is busy with other things is slow to show what was written.
                let (begun, mut shares) = (Instant::now(), Vec::new());
                while shares.last().is_none_or(|share| *share < 60) {
                    shares.push(share(&endpoint, role, ask, reads));
                    let is_late = begun.elapsed() > PATIENCE;
                    let what = format!("{pool_mode}, {how}, {reads} reads per write: {shares:?} %");
                    assert!(!is_late, "{what} ran on replicas: {:?}", endpoint.routed());
                }
            }
        }
    }
}

#[test]
fn slow_reads_in_a_loop_leave_the_primary() {
    const KINDS: usize = 8;
    let cluster = shared_cluster();
    let role = PoolRole::create(cluster, "of_slow_reads");
    sql(cluster, "CREATE TABLE slow_read (n int); GRANT ALL ON slow_read TO of_slow_reads");
    for pool_mode in ["transaction", "session"] {
        let endpoint = endpoint(cluster, pool_mode);
        let mut wire = role.connect(endpoint.writes());
        let mut on_primary = 0;
        for kind in 0..KINDS {
            assert_eq!(wire.query("INSERT INTO slow_read VALUES (1)").error, None);
            // No replica has run it yet: on the primary it counts as a write.
            let slow = format!(
                "SELECT current_setting('cluster_name') FROM generate_series(1, 100000) AS new_{kind} OFFSET 99999"
            );
            let begun = Instant::now();
            while wire.value(&slow) == "primary" {
                on_primary += 1;
                assert!(begun.elapsed() < PATIENCE, "{pool_mode}, {kind}: {:?}", endpoint.routed());
            }
        }
        // Without a wait each kind runs there until health happens to ask, four times on average. In session mode it is health that is
        // asked, so that a wait brings less.
        let is_soon = pool_mode == "session" || on_primary <= 2 * KINDS;
        assert!(is_soon, "{pool_mode}: {on_primary} reads of {KINDS} kinds ran on the primary");
    }
}

#[test]
fn the_first_read_of_a_database_is_judged() {
    let cluster = own_cluster(1);
    let reasons: Vec<String> = (0..3)
        .map(|_| {
            let endpoint = endpoint(&cluster, "transaction");
            endpoint.reasons_of(|| {
                let mut wire = Login::default().connect(endpoint.writes());
                assert_eq!(wire.value("SELECT count(*) > 0 FROM pg_class"), "t");
            })
        })
        .collect();
    // On a machine that is busy with other things, a look at the catalog may take longer than a login waits.
    assert!(reasons.iter().any(|reason| reason != "unknown"), "{reasons:?}");
}
