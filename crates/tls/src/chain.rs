//! The chain from the other end's certificate up to a root, as OpenSSL verifies it: for libpq, and for PostgreSQL.
//!
//! webpki knows a root as a name and a key alone. What else a root says of itself is held against it here.
//! Source: OpenSSL 3, crypto/x509/x509_vfy.c, `check_extensions` and `internal_verify`.

use std::cell::RefCell;
use std::sync::Arc;

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{CertificateError, Error, OtherError};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, RevocationOptionsBuilder, VerifiedPath,
};

use crate::certificate::{
    Bearer, is_version_1, parse, verify_key_usage, verify_path_length, verify_purpose, verify_time,
};
use crate::key_fault;
use crate::name_constraints::verify_common_names;
use crate::roots::Roots;
use crate::version_1::Vouchers;

/// What a certificate is verified by.
pub(crate) struct Chain<'a> {
    pub(crate) roots: &'a Roots,
    /// What the other end has sent along.
    pub(crate) sent: &'a [CertificateDer<'a>],
    /// Who the other end is.
    pub(crate) bearer: Bearer,
    pub(crate) now: UnixTime,
    pub(crate) algorithms: &'a WebPkiSupportedAlgorithms,
}

impl Chain<'_> {
    /// Whether one of the roots vouches for a certificate, or it is one of them.
    ///
    /// # Errors
    /// Which check failed.
    pub(crate) fn verify(&self, end_entity: &CertificateDer<'_>) -> Result<(), Error> {
        let between = self.roots.between(end_entity, self.sent);
        self.verify_with(end_entity, &between)
            .and_then(|()| verify_key_usage(&parse(end_entity)?, self.bearer))
            .map_err(|error| key_fault::of_chain(error, end_entity, &between, &self.roots.certificates))
    }

    fn verify_with(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), Error> {
        let &Self { roots, bearer, now, algorithms, .. } = self;
        if roots.has_self_signed(end_entity) {
            return roots.verify_own(end_entity, bearer, now);
        }
        match EndEntityCert::try_from(end_entity) {
            Ok(certificate) => match self.verify_by_webpki(&certificate, intermediates) {
                // A leaf of `openssl req -x509 -CA root.crt`. webpki takes none that says so, OpenSSL does.
                Err(error) if is_of_ca(&error) => {
                    verify_purpose(&parse(end_entity)?, bearer)?;
                    Vouchers { roots, intermediates, bearer, now, algorithms }.verify(end_entity)
                }
                outcome => outcome,
            },
            Err(_) if is_version_1(end_entity) => {
                verify_purpose(&parse(end_entity)?, bearer)?;
                Vouchers { roots, intermediates, bearer, now, algorithms }.verify(end_entity)
            }
            // As with an extension that has to be understood, and is not.
            Err(error) => Err(told(error)),
        }
    }

    fn verify_by_webpki(
        &self,
        certificate: &EndEntityCert<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), Error> {
        let revoked: Vec<&CertRevocationList<'_>> =
            self.roots.revoked.iter().map(|list| &list.read).collect();
        // Each certificate of the chain needs a list that is in force, if there are any: OpenSSL's X509_V_FLAG_CRL_CHECK_ALL.
        let revocation = RevocationOptionsBuilder::new(&revoked)
            .ok()
            .map(|builder| builder.with_expiration_policy(ExpirationPolicy::Enforce).build());
        let usage = match self.bearer {
            Bearer::Client => KeyUsage::client_auth(),
            Bearer::Server => KeyUsage::server_auth(),
        };
        let unfit = RefCell::new(None);
        // Another root of the same name may do, so that webpki goes on, by the error that says least.
        let verify_root = |path: &VerifiedPath<'_>| {
            self.verify_root(path).map_err(|error| {
                unfit.borrow_mut().get_or_insert(error);
                webpki::Error::UnknownIssuer
            })
        };
        let verified = certificate.verify_for_usage(
            self.algorithms.all,
            &self.roots.anchors,
            intermediates,
            self.now,
            usage,
            revocation,
            Some(&verify_root),
        );
        match verified {
            Ok(_) => Ok(()),
            Err(webpki::Error::UnknownIssuer) => {
                Err(unfit.take().unwrap_or_else(|| told(webpki::Error::UnknownIssuer)))
            }
            Err(error) => Err(told(error)),
        }
    }

    /// Whether one of the roots of a chain's name and key may end it.
    fn verify_root(&self, path: &VerifiedPath<'_>) -> Result<(), Error> {
        // One that is issued by its own name does not count. Source: RFC 5280, 4.2.1.9.
        let below = path.intermediate_certificates().filter(|one| one.subject() != one.issuer()).count();
        let below = u32::try_from(below).unwrap_or(u32::MAX);
        let mut outcome = Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        let end_entity = path.end_entity().der();
        let end_entity = parse(&end_entity)?;
        for between in path.intermediate_certificates() {
            verify_common_names(&end_entity, &parse(&between.der())?).map_err(told)?;
        }
        for root in self.roots.of_anchor(path.anchor()) {
            outcome = parse(root).and_then(|root| {
                verify_time(&root, self.now)?;
                verify_purpose(&root, self.bearer)?;
                verify_common_names(&end_entity, &root).map_err(told)?;
                verify_path_length(&root, below).map_err(told)
            });
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }
}

/// Whether the end's own certificate is one of a CA.
fn is_of_ca(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

fn told(error: webpki::Error) -> Error {
    use webpki::Error as Wrong;
    let kind = match error {
        // The latter ends before it begins.
        Wrong::CertExpired { .. } | Wrong::InvalidCertValidity => CertificateError::Expired,
        Wrong::CertNotValidYet { .. } => CertificateError::NotValidYet,
        Wrong::UnknownIssuer => CertificateError::UnknownIssuer,
        Wrong::CertRevoked => CertificateError::Revoked,
        Wrong::UnknownRevocationStatus => CertificateError::UnknownRevocationStatus,
        Wrong::CrlExpired { .. } => CertificateError::ExpiredRevocationList,
        Wrong::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        Wrong::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        Wrong::BadDer | Wrong::BadDerTime | Wrong::TrailingData(_) => CertificateError::BadEncoding,
        Wrong::UnsupportedSignatureAlgorithmContext(context) => {
            CertificateError::UnsupportedSignatureAlgorithmContext {
                signature_algorithm_id: context.signature_algorithm_id,
                supported_algorithms: context.supported_algorithms,
            }
        }
        Wrong::UnsupportedSignatureAlgorithmForPublicKeyContext(context) => {
            CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
                signature_algorithm_id: context.signature_algorithm_id,
                public_key_algorithm_id: context.public_key_algorithm_id,
            }
        }
        other => CertificateError::Other(OtherError(Arc::new(other))),
    };
    Error::InvalidCertificate(kind)
}
