//! The table of paths.

use super::route::Want;

/// What is answered at a path of one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Everything counted, in Prometheus' text format.
    Metrics,
    /// All servers as JSON.
    Cluster,
    /// Whether the monitor runs.
    Alive,
    /// Whether there is a verdict on every server, and the proxy takes new sessions.
    Ready,
    /// Whether any server may serve as this.
    Serving(Want),
}

/// Every path of one word that is no server's name, with those of Patroni and of the checker that Trunkline replaces.
const PATHS: &[(&str, Answer)] = &[
    ("metrics", Answer::Metrics),
    ("cluster", Answer::Cluster),
    ("livez", Answer::Alive),
    ("liveness", Answer::Alive),
    ("readyz", Answer::Ready),
    ("readiness", Answer::Ready),
    (PRIMARY, Answer::Serving(Want::Primary)),
    ("read-write", Answer::Serving(Want::Primary)),
    ("leader", Answer::Serving(Want::Primary)),
    ("master", Answer::Serving(Want::Primary)),
    ("replica", Answer::Serving(Want::Replica)),
    ("read-only", Answer::Serving(Want::ReadOnly)),
    ("health", Answer::Serving(Want::ReadOnly)),
];

/// The one path that may be a server's name: it means that server then.
const PRIMARY: &str = "primary";

/// Paths of Patroni's that have no answer here, and are to mean no server either.
const UNANSWERED: [&str; 2] = ["patroni", "status"];

/// What is answered at `/word`.
pub(crate) fn answer_at(word: &str) -> Option<Answer> {
    PATHS.iter().find(|(path, _)| *path == word).map(|(_, answer)| *answer)
}

/// Whether a server of this name would hide a path.
#[must_use]
pub fn is_path(name: &str) -> bool {
    name != PRIMARY && (answer_at(name).is_some() || UNANSWERED.contains(&name))
}
