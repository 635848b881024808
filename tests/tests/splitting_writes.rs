//! One port for reads and writes under faults: no write is done twice, none that was acknowledged is lost, and each session reads
//! what it has written at once, while replicas are killed, are late or stand still, and when one of them becomes the primary.
//!
//! `TRUNKLINE_SPLITTING_SECONDS` is how long replicas are disturbed.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use trunkline_cluster::{Cluster, StopMode};
use trunkline_tests::{
    Answer, Endpoint, PoolRole, ServerError, SetWhenDropped, Wire, eventually, own_cluster,
};

const PATIENCE: Duration = Duration::from_secs(60);
/// Where the environment says nothing.
const DISTURBED_SECONDS: u64 = 8;
const WRITERS: usize = 8;
/// So many tokens more show that a writer goes on.
const SOME: u64 = 4;
/// How late a late replica is.
const LATE: &str = "5s";

/// A replica does not run `put`, and cannot tell that from its name.
const TABLES: &str = "
    CREATE TABLE tokens (writer int, token text);
    CREATE FUNCTION put(writer int, token text) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
        INSERT INTO tokens VALUES (writer, token);
        RETURN (SELECT count(*) FROM tokens t WHERE t.token = put.token);
    END $$;
    GRANT ALL ON tokens TO of_tokens";

fn disturbed() -> Duration {
    let said = std::env::var("TRUNKLINE_SPLITTING_SECONDS").ok();
    Duration::from_secs(said.map_or(DISTURBED_SECONDS, |text| text.parse().unwrap()))
}

/// Its listener for writes splits. A replica that is late or stands still stays eligible, and one that was killed is so at once.
fn endpoint(cluster: &Cluster) -> Endpoint {
    endpoint_with(cluster, "health.damping_max", "\"0\"")
}

fn endpoint_with(cluster: &Cluster, key: &str, value: &str) -> Endpoint {
    let listener =
        "[[listener]]\nname = \"writes\"\ntarget_session_attrs = \"read-write\"\nroute = \"statement\"\n";
    let builder = Endpoint::over(cluster).pooling(4).threads(2).toml(listener);
    builder.key("health.max_lag", "\"600s\"").key(key, value).start()
}

fn routed(endpoint: &Endpoint, reason: &str) -> u64 {
    endpoint.counted(&format!("trunkline_requests_routed_total{{reason=\"{reason}\"}}"))
}

/// Runs a read until it has gone to a replica.
#[track_caller]
fn reads_on_replica(endpoint: &Endpoint, wire: &mut Wire, read: &str) {
    eventually(PATIENCE, "the read goes to a replica", || {
        let before = routed(endpoint, "proven");
        wire.value(read);
        routed(endpoint, "proven") > before
    });
}

/// Reads behind each write: the last ones find replicas that show it.
const READS: usize = 20;

/// A session that writes tokens, each once, and what it was told of them.
struct Writer<'a> {
    number: usize,
    role: PoolRole,
    port: u16,
    is_over: &'a AtomicBool,
    /// How many were acknowledged.
    count: &'a AtomicU64,
    acknowledged: Vec<String>,
    /// What became of these it was not told.
    unsure: Vec<String>,
    errors: Vec<ServerError>,
}

impl Writer<'_> {
    /// Writes until it is over, with a new connection where one has ended.
    fn write(&mut self) {
        let mut wire = None;
        for token in 0_usize.. {
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            let connected = match wire.take() {
                Some(connected) => Ok(connected),
                None => self.role.login().try_connect(self.port),
            };
            wire = connected.and_then(|wire| self.write_and_read(wire, token)).map_or_else(
                |error| {
                    self.errors.push(error);
                    None
                },
                Some,
            );
        }
    }

    /// Writes one token, and reads it. Gives the connection back if it has not ended.
    fn write_and_read(&mut self, mut wire: Wire, turn: usize) -> Result<Wire, ServerError> {
        let token = format!("{}-{turn}", self.number);
        let answer = self.put(&mut wire, turn, &token);
        match answer.error {
            None => {
                let is_one = |value: &Option<String>| value.as_deref() == Some("1");
                assert!(answer.rows.iter().flatten().all(is_one), "{token} is there {:?} times", answer.rows);
                self.acknowledged.push(token.clone());
            }
            Some(error) if answer.messages.last().is_some_and(|message| message.tag == b'Z') => {
                self.unsure.push(token.clone());
                self.errors.push(error);
            }
            Some(error) => {
                self.unsure.push(token);
                return Err(error);
            }
        }
        let is_sure = self.acknowledged.last() == Some(&token);
        for read in 0..READS {
            let there = if read % 2 == 0 {
                wire.query(&format!("SELECT count(*) FROM tokens WHERE token = '{token}'"))
            } else {
                wire.extended("SELECT count(*) FROM tokens WHERE token = $1", &[&token])
            };
            if let Some(error) = there.error {
                return Err(error);
            }
            let times: usize = there.value().parse().unwrap();
            assert!(times <= 1 && times >= usize::from(is_sure), "{token} is there {times} times");
        }
        let all = wire.query(&format!("SELECT count(*) FROM tokens WHERE writer = {}", self.number));
        if let Some(error) = all.error {
            return Err(error);
        }
        let all: usize = all.value().parse().unwrap();
        let sure = self.acknowledged.len();
        assert!((sure..=sure + self.unsure.len()).contains(&all), "{all} tokens are there, not {sure}");
        if is_sure {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(wire)
    }

    /// In one of the ways to write. Each call of the function is another statement, which no replica has refused before.
    fn put(&self, wire: &mut Wire, turn: usize, token: &str) -> Answer {
        let number = self.number.to_string();
        match turn % 5 {
            0 => wire.query(&format!("SELECT put({number}, '{token}') AS turn_{number}_{turn}")),
            1 => {
                wire.extended(&format!("SELECT put($1::int, $2) AS turn_{number}_{turn}"), &[&number, token])
            }
            2 => wire.query(&format!("INSERT INTO tokens VALUES ({number}, '{token}')")),
            3 => wire.extended("INSERT INTO tokens VALUES ($1::int, $2)", &[&number, token]),
            // Its first column is the constant that it selects.
            _ => wire.query(&format!(
                "WITH written AS (INSERT INTO tokens VALUES ({number}, '{token}') RETURNING 1) TABLE written"
            )),
        }
    }
}

/// Disturbs replicas, while the writers go on.
type Disturb = fn(&Cluster, &Endpoint, &dyn Fn());

/// What disturbs replicas, in turn.
const DISTURBANCES: [Disturb; 5] = [
    |cluster, endpoint, go_on| {
        let [first, _] = &cluster.replicas[..] else { panic!("two replicas") };
        first.kill();
        go_on();
        first.start().unwrap();
        endpoint.await_health(first.name(), true, PATIENCE);
    },
    |cluster, _, go_on| {
        cluster.replicas[1].pause_replay().unwrap();
        go_on();
        cluster.replicas[1].resume_replay().unwrap();
    },
    |cluster, _, go_on| {
        cluster.replicas.iter().for_each(|replica| replica.pause_replay().unwrap());
        go_on();
        cluster.replicas.iter().for_each(|replica| replica.resume_replay().unwrap());
    },
    |cluster, _, go_on| {
        cluster.replicas[1].set("recovery_min_apply_delay", LATE).unwrap();
        go_on();
        cluster.replicas[1].set("recovery_min_apply_delay", "0").unwrap();
    },
    |cluster, endpoint, go_on| {
        let [_, second] = &cluster.replicas[..] else { panic!("two replicas") };
        second.stop(StopMode::Immediate).unwrap();
        go_on();
        second.start().unwrap();
        endpoint.await_health(second.name(), true, PATIENCE);
    },
];

#[test]
fn every_write_is_done_once_and_read_at_once_whatever_becomes_of_replicas() {
    let cluster = own_cluster(2);
    let role = PoolRole::create(&cluster, "of_tokens");
    cluster.primary.psql(TABLES).unwrap();
    cluster.wait_caught_up().unwrap();
    let endpoint = endpoint(&cluster);
    // Once replicas have run reads like these, they count as reads on the primary, too.
    let mut wire = role.connect(endpoint.writes());
    reads_on_replica(&endpoint, &mut wire, "SELECT count(*) FROM tokens WHERE token = 'none'");
    eventually(PATIENCE, "the other read goes to a replica", || {
        let before = routed(&endpoint, "proven");
        wire.extended("SELECT count(*) FROM tokens WHERE token = $1", &["none"]);
        routed(&endpoint, "proven") > before
    });
    drop(wire);
    let is_over = AtomicBool::new(false);
    let counts: Vec<AtomicU64> = (0..WRITERS).map(|_| AtomicU64::new(0)).collect();
    let go_on = || {
        let goals: Vec<u64> = counts.iter().map(|count| count.load(Ordering::Relaxed) + SOME).collect();
        eventually(PATIENCE, "all writers go on", || {
            counts.iter().zip(&goals).all(|(count, goal)| count.load(Ordering::Relaxed) >= *goal)
        });
    };
    let mut writers: Vec<Writer<'_>> = counts
        .iter()
        .enumerate()
        .map(|(number, count)| Writer {
            number,
            role,
            port: endpoint.writes(),
            is_over: &is_over,
            count,
            acknowledged: Vec::new(),
            unsure: Vec::new(),
            errors: Vec::new(),
        })
        .collect();
    std::thread::scope(|scope| {
        let over = SetWhenDropped(&is_over);
        writers.iter_mut().for_each(|writer| {
            scope.spawn(|| writer.write());
        });
        let began = Instant::now();
        for disturb in DISTURBANCES.iter().cycle() {
            if began.elapsed() >= disturbed() {
                break;
            }
            go_on();
            disturb(&cluster, &endpoint, &go_on);
        }
        // All that it has acknowledged is on the replicas before it ends.
        cluster.primary.stop(StopMode::Fast).unwrap();
        cluster.replicas[0].promote().unwrap();
        go_on();
        drop(over);
    });
    let on_replicas = ["proven", "refused"].map(|reason| routed(&endpoint, reason));
    assert!(on_replicas.iter().all(|count| *count >= WRITERS as u64), "{on_replicas:?}");
    let there = cluster.replicas[0].psql("SELECT token FROM tokens").unwrap();
    let mut times: HashMap<&str, usize> = HashMap::new();
    there.lines().for_each(|token| *times.entry(token).or_default() += 1);
    for writer in &writers {
        for token in &writer.acknowledged {
            assert_eq!(times.remove(token.as_str()), Some(1), "{token} was acknowledged");
        }
        for token in &writer.unsure {
            assert!(times.remove(token.as_str()).is_none_or(|times| times == 1), "{token} is there twice");
        }
        let errors = &writer.errors;
        // What was in flight when the primary ended.
        let is_known = |error: &ServerError| ["08006", "57P01", "57P03"].contains(&error.code.as_str());
        assert!(errors.len() <= 1 && errors.iter().all(is_known), "writer {}: {errors:#?}", writer.number);
    }
    assert!(times.is_empty(), "nobody has written these: {times:?}");
}

#[test]
fn what_a_replica_has_refused_runs_once_where_that_is_the_primary_next() {
    let cluster = own_cluster(1);
    let role = PoolRole::create(&cluster, "of_tokens");
    cluster.primary.psql(TABLES).unwrap();
    cluster.wait_caught_up().unwrap();
    let endpoint = endpoint(&cluster);
    let mut wires: Vec<Wire> = (0..WRITERS).map(|_| role.connect(endpoint.writes())).collect();
    let read = "SELECT count(*) FROM tokens";
    wires.iter_mut().for_each(|wire| reads_on_replica(&endpoint, wire, read));
    let [replica] = &cluster.replicas[..] else { panic!("one replica") };
    cluster.primary.kill();
    endpoint.await_health(cluster.primary.name(), false, PATIENCE);
    for (number, wire) in wires.iter_mut().enumerate() {
        wire.send_query(&format!("SELECT put({number}, '{number}') AS turn_{number}"));
    }
    eventually(PATIENCE, "the replica has refused them", || routed(&endpoint, "refused") >= WRITERS as u64);
    replica.promote().unwrap();
    for wire in &mut wires {
        let answer = wire.read_answer();
        assert_eq!(answer.error, None);
        assert_eq!(answer.value(), "1", "it was done once");
        let seen: usize = wire.value(read).parse().unwrap();
        assert!(seen >= 1, "it is read at once");
    }
    assert_eq!(replica.psql("SELECT count(*), count(DISTINCT token) FROM tokens").unwrap(), "8|8");
}

/// As it does until health has looked at the replica, the proxy takes it for one that cannot write.
#[test]
fn what_a_promoted_replica_may_have_done_is_not_done_again() {
    let cluster = own_cluster(1);
    let role = PoolRole::create(&cluster, "of_tokens");
    cluster.primary.psql(TABLES).unwrap();
    let [replica] = &cluster.replicas[..] else { panic!("one replica") };
    // Once it is the primary, a commit waits there until it is killed.
    replica.set("synchronous_standby_names", "nobody").unwrap();
    cluster.wait_caught_up().unwrap();
    let endpoint = endpoint_with(&cluster, "health.tick", "\"10s\"");
    let mut wire = role.connect(endpoint.writes());
    let read = "SELECT count(*) FROM tokens";
    reads_on_replica(&endpoint, &mut wire, read);
    cluster.primary.kill();
    endpoint.await_health(cluster.primary.name(), false, PATIENCE);
    reads_on_replica(&endpoint, &mut wire, read);
    replica.promote().unwrap();
    wire.send_query("SELECT put(1, 'once')");
    replica
        .wait_until(
            "the commit waits",
            "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep'",
        )
        .unwrap();
    replica.kill();
    replica.start().unwrap();
    replica.set("synchronous_standby_names", "").unwrap();
    let answer = wire.read_answer();
    assert_eq!(replica.psql(read).unwrap(), "1", "{:?}", answer.error);
    assert_eq!(answer.error.unwrap().code, "08006");
}
