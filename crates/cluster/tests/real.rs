//! The cluster that everything else stands on keeps its own promises.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::Duration;

use trunkline_cluster::{Cluster, ClusterSpec, PgInstall, StopMode, descendants, is_alive};

fn start(replicas: usize) -> Cluster {
    let directory = tempfile::Builder::new().prefix("tlc-").tempdir_in("/tmp").unwrap().keep();
    let spec = ClusterSpec::new(
        PgInstall::find(std::env::var_os("TRUNKLINE_TEST_PG_BIN").as_deref().map(std::path::Path::new))
            .unwrap(),
        replicas,
        directory,
    );
    Cluster::start(spec, &mut |step| eprintln!("{step}")).unwrap()
}

#[test]
fn standbys_stream_and_survive_restarts_and_nothing_is_left_behind() {
    let cluster = start(2);
    cluster.primary.psql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i").unwrap();
    cluster.wait_caught_up().unwrap();
    for replica in &cluster.replicas {
        assert_eq!(replica.psql("SELECT count(*) FROM t").unwrap(), "1000");
    }

    let replica = &cluster.replicas[0];
    replica.kill();
    assert_eq!(replica.postmaster_pid(), None);
    cluster.primary.psql("INSERT INTO t VALUES (0)").unwrap();
    replica.start().unwrap();
    cluster.wait_caught_up().unwrap();
    assert_eq!(replica.psql("SELECT count(*) FROM t").unwrap(), "1001");

    replica.stop(StopMode::Fast).unwrap();
    replica.start().unwrap();
    replica.pause_replay().unwrap();
    cluster.primary.psql("DELETE FROM t").unwrap();
    assert_eq!(replica.psql("SELECT count(*) FROM t").unwrap(), "1001");
    replica.resume_replay().unwrap();
    cluster.wait_caught_up().unwrap();

    cluster.replicas[1].pause();
    let directory = cluster.directory().to_path_buf();
    let pids: Vec<i32> = cluster
        .servers()
        .map(|server| server.postmaster_pid().unwrap())
        .flat_map(|pid| std::iter::once(pid).chain(descendants(pid)))
        .collect();
    assert!(pids.len() > 10, "{pids:?}");
    drop(cluster);
    assert!(!directory.exists());
    assert_eq!(pids.iter().copied().filter(|&pid| is_alive(pid)).count(), 0);
}

#[test]
fn a_cascade_streams_from_its_upstream_and_a_promoted_standby_takes_writes() {
    let cluster = start(1);
    let cascade = cluster.add_standby("cascade", &cluster.replicas[0]).unwrap();
    cluster.replicas[0].promote().unwrap();
    cluster.replicas[0].psql("CREATE TABLE t ()").unwrap();
    cascade.wait_until("it follows", "SELECT to_regclass('t') IS NOT NULL").unwrap();
}

#[test]
fn a_server_that_does_not_start_shows_its_log_and_what_to_do() {
    let cluster = start(0);
    cluster.primary.stop(StopMode::Fast).unwrap();
    std::fs::write(cluster.primary.data_dir().join("postgresql.auto.conf"), "no_such_setting = 1\n").unwrap();
    let error = cluster.primary.start().unwrap_err().to_string();
    assert!(error.contains("no_such_setting") && error.contains("HINT:"), "{error}");
}

#[test]
fn a_dead_owner_leaves_neither_servers_nor_directory() {
    let helper = std::env::current_exe().unwrap();
    let directory = tempfile::Builder::new().prefix("tlc-").tempdir_in("/tmp").unwrap().keep();
    let mut owner = std::process::Command::new(helper)
        .args(["--ignored", "--exact", "owner_that_hangs"])
        .env("TRUNKLINE_TEST_DIRECTORY", &directory)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let started = directory.join("started");
    eventually(Duration::from_secs(60), "the owner has a cluster", || started.exists());
    let pid: i32 = std::fs::read_to_string(directory.join("primary/postmaster.pid"))
        .unwrap()
        .lines()
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(is_alive(pid));
    owner.kill().unwrap();
    owner.wait().unwrap();
    eventually(Duration::from_secs(20), "all is gone", || !is_alive(pid) && !directory.exists());
}

#[test]
#[ignore = "started by a_dead_owner_leaves_neither_servers_nor_directory"]
fn owner_that_hangs() {
    let directory = std::path::PathBuf::from(std::env::var_os("TRUNKLINE_TEST_DIRECTORY").unwrap());
    let spec = ClusterSpec::new(
        PgInstall::find(std::env::var_os("TRUNKLINE_TEST_PG_BIN").as_deref().map(std::path::Path::new))
            .unwrap(),
        0,
        &directory,
    );
    let _cluster = Cluster::start(spec, &mut |_| {}).unwrap();
    std::fs::write(directory.join("started"), "").unwrap();
    loop {
        std::thread::park();
    }
}

fn eventually(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "waited {limit:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
