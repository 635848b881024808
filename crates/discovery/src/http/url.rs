//! The URL of an API.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use hyper::Uri;

use crate::check::{SocketHosts, host_of};

/// Longest URL, in bytes.
const URL_MAX: usize = 2000;

/// Whether HTTP is spoken over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpScheme {
    /// Without.
    Http,
    /// By TLS.
    Https,
}

/// Where an API is: what requests have in common, such as `https://10.0.0.11:8008`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl {
    scheme: HttpScheme,
    /// A name, or an address without brackets.
    host: String,
    port: u16,
    /// In front of every path; without a slash at its end.
    prefix: String,
}

/// Why a text is no URL of an API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It is no URL at all.
    #[error("{0:?} is no URL")]
    Garbled(String),
    /// Only these are spoken.
    #[error("{0:?} is no URL of http or https")]
    Scheme(String),
    /// It has a password in it, which logs would show.
    #[error("the URL has credentials in it: write them as username and password")]
    Credentials,
    /// It has something after the path.
    #[error("{0:?} has a query, which a URL of an API does not have")]
    Query(String),
}

impl HttpUrl {
    /// Of a host and a port.
    ///
    /// # Errors
    /// When it is no host.
    pub fn new(scheme: HttpScheme, host: &str, port: u16) -> Result<Self, UrlError> {
        let host = host_of(host, SocketHosts::Refused).ok_or_else(|| UrlError::Garbled(host.to_owned()))?;
        Ok(Self { scheme, host, port, prefix: String::new() })
    }

    /// Whether TLS is spoken.
    #[must_use]
    pub fn scheme(&self) -> HttpScheme {
        self.scheme
    }

    /// A name, or an address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path of a request, where `path` begins with a slash.
    pub(crate) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// The value of the header Host.
    pub(crate) fn authority(&self) -> String {
        match self.host.parse() {
            Ok(IpAddr::V6(ip)) => format!("[{ip}]:{}", self.port),
            _ => format!("{}:{}", self.host, self.port),
        }
    }
}

impl FromStr for HttpUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let garbled = || UrlError::Garbled(text.chars().take(URL_MAX).collect());
        if text.len() > URL_MAX {
            return Err(garbled());
        }
        // First, for what it shows: nothing of it may be in an error.
        if text.split_once("://").is_some_and(|(_, rest)| {
            rest.split(['/', '?']).next().is_some_and(|authority| authority.contains('@'))
        }) {
            return Err(UrlError::Credentials);
        }
        let uri: Uri = text.parse().map_err(|_| garbled())?;
        let (scheme, usual_port) = match uri.scheme_str() {
            Some("http") => (HttpScheme::Http, 80),
            Some("https") => (HttpScheme::Https, 443),
            _ => return Err(UrlError::Scheme(text.to_owned())),
        };
        if uri.query().is_some() || text.contains('#') {
            return Err(UrlError::Query(text.to_owned()));
        }
        let authority = uri.authority().ok_or_else(garbled)?;
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => usual_port,
            Some(port) => port.strip_prefix(':').and_then(|port| port.parse().ok()).ok_or_else(garbled)?,
            None => return Err(garbled()),
        };
        if port == 0 {
            return Err(garbled());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let url = Self::new(scheme, host, port).map_err(|_| garbled())?;
        Ok(Self { prefix: uri.path().trim_end_matches('/').to_owned(), ..url })
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            HttpScheme::Http => "http",
            HttpScheme::Https => "https",
        };
        write!(f, "{scheme}://{}{}", self.authority(), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_scheme_a_host_a_port_and_a_prefix() {
        for (text, shown, path) in [
            ("http://db1:8008", "http://db1:8008", "/cluster"),
            ("http://db1:8008/", "http://db1:8008", "/cluster"),
            ("https://DB1", "https://db1:443", "/cluster"),
            ("http://[::1]:8008/a/b/", "http://[::1]:8008/a/b", "/a/b/cluster"),
        ] {
            let url: HttpUrl = text.parse().unwrap();
            assert_eq!((url.to_string().as_str(), url.path("/cluster").as_str()), (shown, path), "{text}");
        }
    }

    #[test]
    fn what_is_no_url_of_an_api_is_refused() {
        for text in [
            "",
            "db1:8008",
            "ftp://db1",
            "http://",
            "http://db1:0",
            "http://db1:65536",
            "http://db1:x",
            "http://a b",
            "http://db1/?a=b",
            "/cluster",
        ] {
            assert!(text.parse::<HttpUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_refused_and_not_repeated() {
        for text in ["http://u:geheim@db1", "http://u:geheim@db1:port/", "https://geheim@"] {
            let error = text.parse::<HttpUrl>().unwrap_err();
            assert_eq!(error, UrlError::Credentials, "{text}");
            assert!(!error.to_string().contains("geheim"));
        }
    }
}
