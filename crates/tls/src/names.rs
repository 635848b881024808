//! Whether a server has the name that it is connected to by, by the rules of libpq.
//!
//! The common name of the subject counts where the certificate has no other name of the host's own kind; a host that is an
//! address may also stand in it as text, as it may in a dNSName.
//! Source: PostgreSQL 18, src/interfaces/libpq/fe-secure-openssl.c, `pgtls_verify_peer_name_matches_certificate_guts`;
//! fe-secure-common.c, `wildcard_certificate_match`.

use std::net::IpAddr;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, Error};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use crate::certificate::parse;

/// The tags of a dNSName and an iPAddress. Source: RFC 5280, 4.2.1.6, `GeneralName`.
const DNS_NAME: u32 = 2;
const IP_ADDRESS: u32 = 7;

/// Whom a connection is for.
struct Host {
    text: String,
    /// If it is an address.
    address: Option<IpAddr>,
}

/// The server's name is one of the certificate's.
pub(crate) fn verify_name(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), Error> {
    let mismatch = || Error::InvalidCertificate(CertificateError::NotValidForName);
    let host = Host::of(name).ok_or_else(mismatch)?;
    if host.has(&parse(certificate)?) { Ok(()) } else { Err(mismatch()) }
}

impl Host {
    fn of(name: &ServerName<'_>) -> Option<Self> {
        match name {
            // The dot of an absolute name is no part of it.
            ServerName::DnsName(host) => {
                let host = host.as_ref();
                Some(Self { text: host.strip_suffix('.').unwrap_or(host).to_owned(), address: None })
            }
            ServerName::IpAddress(address) => {
                let address = IpAddr::from(*address);
                Some(Self { text: address.to_string(), address: Some(address) })
            }
            _other => None,
        }
    }

    fn has(&self, certificate: &X509Certificate<'_>) -> bool {
        let names = match certificate.subject_alternative_name() {
            Ok(Some(names)) => names.value.general_names.as_slice(),
            Ok(None) => &[],
            // What it is for cannot be read: its common name may not be all of it.
            Err(_) => return false,
        };
        if names.iter().any(|name| self.is(name)) {
            return true;
        }
        if names.iter().any(|name| self.is_of_kind(name)) {
            return false;
        }
        let common = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        common.is_some_and(|common| is_of(common, &self.text))
    }

    fn is(&self, name: &GeneralName<'_>) -> bool {
        match (name, self.address) {
            (GeneralName::DNSName(name), _) => is_of(name, &self.text),
            (GeneralName::IPAddress(octets), Some(IpAddr::V4(address))) => *octets == address.octets(),
            (GeneralName::IPAddress(octets), Some(IpAddr::V6(address))) => *octets == address.octets(),
            _other => false,
        }
    }

    /// Whether a name is of the host's kind, be it readable or not.
    fn is_of_kind(&self, name: &GeneralName<'_>) -> bool {
        let kind = if self.address.is_some() { IP_ADDRESS } else { DNS_NAME };
        match name {
            GeneralName::DNSName(_) => kind == DNS_NAME,
            GeneralName::IPAddress(_) => kind == IP_ADDRESS,
            GeneralName::Invalid(tag, _) => kind == tag.0,
            _other => false,
        }
    }
}

/// Whether a host has this name, which may begin with `*.` for one label.
fn is_of(name: &str, host: &str) -> bool {
    if name.eq_ignore_ascii_case(host) {
        return true;
    }
    let Some(domain) = name.strip_prefix("*.").filter(|domain| !domain.is_empty()) else { return false };
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
            ("*.", "db."),
            ("d*.example", "db.example"),
        ] {
            assert!(!is_of(name, host), "{name} {host}");
        }
    }
}
