//! Messages in flight that went to the server with the name of a shared statement: which it is, and what its client calls it.

use std::collections::VecDeque;

use crate::carried::content::ContentId;
use crate::names::compared;

/// Bytes of room that stay when nothing is in flight.
const ROOM_KEPT: usize = 1024;

/// One for each request whose class is [shared](crate::sql::Class::is_shared), in their order: bytes of the content's
/// identity, of the length of the name, and of the name.
#[derive(Debug, Default)]
pub(crate) struct RenamedInFlight(VecDeque<u8>);

impl RenamedInFlight {
    /// A message goes to the server. Of a longer name what the server compares is kept.
    pub(crate) fn push(&mut self, id: ContentId, name: &[u8]) {
        let name = compared(name);
        let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
        self.0.extend(id.bytes());
        self.0.extend(length.to_be_bytes());
        self.0.extend(name.iter().take(usize::from(length)));
    }

    fn at<const N: usize>(&self, start: usize) -> Option<[u8; N]> {
        let mut found = [0; N];
        for (at, byte) in found.iter_mut().enumerate() {
            *byte = *self.0.get(start + at)?;
        }
        Some(found)
    }

    fn name_length(&self) -> Option<usize> {
        Some(usize::from(u16::from_be_bytes(self.at(ContentId::BYTES)?)))
    }

    /// The oldest one: its content, and what the client calls it.
    pub(crate) fn front(&self) -> Option<(ContentId, Vec<u8>)> {
        let (id, length) = (ContentId::from_bytes(self.at(0)?), self.name_length()?);
        Some((id, self.0.iter().skip(ContentId::BYTES + 2).take(length).copied().collect()))
    }

    /// The oldest one is answered, or will not be.
    pub(crate) fn pop(&mut self) {
        let length = self.name_length().map_or(0, |name| ContentId::BYTES + 2 + name);
        self.0.drain(..length.min(self.0.len()));
        if self.0.is_empty() && self.0.capacity() > ROOM_KEPT {
            self.0 = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::carried::content::ContentParts;
    use crate::carried::search_path::PathId;

    #[test]
    fn they_come_back_in_order() {
        let of = |sql| ContentId::of(&ContentParts { sql, types: b"", path: PathId::default(), settings: 0 });
        let mut renamed = RenamedInFlight::default();
        for _again in 0..200 {
            for name in [&b"s"[..], b"", b"another name"] {
                renamed.push(of(name), name);
            }
            for name in [&b"s"[..], b"", b"another name"] {
                assert_eq!(renamed.front(), Some((of(name), name.to_vec())));
                renamed.pop();
            }
            assert!(renamed.0.is_empty());
            assert_eq!(renamed.front(), None);
            renamed.pop();
        }
        (0..200).for_each(|_| renamed.push(of(b"x"), &[b'x'; 70_000]));
        assert!(renamed.0.len() < 200 * 100, "long names are cut");
        (0..200).for_each(|_| renamed.pop());
        assert!(renamed.0.is_empty() && renamed.0.capacity() <= ROOM_KEPT);
    }
}
