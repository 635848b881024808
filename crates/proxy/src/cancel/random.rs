//! What of a client's cancel key is drawn at random.

use std::cell::RefCell;

use trunkline_codec::ids::{ProcessId, SecretKey};
use trunkline_codec::startup::ProtocolVersion;
use zeroize::Zeroize;

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

thread_local! {
    static RANDOM: RefCell<RandomBytes> = const { RefCell::new(RandomBytes { bytes: [0; RANDOM_BYTES], left: 0 }) };
}

/// Random bytes fetched at once, to save a system call for each session.
const RANDOM_BYTES: usize = KEY_BYTES * 36;

/// Random bytes of the operating system; the first `left` of them are unused.
struct RandomBytes {
    bytes: [u8; RANDOM_BYTES],
    left: usize,
}

/// `N` random bytes, at most [`RANDOM_BYTES`].
fn random<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    RANDOM.with_borrow_mut(|random| {
        if random.left < N {
            getrandom::fill(&mut random.bytes)?;
            random.left = RANDOM_BYTES;
        }
        let rest = random.left - N;
        let mut taken = [0; N];
        taken.copy_from_slice(&random.bytes[rest..random.left]);
        random.bytes[rest..random.left].zeroize();
        random.left = rest;
        Ok(taken)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_random_byte_is_given_out_twice() {
        let taken: Vec<[u8; KEY_BYTES]> = (0..100).map(|_| random().expect("random bytes")).collect();
        let distinct: std::collections::HashSet<_> =
            taken.iter().flat_map(|key| key.as_chunks::<8>().0).collect();
        assert_eq!(distinct.len(), 100 * KEY_BYTES / 8);
    }
}
