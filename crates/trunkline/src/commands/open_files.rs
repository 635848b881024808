//! The limit on open files, and what it allows of clients.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use trunkline_proxy::settings::{LimitSettings, ListenerOptions, PoolMode, PoolSettings, RouteBy, Settings};

/// Descriptors kept for all but clients and probes: HTTP (256), agent-check (128), cancel requests (128), sessions on the
/// move, listeners and logs.
const BESIDE_CLIENTS: u64 = 768;

/// Those of them that are open while no client is there: of the process itself ...
const OPEN_AT_REST: u64 = 16;

/// ... and those of each worker thread. A listener has one more.
const OPEN_FOR_EACH_THREAD: u64 = 5;

/// Connections of the monitor to one server at one time: the probe's own, the login that checks it, and the one that shows
/// whether it has ended.
const PROBES_PER_SERVER: u64 = 3;

/// Servers that sources may still find, beside those configured: how many there are is not known when the limits are set.
const DISCOVERED_SERVERS: usize = 64;

/// Raises the soft limit on open files to what `settings` need, as far as the hard one allows, and lowers their limits to what
/// it allows. A client that finds no place is refused at once; one for which there is no descriptor waits unseen.
pub(super) fn fit(settings: &mut Settings) {
    let servers = servers(settings);
    let (beside, at_rest) =
        (beside_clients(servers), at_rest(settings.threads, settings.listeners.len(), servers));
    let listeners = settings.listeners.iter().map(|listener| &listener.options);
    let sockets = sockets_of_session(&settings.pool, listeners);
    let limits = &mut settings.limits;
    let needed = needed(limits, sockets, beside);
    let (soft, hard) = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok(both) => both,
        Err(error) => {
            tracing::warn!(%error, "could not read the limit on open files");
            return;
        }
    };
    let files =
        raised(soft, hard.min(needed.max(soft)), |wanted| setrlimit(Resource::RLIMIT_NOFILE, wanted, hard));
    if files >= needed {
        return;
    }
    let wanted = limits.connections_max;
    *limits = fitting(limits, files, sockets, (beside, at_rest));
    tracing::warn!(
        files,
        needed,
        connections_max = limits.connections_max,
        configured = wanted,
        startups_max = limits.startups_max,
        "connections_max is lowered to what the limit on open files allows; raise that (ulimit -Hn, LimitNOFILE)"
    );
}

/// How many servers descriptors are kept for.
fn servers(settings: &Settings) -> usize {
    let discovered = if settings.discovery.sources.is_empty() { 0 } else { DISCOVERED_SERVERS };
    settings.health.servers.len() + discovered
}

/// The limit in force after an attempt to have it `wanted`.
fn raised(soft: u64, wanted: u64, set: impl FnOnce(u64) -> nix::Result<()>) -> u64 {
    match set(wanted) {
        Ok(()) => wanted,
        Err(error) => {
            tracing::warn!(%error, soft, wanted, "could not raise the limit on open files");
            soft
        }
    }
}

/// Sockets that a session may have: its client's, and one to its server; to two servers where it has its own connections.
fn sockets_of_session<'a>(pool: &PoolSettings, listeners: impl Iterator<Item = &'a ListenerOptions>) -> u64 {
    let overrides = pool.overrides.iter().any(|over| over.mode == Some(PoolMode::Session));
    let has_own = |mode: Option<PoolMode>| overrides || mode.unwrap_or(pool.mode) == PoolMode::Session;
    let mut splits = listeners.filter(|options| options.route == RouteBy::Statement);
    let is_any = splits.any(|options| has_own(options.pool_mode));
    if is_any { 3 } else { 2 }
}

/// A connection before its startup packet has one socket.
fn needed(limits: &LimitSettings, sockets: u64, beside: u64) -> u64 {
    sockets * limits.connections_max as u64 + limits.startups_max as u64 + beside
}

/// What is not for clients, with so many servers.
fn beside_clients(servers: usize) -> u64 {
    BESIDE_CLIENTS + PROBES_PER_SERVER * servers as u64
}

/// What is open while no client is there. No threads is one for each core.
fn at_rest(threads: usize, listeners: usize, servers: usize) -> u64 {
    let threads = match threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        some => some,
    };
    OPEN_AT_REST + OPEN_FOR_EACH_THREAD * threads as u64 + (listeners + servers) as u64
}

/// The limits that so many files allow. At least three quarters are for clients, but for what is open without them.
fn fitting(limits: &LimitSettings, files: u64, sockets: u64, (beside, at_rest): (u64, u64)) -> LimitSettings {
    let startups = (limits.startups_max as u64).min(files / 8);
    let sessions = files.saturating_sub(startups + beside.min((files / 4).max(at_rest))) / sockets;
    let to_usize = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    LimitSettings {
        connections_max: limits.connections_max.min(to_usize(sessions).max(1)),
        startups_max: to_usize(startups).max(1),
        ..limits.clone()
    }
}

#[cfg(test)]
mod tests {
    use trunkline_discovery::topology::{ManagedCluster, TopologySettings};
    use trunkline_proxy::settings::PoolOverride;

    use super::*;

    fn limits(connections: usize, startups: usize) -> LimitSettings {
        LimitSettings { connections_max: connections, startups_max: startups, ..LimitSettings::default() }
    }

    #[test]
    fn enough_files_change_nothing_and_one_less_lowers_connections_max() {
        let (limits, beside) = (limits(10_000, 1024), beside_clients(3));
        for sockets in [2, 3] {
            let needed = needed(&limits, sockets, beside);
            assert_eq!(fitting(&limits, needed, sockets, (beside, 30)), limits);
            let lowered = fitting(&limits, needed - 1, sockets, (beside, 30));
            assert_eq!((lowered.connections_max, lowered.startups_max), (9_999, 1024));
        }
    }

    #[test]
    fn each_server_has_its_probes_before_clients_have_theirs() {
        let limits = limits(10_000, 1024);
        let files = needed(&limits, 2, beside_clients(0));
        let fitted = fitting(&limits, files, 2, (beside_clients(20), 30));
        assert_eq!(fitted.connections_max, 10_000 - 20 * 3 / 2);
    }

    #[test]
    fn a_session_with_two_connections_of_its_own_has_a_descriptor_for_each() {
        let (mut pool, plain) = (PoolSettings::default(), ListenerOptions::default());
        let split = ListenerOptions { route: RouteBy::Statement, ..plain.clone() };
        let pooled = ListenerOptions { pool_mode: Some(PoolMode::Transaction), ..split.clone() };
        let sockets = |pool: &PoolSettings, options| sockets_of_session(pool, [&plain, options].into_iter());
        assert_eq!([&plain, &split, &pooled].map(|options| sockets(&pool, options)), [2, 3, 2]);
        pool.overrides.push(PoolOverride { mode: Some(PoolMode::Session), ..PoolOverride::default() });
        assert_eq!([&plain, &split, &pooled].map(|options| sockets(&pool, options)), [2, 3, 3]);
    }

    #[test]
    fn a_source_has_descriptors_for_the_servers_that_it_may_find() {
        let mut settings = Settings::default();
        assert_eq!(servers(&settings), settings.health.servers.len());
        let source = trunkline_discovery::SourceSettings {
            name: "rds".into(),
            kind: trunkline_discovery::SourceKind::Topology(TopologySettings {
                cluster: ManagedCluster::Rds,
                endpoint: None,
            }),
            weight: 100,
            interval: std::time::Duration::from_secs(5),
        };
        settings.discovery.sources.push(source);
        assert_eq!(servers(&settings), settings.health.servers.len() + DISCOVERED_SERVERS);
    }

    #[test]
    fn a_limit_that_cannot_be_raised_is_the_one_that_clients_are_fitted_to() {
        assert_eq!(raised(1024, 4096, |_| Ok(())), 4096);
        assert_eq!(raised(1024, 4096, |_| Err(nix::Error::EPERM)), 1024);
    }

    #[test]
    fn few_files_are_shared_among_sessions_startups_and_the_rest() {
        for files in [1, 64, 256, 1024, 4096] {
            let at_rest = at_rest(2, 2, 3);
            let fitted = fitting(&limits(10_000, 1024), files, 2, (BESIDE_CLIENTS, at_rest));
            let clients = 2 * fitted.connections_max as u64 + fitted.startups_max as u64;
            assert!(fitted.connections_max >= 1 && fitted.startups_max >= 1);
            assert!(
                files < 64 || clients + at_rest.max(files / 4).min(BESIDE_CLIENTS) <= files,
                "{files}: {fitted:?}"
            );
        }
    }
}
