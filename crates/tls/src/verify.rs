//! Whether a server is whom it should be, by the rules of libpq.
//!
//! libpq takes certificates that webpki does not: one that is its own root (`openssl req -new -x509`, as PostgreSQL's manual
//! makes it), one of X.509 version 1 (`openssl x509 -req` without extensions), and a name that is only in the subject.
//! Source: PostgreSQL, src/interfaces/libpq/fe-secure-common.c, fe-secure-openssl.c.

use std::net::IpAddr;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use webpki::{CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, RevocationOptionsBuilder};
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::asn1_rs::{Any, FromDer as _};
use x509_parser::extensions::GeneralName;
use x509_parser::x509::X509Version;

use crate::files::RevocationList;

/// Who vouches for servers.
#[derive(Debug)]
pub(crate) struct Roots {
    pub(crate) store: RootCertStore,
    /// The same, whole: a server may have one of them for its own.
    pub(crate) certificates: Vec<CertificateDer<'static>>,
    /// What they have revoked.
    pub(crate) revoked: Vec<RevocationList>,
}

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
            self.verify_chain(roots, end_entity, intermediates, now)?;
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

impl LibpqVerifier {
    fn verify_chain(
        &self,
        roots: &Roots,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        if roots.has(end_entity) {
            return verify_time(&parse(end_entity)?, now);
        }
        let certificate = match EndEntityCert::try_from(end_entity) {
            Ok(certificate) => certificate,
            Err(_) if is_version_1(end_entity) => {
                return roots.verify_version_1(end_entity, now, &self.algorithms);
            }
            // As with an extension that has to be understood, and is not.
            Err(error) => return Err(told(error)),
        };
        let revoked: Vec<&CertRevocationList<'_>> = roots.revoked.iter().map(|list| &list.read).collect();
        // Each certificate of the chain needs a list that is in force, if there are any: OpenSSL's X509_V_FLAG_CRL_CHECK_ALL.
        let revocation = RevocationOptionsBuilder::new(&revoked)
            .ok()
            .map(|builder| builder.with_expiration_policy(ExpirationPolicy::Enforce).build());
        certificate
            .verify_for_usage(
                self.algorithms.all,
                &roots.store.roots,
                intermediates,
                now,
                KeyUsage::server_auth(),
                revocation,
                None,
            )
            .map(drop)
            .map_err(told)
    }
}

impl Roots {
    /// Those of these certificates that may sign others, for webpki. One that it does not read, or that signs no others, may
    /// still be the other end's own certificate.
    pub(crate) fn new(certificates: Vec<CertificateDer<'static>>, revoked: Vec<RevocationList>) -> Self {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(certificates.iter().filter(|root| may_sign(root)).cloned());
        Self { store, certificates, revoked }
    }

    /// Whether it is one of these.
    pub(crate) fn has(&self, certificate: &CertificateDer<'_>) -> bool {
        self.certificates.iter().any(|root| root.as_ref() == certificate.as_ref())
    }

    /// A client's certificate that is one of these. Where it says what it is for, it is for clients.
    pub(crate) fn verify_own(&self, whole: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
        let certificate = parse(whole)?;
        verify_time(&certificate, now)?;
        match certificate.extended_key_usage() {
            Ok(None) => {}
            Ok(Some(usage)) if usage.value.client_auth || usage.value.any => {}
            Ok(Some(_)) | Err(_) => return Err(Error::InvalidCertificate(CertificateError::InvalidPurpose)),
        }
        verify_status(&self.revoked, &certificate, now)
    }

    /// A certificate without extensions that a root has signed itself.
    pub(crate) fn verify_version_1(
        &self,
        whole: &CertificateDer<'_>,
        now: UnixTime,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), Error> {
        let certificate = parse(whole)?;
        verify_time(&certificate, now)?;
        verify_status(&self.revoked, &certificate, now)?;
        let mut outcome = Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        for root in self.certificates.iter().filter(|root| may_sign(root)) {
            let root = parse(root)?;
            if root.subject().as_raw() == certificate.issuer().as_raw() {
                verify_time(&root, now)?;
                outcome = verify_signature(&root, &certificate, whole, algorithms);
            }
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }
}

fn verify_signature(
    signer: &X509Certificate<'_>,
    signed: &X509Certificate<'_>,
    whole: &[u8],
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<(), Error> {
    let bad = || Error::InvalidCertificate(CertificateError::BadSignature);
    let key = signer.public_key();
    let key_algorithm = element(key.raw, 0).ok_or_else(bad)?;
    let signed_by = element(whole, 1).ok_or_else(bad)?;
    let fits = algorithms.all.iter().find(|algorithm| {
        algorithm.public_key_alg_id().as_ref() == key_algorithm
            && algorithm.signature_alg_id().as_ref() == signed_by
    });
    let Some(algorithm) = fits else { return Err(bad()) };
    algorithm
        .verify_signature(
            &key.subject_public_key.data,
            signed.tbs_certificate.as_ref(),
            &signed.signature_value.data,
        )
        .map_err(|_| bad())
}

/// Whether webpki does not read a certificate because it is of X.509 version 1.
pub(crate) fn is_version_1(certificate: &CertificateDer<'_>) -> bool {
    parse(certificate).is_ok_and(|parsed| parsed.version() == X509Version::V1)
}

/// What the other end has signed in a handshake of TLS 1.3, also by the key of a certificate that webpki does not read.
pub(crate) fn verify_13(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    if EndEntityCert::try_from(certificate).is_ok() {
        return verify_tls13_signature(message, certificate, signature, algorithms);
    }
    let parsed = parse(certificate)?;
    let key = SubjectPublicKeyInfoDer::from(parsed.public_key().raw);
    verify_tls13_signature_with_raw_key(message, &key, signature, algorithms)
}

/// The same of TLS 1.2, where a scheme does not say which curve it is: those that it stands for are tried.
pub(crate) fn verify_12(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    if EndEntityCert::try_from(certificate).is_ok() {
        return verify_tls12_signature(message, certificate, signature, algorithms);
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
    if is_valid { Ok(HandshakeSignatureValid::assertion()) } else { Err(bad()) }
}

/// The content of an element of a sequence: the algorithm is the first one of a key, and the second of a certificate.
fn element(sequence: &[u8], number: usize) -> Option<&[u8]> {
    let mut rest = Any::from_der(sequence).ok()?.1.data;
    for _before in 0..number {
        (rest, _) = Any::from_der(rest).ok()?;
    }
    Some(Any::from_der(rest).ok()?.1.data)
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
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

fn verify_time(certificate: &X509Certificate<'_>, now: UnixTime) -> Result<(), Error> {
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

/// Whether a certificate is one by which others are signed. In a file of roots there may be servers' own, too, whose keys are
/// not to make further servers. Source: OpenSSL 3, crypto/x509/v3_purp.c, `check_ca`.
pub(crate) fn may_sign(certificate: &CertificateDer<'_>) -> bool {
    let Ok(parsed) = parse(certificate) else { return false };
    match (parsed.basic_constraints(), parsed.key_usage()) {
        _ if parsed.version() == X509Version::V1 => true,
        (Ok(Some(constraints)), _) => constraints.value.ca,
        (Ok(None), Ok(Some(usage))) => usage.value.key_cert_sign(),
        (Ok(None), _) | (Err(_), _) => false,
    }
}

/// A certificate of version 1 is in no list; its issuer has one, if there are any, and it is in force.
fn verify_status(
    lists: &[RevocationList],
    certificate: &X509Certificate<'_>,
    now: UnixTime,
) -> Result<(), Error> {
    let issuer = Any::from_der(certificate.issuer().as_raw()).ok().map(|(_, issuer)| issuer.data);
    let mut of_issuer = lists.iter().filter(|list| Some(list.read.issuer()) == issuer).peekable();
    if !lists.is_empty() && of_issuer.peek().is_none() {
        return Err(Error::InvalidCertificate(CertificateError::UnknownRevocationStatus));
    }
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    for list in of_issuer {
        if !matches!(list.read.find_serial(certificate.raw_serial()), Ok(None)) {
            return Err(Error::InvalidCertificate(CertificateError::Revoked));
        }
        if list.next_update.is_none_or(|until| until <= now) {
            return Err(Error::InvalidCertificate(CertificateError::ExpiredRevocationList));
        }
    }
    Ok(())
}

fn told(error: webpki::Error) -> Error {
    let kind = match error {
        webpki::Error::CertExpired { .. } => CertificateError::Expired,
        webpki::Error::CertNotValidYet { .. } => CertificateError::NotValidYet,
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
        webpki::Error::CertRevoked => CertificateError::Revoked,
        webpki::Error::UnknownRevocationStatus => CertificateError::UnknownRevocationStatus,
        webpki::Error::CrlExpired { .. } => CertificateError::ExpiredRevocationList,
        webpki::Error::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        other => return Error::General(format!("the certificate: {other}")),
    };
    Error::InvalidCertificate(kind)
}

/// The server's name is one of the certificate's. The subject's common name counts only if the certificate has no name
/// of its own kind elsewhere.
fn verify_name(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), Error> {
    if let Ok(parsed) = EndEntityCert::try_from(certificate)
        && parsed.verify_is_valid_for_subject_name(name).is_ok()
    {
        return Ok(());
    }
    let parsed = parse(certificate)?;
    let mismatch = || Error::InvalidCertificate(CertificateError::NotValidForName);
    let names = parsed.subject_alternative_name().ok().flatten();
    let has_names = names.is_some_and(|names| {
        names
            .value
            .general_names
            .iter()
            .any(|name| matches!(name, GeneralName::DNSName(_) | GeneralName::IPAddress(_)))
    });
    if has_names {
        return Err(mismatch());
    }
    let common = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    let host = match name {
        ServerName::DnsName(host) => host.as_ref().to_owned(),
        ServerName::IpAddress(address) => IpAddr::from(*address).to_string(),
        _other => return Err(mismatch()),
    };
    if common.is_some_and(|common| is_of(common, &host)) { Ok(()) } else { Err(mismatch()) }
}

/// Whether a host has this name, which may begin with `*.` for one label.
fn is_of(name: &str, host: &str) -> bool {
    if name.eq_ignore_ascii_case(host) {
        return true;
    }
    let Some(domain) = name.strip_prefix("*.") else { return false };
    host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(domain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_stands_for_one_label() {
        assert!(is_of("db.example", "DB.example") && is_of("*.example", "db.example"));
        for (name, host) in [
            ("*.example", "a.b.example"),
            ("*.example", ".example"),
            ("*", "db"),
            ("d*.example", "db.example"),
        ] {
            assert!(!is_of(name, host), "{name} {host}");
        }
    }
}
