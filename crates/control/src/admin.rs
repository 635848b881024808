//! The admin socket: what an operator may ask of a running proxy, over HTTP on a Unix socket.
//!
//! Whoever may open the socket may drain servers; its file is readable by its owner alone.
//! `POST /servers/NAME/ready`, `/drain` and `/maint` set what is wanted of a server, `/add`, `/set` and `/remove` change which
//! there are; `POST /adopt` takes a cluster that was
//! re-initialised for the one to watch; `POST /reload` reads the configuration again; `GET /sessions` counts and lists
//! the sessions: `?limit=N` bounds the list, `?pinned=only` leaves out those that can move. `GET /explain` is [`crate::explain`]'s. Every other path is answered as
//! by the HTTP server, also where that is switched off.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
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

use crate::fleet::{
    self, EditRefusal, EditRequest, NewPlace, RoleWord, ServerEdit, ServerKeys, WantedServer,
};
use crate::limits::SESSIONS_LISTED_MAX;
use crate::reload::{self, ReloadOutcome, Reloads};
use trunkline_telemetry::sessions::{self, SessionFilter, SessionsQuery};

/// Who may open the socket: its owner.
const MODE: u32 = 0o600;

/// The mode of a directory made for it: others see that there is a socket, and may not open it.
const DIRECTORY_MODE: u32 = 0o755;

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

    /// Listens at the first of `paths` where it can, whose directory it makes if only that is missing.
    ///
    /// # Errors
    /// Why it could not at any of them, one by one.
    pub fn bind_first(paths: &[PathBuf]) -> Result<Self, Vec<(PathBuf, io::Error)>> {
        let mut refused = Vec::new();
        for path in paths {
            match path.parent().map_or(Ok(()), make_directory).and_then(|()| Self::bind(path)) {
                Ok(socket) => return Ok(socket),
                Err(error) => refused.push((path.clone(), error)),
            }
        }
        Err(refused)
    }

    /// Its file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Answers about `running` until `shutdown` completes and the requests under way are answered, or its task is dropped.
    /// What is not the socket's own is answered by `others`.
    pub async fn serve(
        self,
        running: RunningProxy,
        others: Router,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) {
        let running = Arc::new(running);
        let routes = Router::new()
            .route("/servers/{name}/add", post(add))
            .route("/servers/{name}/set", post(change))
            .route("/servers/{name}/remove", post(remove))
            .route("/servers/{name}/{wanted}", post(set))
            .route("/adopt", post(adopt))
            .route("/reload", post(reload))
            .route("/sessions", get(list))
            .with_state(running)
            .fallback_service(others);
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

/// Makes a directory that only its owner may write to, unless there is one.
fn make_directory(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// What the socket's requests are about.
#[derive(Debug)]
pub struct RunningProxy {
    /// The verdicts.
    pub health: Health,
    /// The queues by which the proxy's workers are asked for their sessions.
    pub workers: Vec<mpsc::Sender<SessionsQuery>>,
    /// The queue of changes to the set of servers.
    pub edits: mpsc::Sender<EditRequest>,
    /// The queue of reloads; `None` where there is no configuration to read again.
    pub reloads: Option<Reloads>,
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

async fn add(
    State(running): State<Arc<RunningProxy>>,
    Segments(name): Segments<String>,
    Query(place): Query<NewPlace>,
    Query(keys): Query<ServerKeys>,
) -> (StatusCode, Json<Value>) {
    edit(&running, name, WantedServer::Added(place, keys)).await
}

async fn change(
    State(running): State<Arc<RunningProxy>>,
    Segments(name): Segments<String>,
    Query(keys): Query<ServerKeys>,
) -> (StatusCode, Json<Value>) {
    edit(&running, name, WantedServer::Changed(keys)).await
}

async fn remove(
    State(running): State<Arc<RunningProxy>>,
    Segments(name): Segments<String>,
) -> (StatusCode, Json<Value>) {
    edit(&running, name, WantedServer::Removed).await
}

async fn edit(running: &RunningProxy, name: String, wanted: WantedServer) -> (StatusCode, Json<Value>) {
    let (word, place, keys) = match &wanted {
        WantedServer::Added(place, keys) => ("added", Some(place), Some(keys)),
        WantedServer::Changed(keys) => ("changed", None, Some(keys)),
        WantedServer::Removed => ("removed", None, None),
    };
    tracing::info!(
        server.name = %name,
        wanted = word,
        server.host = place.map(|place| &*place.host),
        server.port = place.map(|place| place.port),
        weight = keys.and_then(|keys| keys.weight),
        zone = keys.and_then(|keys| keys.zone.as_deref()),
        role = keys.and_then(|keys| keys.role).map(RoleWord::as_str),
        "operator changes the set of servers"
    );
    match fleet::ask(&running.edits, ServerEdit { name: name.clone(), wanted }).await {
        Ok(()) => {
            let file = running.reloads.as_ref().and_then(|reloads| reloads.file.as_deref());
            (StatusCode::OK, Json(json!({ "server": name, "config": file })))
        }
        Err(refusal) => {
            let status = match refusal {
                EditRefusal::NoSuch { .. } => StatusCode::NOT_FOUND,
                EditRefusal::Invalid(_) => StatusCode::BAD_REQUEST,
                EditRefusal::NameTaken(_)
                | EditRefusal::PlaceTaken { .. }
                | EditRefusal::TooMany(_)
                | EditRefusal::Stopping => StatusCode::CONFLICT,
            };
            tracing::info!(server.name = %name, %refusal, "the set of servers was not changed");
            (status, Json(json!({ "error": refusal.to_string() })))
        }
    }
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
    match reload::ask(&reloads.queue).await {
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
    async fn the_first_place_that_can_be_had_is_taken_and_its_directory_made() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name).join("admin.sock");
        std::fs::write(directory.path().join("file"), "no directory").expect("writable");
        let places = [at("file"), at("not/there"), at("made"), at("never")];
        let first = AdminSocket::bind_first(&places).expect("the third can be had");
        assert_eq!(first.path(), places[2]);
        assert!(!directory.path().join("never").exists(), "it looks no further");
        let second = AdminSocket::bind_first(&places[..3]).expect_err("the third is taken");
        let kinds: Vec<_> = second.iter().map(|(_, error)| error.kind()).collect();
        assert_eq!(kinds[1..], [io::ErrorKind::NotFound, io::ErrorKind::AddrInUse], "{second:?}");
    }

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
