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
pub(crate) struct FillLogins(DashMap<PoolId, FillState>);

/// What is known of the login of a key.
#[derive(Debug)]
enum FillState {
    Usable(Arc<FillLogin>),
    Refused(Arc<UserLogin>),
}

impl FillLogins {
    /// A client of this key has logged in by `user`; `login` is used if there is none yet, or a server has refused another.
    pub(crate) fn offer(&self, key: PoolId, user: &Arc<UserLogin>, login: impl FnOnce() -> FillLogin) {
        let is_wanted = match self.0.get(&key).as_deref() {
            None => true,
            Some(FillState::Usable(_)) => false,
            Some(FillState::Refused(refused)) => **refused != **user,
        };
        if is_wanted {
            self.0.insert(key, FillState::Usable(Arc::new(login())));
        }
    }

    pub(crate) fn of(&self, key: PoolId) -> Option<Arc<FillLogin>> {
        match self.0.get(&key).as_deref() {
            Some(FillState::Usable(login)) => Some(Arc::clone(login)),
            Some(FillState::Refused(_)) | None => None,
        }
    }

    /// A server has refused this one: that of another client may be a newer one.
    pub(crate) fn refused(&self, key: PoolId, login: &FillLogin) {
        self.0.insert(key, FillState::Refused(Arc::clone(&login.login)));
    }

    /// Keeps those whose key has clients.
    pub(crate) fn retain_used(&self, pools: &SharedPools) {
        if !self.0.is_empty() {
            let pools = pools.lock();
            self.0.retain(|key, _| pools.settings().min_pool_size > 0 && pools.has_clients(*key));
        }
    }
}
