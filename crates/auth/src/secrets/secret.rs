//! What is known of one user's password.

use std::fmt;

use trunkline_codec::limits::SCRAM_ITERATIONS_DEFAULT;
use trunkline_codec::scram::{ScramError, Verifier};
use zeroize::Zeroizing;

use super::SECRET_BYTES_MAX;

/// Bytes in the salt of a verifier made here; PostgreSQL uses as many.
const SALT_BYTES: usize = 16;

/// A user's stored secret. Its Debug form shows the kind alone.
#[derive(Clone)]
pub enum Secret {
    /// A SCRAM verifier.
    Scram(Verifier),
    /// `md5` and 32 hexadecimal digits; as good as the password for md5 authentication.
    Md5(Zeroizing<String>),
    /// The password itself, with a verifier made of it here for the client's SCRAM exchange.
    Password {
        /// The password.
        password: Zeroizing<String>,
        /// Of this password, with a salt of our own: its keys log in nowhere else.
        verifier: Verifier,
    },
    /// None to log in with.
    Unusable(Unusable),
}

/// Why a user cannot log in with a password. The client never learns which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// There is no such user.
    Unknown,
    /// The user has no password, or one in a form nobody knows, or of more than [`SECRET_BYTES_MAX`].
    NoPassword,
    /// The role may not log in.
    NoLogin,
    /// The password is past its VALID UNTIL.
    Expired,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Secret::Scram(_) => f.write_str("Scram(..)"),
            Secret::Md5(_) => f.write_str("Md5(..)"),
            Secret::Password { .. } => f.write_str("Password(..)"),
            Secret::Unusable(why) => write!(f, "Unusable({why:?})"),
        }
    }
}

/// A secret as it is stored, told apart by its form as PostgreSQL does.
/// Source: PostgreSQL 18, src/backend/libpq/crypt.c, `get_password_type`.
#[derive(Clone)]
pub(super) enum Stored {
    Scram(Verifier),
    Md5(Zeroizing<String>),
    Cleartext(Zeroizing<String>),
    Unusable(Unusable),
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stored(..)")
    }
}

/// Whether a source may hold passwords as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cleartext {
    Accepted,
    /// `pg_authid` never holds one: PostgreSQL itself would not let such a role in.
    Refused,
}

impl Stored {
    /// Tells a stored secret's kind by its form.
    pub(super) fn parse(text: &str, cleartext: Cleartext) -> Self {
        if text.is_empty() || text.len() > SECRET_BYTES_MAX {
            return Stored::Unusable(Unusable::NoPassword);
        }
        if is_md5(text) {
            return Stored::Md5(Zeroizing::new(text.to_owned()));
        }
        if text.starts_with("SCRAM-SHA-256$") {
            // A damaged verifier is no password that somebody could be asked to type.
            return Verifier::parse(text).map_or(Stored::Unusable(Unusable::NoPassword), Stored::Scram);
        }
        match cleartext {
            Cleartext::Accepted => Stored::Cleartext(Zeroizing::new(text.to_owned())),
            Cleartext::Refused => Stored::Unusable(Unusable::NoPassword),
        }
    }

    /// Makes the secret of it. Takes milliseconds for a password, so that is done off this thread, and not at
    /// all when `known` is of the same password.
    pub(super) async fn derive(self, known: Option<&Secret>) -> Secret {
        let password = match self {
            Stored::Scram(verifier) => return Secret::Scram(verifier),
            Stored::Md5(hash) => return Secret::Md5(hash),
            Stored::Unusable(why) => return Secret::Unusable(why),
            Stored::Cleartext(password) => password,
        };
        if let Some(Secret::Password { password: same, verifier }) = known
            && *same == password
        {
            return Secret::Password { password, verifier: verifier.clone() };
        }
        let input = password.clone();
        match tokio::task::spawn_blocking(move || make_verifier(&input)).await {
            Ok(Some(verifier)) => Secret::Password { password, verifier },
            Ok(None) | Err(_) => Secret::Unusable(Unusable::NoPassword),
        }
    }
}

fn make_verifier(password: &str) -> Option<Verifier> {
    let mut salt = [0_u8; SALT_BYTES];
    if let Err(error) = getrandom::fill(&mut salt) {
        tracing::error!(%error, "no random bytes for a salt");
        return None;
    }
    let verifier: Result<_, ScramError> =
        Verifier::from_password(password.as_bytes(), &salt, SCRAM_ITERATIONS_DEFAULT);
    verifier.inspect_err(|error| tracing::error!(%error, "could not derive a verifier")).ok()
}

fn is_md5(text: &str) -> bool {
    let digits = text.strip_prefix("md5").map(str::as_bytes);
    digits.is_some_and(|d| d.len() == 32 && d.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b)))
}

#[cfg(test)]
mod tests {
    use trunkline_codec::limits::{SCRAM_MESSAGE_MAX, SCRAM_SALT_MAX};
    use trunkline_codec::scram::{ChannelBinding, ServerExchange};

    use super::*;

    const MD5: &str = "md5a3556571e93b0d20722ba62be61e8c2d";

    #[test]
    fn the_kind_is_told_by_the_form() {
        let verifier = Verifier::from_password(b"secret", b"0123456789abcdef", 4096).expect("few iterations");
        assert!(matches!(Stored::parse(&verifier.to_string(), Cleartext::Refused), Stored::Scram(_)));
        assert!(matches!(Stored::parse(MD5, Cleartext::Refused), Stored::Md5(_)));
        for near_miss in
            ["md5", "md5a3556571e93b0d20722ba62be61e8c2", "md5A3556571E93B0D20722BA62BE61E8C2D", "x"]
        {
            assert!(matches!(Stored::parse(near_miss, Cleartext::Accepted), Stored::Cleartext(_)));
            let refused = Stored::parse(near_miss, Cleartext::Refused);
            assert!(matches!(refused, Stored::Unusable(Unusable::NoPassword)), "{near_miss}");
        }
        for broken in ["", "SCRAM-SHA-256$", "SCRAM-SHA-256$4096:!$a:b"] {
            let stored = Stored::parse(broken, Cleartext::Accepted);
            assert!(matches!(stored, Stored::Unusable(Unusable::NoPassword)), "{broken}");
        }
    }

    #[test]
    fn a_secret_at_the_bound_is_read_and_a_longer_one_is_none() {
        let of = |length| Stored::parse(&"x".repeat(length), Cleartext::Accepted);
        assert!(matches!(of(SECRET_BYTES_MAX), Stored::Cleartext(_)));
        assert!(matches!(of(SECRET_BYTES_MAX + 1), Stored::Unusable(Unusable::NoPassword)));
        let salt = "A".repeat(8 << 20);
        let verifier = format!("SCRAM-SHA-256$4096:{salt}$a:b");
        assert!(matches!(
            Stored::parse(&verifier, Cleartext::Refused),
            Stored::Unusable(Unusable::NoPassword)
        ));
    }

    #[test]
    fn a_verifier_with_which_no_exchange_can_be_held_is_none() {
        let nonce = "x".repeat(24);
        for (length, is_held) in [(SCRAM_SALT_MAX, true), (SCRAM_SALT_MAX + 1, false)] {
            let verifier =
                Verifier::from_password(b"secret", &vec![7; length], 4096).expect("few iterations");
            let stored = Stored::parse(&verifier.to_string(), Cleartext::Refused);
            assert_eq!(matches!(stored, Stored::Scram(_)), is_held, "{length}");
            let mut server = ServerExchange::new(verifier, &nonce, ChannelBinding::Unsupported);
            let first = server.handle_client_first(format!("n,,n=,r={nonce}").as_bytes());
            assert!(first.is_ok_and(|first| first.len() <= SCRAM_MESSAGE_MAX));
        }
    }

    #[tokio::test]
    async fn a_verifier_is_made_once_for_the_same_password() {
        let stored = Stored::parse("secret", Cleartext::Accepted);
        let first = stored.clone().derive(None).await;
        let again = stored.derive(Some(&first)).await;
        let other = Stored::parse("other", Cleartext::Accepted).derive(Some(&first)).await;
        let verifier = |secret: &Secret| match secret {
            Secret::Password { verifier, .. } => verifier.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(verifier(&first), verifier(&again));
        assert_ne!(verifier(&first), verifier(&other));
    }

    #[tokio::test]
    async fn debug_shows_no_secret() {
        for text in ["hunter2", MD5] {
            let secret = Stored::parse(text, Cleartext::Accepted).derive(None).await;
            assert!(!format!("{secret:?}").contains(&text[3..]), "{secret:?}");
        }
    }
}
