//! The nonce of a SCRAM exchange.

/// Random bytes in a SCRAM nonce; PostgreSQL uses as many.
const NONCE_BYTES: usize = 18;

/// A fresh SCRAM nonce: printable, no comma.
///
/// # Errors
/// When the operating system gives no random bytes.
pub fn nonce() -> Result<String, getrandom::Error> {
    let mut random = [0_u8; NONCE_BYTES];
    getrandom::fill(&mut random)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
