//! Why a signature does not hold, where it is the key's fault. The library of ciphers takes no RSA key that is too short, and
//! says of it what it says of a forged signature.

use std::iter;
use std::ops::RangeInclusive;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, Error, OtherError};
use x509_parser::certificate::X509Certificate;
use x509_parser::public_key::PublicKey;

use crate::certificate::parse;

/// The bits of RSA keys that are taken. Source: aws-lc-rs, src/signature.rs, `RSA_PKCS1_2048_8192_SHA256`.
const RSA_BITS: RangeInclusive<usize> = 2048..=8192;

/// What is wrong with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyFault {
    /// That of a certificate in the middle or at the root.
    #[error(
        "the CA that signed it has an RSA key of {bits} bits, and 2048 to 8192 are taken; make a new key for the CA, \
         and sign anew"
    )]
    OfSigner {
        /// How many it has.
        bits: usize,
    },
    /// That of the other end.
    #[error(
        "it has an RSA key of {bits} bits, and 2048 to 8192 are taken; make a new key, and a certificate for it"
    )]
    OfOwner {
        /// How many it has.
        bits: usize,
    },
    /// The other end has signed by another one.
    #[error("the other end has another key than that of the certificate; see that its two files are a pair")]
    NotOfCertificate,
}

/// What is said of a certificate that was shown with these others, when there are these roots.
pub(crate) fn of_chain(
    error: Error,
    own: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &[CertificateDer<'_>],
) -> Error {
    if !is_bad_signature(&error) {
        return error;
    }
    let shown = iter::once(own).chain(intermediates).filter_map(|one| parse(one).ok());
    let shown: Vec<X509Certificate<'_>> = shown.collect();
    let mut signers =
        intermediates.iter().chain(roots).filter_map(|one| parse(one).ok()).filter(|signer| {
            shown.iter().any(|signed| signed.issuer().as_raw() == signer.subject().as_raw())
        });
    match signers.find_map(|signer| unfit_bits(&signer)) {
        Some(bits) => told(KeyFault::OfSigner { bits }),
        None => error,
    }
}

/// What is said of a handshake that the owner of this certificate has signed.
pub(crate) fn of_handshake(error: Error, own: &CertificateDer<'_>) -> Error {
    if !is_bad_signature(&error) {
        return error;
    }
    match parse(own).ok().and_then(|own| unfit_bits(&own)) {
        Some(bits) => told(KeyFault::OfOwner { bits }),
        None => told(KeyFault::NotOfCertificate),
    }
}

fn is_bad_signature(error: &Error) -> bool {
    matches!(error, Error::InvalidCertificate(CertificateError::BadSignature))
}

fn told(fault: KeyFault) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(fault))))
}

/// The bits of an RSA key that has too few, or too many.
fn unfit_bits(certificate: &X509Certificate<'_>) -> Option<usize> {
    let Ok(PublicKey::RSA(key)) = certificate.public_key().parsed() else { return None };
    let zeros: usize = match key.modulus.iter().position(|byte| *byte != 0) {
        Some(bytes) => 8 * bytes + usize::try_from(key.modulus.get(bytes)?.leading_zeros()).ok()?,
        None => return None,
    };
    let bits = 8 * key.modulus.len() - zeros;
    if RSA_BITS.contains(&bits) { None } else { Some(bits) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words;

    #[test]
    fn a_handshake_that_is_signed_by_another_key() {
        let made = rcgen::generate_simple_self_signed(["db.example".to_owned()]).unwrap();
        let bad = Error::InvalidCertificate(CertificateError::BadSignature);
        let told = words::of(&of_handshake(bad, made.cert.der()));
        assert!(told.contains("see that its two files are a pair"), "{told}");
        let expired = Error::InvalidCertificate(CertificateError::Expired);
        assert_eq!(of_handshake(expired.clone(), made.cert.der()), expired);
    }
}
