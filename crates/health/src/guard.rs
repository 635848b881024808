//! A connection on which no server gets the password itself, and one that only discovery names no hash of it either.
//!
//! Whoever can answer in a server's place may ask for it (AuthenticationCleartextPassword), and would read what the
//! monitoring role can read. The library answers whatever it is asked, so the question does not reach it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::ChannelBinding;

use crate::net::ServerStream;
use trunkline_topology::Origin;

/// The SQLSTATE and the words for a server that asks for the password itself where others could read it.
pub const PASSWORD_WITHHELD: (&str, &str) = (
    "28000",
    "the server asks for the password itself, or as one that was discovered for its md5 hash, and the connection does not \
     protect it: reach it with sslmode verify-ca or verify-full, or let its pg_hba.conf ask for scram-sha-256",
);

/// Who says that there is a server, and so how far it is believed before it has let the role in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NamedBy {
    /// An operator: it may ask for an md5 hash, as clusters of old do.
    #[default]
    Operator,
    /// Discovery: whoever can answer for the source could collect hashes, each with a salt of his choice.
    Discovery,
}

impl From<&Origin> for NamedBy {
    fn from(origin: &Origin) -> Self {
        if origin.is_operator() { Self::Operator } else { Self::Discovery }
    }
}

/// The error of such a connection.
#[derive(Debug, thiserror::Error)]
#[error("{}", PASSWORD_WITHHELD.1)]
struct Withheld;

/// Whether a login failed because its password was withheld.
#[must_use]
pub fn withheld_password(error: &tokio_postgres::Error) -> bool {
    let io = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    io.and_then(io::Error::get_ref).is_some_and(|cause| cause.is::<Withheld>())
}

/// A connection to a server, with a guard until the server has let the role in.
#[derive(Debug)]
pub struct GuardedStream {
    stream: ServerStream,
    guard: Option<PasswordGuard>,
}

impl GuardedStream {
    /// Guards the password unless the connection `protects` it.
    pub(crate) fn new(stream: ServerStream, protects: bool, named_by: NamedBy) -> Self {
        let guard = || PasswordGuard { named_by, ..PasswordGuard::default() };
        Self { stream, guard: (!protects).then(guard) }
    }
}

/// Reads the server's messages up to AuthenticationOk.
#[derive(Debug, Default)]
struct PasswordGuard {
    /// Type, length, and of an authentication request its code.
    head: [u8; 9],
    filled: usize,
    /// Bytes of the message that say nothing here.
    left: usize,
    named_by: NamedBy,
}

/// What the messages so far come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ServerDemand {
    Nothing,
    Password,
    /// The role is in.
    Done,
}

/// Bytes of a message's type and length.
const HEADER_BYTES: usize = 5;
/// AuthenticationCleartextPassword. Source: PostgreSQL, src/include/libpq/protocol.h, `AUTH_REQ_PASSWORD`.
const ASKS_FOR_PASSWORD: u32 = 3;
/// AuthenticationMD5Password.
const ASKS_FOR_MD5: u32 = 5;
/// AuthenticationOk.
const IS_IN: u32 = 0;

impl PasswordGuard {
    fn look_at(&mut self, mut bytes: &[u8]) -> ServerDemand {
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.left > 0 {
                let passed = self.left.min(bytes.len());
                self.left -= passed;
                bytes = &bytes[passed..];
                continue;
            }
            self.head[self.filled] = byte;
            self.filled += 1;
            bytes = rest;
            let [tag, l0, l1, l2, l3, code @ ..] = self.head;
            let length = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
            match self.filled {
                HEADER_BYTES if tag != b'R' => {
                    self.skip(length.saturating_sub(4));
                }
                9 => {
                    self.skip(length.saturating_sub(8));
                    match u32::from_be_bytes(code) {
                        ASKS_FOR_PASSWORD => return ServerDemand::Password,
                        ASKS_FOR_MD5 if self.named_by == NamedBy::Discovery => return ServerDemand::Password,
                        IS_IN => return ServerDemand::Done,
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        ServerDemand::Nothing
    }

    /// The next message begins after so many bytes.
    fn skip(&mut self, bytes: usize) {
        *self = PasswordGuard { left: bytes, named_by: self.named_by, ..PasswordGuard::default() };
    }
}

impl tokio_postgres::tls::TlsStream for GuardedStream {
    fn channel_binding(&self) -> ChannelBinding {
        self.stream.channel_binding()
    }
}

impl AsyncRead for GuardedStream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        if let Some(guard) = &mut this.guard {
            match guard.look_at(&buffer.filled()[before..]) {
                ServerDemand::Nothing => {}
                ServerDemand::Password => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::PermissionDenied, Withheld)));
                }
                ServerDemand::Done => this.guard = None,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for GuardedStream {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a guard finds in `messages`, read in pieces of this size.
    fn found(messages: &[u8], piece: usize) -> ServerDemand {
        found_of(NamedBy::Operator, messages, piece)
    }

    fn found_of(named_by: NamedBy, messages: &[u8], piece: usize) -> ServerDemand {
        let mut guard = PasswordGuard { named_by, ..PasswordGuard::default() };
        for piece in messages.chunks(piece) {
            match guard.look_at(piece) {
                ServerDemand::Nothing => {}
                found => return found,
            }
        }
        ServerDemand::Nothing
    }

    #[test]
    fn question_for_the_password_is_found_wherever_it_is_cut() {
        let notice = b"N\0\0\0\x0cR\0\0\0\x08\0\0\x03".as_slice();
        let cleartext = b"R\0\0\0\x08\0\0\0\x03".as_slice();
        let scram = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0".as_slice();
        let md5 = b"R\0\0\0\x0c\0\0\0\x05salt".as_slice();
        let is_in = b"R\0\0\0\x08\0\0\0\0".as_slice();
        for piece in 1..=24 {
            assert_eq!(found(&[notice, cleartext].concat(), piece), ServerDemand::Password);
            assert_eq!(found(&[notice, scram, cleartext].concat(), piece), ServerDemand::Password);
            assert_eq!(found(&[notice, scram, is_in, cleartext].concat(), piece), ServerDemand::Done);
            assert_eq!(found(&[notice, scram].concat(), piece), ServerDemand::Nothing);
            let md5 = [notice, md5].concat();
            assert_eq!(found(&md5, piece), ServerDemand::Nothing);
            assert_eq!(found_of(NamedBy::Discovery, &md5, piece), ServerDemand::Password);
        }
    }
}
