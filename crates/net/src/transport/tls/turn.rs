//! Whose turn it is to compute a flight of a handshake.
//!
//! A signature takes as long as hundreds of queries. A hundred clients that come at once must not stop the sessions of
//! their thread for the sum of them: one flight is computed, and then the others have some rounds of the executor. They are
//! waited for by the next one that has a flight to compute: a thread with one handshake at a time makes no round for it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use trunkline_reactor::round;

/// Rounds of the executor from one flight to the next. A query takes two, one for each direction: few meet more than one
/// flight. On a thread that has nothing else to do, a round that is waited for is a call of epoll.
const ROUNDS_BETWEEN: u64 = 4;

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
    /// The round from which the next flight may be computed.
    next_round: u64,
}

impl Turns {
    const NONE: Turns =
        Turns { is_taken: false, waiting: VecDeque::new(), called: None, last_ticket: 0, next_round: 0 };

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
    /// Waits for it, and for the rounds since the last flight.
    pub(super) async fn take() -> Self {
        let mut place = TurnPlace(None);
        let turn = poll_fn(|cx| place.poll(cx)).await;
        // Bounded, for the rounds of another executor of this thread count from 0.
        for _round in 0..ROUNDS_BETWEEN {
            if round() >= TURNS.with_borrow(|turns| turns.next_round) {
                break;
            }
            next_round().await;
        }
        turn
    }

    /// Ends it behind a flight: whoever waits, or comes meanwhile, computes the next one some rounds later.
    pub(super) fn end(self) {
        TURNS.with_borrow_mut(|turns| turns.next_round = round() + ROUNDS_BETWEEN);
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
            let counted = Rc::new(Cell::new(0_u64));
            let counter = Rc::clone(&counted);
            spawn(async move {
                loop {
                    counter.set(counter.get() + 1);
                    next_round().await;
                }
            });
            let turns = Rc::new(RefCell::new(Vec::new()));
            for number in 0..MANY {
                let (counted, turns) = (Rc::clone(&counted), Rc::clone(&turns));
                spawn(async move {
                    let turn = HandshakeTurn::take().await;
                    turns.borrow_mut().push((number, counted.get()));
                    turn.end();
                });
            }
            while turns.borrow().len() < MANY as usize {
                next_round().await;
            }
            let turns = turns.borrow();
            let between: Vec<u64> = turns.windows(2).map(|pair| pair[1].1 - pair[0].1).collect();
            let wanted = ROUNDS_BETWEEN..=ROUNDS_BETWEEN + 1;
            assert!(between.iter().all(|rounds| wanted.contains(rounds)), "{between:?}");
            assert!(turns.iter().map(|(number, _)| *number).eq(0..MANY), "in their order: {turns:?}");
        })
        .expect("a thread of its own");
    }

    #[test]
    fn only_who_comes_too_early_waits_for_rounds() {
        block_on(async {
            let begin = round();
            HandshakeTurn::take().await.end();
            assert_eq!(round(), begin, "nobody was before it, and nobody is behind it");
            HandshakeTurn::take().await.end();
            assert_eq!(round(), begin + ROUNDS_BETWEEN);
            for _round in 0..ROUNDS_BETWEEN {
                next_round().await;
            }
            let begin = round();
            HandshakeTurn::take().await.end();
            assert_eq!(round(), begin, "they have passed meanwhile");
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
            HandshakeTurn::take().await.end();
            assert!(TURNS.with_borrow(|turns| !turns.is_taken && turns.waiting.is_empty()));
        })
        .expect("a thread of its own");
    }
}
