//! How servers are connected to, in libpq's words.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, SignatureAlgorithm};

use crate::accept::ALPN;
use crate::certificate::{expiry, public_key};
use crate::files::{FileError, certificates, of_file, revocation_lists};
use crate::key_fault;
use crate::roots::Roots;
use crate::rotation::{Certificate, Rotating, Rotation};
use crate::suites;
use crate::verify::LibpqVerifier;
use crate::versions::{TlsVersion, versions};
use crate::{Records, TlsError};

/// Where the roots of a machine are, of which some may not be there: Debian and its kin, Fedora and its kin, Alpine.
const SYSTEM_FILES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Variables that name them elsewhere: a file, and directories. Source: OpenSSL 3, SSL_CTX_set_default_verify_paths(3).
const SYSTEM_VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// What `sslrootcert` says for the roots that this machine trusts.
pub const SYSTEM: &str = "system";

/// What asks a server for TLS. Source: PostgreSQL, protocol-message-formats, SSLRequest.
pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// For a server's answer to that which is not the one that is needed.
#[must_use]
pub fn wrong_answer(answer: u8) -> io::Error {
    io::Error::other(match answer {
        b'N' => "the server does not support SSL, but sslmode requires it".to_owned(),
        b'E' => "the server answers with an error to a request for TLS: it is no PostgreSQL, or has no room for the connection".to_owned(),
        other => format!("the server answers {:?} to a request for TLS", char::from(other)),
    })
}

/// Why TLS with a server did not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartTlsError {
    /// The server cannot be asked, or gives no answer in time, or not the one that is needed.
    #[error(transparent)]
    Unanswered(io::Error),
    /// The server has agreed, and the handshake fails, or cannot be made. Here alone libpq tries again without TLS, where
    /// `sslmode` allows that.
    /// Source: PostgreSQL 17, src/interfaces/libpq/fe-connect.c, `PQconnectPoll`, CONNECTION_SSL_STARTUP.
    #[error(transparent)]
    Handshake(io::Error),
}

impl From<StartTlsError> for io::Error {
    fn from(error: StartTlsError) -> Self {
        match error {
            StartTlsError::Unanswered(error) | StartTlsError::Handshake(error) => error,
        }
    }
}

/// For a server that did not say that it speaks PostgreSQL, when TLS was begun unasked.
#[must_use]
pub fn no_protocol() -> io::Error {
    io::Error::other(
        "the server takes TLS but names no protocol: sslnegotiation = \"direct\" needs PostgreSQL 17 or newer",
    )
}

/// Why TLS that was begun unasked failed: a server that does not take that ends the connection and says nothing, as one does
/// that dies meanwhile. What else went wrong stays as it is.
#[must_use]
pub fn begun_unasked(error: io::Error) -> StartTlsError {
    let told = match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            io::Error::new(
                io::ErrorKind::ConnectionReset,
                "the server ended the connection when TLS began without a request: if it is up, it is older than \
                 PostgreSQL 17, which sslnegotiation = \"direct\" needs, or has ssl = off",
            )
        }
        _ => error,
    };
    StartTlsError::Handshake(told)
}

/// Whether a server is spoken to by TLS, and what is checked, in libpq's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerSslMode {
    /// Never.
    Disable,
    /// Only if it lets nobody in without.
    Allow,
    /// If it can.
    #[default]
    Prefer,
    /// Always.
    Require,
    /// Always, and a root vouches for it.
    VerifyCa,
    /// The same, for the name it is connected to by.
    VerifyFull,
}

impl ServerSslMode {
    /// Whether a connection without TLS is refused.
    #[must_use]
    pub fn must_encrypt(self) -> bool {
        matches!(self, Self::Require | Self::VerifyCa | Self::VerifyFull)
    }

    /// Whether a root vouches for the server: a password may be shown to it.
    #[must_use]
    pub fn is_verified(self) -> bool {
        matches!(self, Self::VerifyCa | Self::VerifyFull)
    }

    /// What is tried, one after the other: the second if the server refuses the first. Source: PostgreSQL 17, libpq-ssl,
    /// table 32.1.
    #[must_use]
    pub fn order(self) -> &'static [Encryption] {
        match self {
            Self::Disable => &[Encryption::Plain],
            Self::Allow => &[Encryption::Plain, Encryption::Tls],
            Self::Prefer => &[Encryption::Tls, Encryption::Plain],
            Self::Require | Self::VerifyCa | Self::VerifyFull => &[Encryption::Tls],
        }
    }
}

/// Whether one connection is made by TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// Without.
    Plain,
    /// By TLS, if the server agrees.
    Tls,
}

/// How TLS is begun, in libpq's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Negotiation {
    /// The server is asked first.
    #[default]
    Postgres,
    /// At once, which spares a round trip; servers from 17 on take it.
    Direct,
}

/// What is written about the TLS of servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectSettings {
    /// Whether, and what is checked.
    pub sslmode: ServerSslMode,
    /// PEM: who vouches for servers; or [`SYSTEM`].
    pub sslrootcert: Option<String>,
    /// PEM: what those have revoked. Without roots it is read, and means nothing, as for libpq.
    pub sslcrl: Option<String>,
    /// PEM: the proxy's own certificate.
    pub sslcert: Option<String>,
    /// PEM: its key.
    pub sslkey: Option<String>,
    /// How it is begun.
    pub sslnegotiation: Negotiation,
    /// Whether the server is told by which name it was connected to.
    pub sslsni: bool,
    /// The oldest version that is spoken.
    pub min_protocol_version: TlsVersion,
    /// The newest.
    pub max_protocol_version: TlsVersion,
}

impl Default for ConnectSettings {
    fn default() -> Self {
        Self {
            sslmode: ServerSslMode::default(),
            sslrootcert: None,
            sslcrl: None,
            sslcert: None,
            sslkey: None,
            sslnegotiation: Negotiation::default(),
            sslsni: true,
            min_protocol_version: TlsVersion::V12,
            max_protocol_version: TlsVersion::V13,
        }
    }
}

/// Why TLS cannot be had as it is written.
#[derive(Debug, thiserror::Error)]
pub enum ServerTlsError {
    /// Who vouches for servers is needed.
    #[error("sslmode verify-ca and verify-full need sslrootcert")]
    NoRoots,
    /// Anybody can have a certificate by a public root: only the name tells who it is.
    #[error("sslrootcert = \"system\" needs sslmode verify-full")]
    WeakWithSystem,
    /// This machine trusts nobody.
    #[error("sslrootcert = \"system\": this machine has no roots")]
    NoSystemRoots,
    /// What is begun without asking cannot be refused.
    #[error("sslnegotiation = \"direct\" needs sslmode require, verify-ca or verify-full")]
    WeakWithDirect,
    /// A certificate of the proxy needs its key.
    #[error("sslcert needs sslkey")]
    NoKey,
    /// The oldest version is newer than the newest.
    #[error("ssl_min_protocol_version is above ssl_max_protocol_version")]
    NoVersion,
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The TLS of a server. Its clones are one: files that are replaced are in force for all of them.
#[derive(Clone, Debug)]
pub struct ServerTls(Arc<RotatingServerTls>);

#[derive(Debug)]
struct RotatingServerTls {
    settings: ConnectSettings,
    loaded: Rotating<ConnectConfig>,
}

/// What was made of the files.
#[derive(Debug)]
struct ConnectConfig {
    config: Arc<ClientConfig>,
    /// The proxy's own.
    certificate: Option<Certificate>,
    /// Of all that it was made from.
    fingerprint: u64,
}

/// Two of the same files with the same contents are one.
impl PartialEq for ServerTls {
    fn eq(&self, other: &Self) -> bool {
        self.0.loaded.in_force().fingerprint == other.0.loaded.in_force().fingerprint
    }
}

impl ConnectSettings {
    /// The file of roots, unless they are the machine's.
    #[must_use]
    pub fn roots_file(&self) -> Option<&str> {
        self.sslrootcert.as_deref().filter(|file| *file != SYSTEM)
    }

    /// The files that are read.
    fn files(&self) -> Vec<String> {
        let all = [&self.sslrootcert, &self.sslcrl, &self.sslcert, &self.sslkey];
        let named = all.into_iter().flatten().filter(|file| *file != SYSTEM).cloned();
        let is_of_machine = self.sslrootcert.as_deref() == Some(SYSTEM);
        named.chain(is_of_machine.then(system_files).into_iter().flatten()).collect()
    }
}

/// What the machine's roots are read from.
fn system_files() -> Vec<String> {
    let named = SYSTEM_VARIABLES.iter().filter_map(std::env::var_os);
    let named = named.flat_map(|paths| std::env::split_paths(&paths).collect::<Vec<_>>());
    let named: Vec<String> = named.map(|path| path.display().to_string()).collect();
    if named.is_empty() { SYSTEM_FILES.map(str::to_owned).to_vec() } else { named }
}

impl ServerTls {
    /// Reads the files; `None` where TLS is not used.
    ///
    /// # Errors
    /// What is wrong with the files, or with what is written.
    pub fn load(settings: &ConnectSettings) -> Result<Option<Self>, ServerTlsError> {
        if settings.sslmode == ServerSslMode::Disable {
            return Ok(None);
        }
        if settings.sslnegotiation == Negotiation::Direct && !settings.sslmode.must_encrypt() {
            return Err(ServerTlsError::WeakWithDirect);
        }
        let loaded = Rotating::load(settings.files(), || ConnectConfig::read(settings))?;
        Ok(Some(Self(Arc::new(RotatingServerTls { settings: settings.clone(), loaded }))))
    }

    /// The same for a library that drives the connection itself, and the name that the server must have.
    ///
    /// # Errors
    /// When it is no name that a server can have.
    pub fn for_library(&self, host: &str) -> Result<(Arc<ClientConfig>, ServerName<'static>), TlsError> {
        Ok((Arc::clone(&self.0.loaded.in_force().config), server_name(host)?))
    }

    /// What it was made of.
    #[must_use]
    pub fn settings(&self) -> &ConnectSettings {
        &self.0.settings
    }

    /// How it is begun.
    #[must_use]
    pub fn negotiation(&self) -> Negotiation {
        self.0.settings.sslnegotiation
    }

    /// Whether, and what is checked.
    #[must_use]
    pub fn mode(&self) -> ServerSslMode {
        self.0.settings.sslmode
    }

    /// Puts files in force that have been replaced.
    #[must_use]
    pub fn look(&self) -> Rotation {
        self.0.loaded.look(|| ConnectConfig::read(&self.0.settings))
    }

    /// Why files that have been replaced are not in force.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.0.loaded.problem()
    }

    /// The proxy's own certificate in force, if it has one.
    #[must_use]
    pub fn certificate(&self) -> Option<Certificate> {
        self.0.loaded.in_force().certificate.clone()
    }

    /// The proxy's end of a connection to a server of this name.
    ///
    /// # Errors
    /// When it is no name that a server can have.
    pub fn connect(&self, host: &str) -> Result<Records, TlsError> {
        Records::client(Arc::clone(&self.0.loaded.in_force().config), server_name(host)?)
    }
}

fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(host.to_owned())
        .map_err(|_| TlsError::from(rustls::Error::General(format!("{host:?} is no name for TLS"))))
}

/// Changes with what is written, and with what is in the files.
fn fingerprint(settings: &ConnectSettings) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{settings:?}").hash(&mut hasher);
    for file in settings.files() {
        // What cannot be read has failed before, or is not needed.
        std::fs::read(file).ok().hash(&mut hasher);
    }
    hasher.finish()
}

impl ConnectConfig {
    fn read(settings: &ConnectSettings) -> Result<Self, ServerTlsError> {
        let provider = Arc::new(suites::provider());
        let versions = versions(settings.min_protocol_version, settings.max_protocol_version);
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .map_err(|_| ServerTlsError::NoVersion)?;
        let verifier = Arc::new(verifier(settings, &provider)?);
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let mut certificate = None;
        let mut config = match &settings.sslcert {
            None => builder.with_no_client_auth(),
            Some(cert_file) => {
                let key_file = settings.sslkey.as_ref().ok_or(ServerTlsError::NoKey)?;
                let key = PrivateKeyDer::from_pem_file(key_file)
                    .map_err(|error| of_file(key_file, "no private key", &error))?;
                let chain = certificates(cert_file)?;
                let key = provider
                    .key_provider
                    .load_private_key(key)
                    .map_err(|error| not_loaded(cert_file, key_file, &chain, &error))?;
                let own = CertifiedKey::new(chain, key);
                certificate = Some(presented(cert_file, key_file, &own)?);
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own)))
            }
        };
        config.enable_sni = settings.sslsni;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Self { config: Arc::new(config), certificate, fingerprint: fingerprint(settings) })
    }
}

/// For a key of the proxy's own that the library of ciphers does not load.
fn not_loaded(
    cert_file: &str,
    key_file: &str,
    chain: &[CertificateDer<'_>],
    error: &rustls::Error,
) -> FileError {
    let reason = chain.first().map_or_else(|| error.to_string(), |own| key_fault::of_loading(own, error));
    FileError { file: format!("{cert_file} and {key_file}"), reason }
}

/// What is told of the proxy's own certificate, if it is that of its key. It may be of X.509 version 1, which rustls does not
/// read.
fn presented(cert_file: &str, key_file: &str, own: &CertifiedKey) -> Result<Certificate, FileError> {
    let unfit = |file: String, reason: String| FileError { file, reason };
    let unread = || unfit(cert_file.to_owned(), "the certificate cannot be read".to_owned());
    let leaf = own.end_entity_cert().map_err(|_| unread())?;
    let of_certificate = public_key(leaf).map_err(|_| unread())?;
    if own.key.public_key().is_some_and(|key| key.as_ref() != of_certificate) {
        let both = format!("{cert_file} and {key_file}");
        return Err(unfit(both, "the key is not that of the certificate".to_owned()));
    }
    if let Some(fault) = key_fault::of_chain_of_own(&own.cert) {
        return Err(unfit(cert_file.to_owned(), fault.to_string()));
    }
    let expires_at = expiry(leaf).map_err(|_| unread())?;
    let is_rsa = own.key.algorithm() == SignatureAlgorithm::RSA;
    Ok(Certificate { file: cert_file.to_owned(), expires_at, is_rsa })
}

fn verifier(settings: &ConnectSettings, provider: &CryptoProvider) -> Result<LibpqVerifier, ServerTlsError> {
    let must_verify = matches!(settings.sslmode, ServerSslMode::VerifyCa | ServerSslMode::VerifyFull);
    // Read without roots, too: one that cannot be used is not passed over until there are some.
    let revoked = settings.sslcrl.as_deref().map(revocation_lists).transpose()?;
    let roots = match settings.sslrootcert.as_deref() {
        None if must_verify => return Err(ServerTlsError::NoRoots),
        None => None,
        Some(SYSTEM) if settings.sslmode != ServerSslMode::VerifyFull => {
            return Err(ServerTlsError::WeakWithSystem);
        }
        Some(SYSTEM) => Some(rustls_native_certs::load_native_certs().certs),
        Some(file) => Some(certificates(file)?),
    };
    let roots = match roots {
        None => None,
        Some(certificates) => {
            if certificates.is_empty() {
                return Err(ServerTlsError::NoSystemRoots);
            }
            Some(Roots::new(certificates, revoked.unwrap_or_default()))
        }
    };
    Ok(LibpqVerifier {
        roots,
        checks_name: settings.sslmode == ServerSslMode::VerifyFull,
        algorithms: provider.signature_verification_algorithms,
    })
}
