//! The request to cancel another session's query.

use bytes::{BufMut, BytesMut};

use super::CANCEL_REQUEST;
use crate::ids::{ProcessId, SecretKey};

/// A request to cancel the query of the session that was given this process id and secret key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CancelRequest {
    /// The process id in that session's BackendKeyData.
    pub process_id: ProcessId,
    /// The secret key in it.
    pub secret_key: SecretKey,
}

impl CancelRequest {
    /// What follows the request code. `None` when the key has a length no server gives out.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let (process_id, key) = body.split_first_chunk()?;
        let process_id = ProcessId(i32::from_be_bytes(*process_id));
        let secret_key = SecretKey::new(key).ok()?;
        Some(Self { process_id, secret_key })
    }

    /// Appends the packet.
    pub fn encode(&self, out: &mut BytesMut) {
        let key = self.secret_key.as_bytes();
        let length = u32::try_from(12 + key.len()).expect("checked by SecretKey::new: at most 256 bytes");
        out.put_u32(length);
        out.put_u32(CANCEL_REQUEST.code());
        out.put_i32(self.process_id.0);
        out.put_slice(key);
    }
}
