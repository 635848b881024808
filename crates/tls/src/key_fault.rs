//! Why a signature does not hold, where it is the key's fault. The library of ciphers takes no RSA key that is too short, and
//! says of it what it says of a forged signature.

use std::iter;
use std::ops::RangeInclusive;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, Error, OtherError};
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::OID_PKCS1_RSASSAPSS;
use x509_parser::public_key::PublicKey;
use x509_parser::signature_algorithm::RsaSsaPssParams;
use x509_parser::x509::AlgorithmIdentifier;

use crate::certificate::{is_self_signed, parse};

/// The bits of RSA keys that are taken. Source: aws-lc-rs, src/signature.rs, `RSA_PKCS1_2048_8192_SHA256`.
const RSA_BITS: RangeInclusive<usize> = 2048..=8192;

/// Of a key. Source: RFC 4055, 1.2.
const RSASSA_PSS: &str = "1.2.840.113549.1.1.10";

/// RSA with MD2, MD5 and SHA-1, DSA and ECDSA with SHA-1. Source: RFC 8017, appendix C; RFC 3279, 2.2.2 and 2.2.3; OIW.
const WEAK_SIGNATURES: [&str; 6] = [
    "1.2.840.113549.1.1.2",
    "1.2.840.113549.1.1.4",
    "1.2.840.113549.1.1.5",
    "1.3.14.3.2.29",
    "1.2.840.10040.4.3",
    "1.2.840.10045.4.1",
];

/// Hashes that are too weak with RSASSA-PSS, too: MD5 and SHA-1. Source: RFC 8017, appendix B.1.
const WEAK_HASHES: [&str; 2] = ["1.2.840.113549.2.5", "1.3.14.3.2.26"];

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
    /// That of an end of the connection, which is of a kind that is not spoken with.
    #[error(
        "its key is for RSASSA-PSS alone, which is not spoken here; make one of ECDSA (P-256) or an RSA key for all uses, \
         and a certificate for it"
    )]
    ForPssAlone,
    /// A certificate of the proxy's own is signed in a way that nobody takes.
    #[error("it is signed in a way that is too weak, as by SHA-1; have it signed anew, by SHA-256")]
    WeakSignature,
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

/// Why the library of ciphers does not load the key of this certificate of the proxy's own: by the key, where that tells it.
pub(crate) fn of_loading(own: &CertificateDer<'_>, error: &Error) -> String {
    let Ok(own) = parse(own) else { return error.to_string() };
    if own.public_key().algorithm.algorithm.to_id_string() == RSASSA_PSS {
        return KeyFault::ForPssAlone.to_string();
    }
    unfit_bits(&own).map_or_else(|| error.to_string(), |bits| KeyFault::OfOwner { bits }.to_string())
}

/// What would have the other end refuse a chain of the proxy's own, and OpenSSL load none like it: who signed one of them has
/// used a hash that is broken. How one is signed that is its own root means nothing.
/// Source: OpenSSL 3, ssl/t1_lib.c, `ssl_security_cert_sig`.
pub(crate) fn of_chain_of_own(chain: &[CertificateDer<'_>]) -> Option<KeyFault> {
    let is_weak =
        |one: &X509Certificate<'_>| !is_self_signed(one) && is_weak_signature(&one.signature_algorithm);
    chain.iter().filter_map(|one| parse(one).ok()).any(|one| is_weak(&one)).then_some(KeyFault::WeakSignature)
}

fn is_weak_signature(algorithm: &AlgorithmIdentifier<'_>) -> bool {
    // Of others the parameters mean nothing, and of this one say the hash: SHA-1 where they do not. Source: RFC 4055, 3.1.
    if algorithm.algorithm == OID_PKCS1_RSASSAPSS {
        let parameters = algorithm.parameters.as_ref().map(RsaSsaPssParams::try_from);
        let Some(Ok(parameters)) = parameters else {
            return false;
        };
        return WEAK_HASHES.contains(&parameters.hash_algorithm_oid().to_id_string().as_str());
    }
    WEAK_SIGNATURES.contains(&algorithm.algorithm.to_id_string().as_str())
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
