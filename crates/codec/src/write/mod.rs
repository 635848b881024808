//! Writers for everything a proxy says itself.
//!
//! A message that gets too long, or whose strings contain NUL, is an error and leaves the buffer as
//! it was: no length is ever cut to fit.

mod backend;
mod frontend;
mod report;

pub use backend::*;
pub use frontend::*;
pub use report::{ErrorReport, Severity, error_response, notice_response, old_style_error};

use bytes::{BufMut, BytesMut};

use crate::limits::{BACKEND_LARGE_MAX, FRONTEND_LARGE_MAX};

/// A message that cannot be put on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A string contains a NUL byte, which would end it early.
    #[error("string contains a NUL byte")]
    NulInString,
    /// The message is longer than a peer would accept.
    #[error("message of {length} bytes is too long")]
    TooLong {
        /// The value of its length word.
        length: usize,
    },
    /// More items than the 16 bits of their count can say.
    #[error("{0} items are too many")]
    TooMany(usize),
}

/// The longest length word anyone accepts.
const LENGTH_MAX: u32 =
    if BACKEND_LARGE_MAX > FRONTEND_LARGE_MAX { BACKEND_LARGE_MAX } else { FRONTEND_LARGE_MAX };

/// Appends a message: its header, and the body that `body` appends.
fn message(
    out: &mut BytesMut,
    tag: u8,
    body: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    message_at_most(out, tag, LENGTH_MAX, body)
}

/// The same, with the largest length the peer accepts for this tag.
fn message_at_most(
    out: &mut BytesMut,
    tag: u8,
    limit: u32,
    body: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = out.len();
    out.put_u8(tag);
    out.put_u32(0);
    let length = body(out).and_then(|()| checked_length(out.len() - start - 1, limit));
    match length {
        Ok(length) => {
            out[start + 1..start + 5].copy_from_slice(&length.to_be_bytes());
            Ok(())
        }
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}

fn checked_length(length: usize, limit: u32) -> Result<u32, EncodeError> {
    u32::try_from(length).ok().filter(|l| *l <= limit).ok_or(EncodeError::TooLong { length })
}

/// Appends a message without a body.
fn empty(out: &mut BytesMut, tag: u8) {
    out.put_u8(tag);
    out.put_u32(4);
}

fn put_cstr(out: &mut BytesMut, text: &[u8]) -> Result<(), EncodeError> {
    if text.contains(&0) {
        return Err(EncodeError::NulInString);
    }
    out.put_slice(text);
    out.put_u8(0);
    Ok(())
}

/// Appends a 16-bit count of a list that has at most `max` items.
fn put_count(out: &mut BytesMut, count: usize, max: u16) -> Result<(), EncodeError> {
    let count = u16::try_from(count).ok().filter(|c| *c <= max).ok_or(EncodeError::TooMany(count))?;
    out.put_u16(count);
    Ok(())
}

/// Appends a value with its length; NULL has the length -1.
fn put_value(out: &mut BytesMut, value: Option<&[u8]>) -> Result<(), EncodeError> {
    match value {
        None => out.put_i32(-1),
        Some(value) => {
            out.put_u32(checked_length(value.len(), LENGTH_MAX)?);
            out.put_slice(value);
        }
    }
    Ok(())
}
