//! What clients and servers may rely on.

mod bounds;
mod choice;
mod own;
mod put_back;
mod queue;
mod reloads;
mod sizes;
mod times;

use std::time::{Duration, Instant};

use trunkline_topology::ServerId;

use crate::pools::Pools;
use crate::{
    CarriedState, CheckIn, CheckOut, CheckedIn, ConnectionToken, Effects, Given, Grant, GrantKind, PoolAsk,
    PoolBound, PoolId, PoolKey, PoolSettings, ReservedPlace, Taken, Ticket, WaitState,
};

const A: ServerId = ServerId(0);
const B: ServerId = ServerId(1);

/// Pools, a clock, and tokens.
struct Setup {
    pools: Pools,
    now: Instant,
    opened: u32,
}

fn settings(pool_size: u32) -> PoolSettings {
    PoolSettings { pool_size, server_check_delay: Duration::from_secs(30), ..PoolSettings::default() }
}

fn state(fingerprint: u64) -> CarriedState {
    CarriedState { fingerprint, marks: 0 }
}

/// A state with marks fits only itself.
fn marked(fingerprint: u64) -> CarriedState {
    CarriedState { fingerprint, marks: 1 }
}

fn fits(_asked: &CarriedState, idle: &CarriedState) -> bool {
    idle.marks == 0
}

impl Setup {
    fn new(settings: PoolSettings) -> Self {
        Setup { pools: Pools::new(settings), now: Instant::now(), opened: 0 }
    }

    fn key(&mut self, database: &str, user: &str) -> PoolId {
        self.pools.join(&PoolKey::new(database, user, PoolBound::Sized, 0, b"")).expect("few keys")
    }

    /// Another key of the same database and user, by its startup packet.
    fn key_of(&mut self, bound: PoolBound, application: &[u8]) -> PoolId {
        self.pools.join(&PoolKey::new("app", "web", bound, 0, application)).expect("few keys")
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn ask(&mut self, key: PoolId, candidates: &[ServerId], state: CarriedState) -> CheckOut {
        self.ask_on(0, key, candidates, state)
    }

    fn ask_on(&mut self, worker: u16, key: PoolId, candidates: &[ServerId], state: CarriedState) -> CheckOut {
        let ask = PoolAsk { key, candidates, state, fits, worker, client: 7 };
        self.pools.check_out(&ask, self.now)
    }

    /// A place that nobody had to make room for.
    fn place(&mut self, key: PoolId, server: ServerId) -> ReservedPlace {
        match self.ask(key, &[server], state(0)) {
            CheckOut::Open { place, effects } if effects.is_empty() => place,
            other => panic!("{other:?} is no place"),
        }
    }

    fn opened(&mut self, worker: u16, place: ReservedPlace) -> ConnectionToken {
        self.opened += 1;
        let token = ConnectionToken { worker, slot: self.opened, generation: 0 };
        assert!(self.pools.opened(place, token, self.now).is_empty());
        token
    }

    /// A connection of worker 0 that a client has.
    fn open(&mut self, key: PoolId, server: ServerId) -> ConnectionToken {
        let place = self.place(key, server);
        self.opened(0, place)
    }

    /// As many that clients have.
    fn open_all<const N: usize>(&mut self, key: PoolId, server: ServerId) -> [ConnectionToken; N] {
        std::array::from_fn(|_| self.open(key, server))
    }

    fn back(&mut self, token: ConnectionToken, state: CarriedState) -> CheckIn {
        self.pools.check_in(token, state, self.now)
    }

    /// Gives it back, for nobody.
    fn idle(&mut self, token: ConnectionToken, state: CarriedState) {
        let back = self.back(token, state);
        assert_eq!(back, CheckIn { fate: CheckedIn::Idle, effects: Effects::default() });
    }

    fn given(&mut self, key: PoolId, candidates: &[ServerId], state: CarriedState) -> Given {
        match self.ask(key, candidates, state) {
            CheckOut::Idle(given) => given,
            other => panic!("{other:?} is no idle connection"),
        }
    }

    fn wait(&mut self, key: PoolId, candidates: &[ServerId]) -> Ticket {
        self.wait_on(0, key, candidates)
    }

    fn wait_on(&mut self, worker: u16, key: PoolId, candidates: &[ServerId]) -> Ticket {
        match self.ask_on(worker, key, candidates, state(0)) {
            CheckOut::Wait(ticket) => ticket,
            other => panic!("{other:?} is no wait"),
        }
    }

    fn wait_state(&mut self, ticket: Ticket) -> WaitState {
        self.pools.take(ticket, self.now)
    }

    fn take(&mut self, ticket: Ticket) -> Option<Taken> {
        match self.wait_state(ticket) {
            WaitState::Ready(taken) => Some(taken),
            WaitState::Waiting | WaitState::Over => None,
        }
    }

    /// What is shown of a pool, or of the clients of a key.
    fn counts(&self, server: Option<ServerId>) -> crate::PoolCounts {
        let mut counts = self.pools.counts(self.now).filter(|(of, _, _)| *of == server);
        counts.next().map(|(_, _, counts)| counts).unwrap_or_default()
    }
}

fn granted(grants: &[Grant]) -> Vec<(Ticket, GrantKind)> {
    grants.iter().map(|grant| (grant.ticket, grant.what)).collect()
}
