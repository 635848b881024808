//! Takes one of several servers: tries them, excludes those that fail, waits for new verdicts, and gives up at a
//! deadline.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use trunkline_codec::ids::Lsn;
use trunkline_codec::sqlstate::SqlState;
use trunkline_health::PassiveFailure;
use trunkline_reactor::timer;
use trunkline_routing::{Candidate, Lease};
use trunkline_topology::{Address, Postmaster, ServerId, Snapshot};

use super::align::{AlignError, Ask, align, position};
use super::connection::ReadyServer;
pub(crate) use super::criteria::{ReadLeg, ServerCriteria, UnitLeg};
pub(crate) use super::freshness::Move;
use super::idle::ConnectionUse;
use super::login::LoginError;
use super::patience::answered;
use super::refused::{RefusedBy, is_servers_own_trouble, log_attempt};
pub(crate) use super::restore::LoginAs;
use crate::pool::connection::ServerConnection;
use trunkline_session::{Alignment, AlignmentError, SessionState, are_too_many_parameters, diff};

use crate::client::messages::ReadError;
use crate::context::{Live, Worker};
use crate::encryption::handshake_result;
use crate::errors::Refusal;
use crate::limits::{LOOK_INTERVAL, REPLAY_PATIENCE, RETAKE_PAUSE};
use crate::net::{Reached, ServerPlace, TlsPlace};
use crate::snapshots::keep_first;
use trunkline_telemetry::metrics::{FailoverCause, HandshakeResult, MoveRefusal, TlsLeg};

/// A server to connect to.
struct Chosen {
    lease: Lease,
    name: Arc<str>,
    address: Address,
    tls: Option<Arc<TlsPlace>>,
    postmaster: Option<Postmaster>,
}

/// Why this server was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChoiceReason {
    /// The balancer chose it.
    Regular,
    /// The others have not replayed what the session has seen.
    OthersBehind,
    /// It is the primary, for a request that reads, and the standbys that would have done have not taken the session.
    StandbysFailed,
}

/// Why no server was taken.
#[derive(Debug)]
pub(crate) enum TakeError {
    /// No server is eligible, or none could be reached in time.
    NoServer(Refusal),
    /// A server refused; the client gets its ErrorResponse.
    Refused(Bytes),
}

/// One session's search for a server.
#[derive(Debug)]
pub(crate) struct Search<'a> {
    pub(super) worker: &'a Worker,
    pub(super) criteria: ServerCriteria,
    /// This one is tried first, for a session's first server.
    pub(crate) first: Option<ServerId>,
    /// `None` for a session's first server.
    pub(super) moving: Option<Move>,
    /// The proxy itself has authenticated the client, or a server has let it in before.
    pub(super) is_vouched_for: bool,
    pub(super) deadline: Instant,
    /// The session moves although its server serves it: to none that is worse.
    pub(super) is_planned: bool,
    /// The session has its server until another has taken it. Each other server is asked once.
    pub(super) keeps_server: bool,
    /// Servers that have failed since the verdicts last changed.
    pub(super) excluded: Vec<ServerId>,
    /// Servers that refused the session, each with its last reason.
    pub(super) refused_by: Vec<RefusedBy>,
    /// The server that is being tried.
    pub(super) asked: Option<ServerId>,
    /// Servers that have not replayed what the session has seen, and their positions.
    pub(super) behind: Vec<(ServerId, Lsn)>,
    /// The permit to log in, of a session that moves.
    pub(super) turn: Option<OwnedSemaphorePermit>,
    /// The last server's refusal, for the client if no other server takes the session.
    pub(super) last_words: Option<TakeError>,
    attempts: u32,
    /// How often a login was tried again on a standby that may not have replayed the role yet.
    pub(super) role_looks: u32,
    pub(super) aligns: ConnectionUse,
}

impl<'a> Search<'a> {
    pub(crate) fn new(worker: &'a Worker, criteria: ServerCriteria) -> Self {
        let deadline = Instant::now() + worker.shared.live().timeouts.wait_for_server(criteria.attrs);
        Search {
            worker,
            criteria,
            first: None,
            moving: None,
            is_vouched_for: false,
            deadline,
            is_planned: false,
            keeps_server: false,
            excluded: Vec::new(),
            refused_by: Vec::new(),
            asked: None,
            behind: Vec::new(),
            turn: None,
            last_words: None,
            attempts: 0,
            role_looks: 0,
            aligns: ConnectionUse::New,
        }
    }

    /// How much longer than others this search may take, because it may have to wait for a failover.
    pub(crate) fn extra_wait(&self) -> Duration {
        let timeouts = &self.worker.shared.live().timeouts;
        timeouts.wait_for_server(self.criteria.attrs).saturating_sub(timeouts.acquire)
    }

    /// For a client that the proxy itself has authenticated, or that a server has let in before.
    pub(crate) fn vouched_for(worker: &'a Worker, criteria: ServerCriteria) -> Self {
        Search { is_vouched_for: true, ..Search::new(worker, criteria) }
    }

    /// For a session that moves from one server to another.
    pub(crate) fn for_move(worker: &'a Worker, criteria: ServerCriteria, moving: Move) -> Self {
        Search { moving: Some(moving), excluded: vec![moving.from], ..Search::new(worker, criteria) }
    }

    /// Connects to the next server that accepts a connection.
    pub(crate) async fn connect(&mut self) -> Result<Box<ServerConnection>, TakeError> {
        loop {
            self.asked = None;
            let Some(chosen) = self.choose() else {
                if self.is_exhausted() {
                    return Err(self.give_up());
                }
                self.wait_for_news().await?;
                continue;
            };
            if let Some(server) = self.connect_chosen(chosen).await? {
                return Ok(server);
            }
        }
    }

    /// Connects to this server; `None` when it failed, or the verdicts have changed.
    pub(super) async fn connect_to(
        &mut self,
        id: ServerId,
    ) -> Result<Option<Box<ServerConnection>>, TakeError> {
        self.asked = None;
        let (snapshot, live) = (self.worker.shared.health.load(), self.worker.shared.live());
        // It was among those that may be asked a moment ago.
        let only = [Candidate { id, weight: 1.0 }];
        let lease = self.criteria.listener.balancer.choose(&only, &self.excluded);
        let chosen = lease.and_then(|lease| self.chosen(lease, &snapshot, &live));
        drop(snapshot);
        let connected = match chosen {
            Some(chosen) => self.connect_chosen(chosen).await?,
            None => None,
        };
        if connected.is_none() && !self.excluded.contains(&id) {
            // Not asked again before there is news.
            self.excluded.push(id);
        }
        Ok(connected)
    }

    async fn connect_chosen(&mut self, chosen: Chosen) -> Result<Option<Box<ServerConnection>>, TakeError> {
        let Chosen { lease, name, address, tls, postmaster } = chosen;
        if !self.wait_for_turn(lease.server()).await? {
            return Ok(None);
        }
        self.attempts += 1;
        self.asked = Some(lease.server());
        self.worker.shared.defaults.before_login(lease.server()).await;
        let (since, timeout) = (Instant::now(), self.worker.shared.live().timeouts.connect);
        let place = ServerPlace { address: &address, tls: tls.as_deref() };
        let connecting = self.worker.connector.connect(place, timeout);
        let connected = answered(&self.worker.shared.health, lease.server(), timeout, connecting).await;
        let connected = connected.flatten();
        self.note_handshake((lease.server(), &name, &address), tls.as_deref(), &connected);
        match connected {
            Ok(Reached { stream, .. }) => {
                let (key, state) = (None, Box::default());
                let (is_standby, own, member) = (None, None, None);
                Ok(Some(Box::new(ServerConnection {
                    lease,
                    name,
                    address,
                    tls,
                    postmaster,
                    stream,
                    since,
                    key,
                    state,
                    is_standby,
                    own,
                    member,
                })))
            }
            Err(error) => {
                log_attempt!(
                    self, info, server.name = %name, server.addr = %address, %error,
                    "could not connect to the server, trying another"
                );
                let (cause, reason) = match error.kind() {
                    io::ErrorKind::TimedOut => (FailoverCause::ConnectTimeout, MoveRefusal::Timeout),
                    _ => (FailoverCause::ConnectFailed, MoveRefusal::Lost),
                };
                self.failed(lease.server(), PassiveFailure::ConnectFailed, cause, reason);
                Ok(None)
            }
        }
    }

    /// Counts the handshake of a connection, if there was one, and tells of TLS that came to nothing.
    fn note_handshake(
        &self,
        (server, name, address): (ServerId, &str, &Address),
        tls: Option<&TlsPlace>,
        connected: &io::Result<Reached>,
    ) {
        let Some(tls) = tls else { return };
        let result = match connected {
            Ok(reached) => handshake_result(reached),
            Err(error) => (error.kind() == io::ErrorKind::InvalidData).then_some(HandshakeResult::Failed),
        };
        if let Some(result) = result {
            self.worker.metrics.handshake_ended(TlsLeg::Server, result);
        }
        if let (Ok(reached), true) = (connected, tls.may_go_without()) {
            self.worker.shared.encryption.note(server, (name, address), reached);
        }
    }

    /// The servers that may be asked now, those that failed a moment ago included. The primary stands in for standbys
    /// once all of them have refused the session.
    pub(super) fn candidates(&self, snapshot: &Snapshot, live: &Live) -> Vec<Candidate> {
        let attached = &self.worker.shared.attached;
        let mut servers = self.criteria.eligible(snapshot, live, attached).servers;
        servers.retain(|candidate| self.can_be_asked(snapshot, candidate.id));
        if servers.is_empty() && self.may_ask_the_primary_last() {
            servers = self.primary_instead(snapshot);
        }
        if self.has_failed_to_read(&servers) {
            let primary = self.primary_instead(snapshot);
            if !primary.is_empty() {
                return primary;
            }
        }
        servers
    }

    /// Whether a request that reads need not wait for these servers, none of which has taken the session: the primary is there.
    fn has_failed_to_read(&self, servers: &[Candidate]) -> bool {
        self.criteria.leg != UnitLeg::Any && servers.iter().all(|server| self.excluded.contains(&server.id))
    }

    /// Whether a server has an address, and has not refused the session for good.
    pub(super) fn can_be_asked(&self, snapshot: &Snapshot, id: ServerId) -> bool {
        snapshot.server(id).is_some_and(|server| server.address.is_some()) && !self.has_refused(id)
    }

    /// Whether no server is left to be asked but `server`, which has just refused the session.
    pub(super) fn is_last(&self, server: ServerId) -> bool {
        let (snapshot, live) = (self.worker.shared.health.load(), self.worker.shared.live());
        let attached = &self.worker.shared.attached;
        let mut others = self.criteria.eligible(&snapshot, &live, attached).servers;
        others.extend(self.primary_instead(&snapshot));
        let is_left = |id| id != server && !self.excluded.contains(&id) && self.can_be_asked(&snapshot, id);
        !others.iter().any(|other| is_left(other.id))
    }

    fn choose(&self) -> Option<Chosen> {
        let shared = &self.worker.shared;
        let snapshot = shared.health.load();
        let live = shared.live();
        let mut servers = self.candidates(&snapshot, &live);
        let balancer = &self.criteria.listener.balancer;
        let lease = match self.moving {
            None => {
                keep_first(&mut servers, self.first, &self.excluded);
                balancer.choose(&servers, &self.excluded)?
            }
            Some(moving) => balancer.choose_for_move(&self.for_moving(&snapshot, servers, &moving), &[])?,
        };
        self.chosen(lease, &snapshot, &live)
    }

    /// Where the server of this place is, and how it is spoken to.
    fn chosen(&self, lease: Lease, snapshot: &Snapshot, live: &Live) -> Option<Chosen> {
        let rules = self.criteria.rules(live);
        let server = snapshot.server(lease.server())?;
        let address = server.address.clone()?;
        let stands_in = rules.stands_in(server);
        let lease = if stands_in { lease.standing_in(rules.standing_in_most())? } else { lease };
        let tls = live.stores.server_tls.of(&server.host, server.port);
        let tls = tls.map(|tls| Arc::new(TlsPlace { host: Arc::clone(&server.host), tls: tls.clone() }));
        Some(Chosen { lease, name: Arc::clone(&server.name), address, tls, postmaster: server.postmaster })
    }

    /// Limits how many moving sessions log in on a server at one time; new sessions do not wait. `false` when the
    /// verdicts changed first: another server may be better now.
    async fn wait_for_turn(&mut self, server: ServerId) -> Result<bool, TakeError> {
        self.turn = None;
        if self.moving.is_none() {
            return Ok(true);
        }
        let mut news = self.worker.shared.health.changed();
        news.mark_unchanged();
        let turn = self.worker.shared.pace.turn(server);
        let turn_or_news = async {
            tokio::select! {
                biased;
                turn = turn => Some(turn.ok()),
                Ok(()) = news.changed() => None,
            }
        };
        match timer::timeout_at(self.deadline, turn_or_news).await {
            Ok(Some(turn)) => {
                self.turn = turn;
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(_elapsed) => Err(self.give_up()),
        }
    }

    /// Returns when it is worth trying again.
    pub(super) async fn wait_for_news(&mut self) -> Result<(), TakeError> {
        let now = Instant::now();
        if now >= self.deadline {
            return Err(self.give_up());
        }
        // Gives the permit to log in to another session.
        self.turn = None;
        // Room that other sessions free changes no verdict, so it is looked for at intervals.
        let left = (self.deadline - now).min(LOOK_INTERVAL);
        // Servers that have just refused are tried again soon. Without any, only new verdicts help.
        let pause =
            if self.excluded.is_empty() { left } else { left.min(RETAKE_PAUSE * self.attempts.clamp(1, 10)) };
        let mut news = self.worker.shared.health.changed();
        news.mark_unchanged();
        if self.excluded.is_empty() && self.choose().is_some() {
            return Ok(());
        }
        match timer::timeout(pause, news.changed()).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(_closed)) => return Err(TakeError::NoServer(Refusal::ShuttingDown)),
        }
        self.excluded.clear();
        Ok(())
    }

    /// Restores the session's state; `None` when the server was lost or is behind, and another should be tried.
    pub(super) async fn align(
        &mut self,
        mut taken: ReadyServer,
        wanted: &SessionState,
        timeout: Duration,
    ) -> Result<Option<ReadyServer>, TakeError> {
        let patience = timeout + REPLAY_PATIENCE;
        let (worker, server) = (self.worker, taken.server.lease.server());
        let alignment = diff(&taken.server.state, wanted);
        if alignment.is_empty()
            && !self.must_be_fresh()
            && !are_too_many_parameters(&taken.login_reply.messages)
        {
            return Ok(Some(self.chosen_so(taken)));
        }
        let settled = self.settle(&mut taken, &alignment);
        let error = match answered(&worker.shared.health, server, patience, settled).await {
            Ok(Ok(is_fresh)) => return Ok(is_fresh.then(|| self.chosen_so(taken))),
            Ok(Err(AlignError::Refused(AlignmentError::Refused { code: Some(code), .. })))
                // Canceled by the login's own statement_timeout, on a slow server.
                if is_servers_own_trouble(code) || code == SqlState::QUERY_CANCELED =>
            {
                LoginError::Lost(ReadError::Closed)
            }
            Ok(Err(AlignError::Refused(error))) => {
                log_attempt!(self, warn, server.name = %taken.server.name, %error, "a session's state could not be restored");
                self.state_refused(taken.server.lease.server());
                return Ok(None);
            }
            Ok(Err(AlignError::Lost(error))) => LoginError::Lost(error),
            Err(error) => error.into(),
        };
        self.login_failed(&taken.server, error)?;
        Ok(None)
    }

    /// Says why the server was taken.
    fn chosen_so(&self, mut taken: ReadyServer) -> ReadyServer {
        if !self.behind.is_empty() {
            taken.choice = ChoiceReason::OthersBehind;
        } else if self.criteria.leg != UnitLeg::Any && !self.refused_by.is_empty() {
            taken.choice = ChoiceReason::StandbysFailed;
        }
        taken
    }

    /// Restores the session's state on the server. Returns whether the server shows all that the session has seen.
    async fn settle(&mut self, taken: &mut ReadyServer, alignment: &Alignment) -> Result<bool, AlignError> {
        if are_too_many_parameters(&taken.login_reply.messages) {
            return Err(AlignmentError::TooManyParameters.into());
        }
        if !self.must_be_fresh() {
            align(taken, alignment, Ask::Nothing).await?;
            return Ok(true);
        }
        if !alignment.needs_position_first() {
            let position = align(taken, alignment, Ask::Position).await?;
            return Ok(self.is_fresh(taken, position).await?);
        }
        // The position may have to be queried repeatedly, and the alignment may read what the server has not
        // replayed yet.
        let position = position(taken).await?;
        let is_fresh = self.is_fresh(taken, position).await?;
        if is_fresh {
            align(taken, alignment, Ask::Nothing).await?;
        }
        Ok(is_fresh)
    }
}
