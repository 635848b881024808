//! What a server keeps of a password.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest, Sha256};

use super::ScramError;
use super::keys::{ClientKey, KeyBytes, ServerKey, StoredKey, derive};
use crate::limits::{SCRAM_ITERATIONS_DEFAULT, SCRAM_SALT_MAX};

/// Bytes in the salt PostgreSQL gives a verifier.
/// Source: PostgreSQL 18, src/include/common/scram-common.h, `SCRAM_DEFAULT_SALT_LEN`.
const SALT_LEN: usize = 16;

/// What `pg_authid.rolpassword` keeps of a SCRAM password: enough to check it, not to know it.
#[derive(Clone)]
pub struct Verifier {
    pub(super) kind: Kind,
    pub(super) iterations: u32,
    pub(super) salt: Vec<u8>,
    pub(super) stored_key: StoredKey,
    pub(super) server_key: ServerKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Of a role that exists.
    Genuine,
    /// Of none: an exchange with it looks like any other and always fails.
    Mock,
}

/// Text that is not a SCRAM verifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a SCRAM verifier: expected SCRAM-SHA-256$iterations:salt$stored key:server key")]
pub struct InvalidVerifier;

impl Verifier {
    /// Reads `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, salt and keys in base64.
    ///
    /// # Errors
    /// When the text has another form, or a salt of more than [`SCRAM_SALT_MAX`], with which no exchange can be held.
    pub fn parse(text: &str) -> Result<Self, InvalidVerifier> {
        Self::parse_parts(text).ok_or(InvalidVerifier)
    }

    fn parse_parts(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("SCRAM-SHA-256$")?;
        let (iterations_and_salt, keys) = rest.split_once('$')?;
        let (iterations, salt) = iterations_and_salt.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        Some(Self {
            kind: Kind::Genuine,
            iterations: parse_iterations(iterations.as_bytes())?,
            salt: BASE64.decode(salt).ok().filter(|salt| salt.len() <= SCRAM_SALT_MAX)?,
            stored_key: StoredKey::new(decode_key(stored_key.as_bytes())?),
            server_key: ServerKey::new(decode_key(server_key.as_bytes())?),
        })
    }

    /// The verifier of a password. Takes milliseconds.
    ///
    /// # Errors
    /// `TooManyIterations` above [`SCRAM_ITERATIONS_MAX`](crate::limits::SCRAM_ITERATIONS_MAX).
    pub fn from_password(password: &[u8], salt: &[u8], iterations: u32) -> Result<Self, ScramError> {
        let iterations = iterations.max(1);
        let (client_key, server_key) = derive(password, salt, iterations)?;
        let stored_key = client_key.stored_key();
        Ok(Self { kind: Kind::Genuine, iterations, salt: salt.to_vec(), stored_key, server_key })
    }

    /// A verifier for a user who does not exist: always the same salt for the same user, no
    /// password. `nonce` is a secret of this installation, so that the salt cannot be foretold.
    /// Source: PostgreSQL 18, src/backend/libpq/auth-scram.c, `mock_scram_secret`.
    #[must_use]
    pub fn mock(nonce: &[u8], user: &[u8]) -> Self {
        let salt = Sha256::new().chain_update(user).chain_update(nonce).finalize();
        Self {
            kind: Kind::Mock,
            iterations: SCRAM_ITERATIONS_DEFAULT,
            salt: salt[..SALT_LEN].to_vec(),
            stored_key: StoredKey::new(KeyBytes::default()),
            server_key: ServerKey::new(KeyBytes::default()),
        }
    }

    /// The keys behind a password sent as it is, when it is the right one. Takes milliseconds.
    ///
    /// # Errors
    /// `AuthenticationFailed` for a wrong password; `TooManyIterations` when it is not tried.
    pub fn check_password(&self, password: &[u8]) -> Result<ClientKey, ScramError> {
        let (client_key, _) = derive(password, &self.salt, self.iterations)?;
        if self.accepts(&client_key) { Ok(client_key) } else { Err(ScramError::AuthenticationFailed) }
    }

    /// Whether a client with this key could log in.
    #[must_use]
    pub fn accepts(&self, client_key: &ClientKey) -> bool {
        let is_right = client_key.stored_key().matches(&self.stored_key);
        is_right && self.kind == Kind::Genuine
    }

    /// The key the server proves itself with.
    #[must_use]
    pub fn server_key(&self) -> &ServerKey {
        &self.server_key
    }

    /// Whether another verifier belongs to the same password, salt and iterations: then a key
    /// recovered with one logs in to the other.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.iterations == other.iterations
            && self.salt == other.salt
            && self.stored_key.matches(&other.stored_key)
    }
}

impl fmt::Display for Verifier {
    /// The form [`Verifier::parse`] reads. It lets its reader pose as the server: keep it secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let salt = BASE64.encode(&self.salt);
        let stored_key = BASE64.encode(self.stored_key.as_bytes());
        let server_key = BASE64.encode(self.server_key.as_bytes());
        write!(f, "SCRAM-SHA-256${}:{salt}${stored_key}:{server_key}", self.iterations)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({:?}, {} iterations)", self.kind, self.iterations)
    }
}

/// A number of iterations: digits only, at least 1.
pub(super) fn parse_iterations(digits: &[u8]) -> Option<u32> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let iterations = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (iterations >= 1).then_some(iterations)
}

fn decode_key(text: &[u8]) -> Option<KeyBytes> {
    BASE64.decode(text).ok()?.try_into().ok()
}
