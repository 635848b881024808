//! The words of the configuration for values of a closed set.

use trunkline_discovery::dns::DnsFamily;
use trunkline_health::LagUnknown;
use trunkline_pool::PoolMode;
use trunkline_proxy::settings::{
    AuthMode, ClientMethod, OnLagging, OnTerminate, ReadYourWrites, RouteBy, RouteHint, SlowServers,
    UserFunctions,
};
use trunkline_routing::{Balance, Fallback, TargetSessionAttrs};
use trunkline_tls::TlsVersion;
use trunkline_tls::accept::ClientSslMode;
use trunkline_tls::connect::{Negotiation, ServerSslMode};
use trunkline_topology::{AdminState, Dialect, ExpectedRole};

use super::raw::SourceWord;

/// A closed set of values, each with its word.
pub trait Word: Copy + 'static {
    /// The words and the values they stand for.
    const WORDS: &'static [(&'static str, Self)];

    /// The word of the value.
    #[must_use]
    fn word(self) -> &'static str;

    /// The value of a word.
    #[must_use]
    fn parse(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word.trim())).map(|(_, value)| *value)
    }
}

/// Gives each variant its word; the compiler finds a variant without one.
macro_rules! words {
    ($($name:ident { $($variant:ident = $word:literal),+ $(,)? })+) => {
        $(impl Word for $name {
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, $name::$variant)),+];

            fn word(self) -> &'static str {
                match self {
                    $($name::$variant => $word),+
                }
            }
        })+
    };
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines: one JSON object per line.
    Json,
}

words! {
    ClientSslMode {
        Disable = "disable",
        Allow = "allow",
        Prefer = "prefer",
        Require = "require",
        VerifyCa = "verify-ca",
        VerifyFull = "verify-full",
    }
    ServerSslMode {
        Disable = "disable",
        Allow = "allow",
        Prefer = "prefer",
        Require = "require",
        VerifyCa = "verify-ca",
        VerifyFull = "verify-full",
    }
    Negotiation { Postgres = "postgres", Direct = "direct" }
    TlsVersion { V12 = "TLSv1.2", V13 = "TLSv1.3" }
    LogFormat { Text = "text", Json = "json" }
    ExpectedRole { Any = "any", Primary = "primary", Replica = "replica" }
    Dialect {
        Auto = "auto",
        Postgres = "postgres",
        Aurora = "aurora",
        RdsCluster = "rds-cluster",
        Custom = "custom",
    }
    LagUnknown { Drain = "drain", Serve = "serve" }
    AdminState { Ready = "ready", Drain = "drain", Maint = "maint" }
    TargetSessionAttrs {
        Any = "any",
        ReadWrite = "read-write",
        ReadOnly = "read-only",
        Primary = "primary",
        Standby = "standby",
        PreferStandby = "prefer-standby",
    }
    Balance { RoundRobin = "round-robin", LeastOutstanding = "least-outstanding", RandomTwo = "random-two" }
    AuthMode { Auto = "auto", Verify = "verify", Login = "login", Relay = "relay" }
    ClientMethod { Auto = "auto", ScramSha256 = "scram-sha-256", Password = "password", Trust = "trust" }
    Fallback {
        None = "none",
        Primary = "primary",
        Lagging = "lagging",
        LaggingThenPrimary = "lagging_then_primary",
    }
    PoolMode { Session = "session", Transaction = "transaction" }
    RouteBy { Session = "session", Statement = "statement" }
    RouteHint { Auto = "auto", Primary = "primary", Standby = "standby" }
    ReadYourWrites { Session = "session", Wait = "wait", Off = "off" }
    OnLagging { Move = "move", Drain = "drain", Keep = "keep" }
    OnTerminate { End = "end", Move = "move" }
    SlowServers { Shift = "shift", Off = "off" }
    DnsFamily { Auto = "auto", Ipv4 = "ipv4", Ipv6 = "ipv6", Both = "both" }
    SourceWord {
        Dns = "dns",
        Patroni = "patroni",
        Kubernetes = "kubernetes",
        Rds = "rds",
        Aurora = "aurora",
        Standbys = "standbys",
    }
    UserFunctions { Read = "read", Trust = "trust", Pin = "pin" }
}
