//! The keys of `[limits]`, `[timeouts]` and `[retry]`.

use trunkline_codec::limits::STARTUP_PACKET_MAX;

use super::super::{Key, KeyKind, PutValue as _};
use super::{bytes, count, key};
use crate::config::raw::RawConfig;

/// No startup packet with a user and a database is shorter than this.
const STARTUP_PACKET_MIN: u64 = 64;

/// `[limits]`.
pub(super) const LIMITS: &[Key<RawConfig>] = &[
    key(
        "connections_max",
        "10000",
        count(1, 1_000_000, |t, v, s| t.proxy.limits.connections_max.put(v, s)),
        "Sessions in all. Lowered to what the limit on open files allows, with a warning at start.",
    ),
    key(
        "connections_per_address_max",
        "0",
        count(0, 1_000_000, |t, v, s| t.proxy.limits.connections_per_address_max.put(v, s)),
        "Sessions from one client address. 0 = no bound of its own.",
    ),
    key(
        "startups_max",
        "1024",
        count(4, 1_000_000, |t, v, s| t.proxy.limits.startups_max.put(v, s)),
        "Connections that have not sent their startup packet. The oldest is closed for one more; one address has a quarter, and at most `connections_per_address_max`.",
    ),
    key(
        "connections_per_user_max",
        "0",
        count(0, 1_000_000, |t, v, s| t.proxy.limits.connections_per_user_max.put(v, s)),
        "Sessions of one user. 0 = no bound of its own.",
    ),
    key(
        "moves_per_second_max",
        "100",
        count(0, 1_000_000, |t, v, s| t.proxy.limits.moves_per_second_max.put(v, s)),
        "Sessions that leave one server in a second because it lags, drains or has more than its share. 0 = no bound.",
    ),
    key(
        "startup_packet_bytes_max",
        "10004",
        bytes(STARTUP_PACKET_MIN, STARTUP_PACKET_MAX as u64, |t, v, s| {
            t.proxy.limits.startup_packet_bytes_max.put(v, s)
        }),
        "Longest startup packet accepted. In bytes, its length word included. PostgreSQL's own bound is the default and the maximum.",
    ),
];

/// `[timeouts]`.
pub(super) const TIMEOUTS: &[Key<RawConfig>] = &[
    key(
        "login",
        "\"15s\"",
        KeyKind::Duration(|t, v, s| t.proxy.timeouts.login.put(v, s)),
        "From a client's connect to the end of its login.",
    ),
    key(
        "connect",
        "\"2s\"",
        KeyKind::Duration(|t, v, s| t.proxy.timeouts.connect.put(v, s)),
        "To connect to one server; then another is tried.",
    ),
    key(
        "acquire",
        "\"10s\"",
        KeyKind::Duration(|t, v, s| t.proxy.timeouts.acquire.put(v, s)),
        "To find and take any server; then the client gets SQLSTATE 57P03.",
    ),
    key(
        "failover_wait",
        "\"30s\"",
        KeyKind::DurationOrZero(|t, v, s| t.proxy.timeouts.failover_wait.put(v, s)),
        "The same on listeners for the primary, if longer: how long sessions, new ones too, wait for the next primary.",
    ),
    key(
        "idle_session",
        "\"0\"",
        KeyKind::DurationOrZero(|t, v, s| t.proxy.timeouts.idle_session.put(v, s)),
        "A session idle outside a transaction is ended after this. 0 = never.",
    ),
    key(
        "idle_in_transaction",
        "\"0\"",
        KeyKind::DurationOrZero(|t, v, s| t.proxy.timeouts.idle_in_transaction.put(v, s)),
        "A session idle inside a transaction is ended after this. 0 = never.",
    ),
    key(
        "drain",
        "\"30s\"",
        KeyKind::DurationOrZero(|t, v, s| t.proxy.timeouts.drain.put(v, s)),
        "After SIGTERM, how long sessions have to reach an idle point before they are closed.",
    ),
    key(
        "server_stall",
        "\"5s\"",
        KeyKind::Duration(|t, v, s| t.proxy.timeouts.server_stall.put(v, s)),
        "How long a session waits for its server's answer once health has found the server down. Then it goes on with another. A read that may be repeated does not wait for a server that is silent.",
    ),
];

/// `[retry]`.
pub(super) const RETRY: &[Key<RawConfig>] = &[key(
    "journal_max",
    "\"1MiB\"",
    bytes(0, u64::MAX, |t, v, s| t.proxy.retry.journal_max.put(v, s)),
    "Bytes of a request kept until its answer begins. A longer one is not sent again; 0 = none is.",
)];
