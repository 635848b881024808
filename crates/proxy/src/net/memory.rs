//! In-memory connections to the servers of a test.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::task::{Context, Poll, Waker};

use trunkline_net::Transport;
use trunkline_net::memory::{self, MemoryStream};
use trunkline_topology::Address;

/// Every address accepts connections, except those that are down.
#[derive(Debug)]
pub(crate) struct Network {
    /// Bytes of each direction of a connection.
    capacity: Cell<usize>,
    down: RefCell<BTreeSet<String>>,
    accepted: RefCell<VecDeque<(Address, MemoryStream)>>,
    acceptor: RefCell<Option<Waker>>,
}

impl Network {
    pub(crate) fn new(capacity: usize) -> Self {
        Network {
            capacity: Cell::new(capacity),
            down: RefCell::default(),
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

    pub(super) fn connect(&self, address: &Address) -> io::Result<Transport> {
        if self.down.borrow().contains(&address.to_string()) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (own, theirs) = memory::pair(self.capacity.get());
        self.accepted.borrow_mut().push_back((address.clone(), theirs));
        if let Some(waker) = self.acceptor.take() {
            waker.wake();
        }
        Ok(Transport::Memory(own))
    }
}
