//! What a session logs in to servers with: what its own login has left, or a password that a command prints.

use trunkline_auth::credentials::{ServerCredentials, VouchedBy};
use trunkline_auth::session_passwords::{SessionPasswords, SharedPassword};
use trunkline_codec::sqlstate::SqlState;
use zeroize::Zeroizing;

use super::login::LoginError;
use super::restore::LoginAs;
use crate::context::Worker;

/// Passwords that are tried in one check-out: the one that is known, and another once it is refused.
const PASSWORDS_MAX: u32 = 2;

/// The means of one check-out.
pub(super) struct LoginMeans<'a> {
    who: LoginAs<'a>,
    passwords: Option<SessionPasswords>,
    printed: Option<(SharedPassword, ServerCredentials)>,
    tried: u32,
}

impl<'a> LoginMeans<'a> {
    /// Those of `who`. A command is run before the first connection if there is nothing else; for nobody whom a server alone has
    /// let in, as one that trusts everybody may have.
    pub(super) async fn new(worker: &Worker, who: LoginAs<'a>) -> Self {
        let passwords = match who.credentials.vouched_by() {
            VouchedBy::Proxy => worker.shared.live().stores.session_passwords.clone(),
            VouchedBy::Server => None,
        };
        let mut means = Self { who, passwords, printed: None, tried: 0 };
        if who.credentials.is_empty() && means.passwords.is_some() {
            means.next().await;
        }
        means
    }

    /// By which the next login is tried.
    pub(super) fn who(&self) -> LoginAs<'_> {
        match &self.printed {
            Some((_, credentials)) => LoginAs { credentials, ..self.who },
            None => self.who,
        }
    }

    /// Whether a login that failed so is worth another try, with a password that has not been tried.
    pub(super) async fn has_other(&mut self, error: &LoginError) -> bool {
        let is_about_means = match error {
            LoginError::NoMeans { .. } => self.printed.is_none(),
            LoginError::Refused { code, .. } => {
                self.printed.is_some()
                    && matches!(code, Some(SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION))
            }
            _ => false,
        };
        is_about_means && self.next().await
    }

    /// Takes a password; `false` if there is none.
    async fn next(&mut self) -> bool {
        let (Some(passwords), Ok(user)) = (&self.passwords, std::str::from_utf8(self.who.startup.user()))
        else {
            return false;
        };
        if self.tried >= PASSWORDS_MAX {
            return false;
        }
        self.tried += 1;
        let password = match &self.printed {
            Some((refused, _)) => passwords.instead(user, refused).await,
            None => passwords.of(user).await,
        };
        let Some(password) = password else { return false };
        // It goes over protected connections only, as one that a client has given.
        let credentials = ServerCredentials::from_client(Zeroizing::new(password.as_bytes().to_vec()));
        self.printed = Some((password, credentials));
        true
    }
}
