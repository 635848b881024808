//! The addresses that are listened on, as the control thread sees them: opened at the start, changed by reloads.
//!
//! New addresses are bound before any old one is let go ([`ListeningPoints::prepare`]), so that a reload that cannot have one
//! of them changes nothing.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use trunkline_control::ListenError;
use trunkline_net::socket_file::{self, SocketFile};
use trunkline_routing::Balancer;
use trunkline_tls::accept::Acceptor;
use trunkline_topology::Address;

use crate::certificates;
use crate::context::{BoundListener, CurrentListener, ListenerChange, ListeningSocket, OpenedSocket, Shared};
use crate::failure::StartError;
use crate::settings::ListenerSettings;

/// The addresses listened on, in the listeners' order.
#[derive(Debug, Default)]
pub(crate) struct ListeningPoints {
    points: Vec<ListeningPoint>,
    /// Numbers given to points and listeners.
    numbers: u64,
}

/// One address and its listener.
#[derive(Debug)]
struct ListeningPoint {
    number: u64,
    /// As configured: the port may be 0.
    address: Address,
    bound: Address,
    /// Of a Unix socket.
    file: Option<SocketFile>,
    listener: CurrentListener,
}

/// Listeners whose addresses are all bound.
#[derive(Debug)]
pub(crate) struct PreparedListeners(Vec<PreparedListener>);

type PreparedListener = (ListenerSettings, Option<Acceptor>, ListenerPlace);

/// Where a listener is to listen.
#[derive(Debug)]
enum ListenerPlace {
    /// At a point that there is already, by its number.
    Kept(u64),
    /// At a new one: a socket for each worker.
    New(SocketAddr, Vec<TcpListener>),
    /// At a Unix socket, which one worker accepts from for all.
    Unix(UnixListener, SocketFile),
}

impl PreparedListeners {
    /// Whether clients of any may use TLS.
    pub(crate) fn have_tls(&self) -> bool {
        self.0.iter().any(|(_, tls, _)| tls.is_some())
    }
}

impl ListeningPoints {
    /// Binds the addresses of `listeners` that are not bound yet, each with so many sockets.
    pub(crate) fn prepare(
        &self,
        listeners: &[ListenerSettings],
        sockets: usize,
    ) -> Result<PreparedListeners, StartError> {
        let mut free: Vec<&ListeningPoint> = self.points.iter().collect();
        let mut acceptors: Vec<Acceptor> =
            free.iter().filter_map(|point| point.listener.load().tls.clone()).collect();
        let mut prepared = Vec::with_capacity(listeners.len());
        for settings in listeners {
            let tls = match &settings.address {
                Address::Tcp(_) => certificates::acceptor(&settings.options.tls, &mut acceptors)?,
                Address::Unix(_) => None,
            };
            // With port 0, an address does not tell one point from another.
            let own = |point: &&ListeningPoint| {
                point.address == settings.address && point.listener.load().settings.name == settings.name
            };
            let same = |point: &&ListeningPoint| point.address == settings.address;
            let at = free.iter().position(own).or_else(|| free.iter().position(same));
            let place = match at {
                Some(at) => ListenerPlace::Kept(free.remove(at).number),
                None => self.bind(settings, sockets)?,
            };
            prepared.push((settings.clone(), tls, place));
        }
        Ok(PreparedListeners(prepared))
    }

    fn bind(&self, settings: &ListenerSettings, sockets: usize) -> Result<ListenerPlace, ListenError> {
        let bound = match &settings.address {
            Address::Tcp(address) => self.bind_tcp(*address, sockets),
            Address::Unix(path) => bind_unix(path, settings.options.unix_socket_permissions),
        };
        let failed =
            |source| ListenError { name: settings.name.clone(), address: settings.address.clone(), source };
        bound.map_err(failed)
    }

    fn bind_tcp(&self, address: SocketAddr, sockets: usize) -> io::Result<ListenerPlace> {
        // The same port at another address of the machine, or at all of them.
        let is_own_port = self.points.iter().any(|point| match &point.bound {
            Address::Tcp(own) => own.port() == address.port(),
            Address::Unix(_) => false,
        });
        let bound = if is_own_port {
            trunkline_net::listen::bind_beside(address, sockets)?
        } else {
            trunkline_net::listen::bind(address, sockets)?
        };
        let at = bound.first().map_or(Ok(address), TcpListener::local_addr)?;
        Ok(ListenerPlace::New(at, bound))
    }

    /// Puts prepared listeners in force. Returns what changes for each worker; `done` is dropped when it has.
    pub(crate) fn commit(
        &mut self,
        prepared: PreparedListeners,
        shared: &Shared,
        done: &mpsc::Sender<std::convert::Infallible>,
    ) -> Vec<ListenerChange> {
        let mut changes: Vec<ListenerChange> = (0..shared.workers.len())
            .map(|_| ListenerChange { opened: Vec::new(), closed: Vec::new(), done: done.clone() })
            .collect();
        let before = shared.listeners.load_full();
        let mut old = std::mem::take(&mut self.points);
        let mut listeners = Vec::with_capacity(prepared.0.len());
        for (settings, tls, place) in prepared.0 {
            let address = settings.address.clone();
            let permissions = settings.options.unix_socket_permissions;
            let listener = self.listener(settings, tls, &before, shared);
            listeners.push(Arc::clone(&listener));
            let point = match place {
                ListenerPlace::Kept(number) => {
                    let at = old.iter().position(|point| point.number == number);
                    let point = old.swap_remove(at.expect("prepared from these points, each once"));
                    point.listener.store(listener);
                    point.permit(permissions);
                    point
                }
                ListenerPlace::New(bound, sockets) => {
                    let (number, listener) = (self.number(), Arc::new(ArcSwap::new(listener)));
                    open(&mut changes, number, &listener, sockets.into_iter().map(ListeningSocket::Tcp));
                    ListeningPoint { number, address, bound: bound.into(), file: None, listener }
                }
                ListenerPlace::Unix(socket, file) => {
                    let (number, listener) = (self.number(), Arc::new(ArcSwap::new(listener)));
                    open(&mut changes, number, &listener, [ListeningSocket::Unix(socket)]);
                    let (bound, file) = (address.clone(), Some(file));
                    ListeningPoint { number, address, bound, file, listener }
                }
            };
            self.points.push(point);
        }
        for change in &mut changes {
            change.closed = old.iter().map(|point| point.number).collect();
        }
        shared.listeners.store(Arc::new(listeners));
        changes
    }

    /// The listener of these settings: the one there is, if nothing changes.
    fn listener(
        &mut self,
        settings: ListenerSettings,
        tls: Option<Acceptor>,
        before: &[Arc<BoundListener>],
        shared: &Shared,
    ) -> Arc<BoundListener> {
        let known = before.iter().find(|listener| listener.settings.name == settings.name);
        if let Some(known) = known.filter(|known| known.settings == settings) {
            return Arc::clone(known);
        }
        let attrs = settings.options.target_session_attrs;
        let number = known
            .filter(|known| known.settings.options.target_session_attrs == attrs)
            .map_or_else(|| self.number(), |known| known.number);
        let balancer = Balancer::new(settings.options.balance, Arc::clone(&shared.attached));
        Arc::new(BoundListener { number, settings, balancer, tls })
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Where it listens, in the listeners' order.
    pub(crate) fn bound(&self) -> Vec<Address> {
        self.points.iter().map(|point| point.bound.clone()).collect()
    }
}

impl ListeningPoint {
    /// Lets others connect to its Unix socket, if it is one.
    fn permit(&self, mode: u32) {
        if let Some(file) = &self.file
            && let Err(error) = file.permit(mode)
        {
            tracing::error!(%error, path = %file.path().display(), "could not change who may connect to a socket");
        }
    }
}

fn bind_unix(path: &Path, mode: u32) -> io::Result<ListenerPlace> {
    let (socket, file) = socket_file::bind(path, mode)?;
    Ok(ListenerPlace::Unix(socket, file))
}

/// Gives each worker its socket, as far as there are any.
fn open(
    changes: &mut [ListenerChange],
    point: u64,
    listener: &CurrentListener,
    sockets: impl IntoIterator<Item = ListeningSocket>,
) {
    for (change, socket) in changes.iter_mut().zip(sockets) {
        change.opened.push(OpenedSocket { point, socket, listener: Arc::clone(listener) });
    }
}
