//! How a worker reaches its sessions: each has a slot with the worker's latest order.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;
use std::time::Instant;

use slab::Slab;
use tokio::sync::Notify;
use trunkline_topology::ServerId;

use trunkline_reactor::{WakerCell, timer};
use trunkline_telemetry::limits::SESSIONS_ANSWER_TIMEOUT;
use trunkline_telemetry::sessions::{SessionFilter, SessionRow, Sessions};

/// What a session must do. Later variants outrank earlier ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    /// Nothing.
    #[default]
    None,
    /// Check deadlines and health: a deadline has come, or verdicts have changed.
    Recheck,
    /// Move to another server at the next idle point, if possible: sessions are unevenly spread.
    Move,
    /// End at the next idle point.
    Drain,
    /// End now.
    Kill,
}

/// One session as its worker sees it.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    order: Cell<Order>,
    /// The worker waits for a description of the session.
    is_asked: Cell<bool>,
    /// Where the session is, if it may move from there: its server, by this listener. Two fields, which are smaller than one.
    server: Cell<Option<ServerId>>,
    listener: Cell<u64>,
    /// When the session wants to be woken.
    due: Cell<Option<Instant>>,
    /// The session may have kept a connection that nothing pins it to, since those that do were last woken.
    keeps_connection: Cell<bool>,
    waker: WakerCell,
}

/// The sessions of one thread.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    slots: RefCell<Slab<Rc<Slot>>>,
    /// The order for all sessions, including those that begin later.
    standing: Cell<Order>,
    emptied: Notify,
    round: SessionsRound,
    /// Where the next orders to move begin: the sessions ordered last time may be unable to move.
    next_move: Cell<usize>,
    /// How often sessions that are due were woken, from zero again at the end.
    ticks: Cell<u16>,
    /// Whether a session may have kept a connection that nothing pins it to.
    has_keepers: Cell<bool>,
}

/// One query to all sessions of a thread.
#[derive(Debug)]
struct SessionsRound {
    listed: Cell<SessionFilter>,
    told: RefCell<Sessions>,
    /// Sessions that have not answered yet.
    waiting: Cell<usize>,
    ended: Notify,
}

impl Default for SessionsRound {
    fn default() -> Self {
        SessionsRound {
            listed: Cell::new(SessionFilter::None),
            told: RefCell::default(),
            waiting: Cell::new(0),
            ended: Notify::new(),
        }
    }
}

impl SessionsRound {
    fn answered(&self) {
        self.waiting.set(self.waiting.get().saturating_sub(1));
        if self.waiting.get() == 0 {
            self.ended.notify_one();
        }
    }
}

/// A session's slot, given back when dropped.
#[derive(Debug)]
pub(crate) struct SlotGuard {
    worker: Rc<super::Worker>,
    key: usize,
    slot: Rc<Slot>,
}

impl Slot {
    /// Takes the order: orders to end stay, the others are returned once.
    #[inline]
    pub(crate) fn take_order(&self) -> Order {
        let order = self.order.get();
        if order < Order::Drain {
            self.order.set(Order::None);
        }
        order
    }

    /// Sets where the session is, for rebalancing: its listener and its server.
    pub(crate) fn set_place(&self, place: Option<(u64, ServerId)>) {
        self.server.set(place.map(|(_, server)| server));
        self.listener.set(place.map_or(0, |(listener, _)| listener));
    }

    fn is_at(&self, (listener, server): (u64, ServerId)) -> bool {
        self.server.get() == Some(server) && self.listener.get() == listener
    }

    /// Whether the session is to end at its next idle point.
    pub(crate) fn is_draining(&self) -> bool {
        self.order.get() >= Order::Drain
    }

    /// Sets the waker of the session; it does not change, so later calls do nothing.
    #[inline]
    pub(crate) fn set_waker(&self, waker: &Waker) {
        self.waker.set_first(waker);
    }

    /// Sets when to wake the session.
    pub(crate) fn set_due(&self, due: Option<Instant>) {
        self.due.set(due);
    }

    /// The same, unless an earlier time is set.
    pub(crate) fn due_by(&self, due: Instant) {
        self.due.set(Some(self.due.get().map_or(due, |set| set.min(due))));
    }

    /// Whether the worker waits for a description of the session.
    pub(crate) fn is_asked(&self) -> bool {
        self.is_asked.get()
    }

    fn give(&self, order: Order) {
        self.order.set(self.order.get().max(order));
        self.wake();
    }

    pub(crate) fn wake(&self) {
        self.waker.wake();
    }
}

impl Slots {
    /// A place for a session that begins.
    pub(crate) fn enter(worker: &Rc<super::Worker>) -> SlotGuard {
        let slot = Rc::new(Slot::default());
        slot.order.set(worker.slots.standing.get());
        let key = worker.slots.slots.borrow_mut().insert(Rc::clone(&slot));
        SlotGuard { worker: Rc::clone(worker), key, slot }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.borrow().is_empty()
    }

    /// Returns when the last session has gone.
    pub(crate) async fn emptied(&self) {
        self.emptied.notified().await;
    }

    pub(crate) fn order_all(&self, order: Order) {
        if order >= Order::Drain {
            self.standing.set(self.standing.get().max(order));
        }
        for (_, slot) in self.slots.borrow().iter() {
            slot.give(order);
        }
    }

    /// Orders up to `most` of the sessions at `place` to move.
    pub(crate) fn order_moves(&self, place: (u64, ServerId), most: usize) {
        let slots = self.slots.borrow();
        let from = self.next_move.get();
        let later = slots.iter().filter(|(key, _)| *key >= from);
        let all = later.chain(slots.iter().filter(|(key, _)| *key < from));
        for (key, slot) in all.filter(|(_, slot)| slot.is_at(place)).take(most) {
            self.next_move.set(key + 1);
            slot.give(Order::Move);
        }
    }

    /// Counts and lists the sessions: each is woken and answers. Those that do not answer in time are left out.
    pub(crate) async fn ask_all(&self, listed: SessionFilter) -> Sessions {
        let round = &self.round;
        round.listed.set(listed);
        round.told.take();
        round.waiting.set(self.slots.borrow().len());
        for (_, slot) in self.slots.borrow().iter() {
            slot.is_asked.set(true);
            slot.wake();
        }
        let all = async {
            // A late answer to the previous query may have left a notification.
            while round.waiting.get() > 0 {
                round.ended.notified().await;
            }
        };
        // After the timeout, whoever asked has stopped waiting.
        let _late = timer::timeout(SESSIONS_ANSWER_TIMEOUT, all).await;
        round.told.take()
    }

    /// Wakes one session.
    pub(crate) fn wake(&self, session: u64) {
        let slots = self.slots.borrow();
        let slot = usize::try_from(session).ok().and_then(|session| slots.get(session));
        if let Some(slot) = slot {
            slot.wake();
        }
    }

    /// The session of this slot keeps a connection that nothing pins it to.
    #[inline]
    pub(crate) fn keeps_connection(&self, slot: &Slot) {
        slot.keeps_connection.set(true);
        self.has_keepers.set(true);
    }

    /// Wakes the sessions that may have kept such a connection.
    pub(crate) fn wake_keepers(&self) {
        if !self.has_keepers.take() {
            return;
        }
        for (_, slot) in self.slots.borrow().iter() {
            if slot.keeps_connection.take() {
                slot.wake();
            }
        }
    }

    /// How often sessions that are due were woken.
    #[inline]
    pub(crate) fn ticks(&self) -> u16 {
        self.ticks.get()
    }

    pub(crate) fn wake_due(&self, now: Instant) {
        self.ticks.set(self.ticks.get().wrapping_add(1));
        for (_, slot) in self.slots.borrow().iter() {
            if slot.due.get().is_some_and(|due| due <= now) {
                slot.due.set(None);
                slot.give(Order::Recheck);
            }
        }
    }
}

impl SlotGuard {
    /// The session's number among those of its thread, for [`Slots::wake`].
    pub(crate) fn number(&self) -> u64 {
        self.key as u64
    }

    /// Answers the worker's query.
    pub(crate) fn answer(&self, row: SessionRow) {
        let round = &self.worker.slots.round;
        self.slot.is_asked.set(false);
        round.told.borrow_mut().count(row, round.listed.get());
        round.answered();
    }
}

impl std::ops::Deref for SlotGuard {
    type Target = Slot;

    fn deref(&self) -> &Slot {
        &self.slot
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        if self.slot.is_asked() {
            self.worker.slots.round.answered();
        }
        let mut slots = self.worker.slots.slots.borrow_mut();
        slots.remove(self.key);
        if slots.is_empty() {
            self.worker.slots.emptied.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(sessions: usize) -> (Slots, Vec<Rc<Slot>>) {
        let slots = Slots::default();
        let all: Vec<_> = (0..sessions).map(|_| Rc::new(Slot::default())).collect();
        for slot in &all {
            slots.slots.borrow_mut().insert(Rc::clone(slot));
        }
        (slots, all)
    }

    #[test]
    fn orders_to_move_reach_each_session_in_turn() {
        let (slots, all) = filled(5);
        let place = (0, ServerId(0));
        all.iter().for_each(|slot| slot.set_place(Some(place)));
        let told = |_round| {
            slots.order_moves(place, 2);
            all.iter().map(|slot| usize::from(slot.take_order() == Order::Move)).collect::<Vec<_>>()
        };
        let rounds: Vec<_> = (0..3).map(told).collect();
        assert_eq!(rounds, [[1, 1, 0, 0, 0], [0, 0, 1, 1, 0], [1, 0, 0, 0, 1]]);
    }

    #[tokio::test]
    async fn a_late_answer_does_not_stand_for_the_next_one() {
        let (slots, _all) = filled(1);
        // Nobody answers in time, and then somebody does.
        slots.ask_all(SessionFilter::None).await;
        slots.round.answered();
        let mut next = std::pin::pin!(slots.ask_all(SessionFilter::None));
        let early = timer::timeout(std::time::Duration::from_millis(50), next.as_mut()).await;
        assert!(early.is_err(), "this round has no answer yet");
        slots.round.answered();
        let begun = Instant::now();
        next.await;
        assert!(begun.elapsed() < SESSIONS_ANSWER_TIMEOUT / 2, "all have answered");
    }
}
