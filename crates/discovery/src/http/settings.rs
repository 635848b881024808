//! TLS and credentials of an API.

use std::fmt;
use std::path::PathBuf;

use trunkline_tls::connect::{ConnectSettings, SYSTEM, ServerSslMode};
use zeroize::Zeroizing;

/// How an API is spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpSettings {
    /// For URLs of https.
    pub tls: HttpTls,
    /// What shows who asks.
    pub credentials: HttpCredentials,
}

/// TLS to an API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpTls {
    /// PEM: who vouches for the server. `None`: those that this machine trusts.
    pub ca_file: Option<String>,
    /// PEM: the proxy's own certificate.
    pub cert_file: Option<String>,
    /// PEM: its key.
    pub key_file: Option<String>,
    /// What is checked of the server's.
    pub check: CertificateCheck,
}

/// What is checked of a server's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CertificateCheck {
    /// A root vouches for it, and for the name in the URL.
    #[default]
    Full,
    /// A root of `ca_file` vouches for it.
    Chain,
    /// Nothing: anybody between here and there can say which servers there are.
    Nothing,
}

/// What shows who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HttpCredentials {
    /// Nothing.
    #[default]
    Nothing,
    /// A user and a password. Source: RFC 7617.
    Basic {
        /// The user; no colon may be in it.
        username: String,
        /// The password.
        password: SecretFrom,
    },
    /// A token. Source: RFC 6750.
    Bearer(SecretFrom),
}

/// A secret, or where it is.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretFrom {
    /// Itself.
    Text(Zeroizing<String>),
    /// A file, which is read again for each request, because tokens rotate; white space at its end does not count.
    File(PathBuf),
}

impl fmt::Debug for SecretFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(..)"),
            Self::File(file) => f.debug_tuple("File").field(file).finish(),
        }
    }
}

impl HttpTls {
    /// The same in libpq's words.
    pub(crate) fn connect_settings(&self) -> ConnectSettings {
        let sslmode = match self.check {
            CertificateCheck::Full => ServerSslMode::VerifyFull,
            CertificateCheck::Chain => ServerSslMode::VerifyCa,
            CertificateCheck::Nothing => ServerSslMode::Require,
        };
        let roots = || self.ca_file.clone().unwrap_or_else(|| SYSTEM.to_owned());
        ConnectSettings {
            sslmode,
            sslrootcert: (self.check != CertificateCheck::Nothing).then(roots),
            sslcert: self.cert_file.clone(),
            sslkey: self.key_file.clone(),
            ..ConnectSettings::default()
        }
    }
}
