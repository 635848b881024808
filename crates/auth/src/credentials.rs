//! What lets the proxy log a session's user in on any server.

use trunkline_codec::auth::{md5_from_stored, md5_password, md5_stored};
use trunkline_codec::scram::{self, ClientKey, ServerKey};
use zeroize::Zeroizing;

/// The means at hand, from weakest to strongest; a session has those its own login yielded.
///
/// Standbys hold the primary's `pg_authid` byte for byte, so one set serves on every server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerCredentials {
    scram: Option<(ClientKey, ServerKey)>,
    md5_stored: Option<Zeroizing<String>>,
    password: Option<Password>,
    vouched_by: VouchedBy,
}

/// Who has found out that the user is whom it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VouchedBy {
    /// Nobody yet, or a server, which may let in whom another would not.
    #[default]
    Server,
    /// The proxy: the user may have whatever else logs it in.
    Proxy,
}

#[derive(Clone, PartialEq, Eq)]
struct Password(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(..)")
    }
}

/// Whether nobody but the server that is meant is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerLeg {
    /// A Unix socket, or TLS with a certificate that was checked.
    Protected,
    /// Any other.
    Exposed,
}

/// The password itself, as a server asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordAnswer<'a> {
    /// It is this.
    Given(&'a [u8]),
    /// It is known, and not for a connection like this.
    Withheld,
    /// It is not known.
    Unknown,
}

/// By what a server has let a user in.
#[derive(Clone, Debug, Default)]
pub enum LoginProof {
    /// By nothing.
    #[default]
    None,
    /// By the password itself.
    Password,
    /// By an answer to an md5 challenge.
    Md5,
    /// By these keys; the server has proved to know the verifier that they belong to.
    Scram(ClientKey, ServerKey),
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

    /// The password itself, which is on file. It goes over protected connections only; the answers to SCRAM and md5 that
    /// are made from it go over any.
    #[must_use]
    pub fn from_password(password: Zeroizing<String>) -> Self {
        Self::from_client(Zeroizing::new(password.as_bytes().to_vec()))
    }

    /// The same of a password that a client has given, or a command has printed.
    #[must_use]
    pub fn from_client(password: Zeroizing<Vec<u8>>) -> Self {
        ServerCredentials { password: Some(Password(password)), ..ServerCredentials::default() }
    }

    /// What is to be kept of these, once a server has let `user` in by `proof`: the password only where nothing less
    /// would do.
    #[must_use]
    pub fn kept(self, user: &[u8], proof: LoginProof) -> Self {
        match (proof, &self.password) {
            (LoginProof::None, _) => ServerCredentials::default(),
            (LoginProof::Scram(client_key, server_key), _) => Self::from_scram(client_key, server_key),
            (LoginProof::Md5, Some(Password(text))) => Self::from_md5(Zeroizing::new(md5_stored(user, text))),
            (LoginProof::Md5, None) | (LoginProof::Password, _) => self,
        }
    }

    /// The password itself, for a server at the end of such a connection.
    #[must_use]
    pub fn password(&self, leg: ServerLeg) -> PasswordAnswer<'_> {
        match (&self.password, leg) {
            (None, _) => PasswordAnswer::Unknown,
            (Some(Password(text)), ServerLeg::Protected) => PasswordAnswer::Given(text),
            (Some(_), ServerLeg::Exposed) => PasswordAnswer::Withheld,
        }
    }

    /// The answer to an md5 challenge.
    #[must_use]
    pub fn md5_answer(&self, user: &[u8], salt: [u8; 4]) -> Option<Zeroizing<String>> {
        let from_stored = self.md5_stored.as_ref().and_then(|stored| md5_from_stored(stored, salt));
        from_stored
            .or_else(|| self.password.as_ref().map(|password| md5_password(user, &password.0, salt)))
            .map(Zeroizing::new)
    }

    /// What a SCRAM exchange as this user starts from.
    #[must_use]
    pub fn scram(&self) -> Option<scram::Credentials> {
        if let Some((client_key, server_key)) = &self.scram {
            let (client_key, server_key) = (client_key.clone(), server_key.clone());
            return Some(scram::Credentials::ClientKey { client_key, server_key });
        }
        self.password.as_ref().map(|password| scram::Credentials::Password(password.0.clone()))
    }

    /// The same, of a user whom the proxy has let in itself.
    #[must_use]
    pub fn vouched_by_proxy(self) -> Self {
        Self { vouched_by: VouchedBy::Proxy, ..self }
    }

    /// Who has let the user in.
    #[must_use]
    pub fn vouched_by(&self) -> VouchedBy {
        self.vouched_by
    }

    /// Whether nothing but a server that asks for nothing lets the user in with these.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { scram, md5_stored, password, vouched_by: _ } = self;
        scram.is_none() && md5_stored.is_none() && password.is_none()
    }

    /// Whether a SCRAM exchange has to derive its keys from the password first.
    #[must_use]
    pub fn must_derive(&self) -> bool {
        self.scram.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given() -> ServerCredentials {
        ServerCredentials::from_client(Zeroizing::new(b"hunter2".to_vec()))
    }

    fn on_file() -> ServerCredentials {
        ServerCredentials::from_password(Zeroizing::new("hunter2".to_owned()))
    }

    #[test]
    fn password_itself_goes_over_protected_connections_only_and_answers_made_from_it_over_any() {
        for credentials in [given(), on_file()] {
            assert_eq!(credentials.password(ServerLeg::Protected), PasswordAnswer::Given(b"hunter2"));
            assert_eq!(credentials.password(ServerLeg::Exposed), PasswordAnswer::Withheld);
            assert!(credentials.md5_answer(b"app", [1, 2, 3, 4]).is_some());
            assert!(matches!(credentials.scram(), Some(scram::Credentials::Password(_))));
        }
        assert_eq!(ServerCredentials::default().password(ServerLeg::Protected), PasswordAnswer::Unknown);
    }

    #[test]
    fn password_is_kept_only_where_nothing_less_would_do() {
        let keys = || LoginProof::Scram(ClientKey::new([1; 32]), ServerKey::new([2; 32]));
        for proof in [LoginProof::None, LoginProof::Md5, keys()] {
            let kept = given().kept(b"app", proof);
            assert_eq!(kept.password(ServerLeg::Protected), PasswordAnswer::Unknown);
        }
        let kept = given().kept(b"app", LoginProof::Password);
        assert_eq!(kept.password(ServerLeg::Protected), PasswordAnswer::Given(b"hunter2"));
        assert!(given().kept(b"app", LoginProof::None).scram().is_none());
        assert!(!given().kept(b"app", keys()).must_derive());
    }

    #[test]
    fn md5_form_answers_as_the_password_does() {
        let kept = given().kept(b"app", LoginProof::Md5);
        let salt = [1, 2, 3, 4];
        assert_eq!(kept.md5_answer(b"app", salt), given().md5_answer(b"app", salt));
    }

    #[test]
    fn debug_shows_no_password() {
        assert!(!format!("{:?}", given()).contains("hunter2"));
    }
}
