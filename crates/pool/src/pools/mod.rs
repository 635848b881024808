//! All pools of the process.

use std::time::Instant;

use trunkline_topology::ServerId;

use crate::answer::{CheckIn, CheckOut, Effects, Taken};
use crate::connection::{CarriedState, ConnectionToken, ReservedPlace};
use crate::counts::{PoolCounts, PoolTotals};
use crate::key::{PoolId, PoolKey};
use crate::settings::PoolSettings;
use crate::waiter::{LongWait, PoolAsk, PoolRefusal, Ticket};

/// All pools of the process.
#[derive(Debug)]
pub struct Pools {
    settings: PoolSettings,
}

/// What time has brought about.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use = "clients wait for what is due"]
pub struct Due {
    /// Waits that `query_wait_timeout` has ended: the pools have forgotten them.
    pub expired: Vec<LongWait>,
    /// Waits that have passed [`NOTICE_AFTER`](crate::limits::NOTICE_AFTER): each once.
    pub notices: Vec<LongWait>,
    /// Connections idle too long or too old, and clients that may use the reserve now.
    pub effects: Effects,
    /// Places to fill pools up to `min_pool_size`: open connections and check them in.
    pub open: Vec<(ReservedPlace, PoolKey)>,
    /// When to ask again, at the latest; `None`: not until something else has happened.
    pub next: Option<Instant>,
}

#[expect(clippy::todo, unused_variables, reason = "the signatures come first")]
impl Pools {
    /// No pools yet.
    #[must_use]
    pub fn new(settings: PoolSettings) -> Self {
        Pools { settings }
    }

    /// Counts one more client of `key`: its connections are kept while it has any.
    ///
    /// # Errors
    /// [`PoolRefusal::TooManyPools`] when there are too many keys.
    pub fn join(&mut self, key: &PoolKey, now: Instant) -> Result<PoolId, PoolRefusal> {
        todo!()
    }

    /// Counts one client less.
    pub fn leave(&mut self, key: PoolId) {
        todo!()
    }

    /// Gives the client an idle connection, a place for a new one, or a place in the queue.
    pub fn check_out(&mut self, ask: &PoolAsk<'_>, now: Instant) -> CheckOut {
        todo!()
    }

    /// The connection has answered the check that it needed.
    pub fn checked(&mut self, token: ConnectionToken) {
        todo!()
    }

    /// A client gives its connection back, in this state.
    pub fn check_in(&mut self, token: ConnectionToken, state: CarriedState, now: Instant) -> CheckIn {
        todo!()
    }

    /// A connection has ended, whoever had it.
    pub fn closed(&mut self, token: ConnectionToken, now: Instant) -> Effects {
        todo!()
    }

    /// The connection of this place is there; it is its client's until it is checked in.
    pub fn opened(&mut self, place: ReservedPlace, token: ConnectionToken, now: Instant) {
        todo!()
    }

    /// The connection is with another worker now, by another name.
    pub fn rename(&mut self, token: ConnectionToken, to: ConnectionToken) {
        todo!()
    }

    /// The connection of this place cannot be opened.
    pub fn open_failed(&mut self, place: ReservedPlace, now: Instant) -> Effects {
        todo!()
    }

    /// Takes what a grant brought. `None`: it was lost meanwhile, and the client still waits for another one, or its wait
    /// has expired.
    pub fn take(&mut self, ticket: Ticket, now: Instant) -> Option<Taken> {
        todo!()
    }

    /// The client waits no longer; what was granted and not taken goes back.
    pub fn cancel(&mut self, ticket: Ticket, now: Instant) -> Effects {
        todo!()
    }

    /// Other servers will do now, the best one first.
    pub fn set_candidates(&mut self, ticket: Ticket, candidates: &[ServerId], now: Instant) -> Effects {
        todo!()
    }

    /// Closes all connections to a server that there are: idle ones now, the others when they are checked in.
    pub fn retire(&mut self, server: ServerId, now: Instant) -> Effects {
        todo!()
    }

    /// Puts other settings in force.
    pub fn reconfigure(&mut self, settings: PoolSettings, now: Instant) -> Effects {
        todo!()
    }

    /// What is due at this time.
    pub fn due(&mut self, now: Instant) -> Due {
        todo!()
    }

    /// When to ask for what is [due](Pools::due), at the latest.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        todo!()
    }

    /// Clients per key (no server), and server connections per pool.
    pub fn counts(&self, now: Instant) -> impl Iterator<Item = (Option<ServerId>, &PoolKey, PoolCounts)> {
        std::iter::empty()
    }

    /// What has happened since the start.
    #[must_use]
    pub fn totals(&self) -> &PoolTotals {
        todo!()
    }
}
