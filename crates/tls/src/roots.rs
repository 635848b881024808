//! Who vouches for the other end of a connection, and what they have revoked.

use std::borrow::Cow;

use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use rustls::{CertificateError, Error};
use webpki::{EndEntityCert, anchor_from_trusted_cert};
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::asn1_rs::{Any, FromDer as _};

use crate::certificate::{Bearer, is_its_own_root, may_sign, parse, verify_purpose, verify_time};
use crate::files::RevocationList;

/// Who vouches for servers.
#[derive(Debug)]
pub(crate) struct Roots {
    /// Those that may end a chain, as webpki knows them.
    pub(crate) anchors: Vec<TrustAnchor<'static>>,
    /// The same, whole, in the same order.
    of_anchors: Vec<CertificateDer<'static>>,
    /// All that are in the file: a server may have one of them for its own.
    pub(crate) certificates: Vec<CertificateDer<'static>>,
    /// CAs among them that are no roots: they stand between a root and what they sign, as if they had been sent along.
    between: Vec<CertificateDer<'static>>,
    /// What they have revoked.
    pub(crate) revoked: Vec<RevocationList>,
}

impl Roots {
    /// Those of these certificates that may sign others, for webpki. One that it does not read, or that signs no others, may
    /// still be the other end's own certificate. A chain ends at a CA that is its own root, as OpenSSL has it without
    /// X509_V_FLAG_PARTIAL_CHAIN.
    pub(crate) fn new(certificates: Vec<CertificateDer<'static>>, revoked: Vec<RevocationList>) -> Self {
        let signers = certificates.iter().filter(|one| may_sign(one)).cloned();
        let (roots, mut between): (Vec<_>, Vec<_>) = signers.partition(is_its_own_root);
        // One that webpki does not read signs nobody, and would be what is told of whoever has its name as issuer.
        between.retain(|one| EndEntityCert::try_from(one).is_ok());
        let read =
            |root: CertificateDer<'static>| Some((anchor_from_trusted_cert(&root).ok()?.to_owned(), root));
        let (anchors, of_anchors) = roots.into_iter().filter_map(read).unzip();
        Self { anchors, of_anchors, certificates, between, revoked }
    }

    /// The roots of this name and key: several, where one was renewed with its key.
    pub(crate) fn of_anchor(
        &self,
        anchor: &TrustAnchor<'_>,
    ) -> impl Iterator<Item = &CertificateDer<'static>> {
        let both = self.anchors.iter().zip(&self.of_anchors);
        both.filter(move |(one, _)| *one == anchor).map(|(_, whole)| whole)
    }

    /// What the other end has sent along, and those that are here.
    pub(crate) fn with_between<'a>(
        &'a self,
        sent: &'a [CertificateDer<'a>],
    ) -> Cow<'a, [CertificateDer<'a>]> {
        if self.between.is_empty() {
            return Cow::Borrowed(sent);
        }
        let borrowed = |one: &'a CertificateDer<'_>| CertificateDer::from(one.as_ref());
        Cow::Owned(sent.iter().map(borrowed).chain(self.between.iter().map(borrowed)).collect())
    }

    /// Whether it is one of these, and its own root. OpenSSL takes none by a CA that is not here, though it is here itself.
    pub(crate) fn has_self_signed(&self, certificate: &CertificateDer<'_>) -> bool {
        self.certificates.iter().any(|root| root.as_ref() == certificate.as_ref())
            && is_its_own_root(certificate)
    }

    /// The other end's certificate, which is one of these.
    pub(crate) fn verify_own(
        &self,
        whole: &CertificateDer<'_>,
        bearer: Bearer,
        now: UnixTime,
    ) -> Result<(), Error> {
        let certificate = parse(whole)?;
        verify_time(&certificate, now)?;
        verify_purpose(&certificate, bearer)?;
        verify_status(&self.revoked, &certificate, now)
    }
}

/// A certificate is in no list; its issuer has one, if there are any, and it is in force.
pub(crate) fn verify_status(
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
