//! A name that is asked for, as it is written: `db.example.com:5432`, or `_postgresql._tcp.example.com` for SRV records.

use std::fmt;
use std::net::IpAddr;

use hickory_resolver::proto::rr::Name;

/// Port of a name that has none written.
const DEFAULT_PORT: u16 = 5432;

/// Longest name, in bytes. Source: RFC 1035, section 2.3.4, less the length bytes of root and first label.
const NAME_BYTES_MAX: usize = 253;

/// A name that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsName {
    /// A and AAAA records: each address is a server on `port`.
    Host {
        /// The name.
        name: String,
        /// The port that DNS does not say.
        port: u16,
    },
    /// SRV records, which say hosts, ports and weights.
    Service(String),
}

/// Why a name cannot be asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsNameError {
    /// It is no name.
    #[error("{0:?} is not a DNS name")]
    NoName(String),
    /// It is an address, for which nobody needs to be asked.
    #[error("{0:?} is an address, not a name: write it as a [[server]]")]
    Address(String),
    /// Its port is none.
    #[error("{0:?} has no valid port (1 to 65535)")]
    Port(String),
    /// It has a port, and its records say another.
    #[error("{0:?} has a port: SRV records say the ports themselves")]
    PortOfService(String),
}

impl DnsName {
    /// Reads a name; one that begins with `_` is asked for SRV records, as in RFC 2782.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, DnsNameError> {
        let text = text.trim();
        if text.starts_with('[') || text.parse::<IpAddr>().is_ok() {
            return Err(DnsNameError::Address(text.to_owned()));
        }
        let (name, port) = text.rsplit_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
        if name.starts_with('_') {
            return match port {
                Some(_) => Err(DnsNameError::PortOfService(text.to_owned())),
                None => check(name).map(|()| DnsName::Service(name.to_owned())),
            };
        }
        let port = match port {
            None => DEFAULT_PORT,
            Some(port) => match port.parse() {
                Ok(port) if port != 0 => port,
                Ok(_) | Err(_) => return Err(DnsNameError::Port(text.to_owned())),
            },
        };
        if name.parse::<IpAddr>().is_ok() {
            return Err(DnsNameError::Address(text.to_owned()));
        }
        check(name)?;
        Ok(DnsName::Host { name: name.to_owned(), port })
    }

    /// The name alone.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            DnsName::Host { name, .. } | DnsName::Service(name) => name,
        }
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DnsName::Host { name, port } => write!(f, "{name}:{port}"),
            DnsName::Service(name) => f.write_str(name),
        }
    }
}

/// Whether it is a name of letters, digits, `-`, `_` and points.
fn check(name: &str) -> Result<(), DnsNameError> {
    let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    let is_short = name.trim_end_matches('.').len() <= NAME_BYTES_MAX && !name.is_empty() && name != ".";
    match Name::from_ascii(name) {
        Ok(_) if is_plain && is_short => Ok(()),
        Ok(_) | Err(_) => Err(DnsNameError::NoName(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_port_and_a_service_has_none() {
        let host = |name: &str, port| Ok(DnsName::Host { name: name.to_owned(), port });
        assert_eq!(DnsName::parse("db.example.com:6432"), host("db.example.com", 6432));
        assert_eq!(DnsName::parse(" db "), host("db", 5432));
        assert_eq!(
            DnsName::parse("_postgresql._tcp.example.com"),
            Ok(DnsName::Service("_postgresql._tcp.example.com".to_owned()))
        );
        let parse = |text: &str| DnsName::parse(text).expect_err("no name").to_string();
        assert!(parse("_postgresql._tcp.example.com:5432").contains("say the ports themselves"));
        assert!(parse("db:0").contains("no valid port"));
        assert!(parse("db:port").contains("no valid port"));
        for address in ["10.0.0.1", "10.0.0.1:5432", "[::1]:5432", "::1"] {
            assert!(parse(address).contains("[[server]]"), "{address}");
        }
        for wrong in ["", ".", "a..b", "a b", "d\u{e9}", "a/b", &"a.".repeat(200)] {
            assert!(parse(wrong).contains("is not a DNS name"), "{wrong}");
        }
    }
}
