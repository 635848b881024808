//! Whether a server has the name that it is connected to by, by the rules of libpq.

use std::net::IpAddr;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, Error};
use webpki::EndEntityCert;
use x509_parser::extensions::GeneralName;

use crate::certificate::parse;

/// The server's name is one of the certificate's. The subject's common name counts only if the certificate has no name
/// of its own kind elsewhere.
pub(crate) fn verify_name(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), Error> {
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
