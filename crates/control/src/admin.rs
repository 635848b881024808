//! The admin socket: what an operator may ask of a running proxy, over HTTP on a Unix socket.
//!
//! Whoever may open the socket may drain servers; its file is readable by its owner alone.
//! `POST /servers/NAME/ready`, `/drain` and `/maint` set what is wanted of a server; `POST /adopt` takes a cluster that was
//! re-initialised for the one to watch; `POST /reload` reads the configuration again; `GET /sessions` counts and lists
//! the sessions: `?limit=N` bounds the list, `?pinned=only` leaves out those that can move.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Path as Segments, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use trunkline_health::Health;
use trunkline_net::socket_file::{self, SocketFile};
use trunkline_topology::AdminState;

use crate::limits::SESSIONS_LISTED_MAX;
use crate::reload::{self, ReloadOutcome, ReloadRequest};
use trunkline_telemetry::sessions::{self, SessionFilter, SessionsQuery};

/// Who may open the socket: its owner.
const MODE: u32 = 0o600;

/// A socket file that goes with its listener.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    file: SocketFile,
}

impl AdminSocket {
    /// Listens at `path`; a socket that a dead process left there is replaced.
    ///
    /// # Errors
    /// When another process listens there, a file is there that is no socket, or what the kernel says.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let (listener, file) = socket_file::bind(path, MODE)?;
        Ok(AdminSocket { listener: UnixListener::from_std(listener)?, file })
    }

    /// Answers about `running` until `shutdown` completes and the requests under way are answered, or its task is dropped.
    pub async fn serve(self, running: RunningProxy, shutdown: impl Future<Output = ()> + Send + 'static) {
        let running = Arc::new(running);
        let routes = Router::new()
            .route("/servers/{name}/{wanted}", post(set))
            .route("/adopt", post(adopt))
            .route("/reload", post(reload))
            .route("/sessions", get(list))
            .with_state(running);
        let (path, file) = (self.file.path().to_owned(), self.file);
        let shutdown = async move {
            shutdown.await;
            // Before another socket may be made there.
            drop(file);
        };
        if let Err(error) = axum::serve(self.listener, routes).with_graceful_shutdown(shutdown).await {
            tracing::error!(%error, path = %path.display(), "the admin socket stopped");
        }
    }
}

/// What the socket's requests are about.
#[derive(Debug)]
pub struct RunningProxy {
    /// The verdicts.
    pub health: Health,
    /// The queues by which the proxy's workers are asked for their sessions.
    pub workers: Vec<mpsc::Sender<SessionsQuery>>,
    /// The queue of reloads; `None` where there is no configuration to read again.
    pub reloads: Option<mpsc::Sender<ReloadRequest>>,
}

async fn set(
    State(running): State<Arc<RunningProxy>>,
    Segments((name, wanted)): Segments<(String, String)>,
) -> (StatusCode, Json<Value>) {
    let refused = |status, message: String| (status, Json(json!({ "error": message })));
    let admin = match wanted.as_str() {
        "ready" => AdminState::Ready,
        "drain" => AdminState::Drain,
        "maint" => AdminState::Maint,
        other => {
            return refused(StatusCode::NOT_FOUND, format!("\"{other}\" is none of ready, drain, maint"));
        }
    };
    let health = &running.health;
    let snapshot = health.load_full();
    let Some(server) = snapshot.by_name(&name) else {
        let names: Vec<&str> = snapshot.servers.iter().map(|server| &*server.name).collect();
        return refused(
            StatusCode::NOT_FOUND,
            format!("no server is named \"{name}\"; there are {}", names.join(", ")),
        );
    };
    health.set_admin(server.id, admin);
    tracing::info!(server.name = %name, wanted, "operator set the administrative state of a server");
    (StatusCode::OK, Json(json!({ "server": name, "wanted": wanted, "was": server.state.as_str() })))
}

async fn adopt(State(running): State<Arc<RunningProxy>>) -> (StatusCode, Json<Value>) {
    match running.health.adopt().await {
        Ok(system) => {
            tracing::info!(system_identifier = %system, "operator had the re-initialised cluster adopted");
            // A string: the number needs 64 bits, of which many readers keep 53.
            (StatusCode::OK, Json(json!({ "system_identifier": system.to_string() })))
        }
        Err(why) => (StatusCode::CONFLICT, Json(json!({ "error": why.to_string() }))),
    }
}

/// Answers when the reload has ended.
async fn reload(State(running): State<Arc<RunningProxy>>) -> (StatusCode, Json<Value>) {
    let refused = |why: &str| (StatusCode::CONFLICT, Json(json!({ "error": why })));
    let Some(reloads) = &running.reloads else {
        return refused("this process has no configuration to read again");
    };
    match reload::ask(reloads).await {
        Some(outcome) => {
            let status = match outcome {
                ReloadOutcome::All => StatusCode::OK,
                ReloadOutcome::Part { .. } | ReloadOutcome::Nothing { .. } => StatusCode::CONFLICT,
            };
            (status, Json(json!(outcome)))
        }
        None => refused("another reload waits already, or the proxy is stopping"),
    }
}

/// How the sessions are to be listed.
#[derive(Debug, serde::Deserialize)]
struct Listing {
    limit: Option<usize>,
    pinned: Option<OnlyFlag>,
}

#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum OnlyFlag {
    Only,
}

async fn list(State(running): State<Arc<RunningProxy>>, Query(wanted): Query<Listing>) -> Json<Value> {
    let most = wanted.limit.map_or(SESSIONS_LISTED_MAX, |limit| limit.min(SESSIONS_LISTED_MAX));
    let listed = match wanted.pinned {
        Some(OnlyFlag::Only) => SessionFilter::Pinned(most),
        None => SessionFilter::All(most),
    };
    let sessions = sessions::ask(&running.workers, listed).await;
    Json(sessions.listing(Instant::now(), most))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use super::*;

    #[tokio::test]
    async fn the_socket_has_its_mode_from_the_moment_it_is_there() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("admin.sock");
        let (watched, is_over) = (path.clone(), Arc::new(AtomicBool::new(false)));
        let over = Arc::clone(&is_over);
        let (saying, said) = std::sync::mpsc::channel();
        // Looks at all times: a mode that holds for a moment only is seen in one of many rounds.
        let watching = std::thread::spawn(move || {
            let mut modes = BTreeSet::new();
            while !over.load(Relaxed) {
                if let Ok(found) = std::fs::symlink_metadata(&watched)
                    && modes.insert(found.permissions().mode() & 0o777)
                {
                    saying.send(()).expect("the test waits");
                }
            }
            modes
        });
        let first = AdminSocket::bind(&path).expect("free");
        said.recv().expect("the thread looks");
        drop(first);
        for _round in 0..500 {
            AdminSocket::bind(&path).expect("nobody listens any more");
        }
        is_over.store(true, Relaxed);
        assert_eq!(watching.join().expect("no panic"), BTreeSet::from([MODE]));
    }
}
