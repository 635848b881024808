//! From server to server: the primary names its standbys, a standby where it receives from.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::ClusterAccess;
use super::look::{ServerLook, look};
use crate::Failure;
use crate::commands::init::SERVERS_MAX;

/// For a login and the answers of one server.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LivePlace {
    pub(super) host: String,
    pub(super) port: u16,
}

impl fmt::Display for LivePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// All that was seen.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// The servers that answered, each once.
    pub(super) seen: Vec<(LivePlace, ServerLook)>,
    /// Places that gave no answer, and why.
    pub(super) unanswered: Vec<(LivePlace, String)>,
}

/// Looks at the servers that were named and at those that they name, until none is new.
pub(super) async fn walk(access: &ClusterAccess, monitor: &str) -> Result<Walked, Failure> {
    let mut walked = Walked::default();
    let mut tried: Vec<LivePlace> = Vec::new();
    let mut round: VecDeque<LivePlace> = access.places.iter().cloned().collect();
    while !round.is_empty() && tried.len() < SERVERS_MAX {
        let places: Vec<LivePlace> =
            round.drain(..).filter(|place| !tried.contains(place)).take(SERVERS_MAX).collect();
        tried.extend(places.iter().cloned());
        let looks = join_all(places.iter().map(|place| ask(access, monitor, place))).await;
        for (place, answer) in places.into_iter().zip(looks) {
            match answer {
                Ok(look) => {
                    round.extend(look.names(&place));
                    if !walked.seen.iter().any(|(_, seen)| seen.is_same_server(&look)) {
                        walked.seen.push((place, look));
                    }
                }
                Err(error) => walked.unanswered.push((place, error)),
            }
        }
        if walked.seen.is_empty() {
            return Err(none_answers(access, &walked));
        }
    }
    Ok(walked)
}

async fn ask(access: &ClusterAccess, monitor: &str, place: &LivePlace) -> Result<ServerLook, String> {
    let (login, endpoint) = access.way(place);
    match timeout(LOOK_TIMEOUT, look(login, &endpoint, monitor)).await {
        Ok(answer) => answer,
        Err(_elapsed) => Err(format!("no answer within {LOOK_TIMEOUT:?}")),
    }
}

fn none_answers(access: &ClusterAccess, walked: &Walked) -> Failure {
    let errors: Vec<_> = walked.unanswered.iter().map(|(place, error)| format!("{place}: {error}")).collect();
    Failure::new(format!("could not look at {} as {}: {}", access.shown(), access.user, errors.join("; "))).hint(
        "Try the same connection string with psql. The password may be in PGPASSWORD; a role with pg_monitor sees the standbys.",
    )
}
