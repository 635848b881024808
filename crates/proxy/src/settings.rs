//! The settings of the proxy, checked and typed.
//!
//! The binary makes them from its file, environment and flags; a test may make them directly. The defaults of the
//! keys are in the binary's table of keys alone: a `Default` here is all zero, and the table fills it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
pub use trunkline_auth::authenticator::ClientMethod;
pub use trunkline_auth::failures::FailureLimits;
pub use trunkline_auth::mock::MockNonce;
pub use trunkline_auth::secrets::SecretSource;
use trunkline_discovery::SourceSettings;
use trunkline_health::MonitorSettings;
pub use trunkline_pool::{PoolMode, PoolOverride, PoolSettings, ServerReuse};
use trunkline_routing::{Balance, Fallback, TargetSessionAttrs, ZonePreference};
pub use trunkline_session::{ReadYourWrites, RouteHint};
pub use trunkline_telemetry::statement_log::StatementLogSettings;
use trunkline_tls::accept::AcceptSettings;
use trunkline_topology::Address;

/// Everything [`crate::serve`] needs.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The servers, how they are probed and judged.
    pub health: MonitorSettings,
    /// Who else knows of servers.
    pub discovery: DiscoverySettings,
    /// What to do when no replica is eligible.
    pub fallback: FallbackSettings,
    /// What weighs servers besides their verdicts.
    pub spread: SpreadSettings,
    /// What happens to sessions on their servers.
    pub session: SessionPolicy,
    /// Addresses clients connect to; at least one.
    pub listeners: Vec<ListenerSettings>,
    /// Who authenticates clients, and against what.
    pub auth: AuthSettings,
    /// Bounds on clients.
    pub limits: LimitSettings,
    /// How long things may take.
    pub timeouts: TimeoutSettings,
    /// When a request is sent again.
    pub retry: RetrySettings,
    /// The server connections that clients share.
    pub pool: PoolSettings,
    /// Which statements are logged.
    pub statement_log: StatementLogSettings,
    /// Where HTTP is served: health contract, metrics, page.
    pub http: Option<SocketAddr>,
    /// Networks whose HTTP connections find a place when all others are taken.
    pub http_checkers: Vec<IpNet>,
    /// Where HAProxy's agent-check is answered.
    pub agent: Option<SocketAddr>,
    /// Where the admin socket is.
    pub admin: AdminPlace,
    /// Worker threads; 0 means one per core the process may use.
    pub threads: usize,
}

/// Who knows of servers besides the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiscoverySettings {
    /// The sources, in order.
    pub sources: Vec<SourceSettings>,
    /// Where the last good answer of each is kept; `None`: nowhere.
    pub state_dir: Option<PathBuf>,
}

/// Where the admin socket is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AdminPlace {
    /// Nowhere.
    #[default]
    Off,
    /// In this file; the proxy does not start without it.
    At(PathBuf),
    /// In the first of these files that can be had; the proxy starts without any, too.
    FirstOf(Vec<PathBuf>),
}

/// One address clients connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// Name in logs and metrics, such as `reads`.
    pub name: String,
    /// Where it listens.
    pub address: Address,
    /// How its sessions are treated.
    pub options: ListenerOptions,
}

/// How the sessions of a listener are treated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenerOptions {
    /// Which servers its sessions may have, in libpq's words.
    pub target_session_attrs: TargetSessionAttrs,
    /// What a server is chosen for.
    pub route: RouteBy,
    /// What becomes of a read while no standby shows what its session has written.
    pub read_your_writes: ReadYourWrites,
    /// How long one waits for that.
    pub read_your_writes_wait: Duration,
    /// How one of several servers is chosen.
    pub balance: Balance,
    /// Networks of the proxies in front: connections from there begin with a PROXY protocol header, all others
    /// must not.
    pub proxy_protocol_from: Vec<IpNet>,
    /// Whether the proxy adds the client's address to the `application_name` that servers get.
    pub application_name_add_host: AddHost,
    /// Whether requests of its sessions may be sent again to another server.
    pub retry: Retry,
    /// Who may connect to its Unix socket, as the mode of a file.
    pub unix_socket_permissions: u32,
    /// The TLS of its clients, unless it is a Unix socket.
    pub tls: AcceptSettings,
    /// For how long its clients have a server connection to themselves; `None`: as the pools' settings say.
    pub pool_mode: Option<PoolMode>,
}

/// What to do when no replica is eligible.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FallbackSettings {
    /// Where reads go.
    pub mode: Fallback,
    /// Sessions the primary takes as a fallback for standbys; 0 = as many as come.
    pub connections_max: u64,
}

/// What weighs servers besides their verdicts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpreadSettings {
    /// The proxy's own zone.
    pub zone: Option<String>,
    /// The share of the zone's weight, 0 to 1, below which sessions begin to leave it.
    pub zone_spill: f64,
    /// What becomes of a server that is slower than its peers.
    pub slow_servers: SlowServers,
}

impl SpreadSettings {
    /// The zones as routing prefers them.
    #[must_use]
    pub fn zones(&self) -> ZonePreference {
        // A share needs no exact bits.
        ZonePreference { own: self.zone.as_deref().map(Into::into), spill: self.zone_spill as f32 }
    }
}

/// What becomes of a server that is up, but slower than its peers in the same statements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowServers {
    /// It loses weight step by step, and gets it back when it is as fast again.
    #[default]
    Shift,
    /// Nothing.
    Off,
}

/// What happens to sessions on their servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionPolicy {
    /// What becomes of the sessions on a replica that lags.
    pub on_lagging: OnLagging,
    /// What a session's termination by an operator means.
    pub on_terminate: OnTerminate,
    /// How calls of user-defined functions are treated.
    pub functions: UserFunctions,
    /// Whether the begin of each session is logged at level info.
    pub logs_connections: bool,
    /// Whether the end of each session is logged at level info.
    pub logs_disconnections: bool,
    /// What is said of the reads of some users or databases, the first that fits.
    pub route_hints: Vec<RouteOverride>,
}

/// What is said of the reads of some users or databases, in the order of the pools' overrides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteOverride {
    /// The user; `None`: any.
    pub user: Option<String>,
    /// The database; `None`: any.
    pub database: Option<String>,
    /// Where they go, unless the session says something else.
    pub hint: Option<RouteHint>,
}

impl SessionPolicy {
    /// Where reads of this user and database go, unless the session says something else.
    #[must_use]
    pub fn route_hint_of(&self, user: &str, database: &str) -> Option<RouteHint> {
        let fits =
            |wanted: &Option<String>, name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
        let first = self.route_hints.iter().find(|it| fits(&it.user, user) && fits(&it.database, database));
        first.and_then(|it| it.hint)
    }
}

/// Whether the proxy adds the client's address to the `application_name` that servers get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddHost {
    /// Servers get the client's name unchanged.
    #[default]
    Off,
    /// Servers get the name followed by the address.
    On,
}

/// Whether a request whose answer has not begun may be sent again to another server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retry {
    /// If it only reads.
    #[default]
    On,
    /// Never.
    Off,
}

/// When a request is sent again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetrySettings {
    /// Bytes of a request kept for that; a longer one is not sent again.
    pub journal_max: usize,
}

/// What becomes of the sessions on a replica that is found to lag. New ones go elsewhere in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLagging {
    /// They move to another server at their next idle point; those that cannot move stay.
    #[default]
    Move,
    /// The same, but those that cannot move are ended at their next idle point.
    Drain,
    /// They stay.
    Keep,
}

/// What `pg_terminate_backend` of a session's server connection means for the session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnTerminate {
    /// The session ends, as in PostgreSQL. A new login distinguishes this from a server that shuts down.
    #[default]
    End,
    /// The session is treated as on any loss of its server.
    Move,
}

/// What of a listener's sessions a server is chosen for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RouteBy {
    /// All that a session does goes to servers of its listener's kind.
    #[default]
    Session,
    /// A request that only reads goes to a standby, all else to the primary.
    Statement,
}

/// How calls of user-defined functions are treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UserFunctions {
    /// The proxy reads their source to find those that change the state of the session.
    #[default]
    Read,
    /// They are assumed to leave the session's state unchanged.
    Trust,
    /// Each is assumed to change the session's state, and pins it.
    Pin,
}

/// Who authenticates clients.
#[derive(Clone, Debug, Default)]
pub struct AuthSettings {
    /// By whom.
    pub mode: AuthMode,
    /// Where secrets come from in [`AuthMode::Verify`] and [`AuthMode::Auto`].
    pub source: SecretSource,
    /// The authentication method for clients in [`AuthMode::Verify`].
    pub client_method: ClientMethod,
    /// How long a cached secret is used while it cannot be read again.
    pub cache_ttl: Duration,
    /// Program and arguments that print a user's password for the servers; the user's name is one argument more.
    pub password_command: Option<Vec<String>>,
    /// What the salts of users who cannot log in are made from; `None`: from the cluster's system identifier.
    pub mock_nonce: Option<MockNonce>,
    /// How many failures close the door to a client.
    pub failures: FailureLimits,
    /// `pg_hba.conf`: which client is authenticated how, in place of [`Self::mode`].
    pub hba_file: Option<String>,
    /// `pg_ident.conf`: the maps that its rules name.
    pub ident_file: Option<String>,
    /// User name of HAProxy's `option pgsql-check`: answered by the proxy itself, never passed to a server.
    pub check_user: Option<String>,
}

impl Settings {
    /// Whether some session may share a server connection with another.
    #[must_use]
    pub fn is_pooling(&self) -> bool {
        is_pooling(&self.pool, self.listeners.iter().map(|listener| listener.options.pool_mode))
    }
}

/// Whether some session of listeners with these modes may share a server connection with another: in transaction mode, or
/// because connections are used again.
pub(crate) fn is_pooling(pool: &PoolSettings, listeners: impl Iterator<Item = Option<PoolMode>>) -> bool {
    let overrides = pool.overrides.iter().map(|over| over.mode);
    let mut modes = listeners.chain(overrides).chain([Some(pool.mode)]);
    pool.server_reuse == ServerReuse::On || modes.any(|mode| mode == Some(PoolMode::Transaction))
}

impl AuthSettings {
    /// Whether stored secrets are read: by the mode, or perhaps by a rule of the `hba_file`.
    #[must_use]
    pub fn may_read_secrets(&self) -> bool {
        matches!(self.mode, AuthMode::Verify | AuthMode::Auto) || self.hba_file.is_some()
    }
}

/// By whom clients are authenticated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthMode {
    /// The exchange of the chosen server is passed through; this needs no configuration.
    #[default]
    Relay,
    /// The proxy verifies the client, and can then log the session in on any server.
    Verify,
    /// The proxy asks clients on TLS or a Unix socket for their password, and a server verifies it; the session can then be
    /// logged in on any server. Others as by [`AuthMode::Relay`].
    Login,
    /// One of those: what the servers let the proxy do.
    Auto,
}

/// Bounds on clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitSettings {
    /// Sessions in all.
    pub connections_max: usize,
    /// Sessions from one client address; 0 = no bound of its own.
    pub connections_per_address_max: usize,
    /// Connections that have not sent their startup packet; the oldest is closed for one more.
    pub startups_max: usize,
    /// Sessions of one user; 0 = no bound of its own.
    pub connections_per_user_max: usize,
    /// Sessions that leave one server in a second though it still serves them; 0 = as many as want to.
    pub moves_per_second_max: u32,
    /// Bytes of a startup packet, its length word included.
    pub startup_packet_bytes_max: usize,
}

/// How long things may take. Zero switches a limit off where that is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimeoutSettings {
    /// From accept to the end of the login.
    pub login: Duration,
    /// To connect to one server.
    pub connect: Duration,
    /// To find and take any server.
    pub acquire: Duration,
    /// The same for sessions that need the primary, if that is longer: how long a failover may take.
    pub failover_wait: Duration,
    /// A session idle outside a transaction; zero = no limit.
    pub idle_session: Duration,
    /// A session idle inside a transaction; zero = no limit.
    pub idle_in_transaction: Duration,
    /// To end sessions at their idle points after SIGTERM.
    pub drain: Duration,
    /// How long a server that health has found down may be silent to a busy session before the session gives it
    /// up.
    pub server_stall: Duration,
}

impl TimeoutSettings {
    /// How long a session with these attributes waits for a server.
    pub(crate) fn wait_for_server(&self, attrs: TargetSessionAttrs) -> Duration {
        if attrs.is_primary_only() { self.acquire.max(self.failover_wait) } else { self.acquire }
    }
}
