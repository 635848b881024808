//! The servers beside the sessions: HTTP, agent-check and the admin socket. Opened at the start, changed by reloads.
//!
//! New ones are bound before any old one is let go ([`Aside::prepare`]).

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use trunkline_control::admin::{AdminSocket, RunningProxy};
use trunkline_control::explain;
use trunkline_control::fleet::EditRequest;
use trunkline_control::http::{self, Checkers};
use trunkline_control::reload::Reloads;
use trunkline_control::{ListenError, listen, listen_beside};
use trunkline_health::judge::Transition;
use trunkline_routing::gray::{Compared, SpeedFinding, SpeedVerdict};
use trunkline_routing::{Rules, eligible};
use trunkline_telemetry::sessions::{self, SessionFilter, Sessions};
use trunkline_topology::Snapshot;

use crate::context::{BoundListener, SettledAuth, Shared};
use crate::failure::StartError;
use crate::relay::Explainer;
use crate::settings::{AdminPlace, Settings};

/// The servers that are open.
#[derive(Debug)]
pub(crate) struct Aside {
    reloads: Option<Reloads>,
    edits: mpsc::Sender<EditRequest>,
    checkers: Checkers,
    http: Option<OpenServer<SocketAddr>>,
    agent: Option<OpenServer<SocketAddr>>,
    admin: Option<OpenServer<PathBuf>>,
    tasks: JoinSet<()>,
}

/// One of them. It ends, once what it has under way is answered, when this is dropped.
#[derive(Debug)]
struct OpenServer<A> {
    /// As configured: the port may be 0.
    address: A,
    bound: A,
    _end: oneshot::Sender<Infallible>,
}

/// What becomes of one server; a new one is bound already.
#[derive(Debug)]
enum ServerChange<A, L> {
    Keep,
    Close,
    Open { address: A, bound: A, listener: L },
}

/// What becomes of all of them.
#[derive(Debug)]
pub(crate) struct PreparedAside {
    http: ServerChange<SocketAddr, TcpListener>,
    agent: ServerChange<SocketAddr, TcpListener>,
    admin: ServerChange<PathBuf, AdminSocket>,
    checkers: Vec<IpNet>,
}

impl Aside {
    /// None yet. `reloads` and `edits` take the requests for a reload and for other servers that come over the admin socket.
    pub(crate) fn new(reloads: Option<Reloads>, edits: mpsc::Sender<EditRequest>) -> Self {
        let (http, agent, admin) = (None, None, None);
        Aside { reloads, edits, checkers: Checkers::default(), http, agent, admin, tasks: JoinSet::new() }
    }

    /// Binds what the settings add or move.
    pub(crate) fn prepare(&self, settings: &Settings) -> Result<PreparedAside, StartError> {
        let admin = self.prepare_admin(&settings.admin)?;
        Ok(PreparedAside {
            http: self.listen("http", self.http.as_ref(), settings.http)?,
            agent: self.listen("agent", self.agent.as_ref(), settings.agent)?,
            admin,
            checkers: settings.http_checkers.clone(),
        })
    }

    /// One socket is kept wherever it may be. Of several places, none may be had.
    fn prepare_admin(&self, place: &AdminPlace) -> Result<ServerChange<PathBuf, AdminSocket>, StartError> {
        let open = self.admin.as_ref().map(|open| &open.bound);
        let socket = match place {
            AdminPlace::Off => return Ok(ServerChange::Close),
            AdminPlace::At(path) if open == Some(path) => return Ok(ServerChange::Keep),
            AdminPlace::FirstOf(paths) if open.is_some_and(|path| paths.contains(path)) => {
                return Ok(ServerChange::Keep);
            }
            AdminPlace::At(path) => {
                let failed = |source| StartError::Admin { path: path.clone(), source };
                AdminSocket::bind(path).map_err(failed)?
            }
            AdminPlace::FirstOf(paths) => match AdminSocket::bind_first(paths) {
                Ok(socket) => socket,
                Err(refused) => {
                    log_no_admin(&refused);
                    return Ok(ServerChange::Close);
                }
            },
        };
        let path = socket.path().to_owned();
        Ok(ServerChange::Open { address: path.clone(), bound: path, listener: socket })
    }

    fn listen(
        &self,
        name: &str,
        open: Option<&OpenServer<SocketAddr>>,
        wanted: Option<SocketAddr>,
    ) -> Result<ServerChange<SocketAddr, TcpListener>, ListenError> {
        let Some(address) = wanted else { return Ok(ServerChange::Close) };
        if open.is_some_and(|open| open.address == address) {
            return Ok(ServerChange::Keep);
        }
        let mut own = [&self.http, &self.agent].into_iter().flatten();
        let is_own_port = own.any(|open| open.bound.port() == address.port());
        let (listener, bound) =
            if is_own_port { listen_beside(name, address)? } else { listen(name, address)? };
        Ok(ServerChange::Open { address, bound, listener })
    }

    /// Puts what was prepared in force.
    pub(crate) fn commit(&mut self, prepared: PreparedAside, shared: &Arc<Shared>) {
        let PreparedAside { http, agent, admin, checkers } = prepared;
        self.checkers.set(checkers);
        let (checkers, verdicts) = (self.checkers.clone(), HttpVerdicts(Arc::clone(shared)));
        let (metrics, health) = (Arc::clone(&shared.metrics), shared.health.clone());
        let others = explain::routes(Explainer(Arc::clone(shared)));
        let others = others.merge(http::routes(verdicts.clone(), Some(Arc::clone(&metrics))));
        change(&mut self.http, &mut self.tasks, http, |listener, end| {
            http::serve(listener, checkers, verdicts, Some(metrics), end)
        });
        change(&mut self.agent, &mut self.tasks, agent, |listener, end| {
            http::serve_agent(listener, health, end)
        });
        let workers = shared.questions().cloned().collect();
        let (reloads, edits) = (self.reloads.clone(), self.edits.clone());
        let running = RunningProxy { health: shared.health.clone(), workers, reloads, edits };
        change(&mut self.admin, &mut self.tasks, admin, |socket, end| socket.serve(running, others, end));
    }

    /// Where HTTP is served.
    pub(crate) fn http(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(|open| open.bound)
    }

    /// Where agent-check is answered.
    pub(crate) fn agent(&self) -> Option<SocketAddr> {
        self.agent.as_ref().map(|open| open.bound)
    }

    /// The admin socket's file.
    pub(crate) fn admin(&self) -> Option<&Path> {
        self.admin.as_ref().map(|open| open.bound.as_path())
    }

    /// Ends all of them at once.
    pub(crate) async fn shutdown(&mut self) {
        self.tasks.shutdown().await;
    }
}

fn log_no_admin(refused: &[(PathBuf, io::Error)]) {
    let tried: Vec<String> = refused.iter().map(|(path, why)| format!("{}: {why}", path.display())).collect();
    tracing::warn!(
        tried = tried.join("; "),
        hint = "give it a directory that it may write to, or name a file with --admin or [admin] socket; \"off\" is none",
        "no admin socket: drain, maint, ready, adopt, reload and sessions cannot reach this proxy"
    );
}

/// Completes when its server is to end.
type EndSignal = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

fn change<A, L, S>(
    open: &mut Option<OpenServer<A>>,
    tasks: &mut JoinSet<()>,
    change: ServerChange<A, L>,
    serve: impl FnOnce(L, EndSignal) -> S,
) where
    S: Future<Output = ()> + Send + 'static,
{
    match change {
        ServerChange::Keep => {}
        ServerChange::Close => *open = None,
        ServerChange::Open { address, bound, listener } => {
            let (end, ended) = oneshot::channel::<Infallible>();
            let ended = Box::pin(async move { drop(ended.await) });
            tasks.spawn(serve(listener, ended));
            *open = Some(OpenServer { address, bound, _end: end });
        }
    }
    // Those that have ended.
    while tasks.try_join_next().is_some() {}
}

/// What the HTTP server reads of the proxy.
#[derive(Clone, Debug)]
struct HttpVerdicts(Arc<Shared>);

impl http::Verdicts for HttpVerdicts {
    fn newest(&self) -> Arc<Snapshot> {
        Arc::clone(&self.0.health.load())
    }

    fn is_draining(&self) -> bool {
        self.0.is_draining()
    }

    async fn sessions(&self) -> Option<Sessions> {
        let sessions = sessions::ask(self.0.questions(), SessionFilter::None).await;
        Some(sessions.with_occupancy(self.0.admission.occupancy(&self.0.live().limits)))
    }

    fn auth(&self) -> Option<http::AuthNow> {
        let unknown = || http::AuthNow {
            mode: None,
            why: "auto: no server has said yet whether stored secrets can be read, logins wait".to_owned(),
            hint: None,
        };
        let now = |settled: SettledAuth| {
            let (mode, why, hint) = (Some(settled.mode.word()), settled.why(), settled.hint());
            http::AuthNow { mode, why, hint }
        };
        Some(self.0.live().auth_choice.now().map_or_else(unknown, now))
    }

    fn transitions(&self) -> Vec<Transition> {
        self.0.health.transitions()
    }

    fn spread(&self) -> Option<http::SpreadNow> {
        let found = |finding: &SpeedFinding| http::SpeedNow {
            server: finding.server,
            speed: finding.speed,
            verdict: finding.verdict.map(SpeedVerdict::as_str),
            cells: finding.cells,
            slow_cells: finding.slow_cells,
            probe: finding.probe,
            probe_of_peers: finding.probe_of_peers,
            statements: finding.statements.iter().map(statement_speed).collect(),
        };
        let speeds = self.0.speeds.findings().iter().map(found).collect();
        Some(http::SpreadNow { zone: self.0.attached.zones().own.clone(), speeds })
    }

    fn listeners(&self) -> Vec<http::ListenerNow> {
        let (snapshot, live) = (self.newest(), self.0.live());
        let now = |bound: &Arc<BoundListener>| {
            let rules = Rules { attrs: bound.settings.options.target_session_attrs, ..live.rules() };
            let eligible = eligible(&rules, &snapshot, &self.0.attached);
            http::ListenerNow {
                name: bound.settings.name.clone(),
                address: bound.settings.address.clone(),
                target_session_attrs: rules.attrs.as_str(),
                servers: eligible.servers.iter().map(|candidate| candidate.id).collect(),
            }
        };
        self.0.listeners.load().iter().map(now).collect()
    }
}

fn statement_speed(compared: &Compared) -> http::StatementSpeed {
    let Compared { fingerprint, samples, own, peers } = *compared;
    http::StatementSpeed { fingerprint, samples, own, peers }
}
