//! The bounds that health proves, held against the truth: what was acknowledged on the primary, and what the
//! replica shows.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use trunkline_cluster::{Cluster, send_signal};
use trunkline_tests::{Commits, Watch, Wire, own_cluster};

/// What clocks, schedulers and the way of an acknowledgement may add on a busy machine.
const SLACK: Duration = Duration::from_millis(300);

/// Up to which commit a replica showed, read between the two moments.
struct Shown {
    begun: Instant,
    ended: Instant,
    commits: usize,
}

/// What health said, of what the server had told when it was asked at `probed`.
struct Said {
    probed: Instant,
    lo: Duration,
    taken: Instant,
    hi: Option<Duration>,
}

fn watch_closely(cluster: &Cluster, watch: &Watch, is_over: &AtomicBool) -> (Vec<Shown>, Vec<Said>) {
    let mut wire = Wire::login(cluster.replicas[0].port());
    let (mut shown, mut said) = (Vec::new(), Vec::<Said>::new());
    while !is_over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let commits = wire.value("SELECT count(*) FROM truth").parse().unwrap();
        shown.push(Shown { begun, ended: Instant::now(), commits });
        let snapshot = watch.snapshot();
        let server = snapshot.by_name("replica1").unwrap();
        if let (Some(lag), Some(probed)) = (server.lag, server.asked_at)
            && said.last().is_none_or(|last| last.probed != probed)
        {
            said.push(Said { probed, lo: lag.lo, taken: snapshot.taken_at, hi: lag.hi });
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    (shown, said)
}

#[test]
fn proven_lag_never_exceeds_the_truth_and_the_bound_never_falls_short_of_it() {
    let cluster = own_cluster(1);
    cluster.primary.psql("CREATE TABLE truth (number bigint)").unwrap();
    let watch = Watch::over(&cluster);
    cluster.wait_caught_up().unwrap();
    let (commits, is_over) = (Commits::default(), AtomicBool::new(false));
    let (shown, said) = std::thread::scope(|scope| {
        scope.spawn(|| commits.write(&cluster.primary, &is_over));
        let watcher = scope.spawn(|| watch_closely(&cluster, &watch, &is_over));
        let wait = |seconds| std::thread::sleep(Duration::from_secs(seconds));
        wait(3);
        cluster.replicas[0].pause_replay().unwrap();
        wait(4);
        cluster.replicas[0].resume_replay().unwrap();
        wait(3);
        let sender = cluster.primary.children_titled("walsender")[0];
        send_signal(sender, Signal::SIGSTOP);
        wait(5);
        send_signal(sender, Signal::SIGCONT);
        wait(3);
        is_over.store(true, Ordering::Relaxed);
        watcher.join().unwrap()
    });
    let mut most = Duration::ZERO;
    for Said { probed, lo, taken, hi } in &said {
        // What was shown just before shows at least as much missing as at the probe, and just after at most.
        let Some(before) = shown.iter().rev().find(|shown| shown.ended <= *probed) else { continue };
        let truth_at_most = commits.age(before.commits, *probed);
        assert!(*lo <= truth_at_most + SLACK, "{lo:?} is proven, and the truth is at most {truth_at_most:?}");
        let Some(after) = shown.iter().find(|shown| shown.begun >= *taken) else { continue };
        let truth_at_least = commits.age(after.commits, *taken);
        let hi = hi.expect("a replica that was current once has a bound");
        assert!(
            hi + SLACK >= truth_at_least,
            "at most {hi:?} is claimed, and the truth is at least {truth_at_least:?}"
        );
        most = most.max(truth_at_least);
    }
    assert!(said.len() > 25 && commits.count() > 300, "{} verdicts, {} commits", said.len(), commits.count());
    assert!(most > Duration::from_secs(3), "the replica was truly behind: {most:?}");
}
