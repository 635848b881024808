//! Connections that sessions give back to the pools.

use std::time::Instant;

use trunkline_pool::{CheckIn, CheckedIn, CloseReason, ConnectionToken, Grant};
use trunkline_session::ConnectionState;

use super::pooled::carried_by;
use crate::context::{Live, Worker};
use crate::pool::connection::ServerConnection;

impl Worker {
    /// The worker's number for the pools.
    pub(crate) fn number(&self) -> u16 {
        u16::try_from(self.index).unwrap_or(u16::MAX)
    }

    /// Gives a connection back, whose session has left it in this state.
    pub(crate) fn check_in(
        &self,
        server: Box<ServerConnection>,
        state: ConnectionState,
        defaults: u32,
        now: Instant,
    ) {
        self.check_in_under(&self.shared.live(), server, state, defaults, now);
    }

    /// The same for a session that knows the settings in force.
    pub(crate) fn check_in_under(
        &self,
        live: &Live,
        mut server: Box<ServerConnection>,
        state: ConnectionState,
        defaults: u32,
        now: Instant,
    ) {
        let Some(member) = &server.member else { return server.terminate() };
        if server.lease.stands_in() && live.fallback.connections_max > 0 {
            // An idle one would keep others from the bounded number of places.
            return server.terminate();
        }
        let token = member.token();
        let carried = carried_by(&state, defaults);
        *server.state = state;
        let answer = self.shared.pools.lock().check_in(token, carried, now);
        self.shelve(server, token, answer);
    }

    /// Gives an idle connection back that nobody has used, in the state that it was in.
    pub(crate) fn put_back(&self, server: Box<ServerConnection>) {
        let Some(member) = &server.member else { return server.terminate() };
        let token = member.token();
        let answer = self.shared.pools.lock().put_back(token, Instant::now());
        self.shelve(server, token, answer);
    }

    fn shelve(&self, server: Box<ServerConnection>, token: ConnectionToken, answer: CheckIn) {
        let CheckIn { fate, effects } = answer;
        server.stream.change_reader();
        match fate {
            CheckedIn::Idle => self.shelf.put(token, server),
            CheckedIn::GivenTo(grant) => {
                self.shelf.put(token, server);
                self.granted(grant);
            }
            CheckedIn::Close(reason) => close_forgotten(server, reason),
        }
        if !effects.is_empty() {
            self.shared.pools.deliver(effects);
        }
    }

    /// Tells a client that its wait is over: one of this worker without the way through its mail.
    fn granted(&self, grant: Grant) {
        if grant.worker != self.number() {
            self.shared.pools.granted(grant);
        } else {
            self.wake_waiter(grant.client);
        }
    }

    /// Wakes a client of this worker that waits for a connection.
    pub(crate) fn wake_waiter(&self, client: u64) {
        if !self.shelf.wake(client) {
            self.slots.wake(client);
        }
    }
}

/// Closes a connection that the pools have forgotten.
pub(crate) fn close_forgotten(mut server: Box<ServerConnection>, reason: CloseReason) {
    tracing::debug!(server.name = %server.name, reason = reason.word(), "server connection of a pool is closed");
    if let Some(member) = server.member.take() {
        member.forgotten();
    }
    server.terminate();
}
