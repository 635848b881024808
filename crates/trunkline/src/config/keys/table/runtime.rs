//! The keys of `[runtime]`.

use super::super::{Key, KeyKind, PutValue as _};
use super::{count, key, unset};
use crate::config::raw::RawConfig;

/// Most worker threads that can be asked for.
const THREADS_MAX: u64 = 1024;

/// `[runtime]`.
pub(super) const RUNTIME: &[Key<RawConfig>] = &[
    key(
        "threads",
        "0",
        count(0, THREADS_MAX, |t, v, s| t.proxy.threads.put(v, s)),
        "Worker threads. 0 = one per core the process may use.",
    ),
    unset(
        "zone",
        "\"eu-central-1a\"",
        KeyKind::Text(|t, v, s| t.proxy.spread.zone.put(v, s)),
        "Where this proxy runs, in the words of the servers' `zone`: their sessions stay in it while it has enough healthy servers. Default: unknown, all servers are equally near.",
    ),
    unset(
        "zone_file",
        "\"/etc/podinfo/zone\"",
        KeyKind::Text(|t, v, s| t.zone_file.put(v, s)),
        "File that holds the zone, such as one that Kubernetes' downward API makes of the label `topology.kubernetes.io/zone`; instead of `zone`. Empty = unknown. A reload reads it again.",
    ),
    key(
        "zone_spill",
        "0.5",
        KeyKind::Share(|t, v, s| t.proxy.spread.zone_spill.put(v, s)),
        "Sessions stay in the proxy's zone while the healthy weight there is at least this share of what the zone's servers are configured to have; below, they leave it by degrees. 0 = only when no server is left there.",
    ),
];
