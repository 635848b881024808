//! Files in PEM.

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use webpki::OwnedCertRevocationList;

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

/// A revocation list as it was in a file, and read.
pub(crate) struct RevocationList {
    pub(crate) der: CertificateRevocationListDer<'static>,
    pub(crate) read: OwnedCertRevocationList,
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
        lists.push(RevocationList { der, read });
    }
    if lists.is_empty() {
        return Err(of_this(pem::Error::NoItemsFound));
    }
    Ok(lists)
}
