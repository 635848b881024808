//! Accepting connections, and placing each on the worker with the fewest.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::BytesMut;
use tokio::sync::oneshot;
use trunkline_codec::limits::STARTUP_PACKET_MAX;
use trunkline_net::{Accepted, LISTEN_BACKLOG, Transport, listen};
use trunkline_reactor::{Task, spawn, timer};
use trunkline_telemetry::log_rate::LogRate;
use trunkline_topology::ClientAddress;

use crate::context::{
    BoundListener, DoneSender, Handoff, ListenerChange, ListeningSocket, OpenedSocket, Worker,
};
use crate::errors::Refusal;
use crate::limits::ACCEPT_BACKOFF;
use crate::{login, relay};

/// Accept loops, one for each listening socket, by its point. They end when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Accepting(HashMap<u64, AcceptLoop>);

/// The accept loop of one listening socket, and how it is told to end in order.
#[derive(Debug)]
struct AcceptLoop {
    task: Task,
    closing: oneshot::Sender<DoneSender>,
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.values().for_each(|accepting| accepting.task.abort());
    }
}

impl Accepting {
    /// Starts accepting on `sockets`, too.
    pub(crate) fn open(&mut self, worker: &Rc<Worker>, sockets: Vec<OpenedSocket>) {
        for opened in sockets {
            let (closing, closed) = oneshot::channel();
            let (point, worker) = (opened.point, Rc::clone(worker));
            let task = spawn(accept_until_closed(worker, opened, closed));
            self.0.insert(point, AcceptLoop { task, closing });
        }
    }

    /// Opens and closes sockets. Connections that a closed one has already are accepted.
    pub(crate) fn change(&mut self, worker: &Rc<Worker>, change: ListenerChange) {
        let ListenerChange { opened, closed, done } = change;
        self.open(worker, opened);
        for point in closed {
            if let Some(accepting) = self.0.remove(&point) {
                // A loop that has ended has closed its socket.
                let _ended = accepting.closing.send(done.clone());
            }
        }
    }
}

async fn accept_until_closed(
    worker: Rc<Worker>,
    opened: OpenedSocket,
    closed: oneshot::Receiver<DoneSender>,
) {
    let OpenedSocket { socket, listener, .. } = opened;
    let socket = match socket {
        ListeningSocket::Tcp(socket) => trunkline_net::Listener::from_std(socket),
        ListeningSocket::Unix(socket) => trunkline_net::Listener::from_std_unix(socket),
    };
    let socket = match socket {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(%error, "could not watch a listening socket");
            return;
        }
    };
    let begin = |socket, peer| place(&worker, socket, peer, listener.load_full());
    let done = tokio::select! {
        biased;
        done = closed => done,
        never = accept_all(&worker, &socket, begin) => match never {},
    };
    for _ in 0..LISTEN_BACKLOG {
        let Some(Ok((accepted, peer))) = socket.accept_waiting().await else { break };
        begin(accepted, client_address(peer));
    }
    drop(socket);
    drop(done);
}

/// Begins each connection that comes to a socket.
async fn accept_all(
    worker: &Worker,
    socket: &trunkline_net::Listener,
    begin: impl Fn(Accepted, ClientAddress),
) -> Infallible {
    let mut errors = LogRate::default();
    let mut spare = SpareDescriptor::new();
    loop {
        match socket.accept().await {
            Ok((socket, peer)) => begin(socket, client_address(peer)),
            Err(error) if is_peers_own(&error) => {}
            Err(error) => {
                if let Some(more) = errors.note() {
                    tracing::error!(%error, more, "could not accept a connection; if the limit on open files is reached, raise it");
                }
                if is_out_of_descriptors(&error) && spare.give_up() {
                    // The kernel wants a descriptor before it looks whether a client is there.
                    if let Some(Ok((socket, _peer))) = socket.accept_waiting().await {
                        turn_away(worker, &socket, worker.shared.live().limits.connections_max);
                    }
                    spare = SpareDescriptor::new();
                } else {
                    timer::sleep(ACCEPT_BACKOFF).await;
                    spare = spare.or_new();
                }
            }
        }
    }
}

/// Where a connection comes from, as the kernel says.
fn client_address(peer: Option<SocketAddr>) -> ClientAddress {
    peer.map_or(ClientAddress::Local, ClientAddress::Tcp)
}

/// Whether the connection was closed before it was accepted, which is not a problem of the proxy.
fn is_peers_own(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    [Some(nix::libc::EMFILE), Some(nix::libc::ENFILE)].contains(&error.raw_os_error())
}

/// A descriptor kept for the moment when there is no other: given up, it lets a client be accepted and told that there
/// is no room. Otherwise the client would wait in the kernel's queue.
struct SpareDescriptor(Option<File>);

impl SpareDescriptor {
    fn new() -> Self {
        SpareDescriptor(File::open("/dev/null").ok())
    }

    /// This one, or a new one if it was not to be had before.
    fn or_new(self) -> Self {
        if self.0.is_some() { self } else { Self::new() }
    }

    /// Whether there was one to give up.
    fn give_up(&mut self) -> bool {
        self.0.take().is_some()
    }
}

fn place(worker: &Rc<Worker>, socket: Accepted, peer: ClientAddress, listener: Arc<BoundListener>) {
    let handles = &worker.shared.workers;
    let own = &handles[worker.index];
    let idlest = handles.iter().min_by_key(|handle| handle.connections.load(Relaxed)).unwrap_or(own);
    if own.connections.load(Relaxed) <= idlest.connections.load(Relaxed) {
        begin(worker, socket, peer, listener);
        return;
    }
    // If its queue is full, the connection stays here.
    let Ok(permit) = idlest.handoff.try_reserve() else {
        begin(worker, socket, peer, listener);
        return;
    };
    idlest.connections.fetch_add(1, Relaxed);
    permit.send(Handoff { socket, peer, listener });
}

/// Begins a connection that another worker accepted.
pub(super) fn take_over(worker: &Rc<Worker>, handoff: Handoff) {
    let Handoff { socket, peer, listener } = handoff;
    worker.shared.workers[worker.index].connections.fetch_sub(1, Relaxed);
    begin(worker, socket, peer, listener);
}

/// A connection that was admitted, counted on its worker and among the sockets until dropped.
struct PlacedConnection(Rc<Worker>);

impl PlacedConnection {
    fn of(worker: &Rc<Worker>) -> Self {
        worker.shared.workers[worker.index].connections.fetch_add(1, Relaxed);
        PlacedConnection(Rc::clone(worker))
    }
}

impl Drop for PlacedConnection {
    fn drop(&mut self) {
        self.0.shared.workers[self.0.index].connections.fetch_sub(1, Relaxed);
        self.0.shared.admission.socket_closed();
    }
}

fn begin(worker: &Rc<Worker>, socket: Accepted, peer: ClientAddress, listener: Arc<BoundListener>) {
    let live = worker.shared.live();
    if !worker.shared.admission.admit_socket(&live.limits) {
        return turn_away(worker, &socket, live.limits.connections_max);
    }
    let placed = PlacedConnection::of(worker);
    match Transport::of(socket) {
        Ok(stream) => {
            spawn(serve(Rc::clone(worker), stream, peer, listener, placed));
        }
        Err(error) => tracing::error!(%error, "could not watch a connection"),
    }
}

/// Sends the reason if the socket takes it at once. The proxy does not wait: it may be flooded with connections.
fn turn_away(worker: &Worker, socket: &Accepted, limit: usize) {
    let refusal = Refusal::TooMany { what: "to the proxy", limit };
    let mut out = BytesMut::new();
    refusal.write(&mut out);
    if let Err(error) = listen::turn_away(socket, &out, STARTUP_PACKET_MAX as usize) {
        tracing::debug!(%error, "could not send the refusal to a client");
    }
    worker.metrics.sessions_refused.one(refusal.reason());
}

/// Logs a client in, relays until its session ends, and closes; `held` is let go then.
///
/// What only the login needs, and the futures of login and close, are boxed: a session does not reserve memory for them
/// all its life.
pub(crate) fn serve<H: 'static>(
    worker: Rc<Worker>,
    mut client: Transport,
    peer: ClientAddress,
    listener: Arc<BoundListener>,
    held: H,
) -> impl Future<Output = ()> {
    let login = Box::pin({
        let worker = Rc::clone(&worker);
        async move {
            let new_session = login::establish(&worker, &mut client, peer, &listener).await;
            (client, new_session)
        }
    });
    async move {
        let (client, new_session) = login.await;
        match new_session {
            Some(new_session) => {
                let mut session = relay::Relay::new(worker, client, new_session);
                let ending = (&mut session).await;
                Box::pin(relay::close(session.into_client(), ending)).await;
            }
            None => Box::pin(client.linger()).await,
        }
        drop(held);
    }
}
