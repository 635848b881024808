//! What all threads share, and the settings in force.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use trunkline_health::Health;
use trunkline_routing::{Attached, Rules, TargetSessionAttrs};
use trunkline_tls::fleet::FleetTls;

use super::auth_choice::AuthChoice;
use super::fills::FillLogins;
use super::handle::WorkerHandle;
use super::listeners::BoundListener;
use crate::access::Access;
use crate::admission::Admission;
use crate::cancel::CancelRegistry;
use crate::defaults::Defaults;
use crate::encryption::EncryptionLog;
use crate::functions::FunctionStore;
use crate::learned::LearnedRequests;
use crate::moves::MoveRate;
use crate::pool::SharedPools;
use crate::settings::{
    AuthSettings, FallbackSettings, LimitSettings, PoolSettings, RetrySettings, RouteBy, SessionPolicy,
    Settings, SpreadSettings, StatementLogSettings, TimeoutSettings, is_pooling,
};
use crate::snapshots::ExportedSnapshots;
use crate::speeds::Speeds;
use trunkline_auth::failures::FailureGuard;
use trunkline_auth::mock::MockSecret;
use trunkline_auth::secrets::SecretStore;
use trunkline_auth::session_passwords::SessionPasswords;
use trunkline_telemetry::metrics::{Metrics, PoolsNow};
use trunkline_telemetry::sessions::SessionsQuery;
use trunkline_telemetry::statement_log::StatementLog;

/// What all threads share. Relaying a query touches nothing of it except counters.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) health: Health,
    pub(crate) defaults: Defaults,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) failures: FailureGuard,
    pub(crate) cancels: Arc<CancelRegistry>,
    pub(crate) snapshots: Arc<ExportedSnapshots>,
    pub(crate) attached: Arc<Attached>,
    pub(crate) speeds: Speeds,
    /// What standbys have refused.
    pub(crate) learned: LearnedRequests,
    /// What standbys have run, for the sessions that read the same by it.
    pub(crate) run_on_standbys: LearnedRequests,
    pub(crate) pace: MoveRate,
    pub(crate) encryption: EncryptionLog,
    pub(crate) pools: Arc<SharedPools>,
    /// How connections are opened ahead of clients.
    pub(crate) fills: FillLogins,
    /// Those that take new sessions.
    pub(crate) listeners: ArcSwap<Vec<Arc<BoundListener>>>,
    pub(crate) statement_log: StatementLog,
    pub(crate) workers: Vec<WorkerHandle>,
    pub(crate) live: ArcSwap<Live>,
    pub(crate) is_draining: AtomicBool,
}

/// The settings that can change while sessions live.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub(crate) limits: LimitSettings,
    pub(crate) timeouts: TimeoutSettings,
    pub(crate) retry: RetrySettings,
    /// The server connections that clients share. A session's own mode is [`PoolSettings::mode_of`] with its listener's.
    pub(crate) pool: PoolSettings,
    pub(crate) statement_log: StatementLogSettings,
    pub(crate) auth: AuthSettings,
    /// Who authenticates clients by these, as soon as it is known.
    pub(crate) auth_choice: AuthChoice,
    pub(crate) fallback: FallbackSettings,
    pub(crate) spread: SpreadSettings,
    pub(crate) session: SessionPolicy,
    /// How long the login may take that distinguishes a server's shutdown from pg_terminate_backend.
    pub(crate) connect_timeout_of_health: Duration,
    pub(crate) stores: LiveStores,
}

/// What sessions look up, opened by the settings in force.
#[derive(Clone, Debug)]
pub(crate) struct LiveStores {
    /// The TLS of servers.
    pub(crate) server_tls: FleetTls,
    /// The rules for clients; `None` where `[auth] mode` is the same for all.
    pub(crate) access: Option<Arc<Access>>,
    /// The stored secrets, if the proxy authenticates clients.
    pub(crate) secrets: Option<SecretStore>,
    /// Passwords of users for the servers, if a command prints them.
    pub(crate) session_passwords: Option<SessionPasswords>,
    pub(crate) functions: Arc<FunctionStore>,
    /// The secret that mock verifiers of unknown users are derived from: each user keeps the same one.
    pub(crate) mock: Arc<MockSecret>,
}

/// Whether workers accept and keep sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunPhase {
    Running,
    /// Sessions end at their idle points, and at the deadline wherever they are.
    Draining {
        deadline: Instant,
    },
    Stopped,
}

impl Shared {
    pub(crate) fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// The channels by which each worker is asked for its sessions.
    pub(crate) fn questions(&self) -> impl Iterator<Item = &mpsc::Sender<SessionsQuery>> {
        self.workers.iter().map(|worker| &worker.questions)
    }

    /// The secret for the mock verifiers of users who cannot log in.
    pub(crate) fn mock_secret(&self) -> [u8; 32] {
        self.live().stores.mock.bytes(|| {
            let snapshot = self.health.load();
            let servers = snapshot.servers.iter().filter(|server| server.state.is_fit());
            snapshot.serving_primary().into_iter().chain(servers).find_map(|server| server.system_identifier)
        })
    }

    /// The pools as they are now; `None` while no session may share a server connection.
    pub(crate) fn pools(&self) -> Option<PoolsNow> {
        let listeners = self.listeners.load();
        let modes = listeners.iter().map(|listener| listener.settings.options.pool_mode);
        is_pooling(&self.live().pool, modes).then(|| self.pools.now(&self.health.load()))
    }

    /// How many requests are known to be the primary's; `None` while no listener chooses a server for each.
    pub(crate) fn learned_now(&self) -> Option<u64> {
        let listeners = self.listeners.load();
        let mut routes = listeners.iter().map(|listener| listener.settings.options.route);
        routes.any(|route| route == RouteBy::Statement).then(|| self.learned.count(Instant::now()))
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Relaxed)
    }
}

/// Logs that a session begins or ends: at level info if the operator wants that, else at level debug.
macro_rules! log_connection {
    ($is_wanted:expr, $($event:tt)+) => {
        if $is_wanted { tracing::info!($($event)+) } else { tracing::debug!($($event)+) }
    };
}
pub(crate) use log_connection;

impl Live {
    /// The routing rules for all sessions; the listener and the session add their own.
    pub(crate) fn rules(&self) -> Rules {
        Rules {
            attrs: TargetSessionAttrs::Any,
            fallback: self.fallback.mode,
            standing_in_max: self.fallback.connections_max,
            only: None,
        }
    }

    pub(crate) fn of(settings: &Settings, stores: LiveStores, auth_choice: AuthChoice) -> Self {
        Live {
            limits: settings.limits.clone(),
            timeouts: settings.timeouts.clone(),
            retry: settings.retry.clone(),
            pool: settings.pool.clone(),
            statement_log: settings.statement_log.clone(),
            auth: settings.auth.clone(),
            auth_choice,
            fallback: settings.fallback.clone(),
            spread: settings.spread.clone(),
            session: settings.session.clone(),
            connect_timeout_of_health: settings.health.judge.connect_timeout,
            stores,
        }
    }
}
