//! The handle everyone else holds.

use std::sync::Arc;

use arc_swap::Guard;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use trunkline_codec::ids::SystemIdentifier;
use trunkline_codec::sqlstate::SqlState;

use super::inquiry;
use super::judge_task::{JudgeCommand, Published};
use super::watchers::AllSignals;
use crate::judge::{AdoptionRefusal, JudgeSettings, RosterChange, Transition};
use crate::login::MonitorLogin;
use crate::termination::Sighting;
use trunkline_topology::{AdminState, ServerId, ServerSpec, Snapshot};

/// The verdicts, and a way to tell the monitor what was noticed elsewhere. Clones share; the last one ends the monitor.
#[derive(Clone, Debug)]
pub struct Health {
    shared: Arc<HealthTasks>,
}

#[derive(Debug)]
struct HealthTasks {
    published: Published,
    commands: mpsc::Sender<JudgeCommand>,
    login: watch::Sender<Arc<MonitorLogin>>,
    signals: AllSignals,
    /// The judge's, which owns those of the servers.
    task: Option<AbortHandle>,
}

/// What a session noticed about a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassiveFailure {
    /// A connection could not be made.
    ConnectFailed,
    /// An established connection ended.
    ServerLost,
    /// The server refused or ended it with this code.
    SqlState(SqlState),
}

impl Health {
    pub(super) fn new(
        published: Published,
        commands: mpsc::Sender<JudgeCommand>,
        login: watch::Sender<Arc<MonitorLogin>>,
        signals: AllSignals,
        task: Option<AbortHandle>,
    ) -> Self {
        Health { shared: Arc::new(HealthTasks { published, commands, login, signals, task }) }
    }

    /// The newest verdicts.
    #[must_use]
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.shared.published.snapshot.load()
    }

    /// The newest verdicts, to keep across an await.
    #[must_use]
    pub fn load_full(&self) -> Arc<Snapshot> {
        self.shared.published.snapshot.load_full()
    }

    /// The last changes of state, the newest first.
    #[must_use]
    pub fn transitions(&self) -> Vec<Transition> {
        self.shared.published.transitions()
    }

    /// A number that grows whenever a state, role or eligibility changes.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.shared.published.generation.subscribe()
    }

    /// Triggers a probe and a login of a server at once. It never takes the server out: the judge decides.
    pub fn suspect(&self, server: ServerId, failure: PassiveFailure) {
        if let Some(signals) = self.shared.signals.of(server) {
            tracing::debug!(target: "trunkline::health", ?failure, server.id = server.0, "server suspected");
            signals.probe.notify_one();
            signals.check.notify_one();
        }
    }

    /// Triggers a probe of a server at once, for its state and WAL position.
    pub fn ask_now(&self, server: ServerId) {
        if let Some(signals) = self.shared.signals.of(server) {
            signals.probe.notify_one();
        }
    }

    /// What a login that is begun after this call shows of a server that has ended a session. Sessions that ask at the
    /// same time share one. `None` when the monitor has ended.
    ///
    /// Bounded by twice `connect_timeout`, as a login may be under way that is no answer.
    pub fn sighting(&self, server: ServerId) -> impl Future<Output = Option<Sighting>> + use<> {
        let asked = self.shared.signals.of(server).map(inquiry::sighting);
        async move { asked?.await }
    }

    /// Tells what the operator wants of a server. It takes effect within moments.
    pub fn set_admin(&self, server: ServerId, admin: AdminState) {
        self.command(JudgeCommand::SetAdmin(server, admin));
    }

    /// New settings. What was set by [`Self::set_admin`] is over.
    pub fn reload(&self, settings: JudgeSettings) {
        self.command(JudgeCommand::Reload(Box::new(settings)));
    }

    /// The servers wanted from now on; at most [`crate::SERVERS_MAX`] with those that still leave. One that is there no
    /// longer takes no new sessions, and is told of in the snapshot until it is forgotten. A server is the same while its
    /// host and port are.
    ///
    /// `None` when the monitor has ended.
    pub async fn set_servers(&self, servers: Vec<ServerSpec>) -> Option<RosterChange> {
        let (answer, answered) = oneshot::channel();
        self.shared.commands.send(JudgeCommand::SetServers(servers, answer)).await.ok()?;
        answered.await.ok()
    }

    /// Forgets a server that leaves and has no sessions any more, and says whether it was there to be forgotten.
    pub async fn forget(&self, server: ServerId) -> bool {
        let (answer, answered) = oneshot::channel();
        let asked = self.shared.commands.send(JudgeCommand::Forget(server, answer)).await;
        asked.is_ok() && answered.await.unwrap_or(false)
    }

    /// Login of the monitoring role: user, password, database, options. Whoever keeps a connection compares the pointer: a new
    /// login is a new one.
    #[must_use]
    pub fn login(&self) -> Arc<MonitorLogin> {
        Arc::clone(&self.shared.login.borrow())
    }

    /// Puts another login in force: every server is logged in to again, at once.
    pub fn set_login(&self, login: MonitorLogin) {
        self.shared.login.send_if_modified(|current| {
            let is_new = **current != login;
            if is_new {
                *current = Arc::new(login);
                self.shared.signals.wake_all();
            }
            is_new
        });
    }

    /// Takes another cluster for the one to watch: the one to which every server that answers belongs.
    ///
    /// # Errors
    /// Why there is none, or not only one.
    pub async fn adopt(&self) -> Result<SystemIdentifier, AdoptionRefusal> {
        let (answer, answered) = oneshot::channel();
        self.command(JudgeCommand::Adopt(answer));
        answered.await.unwrap_or(Err(AdoptionRefusal::Unheard))
    }

    fn command(&self, command: JudgeCommand) {
        if self.shared.commands.try_send(command).is_err() {
            tracing::error!(target: "trunkline::health", "operator command dropped: the monitor's command queue is full");
        }
    }
}

impl Drop for HealthTasks {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
