//! The verdicts as load balancers get them: HTTP answers and HAProxy agent-check lines.
//!
//! Pure: a snapshot and a request in, a status and a body out. Every request has an answer, and the
//! body of an answer other than 200 never contains `OK`, because HAProxy's `expect string OK` looks
//! at the body alone.

mod agent;
mod json;
mod paths;
mod route;
mod server;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use self::route::{InvalidQuery, Route, WantedRole};
use trunkline_topology::{ExpectedRole, Role, ServerId, ServerStatus, Snapshot};

pub use self::agent::Agent;
pub use self::paths::is_path;
pub(crate) use self::paths::{PathAnswer, answer_at};

/// An HTTP request, as far as the contract reads it.
#[derive(Clone, Copy, Debug)]
pub struct CheckRequest<'a> {
    /// `GET`, `HEAD`, `OPTIONS`; anything else is answered 405.
    pub method: &'a str,
    /// The request target in origin or absolute form: `/replica1?lag=2s`.
    pub target: &'a str,
    /// The `Accept` header's value.
    pub accept: Option<&'a str>,
    /// When it is answered.
    pub now: Instant,
    /// Further members of the JSON, such as sessions.
    pub extras: Option<&'a Extras>,
}

/// Further members of the JSON, such as sessions.
#[derive(Clone, Debug, Default)]
pub struct Extras {
    /// Members beside the servers.
    pub cluster: serde_json::Map<String, serde_json::Value>,
    /// Members of each server.
    pub servers: HashMap<ServerId, serde_json::Map<String, serde_json::Value>>,
}

/// An HTTP answer. Write head and body at once: HAProxy resets the connection as soon as it has decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// 200, 400, 404, 405 or 503.
    pub status: u16,
    /// The `Content-Type` header's value.
    pub content_type: &'static str,
    /// Empty for HEAD.
    pub body: String,
}

/// How long the monitor may be silent before `/livez` fails.
const DEAD_AFTER: Duration = Duration::from_secs(10);

/// Answers a request from the verdicts in `snapshot`.
#[must_use]
pub fn respond(snapshot: &Snapshot, request: &CheckRequest<'_>) -> Response {
    let mut response = match request.method {
        "GET" | "HEAD" | "OPTIONS" => match Route::parse(request) {
            Ok(route) => answer(snapshot, request, &route),
            Err(InvalidQuery(text)) => plain(400, format!("Bad Request - {text}")),
        },
        _ => plain(405, "Method Not Allowed".to_owned()),
    };
    if response.status != 200 {
        response.body = without_ok(&response.body);
    }
    if request.method == "HEAD" {
        response.body.clear();
    }
    response
}

fn answer(snapshot: &Snapshot, request: &CheckRequest<'_>, route: &Route<'_>) -> Response {
    let mut segments = route.path.split('/').filter(|segment| !segment.is_empty());
    let (first, second, rest) = (segments.next(), segments.next(), segments.next());
    let server = match first {
        None => first_replica(snapshot),
        Some(name) => snapshot.by_name(name),
    };
    match (server, first, second, rest) {
        (Some(server), _, None, None) => {
            server::answer(snapshot, server, WantedRole::expected_of(server), request, route)
        }
        (Some(server), _, Some(want), None) => match WantedRole::parse(want) {
            Some(want) => server::answer(snapshot, server, want, request, route),
            None => not_found(),
        },
        (None, Some(word), None, None) => fleet(snapshot, word, request, route).unwrap_or_else(not_found),
        _ => not_found(),
    }
}

/// Paths about all servers.
fn fleet(snapshot: &Snapshot, word: &str, request: &CheckRequest<'_>, route: &Route<'_>) -> Option<Response> {
    let verdict = |is_good: bool, good: &str, bad: &str| {
        if is_good { plain(200, format!("OK - {good}")) } else { unavailable(bad) }
    };
    let silence = request.now.saturating_duration_since(snapshot.taken_at);
    Some(match answer_at(word)? {
        // Written from counters, by whoever serves them.
        PathAnswer::Metrics => return None,
        PathAnswer::Alive => verdict(silence <= DEAD_AFTER, "alive", "the monitor does not run"),
        PathAnswer::Ready => match server::untold(snapshot, request.now) {
            None => verdict(true, "ready", ""),
            Some(why) => unavailable(why),
        },
        PathAnswer::Cluster => json::cluster(snapshot, request),
        PathAnswer::Serving(want) => {
            let serving = snapshot
                .servers
                .iter()
                .find(|server| server::refusal(snapshot, server, want, request.now, route).is_none());
            match serving {
                Some(server) => verdict(true, &format!("{} serves as {}", server.name, server.role), ""),
                None => unavailable(&format!("no server is available for {word}")),
            }
        }
    })
}

/// The old checker's default: the first replica.
fn first_replica(snapshot: &Snapshot) -> Option<&ServerStatus> {
    let is_replica = |server: &&ServerStatus| match server.expected_role {
        ExpectedRole::Replica => true,
        ExpectedRole::Any => server.role == Role::Standby,
        ExpectedRole::Primary => false,
    };
    snapshot.servers.iter().find(is_replica)
}

fn plain(status: u16, body: String) -> Response {
    Response { status, content_type: "text/plain; charset=utf-8", body }
}

fn not_found() -> Response {
    plain(404, "Not Found - no such server or path".to_owned())
}

fn unavailable(why: &str) -> Response {
    plain(503, format!("503 Service Unavailable - {why}"))
}

/// Whatever a server's message or name says, `expect string OK` must not find it.
fn without_ok(body: &str) -> String {
    body.replace("OK", "O-K")
}
