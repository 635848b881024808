//! In-memory connections to the servers of a test.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::task::{Context, Poll, Waker};

use trunkline_net::Transport;
use trunkline_net::memory::{self, MemoryStream};
use trunkline_reactor::spawn;
use trunkline_topology::Address;

/// Every address accepts connections, except those that are down.
#[derive(Debug)]
pub(crate) struct Network {
    /// Bytes of each direction of a connection.
    capacity: Cell<usize>,
    down: RefCell<BTreeSet<String>>,
    /// Connections have TLS, with keys that seal so many records.
    records_max: Cell<Option<u64>>,
    accepted: RefCell<VecDeque<(Address, MemoryStream)>>,
    acceptor: RefCell<Option<Waker>>,
}

impl Network {
    pub(crate) fn new(capacity: usize) -> Self {
        Network {
            capacity: Cell::new(capacity),
            down: RefCell::default(),
            records_max: Cell::new(None),
            accepted: RefCell::default(),
            acceptor: RefCell::default(),
        }
    }

    /// Refuses connections to `address` from now on, or accepts them again.
    pub(crate) fn set_down(&self, address: &Address, is_down: bool) {
        let mut down = self.down.borrow_mut();
        match is_down {
            true => _ = down.insert(address.to_string()),
            false => _ = down.remove(&address.to_string()),
        }
    }

    /// Has TLS of such keys on connections from now on, which the servers' ends know nothing of.
    pub(crate) fn seal(&self, records_max: Option<u64>) {
        self.records_max.set(records_max);
    }

    /// The server's end of the next connection, and the address that was connected to.
    pub(crate) async fn accept(&self) -> (Address, MemoryStream) {
        std::future::poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// The same, if there is one already.
    pub(crate) fn try_accept(&self) -> Option<(Address, MemoryStream)> {
        self.accepted.borrow_mut().pop_front()
    }

    fn poll_accept(&self, cx: &Context<'_>) -> Poll<(Address, MemoryStream)> {
        match self.try_accept() {
            Some(accepted) => Poll::Ready(accepted),
            None => {
                self.acceptor.replace(Some(cx.waker().clone()));
                Poll::Pending
            }
        }
    }

    pub(super) async fn connect(&self, address: &Address) -> io::Result<Transport> {
        if self.down.borrow().contains(&address.to_string()) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (own, theirs) = memory::pair(self.capacity.get());
        let (own, theirs) = match self.records_max.get() {
            Some(records_max) => sealed(Transport::Memory(own), theirs, records_max).await?,
            None => (Transport::Memory(own), theirs),
        };
        self.accepted.borrow_mut().push_back((address.clone(), theirs));
        if let Some(waker) = self.acceptor.take() {
            waker.wake();
        }
        Ok(own)
    }
}

/// The same connection in records, sealed and opened by a task in front of the server.
async fn sealed(
    mut own: Transport,
    theirs: MemoryStream,
    records_max: u64,
) -> io::Result<(Transport, MemoryStream)> {
    let (of_server, of_client) = trunkline_tls::testing::records_for(u64::MAX, records_max);
    let mut front = Transport::Memory(theirs);
    let (shaken, its_shaken) = tokio::join!(own.begin_tls(of_client, b""), front.begin_tls(of_server, b""));
    shaken.and(its_shaken)?;
    let (mut behind, server) = memory::pair(64 * 1024);
    spawn(async move {
        // It ends with either end.
        let _ended = tokio::io::copy_bidirectional(&mut front, &mut behind).await;
    });
    Ok((own, server))
}
