//! A connection that goes to another worker thread.

use crate::connection::ConnectionToken;
use crate::pools::Pools;

impl Pools {
    /// The connection is with another worker thread now, by another name, which no connection has.
    pub fn rename(&mut self, token: ConnectionToken, to: ConnectionToken) {
        self.connections.rename(token, to);
    }
}
