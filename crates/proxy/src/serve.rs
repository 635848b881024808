//! Starts the proxy, and the handle by which the caller controls it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use trunkline_control::reload::Reloads;
use trunkline_discovery::{Discovery, Surroundings};
use trunkline_health::{Health, Monitor};
use trunkline_topology::Address;

use crate::access::Access;
use crate::aside::Aside;
use crate::certificates;
use crate::context::{
    AuthChoice, FillLogins, Inbox, Live, LiveStores, RunPhase, SettledAuth, Shared, WorkerHandle,
};
use crate::defaults::Defaults;
use crate::encryption::EncryptionLog;
use crate::failure::StartError;
use crate::fleet::{self, FleetHandle};
use crate::functions::FunctionStore;
use crate::learned::LearnedRequests;
use crate::listening::ListeningPoints;
use crate::moves::MoveRate;
use crate::pool::SharedPools;
use crate::settings::{AuthMode, DiscoverySettings, Settings};
use crate::slow;
use crate::speeds::Speeds;
use crate::worker;
use trunkline_auth::failures::FailureGuard;
use trunkline_auth::mock::MockSecret;
use trunkline_auth::secrets::{SecretSettings, SecretStore};
use trunkline_auth::session_passwords::SessionPasswords;
use trunkline_routing::Attached;
use trunkline_telemetry::metrics::Metrics;
use trunkline_telemetry::sessions::{self, SessionFilter};
use trunkline_telemetry::statement_log::StatementLog;

/// A running proxy. Dropping it stops it at once.
#[derive(Debug)]
pub struct Running {
    pub(crate) shared: Arc<Shared>,
    /// The settings at the start: those that cannot change live stay in force.
    pub(crate) started_with: Settings,
    pub(crate) phase: watch::Sender<RunPhase>,
    threads: Vec<JoinHandle<()>>,
    pub(crate) listening: ListeningPoints,
    pub(crate) aside: Aside,
    pub(crate) bound: Bound,
    pub(crate) discovery: Discovery,
    pub(crate) fleet: FleetHandle,
    /// Look at the files of certificates, and change the set of servers; they end with this.
    _tasks: JoinSet<()>,
}

/// Where a proxy listens: the ports asked for, or those the kernel chose for port 0.
#[derive(Clone, Debug)]
pub struct Bound {
    /// In the listeners' order.
    pub listeners: Vec<Address>,
    /// The HTTP server.
    pub http: Option<SocketAddr>,
    /// The agent-check server.
    pub agent: Option<SocketAddr>,
}

impl Bound {
    /// Every address.
    pub(crate) fn all(&self) -> Vec<Address> {
        let others = self.http.into_iter().chain(self.agent).map(Address::from);
        self.listeners.iter().cloned().chain(others).collect()
    }
}

/// Starts health, workers, HTTP and agent on the calling runtime and threads of their own. `reloads` takes the requests for a
/// reload that come over the admin socket.
///
/// # Errors
/// When an address is taken, a thread cannot be started or the users file cannot be read.
pub async fn serve(settings: Settings, reloads: Option<Reloads>) -> Result<Running, StartError> {
    let threads = threads(&settings);
    let mut listening = ListeningPoints::default();
    let listeners = listening.prepare(&settings.listeners, threads)?;
    let (speeds, speed_samples) = Speeds::new();
    let (shared, inboxes) = share(&settings, threads, speeds)?;
    let around = Surroundings { health: Some(shared.health.clone()) };
    let DiscoverySettings { sources, state_dir } = settings.discovery.clone();
    let discovery = Discovery::start(sources, state_dir, around, &Handle::current());
    if shared.live().stores.server_tls.each().next().is_some() || listeners.have_tls() {
        // Before `/readyz` can be asked.
        trunkline_tls::warm_up();
    }
    let (fleet, fleet_orders) = FleetHandle::new();
    let mut aside = Aside::new(reloads, fleet.edits.clone());
    let servers_aside = aside.prepare(&settings)?;
    aside.commit(servers_aside, &shared);
    let (phase, _) = watch::channel(RunPhase::Running);
    let mut handles = Vec::with_capacity(threads);
    let (done, _nobody_waits) = mpsc::channel(1);
    let changes = listening.commit(listeners, &shared, &done);
    for ((index, inbox), change) in inboxes.into_iter().enumerate().zip(changes) {
        let (shared, opened) = (Arc::clone(&shared), change.opened);
        let thread = worker::spawn(index, shared, opened, inbox, phase.subscribe(), Handle::current())
            .map_err(|source| StartError::Thread { what: "a worker", source })?;
        handles.push(thread);
    }
    let bound = Bound { listeners: listening.bound(), http: aside.http(), agent: aside.agent() };
    let mut tasks = JoinSet::new();
    tasks.spawn(certificates::watch(Arc::downgrade(&shared)));
    tasks.spawn(slow::watch(Arc::downgrade(&shared), speed_samples));
    let configured = settings.health.servers.clone();
    tasks.spawn(fleet::run(Arc::clone(&shared), fleet_orders, configured, discovery.found()));
    Ok(Running {
        shared,
        started_with: settings,
        phase,
        threads: handles,
        listening,
        aside,
        bound,
        discovery,
        fleet,
        _tasks: tasks,
    })
}

/// As many as asked for, or one per core that the process may use.
fn threads(settings: &Settings) -> usize {
    if settings.threads > 0 {
        return settings.threads;
    }
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn share(
    settings: &Settings,
    threads: usize,
    speeds: Speeds,
) -> Result<(Arc<Shared>, Vec<Inbox>), StartError> {
    let attached = Attached::new();
    attached.prefer(settings.spread.zones());
    let (workers, inboxes): (Vec<WorkerHandle>, _) = (0..threads).map(|_| WorkerHandle::new()).unzip();
    let mailboxes = workers.iter().map(|worker| worker.pool_mail.clone()).collect();
    let pools = SharedPools::new(settings.pool.clone(), mailboxes);
    let health = Monitor::start(settings.health.clone(), &Handle::current());
    let mock = MockSecret::new(settings.auth.mock_nonce.as_ref()).map_err(StartError::Random)?;
    let access = Access::load(&settings.auth, &settings.listeners)?.map(Arc::new);
    let secrets = match reads_secrets(settings, access.as_deref()) {
        true => Some(start_secrets(settings, &health)?),
        false => None,
    };
    let auth_choice = AuthChoice::start(settings, secrets.as_ref(), &Handle::current());
    let functions = FunctionStore::new(settings.session.functions, health.clone(), Handle::current());
    let server_tls = settings.health.login.tls.clone();
    let session_passwords = session_passwords_of(settings.auth.password_command.clone());
    let stores = LiveStores {
        server_tls,
        access,
        secrets,
        session_passwords,
        functions: Arc::new(functions),
        mock: Arc::new(mock),
    };
    let statement_log =
        StatementLog::start().map_err(|source| StartError::Thread { what: "the statement log", source })?;
    let defaults = Defaults::start(&health, &Handle::current());
    let shared = Shared {
        learned: LearnedRequests::new(Instant::now()),
        run_on_standbys: LearnedRequests::new(Instant::now()),
        health,
        defaults,
        metrics: Arc::new(Metrics::new(threads)),
        admission: Arc::default(),
        failures: FailureGuard::default(),
        cancels: Arc::default(),
        snapshots: Arc::default(),
        attached,
        speeds,
        pace: MoveRate::new(),
        encryption: EncryptionLog::default(),
        pools,
        fills: FillLogins::default(),
        listeners: ArcSwap::default(),
        statement_log,
        workers,
        live: ArcSwap::from_pointee(Live::of(settings, stores, auth_choice)),
        is_draining: AtomicBool::new(false),
    };
    let shared = Arc::new(shared);
    let owner = Arc::downgrade(&shared);
    shared.metrics.pools().read_by(move || owner.upgrade()?.pools());
    let owner = Arc::downgrade(&shared);
    shared.metrics.learned().counted_by(move || owner.upgrade()?.learned_now());
    Ok((shared, inboxes))
}

/// Whether logins need stored secrets.
pub(crate) fn reads_secrets(settings: &Settings, access: Option<&Access>) -> bool {
    match (access, settings.auth.mode) {
        (Some(access), _) => access.needs_secrets(),
        (None, AuthMode::Relay | AuthMode::Login) => false,
        (None, AuthMode::Verify | AuthMode::Auto) => true,
    }
}

fn start_secrets(settings: &Settings, health: &Health) -> Result<SecretStore, StartError> {
    let secrets = SecretSettings { source: settings.auth.source.clone(), cache_ttl: settings.auth.cache_ttl };
    SecretStore::start(secrets, health.clone(), &Handle::current()).map_err(StartError::Secrets)
}

/// Whether the proxy works, for who watches over its process.
#[derive(Clone, Debug)]
pub struct Pulse(Arc<Shared>);

impl Pulse {
    /// Worker threads that do not answer in time.
    pub async fn workers_silent(&self) -> usize {
        sessions::ask(self.0.questions(), SessionFilter::None).await.unheard()
    }

    /// Whether sessions are ending because the process is to end.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.is_draining()
    }

    /// Sessions past their startup packet.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.0.admission.sessions()
    }
}

impl Running {
    /// The admin socket's file.
    #[must_use]
    pub fn admin(&self) -> Option<&Path> {
        self.aside.admin()
    }

    /// Looks at the files of certificates now.
    pub fn look_at_certificates(&self) {
        certificates::look(&self.shared);
    }

    /// How it goes, also while it drains.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        Pulse(Arc::clone(&self.shared))
    }

    /// Where it listens.
    #[must_use]
    pub fn bound(&self) -> &Bound {
        &self.bound
    }

    /// The verdicts on the servers, as sessions see them.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.shared.health
    }

    /// The counters.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    /// Sessions past their startup packet.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.shared.admission.sessions()
    }

    /// Who authenticates clients, by the settings in force; `None` while no server has answered `auto`, which logs it then.
    #[must_use]
    pub fn settled_auth(&self) -> Option<SettledAuth> {
        self.shared.live().auth_choice.now()
    }

    /// How long a drain may take, by the settings in force.
    #[must_use]
    pub fn drain_timeout(&self) -> Duration {
        self.shared.live().timeouts.drain
    }

    /// Accepts no new connections, ends sessions at their idle points and the rest after `within`; returns when
    /// the last has ended.
    pub async fn drain(self, within: Duration) {
        self.shared.is_draining.store(true, Relaxed);
        let deadline = Instant::now() + within;
        self.phase.send_replace(RunPhase::Draining { deadline });
        self.join().await;
    }

    /// Ends everything at once.
    pub async fn stop(self) {
        self.shared.is_draining.store(true, Relaxed);
        self.phase.send_replace(RunPhase::Stopped);
        self.join().await;
    }

    async fn join(mut self) {
        let threads = std::mem::take(&mut self.threads);
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().filter_map(|thread| thread.join().err()).count()
        });
        match joined.await {
            Ok(0) => {}
            Ok(panicked) => tracing::error!(panicked, "worker threads ended in a panic"),
            Err(error) => tracing::error!(%error, "could not wait for the worker threads"),
        }
        self.aside.shutdown().await;
    }
}

/// Passwords of users for the servers, if a `command` prints them.
pub(crate) fn session_passwords_of(command: Option<Vec<String>>) -> Option<SessionPasswords> {
    command.map(|command| SessionPasswords::new(command, Handle::current()))
}
