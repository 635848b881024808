//! Certificates of X.509 version 1, which webpki does not read, or of a CA as an end's own, which it does not take, and those
//! that stand between them and a root.
//!
//! PostgreSQL's manual makes such ones: `openssl x509 -req` without extensions. Whoever has signed them is of version 3, or a
//! root, and is held to all that it says of itself, as by OpenSSL.
//! Source: PostgreSQL, doc/src/sgml/runtime.sgml, "Creating Certificates"; OpenSSL 3, crypto/x509/x509_vfy.c,
//! `check_extensions`.

use std::sync::Arc;

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{CertificateError, Error, OtherError};
use webpki::EndEntityCert;
use x509_parser::certificate::X509Certificate;

use crate::certificate::{
    Bearer, is_its_own_root, may_sign, parse, verify_path_length, verify_purpose, verify_signature,
    verify_time,
};
use crate::roots::{Roots, verify_status};

/// As many stand between a certificate and its root at most. Source: rustls-webpki, src/verify_cert.rs, `MAX_SUB_CA_COUNT`.
const BETWEEN_MAX: u32 = 6;

/// As many signatures are verified for one handshake at most. Source: the same, `Budget`.
const SIGNATURES_MAX: u32 = 100;

/// Who may vouch for such a certificate.
pub(crate) struct Vouchers<'a> {
    pub(crate) roots: &'a Roots,
    /// What the other end has sent along.
    pub(crate) intermediates: &'a [CertificateDer<'a>],
    pub(crate) bearer: Bearer,
    pub(crate) now: UnixTime,
    pub(crate) algorithms: &'a WebPkiSupportedAlgorithms,
}

/// A certificate of a chain.
struct Signed<'a> {
    whole: &'a CertificateDer<'a>,
    read: X509Certificate<'a>,
}

/// The same vouchers, read.
struct Walk<'a> {
    vouchers: &'a Vouchers<'a>,
    roots: Vec<Signed<'a>>,
    between: Vec<Signed<'a>>,
}

impl Vouchers<'_> {
    /// Whether there is a chain from a certificate up to a root, and none of it is revoked.
    pub(crate) fn verify(&self, whole: &CertificateDer<'_>) -> Result<(), Error> {
        let roots = self.roots.certificates.iter().filter(|root| may_sign(root) && is_its_own_root(root));
        // One with an extension that has to be understood and is not, or of version 1, signs nobody.
        let between = self.intermediates.iter().filter(|one| EndEntityCert::try_from(*one).is_ok());
        let between = between.filter(|one| may_sign(one) && !is_its_own_root(one));
        let walk = Walk {
            vouchers: self,
            roots: roots.filter_map(Signed::of).collect(),
            between: between.filter_map(Signed::of).collect(),
        };
        let own = Signed { whole, read: parse(whole)? };
        walk.verify(&own, 0, &mut { SIGNATURES_MAX })
    }
}

impl<'a> Signed<'a> {
    fn of(whole: &'a CertificateDer<'a>) -> Option<Self> {
        Some(Self { whole, read: parse(whole).ok()? })
    }

    /// Whether it has, by the names.
    fn has_signed(&self, other: &Signed<'_>) -> bool {
        self.read.subject().as_raw() == other.read.issuer().as_raw()
    }
}

impl Walk<'_> {
    /// `below` certificates stand between this one and the end's own.
    fn verify(&self, signed: &Signed<'_>, below: u32, signatures_left: &mut u32) -> Result<(), Error> {
        let now = self.vouchers.now;
        verify_time(&signed.read, now)?;
        verify_status(&self.vouchers.roots.revoked, &signed.read, now)?;
        let mut outcome = Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        for root in self.roots.iter().filter(|root| root.has_signed(signed)) {
            outcome = verify_time(&root.read, now)
                .and_then(|()| self.verify_signed(signed, root, below, signatures_left));
            if outcome.is_ok() {
                return outcome;
            }
        }
        if below == BETWEEN_MAX {
            return outcome;
        }
        // One by the CA's former key has its own name as its issuer, and has not signed itself.
        let is_other = |signer: &&Signed<'_>| signer.whole != signed.whole;
        for signer in self.between.iter().filter(is_other).filter(|signer| signer.has_signed(signed)) {
            let found = self
                .verify_signed(signed, signer, below, signatures_left)
                .and_then(|()| self.verify(signer, below + 1, signatures_left));
            match found {
                Ok(()) => return Ok(()),
                // What is wrong with another of this name is more to the point.
                Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {}
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }

    /// Whether a certificate is signed by this one, which may do that.
    fn verify_signed(
        &self,
        signed: &Signed<'_>,
        signer: &Signed<'_>,
        below: u32,
        signatures_left: &mut u32,
    ) -> Result<(), Error> {
        let Some(left) = signatures_left.checked_sub(1) else {
            return Err(refused(webpki::Error::MaximumSignatureChecksExceeded));
        };
        *signatures_left = left;
        verify_signer(&signer.read, below).map_err(refused)?;
        verify_purpose(&signer.read, self.vouchers.bearer)?;
        verify_signature(&signer.read, &signed.read, signed.whole, self.vouchers.algorithms)
    }
}

/// Whether what a certificate says of itself lets it sign one with so many below.
fn verify_signer(signer: &X509Certificate<'_>, below: u32) -> Result<(), webpki::Error> {
    // Names are not compared here. One of version 1 has none, but may have one that looks like it.
    if !matches!(signer.name_constraints(), Ok(None)) {
        return Err(webpki::Error::NameConstraintViolation);
    }
    match signer.key_usage() {
        Ok(None) => {}
        Ok(Some(usage)) if usage.value.key_cert_sign() => {}
        Ok(Some(_)) | Err(_) => return Err(webpki::Error::EndEntityUsedAsCa),
    }
    verify_path_length(signer, below)
}

fn refused(why: webpki::Error) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
}
