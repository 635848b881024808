//! Walks message headers over arbitrary chunk boundaries, without copying a body.

use std::fmt;

use crate::limits::{
    AUTH_TOKEN_MAX, AUTHENTICATION_REQUEST_MAX, BACKEND_LARGE_MAX, BACKEND_SMALL_MAX, FRONTEND_LARGE_MAX,
    FRONTEND_SMALL_MAX, LOGIN_ERROR_MAX, NEGOTIATE_PROTOCOL_VERSION_MAX, PARAMETER_DESCRIPTION_MAX,
    PREFIX_MIN, WHOLE_MAX,
};
use crate::refusal::ConnectionRefusal;
use crate::sqlstate::SqlState;

/// Type byte and length word.
const HEADER: usize = 5;

/// Longest body handed out in one piece.
const WHOLE_BODY_MAX: u32 = (WHOLE_MAX - HEADER) as u32;

/// What a connection is doing, which decides the tags and lengths that are legal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanPhase {
    /// From the startup packet to the first ReadyForQuery.
    Authentication,
    /// After it.
    Normal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Frontend,
    Backend,
}

/// Splits one direction of a connection into messages.
///
/// The caller presents what it has; the scanner says which bytes form messages. Bytes it was not
/// told to be consumed the caller keeps and presents again with more behind them: never more than
/// [`WHOLE_MAX`] of them.
#[derive(Clone, Debug)]
pub struct Scanner {
    limits: &'static [u32; 256],
    /// Body bytes of a large message still to come.
    remaining: u32,
    direction: Direction,
    phase: ScanPhase,
}

/// What [`Scanner::next`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'c> {
    /// A whole message of at most [`WHOLE_MAX`] bytes, header included.
    Message {
        /// Its type byte.
        tag: u8,
        /// Its body, without the header.
        body: &'c [u8],
    },
    /// The first part of a longer message, never all of it: [`Piece::More`] follows.
    Start {
        /// Its type byte.
        tag: u8,
        /// Bytes in its whole body.
        body_len: u32,
        /// The first of them, at least [`PREFIX_MIN`].
        body: &'c [u8],
    },
    /// The next part of a longer message.
    More {
        /// The next bytes of its body, at least one.
        body: &'c [u8],
        /// Whether the message ends with this part.
        is_last: bool,
    },
}

/// A header no PostgreSQL peer would send or accept: the stream cannot be followed any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("message type {tag:#04x}{}: {kind}", OfLength(*length))]
pub struct FrameError {
    /// The type byte.
    pub tag: u8,
    /// The length word. `None` for an unknown tag when it had not come: nobody waits for it then.
    pub length: Option<u32>,
    /// What is wrong.
    pub kind: FrameErrorKind,
}

struct OfLength(Option<u32>);

impl fmt::Display for OfLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |length| write!(f, " of length {length}"))
    }
}

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameErrorKind {
    /// The length does not even count itself.
    #[error("the length is too small")]
    LengthTooSmall,
    /// The length exceeds what the tag allows in this phase.
    #[error("the length exceeds {limit}")]
    TooLong {
        /// Largest length allowed.
        limit: u32,
    },
    /// No message of this direction and phase has this tag.
    #[error("the type is unknown")]
    UnknownTag,
    /// A server's error in the style of protocol 2: `E`, text, NUL, and no length. Read it with
    /// [`OldStyleError`](crate::backend::OldStyleError).
    #[error("an error in the style of protocol 2")]
    OldStyleError,
}

impl FrameError {
    /// How PostgreSQL would end the connection of a client that sent this.
    /// Source: PostgreSQL 18, src/backend/tcop/postgres.c, `SocketBackend`.
    #[must_use]
    pub fn refusal(&self) -> ConnectionRefusal {
        match self.kind {
            FrameErrorKind::UnknownTag => ConnectionRefusal::Fatal {
                code: SqlState::PROTOCOL_VIOLATION,
                message: format!("invalid frontend message type {}", self.tag),
            },
            FrameErrorKind::LengthTooSmall
            | FrameErrorKind::TooLong { .. }
            | FrameErrorKind::OldStyleError => ConnectionRefusal::Silent,
        }
    }
}

impl Scanner {
    /// For what a client sends after its startup packet.
    #[must_use]
    pub fn frontend() -> Self {
        Self::new(Direction::Frontend)
    }

    /// For what a server sends after the answer to any encryption request.
    #[must_use]
    pub fn backend() -> Self {
        Self::new(Direction::Backend)
    }

    fn new(direction: Direction) -> Self {
        let phase = ScanPhase::Authentication;
        Self { limits: table(direction, phase), remaining: 0, direction, phase }
    }

    /// Tells what the connection is doing from the next message on. A scanner starts in
    /// [`ScanPhase::Authentication`].
    pub fn set_phase(&mut self, phase: ScanPhase) {
        self.phase = phase;
        self.limits = table(self.direction, phase);
    }

    /// Whether the next byte begins a message.
    #[inline]
    #[must_use]
    pub fn is_at_boundary(&self) -> bool {
        self.remaining == 0
    }

    /// The next piece of `chunk` from `*at` on; moves `*at` past it.
    ///
    /// `Ok(None)` means the bytes from `*at` on, if any, begin a message without completing it:
    /// keep them and read more.
    ///
    /// # Errors
    /// When the header is one no PostgreSQL peer would accept. `*at` then points to it.
    #[inline]
    pub fn next<'c>(&mut self, chunk: &'c [u8], at: &mut usize) -> Result<Option<Piece<'c>>, FrameError> {
        let rest = chunk.get(*at..).unwrap_or_default();
        if self.remaining != 0 {
            return Ok(self.more(rest, at));
        }
        let Some((&[tag, a, b, c, d], after)) = rest.split_first_chunk::<HEADER>() else {
            return self.short_header(rest);
        };
        let length = u32::from_be_bytes([a, b, c, d]);
        // One comparison refuses all that is wrong: a length below 4 wraps to a huge one, and the
        // bound of an unknown tag is zero.
        let body_len = length.wrapping_sub(4);
        if body_len >= self.limits[usize::from(tag)] {
            return Err(self.refuse(tag, Some(length)));
        }
        if body_len > WHOLE_BODY_MAX {
            return self.start(tag, length, after, at);
        }
        match after.get(..body_len as usize) {
            Some(body) => {
                *at += HEADER + body.len();
                Ok(Some(Piece::Message { tag, body }))
            }
            None => Ok(None),
        }
    }

    #[cold]
    fn short_header<'c>(&self, rest: &[u8]) -> Result<Option<Piece<'c>>, FrameError> {
        match rest.first() {
            // PostgreSQL looks at the type before it waits for the length.
            Some(&tag) if self.limits[usize::from(tag)] == 0 => Err(self.refuse(tag, None)),
            Some(_) | None => Ok(None),
        }
    }

    #[inline(never)]
    fn start<'c>(
        &mut self,
        tag: u8,
        length: u32,
        after: &'c [u8],
        at: &mut usize,
    ) -> Result<Option<Piece<'c>>, FrameError> {
        if after.len() < PREFIX_MIN {
            return Ok(None);
        }
        let body_len = length - 4;
        // One byte at least is left for the part that says "last".
        let taken = after.len().min(body_len as usize - 1);
        self.remaining = body_len - taken as u32;
        *at += HEADER + taken;
        Ok(Some(Piece::Start { tag, body_len, body: &after[..taken] }))
    }

    #[inline(never)]
    fn more<'c>(&mut self, rest: &'c [u8], at: &mut usize) -> Option<Piece<'c>> {
        if rest.is_empty() {
            return None;
        }
        let taken = rest.len().min(self.remaining as usize);
        self.remaining -= taken as u32;
        *at += taken;
        Some(Piece::More { body: &rest[..taken], is_last: self.remaining == 0 })
    }

    /// Whether a server's refused header is text: an error of protocol 2 has no length, and the
    /// four letters in its place make one beyond half a GiB.
    fn is_old_style_error(&self, tag: u8, length: u32) -> bool {
        let is_login = self.direction == Direction::Backend && self.phase == ScanPhase::Authentication;
        is_login && tag == b'E' && length.to_be_bytes()[0] >= b' '
    }

    #[cold]
    fn refuse(&self, tag: u8, length: Option<u32>) -> FrameError {
        let bound = self.limits[usize::from(tag)];
        let kind = match length {
            _ if bound == 0 => FrameErrorKind::UnknownTag,
            Some(length) if self.is_old_style_error(tag, length) => FrameErrorKind::OldStyleError,
            Some(length) if length >= 4 => FrameErrorKind::TooLong { limit: bound + 3 },
            Some(_) | None => FrameErrorKind::LengthTooSmall,
        };
        FrameError { tag, length, kind }
    }
}

fn table(direction: Direction, phase: ScanPhase) -> &'static [u32; 256] {
    static FRONTEND_LOGIN: [u32; 256] = frontend_limits(ScanPhase::Authentication);
    static FRONTEND: [u32; 256] = frontend_limits(ScanPhase::Normal);
    static BACKEND_LOGIN: [u32; 256] = backend_limits(ScanPhase::Authentication);
    static BACKEND: [u32; 256] = backend_limits(ScanPhase::Normal);
    match (direction, phase) {
        (Direction::Frontend, ScanPhase::Authentication) => &FRONTEND_LOGIN,
        (Direction::Frontend, ScanPhase::Normal) => &FRONTEND,
        (Direction::Backend, ScanPhase::Authentication) => &BACKEND_LOGIN,
        (Direction::Backend, ScanPhase::Normal) => &BACKEND,
    }
}

/// Gives `tags` the largest length `limit`. A table holds the number of legal body lengths, so
/// that zero stands for "unknown tag".
const fn allow(mut table: [u32; 256], tags: &[u8], limit: u32) -> [u32; 256] {
    let mut i = 0;
    while i < tags.len() {
        table[tags[i] as usize] = limit - 3;
        i += 1;
    }
    table
}

/// Clients may send queries behind their startup packet without awaiting the end of the login, so
/// only `p` depends on the phase.
const fn frontend_limits(phase: ScanPhase) -> [u32; 256] {
    let table = allow([0; 256], b"QPBFd", FRONTEND_LARGE_MAX);
    let table = allow(table, b"DECHScfX", FRONTEND_SMALL_MAX);
    match phase {
        ScanPhase::Authentication => allow(table, b"p", AUTH_TOKEN_MAX),
        ScanPhase::Normal => table,
    }
}

const fn backend_limits(phase: ScanPhase) -> [u32; 256] {
    let table = allow([0; 256], b"KSZCI123nsGHWc", BACKEND_SMALL_MAX);
    let table = allow(table, b"R", AUTHENTICATION_REQUEST_MAX);
    let table = allow(table, b"v", NEGOTIATE_PROTOCOL_VERSION_MAX);
    let table = allow(table, b"t", PARAMETER_DESCRIPTION_MAX);
    let table = allow(table, b"DdVTENA", BACKEND_LARGE_MAX);
    match phase {
        ScanPhase::Authentication => allow(table, b"EN", LOGIN_ERROR_MAX),
        ScanPhase::Normal => table,
    }
}
