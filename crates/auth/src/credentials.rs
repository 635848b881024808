//! What lets the proxy log a session's user in on any server.

use trunkline_codec::auth::{md5_from_stored, md5_password};
use trunkline_codec::scram::{self, ClientKey, ServerKey};
use zeroize::Zeroizing;

/// The means at hand, from weakest to strongest; a session has those its own login yielded.
///
/// Standbys hold the primary's `pg_authid` byte for byte, so one set serves on every server.
#[derive(Clone, Debug, Default)]
pub struct ServerCredentials {
    scram: Option<(ClientKey, ServerKey)>,
    md5_stored: Option<Zeroizing<String>>,
    password: Option<Password>,
}

#[derive(Clone)]
struct Password(Zeroizing<String>);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(..)")
    }
}

impl ServerCredentials {
    /// Keys recovered from a client's proof and its stored verifier.
    #[must_use]
    pub fn from_scram(client_key: ClientKey, server_key: ServerKey) -> Self {
        ServerCredentials { scram: Some((client_key, server_key)), ..ServerCredentials::default() }
    }

    /// `md5` followed by 32 hexadecimal digits, as stored.
    #[must_use]
    pub fn from_md5(stored: Zeroizing<String>) -> Self {
        ServerCredentials { md5_stored: Some(stored), ..ServerCredentials::default() }
    }

    /// The password itself.
    #[must_use]
    pub fn from_password(password: Zeroizing<String>) -> Self {
        ServerCredentials { password: Some(Password(password)), ..ServerCredentials::default() }
    }

    /// The password itself, if it is known.
    #[must_use]
    pub fn password(&self) -> Option<&str> {
        self.password.as_ref().map(|p| p.0.as_str())
    }

    /// The answer to an md5 challenge.
    #[must_use]
    pub fn md5_answer(&self, user: &[u8], salt: [u8; 4]) -> Option<Zeroizing<String>> {
        let from_stored = self.md5_stored.as_ref().and_then(|stored| md5_from_stored(stored, salt));
        from_stored
            .or_else(|| self.password().map(|password| md5_password(user, password.as_bytes(), salt)))
            .map(Zeroizing::new)
    }

    /// What a SCRAM exchange as this user starts from.
    #[must_use]
    pub fn scram(&self) -> Option<scram::Credentials> {
        if let Some((client_key, server_key)) = &self.scram {
            let (client_key, server_key) = (client_key.clone(), server_key.clone());
            return Some(scram::Credentials::ClientKey { client_key, server_key });
        }
        let password = self.password()?;
        Some(scram::Credentials::Password(Zeroizing::new(password.as_bytes().to_vec())))
    }

    /// Whether a SCRAM exchange has to derive its keys from the password first.
    #[must_use]
    pub fn must_derive(&self) -> bool {
        self.scram.is_none()
    }
}
