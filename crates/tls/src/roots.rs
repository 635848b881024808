//! Who vouches for the other end of a connection, and what they have revoked.

use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use rustls::{CertificateError, Error};
use webpki::{EndEntityCert, anchor_from_trusted_cert};
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::asn1_rs::{Any, FromDer as _};

use crate::certificate::{Bearer, is_its_own_root, may_sign, parse, verify_purpose, verify_time};
use crate::files::RevocationList;

/// Of the CAs that the other end has sent along, so many are looked at: one more than can be in a chain, since there are those
/// that two roots have signed.
const SENT_MAX: usize = 7;

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

    /// Those that may stand between this certificate and a root, by their names, the nearest first: of what the other end has
    /// sent along [`SENT_MAX`], and those that are here. webpki tries all ways through them, and looks at no signature before it
    /// has found a root.
    pub(crate) fn between<'a>(
        &'a self,
        end_entity: &'a CertificateDer<'_>,
        sent: &'a [CertificateDer<'_>],
    ) -> Vec<CertificateDer<'a>> {
        let Some(end_entity) = ChainLink::of(end_entity) else { return Vec::new() };
        let mut sent: Vec<_> = sent.iter().filter_map(ChainLink::of).collect();
        let mut own: Vec<_> = self.between.iter().filter_map(ChainLink::of).collect();
        let (mut issuers, mut looked_at) = (vec![end_entity.issuer], 0);
        let (mut found, mut sent_left) = (Vec::new(), SENT_MAX);
        while let Some(&issuer) = issuers.get(looked_at) {
            looked_at += 1;
            let mut signers = ChainLink::take(&mut sent, issuer, sent_left);
            sent_left -= signers.len();
            signers.extend(ChainLink::take(&mut own, issuer, usize::MAX));
            for signer in signers {
                if !issuers.contains(&signer.issuer) {
                    issuers.push(signer.issuer);
                }
                found.push(CertificateDer::from(signer.whole));
            }
        }
        found
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

/// A certificate and the names by which it is in a chain.
struct ChainLink<'a> {
    whole: &'a [u8],
    subject: &'a [u8],
    issuer: &'a [u8],
}

impl<'a> ChainLink<'a> {
    fn of(whole: &'a CertificateDer<'_>) -> Option<Self> {
        let read = parse(whole).ok()?.tbs_certificate;
        Some(Self { whole, subject: read.subject.as_raw(), issuer: read.issuer.as_raw() })
    }

    /// Takes out those of this subject, and returns the first of them.
    fn take(all: &mut Vec<Self>, subject: &[u8], most: usize) -> Vec<Self> {
        let (mut of_subject, others): (Vec<_>, Vec<_>) =
            std::mem::take(all).into_iter().partition(|one| one.subject == subject);
        *all = others;
        of_subject.truncate(most);
        of_subject
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

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, Issuer, KeyPair};

    use super::*;

    fn certificate(subject: &str, issuer: &str) -> CertificateDer<'static> {
        let named = |name: &str| {
            let mut parameters = CertificateParams::default();
            parameters.distinguished_name = DistinguishedName::new();
            parameters.distinguished_name.push(DnType::CommonName, name);
            parameters
        };
        let [key, of_issuer] = [(); 2].map(|()| KeyPair::generate().expect("keys can be made"));
        let signed = named(subject).signed_by(&key, &Issuer::new(named(issuer), of_issuer));
        signed.expect("it can be signed").der().clone()
    }

    #[test]
    fn of_what_is_sent_only_what_may_be_in_the_chain_is_looked_at_and_not_much_of_it() {
        let roots = Roots::new(Vec::new(), Vec::new());
        let end_entity = certificate("end", "one");
        let [one, two] = [certificate("one", "two"), certificate("two", "root")];
        let strangers: Vec<_> = (0..20).map(|at| certificate(&format!("stranger {at}"), "root")).collect();
        let sent = [strangers, vec![two.clone(), one.clone()]].concat();
        assert_eq!(roots.between(&end_entity, &sent), [one.clone(), two]);
        // Ways through these would be 20 of the first length, 380 of the second and so on.
        let circle: Vec<_> = (0..20).map(|_| certificate("one", "one")).collect();
        assert_eq!(roots.between(&end_entity, &circle), circle[..SENT_MAX]);
    }
}
