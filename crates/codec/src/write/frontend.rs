//! What we say to a server in a client's place.

use bytes::{BufMut, BytesMut};

use super::{EncodeError, empty, message_at_most, put_count, put_cstr, put_value};
use crate::frontend::Target;
use crate::limits::{AUTH_TOKEN_MAX, FRONTEND_LARGE_MAX, FRONTEND_SMALL_MAX};

/// Appends a Query.
///
/// # Errors
/// When the SQL contains NUL, or the message gets longer than PostgreSQL accepts.
pub fn query(out: &mut BytesMut, sql: &[u8]) -> Result<(), EncodeError> {
    message_at_most(out, b'Q', FRONTEND_LARGE_MAX, |out| put_cstr(out, sql))
}

/// Appends a Parse with the type OIDs of its first parameters.
///
/// # Errors
/// When name or SQL contains NUL, there are more than 65,535 types, or the message gets longer
/// than PostgreSQL accepts.
pub fn parse(
    out: &mut BytesMut,
    name: &[u8],
    sql: &[u8],
    parameter_types: &[u32],
) -> Result<(), EncodeError> {
    message_at_most(out, b'P', FRONTEND_LARGE_MAX, |out| {
        put_cstr(out, name)?;
        put_cstr(out, sql)?;
        put_count(out, parameter_types.len(), u16::MAX)?;
        parameter_types.iter().for_each(|oid| out.put_u32(*oid));
        Ok(())
    })
}

/// Appends a Bind with values and results in text format; `None` is NULL.
///
/// # Errors
/// When a name contains NUL, there are more than 65,535 values, or the message gets longer than
/// PostgreSQL accepts.
pub fn bind<'a>(
    out: &mut BytesMut,
    portal: &[u8],
    statement: &[u8],
    values: impl IntoIterator<Item = Option<&'a [u8]>, IntoIter: ExactSizeIterator>,
) -> Result<(), EncodeError> {
    let mut values = values.into_iter();
    message_at_most(out, b'B', FRONTEND_LARGE_MAX, |out| {
        put_cstr(out, portal)?;
        put_cstr(out, statement)?;
        out.put_u16(0);
        put_count(out, values.len(), u16::MAX)?;
        values.try_for_each(|value| put_value(out, value))?;
        out.put_u16(0);
        Ok(())
    })
}

/// Appends a Describe.
///
/// # Errors
/// When the name contains NUL or is longer than PostgreSQL accepts.
pub fn describe(out: &mut BytesMut, kind: Target, name: &[u8]) -> Result<(), EncodeError> {
    target(out, b'D', kind, name)
}

/// Appends a Close.
///
/// # Errors
/// When the name contains NUL or is longer than PostgreSQL accepts.
pub fn close(out: &mut BytesMut, kind: Target, name: &[u8]) -> Result<(), EncodeError> {
    target(out, b'C', kind, name)
}

fn target(out: &mut BytesMut, tag: u8, kind: Target, name: &[u8]) -> Result<(), EncodeError> {
    message_at_most(out, tag, FRONTEND_SMALL_MAX, |out| {
        out.put_u8(kind.byte());
        put_cstr(out, name)
    })
}

/// Appends an Execute; zero rows for no limit.
///
/// # Errors
/// When the name contains NUL or is longer than PostgreSQL accepts.
pub fn execute(out: &mut BytesMut, portal: &[u8], max_rows: i32) -> Result<(), EncodeError> {
    message_at_most(out, b'E', FRONTEND_SMALL_MAX, |out| {
        put_cstr(out, portal)?;
        out.put_i32(max_rows);
        Ok(())
    })
}

/// Appends a Sync.
pub fn sync(out: &mut BytesMut) {
    empty(out, b'S');
}

/// Appends a Flush.
pub fn flush(out: &mut BytesMut) {
    empty(out, b'H');
}

/// Appends a Terminate.
pub fn terminate(out: &mut BytesMut) {
    empty(out, b'X');
}

/// Appends a CopyDone; servers send the same.
pub fn copy_done(out: &mut BytesMut) {
    empty(out, b'c');
}

/// Appends a CopyData; servers send the same.
///
/// # Errors
/// When the message gets longer than PostgreSQL accepts.
pub fn copy_data(out: &mut BytesMut, data: &[u8]) -> Result<(), EncodeError> {
    message_at_most(out, b'd', FRONTEND_LARGE_MAX, |out| {
        out.put_slice(data);
        Ok(())
    })
}

/// Appends a CopyFail.
///
/// # Errors
/// When the reason contains NUL or is longer than PostgreSQL accepts.
pub fn copy_fail(out: &mut BytesMut, reason: &[u8]) -> Result<(), EncodeError> {
    message_at_most(out, b'f', FRONTEND_SMALL_MAX, |out| put_cstr(out, reason))
}

/// Appends a PasswordMessage.
///
/// # Errors
/// When the password contains NUL or is longer than PostgreSQL accepts.
pub fn password(out: &mut BytesMut, password: &[u8]) -> Result<(), EncodeError> {
    message_at_most(out, b'p', AUTH_TOKEN_MAX, |out| put_cstr(out, password))
}

/// Appends a SASLInitialResponse.
///
/// # Errors
/// When the mechanism contains NUL, or the message gets longer than PostgreSQL accepts.
pub fn sasl_initial_response(
    out: &mut BytesMut,
    mechanism: &[u8],
    data: Option<&[u8]>,
) -> Result<(), EncodeError> {
    message_at_most(out, b'p', AUTH_TOKEN_MAX, |out| {
        put_cstr(out, mechanism)?;
        put_value(out, data)
    })
}

/// Appends a SASLResponse.
///
/// # Errors
/// When the message gets longer than PostgreSQL accepts.
pub fn sasl_response(out: &mut BytesMut, data: &[u8]) -> Result<(), EncodeError> {
    message_at_most(out, b'p', AUTH_TOKEN_MAX, |out| {
        out.put_slice(data);
        Ok(())
    })
}
