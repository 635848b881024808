//! The normal form of a password (RFC 4013).

use std::borrow::Cow;

use zeroize::Zeroizing;

/// The password to derive keys from. One that is not UTF-8, contains what SASLprep prohibits, or
/// is empty after it, is used as it is: the server did the same when it made the verifier.
/// Source: PostgreSQL 18, src/common/scram-common.c, `scram_SaltedPassword` and its callers.
pub(super) fn saslprep(password: &[u8]) -> Zeroizing<Vec<u8>> {
    let prepared = std::str::from_utf8(password).ok().and_then(|text| stringprep::saslprep(text).ok());
    Zeroizing::new(match prepared {
        Some(Cow::Owned(text)) if !text.is_empty() => text.into_bytes(),
        Some(_) | None => password.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(password: &str, expected: &str) {
        assert_eq!(saslprep(password.as_bytes()).as_slice(), expected.as_bytes(), "{password:?}");
    }

    #[test]
    fn examples_of_rfc_4013() {
        check("I\u{AD}X", "IX");
        check("user", "user");
        check("USER", "USER");
        check("\u{AA}", "a");
        check("\u{2168}", "IX");
    }

    #[test]
    fn what_is_prohibited_stays_as_it_is() {
        check("\u{7}", "\u{7}");
        // A right-to-left letter before a digit.
        check("\u{627}1", "\u{627}1");
    }

    #[test]
    fn spaces_become_the_ascii_one() {
        check("a\u{A0}b", "a b");
        check("a\u{3000}b", "a b");
    }

    #[test]
    fn what_would_be_empty_stays_as_it_is() {
        check("", "");
        check("\u{AD}", "\u{AD}");
    }

    #[test]
    fn bytes_that_are_no_text_stay_as_they_are() {
        assert_eq!(saslprep(b"\xFF\xFE").as_slice(), b"\xFF\xFE");
    }
}
