//! The keys themselves. Defaults and docs here are what the sample and the reference print.

use trunkline_health::LagUnknown;
use trunkline_proxy::settings::{AuthMode, ClientMethod, OnLagging, OnTerminate, SlowServers, UserFunctions};
use trunkline_routing::Fallback;
use trunkline_topology::Dialect;

use super::{Key, KeyKind, PutValue as _, Section, Setter, put_word, words};
use crate::config::raw::RawConfig;
use crate::config::words::Word;

mod bounds;
mod discovery;
mod entries;
mod log;
mod pool;
mod runtime;
mod tls;

use self::bounds::{LIMITS, RETRY, TIMEOUTS};
use self::discovery::DISCOVERY;
pub use self::discovery::SOURCE_KEYS;
use self::entries::put_dialect;
pub use self::entries::{LISTENER_KEYS, SERVER_KEYS};
use self::log::{LOG, LOG_STATEMENTS};
pub use self::pool::OVERRIDE_KEYS;
use self::pool::POOL;
use self::runtime::RUNTIME;
use self::tls::{CLIENT_TLS, SERVER_TLS};

/// A key whose default is written in the table.
const fn key<T>(name: &'static str, default: &'static str, slot: KeyKind<T>, doc: &'static str) -> Key<T> {
    Key { name, default: Some(default), example: "", doc, slot }
}

/// A key that is unset unless written.
const fn unset<T>(name: &'static str, example: &'static str, slot: KeyKind<T>, doc: &'static str) -> Key<T> {
    Key { name, default: None, example, doc, slot }
}

/// A whole number within bounds.
const fn count<T>(min: u64, max: u64, put: Setter<T, u64>) -> KeyKind<T> {
    KeyKind::Count { min, max, put }
}

/// A number of bytes within bounds.
const fn bytes<T>(min: u64, max: u64, put: Setter<T, u64>) -> KeyKind<T> {
    KeyKind::Bytes { min, max, put }
}

/// One of the words of `W`.
const fn word<T, W: Word>(put: fn(&mut T, &str) -> bool) -> KeyKind<T> {
    KeyKind::Word { words: words::<W>, put }
}

/// Every section with its keys, in the order they are printed.
pub const SECTIONS: &[Section] = &[
    Section {
        name: "monitor",
        doc: "How the health probes log in on every server. The role needs pg_monitor (or pg_read_all_stats).",
        keys: MONITOR,
    },
    Section {
        name: "discovery",
        doc: "Who else knows of servers, besides [[server]]: each a [[discovery.source]].",
        keys: DISCOVERY,
    },
    Section { name: "auth", doc: "Who authenticates clients.", keys: AUTH },
    Section {
        name: "client_tls",
        doc: "TLS of clients, on every listener that is not a Unix socket. A reload reads the files again.",
        keys: CLIENT_TLS,
    },
    Section {
        name: "server_tls",
        doc: "TLS of servers, in libpq's words; not over Unix sockets. A reload reads the files again.",
        keys: SERVER_TLS,
    },
    Section { name: "health", doc: "When a server may serve.", keys: HEALTH },
    Section { name: "health.fallback", doc: "When no replica is eligible.", keys: FALLBACK },
    Section {
        name: "http",
        doc: "HTTP: checks for HAProxy, Kubernetes and Prometheus, /cluster for `trunkline status`.",
        keys: HTTP,
    },
    Section { name: "agent", doc: "HAProxy's agent-check: a weight by lag, a word by state.", keys: AGENT },
    Section {
        name: "admin",
        doc: "What an operator may ask of the running proxy: `trunkline drain`, `maint`, `ready`, `adopt`, `reload` and `sessions`.",
        keys: ADMIN,
    },
    Section { name: "limits", doc: "Bounds on clients.", keys: LIMITS },
    Section { name: "timeouts", doc: "Bounds on waiting.", keys: TIMEOUTS },
    Section {
        name: "retry",
        doc: "Reads that are sent again to another server because theirs was lost.",
        keys: RETRY,
    },
    Section {
        name: "pool",
        doc: "Server connections that clients share, in PgBouncer's words: see docs/pooling.md.",
        keys: POOL,
    },
    Section { name: "session", doc: "What a session is, wherever it is.", keys: SESSION },
    Section { name: "log", doc: "The log, on standard error.", keys: LOG },
    Section {
        name: "log.statements",
        doc: "Which statements are logged, with their timing.",
        keys: LOG_STATEMENTS,
    },
    Section { name: "runtime", doc: "The process itself.", keys: RUNTIME },
];

const MONITOR: &[Key<RawConfig>] = &[
    unset(
        "conninfo",
        "\"user=trunkline_monitor password=secret dbname=postgres\"",
        KeyKind::Secret(|t, v, s| t.monitor.conninfo.put(v, s)),
        "User, password and database in libpq's form. Hosts and ports come from the servers. Instead of the three keys below.",
    ),
    unset(
        "user",
        "\"trunkline_monitor\"",
        KeyKind::Text(|t, v, s| t.monitor.user.put(v, s)),
        "Role of the probes. Default: postgres.",
    ),
    unset(
        "password",
        "\"secret\"",
        KeyKind::Secret(|t, v, s| t.monitor.password.put(v, s)),
        "Its password. Better in the environment: TRUNKLINE__MONITOR__PASSWORD.",
    ),
    unset(
        "password_command",
        "[\"vault\", \"kv\", \"get\", \"-field=password\", \"secret/trunkline\"]",
        KeyKind::Command(|t, v, s| t.monitor.password_command.put(Some(v), s)),
        "Program and arguments that print the password, instead of `password`: run at start, and again when a server refuses the password (28P01, 28000). No shell; what it says on standard error is logged.",
    ),
    unset(
        "dbname",
        "\"postgres\"",
        KeyKind::Text(|t, v, s| t.monitor.dbname.put(v, s)),
        "Database of the probes. Default: postgres.",
    ),
];

const AUTH: &[Key<RawConfig>] = &[
    key(
        "mode",
        "\"auto\"",
        word::<_, AuthMode>(|t, w| put_word(&mut t.proxy.auth.mode, w)),
        "`verify` authenticates in the proxy, so that a session can log in on any server; `login` asks clients on TLS or a Unix socket for their password and logs in with it, so that their sessions can, too, and relays others; `relay` passes the server's own exchange through and needs nothing. `auto`: `verify` if stored secrets can be read (`query`, `users_file`), else `login` if some clients can have TLS or a Unix socket, else `relay`; decided at start and reload, once a server has answered.",
    ),
    unset(
        "query",
        "\"SELECT name, secret FROM my_schema.my_function($1)\"",
        KeyKind::Text(|t, v, s| t.auth.query.put(v, s)),
        "Verify: query over the monitoring connection that returns name and secret of user $1. Default: reads pg_authid, through the function trunkline.user_secret where the role may not read it itself: `trunkline init-sql` prints what either needs.",
    ),
    unset(
        "users_file",
        "\"/etc/trunkline/userlist.txt\"",
        KeyKind::Text(|t, v, s| t.auth.users_file.put(v, s)),
        "Verify: file of users and secrets in PgBouncer's userlist.txt format, instead of a query.",
    ),
    key(
        "cache_ttl",
        "\"10s\"",
        KeyKind::DurationOrZero(|t, v, s| t.proxy.auth.cache_ttl.put(v, s)),
        "Verify: how long a cached secret is used while no server answers. Otherwise each login reads it again.",
    ),
    key(
        "client_method",
        "\"auto\"",
        word::<_, ClientMethod>(|t, w| put_word(&mut t.proxy.auth.client_method, w)),
        "Verify: how clients prove themselves. `auto` follows the stored secret (SCRAM-SHA-256 or md5); `scram-sha-256` lets nobody in with an md5 secret; `password` is in the clear; `trust` asks for nothing.",
    ),
    unset(
        "password_command",
        "[\"rds-token\", \"--region\", \"eu-central-1\"]",
        KeyKind::Command(|t, v, _source| t.proxy.auth.password_command = Some(v)),
        "Program and arguments that print a user's password or token for the servers; the user's name is its last argument. For sessions whose own login leaves nothing that a server takes: `cert`, `peer` and `trust` of `hba_file`, or a server that wants the password itself. Kept until a server refuses it, then run once more. No shell.",
    ),
    unset(
        "mock_nonce",
        "\"a long random text\"",
        KeyKind::Secret(|t, v, s| t.proxy.auth.mock_nonce.put(v, s)),
        "Verify: secret that the salts for unknown users are made from, so that they look like users; the same on every instance. Default: the cluster's system identifier, which `/cluster` shows to whoever reaches it: who knows it can tell these salts from users'.",
    ),
    unset(
        "hba_file",
        "\"/etc/trunkline/pg_hba.conf\"",
        KeyKind::Text(|t, v, s| t.proxy.auth.hba_file.put(v, s)),
        "Rules in the format of PostgreSQL's pg_hba.conf: which client comes in how. The first that a connection matches decides, in place of `mode` and `client_method`; a connection that none matches is refused. Methods: `trust`, `reject`, `scram-sha-256`, `md5`, `password`, `cert`, `peer`, and the proxy's own `relay` and `login`. A reload reads it again.",
    ),
    unset(
        "ident_file",
        "\"/etc/trunkline/pg_ident.conf\"",
        KeyKind::Text(|t, v, s| t.proxy.auth.ident_file.put(v, s)),
        "The maps that rules with `map=` name, in the format of PostgreSQL's pg_ident.conf. A reload reads it again.",
    ),
    key(
        "failures_max",
        "10",
        count(0, 1_000_000, |t, v, s| t.proxy.auth.failures.max.put(v, s)),
        "Failed logins of a user from one address that close the door to this user from there for a while; five times as many failures of all users close it to whoever has not logged in from that address before. Each slows the next one down, up to 2 s. Elsewhere nobody is kept out. 0 = no limit.",
    ),
    key(
        "failures_window",
        "\"1m\"",
        KeyKind::Duration(|t, v, s| t.proxy.auth.failures.window.put(v, s)),
        "The time in which these failures count.",
    ),
    key(
        "failures_pause",
        "\"30s\"",
        KeyKind::Duration(|t, v, s| t.proxy.auth.failures.pause.put(v, s)),
        "How long the door stays closed.",
    ),
    key(
        "check_user",
        "\"hacheck\"",
        KeyKind::Text(|t, v, s| t.proxy.auth.check_user.put(v, s)),
        "User of HAProxy's `option pgsql-check`, answered by the proxy itself. Empty = none.",
    ),
];

const HEALTH: &[Key<RawConfig>] = &[
    key(
        "tick",
        "\"500ms\"",
        KeyKind::Duration(|t, v, s| t.health.tick.put(v, s)),
        "Time between two probes of a server.",
    ),
    key(
        "probe_timeout",
        "\"400ms\"",
        KeyKind::Duration(|t, v, s| t.proxy.health.judge.probe_timeout.put(v, s)),
        "For a probe's answer; then its connection is dropped and the failure counted.",
    ),
    key(
        "connect_timeout",
        "\"1s\"",
        KeyKind::Duration(|t, v, s| t.proxy.health.judge.connect_timeout.put(v, s)),
        "To open a probe's connection.",
    ),
    key(
        "connect_check_interval",
        "\"5s\"",
        KeyKind::Duration(|t, v, s| t.proxy.health.judge.connect_check_interval.put(v, s)),
        "Time between new connections to a server: it may answer on old connections and accept no new ones.",
    ),
    key(
        "fall",
        "2",
        count(1, 100, |t, v, s| t.proxy.health.judge.fall.put(v, s)),
        "Soft failures (timeouts, lost connections) in a row until DOWN. Hard ones, such as connection refused, act at once.",
    ),
    key(
        "rise",
        "2",
        count(1, 100, |t, v, s| t.proxy.health.judge.rise.put(v, s)),
        "Good probes in a row until UP again.",
    ),
    key(
        "fast_interval",
        "\"125ms\"",
        KeyKind::Duration(|t, v, s| t.health.fast_interval.put(v, s)),
        "Time between probes after a soft failure, until it is settled.",
    ),
    key(
        "max_lag",
        "\"10s\"",
        KeyKind::Duration(|t, v, s| t.proxy.health.judge.max_lag.put(v, s)),
        "A replica whose proven lag is above this gets no reads.",
    ),
    key(
        "readmit_lag",
        "\"0\"",
        KeyKind::DurationOrZero(|t, v, s| t.health.readmit_lag.put(v, s)),
        "It comes back when its estimated lag is below this. 0 = half of max_lag.",
    ),
    key(
        "hard_max_lag",
        "\"0\"",
        KeyKind::DurationOrZero(|t, v, s| t.health.hard_max_lag.put(v, s)),
        "A replica with more lag is no fallback either. 0 = 30s, and at least max_lag.",
    ),
    key(
        "on_lagging",
        "\"move\"",
        word::<_, OnLagging>(|t, w| put_word(&mut t.proxy.session.on_lagging, w)),
        "Sessions on a replica that lags: `move` to another at their next idle point, those that cannot move stay; `drain` the same, and those that cannot move end there; `keep` stay.",
    ),
    key(
        "primary_unknown",
        "\"serve\"",
        KeyKind::Text(|t, v, s| t.health.primary_unknown.put(v, s)),
        "What replicas do while the primary does not answer: `serve`, `serve_for:60s` or `drain`.",
    ),
    key(
        "dialect",
        "\"auto\"",
        word::<_, Dialect>(|t, w| put_dialect(&mut t.proxy.health.judge.probe, w)),
        "How servers are asked: `postgres` by PostgreSQL's own functions; `aurora` by `aurora_replica_status()`; `rds-cluster`, an RDS Multi-AZ DB cluster, as `postgres` and by `rds_tools`; `custom` by `lag_query`; `auto` as each server shows to be right.",
    ),
    unset(
        "lag_query",
        "\"SELECT lag_ms FROM public.replica_lag\"",
        KeyKind::Text(|t, v, _| t.proxy.health.judge.probe.lag_query = v.map(Into::into)),
        "With `dialect = \"custom\"`, a SELECT of one value, how far behind the server is: a number of milliseconds, an LSN as text (`0/16B3748`, on the primary its own), or NULL where that is unknown. The monitoring role runs it with `search_path = pg_catalog`: write schemas.",
    ),
    key(
        "lag_unknown",
        "\"drain\"",
        word::<_, LagUnknown>(|t, w| put_word(&mut t.proxy.health.judge.lag_unknown, w)),
        "What a replica does of which nothing tells how far behind it is: `drain`, it gets no reads; `serve`.",
    ),
    key(
        "failover_grace",
        "\"10s\"",
        KeyKind::DurationOrZero(|t, v, s| t.proxy.health.judge.failover_grace.put(v, s)),
        "After a failover, how long replicas may still be on the old timeline. 0 = not at all.",
    ),
    key(
        "adopt_after",
        "\"30s\"",
        KeyKind::DurationOrZero(|t, v, s| t.proxy.health.judge.adopt_after.put(v, s)),
        "A cluster that was re-initialised (pg_upgrade, a restore) has another system identifier: it is accepted when every server that answers has had it for this long, a primary and half of the servers at least. 0 = only by `trunkline adopt`.",
    ),
    key(
        "damping_max",
        "\"60s\"",
        KeyKind::DurationOrZero(|t, v, s| t.proxy.health.judge.damping_max.put(v, s)),
        "Longest a replica that was DOWN more than once within 5 minutes is held back when it answers again: rise * tick, doubled with each failure. Never the only replica that could serve, nor the primary. 0 = not at all.",
    ),
    key(
        "slow_start",
        "\"10s\"",
        KeyKind::DurationOrZero(|t, v, s| t.proxy.health.judge.slow_start.put(v, s)),
        "A server that was DOWN grows to its full weight over this time, because its caches are cold. 0 = at once.",
    ),
    key(
        "slow_servers",
        "\"shift\"",
        word::<_, SlowServers>(|t, w| put_word(&mut t.proxy.spread.slow_servers, w)),
        "A replica that is up and fresh, but answers the same statements much later than its peers: `shift` takes its weight step by step, down to a tenth, and gives it back when it is as fast again; `off` does nothing. `trunkline status --why` shows what was measured.",
    ),
];

const FALLBACK: &[Key<RawConfig>] = &[
    key(
        "mode",
        "\"primary\"",
        word::<_, Fallback>(|t, w| put_word(&mut t.proxy.fallback.mode, w)),
        "Where reads go when no replica is eligible. `none` refuses them: the primary never serves reads.",
    ),
    key(
        "primary_connections_max",
        "0",
        count(0, 1_000_000, |t, v, s| t.proxy.fallback.connections_max.put(v, s)),
        "Sessions the primary takes in the replicas' place, so that a stampede cannot stop the writes; sessions that belong there are not counted. 0 = as many as come.",
    ),
];

const HTTP: &[Key<RawConfig>] = &[
    key(
        "listen",
        "\"127.0.0.1:8008\"",
        KeyKind::Listen(|t, v, s| t.http_listen.put(v, s)),
        "Where HTTP is served; `off` switches it off. Set 0.0.0.0:8008 when HAProxy or Prometheus is on another host.",
    ),
    unset(
        "checkers",
        "\"10.0.0.5, 10.0.1.0/24\"",
        KeyKind::Networks(|t, v, s| t.proxy.http_checkers.put(v, s)),
        "Networks that HAProxy's and other checks come from: 64 of the 256 HTTP connections are kept for them, and they may have more than the 32 that any other address may. Default: none.",
    ),
];

const AGENT: &[Key<RawConfig>] = &[key(
    "listen",
    "\"off\"",
    KeyKind::Listen(|t, v, s| t.agent_listen.put(v, s)),
    "Where agent-check is answered, such as 127.0.0.1:8009. `trunkline health` serves it there unless told otherwise.",
)];

const ADMIN: &[Key<RawConfig>] = &[unset(
    "socket",
    "\"/run/trunkline/admin.sock\"",
    KeyKind::Text(|t, v, s| t.admin_socket.put(v, s)),
    "File of the admin socket; its owner alone may use it. `off` = none. Default: the first that can be had of admin.sock in $RUNTIME_DIRECTORY (of systemd), /run/trunkline and $XDG_RUNTIME_DIR/trunkline, where the commands look for it; none if none can.",
)];

const SESSION: &[Key<RawConfig>] = &[
    key(
        "functions",
        "\"read\"",
        word::<_, UserFunctions>(|t, w| put_word(&mut t.proxy.session.functions, w)),
        "What a call of a function that is not PostgreSQL's own does to a session: `read` finds out from its source, in `pg_proc`, whether it leaves something behind, which is then carried along or pins the session to its server; `trust` takes all for harmless; `pin` pins by any.",
    ),
    key(
        "on_terminate",
        "\"end\"",
        word::<_, OnTerminate>(|t, w| put_word(&mut t.proxy.session.on_terminate, w)),
        "What `pg_terminate_backend` of a session's server connection does: `end` the session, as PostgreSQL does; or have it `move`, as if its server were lost.",
    ),
];
