//! A session's place among the clients of its key.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use trunkline_codec::startup::StartupMessage;
use trunkline_pool::{PoolBound, PoolId, PoolKey, PoolMode, PoolRefusal};

use super::{Means, SharedPools};
use crate::limits::POOL_VOUCHES;

/// One client of the pools of a key, until it is dropped.
#[derive(Debug)]
pub(crate) struct PoolSeat {
    pools: Arc<SharedPools>,
    id: PoolId,
    mode: PoolMode,
    /// A hash of user and database.
    names: u64,
}

impl PoolSeat {
    /// Joins the pools of this user, database and startup packet.
    ///
    /// # Errors
    /// When there are too many pools.
    pub(crate) fn join(
        pools: &Arc<SharedPools>,
        mode: PoolMode,
        [user, database]: [&str; 2],
        startup: &StartupMessage,
    ) -> Result<Self, PoolRefusal> {
        let mut rest = BytesMut::new();
        startup.encode(&mut rest);
        rest.extend_from_slice(&[u8::from(mode == PoolMode::Transaction)]);
        let mut hasher = DefaultHasher::new();
        rest.hash(&mut hasher);
        let bound = match mode {
            PoolMode::Session => PoolBound::Unlimited,
            PoolMode::Transaction => PoolBound::Sized,
        };
        let key = PoolKey::new(database, user, bound, hasher.finish(), &rest);
        let id = pools.lock().join(&key)?;
        let mut names = DefaultHasher::new();
        [user, database].hash(&mut names);
        Ok(PoolSeat { pools: Arc::clone(pools), id, mode, names: names.finish() })
    }

    /// A server has let a client of this seat in itself.
    pub(crate) fn vouched_for(&self, means: Means) {
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

    pub(crate) fn mode(&self) -> PoolMode {
        self.mode
    }
}

impl Drop for PoolSeat {
    fn drop(&mut self) {
        self.pools.lock().leave(self.id);
    }
}
