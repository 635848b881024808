//! Whose turn it is to compute a flight of a handshake.
//!
//! A signature takes as long as hundreds of queries. A hundred clients that come at once must not stop the sessions of
//! their thread for the sum of them: one flight is computed, and then the others have some rounds of the executor.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

/// Rounds of the executor from one flight to the next. A query takes two, one for each direction: few meet more than one
/// flight. On a thread that has nothing else to do, a round is a call of epoll: a few microseconds for all of them.
const ROUNDS_BETWEEN: usize = 4;

thread_local! {
    static TURNS: RefCell<Turns> = const { RefCell::new(Turns::NONE) };
}

/// Those of a thread that wait, in their order: as many at most as there are connections.
#[derive(Debug)]
struct Turns {
    is_taken: bool,
    waiting: VecDeque<(u64, Waker)>,
    /// Who has been woken for its turn.
    called: Option<u64>,
    last_ticket: u64,
}

impl Turns {
    const NONE: Turns = Turns { is_taken: false, waiting: VecDeque::new(), called: None, last_ticket: 0 };

    fn pass_on(&mut self) {
        match self.waiting.pop_front() {
            Some((ticket, waker)) => {
                self.called = Some(ticket);
                waker.wake();
            }
            None => self.is_taken = false,
        }
    }
}

/// The one turn of a thread. Dropped, it is the next one's.
#[derive(Debug)]
pub(super) struct HandshakeTurn(());

impl HandshakeTurn {
    /// Waits for it.
    pub(super) async fn take() -> Self {
        let mut place = TurnPlace(None);
        poll_fn(|cx| place.poll(cx)).await
    }

    /// Ends it: whoever waits, or comes meanwhile, has the next one some rounds later.
    pub(super) async fn end(self) {
        // Whoever is called is polled one round after that.
        for _round in 1..ROUNDS_BETWEEN {
            next_round().await;
        }
    }
}

impl Drop for HandshakeTurn {
    fn drop(&mut self) {
        TURNS.with_borrow_mut(Turns::pass_on);
    }
}

/// A place in the queue, given up when dropped.
struct TurnPlace(Option<u64>);

impl TurnPlace {
    fn poll(&mut self, cx: &Context<'_>) -> Poll<HandshakeTurn> {
        TURNS.with_borrow_mut(|turns| {
            if let Some(ticket) = self.0 {
                if turns.called == Some(ticket) {
                    turns.called = None;
                    self.0 = None;
                    return Poll::Ready(HandshakeTurn(()));
                }
                if let Some((_, waker)) = turns.waiting.iter_mut().find(|(waiting, _)| *waiting == ticket) {
                    waker.clone_from(cx.waker());
                }
                return Poll::Pending;
            }
            if !turns.is_taken {
                turns.is_taken = true;
                return Poll::Ready(HandshakeTurn(()));
            }
            turns.last_ticket += 1;
            self.0 = Some(turns.last_ticket);
            turns.waiting.push_back((turns.last_ticket, cx.waker().clone()));
            Poll::Pending
        })
    }
}

impl Drop for TurnPlace {
    fn drop(&mut self) {
        let Some(ticket) = self.0 else { return };
        TURNS.with_borrow_mut(|turns| {
            turns.waiting.retain(|(waiting, _)| *waiting != ticket);
            if turns.called == Some(ticket) {
                turns.called = None;
                turns.pass_on();
            }
        });
    }
}

/// Goes on in the executor's next round.
async fn next_round() {
    let mut is_next = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut is_next, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;
    use std::time::Duration;

    use trunkline_reactor::{block_on, spawn, timer};

    use super::*;

    #[test]
    fn turns_are_rounds_apart_however_many_come_at_once() {
        const MANY: u32 = 50;
        block_on(async {
            let round = Rc::new(Cell::new(0_u32));
            let counter = Rc::clone(&round);
            spawn(async move {
                loop {
                    counter.set(counter.get() + 1);
                    next_round().await;
                }
            });
            let turns = Rc::new(RefCell::new(Vec::new()));
            for number in 0..MANY {
                let (round, turns) = (Rc::clone(&round), Rc::clone(&turns));
                spawn(async move {
                    let turn = HandshakeTurn::take().await;
                    turns.borrow_mut().push((number, round.get()));
                    turn.end().await;
                });
            }
            while turns.borrow().len() < MANY as usize {
                next_round().await;
            }
            let turns = turns.borrow();
            let between: Vec<u32> = turns.windows(2).map(|pair| pair[1].1 - pair[0].1).collect();
            let wanted = u32::try_from(ROUNDS_BETWEEN).expect("a small number");
            assert!(between.iter().all(|rounds| (wanted..=wanted + 1).contains(rounds)), "{between:?}");
            assert!(turns.iter().map(|(number, _)| *number).eq(0..MANY), "in their order: {turns:?}");
        })
        .expect("a thread of its own");
    }

    #[test]
    fn who_gives_up_holds_nobody_up() {
        block_on(async {
            let held = HandshakeTurn::take().await;
            let limit = Duration::from_millis(1);
            assert!(timer::timeout(limit, HandshakeTurn::take()).await.is_err(), "it is taken");
            {
                // Called, and gone before it looks.
                let mut place = TurnPlace(None);
                poll_fn(|cx| Poll::Ready(place.poll(cx).is_pending())).await;
                drop(held);
                assert!(TURNS.with_borrow(|turns| turns.called.is_some()));
            }
            HandshakeTurn::take().await.end().await;
            assert!(TURNS.with_borrow(|turns| !turns.is_taken && turns.waiting.is_empty()));
        })
        .expect("a thread of its own");
    }
}
