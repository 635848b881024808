//! A session in transaction mode that has added rows, or named `nextval` or `setval`: its client may ask `currval` or
//! `lastval` next, which only its connection can answer, so it keeps that for a moment.
//!
//! Most clients never ask. A session stays after its first [`SEQUENCE_STAYS_UNASKED_MAX`] transactions of that kind. Once a
//! client of the same user and database has asked, it stays after all that add rows, and is pinned by `nextval` and
//! `setval`. While others wait, it keeps the connection for [`SEQUENCE_STAY_MIN`], and not for a request that does not
//! ask. From its question on, the session is pinned.

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use trunkline_reactor::{spawn, timer};
use trunkline_session::PinReason;

use super::{Next, Relay};
use crate::limits::{
    SEQUENCE_QUESTION_BYTES, SEQUENCE_STAY_MAX, SEQUENCE_STAY_MIN, SEQUENCE_STAYS_UNASKED_MAX,
};

/// See the module. `None` for a session that has done nothing of it, and whose client has not asked: most of them.
#[derive(Debug, Default)]
pub(super) struct SequenceStay(Option<Box<SequenceUser>>);

/// A session that may have used sequences.
#[derive(Debug, Default)]
struct SequenceUser {
    /// Since when the session keeps its connection.
    since: Option<Instant>,
    /// When it is woken to look whether that is over.
    wakes_at: Option<Instant>,
    /// Transactions of that kind, up to [`SEQUENCE_STAYS_UNASKED_MAX`].
    stays: u8,
    question: SequenceQuestion,
}

/// Whether the client has asked for what sequences have given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum SequenceQuestion {
    #[default]
    NotAsked,
    Asked,
}

impl SequenceStay {
    /// Whether the session keeps its connection.
    #[inline]
    pub(super) fn is_kept(&self) -> bool {
        self.0.as_ref().is_some_and(|user| user.since.is_some())
    }

    /// The session has no connection any more.
    #[inline]
    pub(super) fn end(&mut self) {
        if let Some(user) = &mut self.0 {
            user.since = None;
        }
    }

    #[inline]
    fn question(&self) -> SequenceQuestion {
        self.0.as_ref().map_or(SequenceQuestion::NotAsked, |user| user.question)
    }
}

impl Relay {
    /// Whether the idle session keeps its connection, although nothing pins it.
    #[inline]
    pub(super) fn stays_for_sequences(&mut self) -> bool {
        (self.session.take_insert() && self.begins_to_stay())
            || self.goes_on_staying()
            || self.is_pinned_by_sequences()
    }

    /// Whether it has named what takes values from a sequence, and clients of its user and database ask which those were.
    #[inline]
    fn is_pinned_by_sequences(&self) -> bool {
        self.session.has_named_sequences()
            && self.seat_among_others().is_some_and(|seat| seat.asks_for_sequences())
    }

    /// Why the idle session keeps its connection, although nothing pins it.
    pub(super) fn reason_to_stay(&self) -> Option<PinReason> {
        if self.is_pinned_by_sequences() {
            return Some(PinReason::SEQUENCE);
        }
        self.context.sequences.is_kept().then_some(PinReason::INSERT)
    }

    /// It may have used a sequence.
    #[cold]
    fn begins_to_stay(&mut self) -> bool {
        let Some(seat) = self.seat_among_others() else { return false };
        let is_asker = seat.asks_for_sequences();
        let stay = self.context.sequences.0.get_or_insert_default();
        if !is_asker && stay.stays >= SEQUENCE_STAYS_UNASKED_MAX {
            return false;
        }
        stay.stays = stay.stays.saturating_add(1);
        stay.since = Some(Instant::now());
        self.goes_on_staying()
    }

    #[inline]
    fn goes_on_staying(&mut self) -> bool {
        self.context.sequences.is_kept() && self.looks_whether_to_stay()
    }

    #[cold]
    fn looks_whether_to_stay(&mut self) -> bool {
        let now = Instant::now();
        let since = self.context.sequences.0.as_ref().and_then(|user| user.since);
        let Some(since) = since else { return false };
        let lasts = now.saturating_duration_since(since);
        if lasts >= SEQUENCE_STAY_MAX || (lasts >= SEQUENCE_STAY_MIN && self.do_others_wait()) {
            self.context.sequences.end();
            return false;
        }
        self.wakes_to_look(now);
        true
    }

    /// Whether a client waits for a connection of the pools.
    fn do_others_wait(&self) -> bool {
        self.worker.shared.pools.lock().has_waiters()
    }

    fn wakes_to_look(&mut self, now: Instant) {
        let stay = self.context.sequences.0.get_or_insert_default();
        if stay.wakes_at.is_some_and(|at| at > now) {
            return;
        }
        let at = now + SEQUENCE_STAY_MIN;
        stay.wakes_at = Some(at);
        let (number, worker) = (self.slot.number(), Rc::clone(&self.worker));
        spawn(async move {
            timer::sleep_until(at).await;
            worker.slots.wake(number);
        });
    }

    /// The client of a session that stays has sent something: if that does not ask, those come first that wait, and it may have
    /// another server.
    #[cold]
    pub(super) fn lets_others_first(&mut self, cx: &Context<'_>) -> Option<Next> {
        let is_wanted = self.context.split.is_some() || self.do_others_wait();
        if !self.is_idle() || self.to_server.input.has_read_ahead() || !is_wanted {
            return None;
        }
        let mut next = [0; SEQUENCE_QUESTION_BYTES];
        let Poll::Ready(Ok(length)) = self.client.poll_peek(cx, &mut next) else { return None };
        let next = next.get(..length).unwrap_or_default();
        // A goodbye needs no server.
        if length == 0 || next.first() == Some(&b'X') || self.session.may_ask_for_sequences(next) {
            return None;
        }
        self.context.sequences.end();
        self.give_back_at_rest();
        Some(Next::Again)
    }

    /// The idle session is pinned: if its client has asked, others of its user and database may.
    #[inline]
    pub(super) fn heed_sequence_question(&mut self) {
        if self.context.sequences.question() == SequenceQuestion::NotAsked
            && self.session.has_asked_for_sequences()
        {
            self.asked_for_sequences();
        }
    }

    #[cold]
    fn asked_for_sequences(&mut self) {
        let stay = self.context.sequences.0.get_or_insert_default();
        (stay.since, stay.question) = (None, SequenceQuestion::Asked);
        if let Some(seat) = self.seat_among_others() {
            seat.note_sequence_question();
        }
    }
}
