//! The configuration as written: every value with its source.

use std::net::SocketAddr;
use std::time::Duration;

use trunkline_proxy::settings::{LimitSettings, RetrySettings, StatementLogSettings, TimeoutSettings};

use super::Source;

/// A value and where it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub source: Source,
}

impl<T> Sourced<T> {
    /// Replaces the value: a later source wins.
    pub fn put(&mut self, value: T, source: &Source) {
        *self = Sourced { value, source: source.clone() };
    }
}

/// A closed set of words a key may have.
pub trait Word: Copy + Default + PartialEq + 'static {
    /// The words and what they stand for.
    const WORDS: &'static [(&'static str, Self)];

    /// The value a word stands for.
    #[must_use]
    fn parse(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word.trim())).map(|(_, value)| *value)
    }
}

/// Declares an enum whose variants have a word in the configuration.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }
        impl Word for $name {
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, $name::$variant)),+];
        }
    };
}

words!(
    /// Which role a server is expected to have.
    RoleWord {
        /// Whatever it reports.
        #[default] Any = "any",
        /// Not in recovery.
        Primary = "primary",
        /// In recovery.
        Replica = "replica",
    }
);
words!(
    /// Something that is done or not.
    Switch {
        /// It is not.
        #[default] Off = "off",
        /// It is.
        On = "on",
    }
);
words!(
    /// What the operator wants of a server.
    StateWord {
        /// It may serve.
        #[default] Ready = "ready",
        /// It finishes what it has and gets nothing new.
        Drain = "drain",
        /// It is not used and not probed.
        Maint = "maint",
    }
);
words!(
    /// libpq's target_session_attrs.
    SessionAttrsWord {
        /// Any server.
        Any = "any",
        /// One that accepts writes.
        ReadWrite = "read-write",
        /// One that does not.
        ReadOnly = "read-only",
        /// The primary.
        Primary = "primary",
        /// A standby.
        Standby = "standby",
        /// A standby, or what the fallback says.
        #[default] PreferStandby = "prefer-standby",
    }
);
words!(
    /// How one of several eligible servers is chosen.
    BalanceWord {
        /// In turn.
        #[default] RoundRobin = "round-robin",
        /// The fewest sessions for its weight.
        LeastOutstanding = "least-outstanding",
        /// The better of two drawn at random.
        RandomTwo = "random-two",
    }
);
words!(
    /// Whether the server or the proxy authenticates clients.
    AuthModeWord {
        /// By the server.
        #[default] Relay = "relay",
        /// By the proxy.
        Verify = "verify",
    }
);
words!(
    /// How a client proves itself in verify mode.
    ClientMethodWord {
        /// By the kind of the stored secret.
        #[default] Auto = "auto",
        /// Cleartext password.
        Password = "password",
        /// No proof.
        Trust = "trust",
    }
);
words!(
    /// What to do when no replica is eligible.
    FallbackWord {
        /// Refuse.
        None = "none",
        /// Use the primary.
        #[default] Primary = "primary",
        /// Use lagging replicas.
        Lagging = "lagging",
        /// Lagging replicas, then the primary.
        LaggingThenPrimary = "lagging_then_primary",
    }
);
words!(
    /// What becomes of the sessions on a replica that lags.
    OnLaggingWord {
        /// They move; those that cannot stay.
        #[default] Move = "move",
        /// They move; those that cannot end.
        Drain = "drain",
        /// They stay.
        Keep = "keep",
    }
);
words!(
    /// What an operator's `pg_terminate_backend` does to a session.
    OnTerminateWord {
        /// It ends.
        #[default] End = "end",
        /// It moves to another server.
        Move = "move",
    }
);
words!(
    /// How calls of user-defined functions are treated.
    FunctionsWord {
        /// What their source shows.
        #[default] Read = "read",
        /// That they leave nothing behind in a session.
        Trust = "trust",
        /// That they leave something behind.
        Pin = "pin",
    }
);
words!(
    /// How log lines are written.
    LogFormat {
        /// For people.
        #[default] Text = "text",
        /// For machines: one JSON object a line.
        Json = "json",
    }
);

/// One `[[server]]`.
#[derive(Clone, Debug, Default)]
pub struct ServerEntry {
    /// Where the entry begins.
    pub source: Source,
    /// Its name in logs, metrics and checks.
    pub name: Sourced<Option<String>>,
    /// `host:port`.
    pub address: Sourced<Option<String>>,
    /// Expected role.
    pub role: Sourced<RoleWord>,
    /// Share of the sessions, compared with the others'.
    pub weight: Sourced<u64>,
    /// What the operator wants of it.
    pub state: Sourced<StateWord>,
}

/// One `[[listener]]`.
#[derive(Clone, Debug, Default)]
pub struct ListenerEntry {
    /// Where the entry begins.
    pub source: Source,
    /// Its name in logs and metrics.
    pub name: Sourced<Option<String>>,
    /// Where it listens.
    pub address: Sourced<Option<SocketAddr>>,
    /// Which servers its sessions may have.
    pub target_session_attrs: Sourced<SessionAttrsWord>,
    /// How one of several is chosen.
    pub balance: Sourced<BalanceWord>,
    /// Networks that speak the PROXY protocol, separated by commas.
    pub proxy_protocol_from: Sourced<Option<String>>,
    /// Whether the client's address is added to application_name.
    pub application_name_add_host: Sourced<Switch>,
    /// Whether requests may be sent again.
    pub retry: Sourced<Switch>,
}

/// Every section, as written.
#[derive(Clone, Debug, Default)]
pub struct RawConfig {
    /// `[[server]]`, in order.
    pub servers: Vec<ServerEntry>,
    /// `[[listener]]`, in order.
    pub listeners: Vec<ListenerEntry>,
    /// `[monitor]`.
    pub monitor: MonitorSection,
    /// `[auth]`.
    pub auth: AuthSection,
    /// `[health]` and `[health.fallback]`.
    pub health: HealthSection,
    /// `[http] listen`.
    pub http_listen: Sourced<Option<SocketAddr>>,
    /// `[http] checkers`: networks, separated by commas.
    pub http_checkers: Sourced<Option<String>>,
    /// `[admin] socket`.
    pub admin_socket: Sourced<Option<String>>,
    /// `[agent] listen`.
    pub agent_listen: Sourced<Option<SocketAddr>>,
    /// `[limits]`.
    pub limits: LimitSettings,
    /// `[limits] startup_packet_bytes_max`, which has bounds.
    pub startup_packet_bytes_max: Sourced<u64>,
    /// `[timeouts]`.
    pub timeouts: TimeoutSettings,
    /// `[retry]`.
    pub retry: RetrySettings,
    /// `[session]`.
    pub session: SessionSection,
    /// `[log]`.
    pub log: LogSection,
    /// `[log.statements]`.
    pub statement_log: StatementLogSettings,
    /// `[runtime] threads`.
    pub threads: Sourced<u64>,
}

/// `[monitor]`: how the probes log in.
#[derive(Clone, Debug, Default)]
pub struct MonitorSection {
    /// libpq key/value string or URI.
    pub conninfo: Sourced<Option<String>>,
    /// Role name.
    pub user: Sourced<Option<String>>,
    /// Its password.
    pub password: Sourced<Option<String>>,
    /// Database connected to.
    pub dbname: Sourced<Option<String>>,
}

/// `[auth]`.
#[derive(Clone, Debug, Default)]
pub struct AuthSection {
    /// Whether the server or the proxy authenticates clients.
    pub mode: Sourced<AuthModeWord>,
    /// Query for a user's secret.
    pub query: Sourced<Option<String>>,
    /// File of users and secrets.
    pub users_file: Sourced<Option<String>>,
    /// How long a looked-up secret is cached.
    pub cache_ttl: Sourced<Duration>,
    /// How a client proves itself.
    pub client_method: Sourced<ClientMethodWord>,
    /// What the salts of users who cannot log in are made from.
    pub mock_nonce: Sourced<Option<String>>,
    /// User of HAProxy's pgsql-check.
    pub check_user: Sourced<Option<String>>,
}

/// `[health]`.
#[derive(Clone, Debug, Default)]
pub struct HealthSection {
    /// Time between probes of one server.
    pub tick: Sourced<Duration>,
    /// For one probe.
    pub probe_timeout: Sourced<Duration>,
    /// To open a probe's connection.
    pub connect_timeout: Sourced<Duration>,
    /// Between fresh connections.
    pub connect_check_interval: Sourced<Duration>,
    /// Soft failures until DOWN.
    pub fall: Sourced<u64>,
    /// Good probes until UP.
    pub rise: Sourced<u64>,
    /// Between probes after a soft failure.
    pub fast_interval: Sourced<Duration>,
    /// Proven lag above which a replica leaves.
    pub max_lag: Sourced<Duration>,
    /// Estimated lag below which it comes back; zero = half of max_lag.
    pub readmit_lag: Sourced<Duration>,
    /// Lag beyond which a replica is no fallback either; zero = 30 s, at least max_lag.
    pub hard_max_lag: Sourced<Duration>,
    /// What becomes of the sessions on a replica that lags.
    pub on_lagging: Sourced<OnLaggingWord>,
    /// What replicas do while the primary does not answer: `serve`, `drain`, `serve_for:60s`.
    pub primary_unknown: Sourced<Option<String>>,
    /// Longest hold on a replica that fails again and again; zero = none.
    pub damping_max: Sourced<Duration>,
    /// Share of the weight grows over this time after DOWN.
    pub slow_start: Sourced<Duration>,
    /// How long another cluster must have taken this one's place before it is adopted; zero = only when asked.
    pub adopt_after: Sourced<Duration>,
    /// Old timeline tolerated after a failover.
    pub failover_grace: Sourced<Duration>,
    /// When no replica is eligible.
    pub fallback_mode: Sourced<FallbackWord>,
    /// Sessions the primary takes in their place; zero = as many as come.
    pub fallback_connections_max: Sourced<u64>,
}

/// `[session]`.
#[derive(Clone, Debug, Default)]
pub struct SessionSection {
    /// What an operator's `pg_terminate_backend` does.
    pub on_terminate: Sourced<OnTerminateWord>,
    /// How calls of user-defined functions are treated.
    pub functions: Sourced<FunctionsWord>,
}

/// `[log]`.
#[derive(Clone, Debug, Default)]
pub struct LogSection {
    /// Text or JSON.
    pub format: Sourced<LogFormat>,
    /// tracing-subscriber's filter.
    pub level: Sourced<Option<String>>,
}
