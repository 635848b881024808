//! SQL texts shared by statements, portals and requests in flight.

use std::num::NonZeroU32;

use crate::limits::STATEMENT_BYTES_MAX;

/// A text in [`Texts`]. Each holder counts: it is retained when copied and released when dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TextId(NonZeroU32);

#[derive(Debug)]
struct TextSlot {
    holders: u32,
    sql: Vec<u8>,
}

/// Largest buffer kept for the next text, in bytes.
const BUFFER_KEPT: usize = 512;

/// Most slots kept when none is in use.
const SLOTS_KEPT: usize = 16;

/// Texts by number. Buffers are used again, so that a query like the last one allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    slots: Vec<TextSlot>,
    vacant: Vec<TextId>,
    bytes: usize,
}

impl Texts {
    /// Keeps a text for one holder. `None` when the session keeps too much already.
    pub(crate) fn insert(&mut self, sql: &[u8]) -> Option<TextId> {
        if self.bytes + sql.len() > STATEMENT_BYTES_MAX {
            return None;
        }
        let id = self.vacant.pop().or_else(|| self.grow())?;
        let slot = self.slots.get_mut(index(id))?;
        slot.holders = 1;
        slot.sql.extend_from_slice(sql);
        self.bytes += sql.len();
        Some(id)
    }

    fn grow(&mut self) -> Option<TextId> {
        let number = u32::try_from(self.slots.len()).ok()?.checked_add(1)?;
        self.slots.push(TextSlot { holders: 0, sql: Vec::new() });
        NonZeroU32::new(number).map(TextId)
    }

    /// One more holder of `id`, which is returned for its use.
    pub(crate) fn retain(&mut self, id: Option<TextId>) -> Option<TextId> {
        let slot = self.slots.get_mut(index(id?))?;
        slot.holders += 1;
        id
    }

    /// One holder less.
    pub(crate) fn release(&mut self, id: Option<TextId>) {
        let Some(id) = id else { return };
        let Some(slot) = self.slots.get_mut(index(id)) else { return };
        debug_assert!(slot.holders > 0, "released more often than retained");
        slot.holders = slot.holders.saturating_sub(1);
        if slot.holders > 0 {
            return;
        }
        self.bytes -= slot.sql.len();
        slot.sql.clear();
        if slot.sql.capacity() > BUFFER_KEPT {
            slot.sql = Vec::new();
        }
        self.vacant.push(id);
        if self.slots.len() > SLOTS_KEPT && self.vacant.len() == self.slots.len() {
            *self = Self::default();
        }
    }

    pub(crate) fn sql(&self, id: Option<TextId>) -> Option<&[u8]> {
        self.slots.get(index(id?)).map(|slot| slot.sql.as_slice())
    }

    /// The number of texts with a holder.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.slots.len() - self.vacant.len()
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
        let one = texts.insert(b"select 1");
        let again = texts.retain(one);
        texts.release(one);
        assert_eq!(texts.sql(again), Some(&b"select 1"[..]));
        texts.release(again);
        assert_eq!(texts.held(), 0);
        let two = texts.insert(b"select 2");
        assert_eq!(two, one, "the slot is used again");
        assert_eq!(texts.sql(two), Some(&b"select 2"[..]));
    }

    #[test]
    fn bytes_kept_end_exactly_at_the_limit() {
        let mut texts = Texts::default();
        let half = vec![b'x'; STATEMENT_BYTES_MAX / 2];
        let first = texts.insert(&half);
        let second = texts.insert(&half);
        assert!(first.is_some() && second.is_some());
        assert_eq!(texts.insert(b"x"), None);
        texts.release(first);
        assert!(texts.insert(b"x").is_some());
    }

    #[test]
    fn a_burst_leaves_no_memory_behind() {
        let mut texts = Texts::default();
        let ids: Vec<_> = (0..100).map(|_| texts.insert(b"select 1")).collect();
        ids.into_iter().for_each(|id| texts.release(id));
        assert_eq!(texts.slots.capacity(), 0);
    }
}
