//! Files in PEM.

use std::cmp::Reverse;
use std::collections::HashSet;

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_parser::der_parser::asn1_rs::FromDer as _;
use x509_parser::oid_registry::{
    OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER, OID_X509_EXT_ISSUER_DISTRIBUTION_POINT,
};
use x509_parser::revocation_list::CertificateRevocationList;

use crate::certificate::is_its_own_root;

/// Why a file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {reason}")]
pub struct FileError {
    /// Its path, or those of a certificate and its key.
    pub file: String,
    /// What is wrong.
    pub reason: String,
}

/// For a file that has nothing of what it should have, or cannot be read.
pub(crate) fn of_file(file: &str, nothing: &str, error: &pem::Error) -> FileError {
    let reason = match error {
        pem::Error::NoItemsFound => format!("{nothing} in it"),
        other => other.to_string(),
    };
    FileError { file: file.to_owned(), reason }
}

/// All certificates of a file; one at least.
pub(crate) fn certificates(file: &str) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let of_this = |error: pem::Error| of_file(file, "no certificate", &error);
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).map_err(of_this)?.collect();
    let found = found.map_err(of_this)?;
    if found.is_empty() {
        return Err(of_this(pem::Error::NoItemsFound));
    }
    Ok(found)
}

/// Whether a certificate of a file is its own root: without one, nothing that it vouches for can be verified.
///
/// # Errors
/// When the file cannot be read.
pub fn has_root(file: &str) -> Result<bool, FileError> {
    Ok(certificates(file)?.iter().any(is_its_own_root))
}

/// A revocation list of a file.
#[derive(Debug)]
pub(crate) struct RevocationList {
    pub(crate) read: CertRevocationList<'static>,
    /// When it is to be replaced, in seconds since 1970.
    pub(crate) next_update: Option<i64>,
}

/// All revocation lists of a file; one at least, as without one nothing would be looked at.
pub(crate) fn revocation_lists(file: &str) -> Result<Vec<RevocationList>, FileError> {
    let of_this = |error: pem::Error| of_file(file, "no revocation list", &error);
    let mut lists = Vec::new();
    for der in CertificateRevocationListDer::pem_file_iter(file).map_err(of_this)? {
        let der = der.map_err(of_this)?;
        let read = OwnedCertRevocationList::from_der(&der).map_err(|error| FileError {
            file: file.to_owned(),
            reason: format!("a revocation list in it cannot be read: {error}"),
        })?;
        let (scope, dates) = match CertificateRevocationList::from_der(&der) {
            Ok((_, parsed)) => (scope(&parsed), [Some(parsed.last_update()), parsed.next_update()]),
            Err(_) => (Vec::new(), [None; 2]),
        };
        let [this_update, next_update] = dates.map(|date| date.map(|date| date.timestamp()));
        lists.push((scope, this_update, RevocationList { read: read.into(), next_update }));
    }
    if lists.is_empty() {
        return Err(of_this(pem::Error::NoItemsFound));
    }
    // Of those that list the same, the newest counts, as for OpenSSL; of two from one moment, the one that was added.
    lists.reverse();
    lists.sort_by_key(|(_, this_update, _)| Reverse(*this_update));
    let mut scopes = HashSet::new();
    lists.retain(|(scope, ..)| scope.is_empty() || scopes.insert(scope.clone()));
    Ok(lists.into_iter().map(|(.., list)| list).collect())
}

/// Whose certificates a list is about, and which of them: its issuer, that one's key, and its own words.
fn scope(list: &CertificateRevocationList<'_>) -> Vec<u8> {
    let words = [OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER, OID_X509_EXT_ISSUER_DISTRIBUTION_POINT];
    let words = words.iter().map(|oid| list.extensions().iter().find(|one| one.oid == *oid));
    let mut scope = list.issuer().as_raw().to_vec();
    for word in words {
        // None has the same beginning as another: they are DER, whose length comes first.
        scope.push(u8::from(word.is_some()));
        scope.extend(word.map_or(&[][..], |word| word.value));
    }
    scope
}
