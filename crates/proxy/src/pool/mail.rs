//! What workers tell each other about connections.

use tokio::sync::{mpsc, oneshot};
use trunkline_pool::{CloseReason, ConnectionToken, PoolId};

use super::connection::ReleasedConnection;
use super::member::OpenPlace;

/// One message to a worker.
#[derive(Debug)]
pub(crate) enum PoolMail {
    /// The wait of this client is over.
    Granted { client: u64 },
    /// This idle connection is to be closed.
    Close { token: ConnectionToken, reason: CloseReason },
    /// A connection is to be opened ahead of clients of this key.
    OpenAhead { place: OpenPlace, key: PoolId },
    /// A client waits: sessions that keep a connection which nothing pins them to are to give it back.
    GiveBack,
    /// A client of another worker has got this connection.
    HandOver { token: ConnectionToken, to: oneshot::Sender<Option<ReleasedConnection>> },
}

/// The way to one worker. As many messages as there are connections and clients that wait,
/// which are bounded, may be on it, and a few a second.
#[derive(Clone, Debug)]
pub(crate) struct PoolMailbox(mpsc::UnboundedSender<PoolMail>);

impl PoolMailbox {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<PoolMail>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (PoolMailbox(sender), receiver)
    }

    pub(super) fn send(&self, mail: PoolMail) {
        // A worker that has ended needs no mail.
        let _ended = self.0.send(mail);
    }
}
