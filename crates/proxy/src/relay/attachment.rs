//! Whether a session has a server, and its connection to that. What is large of it is boxed: an idle client of a pool has none.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use super::queued::Queued;
use crate::pool::connection::ServerConnection;
use crate::server::connection::ReadyServer;
use crate::server::take::TakeError;

/// Whether a session has a server.
pub(super) enum Attachment {
    /// It has one, which is boxed: most sessions of a pool have none.
    Attached(Box<ServerConnection>),
    /// It has none, and needs none until the client sends a request.
    Detached,
    /// It waits in the queue of its pools.
    Queued(Box<Queued>),
    /// It is searching for one.
    Taking(Box<Taking>),
}

/// The search for a server, and when it began.
pub(super) struct Taking {
    pub(super) search: Pin<Box<dyn Future<Output = Result<ReadyServer, TakeError>>>>,
    pub(super) since: Instant,
}

/// From when to when a session has waited for its server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waited {
    pub(super) since: Instant,
    pub(super) until: Instant,
}

impl Waited {
    /// It was there.
    pub(super) fn not_at_all(now: Instant) -> Self {
        Waited { since: now, until: now }
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Attachment::Attached(server) => f.debug_tuple("Attached").field(&server.name).finish(),
            Attachment::Detached => f.write_str("Detached"),
            Attachment::Queued(queued) => f.debug_tuple("Queued").field(queued).finish(),
            Attachment::Taking(taking) => f.debug_tuple("Taking").field(&taking.since).finish(),
        }
    }
}

impl Attachment {
    pub(super) fn attached(server: Box<ServerConnection>) -> Self {
        server.stream.change_reader();
        Attachment::Attached(server)
    }

    /// The connection to the server.
    #[inline]
    pub(super) fn connection(&self) -> Option<&ServerConnection> {
        match self {
            Attachment::Attached(server) => Some(server),
            Attachment::Detached | Attachment::Queued(_) | Attachment::Taking(_) => None,
        }
    }

    /// The same, to be written to or read from.
    #[inline]
    pub(super) fn connection_mut(&mut self) -> Option<&mut ServerConnection> {
        match self {
            Attachment::Attached(server) => Some(server),
            Attachment::Detached | Attachment::Queued(_) | Attachment::Taking(_) => None,
        }
    }
}
