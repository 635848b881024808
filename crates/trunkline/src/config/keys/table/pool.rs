//! The keys of `[pool]` and of a `[[pool.override]]`.

use trunkline_pool::PoolMode;
use trunkline_proxy::settings::RouteHint;

use super::super::{Key, KeyKind, PutValue as _, put_word};
use super::{count, key, unset, word};
use crate::config::raw::{OverrideEntry, RawConfig};
use crate::config::words::Word as _;

/// Most server connections that a key can ask for.
const CONNECTIONS_MAX: u64 = 100_000;

/// Most prepared statements that can be kept on one server connection. Each of them takes memory of the server's, too.
const STATEMENTS_MAX: u64 = 100_000;

/// `[pool]`.
pub(super) const POOL: &[Key<RawConfig>] = &[
    key(
        "pool_mode",
        "\"session\"",
        word::<_, PoolMode>(|t, w| put_word(&mut t.proxy.pool.mode, w)),
        "For how long a client has a server connection to itself: `session`, until it disconnects; `transaction`, until its transaction ends and nothing of its state pins it. For listeners and overrides that say nothing else. `transaction` needs sessions that the proxy can log in by itself: not `[auth] mode = \"relay\"`.",
    ),
    key(
        "server_reuse",
        "\"off\"",
        KeyKind::Switch(|t, v, s| t.proxy.pool.server_reuse.put(v, s)),
        "In session mode, what becomes of a server connection whose client has disconnected: `off`, it is closed; `on`, the next client of the same user, database and startup parameters gets it, after DISCARD ALL. What PostgreSQL checks at a login alone is then checked by the proxy.",
    ),
    key(
        "pool_size",
        "20",
        count(1, CONNECTIONS_MAX, |t, v, s| t.proxy.pool.pool_size.put(v, s)),
        "Most server connections of a pool; there is one for each server, database and user. As PgBouncer's `default_pool_size`.",
    ),
    key(
        "min_pool_size",
        "0",
        count(0, CONNECTIONS_MAX, |t, v, s| t.pool.min_pool_size.put(v, s)),
        "Server connections that are kept open in each pool with clients, so that the first requests after a quiet time need no login. Missing ones are opened one at a time, once the pool has been used.",
    ),
    key(
        "reserve_pool_size",
        "0",
        count(0, CONNECTIONS_MAX, |t, v, s| t.pool.reserve_pool_size.put(v, s)),
        "Server connections that a pool may have beyond `pool_size` once a client has waited for `reserve_pool_timeout`. 0 = none.",
    ),
    key(
        "reserve_pool_timeout",
        "\"5s\"",
        KeyKind::DurationOrZero(|t, v, s| t.proxy.pool.reserve_pool_timeout.put(v, s)),
        "How long a client waits before its pool uses the reserve. 0 = the reserve is not used.",
    ),
    key(
        "max_db_connections",
        "0",
        count(0, CONNECTIONS_MAX, |t, v, s| t.proxy.pool.max_db_connections.put(v, s)),
        "Most server connections to one database on one server, over all users. At the limit an idle connection of another pool is closed for a client that waits. 0 = no limit of its own.",
    ),
    key(
        "max_user_connections",
        "0",
        count(0, CONNECTIONS_MAX, |t, v, s| t.proxy.pool.max_user_connections.put(v, s)),
        "The same of one user on one server, over all databases. 0 = no limit of its own.",
    ),
    key(
        "query_wait_timeout",
        "\"120s\"",
        KeyKind::DurationOrZero(|t, v, s| t.proxy.pool.query_wait_timeout.put(v, s)),
        "How long a client waits for a server connection. Then its request fails with SQLSTATE 53300, and its session goes on; PgBouncer ends it. 0 = for ever.",
    ),
    key(
        "server_idle_timeout",
        "\"10m\"",
        KeyKind::DurationOrZero(|t, v, s| t.proxy.pool.server_idle_timeout.put(v, s)),
        "A server connection that no client has had for this long is closed, down to `min_pool_size`. 0 = never.",
    ),
    key(
        "server_lifetime",
        "\"1h\"",
        KeyKind::DurationOrZero(|t, v, s| t.proxy.pool.server_lifetime.put(v, s)),
        "A server connection older than this is closed as soon as no client has it. 0 = at no age; PgBouncer's 0 closes it after one use.",
    ),
    key(
        "server_check_delay",
        "\"30s\"",
        KeyKind::DurationOrZero(|t, v, s| t.proxy.pool.server_check_delay.put(v, s)),
        "A server connection that was idle for longer than this is checked with an empty query before a client gets it. 0 = before each use.",
    ),
    key(
        "max_prepared_statements",
        "200",
        count(1, STATEMENTS_MAX, |t, v, s| t.proxy.pool.max_prepared_statements.put(v, s)),
        "Prepared statements that are kept on a server connection for clients that come back to it; those used longest ago are closed there, and prepared again when their client uses them. A client may have more.",
    ),
];

/// Keys of a `[[pool.override]]`.
pub const OVERRIDE_KEYS: &[Key<OverrideEntry>] = &[
    unset(
        "name",
        "\"batch\"",
        KeyKind::Text(|t, v, s| t.name.put(v, s)),
        "Name in environment variables: `TRUNKLINE__POOL__OVERRIDE__BATCH__POOL_SIZE`. Default: none.",
    ),
    unset(
        "user",
        "\"batch\"",
        KeyKind::Text(|t, v, _source| t.rule.user = v),
        "The user it is for. Default: any.",
    ),
    unset(
        "database",
        "\"reports\"",
        KeyKind::Text(|t, v, _source| t.rule.database = v),
        "The database it is for. Default: any.",
    ),
    unset(
        "pool_mode",
        "\"session\"",
        word::<_, PoolMode>(|t, w| PoolMode::parse(w).map(|mode| t.rule.mode = Some(mode)).is_some()),
        "In place of the listener's and of [pool]. Default: those.",
    ),
    unset(
        "pool_size",
        "5",
        count(1, CONNECTIONS_MAX, |t, v, _source| t.rule.pool_size = u32::try_from(v).ok()),
        "In place of that of [pool]. Default: that.",
    ),
    unset(
        "route_hint",
        "\"primary\"",
        word::<_, RouteHint>(|t, w| RouteHint::parse(w).map(|hint| t.route_hint = Some(hint)).is_some()),
        "On listeners with route `statement`, where its reads go: `auto`, to a standby where the catalog says that one answers as the primary does; `primary`; `standby`, whatever the catalog says. A session's `trunkline.route` goes before. Default: `auto`.",
    ),
];
