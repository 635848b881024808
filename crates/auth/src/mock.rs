//! The salts that users who cannot log in are challenged with.
//!
//! PostgreSQL makes them from a nonce of the cluster, so that they stay the same. A salt that changes with a restart, or
//! differs between two instances in front of one cluster, would tell which names do not exist.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use trunkline_codec::ids::SystemIdentifier;
use zeroize::Zeroizing;

/// The key where none is configured. It is no secret, nor is the system identifier: `/cluster` shows it to whoever
/// reaches that, who can make these salts. A configured nonce rules that out.
const DEFAULT_KEY: &[u8] = b"trunkline mock authentication nonce";

/// A configured nonce. Its Debug form shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct MockNonce(Zeroizing<Vec<u8>>);

impl MockNonce {
    /// From what the configuration has.
    #[must_use]
    pub fn new(text: &str) -> Self {
        MockNonce(Zeroizing::new(text.as_bytes().to_vec()))
    }
}

impl fmt::Debug for MockNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MockNonce(..)")
    }
}

/// What the salts are made from.
pub struct MockSecret {
    /// From the configured nonce.
    configured: Option<[u8; 32]>,
    /// The system identifier known last, and what is made from it.
    cluster: Mutex<Option<(SystemIdentifier, [u8; 32])>>,
    /// Until then.
    random: [u8; 32],
}

impl fmt::Debug for MockSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MockSecret(..)")
    }
}

impl MockSecret {
    /// From the configured nonce, or else from the cluster's system identifier as soon as that is known.
    ///
    /// # Errors
    /// When there are no random bytes.
    pub fn new(nonce: Option<&MockNonce>) -> Result<Self, getrandom::Error> {
        let mut random = [0; 32];
        getrandom::fill(&mut random)?;
        let configured = nonce.map(|MockNonce(nonce)| keyed(nonce, DEFAULT_KEY));
        Ok(MockSecret { configured, cluster: Mutex::default(), random })
    }

    /// The secret for [`Verifier::mock`](trunkline_codec::scram::Verifier::mock). `cluster` says which cluster the
    /// servers are of, if that is known at the moment: each has its own.
    pub fn bytes(&self, cluster: impl FnOnce() -> Option<SystemIdentifier>) -> [u8; 32] {
        if let Some(configured) = self.configured {
            return configured;
        }
        let newest = cluster().filter(|cluster| cluster.0 != 0);
        let mut last = self.cluster.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(newest) = newest.filter(|newest| last.is_none_or(|(known, _)| known != *newest)) {
            *last = Some((newest, keyed(DEFAULT_KEY, &newest.0.to_be_bytes())));
        }
        last.map_or(self.random, |(_, made)| made)
    }
}

fn keyed(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
    mac.chain_update(message).finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: SystemIdentifier = SystemIdentifier(7_300_000_000_000_000_000);

    fn secret(nonce: Option<&str>) -> MockSecret {
        MockSecret::new(nonce.map(MockNonce::new).as_ref()).expect("random bytes")
    }

    #[test]
    fn two_instances_in_front_of_one_cluster_have_the_same_secret() {
        let (one, other) = (secret(None), secret(None));
        assert_eq!(one.bytes(|| Some(CLUSTER)), other.bytes(|| Some(CLUSTER)));
        let elsewhere = secret(None);
        assert_ne!(one.bytes(|| None), elsewhere.bytes(|| Some(SystemIdentifier(1))));
    }

    #[test]
    fn a_configured_nonce_counts_before_the_cluster() {
        let (one, other) = (secret(Some("a")), secret(Some("a")));
        assert_eq!(one.bytes(|| None), other.bytes(|| Some(CLUSTER)));
        assert_ne!(one.bytes(|| None), secret(Some("b")).bytes(|| None));
        assert_ne!(one.bytes(|| None), secret(None).bytes(|| Some(CLUSTER)));
    }

    #[test]
    fn until_the_cluster_is_known_the_secret_is_random_and_then_it_is_the_last_known_clusters() {
        let (one, other) = (secret(None), secret(None));
        assert_ne!(one.bytes(|| None), other.bytes(|| None));
        let known = one.bytes(|| Some(CLUSTER));
        assert_eq!(one.bytes(|| None), known);
        let adopted = one.bytes(|| Some(SystemIdentifier(1)));
        assert_ne!(adopted, known);
        assert_eq!(adopted, other.bytes(|| Some(SystemIdentifier(1))), "one that starts after the adoption");
    }

    #[test]
    fn debug_shows_no_nonce() {
        assert!(!format!("{:?}", MockNonce::new("hunter2")).contains("hunter2"));
    }
}
