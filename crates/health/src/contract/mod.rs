//! The verdicts as told to load balancers: HTTP answers and HAProxy agent-check lines.
//!
//! Pure: a snapshot and a request in, a status and a body out. Every request has an answer, and the
//! body of an answer other than 200 never contains `OK`, because HAProxy's `expect string OK` looks
//! at the body alone.

use std::collections::HashMap;
use std::time::Instant;

use crate::snapshot::{NodeId, Snapshot};

/// An HTTP request, as far as the contract reads it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `GET`, `HEAD`, `OPTIONS`; anything else is answered 405.
    pub method: &'a str,
    /// The request target in origin or absolute form: `/replica1?lag=2s`.
    pub target: &'a str,
    /// The `Accept` header's value.
    pub accept: Option<&'a str>,
    /// When it is answered.
    pub now: Instant,
    /// Further members for a server's JSON, such as its sessions.
    pub extras: Option<&'a Extras>,
}

/// Further members for a server's JSON, such as its sessions.
pub type Extras = HashMap<NodeId, serde_json::Map<String, serde_json::Value>>;

/// An HTTP answer. Write head and body at once: HAProxy resets the connection as soon as it has decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// 200, 404, 405 or 503.
    pub status: u16,
    /// The `Content-Type` header's value.
    pub content_type: &'static str,
    /// Empty for HEAD.
    pub body: String,
}

impl Response {
    /// The status code with its words: `503 Service Unavailable`.
    #[must_use]
    pub fn status_line(&self) -> &'static str {
        match self.status {
            200 => "200 OK",
            404 => "404 Not Found",
            405 => "405 Method Not Allowed",
            _ => "503 Service Unavailable",
        }
    }
}

/// Answers a request from the verdicts in `snapshot`.
#[must_use]
pub fn respond(snapshot: &Snapshot, request: &Request<'_>) -> Response {
    let _ = (snapshot, request);
    Response { status: 503, content_type: "text/plain; charset=utf-8", body: String::new() }
}

/// HAProxy agent-check: turns the words a server line sends (its name) into the answer line.
///
/// Keeps what it said last per server, so that weights do not flap.
#[derive(Debug, Default)]
pub struct Agent {
    said: HashMap<NodeId, u8>,
}

impl Agent {
    /// The line for the server named by `words` (what `agent-send` sent), newline included.
    #[must_use]
    pub fn answer(&mut self, snapshot: &Snapshot, words: &str, now: Instant) -> String {
        let _ = (snapshot, words, now, &mut self.said);
        "down # unknown\n".to_owned()
    }
}
