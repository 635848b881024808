//! Listeners as their sessions and workers see them.

use std::convert::Infallible;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use trunkline_routing::Balancer;
use trunkline_tls::accept::Acceptor;

use crate::settings::ListenerSettings;

/// A listener and its balancer. A reload that changes it makes another one: sessions keep the one that they came by.
#[derive(Debug)]
pub(crate) struct BoundListener {
    /// The same for all that are made of one by reloads, while their sessions may have the same servers.
    pub(crate) number: u64,
    pub(crate) settings: ListenerSettings,
    pub(crate) balancer: Balancer,
    /// `None` where clients may not use TLS.
    pub(crate) tls: Option<Acceptor>,
}

/// The listener that the connections to one address come by, replaced by reloads.
pub(crate) type CurrentListener = Arc<ArcSwap<BoundListener>>;

/// A socket that listens.
#[derive(Debug)]
pub(crate) enum ListeningSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A worker's own listening socket for one address.
#[derive(Debug)]
pub(crate) struct OpenedSocket {
    /// Tells the sockets of one address from those of others.
    pub(crate) point: u64,
    pub(crate) socket: ListeningSocket,
    pub(crate) listener: CurrentListener,
}

/// What a reload changes of one worker's listening sockets.
#[derive(Debug)]
pub(crate) struct ListenerChange {
    pub(crate) opened: Vec<OpenedSocket>,
    /// Points whose connections that wait are accepted, and no more.
    pub(crate) closed: Vec<u64>,
    /// Dropped once they are closed.
    pub(crate) done: DoneSender,
}

/// Its clones are dropped when something is done.
pub(crate) type DoneSender = mpsc::Sender<Infallible>;
