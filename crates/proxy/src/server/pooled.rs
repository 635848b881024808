//! Takes server connections from the pools, and gives them back.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Poll;
use std::time::Instant;

use trunkline_pool::{CarriedState, CheckFirst, PoolAsk};
use trunkline_reactor::timer;
use trunkline_routing::Candidate;
use trunkline_session::{ConnectionState, SessionState};
use trunkline_topology::{Role, ServerId, Snapshot};

use trunkline_auth::credentials::ServerCredentials;

use super::idle::ConnectionUse;
use super::restore::LoginAs;
use super::take::{Move, Search, TakeError};
use crate::context::Worker;
use crate::defaults::{Reuse, SessionDefaults};
use crate::errors::Refusal;
use crate::limits::{POOL_LOOK_INTERVAL, POOL_STAY};
use crate::pool::Means;
use crate::pool::connection::ServerConnection;
use crate::pool::member::{OpenPlace, PoolMember};
use crate::pool::seat::PoolSeat;
use crate::pool::shelf::ShelfWaiter;
use crate::pool::start::{PoolStart, PoolTicket};
use crate::pool::waits::why_not_served;

/// What a session asks the pools for.
#[derive(Debug)]
pub(crate) struct Pooled<'a> {
    pub(crate) seat: &'a PoolSeat,
    /// User and database.
    pub(crate) names: [&'a str; 2],
    pub(crate) who: PooledClient<'a>,
    /// What the pools have answered already.
    pub(crate) start: Option<PoolStart>,
}

/// For whom a connection is taken.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PooledClient<'a> {
    /// One that logs in, and whom the server itself must let in, or tell the defaults of its login.
    Unproven,
    /// One that logs in, and whom the proxy has let in.
    New,
    /// A session that goes on, with these defaults, and where it was last, unless it moves away from there.
    Going { own: &'a Arc<SessionDefaults>, last: Option<LastServer> },
}

/// The server that a session was on when it gave its connection back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LastServer {
    pub(crate) server: ServerId,
    /// When that server last answered.
    pub(crate) answered_at: Instant,
    /// When the session came to it. It stays for a while: another server has to show as much.
    pub(crate) chosen_at: Instant,
}

impl LastServer {
    /// Whether a connection to `server`, begun at `since`, shows all that the session has seen: it leads to the same server, and
    /// is older than what the session has seen there. A younger one may lead to a server that was restarted, and shows less
    /// than before.
    pub(crate) fn shows_as_much(&self, server: ServerId, since: Instant) -> bool {
        self.server == server && since <= self.answered_at
    }
}

/// A connection from the pools.
#[derive(Debug)]
pub(super) enum FromPool {
    /// It is logged in.
    Idle(Box<ServerConnection>, CheckFirst),
    /// It is connected, and has a place in its pool once it is logged in.
    New(Box<ServerConnection>, OpenPlace),
}

/// What the pools know of a connection's state, and of a session's. One fits the other where the defaults are the same, and
/// where the session knows all custom settings of the connection.
fn carried(fingerprint: u64, defaults: u32, custom: u32) -> CarriedState {
    // Connections of other defaults are not equal, whatever their settings.
    let fingerprint = fingerprint ^ u64::from(defaults).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    CarriedState { fingerprint, marks: u64::from(defaults) << u32::BITS | u64::from(custom) }
}

/// The same of what a session has left on a connection.
pub(crate) fn carried_by(state: &ConnectionState, defaults: u32) -> CarriedState {
    carried(state.fingerprint(), defaults, state.custom_marks())
}

fn fits(asked: &CarriedState, idle: &CarriedState) -> bool {
    let (asked_custom, idle_custom) = (asked.marks as u32, idle.marks as u32);
    asked.marks >> u32::BITS == idle.marks >> u32::BITS && idle_custom & !asked_custom == 0
}

/// For a client that no idle connection may serve.
fn fits_none(_asked: &CarriedState, _idle: &CarriedState) -> bool {
    false
}

/// The same of what a session wants.
pub(crate) fn carried_for(wanted: &SessionState, defaults: u32) -> CarriedState {
    carried(wanted.fingerprint(), defaults, wanted.custom_marks())
}

/// Whether there is anything to log in with.
pub(crate) fn means_of(credentials: &ServerCredentials) -> Means {
    if credentials.is_empty() { Means::None } else { Means::Some }
}

/// A fingerprint that no connection has.
fn nobodys() -> CarriedState {
    static NEXT: AtomicU64 = AtomicU64::new(1 << 63);
    CarriedState { fingerprint: NEXT.fetch_add(1, Relaxed), marks: u64::MAX }
}

impl Pooled<'_> {
    /// The state that a connection to `server` is to be brought to.
    fn carried(&self, worker: &Worker, server: ServerId, wanted: &SessionState) -> CarriedState {
        let defaults = match self.who {
            PooledClient::Unproven => return nobodys(),
            PooledClient::New => self.seat.digests.newest(&worker.shared.defaults, server, self.names),
            PooledClient::Going { own, .. } => own.digest(),
        };
        carried_for(wanted, defaults)
    }

    pub(super) fn last(&self) -> Option<LastServer> {
        match self.who {
            PooledClient::Going { last, .. } => last,
            PooledClient::Unproven | PooledClient::New => None,
        }
    }

    /// Asks the pools for a connection to one of `candidates`.
    fn ask(
        &self,
        worker: &Worker,
        candidates: &[ServerId],
        wanted: &SessionState,
        client: u64,
        known: ConnectionUse,
    ) -> Result<PoolStart, TakeError> {
        // Defaults may differ from server to server: a client that logs in waits for one.
        let candidates = match self.who {
            PooledClient::Going { .. } => candidates,
            PooledClient::Unproven | PooledClient::New => candidates.get(..1).unwrap_or_default(),
        };
        let Some(first) = candidates.first() else { return Ok(PoolStart::Gone) };
        let ask = PoolAsk {
            key: self.seat.id(),
            candidates,
            state: self.carried(worker, *first, wanted),
            fits: match (self.who, known) {
                (PooledClient::Unproven, _) | (_, ConnectionUse::Spoiled) => fits_none,
                (PooledClient::New | PooledClient::Going { .. }, _) => fits,
            },
            worker: worker.number(),
            client,
        };
        let asked = PoolStart::ask(self.seat.pools(), &worker.shelf, &ask, Instant::now());
        asked.map_err(|refusal| TakeError::NoServer(Refusal::Pool { why: refusal.to_string() }))
    }
}

/// Asks for an idle connection to the server that the session was on last, without a wait.
pub(crate) fn ask_last(
    worker: &Worker,
    seat: &PoolSeat,
    last: ServerId,
    state: CarriedState,
    client: u64,
    now: Instant,
) -> Option<PoolStart> {
    let candidates = &[last];
    let ask = PoolAsk { key: seat.id(), candidates, state, fits, worker: worker.number(), client };
    PoolStart::ask(seat.pools(), &worker.shelf, &ask, now).ok()
}

/// Whether an idle connection leads where its server is now, and has seen that server in the role that it has.
pub(crate) fn leads_to_its_server(snapshot: &Snapshot, server: &ServerConnection) -> bool {
    let Some(status) = snapshot.server(server.lease.server()) else { return false };
    let has_same_role = match (server.is_standby, status.role) {
        (Some(true), role) => role != Role::Primary,
        (Some(false), role) => role != Role::Standby,
        (None, _) => true,
    };
    has_same_role && status.address.as_ref() == Some(&server.address)
}

/// The same, and whether it is still there, as far as is known.
fn is_alive(worker: &Worker, server: &ServerConnection, known: NewsKnown) -> bool {
    leads_to_its_server(&worker.shared.health.load(), server)
        && match known {
            NewsKnown::ToThread => !server.stream.has_news(),
            NewsKnown::ToKernel => server.stream.is_silent(),
        }
}

/// Who knows whether something has come on an idle connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NewsKnown {
    /// It was idle on this thread: epoll has told all that came before the thread last waited for sockets, and a client that
    /// keeps its connection knows no more.
    ToThread,
    /// It has just come from another thread.
    ToKernel,
}

impl Search<'_> {
    /// Takes an idle connection, or connects for a place in a pool; waits for either.
    pub(super) async fn check_out_of_pool(
        &mut self,
        pooled: &mut Pooled<'_>,
        wanted: &SessionState,
    ) -> Result<FromPool, TakeError> {
        let waiter = self.worker.shelf.waiter();
        let mut next = pooled.start.take();
        // The verdicts may have changed since.
        let mut has_waited = false;
        let mut known = NewsKnown::ToThread;
        loop {
            let start = match next.take() {
                Some(start) => start,
                None => {
                    let candidates = self.pool_candidates(pooled.last());
                    if candidates.is_empty() {
                        if self.is_exhausted() {
                            return Err(self.give_up());
                        }
                        self.wait_for_news().await?;
                        continue;
                    }
                    if let (PooledClient::New, Some(first)) = (pooled.who, candidates.first())
                        && self.worker.shared.defaults.before_reuse(*first).await == Reuse::Unknown
                    {
                        // Its own login gives it what is right.
                        pooled.who = PooledClient::Unproven;
                    }
                    has_waited = false;
                    pooled.ask(self.worker, &candidates, wanted, waiter.client(), self.aligns)?
                }
            };
            match start {
                PoolStart::Idle(server, _)
                    if has_waited && !self.may_have(server.lease.server(), pooled.last()) =>
                {
                    self.worker.put_back(server);
                }
                PoolStart::Open(place) if has_waited && !self.may_have(place.server(), pooled.last()) => {
                    place.unused();
                }
                PoolStart::Idle(server, check) => {
                    if let Some(server) = self.usable(server, wanted, known) {
                        return Ok(FromPool::Idle(server, check));
                    }
                }
                PoolStart::Coming(coming, check) => {
                    let server = coming.await.ok().flatten().and_then(|released| released.adopt());
                    if let Some(mut server) = server {
                        if let Some(member) = &mut server.member {
                            member.renamed(self.worker.shelf.name(self.worker.index));
                        }
                        known = NewsKnown::ToKernel;
                        has_waited = true;
                        next = Some(PoolStart::Idle(server, check));
                    }
                }
                PoolStart::Open(place) => {
                    if let Some(server) = Box::pin(self.connect_to(place.server())).await? {
                        return Ok(FromPool::New(server, place));
                    }
                }
                PoolStart::Wait(ticket) => {
                    next = self.wait_in_queue(ticket, &waiter, pooled.last()).await?;
                    has_waited = true;
                }
                PoolStart::Gone => {}
            }
        }
    }

    /// Whether this server is still among those that will do.
    fn may_have(&self, server: ServerId, last: Option<LastServer>) -> bool {
        self.pool_servers(last).iter().any(|candidate| candidate.id == server)
    }

    /// The connection, if it is of use.
    fn usable(
        &self,
        server: Box<ServerConnection>,
        wanted: &SessionState,
        known: NewsKnown,
    ) -> Option<Box<ServerConnection>> {
        if is_alive(self.worker, &server, known) && server.state.fits(wanted) {
            return Some(server);
        }
        server.terminate();
        None
    }

    /// The servers that will do.
    fn pool_servers(&self, last: Option<LastServer>) -> Vec<Candidate> {
        let snapshot = self.worker.shared.health.load();
        let live = self.worker.shared.live();
        let mut servers = self.candidates(&snapshot, &live);
        if let Some(moving) = self.moving.filter(|_| !self.behind.is_empty() || last.is_none()) {
            servers = self.for_moving(&snapshot, servers, &moving);
        }
        servers.retain(|candidate| !self.excluded.contains(&candidate.id));
        servers
    }

    /// The same, the best first.
    fn pool_candidates(&self, last: Option<LastServer>) -> Vec<ServerId> {
        let servers = self.pool_servers(last);
        let has = |id: ServerId| servers.iter().any(|candidate| candidate.id == id);
        let stays = last.filter(|last| last.chosen_at.elapsed() < POOL_STAY && has(last.server));
        let first = stays.map(|last| last.server).or(self.first.filter(|first| has(*first)));
        let first = first.or_else(|| {
            let lease = self.criteria.listener.balancer.choose(&servers, &self.excluded);
            lease.map(|lease| lease.server())
        });
        let others = servers.iter().map(|candidate| candidate.id).filter(|id| Some(*id) != first);
        first.into_iter().chain(others).collect()
    }

    /// Returns what the wait has brought.
    async fn wait_in_queue(
        &mut self,
        ticket: PoolTicket,
        waiter: &ShelfWaiter,
        last: Option<LastServer>,
    ) -> Result<Option<PoolStart>, TakeError> {
        let since = ticket.since;
        let mut waiting = Some(ticket);
        loop {
            let mut woken = pin!(waiter.woken());
            // Whatever wakes the session may be the end of its wait.
            let granted = poll_fn(|cx| {
                let Some(ticket) = waiting.take() else { return Poll::Ready(None) };
                match ticket.take(&self.worker.shelf, self.worker.number(), Instant::now()) {
                    Ok(start) => return Poll::Ready(Some(start)),
                    Err(ticket) => waiting = Some(ticket),
                }
                while woken.as_mut().poll(cx).is_ready() {
                    woken.set(waiter.woken());
                }
                Poll::Pending
            });
            if let Ok(start) = timer::timeout(POOL_LOOK_INTERVAL, granted).await {
                self.worker.metrics.pool_waits.record(since.elapsed());
                return Ok(start);
            }
            let Some(ticket) = waiting.take() else { return Ok(None) };
            let limit = self.worker.shared.live().pool.query_wait_timeout;
            if !limit.is_zero() && ticket.since.elapsed() >= limit {
                let crowd = ticket.expire();
                let is_any_eligible = !self.pool_candidates(last).is_empty();
                let why = why_not_served(is_any_eligible.then_some(crowd), limit);
                return Err(TakeError::NoServer(Refusal::Pool { why }));
            }
            if ticket.is_over() {
                return Ok(None);
            }
            // Others may do by now.
            let candidates = self.pool_candidates(last);
            if !candidates.is_empty() {
                ticket.set_candidates(&candidates);
            }
            waiting = Some(ticket);
        }
    }

    /// The connection of this place is logged in.
    pub(super) fn joins_pool(
        &self,
        server: &mut ServerConnection,
        place: OpenPlace,
        pooled: &Pooled<'_>,
        who: LoginAs<'_>,
    ) {
        let defaults = &self.worker.shared.defaults;
        let own = match pooled.who {
            PooledClient::Going { own, .. } => Arc::clone(own),
            PooledClient::Unproven | PooledClient::New => {
                pooled.seat.vouched_for(means_of(who.credentials));
                let id = server.lease.server();
                Arc::new(SessionDefaults::at_login(defaults, id, server.since, pooled.names))
            }
        };
        server.state.has_login_timeout |= own.has_statement_timeout(who.startup);
        server.own = Some(own);
        server.member = PoolMember::opened(place, self.worker.shelf.name(self.worker.index));
    }

    /// What a server has to show on a connection of that age, unless the session has seen all of it there.
    pub(super) fn must_show(&mut self, last: Option<LastServer>, server: &ServerConnection) {
        let Some(last) = last else { return };
        if last.shows_as_much(server.lease.server(), server.since) {
            self.moving = None;
        } else if self.moving.is_none() {
            self.moving = Some(Move::from(&self.worker.shared.health, last.server, last.answered_at));
        }
    }
}

#[cfg(test)]
mod tests;
