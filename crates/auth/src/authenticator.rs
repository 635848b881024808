//! Authenticates a client, without I/O: the client's messages go in, the server's come out.
//!
//! ```text
//! Authenticator::start --> Ask --> handle --> Ask ... --> Proved | Failed
//!                                       '--> Check --> run -------^
//! ```
//!
//! A user who does not exist, may not log in or whose password has expired goes through the same exchange as others,
//! with a made-up verifier, and fails the same way: names cannot be guessed.

#[cfg(test)]
mod binding_tests;
mod scram;
#[cfg(test)]
mod tests;

use bytes::BytesMut;
use trunkline_codec::auth::{md5_from_stored, md5_stored, parse_password, secrets_match};
use trunkline_codec::scram::{ScramError, Verifier};
use trunkline_codec::write;
use zeroize::Zeroizing;

use self::scram::{Scram, ScramOutcome};
use crate::credentials::ServerCredentials;
use crate::secrets::Secret;

/// How the client is asked for its proof.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientMethod {
    /// By the kind of the stored secret: SCRAM-SHA-256 unless it is an md5 hash.
    #[default]
    Auto,
    /// SCRAM-SHA-256, whatever is stored: a user with an md5 hash cannot log in.
    ScramSha256,
    /// AuthenticationCleartextPassword. The password crosses the network in the clear.
    Password,
    /// No proof at all.
    Trust,
}

/// An exchange that waits for the client's next message.
#[derive(Debug)]
pub struct Authenticator(AuthExchange);

#[derive(Debug)]
enum AuthExchange {
    Scram(Box<Scram>),
    Md5 { stored: Zeroizing<String>, salt: [u8; 4] },
    Password { secret: Secret, user: Box<[u8]> },
}

/// What comes next.
#[derive(Debug)]
pub enum AuthStep {
    /// What was written is for the client, and its answer for this.
    Ask(Authenticator),
    /// A password is to be checked, on a thread that may take its time.
    Check(PasswordCheck),
    /// The client is who it says; what was written is to precede AuthenticationOk.
    Proved(ServerCredentials),
    /// The proof is wrong.
    Failed,
}

/// Why an exchange ended without an answer to whether the proof is right.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticationError {
    /// The client broke the protocol.
    #[error("{0}")]
    Protocol(String),
    /// The client's login is not bound to this connection as it should be: someone may be in between.
    #[error("{0}")]
    Binding(BindingError),
    /// The operating system gives no random bytes for a challenge.
    #[error("the operating system gives no random bytes: {0}")]
    Random(getrandom::Error),
}

/// What is wrong with a client's channel binding, in PostgreSQL's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    /// It could bind its login, and has not seen that this was offered.
    #[error("SCRAM channel binding negotiation error")]
    NotSeen,
    /// It has bound it to another certificate.
    #[error("SCRAM channel binding check failed")]
    Different,
}

impl AuthenticationError {
    fn of_scram(error: ScramError) -> Self {
        match error {
            ScramError::ChannelBindingNegotiation => AuthenticationError::Binding(BindingError::NotSeen),
            ScramError::ChannelBinding => AuthenticationError::Binding(BindingError::Different),
            other => AuthenticationError::protocol(other),
        }
    }

    fn protocol(error: impl std::fmt::Display) -> Self {
        AuthenticationError::Protocol(error.to_string())
    }
}

impl Authenticator {
    /// Begins the exchange with `user`, whose stored secret is this. `mock_secret` makes the verifiers of users who
    /// cannot log in: the same for a user as long as it is the same. `end_point` is what a login can be bound to: the hash
    /// of the certificate that the client was shown.
    ///
    /// # Errors
    /// When there are no random bytes.
    pub fn start(
        method: ClientMethod,
        secret: Secret,
        user: &[u8],
        mock_secret: &[u8],
        end_point: Option<&[u8]>,
        out: &mut BytesMut,
    ) -> Result<AuthStep, AuthenticationError> {
        match (method, secret) {
            (ClientMethod::Trust, secret) => Ok(AuthStep::Proved(from_secret(secret))),
            (ClientMethod::Password, secret) => {
                write::authentication_cleartext_password(out);
                Ok(AuthStep::Ask(Authenticator(AuthExchange::Password { secret, user: user.into() })))
            }
            (ClientMethod::Auto | ClientMethod::ScramSha256, Secret::Scram(verifier)) => {
                Scram::start(verifier, ScramOutcome::Keys, end_point, out)
            }
            (ClientMethod::Auto | ClientMethod::ScramSha256, Secret::Password { password, verifier }) => {
                let yields = ScramOutcome::These(ServerCredentials::from_password(password));
                Scram::start(verifier, yields, end_point, out)
            }
            (ClientMethod::Auto, Secret::Md5(stored)) => {
                let mut salt = [0_u8; 4];
                getrandom::fill(&mut salt).map_err(AuthenticationError::Random)?;
                write::authentication_md5_password(out, salt);
                Ok(AuthStep::Ask(Authenticator(AuthExchange::Md5 { stored, salt })))
            }
            (ClientMethod::ScramSha256, Secret::Md5(_))
            | (ClientMethod::Auto | ClientMethod::ScramSha256, Secret::Unusable(_)) => {
                Authenticator::start_to_fail(user, mock_secret, end_point, out)
            }
        }
    }

    /// Begins the exchange with a user who cannot log in: it looks like any other, and fails.
    ///
    /// # Errors
    /// When there are no random bytes.
    pub fn start_to_fail(
        user: &[u8],
        mock_secret: &[u8],
        end_point: Option<&[u8]>,
        out: &mut BytesMut,
    ) -> Result<AuthStep, AuthenticationError> {
        Scram::start(Verifier::mock(mock_secret, user), ScramOutcome::Nothing, end_point, out)
    }

    /// Takes the body of the client's answer, a message of type `p`.
    ///
    /// # Errors
    /// When it is not what its turn demands.
    pub fn handle(self, body: &[u8], out: &mut BytesMut) -> Result<AuthStep, AuthenticationError> {
        match self.0 {
            AuthExchange::Scram(scram) => scram.handle(body, out),
            AuthExchange::Md5 { stored, salt } => {
                let answer = parse_password(body).map_err(AuthenticationError::protocol)?;
                let is_right = md5_from_stored(&stored, salt)
                    .is_some_and(|right| secrets_match(right.as_bytes(), answer));
                Ok(if is_right {
                    AuthStep::Proved(ServerCredentials::from_md5(stored))
                } else {
                    AuthStep::Failed
                })
            }
            AuthExchange::Password { secret, user } => {
                let given = parse_password(body).map_err(AuthenticationError::protocol)?;
                let Ok(given) = std::str::from_utf8(given) else { return Ok(AuthStep::Failed) };
                let given = Zeroizing::new(given.to_owned());
                Ok(AuthStep::Check(PasswordCheck { secret, user, given }))
            }
        }
    }
}

/// A password in the clear, to be compared with the stored secret: thousands of HMACs, whatever is stored.
#[derive(Debug)]
pub struct PasswordCheck {
    secret: Secret,
    user: Box<[u8]>,
    given: Zeroizing<String>,
}

impl PasswordCheck {
    /// Compares them. Takes as long for a user who cannot log in, so that the time tells nothing.
    #[must_use]
    pub fn run(self) -> AuthStep {
        let given = self.given.as_bytes();
        let is_right = match &self.secret {
            Secret::Scram(verifier) | Secret::Password { verifier, .. } => {
                verifier.check_password(given).is_ok()
            }
            Secret::Md5(stored) => {
                self.derive_in_vain();
                secrets_match(stored.as_bytes(), md5_stored(&self.user, given).as_bytes())
            }
            Secret::Unusable(_) => {
                self.derive_in_vain();
                false
            }
        };
        match self.secret {
            _ if !is_right => AuthStep::Failed,
            Secret::Password { password, .. } => AuthStep::Proved(ServerCredentials::from_password(password)),
            Secret::Scram(_) | Secret::Md5(_) | Secret::Unusable(_) => {
                let given = Zeroizing::new(self.given.as_bytes().to_vec());
                AuthStep::Proved(ServerCredentials::from_client(given))
            }
        }
    }

    /// Computes what a verifier would take, where there is none.
    fn derive_in_vain(&self) {
        let _never = Verifier::mock(b"", &self.user).check_password(self.given.as_bytes());
    }
}

/// What a secret on file is good for without the client's help.
fn from_secret(secret: Secret) -> ServerCredentials {
    match secret {
        Secret::Password { password, .. } => ServerCredentials::from_password(password),
        Secret::Md5(stored) => ServerCredentials::from_md5(stored),
        Secret::Scram(_) | Secret::Unusable(_) => ServerCredentials::default(),
    }
}
