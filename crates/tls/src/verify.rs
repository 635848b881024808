//! Whether a server is whom it should be, by the rules of libpq.
//!
//! libpq takes certificates that webpki does not: one that is its own root (`openssl req -new -x509`, as PostgreSQL's manual
//! makes it), one of X.509 version 1 (`openssl x509 -req` without extensions), and a name that is only in the subject.
//! Source: PostgreSQL, src/interfaces/libpq/fe-secure-common.c, fe-secure-openssl.c.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use webpki::EndEntityCert;

use crate::certificate::{Bearer, element, parse};
use crate::chain::Chain;
use crate::key_fault;
use crate::names::verify_name;
use crate::roots::Roots;

/// The checks of one `sslmode`.
#[derive(Debug)]
pub(crate) struct LibpqVerifier {
    /// `None`: whoever answers is believed, as by `sslmode=require` without a root.
    pub(crate) roots: Option<Roots>,
    /// `verify-full`.
    pub(crate) checks_name: bool,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for LibpqVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            let (bearer, algorithms) = (Bearer::Server, &self.algorithms);
            Chain { roots, sent: intermediates, bearer, now, algorithms }.verify(end_entity)?;
            if self.checks_name {
                verify_name(end_entity, server_name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_12(message, cert, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_13(message, cert, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What the other end has signed in a handshake of TLS 1.3, also by the key of a certificate that webpki does not read.
pub(crate) fn verify_13(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    if EndEntityCert::try_from(certificate).is_ok() {
        return verify_tls13_signature(message, certificate, signature, algorithms)
            .map_err(|error| key_fault::of_handshake(error, certificate));
    }
    let parsed = parse(certificate)?;
    let key = SubjectPublicKeyInfoDer::from(parsed.public_key().raw);
    verify_tls13_signature_with_raw_key(message, &key, signature, algorithms)
        .map_err(|error| key_fault::of_handshake(error, certificate))
}

/// The same of TLS 1.2, where a scheme does not say which curve it is: those that it stands for are tried.
pub(crate) fn verify_12(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    if EndEntityCert::try_from(certificate).is_ok() {
        return verify_tls12_signature(message, certificate, signature, algorithms)
            .map_err(|error| key_fault::of_handshake(error, certificate));
    }
    let bad = || Error::InvalidCertificate(CertificateError::BadSignature);
    let parsed = parse(certificate)?;
    let key = parsed.public_key();
    let key_algorithm = element(key.raw, 0).ok_or_else(bad)?;
    let of_scheme = algorithms.mapping.iter().find(|(scheme, _)| *scheme == signature.scheme);
    let mut fitting = of_scheme
        .map(|(_, all)| *all)
        .unwrap_or_default()
        .iter()
        .filter(|algorithm| algorithm.public_key_alg_id().as_ref() == key_algorithm);
    let is_valid = fitting.any(|algorithm| {
        algorithm.verify_signature(&key.subject_public_key.data, message, signature.signature()).is_ok()
    });
    if is_valid {
        Ok(HandshakeSignatureValid::assertion())
    } else {
        Err(key_fault::of_handshake(bad(), certificate))
    }
}
