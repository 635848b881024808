//! Bounds-checked reading of a message body.

/// Why a message body does not have the shape its tag demands.
///
/// PostgreSQL answers such a message with an ERROR and goes on: the frame was sound, only its
/// content was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The body ends inside a field.
    #[error("message ends inside a field")]
    Truncated,
    /// A string is not ended by a NUL byte.
    #[error("string without its terminator")]
    MissingNul,
    /// Bytes follow the last field.
    #[error("bytes after the last field")]
    TrailingBytes,
    /// A count or length is negative where that has no meaning.
    #[error("negative count or length")]
    NegativeCount,
    /// A byte that selects between kinds selects none that exists.
    #[error("unknown kind {0}")]
    UnknownKind(u8),
    /// A field has a length the protocol does not allow.
    #[error("field of {0} bytes is not allowed here")]
    FieldLength(usize),
}

/// What is left of a body; each `take` method removes its field from the front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn take_bytes(&mut self, length: usize) -> Result<&'a [u8], BodyError> {
        let (field, rest) = self.0.split_at_checked(length).ok_or(BodyError::Truncated)?;
        self.0 = rest;
        Ok(field)
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], BodyError> {
        let (field, rest) = self.0.split_first_chunk().ok_or(BodyError::Truncated)?;
        self.0 = rest;
        Ok(*field)
    }

    pub(crate) fn take_u8(&mut self) -> Result<u8, BodyError> {
        self.take_array().map(|[byte]| byte)
    }

    pub(crate) fn take_i16(&mut self) -> Result<i16, BodyError> {
        self.take_array().map(i16::from_be_bytes)
    }

    /// A count of 16 bits; PostgreSQL takes it for unsigned where a client sends it.
    pub(crate) fn take_u16(&mut self) -> Result<u16, BodyError> {
        self.take_array().map(u16::from_be_bytes)
    }

    pub(crate) fn take_i32(&mut self) -> Result<i32, BodyError> {
        self.take_array().map(i32::from_be_bytes)
    }

    pub(crate) fn take_u32(&mut self) -> Result<u32, BodyError> {
        self.take_array().map(u32::from_be_bytes)
    }

    /// A 32-bit length and as many bytes; `None` for the length -1, which stands for NULL.
    pub(crate) fn take_value(&mut self) -> Result<Option<&'a [u8]>, BodyError> {
        match self.take_i32()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| BodyError::NegativeCount)?;
                self.take_bytes(length).map(Some)
            }
        }
    }

    /// A string, without the NUL that ends it.
    pub(crate) fn take_cstr(&mut self) -> Result<&'a [u8], BodyError> {
        let end = self.0.iter().position(|&b| b == 0).ok_or(BodyError::MissingNul)?;
        let (text, rest) = self.0.split_at(end);
        self.0 = &rest[1..];
        Ok(text)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All that is left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }

    /// Checks that nothing is left.
    pub(crate) fn finish(self) -> Result<(), BodyError> {
        if self.is_empty() { Ok(()) } else { Err(BodyError::TrailingBytes) }
    }
}
