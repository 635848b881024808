//! A connection's place in its pool.

use std::sync::Arc;
use std::time::Instant;

use trunkline_pool::{ConnectionToken, ReservedPlace};
use trunkline_topology::ServerId;

use super::SharedPools;

/// A connection that is counted in a pool. Dropping it with the connection gives its place to another.
#[derive(Debug)]
pub(crate) struct PoolMember {
    pools: Arc<SharedPools>,
    token: ConnectionToken,
    is_forgotten: bool,
}

impl PoolMember {
    /// The connection of this place is logged in, by the name `token`.
    pub(crate) fn opened(mut place: OpenPlace, token: ConnectionToken) -> Option<Self> {
        let (pools, place) = place.held.take()?;
        let effects = pools.lock().opened(place, token, Instant::now());
        pools.deliver(effects);
        Some(PoolMember { pools, token, is_forgotten: false })
    }

    pub(crate) fn token(&self) -> ConnectionToken {
        self.token
    }

    /// It has answered a check.
    pub(crate) fn checked(&self) {
        self.pools.lock().checked(self.token);
    }

    /// It is with another worker now, by another name.
    pub(crate) fn renamed(&mut self, token: ConnectionToken) {
        self.pools.lock().rename(self.token, token);
        self.token = token;
    }

    /// The pools have forgotten it already.
    pub(crate) fn forgotten(mut self) {
        self.is_forgotten = true;
    }
}

impl Drop for PoolMember {
    fn drop(&mut self) {
        if !self.is_forgotten {
            let effects = self.pools.lock().closed(self.token);
            self.pools.deliver(effects);
        }
    }
}

/// A place for a connection that is being opened. Dropping it gives it to another.
#[derive(Debug)]
pub(crate) struct OpenPlace {
    server: ServerId,
    held: Option<(Arc<SharedPools>, ReservedPlace)>,
}

impl OpenPlace {
    pub(crate) fn new(pools: &Arc<SharedPools>, place: ReservedPlace) -> Self {
        OpenPlace { server: place.server(), held: Some((Arc::clone(pools), place)) }
    }

    /// The server to connect to.
    pub(crate) fn server(&self) -> ServerId {
        self.server
    }

    /// Nothing was tried.
    pub(crate) fn unused(mut self) {
        if let Some((pools, place)) = self.held.take() {
            let effects = pools.lock().unused(place);
            pools.deliver(effects);
        }
    }
}

impl Drop for OpenPlace {
    fn drop(&mut self) {
        if let Some((pools, place)) = self.held.take() {
            let effects = pools.lock().open_failed(place, Instant::now());
            pools.deliver(effects);
        }
    }
}
