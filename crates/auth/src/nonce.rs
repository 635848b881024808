//! The nonce of a SCRAM exchange.

use crate::random::random;

/// Random bytes in a SCRAM nonce; PostgreSQL uses as many.
const NONCE_BYTES: usize = 18;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// A fresh SCRAM nonce: printable, no comma.
///
/// # Errors
/// When the operating system gives no random bytes.
pub fn nonce() -> Result<String, getrandom::Error> {
    let drawn: [u8; NONCE_BYTES] = random()?;
    let mut nonce = String::with_capacity(2 * NONCE_BYTES);
    for half in drawn.iter().flat_map(|byte| [byte >> 4, byte & 15]) {
        nonce.push(char::from(DIGITS[usize::from(half)]));
    }
    Ok(nonce)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_another_and_has_all_of_its_bytes() {
        let nonces: Vec<String> = (0..100).map(|_| nonce().expect("random bytes")).collect();
        let distinct: std::collections::HashSet<_> = nonces.iter().collect();
        assert_eq!(distinct.len(), nonces.len());
        for nonce in nonces {
            assert!(
                nonce.len() == 2 * NONCE_BYTES && nonce.bytes().all(|byte| byte.is_ascii_hexdigit()),
                "{nonce}"
            );
        }
    }
}
