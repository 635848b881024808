//! The table of paths.

use super::route::WantedRole;

/// What is answered at a path of one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathAnswer {
    /// Everything counted, in Prometheus' text format.
    Metrics,
    /// All servers as JSON.
    Cluster,
    /// Whether the monitor runs.
    Alive,
    /// Whether there is a verdict on every server, and the proxy takes new sessions.
    Ready,
    /// Whether any server may serve as this.
    Serving(WantedRole),
}

/// Every path of one word that is no server's name, with those of Patroni and of the checker that Trunkline replaces.
const PATHS: &[(&str, PathAnswer)] = &[
    ("metrics", PathAnswer::Metrics),
    ("cluster", PathAnswer::Cluster),
    ("livez", PathAnswer::Alive),
    ("liveness", PathAnswer::Alive),
    ("healthz", PathAnswer::Alive),
    ("readyz", PathAnswer::Ready),
    ("readiness", PathAnswer::Ready),
    (PRIMARY, PathAnswer::Serving(WantedRole::Primary)),
    ("read-write", PathAnswer::Serving(WantedRole::Primary)),
    ("leader", PathAnswer::Serving(WantedRole::Primary)),
    ("master", PathAnswer::Serving(WantedRole::Primary)),
    ("replica", PathAnswer::Serving(WantedRole::Replica)),
    ("read-only", PathAnswer::Serving(WantedRole::ReadOnly)),
    ("health", PathAnswer::Serving(WantedRole::ReadOnly)),
];

/// The one path that may be a server's name: it means that server then.
const PRIMARY: &str = "primary";

/// Paths of Patroni's that have no answer here, and are to mean no server either.
const UNANSWERED: [&str; 2] = ["patroni", "status"];

/// What is answered at `/word`.
pub(crate) fn answer_at(word: &str) -> Option<PathAnswer> {
    PATHS.iter().find(|(path, _)| *path == word).map(|(_, answer)| *answer)
}

/// Whether a server of this name would hide a path.
#[must_use]
pub fn is_path(name: &str) -> bool {
    name != PRIMARY && (answer_at(name).is_some() || UNANSWERED.contains(&name))
}
