//! The lines of a watch, however its bytes are cut.

/// Longest line, in bytes: a slice of 1 000 endpoints has some 500 KiB.
pub(super) const LINE_BYTES_MAX: usize = 2 << 20;

/// A line is longer than [`LINE_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LineTooLong;

/// Bytes that are no whole line yet.
#[derive(Debug, Default)]
pub(super) struct WatchLines {
    begun: Vec<u8>,
}

impl WatchLines {
    /// The lines that `bytes` complete, without their ends; empty ones left out.
    ///
    /// # Errors
    /// When one is too long.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, LineTooLong> {
        let mut lines = Vec::new();
        let mut pieces = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            if self.begun.len() + piece.len() > LINE_BYTES_MAX {
                return Err(LineTooLong);
            }
            self.begun.extend_from_slice(piece);
            if pieces.peek().is_some() {
                lines.push(std::mem::take(&mut self.begun));
            }
        }
        lines.retain(|line| !line.trim_ascii().is_empty());
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lines_are_the_same_however_their_bytes_are_cut(
            lines in prop::collection::vec("[a-z{}]{1,20}", 0..8),
            cuts in prop::collection::vec(1_usize..9, 1..40),
            tail in "[a-z]{0,5}",
        ) {
            let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>() + &tail;
            let mut found = Vec::new();
            let mut reader = WatchLines::default();
            let mut rest = text.as_bytes();
            for cut in cuts.iter().cycle() {
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                found.extend(reader.push(piece).unwrap());
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(found, lines.into_iter().map(String::into_bytes).collect::<Vec<_>>());
            prop_assert_eq!(reader.begun, tail.into_bytes());
        }
    }

    #[test]
    fn a_line_has_a_longest_length() {
        let mut reader = WatchLines::default();
        let longest = vec![b'a'; LINE_BYTES_MAX];
        assert_eq!(reader.push(&longest), Ok(vec![]));
        assert_eq!(reader.push(b"\n").unwrap().len(), 1);
        assert_eq!(reader.push(&longest), Ok(vec![]));
        assert_eq!(reader.push(b"a"), Err(LineTooLong));
    }
}
