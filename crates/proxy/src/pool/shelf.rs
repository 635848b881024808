//! The idle connections of one worker, and its clients that wait outside a session.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;

use slab::Slab;
use tokio::sync::Notify;
use trunkline_pool::ConnectionToken;

use super::connection::ServerConnection;

/// Clients from here on wait in a login or a search, those below in a session's slot.
const WAITER_BASE: u64 = 1 << 63;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    idle: RefCell<HashMap<u32, Box<ServerConnection>, BuildHasherDefault<SlotHasher>>>,
    next: Cell<u32>,
    waiting: RefCell<Slab<Rc<Notify>>>,
}

/// For slots, which the worker numbers itself: fast rather than safe from collisions that are meant.
#[derive(Clone, Copy, Debug, Default)]
struct SlotHasher(u64);

impl Hasher for SlotHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32((*byte).into()));
    }

    fn write_u32(&mut self, slot: u32) {
        // The table takes the place from the low bits and a tag from the high ones.
        self.0 = (self.0 ^ u64::from(slot)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Shelf {
    /// A name for a connection of this worker.
    pub(crate) fn name(&self, worker: usize) -> ConnectionToken {
        let slot = self.next.get();
        self.next.set(slot.wrapping_add(1));
        ConnectionToken { worker: u16::try_from(worker).unwrap_or(u16::MAX), slot, generation: 0 }
    }

    /// Puts an idle connection away. The pools know it already.
    pub(crate) fn put(&self, token: ConnectionToken, server: Box<ServerConnection>) {
        let _none = self.idle.borrow_mut().insert(token.slot, server);
    }

    /// Takes an idle connection.
    pub(crate) fn take(&self, token: ConnectionToken) -> Option<Box<ServerConnection>> {
        self.idle.borrow_mut().remove(&token.slot)
    }

    /// Takes the idle connections that have something to say: their servers have closed them, or told them what nobody has
    /// asked for.
    #[expect(clippy::vec_box, reason = "they are boxed already")]
    pub(crate) fn take_loud(&self) -> Vec<Box<ServerConnection>> {
        let mut idle = self.idle.borrow_mut();
        let loud: Vec<u32> =
            idle.iter().filter(|(_, server)| server.stream.has_news()).map(|(slot, _)| *slot).collect();
        loud.iter().filter_map(|slot| idle.remove(slot)).collect()
    }

    /// Takes all.
    #[expect(clippy::vec_box, reason = "they are boxed already")]
    pub(crate) fn take_all(&self) -> Vec<Box<ServerConnection>> {
        self.idle.borrow_mut().drain().map(|(_, server)| server).collect()
    }

    /// A client that waits in a login or a search.
    pub(crate) fn waiter(self: &Rc<Self>) -> ShelfWaiter {
        let notify = Rc::new(Notify::new());
        let key = self.waiting.borrow_mut().insert(Rc::clone(&notify));
        ShelfWaiter { shelf: Rc::clone(self), key, notify }
    }

    /// Wakes one of those; `false` for a client that waits in a session's slot.
    pub(crate) fn wake(&self, client: u64) -> bool {
        let Some(key) = client.checked_sub(WAITER_BASE) else { return false };
        let key = usize::try_from(key).unwrap_or(usize::MAX);
        if let Some(notify) = self.waiting.borrow().get(key) {
            notify.notify_one();
        }
        true
    }
}

/// A client that waits in a login or a search, until it is dropped.
#[derive(Debug)]
pub(crate) struct ShelfWaiter {
    shelf: Rc<Shelf>,
    key: usize,
    notify: Rc<Notify>,
}

impl ShelfWaiter {
    /// Its number for the pools.
    pub(crate) fn client(&self) -> u64 {
        WAITER_BASE + self.key as u64
    }

    /// Returns when it was woken.
    pub(crate) async fn woken(&self) {
        self.notify.notified().await;
    }
}

impl Drop for ShelfWaiter {
    fn drop(&mut self) {
        let _waiter = self.shelf.waiting.borrow_mut().try_remove(self.key);
    }
}
