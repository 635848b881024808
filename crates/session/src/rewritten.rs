//! Bytes of one side as they go to the other, where they differ from what it sent.

use std::ops::Range;

/// What a chunk becomes where parts of it are replaced. A caller keeps one for all of its sessions and passes it in with
/// each chunk; it grows to a few times the longest chunk, as the shortest message that is replaced has seven bytes and
/// its replacement at most forty-one.
#[derive(Debug, Default)]
pub struct Rewritten {
    bytes: Vec<u8>,
    /// So much of the chunk is in `bytes`, in whatever form. Zero where nothing is replaced.
    done: usize,
}

impl Rewritten {
    /// A new chunk begins.
    #[inline]
    pub(crate) fn begin(&mut self) {
        self.done = 0;
    }

    /// `parts` go in the place of a range of the chunk, which is not empty and begins behind all that was replaced before.
    #[cold]
    pub(crate) fn replace(&mut self, chunk: &[u8], range: Range<usize>, parts: &[&[u8]]) {
        debug_assert!(self.done <= range.start && range.start < range.end && range.end <= chunk.len());
        if self.done == 0 {
            self.bytes.clear();
        }
        self.bytes.extend_from_slice(chunk.get(self.done..range.start).unwrap_or_default());
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        self.done = range.end;
    }

    /// So many bytes of the chunk are forwarded.
    #[inline]
    pub(crate) fn end(&mut self, chunk: &[u8], forwarded: usize) {
        if self.done > 0 {
            self.bytes.extend_from_slice(chunk.get(self.done..forwarded).unwrap_or_default());
        }
    }

    /// What goes to the other side in place of the bytes that are forwarded of the last chunk.
    #[must_use]
    #[inline]
    pub fn sent<'a>(&'a self, forwarded: &'a [u8]) -> &'a [u8] {
        if self.done == 0 { forwarded } else { &self.bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_replaced_is_copied_in_order() {
        let mut rewritten = Rewritten::default();
        for _again in 0..2 {
            rewritten.begin();
            rewritten.end(b"abcdef", 4);
            assert_eq!(rewritten.sent(b"abcd"), b"abcd");
            rewritten.begin();
            rewritten.replace(b"abcdef", 0..1, &[b"x", b"yz"]);
            rewritten.replace(b"abcdef", 1..2, &[]);
            rewritten.replace(b"abcdef", 3..4, &[b"D"]);
            rewritten.end(b"abcdef", 5);
            assert_eq!(rewritten.sent(b"abcde"), b"xyzcDe");
        }
    }
}
