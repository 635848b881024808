//! What we say to a client in a server's place.

use bytes::{BufMut, BytesMut};

use super::{EncodeError, empty, message, message_at_most, put_count, put_cstr, put_value};
use crate::backend::TransactionStatus;
use crate::ids::{ProcessId, SecretKey};
use crate::limits::{AUTHENTICATION_REQUEST_MAX, BACKEND_SMALL_MAX, NEGOTIATE_PROTOCOL_VERSION_MAX};
use crate::version::ProtocolVersion;

/// OID of the type `text`.
/// Source: PostgreSQL 18, src/include/catalog/pg_type.dat.
const TEXT_OID: u32 = 25;

/// Appends an Authentication request without data.
fn authentication_plain(out: &mut BytesMut, kind: u32) {
    out.put_u8(b'R');
    out.put_u32(8);
    out.put_u32(kind);
}

/// Appends AuthenticationOk.
pub fn authentication_ok(out: &mut BytesMut) {
    authentication_plain(out, 0);
}

/// Appends AuthenticationCleartextPassword.
pub fn authentication_cleartext_password(out: &mut BytesMut) {
    authentication_plain(out, 3);
}

/// Appends AuthenticationMD5Password.
pub fn authentication_md5_password(out: &mut BytesMut, salt: [u8; 4]) {
    out.put_u8(b'R');
    out.put_u32(12);
    out.put_u32(5);
    out.put_slice(&salt);
}

/// Appends AuthenticationSASL.
///
/// # Errors
/// When a name contains NUL, or the list is longer than libpq accepts.
pub fn authentication_sasl(out: &mut BytesMut, mechanisms: &[&str]) -> Result<(), EncodeError> {
    message_at_most(out, b'R', AUTHENTICATION_REQUEST_MAX, |out| {
        out.put_u32(10);
        mechanisms.iter().try_for_each(|name| put_cstr(out, name.as_bytes()))?;
        out.put_u8(0);
        Ok(())
    })
}

/// Appends AuthenticationSASLContinue.
///
/// # Errors
/// When the message gets longer than libpq accepts.
pub fn authentication_sasl_continue(out: &mut BytesMut, data: &[u8]) -> Result<(), EncodeError> {
    authentication_data(out, 11, data)
}

/// Appends AuthenticationSASLFinal.
///
/// # Errors
/// When the message gets longer than libpq accepts.
pub fn authentication_sasl_final(out: &mut BytesMut, data: &[u8]) -> Result<(), EncodeError> {
    authentication_data(out, 12, data)
}

fn authentication_data(out: &mut BytesMut, kind: u32, data: &[u8]) -> Result<(), EncodeError> {
    message_at_most(out, b'R', AUTHENTICATION_REQUEST_MAX, |out| {
        out.put_u32(kind);
        out.put_slice(data);
        Ok(())
    })
}

/// Appends a BackendKeyData.
pub fn backend_key_data(out: &mut BytesMut, process_id: ProcessId, secret_key: &SecretKey) {
    let key = secret_key.as_bytes();
    out.put_u8(b'K');
    out.put_u32(u32::try_from(8 + key.len()).expect("checked by SecretKey::new: at most 256 bytes"));
    out.put_i32(process_id.0);
    out.put_slice(key);
}

/// Appends a ParameterStatus.
///
/// # Errors
/// When name or value contains NUL, or the message gets longer than libpq accepts.
pub fn parameter_status(out: &mut BytesMut, name: &[u8], value: &[u8]) -> Result<(), EncodeError> {
    message_at_most(out, b'S', BACKEND_SMALL_MAX, |out| {
        put_cstr(out, name)?;
        put_cstr(out, value)
    })
}

/// Appends a ReadyForQuery.
pub fn ready_for_query(out: &mut BytesMut, status: TransactionStatus) {
    out.put_u8(b'Z');
    out.put_u32(5);
    out.put_u8(status.byte());
}

/// Appends a NegotiateProtocolVersion: the newest version known, and the options that are not.
///
/// # Errors
/// When a name contains NUL, or the message gets longer than libpq accepts.
pub fn negotiate_protocol_version<'a>(
    out: &mut BytesMut,
    version: ProtocolVersion,
    unknown_options: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(), EncodeError> {
    message_at_most(out, b'v', NEGOTIATE_PROTOCOL_VERSION_MAX, |out| {
        out.put_u32(version.code());
        let count_at = out.len();
        out.put_u32(0);
        let mut count: u32 = 0;
        for name in unknown_options {
            put_cstr(out, name)?;
            count = count.saturating_add(1);
        }
        out[count_at..count_at + 4].copy_from_slice(&count.to_be_bytes());
        Ok(())
    })
}

/// Appends a CommandComplete.
///
/// # Errors
/// When the tag contains NUL, or the message gets longer than libpq accepts.
pub fn command_complete(out: &mut BytesMut, tag: &[u8]) -> Result<(), EncodeError> {
    message_at_most(out, b'C', BACKEND_SMALL_MAX, |out| put_cstr(out, tag))
}

/// Appends an EmptyQueryResponse.
pub fn empty_query_response(out: &mut BytesMut) {
    empty(out, b'I');
}

/// Appends a RowDescription of columns of type `text`.
///
/// # Errors
/// When a name contains NUL, or there are more than 32,767 columns.
pub fn row_description<'a>(
    out: &mut BytesMut,
    names: impl IntoIterator<Item = &'a [u8], IntoIter: ExactSizeIterator>,
) -> Result<(), EncodeError> {
    let names = names.into_iter();
    message(out, b'T', |out| {
        put_count(out, names.len(), i16::MAX.unsigned_abs())?;
        for name in names {
            put_cstr(out, name)?;
            out.put_u32(0); // of no table,
            out.put_u16(0); // so of no column of one
            out.put_u32(TEXT_OID);
            out.put_i16(-1); // of variable size
            out.put_i32(-1); // without a modifier
            out.put_u16(0); // as text
        }
        Ok(())
    })
}

/// Appends a DataRow; `None` is NULL.
///
/// # Errors
/// When a value or the row is too long, or there are more than 32,767 values.
pub fn data_row<'a>(
    out: &mut BytesMut,
    values: impl IntoIterator<Item = Option<&'a [u8]>, IntoIter: ExactSizeIterator>,
) -> Result<(), EncodeError> {
    let mut values = values.into_iter();
    message(out, b'D', |out| {
        put_count(out, values.len(), i16::MAX.unsigned_abs())?;
        values.try_for_each(|value| put_value(out, value))
    })
}
