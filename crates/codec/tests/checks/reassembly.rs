//! A caller of the scanner that puts messages together again, and watches what it is promised.

use trunkline_codec::limits::{PREFIX_MIN, WHOLE_MAX};
use trunkline_codec::scan::{FrameError, FrameErrorKind, Piece, Scanner};

/// What a stream turned out to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Its whole messages.
    pub messages: Vec<(u8, Vec<u8>)>,
    /// The large message at its end, if it is cut inside one: tag, length of its body, what came.
    pub open: Option<(u8, u32, Vec<u8>)>,
    /// Bytes that belong to what is above.
    pub consumed: usize,
    /// The header that ended it.
    pub error: Option<FrameError>,
}

/// Feeds `stream` to `scanner` in chunks of these sizes; when they run out, the rest at once.
pub fn reassemble(mut scanner: Scanner, stream: &[u8], sizes: impl IntoIterator<Item = usize>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut kept = Vec::new();
    let mut rest = stream;
    let mut sizes = sizes.into_iter();
    loop {
        let (chunk, later) = rest.split_at(sizes.next().unwrap_or(rest.len()).min(rest.len()));
        rest = later;
        kept.extend_from_slice(chunk);
        let mut at = 0;
        loop {
            let before = at;
            match scanner.next(&kept, &mut at) {
                Ok(Some(piece)) => {
                    assert!(at > before, "a piece takes bytes");
                    outcome.push(piece);
                    assert_eq!(scanner.is_at_boundary(), outcome.open.is_none());
                }
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(at, before, "an error takes no bytes");
                    outcome.consumed += at;
                    // Whether the length word behind an unknown type had come depends on the chunks.
                    let length = error.length.filter(|_| error.kind != FrameErrorKind::UnknownTag);
                    outcome.error = Some(FrameError { length, ..error });
                    return outcome;
                }
            }
        }
        outcome.consumed += at;
        kept.drain(..at);
        assert!(kept.len() < WHOLE_MAX, "the caller never keeps a whole message");
        if rest.is_empty() {
            return outcome;
        }
    }
}

impl Outcome {
    fn push(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::Message { tag, body } => {
                assert!(self.open.is_none() && body.len() + 5 <= WHOLE_MAX);
                self.messages.push((tag, body.to_vec()));
            }
            Piece::Start { tag, body_len, body } => {
                assert!(self.open.is_none() && body_len as usize + 5 > WHOLE_MAX);
                assert!(body.len() >= PREFIX_MIN && body.len() < body_len as usize);
                self.open = Some((tag, body_len, body.to_vec()));
            }
            Piece::More { body, is_last } => {
                let (tag, body_len, mut whole) = self.open.take().expect("More comes after Start");
                assert!(!body.is_empty());
                whole.extend_from_slice(body);
                assert_eq!(is_last, whole.len() == body_len as usize);
                if is_last {
                    self.messages.push((tag, whole));
                } else {
                    self.open = Some((tag, body_len, whole));
                }
            }
        }
    }

    /// The bytes consumed, put together from the messages.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let whole = self.messages.iter().map(|(tag, body)| (tag, body.len() as u32, body));
        let open = self.open.iter().map(|(tag, body_len, body)| (tag, *body_len, body));
        for (tag, body_len, body) in whole.chain(open) {
            bytes.push(*tag);
            bytes.extend_from_slice(&(body_len + 4).to_be_bytes());
            bytes.extend_from_slice(body);
        }
        bytes
    }
}
