//! Whether a client's certificate is by one of the roots, or is one of them. Also one of X.509 version 1: PostgreSQL's manual
//! makes such ones (`openssl x509 -req` without extensions), and PostgreSQL takes them.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use crate::certificate::{Bearer, is_version_1};
use crate::key_fault;
use crate::roots::Roots;
use crate::verify::{verify_12, verify_13};
use crate::version_1::Vouchers;

/// Whether a client must have a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presenting {
    Optional,
    Demanded,
}

/// The checks of a listener.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    /// Of all certificates that rustls reads. `None`: no root may sign others.
    pub(crate) usual: Option<Arc<dyn ClientCertVerifier>>,
    /// The same roots and lists, for the others.
    pub(crate) roots: Roots,
    /// The roots' names: what clients choose a certificate by.
    pub(crate) hints: Vec<DistinguishedName>,
    pub(crate) presenting: Presenting,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for ClientVerifier {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        self.presenting == Presenting::Demanded
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify_chain(end_entity, intermediates, now)
            .map_err(|error| key_fault::of_chain(error, end_entity, intermediates, &self.roots.certificates))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_12(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_13(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientVerifier {
    fn verify_chain(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let between = self.roots.with_between(intermediates);
        let intermediates = &*between;
        if self.roots.has_self_signed(end_entity) {
            self.roots.verify_own(end_entity, Bearer::Client, now)?;
        } else if is_version_1(end_entity) {
            let (bearer, algorithms) = (Bearer::Client, &self.algorithms);
            Vouchers { roots: &self.roots, intermediates, bearer, now, algorithms }.verify(end_entity)?;
        } else {
            let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
            return self.usual.as_ref().ok_or(unknown)?.verify_client_cert(end_entity, intermediates, now);
        }
        Ok(ClientCertVerified::assertion())
    }
}
