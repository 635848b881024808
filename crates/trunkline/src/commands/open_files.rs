//! The limit on open files, and what it allows of clients.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use trunkline_proxy::settings::LimitSettings;

/// Descriptors kept for all but clients: HTTP (256), agent-check (128), cancel requests (128), sessions on the move,
/// probes, listeners and logs.
const BESIDE_CLIENTS: u64 = 768;

/// Raises the soft limit on open files to what `limits` need, as far as the hard one allows, and lowers `limits` to what it
/// allows. A client that finds no place is refused at once; one for which there is no descriptor waits unseen.
pub(super) fn fit(limits: &mut LimitSettings) {
    let needed = needed(limits);
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let wanted = hard.min(needed.max(soft));
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).map(|()| wanted)
    });
    let files = match raised {
        Ok(files) if files >= needed => return,
        Ok(files) => files,
        Err(error) => {
            tracing::warn!(%error, "could not raise the limit on open files");
            return;
        }
    };
    let wanted = limits.connections_max;
    *limits = fitting(limits, files);
    tracing::warn!(
        files,
        needed,
        connections_max = limits.connections_max,
        configured = wanted,
        startups_max = limits.startups_max,
        "connections_max is lowered to what the limit on open files allows; raise that (ulimit -Hn, LimitNOFILE)"
    );
}

/// A session has two sockets, a connection before its startup packet has one.
fn needed(limits: &LimitSettings) -> u64 {
    2 * limits.connections_max as u64 + limits.startups_max as u64 + BESIDE_CLIENTS
}

/// The limits that so many files allow. At least three quarters are for clients.
fn fitting(limits: &LimitSettings, files: u64) -> LimitSettings {
    let startups = (limits.startups_max as u64).min(files / 8);
    let sessions = files.saturating_sub(startups + BESIDE_CLIENTS.min(files / 4)) / 2;
    let to_usize = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    LimitSettings {
        connections_max: limits.connections_max.min(to_usize(sessions).max(1)),
        startups_max: to_usize(startups).max(1),
        ..limits.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(connections: usize, startups: usize) -> LimitSettings {
        LimitSettings { connections_max: connections, startups_max: startups, ..LimitSettings::default() }
    }

    #[test]
    fn enough_files_change_nothing_and_one_less_lowers_connections_max() {
        let limits = limits(10_000, 1024);
        let needed = needed(&limits);
        assert_eq!(fitting(&limits, needed), limits);
        let lowered = fitting(&limits, needed - 1);
        assert_eq!((lowered.connections_max, lowered.startups_max), (9_999, 1024));
    }

    #[test]
    fn few_files_are_shared_among_sessions_startups_and_the_rest() {
        for files in [1, 64, 256, 1024, 4096] {
            let fitted = fitting(&limits(10_000, 1024), files);
            let clients = 2 * fitted.connections_max as u64 + fitted.startups_max as u64;
            assert!(fitted.connections_max >= 1 && fitted.startups_max >= 1);
            assert!(files < 64 || clients + BESIDE_CLIENTS.min(files / 4) <= files, "{files}: {fitted:?}");
        }
    }
}
