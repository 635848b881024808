//! The keys of SCRAM and how they follow from a password.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::ScramError;
use super::saslprep::saslprep;
use crate::limits::SCRAM_ITERATIONS_MAX;

/// Bytes in every key and signature.
pub(super) const KEY_LEN: usize = 32;

pub(super) type KeyBytes = [u8; KEY_LEN];

/// What a client proves to know. Whoever has it logs in wherever the same verifier is kept.
///
/// Erased when dropped, never shown by `Debug`.
#[derive(Clone)]
pub struct ClientKey(Zeroizing<KeyBytes>);

/// What a server proves to know.
///
/// Erased when dropped, never shown by `Debug`.
#[derive(Clone)]
pub struct ServerKey(Zeroizing<KeyBytes>);

/// `H(ClientKey)`, which a server keeps to check proofs with.
#[derive(Clone)]
pub(super) struct StoredKey(Zeroizing<KeyBytes>);

/// In constant time.
impl PartialEq for ClientKey {
    fn eq(&self, other: &Self) -> bool {
        self.0[..].ct_eq(&other.0[..]).into()
    }
}

impl Eq for ClientKey {}

/// In constant time.
impl PartialEq for ServerKey {
    fn eq(&self, other: &Self) -> bool {
        self.0[..].ct_eq(&other.0[..]).into()
    }
}

impl Eq for ServerKey {}

impl ClientKey {
    /// From its bytes.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self(Zeroizing::new(key))
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(super) fn stored_key(&self) -> StoredKey {
        StoredKey::new(Sha256::digest(&self.0[..]).into())
    }
}

impl ServerKey {
    /// From its bytes.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self(Zeroizing::new(key))
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What a server ends an exchange with.
    pub(super) fn signature(&self, auth_message: &[u8]) -> KeyBytes {
        hmac(&self.0[..], auth_message)
    }
}

impl StoredKey {
    pub(super) fn new(key: KeyBytes) -> Self {
        Self(Zeroizing::new(key))
    }

    pub(super) fn as_bytes(&self) -> &KeyBytes {
        &self.0
    }

    /// What a client's key is masked with to make its proof.
    pub(super) fn client_signature(&self, auth_message: &[u8]) -> Zeroizing<KeyBytes> {
        Zeroizing::new(hmac(&self.0[..], auth_message))
    }

    pub(super) fn matches(&self, other: &Self) -> bool {
        self.0[..].ct_eq(&other.0[..]).into()
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientKey(..)")
    }
}

impl fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerKey(..)")
    }
}

/// Both keys that follow from a password. Takes two SHA-256 runs per iteration: milliseconds.
///
/// # Errors
/// When there are more than [`SCRAM_ITERATIONS_MAX`] iterations.
pub(super) fn derive(
    password: &[u8],
    salt: &[u8],
    iterations: u32,
) -> Result<(ClientKey, ServerKey), ScramError> {
    if iterations > SCRAM_ITERATIONS_MAX {
        return Err(ScramError::TooManyIterations { iterations });
    }
    let salted = salted_password(&saslprep(password), salt, iterations);
    Ok((ClientKey::new(hmac(&salted[..], b"Client Key")), ServerKey::new(hmac(&salted[..], b"Server Key"))))
}

/// `Hi` of RFC 5802: PBKDF2 with a single block.
fn salted_password(password: &[u8], salt: &[u8], iterations: u32) -> Zeroizing<KeyBytes> {
    let keyed = keyed(password);
    let mut round = keyed.clone();
    round.update(salt);
    round.update(&1_u32.to_be_bytes());
    let mut block = Zeroizing::new(finish(round));
    let mut salted = block.clone();
    for _ in 1..iterations {
        let mut round = keyed.clone();
        round.update(&block[..]);
        *block = finish(round);
        salted.iter_mut().zip(block.iter()).for_each(|(s, b)| *s ^= b);
    }
    salted
}

/// `a XOR b`.
pub(super) fn xor(a: &KeyBytes, b: &KeyBytes) -> KeyBytes {
    std::array::from_fn(|i| a[i] ^ b[i])
}

fn hmac(key: &[u8], message: &[u8]) -> KeyBytes {
    let mut mac = keyed(key);
    mac.update(message);
    finish(mac)
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

fn finish(mac: Hmac<Sha256>) -> KeyBytes {
    mac.finalize().into_bytes().into()
}
