//! A connection to a server: a session's own, or idle in a pool.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use trunkline_codec::ids::ProcessId;
use trunkline_codec::write;
use trunkline_net::{ReleasedTransport, Transport};
use trunkline_routing::Lease;
use trunkline_session::ConnectionState;
use trunkline_topology::{Address, Postmaster};

use super::member::PoolMember;
use crate::cancel::ServerCancelKey;
use crate::defaults::SessionDefaults;
use crate::net::TlsPlace;

/// A connection to a server.
#[derive(Debug)]
pub(crate) struct ServerConnection<S = Transport> {
    /// Its place in the balance, for as long as it exists.
    pub(crate) lease: Lease,
    pub(crate) name: Arc<str>,
    pub(crate) address: Address,
    /// How it is spoken to by TLS, if it may be.
    pub(crate) tls: Option<Arc<TlsPlace>>,
    /// The postmaster at that address according to health.
    pub(crate) postmaster: Option<Postmaster>,
    pub(crate) stream: S,
    /// When it was begun, before the login.
    pub(crate) since: Instant,
    /// What cancels its query, once it is logged in; `None` if the server sent no key.
    pub(crate) key: Option<Arc<ServerCancelKey>>,
    /// What it has of the state of the session that it was checked out for, or that had it last.
    pub(crate) state: Box<ConnectionState>,
    /// Whether its server has said that it is a standby.
    pub(crate) is_standby: Option<bool>,
    /// The defaults that it was given, for one that clients share.
    pub(crate) own: Option<Arc<SessionDefaults>>,
    /// Its place in a pool, for one that is not its session's alone. Dropped after the socket.
    pub(crate) member: Option<PoolMember>,
}

/// A connection on its way to another worker.
pub(crate) type ReleasedConnection = ServerConnection<ReleasedTransport>;

impl<S> ServerConnection<S> {
    /// The same with its socket changed; `None`, and closed, if that fails.
    fn with_stream<T>(self, change: impl FnOnce(S) -> io::Result<T>) -> Option<ServerConnection<T>> {
        let ServerConnection {
            lease,
            name,
            address,
            tls,
            postmaster,
            stream,
            since,
            key,
            state,
            is_standby,
            own,
            member,
        } = self;
        let stream = match change(stream) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(server.name = %name, %error, "could not hand a server connection over");
                return None;
            }
        };
        Some(ServerConnection {
            lease,
            name,
            address,
            tls,
            postmaster,
            stream,
            since,
            key,
            state,
            is_standby,
            own,
            member,
        })
    }
}

impl ReleasedConnection {
    /// Registers it with this thread's reactor.
    pub(crate) fn adopt(self) -> Option<Box<ServerConnection>> {
        self.with_stream(ReleasedTransport::adopt).map(Box::new)
    }
}

impl ServerConnection {
    /// Gives it up, for another thread.
    pub(crate) fn release(self) -> Option<ReleasedConnection> {
        self.with_stream(Transport::release)
    }

    /// Its process; `None` if the server sent no key.
    pub(crate) fn process_id(&self) -> Option<ProcessId> {
        self.key.as_ref().map(|key| key.process_id)
    }

    /// Sends a Terminate to the server: no other session may have the connection.
    pub(crate) fn terminate(&self) {
        let mut goodbye = BytesMut::new();
        write::terminate(&mut goodbye);
        // If the socket does not take the five bytes, closing it is enough.
        let _ = self.stream.try_write_last(&goodbye);
    }
}
