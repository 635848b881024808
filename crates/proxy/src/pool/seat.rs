//! A session's place among the clients of its key.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Deref;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use trunkline_codec::startup::StartupMessage;
use trunkline_pool::{PoolBound, PoolId, PoolKey, PoolMode, PoolRefusal, ServerLimit};
use trunkline_topology::ServerId;

use super::{Means, SharedPools};
use crate::defaults::LoginDigests;
use crate::limits::POOL_VOUCHES;

/// The place of one client among those of its key, which counts it until this is dropped.
#[derive(Debug)]
pub(crate) struct ClientSeat(Rc<PoolSeat>);

impl Deref for ClientSeat {
    type Target = Rc<PoolSeat>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Drop for ClientSeat {
    fn drop(&mut self) {
        let effects = self.0.pools.lock().leave(self.0.id);
        self.0.pools.deliver(effects);
    }
}

/// For how long a client of a seat has a server connection, and who gets that next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SeatMode {
    /// Until it disconnects; then another client does.
    Session,
    /// For a transaction; then any client does.
    Transaction,
    /// For a transaction; then it waits for its client's next one. Nobody else ever gets it, and it ends with its client.
    Own,
}

/// What the clients of a key have alike that one thread has.
#[derive(Debug)]
pub(crate) struct PoolSeat {
    pools: Arc<SharedPools>,
    id: PoolId,
    mode: SeatMode,
    /// A hash of user and database.
    names: u64,
    pub(crate) digests: LoginDigests,
}

/// Whether an idle connection was closed at a server's own limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RoomMade {
    Yes,
    No,
}

/// How many seats there may be before those that nobody has are looked for.
const SWEEP_MIN: usize = 64;

/// The seats of one thread, by user, database, startup packet and mode. Never more than [`SWEEP_MIN`] or twice as many as are
/// in use.
#[derive(Debug, Default)]
pub(crate) struct Seats {
    known: HashMap<Box<[u8]>, Weak<PoolSeat>>,
    /// The newest, also when nobody has it: the next client may well be one like the last.
    newest: Option<(Box<[u8]>, Rc<PoolSeat>)>,
    sweep_at: usize,
}

impl Seats {
    /// The seat of a client of this user, database and startup packet.
    ///
    /// # Errors
    /// When there are too many pools.
    pub(crate) fn take(
        &mut self,
        pools: &Arc<SharedPools>,
        mode: PoolMode,
        names: [&str; 2],
        startup: &StartupMessage,
    ) -> Result<ClientSeat, PoolRefusal> {
        let names_bytes: usize = names.iter().map(|name| name.len() + 1).sum();
        let mut key = BytesMut::with_capacity(startup.packet_bytes() + 1 + names_bytes);
        startup.encode(&mut key);
        key.extend_from_slice(&[u8::from(mode == PoolMode::Transaction)]);
        let packet_bytes = key.len();
        for name in names {
            key.extend_from_slice(name.as_bytes());
            key.extend_from_slice(&[0]);
        }
        let newest = self.newest.as_ref().filter(|(known, _)| **known == key[..]);
        let known = match newest {
            Some((_, seat)) => Some(Rc::clone(seat)),
            None => self.known.get(&key[..]).and_then(Weak::upgrade),
        };
        if let Some(seat) = known
            && pools.lock().join_again(seat.id)
        {
            return Ok(ClientSeat(seat));
        }
        let (bound, mode) = match mode {
            PoolMode::Session => (PoolBound::Unlimited, SeatMode::Session),
            PoolMode::Transaction => (PoolBound::Sized, SeatMode::Transaction),
        };
        let seat = Rc::new(PoolSeat::join(pools, (bound, mode), names, &key[..packet_bytes])?);
        if self.known.len() >= self.sweep_at {
            self.known.retain(|_, seat| seat.strong_count() > 0);
            self.sweep_at = (2 * self.known.len()).max(SWEEP_MIN);
        }
        let _gone = self.known.insert((&*key).into(), Rc::downgrade(&seat));
        self.newest = Some(((&*key).into(), Rc::clone(&seat)));
        Ok(ClientSeat(seat))
    }
}

impl ClientSeat {
    /// The seat of a client that has its server connections to itself.
    ///
    /// # Errors
    /// When there are too many pools.
    pub(crate) fn own(pools: &Arc<SharedPools>, names: [&str; 2]) -> Result<Self, PoolRefusal> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let unlike_others = NEXT.fetch_add(1, Relaxed).to_ne_bytes();
        let seat = PoolSeat::join(pools, (PoolBound::Own, SeatMode::Own), names, &unlike_others)?;
        Ok(ClientSeat(Rc::new(seat)))
    }
}

impl PoolSeat {
    /// Its first client joins the pools of this user, database, and startup packet with what else tells pools apart.
    fn join(
        pools: &Arc<SharedPools>,
        (bound, mode): (PoolBound, SeatMode),
        [user, database]: [&str; 2],
        rest: &[u8],
    ) -> Result<Self, PoolRefusal> {
        let mut hasher = DefaultHasher::new();
        rest.hash(&mut hasher);
        let key = PoolKey::new(database, user, bound, hasher.finish(), rest);
        let id = pools.lock().join(&key)?;
        let mut names = DefaultHasher::new();
        [user, database].hash(&mut names);
        let (names, digests) = (names.finish(), LoginDigests::default());
        Ok(PoolSeat { pools: Arc::clone(pools), id, mode, names, digests })
    }

    /// A server has no connection left for a client of this seat: an idle one is closed, if that makes room.
    pub(crate) fn make_room(&self, server: ServerId, limit: ServerLimit) -> RoomMade {
        let effects = self.pools.lock().make_room(self.id, server, limit);
        let Some(effects) = effects else { return RoomMade::No };
        self.pools.deliver(effects);
        RoomMade::Yes
    }

    /// Has the idle connection to this server closed that is its client's own.
    pub(crate) fn close_own(&self, server: ServerId) {
        let effects = self.pools.lock().close_own(self.id, server);
        self.pools.deliver(effects);
    }

    /// A server has let a client of this seat in itself.
    pub(crate) fn vouched_for(&self, means: Means) {
        if self.mode == SeatMode::Own {
            // There are no others.
            return;
        }
        self.pools.vouched.insert((self.id, means), Instant::now());
    }

    /// Whether that was so no longer ago than this, and than [`POOL_VOUCHES`]: what a server checks only at a login, it has
    /// checked then. One that lets in who has nothing to prove it with, lets in everybody.
    pub(crate) fn is_vouched_for(&self, means: Means, within: Duration) -> bool {
        let is_so = |means| {
            self.pools
                .vouched
                .get(&(self.id, means))
                .is_some_and(|at| at.elapsed() < within.min(POOL_VOUCHES))
        };
        is_so(Means::None) || (means == Means::Some && is_so(Means::Some))
    }

    /// A server has refused a client of this seat: nobody is let in before one has let another in.
    pub(crate) fn no_longer_vouched_for(&self) {
        for means in [Means::Some, Means::None] {
            self.pools.vouched.remove(&(self.id, means));
        }
    }

    /// A client of this user and database has asked for what sequences have given.
    pub(crate) fn note_sequence_question(&self) {
        self.pools.sequence_askers.note(self.names);
    }

    /// Whether one has.
    pub(crate) fn asks_for_sequences(&self) -> bool {
        self.pools.sequence_askers.has(self.names)
    }

    pub(crate) fn pools(&self) -> &Arc<SharedPools> {
        &self.pools
    }

    pub(crate) fn id(&self) -> PoolId {
        self.id
    }

    pub(crate) fn mode(&self) -> SeatMode {
        self.mode
    }
}
