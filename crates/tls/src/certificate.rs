//! What is read in a certificate, also in one that webpki does not read.

use std::sync::Arc;

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{CertificateError, Error, OtherError};
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::asn1_rs::{Any, FromDer as _};
use x509_parser::extensions::ParsedExtension;
use x509_parser::x509::X509Version;

/// The content of an element of a sequence: the algorithm is the first one of a key, and the second of a certificate.
pub(crate) fn element(sequence: &[u8], number: usize) -> Option<&[u8]> {
    let mut rest = Any::from_der(sequence).ok()?.1.data;
    for _before in 0..number {
        (rest, _) = Any::from_der(rest).ok()?;
    }
    Some(Any::from_der(rest).ok()?.1.data)
}

pub(crate) fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    match X509Certificate::from_der(certificate) {
        Ok((_, parsed)) => Ok(parsed),
        Err(_) => Err(Error::InvalidCertificate(CertificateError::BadEncoding)),
    }
}

/// The public key of a certificate, as SubjectPublicKeyInfo.
pub(crate) fn public_key(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, Error> {
    parse(certificate).map(|parsed| parsed.public_key().raw.to_vec())
}

/// When a certificate expires, in seconds since 1970.
pub(crate) fn expiry(certificate: &CertificateDer<'_>) -> Result<i64, Error> {
    parse(certificate).map(|parsed| parsed.validity().not_after.timestamp())
}

pub(crate) fn verify_time(certificate: &X509Certificate<'_>, now: UnixTime) -> Result<(), Error> {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = certificate.validity();
    if now < validity.not_before.timestamp() {
        return Err(Error::InvalidCertificate(CertificateError::NotValidYet));
    }
    if now > validity.not_after.timestamp() {
        return Err(Error::InvalidCertificate(CertificateError::Expired));
    }
    Ok(())
}

/// Whose a certificate is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bearer {
    Client,
    Server,
}

/// Where a certificate of an end, or of a CA of it, says what it is for, it is for this one's. That it is for anything
/// (anyExtendedKeyUsage) is not enough. Source: OpenSSL 3, crypto/x509/v3_purp.c, `xku_reject`.
pub(crate) fn verify_purpose(certificate: &X509Certificate<'_>, bearer: Bearer) -> Result<(), Error> {
    let is_for = match certificate.extended_key_usage() {
        Ok(None) => true,
        Ok(Some(usage)) => match bearer {
            Bearer::Client => usage.value.client_auth,
            Bearer::Server => usage.value.server_auth,
        },
        Err(_) => false,
    };
    if is_for { Ok(()) } else { Err(Error::InvalidCertificate(CertificateError::InvalidPurpose)) }
}

/// The key of a certificate is not for TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "its key is for something else (keyUsage); one of a server needs digitalSignature there, keyEncipherment or \
     keyAgreement, and one of a client digitalSignature or keyAgreement"
)]
pub(crate) struct UnfitKeyUsage;

/// Where an end's own certificate says what its key is for, it is for TLS.
/// Source: OpenSSL 3, crypto/x509/v3_purp.c, `check_purpose_ssl_client` and `check_purpose_ssl_server`.
pub(crate) fn verify_key_usage(certificate: &X509Certificate<'_>, bearer: Bearer) -> Result<(), Error> {
    let is_for = match certificate.key_usage() {
        Ok(None) => true,
        Ok(Some(usage)) => {
            let is_for_both = usage.value.digital_signature() || usage.value.key_agreement();
            match bearer {
                Bearer::Client => is_for_both,
                Bearer::Server => is_for_both || usage.value.key_encipherment(),
            }
        }
        Err(_) => false,
    };
    let unfit = || Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(UnfitKeyUsage))));
    if is_for { Ok(()) } else { Err(unfit()) }
}

/// Whether a certificate is one by which others are signed. In a file of roots there may be servers' own, too, whose keys are
/// not to make further servers. Source: OpenSSL 3, crypto/x509/v3_purp.c, `check_ca`.
pub(crate) fn may_sign(certificate: &CertificateDer<'_>) -> bool {
    let Ok(parsed) = parse(certificate) else { return false };
    match (parsed.basic_constraints(), parsed.key_usage()) {
        (_, Ok(Some(usage))) if !usage.value.key_cert_sign() => false,
        _ if parsed.version() == X509Version::V1 => true,
        (Ok(Some(constraints)), _) => constraints.value.ca,
        // It is for that by its keyUsage alone.
        (Ok(None), Ok(Some(_))) => true,
        (Ok(None), _) | (Err(_), _) => false,
    }
}

/// Whether a CA allows so many between it and the end's own certificate.
pub(crate) fn verify_path_length(signer: &X509Certificate<'_>, below: u32) -> Result<(), webpki::Error> {
    let constraints = signer.basic_constraints().ok().flatten();
    match constraints.and_then(|constraints| constraints.value.path_len_constraint) {
        Some(most) if below > most => Err(webpki::Error::PathLenConstraintViolated),
        Some(_) | None => Ok(()),
    }
}

/// Whether a certificate names itself as who has signed it.
pub(crate) fn is_its_own_root(certificate: &CertificateDer<'_>) -> bool {
    parse(certificate).is_ok_and(|parsed| is_self_signed(&parsed))
}

/// The same of one that is read. One by the key before is not, which a CA makes when it changes its key: it has the names of
/// one that is, and says who has signed it. Source: OpenSSL 3, crypto/x509/v3_purp.c, `EXFLAG_SS` and `X509_check_akid`.
pub(crate) fn is_self_signed(certificate: &X509Certificate<'_>) -> bool {
    if certificate.subject().as_raw() != certificate.issuer().as_raw() {
        return false;
    }
    let own = certificate.extensions().iter().find_map(|one| match one.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(own) => Some(own),
        _ => None,
    });
    let signer = certificate.extensions().iter().find_map(|one| match one.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(signer) => Some(signer),
        _ => None,
    });
    let Some(signer) = signer else { return true };
    let by_other_key = own.zip(signer.key_identifier.as_ref()).is_some_and(|(own, signer)| own.0 != signer.0);
    let by_other_number =
        signer.authority_cert_serial.is_some_and(|number| number != certificate.raw_serial());
    !by_other_key && !by_other_number
}

/// Whether webpki does not read a certificate because it is of X.509 version 1.
pub(crate) fn is_version_1(certificate: &CertificateDer<'_>) -> bool {
    parse(certificate).is_ok_and(|parsed| parsed.version() == X509Version::V1)
}

pub(crate) fn verify_signature(
    signer: &X509Certificate<'_>,
    signed: &X509Certificate<'_>,
    whole: &[u8],
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<(), Error> {
    let bad = || Error::InvalidCertificate(CertificateError::BadSignature);
    let key = signer.public_key();
    let key_algorithm = element(key.raw, 0).ok_or_else(bad)?;
    let signed_by = element(whole, 1).ok_or_else(bad)?;
    let mut of_kind = algorithms
        .all
        .iter()
        .filter(|algorithm| algorithm.signature_alg_id().as_ref() == signed_by)
        .peekable();
    let signature_algorithm_id = signed_by.to_vec();
    if of_kind.peek().is_none() {
        let supported_algorithms =
            algorithms.all.iter().map(|algorithm| algorithm.signature_alg_id()).collect();
        return Err(Error::InvalidCertificate(CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id,
            supported_algorithms,
        }));
    }
    let Some(algorithm) = of_kind.find(|algorithm| algorithm.public_key_alg_id().as_ref() == key_algorithm)
    else {
        return Err(Error::InvalidCertificate(
            CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
                signature_algorithm_id,
                public_key_algorithm_id: key_algorithm.to_vec(),
            },
        ));
    };
    algorithm
        .verify_signature(
            &key.subject_public_key.data,
            signed.tbs_certificate.as_ref(),
            &signed.signature_value.data,
        )
        .map_err(|_| bad())
}
