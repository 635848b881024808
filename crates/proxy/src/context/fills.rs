//! What connections are logged in with that are opened ahead of their clients.

use std::sync::Arc;

use dashmap::DashMap;
use trunkline_pool::PoolId;
use trunkline_routing::TargetSessionAttrs;

use super::interned::UserLogin;
use super::listeners::BoundListener;
use crate::pool::SharedPools;

/// How a connection is opened for a key: as for a client of it.
#[derive(Debug)]
pub(crate) struct FillLogin {
    pub(crate) login: Arc<UserLogin>,
    /// The listener that the client came by.
    pub(crate) listener: Arc<BoundListener>,
    pub(crate) attrs: TargetSessionAttrs,
}

/// One for each key that has clients.
#[derive(Debug, Default)]
pub(crate) struct FillLogins(DashMap<PoolId, Arc<FillLogin>>);

impl FillLogins {
    /// A client of this key has logged in; `login` is used if there is none yet.
    pub(crate) fn offer(&self, key: PoolId, login: impl FnOnce() -> FillLogin) {
        if !self.0.contains_key(&key) {
            self.0.insert(key, Arc::new(login()));
        }
    }

    pub(crate) fn of(&self, key: PoolId) -> Option<Arc<FillLogin>> {
        self.0.get(&key).map(|login| Arc::clone(&login))
    }

    /// A server has refused it: that of another client may be a newer one.
    pub(crate) fn refused(&self, key: PoolId) {
        self.0.remove(&key);
    }

    /// Keeps those whose key has clients.
    pub(crate) fn retain_used(&self, pools: &SharedPools) {
        if !self.0.is_empty() {
            let pools = pools.lock();
            self.0.retain(|key, _| pools.settings().min_pool_size > 0 && pools.has_clients(*key));
        }
    }
}
