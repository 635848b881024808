//! Numbers that PostgreSQL gives a name: process ids, secret keys, WAL positions, timelines.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::limits::{SECRET_KEY_MAX, SECRET_KEY_MIN};

/// A position in the write-ahead log, in bytes since its start.
///
/// Written as PostgreSQL's `pg_lsn` is: two hexadecimal numbers, such as `16/B374D848`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Bytes of log from `earlier` to `self`; zero when `self` is not ahead.
    #[must_use]
    pub fn bytes_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// Text that is not a WAL position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a WAL position: expected two hexadecimal numbers such as 16/B374D848")]
pub struct InvalidLsn;

impl FromStr for Lsn {
    type Err = InvalidLsn;

    /// # Errors
    /// When the text is not one to eight hexadecimal digits, a slash, and as many again.
    fn from_str(text: &str) -> Result<Self, InvalidLsn> {
        let (high, low) = text.split_once('/').ok_or(InvalidLsn)?;
        Ok(Self(u64::from(hex32(high)?) << 32 | u64::from(hex32(low)?)))
    }
}

fn hex32(digits: &str) -> Result<u32, InvalidLsn> {
    // from_str_radix alone would accept a sign.
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(InvalidLsn);
    }
    u32::from_str_radix(digits, 16).map_err(|_| InvalidLsn)
}

/// The process id of a server process, as `BackendKeyData` reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(pub i32);

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A timeline of the write-ahead log; each promotion starts a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimelineId(pub u32);

impl fmt::Display for TimelineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number `initdb` gives a cluster; a primary and its standbys share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SystemIdentifier(pub u64);

impl fmt::Display for SystemIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The secret that entitles its holder to cancel a session's query: 4 bytes in protocol 3.0, up
/// to 256 in 3.2.
///
/// Compared in constant time, erased when dropped, never shown by `Debug`.
#[derive(Clone)]
pub struct SecretKey(SecretBytes);

/// Those of protocol 3.0 own no memory: a proxy keeps one for each client. The others are behind two pointers, so that a
/// key takes 16 bytes, not 24.
#[derive(Clone)]
enum SecretBytes {
    Short([u8; SECRET_KEY_MIN]),
    Long(Box<Box<[u8]>>),
}

/// A secret key of a length the protocol does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("secret key of {length} bytes: the protocol allows {SECRET_KEY_MIN} to {SECRET_KEY_MAX}")]
pub struct InvalidSecretKey {
    /// Length of the refused key, in bytes.
    pub length: usize,
}

impl SecretKey {
    /// # Errors
    /// When the key is shorter than [`SECRET_KEY_MIN`] or longer than [`SECRET_KEY_MAX`].
    pub fn new(key: &[u8]) -> Result<Self, InvalidSecretKey> {
        if (SECRET_KEY_MIN..=SECRET_KEY_MAX).contains(&key.len()) {
            Ok(Self(
                key.try_into()
                    .map_or_else(|_longer| SecretBytes::Long(Box::new(key.into())), SecretBytes::Short),
            ))
        } else {
            Err(InvalidSecretKey { length: key.len() })
        }
    }

    /// The key itself.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            SecretBytes::Short(bytes) => bytes,
            SecretBytes::Long(bytes) => bytes,
        }
    }
}

impl PartialEq for SecretKey {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

impl Eq for SecretKey {}

/// For tables whose hasher has a random key: any other would let time tell what stands in the table.
impl Hash for SecretKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        match &mut self.0 {
            SecretBytes::Short(bytes) => bytes.zeroize(),
            SecretBytes::Long(bytes) => bytes.zeroize(),
        }
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({} bytes)", self.as_bytes().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lsn_is_written_and_read_as_pg_lsn() {
        for (text, value) in [
            ("0/0", 0),
            ("16/B374D848", 0x16_B374_D848),
            ("0/1000000", 0x100_0000),
            ("FFFFFFFF/FFFFFFFF", u64::MAX),
        ] {
            assert_eq!(text.parse(), Ok(Lsn(value)));
            assert_eq!(Lsn(value).to_string(), text);
        }
        assert_eq!("16/b374d848".parse(), Ok(Lsn(0x16_B374_D848)));
    }

    #[test]
    fn text_that_is_no_lsn_is_refused() {
        for text in
            ["", "/", "1/", "/1", "1", "+1/1", "1/-1", "123456789/0", "0/123456789", "g/0", " 1/1", "1/1/1"]
        {
            assert_eq!(text.parse::<Lsn>(), Err(InvalidLsn), "{text:?}");
        }
    }

    #[test]
    fn lsn_distance_is_never_negative() {
        assert_eq!(Lsn(10).bytes_since(Lsn(4)), 6);
        assert_eq!(Lsn(4).bytes_since(Lsn(10)), 0);
    }

    #[test]
    fn secret_key_length_is_checked_at_both_limits() {
        for (length, is_legal) in [(0, false), (3, false), (4, true), (32, true), (256, true), (257, false)] {
            assert_eq!(SecretKey::new(&vec![7; length]).is_ok(), is_legal, "{length}");
        }
    }

    #[test]
    fn secret_keys_compare_by_content_and_hide_it() {
        let key = |bytes: &[u8]| SecretKey::new(bytes).expect("legal length");
        assert_eq!(key(b"abcd"), key(b"abcd"));
        assert_ne!(key(b"abcd"), key(b"abce"));
        assert_ne!(key(b"abcd"), key(b"abcde"));
        assert_eq!(format!("{:?}", key(b"abcd")), "SecretKey(4 bytes)");
    }
}
