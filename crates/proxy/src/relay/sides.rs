//! Which of the two pumps a wake-up is for, so that the other need not ask its peer.
//!
//! Each pump waits with a waker of its own, which notes whose it is before it wakes the session. A pump that
//! waits and was not woken has nothing to do: its waker is still in place, or it is held by the session, which
//! only the other pump's progress can change. Woken without a note (an order, a timer), both pumps look.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::task::{Wake, Waker};

/// The pumps' wakers.
#[derive(Debug)]
pub(super) struct Sides {
    /// For the pump of what the client says.
    pub(super) client: Waker,
    /// For the pump of what the server says.
    pub(super) server: Waker,
    notes: [Arc<Note>; 2],
}

/// The pumps that have to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Woken {
    pub(super) client: bool,
    pub(super) server: bool,
}

#[derive(Debug)]
struct Note {
    is_woken: AtomicBool,
    session: Waker,
}

impl Wake for Note {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, Release);
        self.session.wake_by_ref();
    }
}

impl Note {
    /// A load and a store where a swap would lock the bus: who notes in between wakes the session after it.
    #[inline]
    fn take(&self) -> bool {
        let is_woken = self.is_woken.load(Acquire);
        if is_woken {
            self.is_woken.store(false, Release);
        }
        is_woken
    }
}

impl Sides {
    /// Pumps of the session that `session` wakes; both look first.
    pub(super) fn new(session: &Waker) -> Self {
        let notes =
            [(); 2].map(|()| Arc::new(Note { is_woken: AtomicBool::new(true), session: session.clone() }));
        let [client, server] = &notes;
        Sides { client: Arc::clone(client).into(), server: Arc::clone(server).into(), notes }
    }

    /// Has both pumps look: a note of before must not keep one from it.
    pub(super) fn note_both(&self) {
        self.notes.iter().for_each(|note| note.is_woken.store(true, Release));
    }

    /// Whose wake-up this is; the notes are taken.
    #[inline]
    pub(super) fn take_woken(&self) -> Woken {
        let [client, server] = &self.notes;
        let (client, server) = (client.take(), server.take());
        if client || server { Woken { client, server } } else { Woken { client: true, server: true } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Woken = Woken { client: true, server: true };

    #[test]
    fn the_pump_that_was_woken_looks_and_without_a_note_both_do() {
        let sides = Sides::new(Waker::noop());
        assert_eq!(sides.take_woken(), BOTH, "at first");
        sides.server.wake_by_ref();
        assert_eq!(sides.take_woken(), Woken { client: false, server: true });
        assert_eq!(sides.take_woken(), BOTH, "a note is taken once");
        sides.client.wake_by_ref();
        assert_eq!(sides.take_woken(), Woken { client: true, server: false });
    }

    #[test]
    fn a_note_of_one_does_not_keep_the_other_from_looking_at_a_new_server() {
        let sides = Sides::new(Waker::noop());
        sides.take_woken();
        sides.server.wake_by_ref();
        sides.note_both();
        assert_eq!(sides.take_woken(), BOTH);
    }
}
