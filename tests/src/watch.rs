//! The health monitor, alone, watching real servers; everything it ever said is kept.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use trunkline_cluster::{Cluster, MONITOR_PASSWORD, MONITOR_ROLE};
use trunkline_control::contract::{CheckRequest, respond};
use trunkline_health::{Health, JudgeSettings, Monitor, MonitorLogin, MonitorSettings};
use trunkline_topology::{AdminState, ExpectedRole, ServerSpec, ServerStatus, Snapshot, State};

use crate::{Forwarder, within};

/// How often the verdicts are recorded.
const LOOK: Duration = Duration::from_millis(5);

/// One verdict that differed from the one before.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// When it was first seen.
    pub at: Instant,
    /// The state.
    pub state: State,
    /// Why.
    pub reason: Arc<str>,
}

/// A monitor over servers. Dropping it ends the monitor.
#[derive(Debug)]
pub struct Watch {
    health: Health,
    history: Arc<Mutex<BTreeMap<String, Vec<Verdict>>>>,
    is_over: Arc<AtomicBool>,
    stop: Option<oneshot::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

/// Limits of the tests: 2 s of lag, a tick of 500 ms, fresh connections every second.
#[must_use]
pub fn test_judge() -> JudgeSettings {
    let mut settings = JudgeSettings::new(Duration::from_secs(2), Duration::from_millis(500));
    settings.connect_check_interval = Duration::from_secs(1);
    settings
}

/// A server for a monitor.
#[must_use]
pub fn spec(name: &str, port: u16, expected_role: ExpectedRole) -> ServerSpec {
    ServerSpec {
        name: name.to_owned(),
        host: "127.0.0.1".to_owned(),
        port,
        expected_role,
        weight: 100,
        admin: AdminState::Ready,
        ..ServerSpec::default()
    }
}

impl Watch {
    /// Watches all servers of `cluster` with the limits of [`test_judge`]; returns when all are UP.
    #[track_caller]
    #[must_use]
    pub fn over(cluster: &Cluster) -> Self {
        Self::settled(specs(cluster, None))
    }

    /// As [`Watch::over`], with five seconds for a login: for what runs beside everything else on a busy machine.
    #[track_caller]
    #[must_use]
    pub fn patient(cluster: &Cluster) -> Self {
        let mut judge = test_judge();
        judge.connect_timeout = Duration::from_secs(5);
        Self::settled_by(specs(cluster, None), judge)
    }

    /// As [`Watch::over`], with the first replica behind `forwarder`.
    #[track_caller]
    #[must_use]
    pub fn through(cluster: &Cluster, forwarder: &Forwarder) -> Self {
        Self::settled(specs(cluster, Some(forwarder.port())))
    }

    /// Watches `servers`, and returns when all are UP.
    #[track_caller]
    #[must_use]
    pub fn settled(servers: Vec<ServerSpec>) -> Self {
        Self::settled_by(servers, test_judge())
    }

    #[track_caller]
    fn settled_by(servers: Vec<ServerSpec>, judge: JudgeSettings) -> Self {
        let names: Vec<String> = servers.iter().map(|server| server.name.clone()).collect();
        let watch = Self::start(servers, judge);
        for name in &names {
            watch.await_state(name, State::Up, Duration::from_secs(10));
        }
        watch
    }

    /// Watches `servers` and returns at once.
    ///
    /// # Panics
    /// When no thread can be had.
    #[must_use]
    pub fn start(servers: Vec<ServerSpec>, judge: JudgeSettings) -> Self {
        let mut login = tokio_postgres::Config::new();
        login.user(MONITOR_ROLE).password(MONITOR_PASSWORD).dbname("appdb");
        let settings = MonitorSettings {
            servers,
            login: MonitorLogin { config: login, ..MonitorLogin::default() },
            judge,
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let runtime = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
            tell.send(Monitor::start(settings, runtime.handle())).expect("the starter waits");
            let _ended = runtime.block_on(stopped);
        });
        let health = told.recv().expect("the monitor starts");
        let mut watch = Self {
            health,
            history: Arc::default(),
            is_over: Arc::default(),
            stop: Some(stop),
            threads: vec![runtime],
        };
        watch.record();
        watch
    }

    /// The verdicts now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.health.load())
    }

    /// The monitor's own handle.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// What is known of a server now.
    ///
    /// # Panics
    /// When no server has that name.
    #[must_use]
    pub fn server(&self, name: &str) -> ServerStatus {
        self.snapshot().by_name(name).expect("the test names its servers").clone()
    }

    /// Waits until a server is in `state`, and says how long that took.
    #[track_caller]
    pub fn await_state(&self, name: &str, state: State, limit: Duration) -> Duration {
        let mut last = String::new();
        let start = Instant::now();
        while start.elapsed() < limit {
            let server = self.server(name);
            // Recorded as well, so that a test may ask at once what has been said since.
            if server.state == state && self.last_recorded(name) == Some(state) {
                return start.elapsed();
            }
            last = format!("{} ({}), lag {:?}", server.state, server.reason, server.lag);
            std::thread::sleep(LOOK);
        }
        panic!(
            "waited {limit:?} in vain until {name} is {state}; now {last}; history: {:?}",
            self.words(name)
        );
    }

    /// Waits until `look` finds what it wants in a server's status.
    #[track_caller]
    pub fn await_server(
        &self,
        name: &str,
        what: &str,
        limit: Duration,
        look: impl Fn(&ServerStatus) -> bool,
    ) -> Duration {
        within(limit, &format!("{name}: {what}"), || look(&self.server(name)).then_some(())).1
    }

    /// Waits until a server has answered so many more probes.
    #[track_caller]
    pub fn await_probes(&self, name: &str, count: usize, limit: Duration) {
        let mut last = self.server(name).last_probe;
        for number in 1..=count {
            let what = format!("{name}: probe {number} of {count}");
            let newer = || self.server(name).last_probe.filter(|probe| Some(*probe) != last);
            last = Some(within(limit, &what, newer).0);
        }
    }

    /// Every change of a server's verdict since `since`, the one that was in force then first.
    #[must_use]
    pub fn verdicts_since(&self, name: &str, since: Instant) -> Vec<Verdict> {
        let history = self.lock();
        let all = history.get(name).map(Vec::as_slice).unwrap_or_default();
        let first = all.iter().rposition(|verdict| verdict.at <= since).unwrap_or(0);
        all[first..].to_vec()
    }

    /// Asserts that a server has been in `state`, and in no other, since `since`.
    #[track_caller]
    pub fn assert_only(&self, name: &str, state: State, since: Instant) {
        let verdicts = self.verdicts_since(name, since);
        assert!(
            !verdicts.is_empty() && verdicts.iter().all(|verdict| verdict.state == state),
            "{name} was not {state} all the time: {:?}",
            self.words(name)
        );
    }

    /// The status that the HTTP contract answers for `path` now.
    #[must_use]
    pub fn status_of(&self, path: &str) -> u16 {
        let request =
            CheckRequest { method: "GET", target: path, accept: None, now: Instant::now(), extras: None };
        respond(&self.snapshot(), &request).status
    }

    fn last_recorded(&self, name: &str) -> Option<State> {
        self.lock().get(name)?.last().map(|verdict| verdict.state)
    }

    fn words(&self, name: &str) -> Vec<String> {
        let history = self.lock();
        let all = history.get(name).map(Vec::as_slice).unwrap_or_default();
        let start = all.first().map(|verdict| verdict.at);
        all.iter()
            .map(|verdict| {
                let after = start.map(|start| verdict.at.duration_since(start)).unwrap_or_default();
                format!("{:.2}s {} ({})", after.as_secs_f32(), verdict.state, verdict.reason)
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Verdict>>> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&mut self) {
        let (health, history, is_over) =
            (self.health.clone(), Arc::clone(&self.history), Arc::clone(&self.is_over));
        self.threads.push(std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                note(&health.load(), &mut history.lock().unwrap_or_else(PoisonError::into_inner));
                std::thread::sleep(LOOK);
            }
        }));
    }
}

fn note(snapshot: &Snapshot, history: &mut BTreeMap<String, Vec<Verdict>>) {
    for server in &snapshot.servers {
        let verdicts = history.entry(server.name.to_string()).or_default();
        if verdicts.last().is_none_or(|last| last.state != server.state) {
            verdicts.push(Verdict {
                at: Instant::now(),
                state: server.state,
                reason: Arc::clone(&server.reason),
            });
        }
    }
}

fn specs(cluster: &Cluster, replica1: Option<u16>) -> Vec<ServerSpec> {
    let mut servers = vec![spec("primary", cluster.primary.port(), ExpectedRole::Primary)];
    for (index, server) in cluster.replicas.iter().enumerate() {
        let port = replica1.filter(|_| index == 0).unwrap_or(server.port());
        servers.push(spec(server.name(), port, ExpectedRole::Replica));
    }
    servers
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        drop(self.stop.take());
        for thread in self.threads.drain(..) {
            let _ended = thread.join();
        }
    }
}
