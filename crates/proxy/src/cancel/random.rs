//! What of a client's cancel key is drawn at random.

use trunkline_auth::random::random;
use trunkline_codec::ids::{ProcessId, SecretKey};
use trunkline_codec::startup::ProtocolVersion;

/// Bytes of the keys given to clients of protocol 3.2; 3.0 has room for four only.
pub(super) const KEY_BYTES: usize = 32;
const KEY_BYTES_3_0: usize = 4;

/// A process ID that no process has. Source: Linux, include/linux/threads.h, `PID_MAX_LIMIT`.
pub(super) fn made_up_process() -> Result<ProcessId, getrandom::Error> {
    const FIRST: i32 = 4 * 1024 * 1024 + 1;
    let drawn = u32::from_le_bytes(random()?);
    let beyond = drawn % (i32::MAX - FIRST).unsigned_abs();
    Ok(ProcessId(FIRST + i32::try_from(beyond).unwrap_or(0)))
}

pub(super) fn new_secret(version: ProtocolVersion) -> Result<SecretKey, getrandom::Error> {
    let key: [u8; KEY_BYTES] = random()?;
    let length = if version >= ProtocolVersion::V3_2 { KEY_BYTES } else { KEY_BYTES_3_0 };
    Ok(SecretKey::new(&key[..length]).expect("4 and 32 bytes are both legal key lengths"))
}
