//! SQL texts shared by statements, portals and requests in flight: each text is kept once.

use std::num::NonZeroU32;
use std::ops::Range;

use crate::limits::{LOG_TEXT_BYTES_MAX, STATEMENT_TEXT_BYTES_MAX};

/// A text in [`Texts`]. Each holder counts: it is retained when copied and released when dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TextId(NonZeroU32);

/// What a text is kept for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TextUse {
    /// A statement, to be prepared again on another server, and the log.
    #[default]
    Statement,
    Log,
}

#[derive(Debug, Default)]
struct TextSlot {
    holders: u32,
    used_for: TextUse,
    bytes: Vec<u8>,
    sql: Range<usize>,
}

/// Largest buffer kept for the next text, in bytes.
const BUFFER_KEPT: usize = 2048;

/// Most buffers kept, and most slots when none is in use.
const SLOTS_KEPT: usize = 8;

/// Most slots without a holder beside a few that have one.
const FREE_SLOTS_MAX: usize = 64;

/// Texts by number. Buffers are used again, so that a query like the last one allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    slots: Vec<TextSlot>,
    /// Slots without a holder that have a buffer for the next text.
    vacant: Vec<TextId>,
    /// The other slots without a holder.
    bare: Vec<TextId>,
    statement_bytes: usize,
    log_bytes: usize,
}

impl Texts {
    /// Keeps SQL for one holder. `None` when the session keeps too much for that use already.
    pub(crate) fn insert(&mut self, sql: &[u8], used_for: TextUse) -> Option<TextId> {
        self.insert_message(sql, 0..sql.len(), used_for)
    }

    /// Keeps the body of a message whose SQL is at `sql`.
    pub(crate) fn insert_message(
        &mut self,
        body: &[u8],
        sql: Range<usize>,
        used_for: TextUse,
    ) -> Option<TextId> {
        let limit = match used_for {
            TextUse::Statement => STATEMENT_TEXT_BYTES_MAX,
            TextUse::Log => LOG_TEXT_BYTES_MAX,
        };
        if *self.bytes(used_for) + body.len() > limit {
            return None;
        }
        let id = self.vacant.pop().or_else(|| self.bare.pop()).or_else(|| self.grow())?;
        let slot = self.slots.get_mut(index(id))?;
        slot.holders = 1;
        slot.used_for = used_for;
        slot.bytes.extend_from_slice(body);
        slot.sql = sql;
        *self.bytes(used_for) += body.len();
        Some(id)
    }

    fn bytes(&mut self, used_for: TextUse) -> &mut usize {
        match used_for {
            TextUse::Statement => &mut self.statement_bytes,
            TextUse::Log => &mut self.log_bytes,
        }
    }

    fn grow(&mut self) -> Option<TextId> {
        let number = u32::try_from(self.slots.len()).ok()?.checked_add(1)?;
        self.slots.push(TextSlot::default());
        NonZeroU32::new(number).map(TextId)
    }

    /// One more holder of `id`, which is returned for its use.
    #[inline]
    pub(crate) fn retain(&mut self, id: Option<TextId>) -> Option<TextId> {
        let slot = self.slots.get_mut(index(id?))?;
        slot.holders += 1;
        id
    }

    /// One holder less.
    #[inline]
    pub(crate) fn release(&mut self, id: Option<TextId>) {
        if let Some(id) = id {
            self.release_held(id);
        }
    }

    fn release_held(&mut self, id: TextId) {
        let Some(slot) = self.slots.get_mut(index(id)) else { return };
        debug_assert!(slot.holders > 0, "released more often than retained");
        slot.holders = slot.holders.saturating_sub(1);
        if slot.holders > 0 {
            return;
        }
        let (length, used_for) = (slot.bytes.len(), slot.used_for);
        slot.bytes.clear();
        if slot.bytes.capacity() <= BUFFER_KEPT && self.vacant.len() < SLOTS_KEPT {
            self.vacant.push(id);
        } else {
            slot.bytes = Vec::new();
            self.bare.push(id);
        }
        *self.bytes(used_for) -= length;
        self.give_back();
    }

    /// Gives back what a burst of requests has needed: everything where nothing is held, else the slots behind the last
    /// that is held, once most are free.
    fn give_back(&mut self) {
        let free = self.vacant.len() + self.bare.len();
        if free == self.slots.len() && free > SLOTS_KEPT {
            *self = Self::default();
        } else if free > FREE_SLOTS_MAX && free >= self.slots.len() / 8 * 7 {
            let held = self.slots.iter().rposition(|slot| slot.holders > 0).map_or(0, |last| last + 1);
            if held < self.slots.len() {
                self.slots.truncate(held);
                self.slots.shrink_to_fit();
                for list in [&mut self.vacant, &mut self.bare] {
                    list.retain(|id| index(*id) < held);
                    list.shrink_to_fit();
                }
            }
        }
    }

    /// Gives back what its buffer has more than it needs: the text will be kept for long.
    pub(crate) fn shrink(&mut self, id: Option<TextId>) {
        if let Some(slot) = id.and_then(|id| self.slots.get_mut(index(id))) {
            slot.bytes.shrink_to_fit();
        }
    }

    /// The SQL.
    #[inline]
    pub(crate) fn sql(&self, id: Option<TextId>) -> Option<&[u8]> {
        let slot = self.slots.get(index(id?))?;
        slot.bytes.get(slot.sql.clone())
    }

    /// Of a Parse, whose body is kept, the types of parameters: behind the SQL, its NUL and their number.
    #[inline]
    pub(crate) fn types(&self, id: Option<TextId>) -> &[u8] {
        let slot = id.and_then(|id| self.slots.get(index(id)));
        slot.and_then(|slot| slot.bytes.get(slot.sql.end + 3..)).unwrap_or_default()
    }

    /// All that is kept: the message, or the SQL.
    pub(crate) fn whole(&self, id: Option<TextId>) -> Option<&[u8]> {
        self.slots.get(index(id?)).map(|slot| slot.bytes.as_slice())
    }

    /// The number of texts with a holder.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.slots.len() - self.vacant.len() - self.bare.len()
    }
}

fn index(id: TextId) -> usize {
    id.0.get() as usize - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_lives_as_long_as_its_last_holder() {
        let mut texts = Texts::default();
        let one = texts.insert(b"select 1", TextUse::Log);
        let again = texts.retain(one);
        texts.release(one);
        assert_eq!(texts.sql(again), Some(&b"select 1"[..]));
        texts.release(again);
        assert_eq!(texts.held(), 0);
        let two = texts.insert_message(b"s\0select 2\0", 2..10, TextUse::Statement);
        assert_eq!(two, one, "the slot is used again");
        assert_eq!(texts.sql(two), Some(&b"select 2"[..]));
        assert_eq!(texts.whole(two), Some(&b"s\0select 2\0"[..]));
    }

    #[test]
    fn bytes_kept_end_exactly_at_the_limit() {
        let mut texts = Texts::default();
        let half = vec![b'x'; LOG_TEXT_BYTES_MAX / 2];
        let first = texts.insert(&half, TextUse::Log);
        let second = texts.insert(&half, TextUse::Log);
        assert!(first.is_some() && second.is_some());
        assert_eq!(texts.insert(b"x", TextUse::Log), None);
        assert!(texts.insert(&half, TextUse::Statement).is_some(), "the log takes nothing from statements");
        texts.release(first);
        assert!(texts.insert(b"x", TextUse::Log).is_some());
    }

    #[test]
    fn a_burst_leaves_no_memory_behind() {
        let mut texts = Texts::default();
        let ids: Vec<_> = (0..100).map(|_| texts.insert(b"select 1", TextUse::Log)).collect();
        ids.into_iter().for_each(|id| texts.release(id));
        assert_eq!(texts.slots.capacity(), 0);
    }

    #[test]
    fn a_burst_beside_a_text_that_stays_leaves_few_slots_behind() {
        let mut texts = Texts::default();
        let stays = texts.insert(b"select 0", TextUse::Statement);
        let ids: Vec<_> = (0..4096).map(|_| texts.insert(b"select 1", TextUse::Log)).collect();
        ids.into_iter().for_each(|id| texts.release(id));
        assert!(texts.slots.capacity() <= FREE_SLOTS_MAX + 2, "{}", texts.slots.capacity());
        assert!(texts.bare.capacity() + texts.vacant.capacity() <= 2 * FREE_SLOTS_MAX);
        assert_eq!(texts.sql(stays), Some(&b"select 0"[..]));
        assert_eq!(texts.held(), 1);
    }

    #[test]
    fn a_burst_beside_a_text_that_stays_leaves_few_buffers_behind() {
        let mut texts = Texts::default();
        let stays = texts.insert(b"select 0", TextUse::Log);
        let ids: Vec<_> = (0..60).map(|_| texts.insert(b"select 1", TextUse::Log)).collect();
        ids.into_iter().for_each(|id| texts.release(id));
        assert_eq!(texts.slots.iter().filter(|slot| slot.bytes.capacity() > 0).count(), SLOTS_KEPT + 1);
        assert_eq!(texts.sql(stays), Some(&b"select 0"[..]));
        let next = texts.insert(b"select 2", TextUse::Log);
        assert!(texts.slots[index(next.expect("few"))].bytes.capacity() > 0, "one with a buffer comes first");
    }
}
