//! Server connections between two clients: kept, given to whoever asks next, and closed in time.
//!
//! `trunkline_pool` decides, for the whole process; here are its lock, the connections themselves, and the mail between
//! workers. A connection stays with the worker that opened it, whose reactor has its socket, until a client of another
//! worker gets it.
//!
//! - [`connection`]: a connection to a server.
//! - [`crowd`]: whether clients wait.
//! - [`seat`]: a session's place among the clients of its key.
//! - [`member`]: a connection's place in its pool.
//! - [`shelf`]: the idle connections of one worker.
//! - [`start`]: what the pools answer to a client that asks.
//! - [`askers`]: whose clients ask for what sequences have given.
//! - [`mail`]: what workers tell each other.
//! - [`waits`]: long waits: what the log and a client are told of them.

mod askers;
pub(crate) mod connection;
pub(crate) mod crowd;
pub(crate) mod mail;
pub(crate) mod member;
pub(crate) mod seat;
pub(crate) mod shelf;
pub(crate) mod start;
pub(crate) mod waits;

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use dashmap::DashMap;
use trunkline_pool::{Effects, Grant, PoolCounts, PoolId, PoolKey, PoolSettings, Pools, ReservedPlace};
use trunkline_telemetry::metrics::{PoolRow, PoolsNow};
use trunkline_topology::{ServerId, Snapshot};

use crate::limits::{POOL_VOUCHES, POOL_WAIT_TOLD};

use self::askers::SequenceAskers;
use self::crowd::Crowd;
use self::mail::{PoolMail, PoolMailbox};
use self::member::OpenPlace;
use self::waits::{LongWaits, WaitsNews};

/// The pools of the process, and the way to each worker.
#[derive(Debug)]
pub(crate) struct SharedPools {
    pools: Mutex<Pools>,
    mailboxes: Vec<PoolMailbox>,
    /// When a server last let in a client of this key itself, which had means to prove who it is, or none.
    vouched: DashMap<(PoolId, Means), Instant, BuildHasherDefault<PoolIdHasher>>,
    sequence_askers: SequenceAskers,
    pub(crate) crowd: Crowd,
    long_waits: Mutex<LongWaits>,
    /// Connections that were opened ahead of clients, by turns on all workers.
    opened_ahead: AtomicUsize,
}

/// Hashes what the pools number themselves: nobody chooses such keys to collide.
#[derive(Debug, Default)]
struct PoolIdHasher(u64);

impl Hasher for PoolIdHasher {
    fn finish(&self) -> u64 {
        // The upper bits depend on all of the key, and a table begins with the lower ones.
        self.0.rotate_left(26)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = self.0.wrapping_add(number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number as u64);
    }
}

/// Whether a client that the proxy has let in has something to log in with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Means {
    Some,
    None,
}

impl SharedPools {
    /// No pools yet. Each worker has one of the mailboxes, in order.
    pub(crate) fn new(settings: PoolSettings, mailboxes: Vec<PoolMailbox>) -> Arc<Self> {
        Arc::new(SharedPools {
            pools: Mutex::new(Pools::new(settings)),
            mailboxes,
            vouched: DashMap::default(),
            sequence_askers: SequenceAskers::default(),
            crowd: Crowd::default(),
            long_waits: Mutex::default(),
            opened_ahead: AtomicUsize::new(0),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Pools> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the workers what has become of others.
    pub(crate) fn deliver(&self, effects: Effects) {
        effects.grants.into_iter().for_each(|grant| self.granted(grant));
        for closing in effects.close {
            self.tell(closing.token.worker, PoolMail::Close { token: closing.token, reason: closing.reason });
        }
    }

    /// Tells a client that its wait is over.
    pub(crate) fn granted(&self, grant: Grant) {
        self.tell(grant.worker, PoolMail::Granted { client: grant.client });
    }

    /// A client has to wait: sessions that keep a connection give it back, on all workers.
    #[inline]
    pub(crate) fn client_waits(&self) {
        if self.crowd.waits() {
            self.mailboxes.iter().for_each(|mailbox| mailbox.send(PoolMail::GiveBack));
        }
    }

    /// The same of a client of this key: for one of its own connections it asks nobody.
    #[cold]
    pub(crate) fn client_of_key_waits(&self, key: PoolId) {
        if !self.lock().is_own(key) {
            self.client_waits();
        }
    }

    /// Sends mail to a worker. One that has ended has no sessions, and its connections are closed.
    pub(crate) fn tell(&self, worker: u16, mail: PoolMail) {
        if let Some(mailbox) = self.mailboxes.get(usize::from(worker)) {
            mailbox.send(mail);
        }
    }

    /// Has a worker open a connection ahead of clients.
    pub(crate) fn open_ahead(self: &Arc<Self>, place: ReservedPlace, key: PoolId) {
        let turn = self.opened_ahead.fetch_add(1, Relaxed) % self.mailboxes.len().max(1);
        let place = OpenPlace::new(self, place);
        self.tell(u16::try_from(turn).unwrap_or(0), PoolMail::OpenAhead { place, key });
    }

    /// One tick of the worker that does what is due in the pools.
    pub(crate) fn tick(&self) {
        self.crowd.tick();
    }

    /// Has the log tell of clients that wait for long.
    pub(crate) fn tell_of_waits(&self, now: Instant) {
        let mut waits = self.long_waits.lock().unwrap_or_else(PoisonError::into_inner);
        let news = waits.look(self.lock().longest_waits(POOL_WAIT_TOLD, now), now);
        news.iter().for_each(WaitsNews::log);
    }

    /// What there is, for who looks. A server that is not in `snapshot` any more has no name, and is not shown.
    pub(crate) fn now(&self, snapshot: &Snapshot) -> PoolsNow {
        let pools = self.lock();
        let row = |(server, key, counts): (Option<ServerId>, &PoolKey, PoolCounts)| {
            let server = match server {
                Some(server) => Some(Arc::clone(&snapshot.server(server)?.name)),
                None => None,
            };
            Some(PoolRow { server, database: key.database().into(), user: key.user().into(), counts })
        };
        let rows: Vec<_> = pools.counts(Instant::now()).filter_map(row).collect();
        let totals = pools.totals().clone();
        drop(pools);
        PoolsNow::new(rows, totals)
    }

    /// Forgets who was let in too long ago to vouch for anybody.
    pub(crate) fn forget_old_vouchers(&self) {
        self.vouched.retain(|_, at| at.elapsed() < POOL_VOUCHES);
    }

    /// Puts other settings in force.
    pub(crate) fn reconfigure(&self, settings: PoolSettings) {
        let effects = self.lock().reconfigure(settings);
        self.deliver(effects);
    }
}
