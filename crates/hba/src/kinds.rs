//! The words of a rule: kinds of connections, methods, options.

/// By what a client proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HbaMethod {
    /// By nothing.
    Trust,
    /// It cannot.
    Reject,
    /// By a password: SCRAM-SHA-256, or md5 where such a hash is stored.
    Md5,
    /// By a password, with SCRAM-SHA-256 alone.
    ScramSha256,
    /// By a password in the clear.
    Password,
    /// By a certificate.
    Cert,
    /// By the user of this machine that it runs as.
    Peer,
    /// The proxy's own: the server's exchange is passed through.
    Relay,
    /// The proxy's own: by a password that a server takes.
    Login,
}

/// The words of the methods.
pub(crate) const METHODS: &[(&str, HbaMethod)] = &[
    ("trust", HbaMethod::Trust),
    ("reject", HbaMethod::Reject),
    ("md5", HbaMethod::Md5),
    ("scram-sha-256", HbaMethod::ScramSha256),
    ("password", HbaMethod::Password),
    ("cert", HbaMethod::Cert),
    ("peer", HbaMethod::Peer),
    ("relay", HbaMethod::Relay),
    ("login", HbaMethod::Login),
];

/// PostgreSQL's other methods.
pub(crate) const METHODS_OF_SERVERS: &[&str] =
    &["ident", "gss", "sspi", "pam", "bsd", "ldap", "radius", "oauth"];

impl HbaMethod {
    /// Its word in the file.
    #[must_use]
    pub fn word(self) -> &'static str {
        METHODS.iter().find(|(_, method)| *method == self).map_or("", |(word, _)| *word)
    }
}

/// Whether a client has to have a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CertificateDemand {
    /// No.
    #[default]
    None,
    /// A valid one (`clientcert=verify-ca`).
    Valid,
    /// A valid one with its name (`clientcert=verify-full`).
    Named,
}

/// Which name of a certificate counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CertificateName {
    /// The common name (CN) of its subject.
    #[default]
    CommonName,
    /// The subject, as RFC 2253 writes it (DN).
    DistinguishedName,
}

/// The first word of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionKind {
    Local,
    Host,
    HostSsl,
    HostNoSsl,
    /// No connection of the proxy is one.
    HostGssEnc,
    /// Every one over a network is.
    HostNoGssEnc,
}

/// The words of the kinds.
pub(crate) const KINDS: &[(&str, ConnectionKind)] = &[
    ("local", ConnectionKind::Local),
    ("host", ConnectionKind::Host),
    ("hostssl", ConnectionKind::HostSsl),
    ("hostnossl", ConnectionKind::HostNoSsl),
    ("hostgssenc", ConnectionKind::HostGssEnc),
    ("hostnogssenc", ConnectionKind::HostNoGssEnc),
];
