//! Whether the servers have room for the pools.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::SimpleQueryMessage;
use trunkline_health::MonitorLogin;
use trunkline_proxy::settings::{PoolMode, PoolSettings, Settings};
use trunkline_topology::{Endpoint, ServerSpec};

use crate::failure::with_causes;

/// How many connections the server has for roles without privileges, and the databases and users that it has now.
const ASK: &str = "SET search_path = pg_catalog; SELECT current_setting('max_connections')::int8 \
    - current_setting('superuser_reserved_connections')::int8 \
    - COALESCE(NULLIF(current_setting('reserved_connections', true), ''), '0')::int8 AS room; \
    SELECT DISTINCT datname, usename FROM pg_catalog.pg_stat_activity \
    WHERE datname IS NOT NULL AND usename <> CURRENT_USER LIMIT 10000";

/// What a server says of its connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ConnectionRoom {
    /// Most connections of roles without privileges.
    room: u64,
    /// Database and user of those that there are.
    seen: BTreeSet<(String, String)>,
}

/// Asks a server; what kept it from an answer, in words.
pub(super) async fn ask(
    server: &ServerSpec,
    login: &MonitorLogin,
    patience: Duration,
) -> Result<ConnectionRoom, String> {
    let endpoint = Endpoint::new(&server.host, server.port);
    let asking = async {
        let (client, connection) =
            login.connect_as(&login.config, &endpoint).await.map_err(|error| with_causes(&error))?;
        let driver = tokio::spawn(connection);
        let answer = client.simple_query(ASK).await.map_err(|error| with_causes(&error));
        driver.abort();
        read(&answer?).ok_or_else(|| "its answer is not one of PostgreSQL's".to_owned())
    };
    let late = |_| format!("no answer within {} s", patience.as_secs());
    timeout(patience, asking).await.map_err(late)?
}

fn read(answer: &[SimpleQueryMessage]) -> Option<ConnectionRoom> {
    let (mut room, mut seen) = (None, BTreeSet::new());
    for message in answer {
        let SimpleQueryMessage::Row(row) = message else { continue };
        match row.len() {
            1 => room = Some(row.get(0)?.parse().ok()?),
            _ => {
                seen.insert((row.get(0)?.to_owned(), row.get(1)?.to_owned()));
            }
        }
    }
    Some(ConnectionRoom { room: room?, seen })
}

/// What is worth a word of a server's answer.
pub(super) fn told(
    server: &ServerSpec,
    answer: &Result<ConnectionRoom, String>,
    settings: &Settings,
) -> Option<String> {
    match answer {
        Ok(found) => warning(server, found, settings),
        Err(why) => Some(format!(
            "server {} ({}:{}): it does not say whether it has room for the pools: {why}\n  \
             HINT: Compare its max_connections with [pool] pool_size.",
            server.name, server.host, server.port
        )),
    }
}

/// A warning, if the pools of the databases and users that the server has now could ask for more than it has.
fn warning(server: &ServerSpec, found: &ConnectionRoom, settings: &Settings) -> Option<String> {
    let pools: Vec<_> =
        found.seen.iter().filter(|(database, user)| shares(settings, user, database)).collect();
    let wanted = match pools.as_slice() {
        [] => u64::from(settings.pool.pool_size) + u64::from(settings.pool.reserve_pool_size),
        pools => most(&settings.pool, pools),
    };
    if wanted <= found.room {
        return None;
    }
    let of = match pools.len() {
        0 => "one pool".to_owned(),
        1 => "the pool of the database and user that it has now".to_owned(),
        n => format!("the {n} pools of the databases and users that it has now"),
    };
    Some(format!(
        "server {} ({}:{}): {of} may have {wanted} connections there, and it lets {} in\n  \
         HINT: Lower [pool] pool_size, bound them by max_db_connections or max_user_connections, or raise max_connections there.",
        server.name, server.host, server.port, found.room
    ))
}

/// Whether sessions of this user and database share server connections, by some listener.
fn shares(settings: &Settings, user: &str, database: &str) -> bool {
    let mode = |listener| settings.pool.mode_of(listener, user, database);
    settings.listeners.iter().any(|listener| mode(listener.options.pool_mode) == PoolMode::Transaction)
}

/// Most connections that the pools of these databases and users may have on one server.
fn most(settings: &PoolSettings, pools: &[&(String, String)]) -> u64 {
    let size = |user: &str, database: &str| {
        u64::from(settings.size_of(user, database)) + u64::from(settings.reserve_pool_size)
    };
    let bounded = |max: u32, by: fn(&(String, String)) -> &str| -> u64 {
        let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
        for pool in pools {
            *sums.entry(by(pool)).or_default() += size(&pool.1, &pool.0);
        }
        let max = if max == 0 { u64::MAX } else { u64::from(max) };
        sums.values().map(|sum| max.min(*sum)).sum()
    };
    let by_database = bounded(settings.max_db_connections, |(database, _)| database);
    by_database.min(bounded(settings.max_user_connections, |(_, user)| user))
}

#[cfg(test)]
mod tests {
    use trunkline_proxy::settings::PoolOverride;

    use super::*;

    fn settings(pool: PoolSettings) -> Settings {
        let listener = trunkline_proxy::settings::ListenerSettings {
            name: "reads".to_owned(),
            address: std::net::SocketAddr::from(([127, 0, 0, 1], 5434)).into(),
            options: Default::default(),
        };
        Settings { pool, listeners: vec![listener], ..Settings::default() }
    }

    fn of(pool: PoolSettings, room: u64, seen: &[(&str, &str)]) -> Option<String> {
        let seen = seen.iter().map(|(database, user)| ((*database).to_owned(), (*user).to_owned())).collect();
        let server = ServerSpec {
            name: "pg1".to_owned(),
            host: "db1".to_owned(),
            port: 5432,
            ..ServerSpec::default()
        };
        warning(&server, &ConnectionRoom { room, seen }, &settings(pool))
    }

    fn transaction() -> PoolSettings {
        PoolSettings {
            mode: PoolMode::Transaction,
            pool_size: 20,
            reserve_pool_size: 5,
            ..PoolSettings::default()
        }
    }

    #[test]
    fn pools_that_a_server_has_no_room_for_are_warned_of() {
        let two = [("app", "web"), ("app", "batch")];
        assert_eq!(of(transaction(), 50, &two), None);
        let told = of(transaction(), 49, &two).expect("it has no room for the last");
        assert!(
            told.starts_with("server pg1 (db1:5432): the 2 pools of the databases and users that it has now may have 50 connections there, and it lets 49 in\n  HINT: "),
            "{told}"
        );
        assert!(of(transaction(), 24, &[]).is_some_and(|told| told.contains("one pool may have 25")));
    }

    #[test]
    fn what_bounds_the_pools_counts() {
        let seen = [("app", "web"), ("app", "batch"), ("other", "web")];
        assert!(of(transaction(), 74, &seen).is_some());
        assert_eq!(of(PoolSettings { max_db_connections: 30, ..transaction() }, 55, &seen), None);
        assert_eq!(of(PoolSettings { max_user_connections: 10, ..transaction() }, 20, &seen), None);
        let rule =
            |mode, pool_size| PoolOverride { user: Some("web".to_owned()), database: None, mode, pool_size };
        let small = PoolSettings { overrides: vec![rule(None, Some(1))], ..transaction() };
        assert_eq!(of(small, 25 + 6 + 6, &seen), None);
        let session = PoolSettings { overrides: vec![rule(Some(PoolMode::Session), None)], ..transaction() };
        assert_eq!(of(session, 25, &seen), None, "sessions of their own are bounded by connections_max");
    }
}
