//! The bytes of one peer that wait to be processed.

/// What came from a peer and is not processed yet. Empty while the session releases what it is given, and then owns no
/// memory.
#[derive(Debug, Default)]
pub struct Input(Option<Box<Unprocessed>>);

/// At least one of them has bytes.
#[derive(Debug, Default)]
struct Unprocessed {
    /// Bytes that the session did not release: the start of a message. They are processed again with those that
    /// follow.
    held: Vec<u8>,
    /// Bytes that are processed before anything more is read.
    read_ahead: Vec<u8>,
}

impl Input {
    fn of(held: Vec<u8>, read_ahead: Vec<u8>) -> Self {
        let is_empty = held.is_empty() && read_ahead.is_empty();
        Input((!is_empty).then(|| Box::new(Unprocessed { held, read_ahead })))
    }

    /// Begins with bytes that have been read already.
    #[must_use]
    pub fn with_read_ahead(bytes: &[u8]) -> Self {
        Input::of(Vec::new(), bytes.to_vec())
    }

    /// Holds back what the session did not release.
    #[inline]
    pub fn keep(&mut self, rest: &[u8]) {
        if !rest.is_empty() || self.0.is_some() {
            self.hold(rest);
        }
    }

    #[cold]
    fn hold(&mut self, rest: &[u8]) {
        let read_ahead = self.0.take().map(|waiting| waiting.read_ahead).unwrap_or_default();
        *self = Input::of(rest.to_vec(), read_ahead);
    }

    /// Queues `bytes`, and then those held back, to be processed before anything more is read.
    pub fn process_again(&mut self, mut bytes: Vec<u8>) {
        if let Some(mut waiting) = self.0.take() {
            bytes.append(&mut waiting.held);
            bytes.append(&mut waiting.read_ahead);
        }
        *self = Input::of(Vec::new(), bytes);
    }

    /// Starts again with the bytes of another peer.
    pub fn restart(&mut self, read_ahead: &[u8]) {
        *self = Input::with_read_ahead(read_ahead);
    }

    /// Takes the bytes held back.
    #[must_use]
    pub fn take_held(&mut self) -> Vec<u8> {
        let Some(waiting) = self.0.take() else { return Vec::new() };
        let Unprocessed { held, read_ahead } = *waiting;
        *self = Input::of(Vec::new(), read_ahead);
        held
    }

    /// The bytes held back.
    #[must_use]
    pub fn held(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |waiting| &waiting.held)
    }

    fn read_ahead(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |waiting| &waiting.read_ahead)
    }

    /// Whether there is something to process without reading.
    #[inline]
    #[must_use]
    pub fn has_read_ahead(&self) -> bool {
        !self.read_ahead().is_empty()
    }

    /// Whether whatever is read next is all there is to process.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Puts the bytes held back at the front of `buffer`, which has room for them and more, and behind them those read
    /// ahead, or else what `read` reads. Returns how many bytes there are.
    ///
    /// # Errors
    /// What `read` gives in place of a count. The bytes held back then stay held back.
    pub fn fill<E>(
        &mut self,
        buffer: &mut [u8],
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let Some(waiting) = &mut self.0 else { return read(buffer) };
        // At most an incomplete message of WHOLE_MAX: half the buffer is always free.
        let kept = waiting.held.len();
        let space = &mut buffer[kept..];
        let count = if waiting.read_ahead.is_empty() {
            read(space)?
        } else {
            let count = space.len().min(waiting.read_ahead.len());
            space[..count].copy_from_slice(&waiting.read_ahead[..count]);
            waiting.read_ahead.drain(..count);
            count
        };
        buffer[..kept].copy_from_slice(&waiting.held);
        if waiting.read_ahead.is_empty() {
            // What is held back stays, until the session has said what it releases.
            waiting.read_ahead = Vec::new();
            if waiting.held.is_empty() {
                self.0 = None;
            }
        }
        Ok(kept + count)
    }

    /// What is still to be processed, in order.
    #[must_use]
    pub fn unprocessed(&self) -> Vec<u8> {
        [self.held(), self.read_ahead()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(input: &mut Input, read: Result<&[u8], ()>) -> Result<Vec<u8>, ()> {
        let mut buffer = [0; 8];
        let read = |space: &mut [u8]| {
            read.map(|bytes| {
                space[..bytes.len()].copy_from_slice(bytes);
                bytes.len()
            })
        };
        input.fill(&mut buffer, read).map(|count| buffer[..count].to_vec())
    }

    #[test]
    fn what_is_held_back_comes_again_before_what_follows() {
        let mut input = Input::with_read_ahead(b"abc");
        assert_eq!(filled(&mut input, Err(())), Ok(b"abc".to_vec()), "nothing is read before that");
        input.keep(b"c");
        assert_eq!(filled(&mut input, Err(())), Err(()), "and is kept if there is nothing to read");
        assert_eq!(filled(&mut input, Ok(b"de")), Ok(b"cde".to_vec()));
        input.keep(b"");
        assert!(input.is_empty());
        input.keep(b"e");
        input.process_again(b"x".to_vec());
        assert_eq!((input.held(), input.unprocessed()), (&b""[..], b"xe".to_vec()));
        input.restart(b"new");
        assert_eq!(input.unprocessed(), b"new");
    }

    #[test]
    fn more_than_the_buffer_holds_comes_piece_by_piece() {
        let mut input = Input::with_read_ahead(b"0123456789");
        assert_eq!(filled(&mut input, Err(())), Ok(b"01234567".to_vec()));
        input.keep(b"67");
        assert_eq!(filled(&mut input, Err(())), Ok(b"6789".to_vec()));
        assert!(!input.has_read_ahead());
    }
}
