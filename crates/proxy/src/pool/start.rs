//! What the pools answer to a client that asks, held so that nothing of it is lost when the client goes.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;
use trunkline_pool::{
    CheckFirst, CheckOut, Given, PoolAsk, PoolCrowd, PoolId, PoolRefusal, Taken, Ticket, WaitState,
};

use trunkline_topology::ServerId;

use super::SharedPools;
use super::connection::{ReleasedConnection, ServerConnection};
use super::mail::PoolMail;
use super::member::OpenPlace;
use super::shelf::Shelf;

/// What a client has got.
#[derive(Debug)]
pub(crate) enum PoolStart {
    /// An idle connection of this worker.
    Idle(Box<ServerConnection>, CheckFirst),
    /// An idle connection of another worker, on its way.
    Coming(oneshot::Receiver<Option<ReleasedConnection>>, CheckFirst),
    /// A place for a new connection.
    Open(OpenPlace),
    /// A place in the queue.
    Wait(PoolTicket),
    /// An idle connection that has ended meanwhile.
    Gone,
}

/// A place in the queue, given up when dropped.
#[derive(Debug)]
pub(crate) struct PoolTicket {
    pools: Arc<SharedPools>,
    key: PoolId,
    ticket: Ticket,
    pub(crate) since: Instant,
    is_over: bool,
}

impl PoolStart {
    /// Asks for a connection.
    ///
    /// # Errors
    /// When too many wait already.
    pub(crate) fn ask(
        pools: &Arc<SharedPools>,
        shelf: &Shelf,
        ask: &PoolAsk<'_>,
        now: Instant,
    ) -> Result<Self, PoolRefusal> {
        let answer = pools.lock().check_out(ask, now);
        match answer {
            CheckOut::Idle(given) => Ok(Self::given(pools, shelf, ask.worker, given)),
            CheckOut::Open { place, effects } => {
                pools.deliver(effects);
                Ok(PoolStart::Open(OpenPlace::new(pools, place)))
            }
            CheckOut::Wait(ticket) => {
                pools.client_of_key_waits(ask.key);
                let pools = Arc::clone(pools);
                Ok(PoolStart::Wait(PoolTicket { pools, key: ask.key, ticket, since: now, is_over: false }))
            }
            CheckOut::Refused(refusal) => Err(refusal),
        }
    }

    /// Where it leads, as far as that is known now.
    pub(crate) fn server(&self) -> Option<ServerId> {
        match self {
            PoolStart::Idle(server, _) => Some(server.lease.server()),
            PoolStart::Open(place) => Some(place.server()),
            PoolStart::Coming(..) | PoolStart::Wait(_) | PoolStart::Gone => None,
        }
    }

    fn given(pools: &Arc<SharedPools>, shelf: &Shelf, worker: u16, given: Given) -> Self {
        let Given { token, check, .. } = given;
        if token.worker == worker {
            return match shelf.take(token) {
                Some(server) => PoolStart::Idle(server, check),
                None => PoolStart::Gone,
            };
        }
        let (to, coming) = oneshot::channel();
        pools.tell(token.worker, PoolMail::HandOver { token, to });
        PoolStart::Coming(coming, check)
    }
}

impl PoolTicket {
    /// Who waits with this client, and for how many connections.
    fn crowd(&self) -> PoolCrowd {
        self.pools.lock().crowd_of(self.key)
    }

    /// These servers will do now, the best one first.
    pub(crate) fn set_candidates(&self, candidates: &[ServerId]) {
        let effects = self.pools.lock().set_candidates(self.ticket, candidates);
        self.pools.deliver(effects);
    }

    /// Whether the wait has ended and nothing comes of it any more: the pools have done so by a `query_wait_timeout` that may
    /// have been another than the one in force now.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// The client has waited for too long. Returns who has waited, this one among them, for how many connections.
    pub(crate) fn expire(mut self) -> PoolCrowd {
        let crowd = self.crowd();
        if !std::mem::replace(&mut self.is_over, true) {
            let effects = self.pools.lock().expire_wait(self.ticket, Instant::now());
            self.pools.deliver(effects);
        }
        crowd
    }

    /// What the wait has brought; `Err` while it goes on, and once it [is over](PoolTicket::is_over).
    pub(crate) fn take(mut self, shelf: &Shelf, worker: u16, now: Instant) -> Result<PoolStart, Self> {
        let taken = self.pools.lock().take(self.ticket, now);
        match taken {
            WaitState::Waiting => {
                self.pools.client_of_key_waits(self.key);
                Err(self)
            }
            WaitState::Over => {
                self.is_over = true;
                Err(self)
            }
            WaitState::Ready(taken) => {
                self.is_over = true;
                Ok(match taken {
                    Taken::Idle(given) => PoolStart::given(&self.pools, shelf, worker, given),
                    Taken::Open(place) => PoolStart::Open(OpenPlace::new(&self.pools, place)),
                })
            }
        }
    }
}

impl Drop for PoolTicket {
    fn drop(&mut self) {
        if !self.is_over {
            let effects = self.pools.lock().cancel(self.ticket, Instant::now());
            self.pools.deliver(effects);
        }
    }
}
