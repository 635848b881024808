//! Watches the servers and publishes the verdicts.
//!
//! ```text
//! prober (one per server: persistent connection, asks every tick) --.
//! checker (one per server: logs in every connect_check_interval) ---+-> desk (the judge) -> snapshot, log
//! Health (suspect, set_admin, reload) ------------------------------'
//! ```
//!
//! Beside them one `inquiry` per server, which sessions ask themselves.

#[cfg(any(test, feature = "testing"))]
mod by_hand;
mod checker;
mod health;
mod inquiry;
mod judge_task;
mod login;
mod pace;
mod prober;
mod watchers;

#[cfg(any(test, feature = "testing"))]
pub use by_hand::ByHand;
pub use health::{Health, PassiveFailure};
pub use login::{LoginRefusal, try_login};

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, watch};

use crate::SERVERS_MAX;
use crate::judge::{Judge, JudgeSettings, Observation};
use crate::login::MonitorLogin;
use crate::probe::{ServerHost, ServerHosts};
use judge_task::JudgeTask;
use trunkline_topology::{ExpectedRole, ProbeSpec, ServerId, ServerSpec};
use watchers::{AllSignals, Watchers};

/// Observations on their way to the judge; the probers wait when it is behind.
const OBSERVATIONS_MAX: usize = 1024;
/// Commands on their way to the judge.
const COMMANDS_MAX: usize = 64;

/// What is watched, and how.
#[derive(Clone, Debug, Default)]
pub struct MonitorSettings {
    /// The servers; at most [`SERVERS_MAX`].
    pub servers: Vec<ServerSpec>,
    /// How the monitoring role logs in.
    pub login: MonitorLogin,
    /// How servers are judged and how often they are probed.
    pub judge: JudgeSettings,
}

/// Starts the watching.
#[derive(Debug)]
pub struct Monitor;

/// What the tasks of one server share.
#[derive(Debug)]
struct WatchedServer {
    id: ServerId,
    name: String,
    server: ServerHost,
    /// How it is asked, where that differs from the other servers.
    probe: watch::Receiver<ProbeSpec>,
    login: watch::Receiver<Arc<MonitorLogin>>,
    settings: watch::Receiver<JudgeSettings>,
    observations: mpsc::Sender<(ServerId, Observation)>,
    signals: Arc<ServerSignals>,
}

/// How the tasks of one server, and those who suspect it, wake each other.
#[derive(Debug, Default)]
struct ServerSignals {
    /// Ask now.
    probe: Notify,
    /// Log in now.
    check: Notify,
    /// The server shuts down and waits for our connection to end.
    release: Notify,
    /// A session was ended: log in and see.
    inquiry: inquiry::Inquiry,
}

impl WatchedServer {
    /// The login in force.
    fn login(&self) -> Arc<MonitorLogin> {
        Arc::clone(&self.login.borrow())
    }

    async fn report(&self, observation: Observation) {
        // Fails only when the watching ends, and then this task does.
        let _ = self.observations.send((self.id, observation)).await;
    }
}

impl Monitor {
    /// Starts the watching on `runtime`. It ends with the last clone of the [`Health`] returned.
    #[must_use]
    pub fn start(settings: MonitorSettings, runtime: &Handle) -> Health {
        let MonitorSettings { mut servers, login, judge } = settings;
        servers.truncate(SERVERS_MAX);
        if lacks_a_witness(&servers) {
            tracing::warn!(
                target: "trunkline::health",
                "a promotion takes the writers at once, even while the primary serves: with two servers no other standby can show which to follow"
            );
        }
        let (observations, observed) = mpsc::channel(OBSERVATIONS_MAX);
        let (commands, commanded) = mpsc::channel(COMMANDS_MAX);
        let settings = watch::Sender::new(judge.clone());
        let login = watch::Sender::new(Arc::new(login));
        let signals = AllSignals::default();
        let mut watchers = Watchers {
            runtime: runtime.clone(),
            hosts: ServerHosts::default(),
            login: login.subscribe(),
            settings: settings.subscribe(),
            observations,
            signals: signals.clone(),
            probes: BTreeMap::new(),
            tasks: BTreeMap::new(),
        };
        let mut judge = Judge::new(judge, Vec::new(), Instant::now());
        for (id, spec) in judge.set_servers(servers, Instant::now()).came {
            watchers.watch(id, &spec);
        }
        let published = judge_task::Published::new(judge.snapshot(Instant::now()), judge.generation());
        let judge_task =
            JudgeTask { judge, observed, commanded, settings, published: published.clone(), watchers };
        let task = runtime.spawn(judge_task.run()).abort_handle();
        Health::new(published, commands, login, signals, Some(task))
    }
}

/// Whether one of two servers may become the primary without a third to bear it out.
fn lacks_a_witness(servers: &[ServerSpec]) -> bool {
    let is_any = |server: &ServerSpec| server.expected_role == ExpectedRole::Any;
    servers.len() == 2 && servers.iter().any(is_any)
}
