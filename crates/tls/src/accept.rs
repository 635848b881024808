//! What a listener presents to its clients and demands of them, from files.

use std::sync::Arc;

use rustls::SignatureAlgorithm;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

use crate::certificate::{expiry, public_key};
use crate::ciphers::{CIPHERS, Cipher};
use crate::end_point::EndPoint;
use crate::files::{FileError, certificates, of_file, revocation_lists};
use crate::key_fault;
use crate::roots::Roots;
use crate::rotation::{Certificate, Rotating, Rotation};
use crate::suites;
use crate::verify_client::{ClientVerifier, Presenting};
use crate::versions::{TlsVersion, versions};
use crate::{AskedOfClient, Records, TlsError};

/// What `cert_file` says instead of a path: a certificate is made at start, which no client can verify.
pub const SELF_SIGNED: &str = "self-signed";

/// The protocol that direct TLS must name. Source: PostgreSQL, src/include/libpq/pqcomm.h, `PG_ALPN_PROTOCOL`.
pub const ALPN: &[u8] = b"postgresql";

/// Whether clients may, or must, use TLS, in PgBouncer's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientSslMode {
    /// They may not.
    #[default]
    Disable,
    /// They may: the client decides.
    Allow,
    /// The same.
    Prefer,
    /// They must.
    Require,
    /// They must, with a certificate that `ca_file` vouches for.
    VerifyCa,
    /// The same: a client has no name that could be verified.
    VerifyFull,
}

impl ClientSslMode {
    /// Whether a client without TLS is refused.
    #[must_use]
    pub fn must_encrypt(self) -> bool {
        matches!(self, Self::Require | Self::VerifyCa | Self::VerifyFull)
    }

    /// Whether a client without a certificate is refused.
    #[must_use]
    pub fn must_verify(self) -> bool {
        matches!(self, Self::VerifyCa | Self::VerifyFull)
    }
}

/// What is written about a listener's TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptSettings {
    /// Unset: `prefer` with a certificate, `disable` without.
    pub sslmode: Option<ClientSslMode>,
    /// PEM: the certificate, and those between it and the root; or [`SELF_SIGNED`].
    pub cert_file: Option<String>,
    /// PEM: its key.
    pub key_file: Option<String>,
    /// PEM: who vouches for clients.
    pub ca_file: Option<String>,
    /// PEM: certificates that those have revoked.
    pub crl_file: Option<String>,
    /// The oldest version that is spoken.
    pub min_protocol_version: TlsVersion,
    /// The newest.
    pub max_protocol_version: TlsVersion,
    /// Names of the ciphers that are used, as in RFCs or as in OpenSSL, with colons or commas between; unset: the usual
    /// ones.
    pub ciphers: Option<String>,
}

impl Default for AcceptSettings {
    fn default() -> Self {
        Self {
            sslmode: None,
            cert_file: None,
            key_file: None,
            ca_file: None,
            crl_file: None,
            min_protocol_version: TlsVersion::V12,
            max_protocol_version: TlsVersion::V13,
            ciphers: None,
        }
    }
}

impl AcceptSettings {
    /// What is in force.
    #[must_use]
    pub fn sslmode(&self) -> ClientSslMode {
        let by_certificate =
            if self.cert_file.is_some() { ClientSslMode::Prefer } else { ClientSslMode::Disable };
        self.sslmode.unwrap_or(by_certificate)
    }

    /// The files that are read.
    fn files(&self) -> Vec<String> {
        let all = [&self.cert_file, &self.key_file, &self.ca_file, &self.crl_file];
        all.into_iter().flatten().filter(|file| *file != SELF_SIGNED).cloned().collect()
    }
}

/// Why TLS cannot be had as it is written.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// A certificate is needed.
    #[error("client_tls.sslmode needs client_tls.cert_file")]
    NoCertificate,
    /// Its key is needed.
    #[error("client_tls.cert_file needs client_tls.key_file")]
    NoKey,
    /// Who vouches for clients is needed.
    #[error("client_tls.sslmode verify-ca and verify-full need client_tls.ca_file")]
    NoRoots,
    /// The oldest version is newer than the newest.
    #[error("client_tls.min_protocol_version is above client_tls.max_protocol_version")]
    NoVersion,
    /// There is no such cipher.
    #[error("client_tls.ciphers: {0:?} is none of {1}")]
    UnknownCipher(String, String),
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// They do not fit, or cannot be used.
    #[error("{cert_file} and {key_file}: {reason}")]
    Pair {
        /// The certificate's path.
        cert_file: String,
        /// The key's path.
        key_file: String,
        /// What is wrong.
        reason: String,
    },
}

/// The TLS of a listener. Its clones are one: files that are replaced are in force for all of them.
#[derive(Clone, Debug)]
pub struct Acceptor(Arc<RotatingAcceptor>);

#[derive(Debug)]
struct RotatingAcceptor {
    settings: AcceptSettings,
    loaded: Rotating<AcceptConfig>,
}

/// What was made of the files.
#[derive(Debug)]
struct AcceptConfig {
    config: Arc<ServerConfig>,
    certificate: Certificate,
    /// What clients bind their logins to.
    end_point: Option<Arc<EndPoint>>,
    asked: AskedOfClient,
}

impl Acceptor {
    /// Reads the files; `None` where clients may not use TLS.
    ///
    /// # Errors
    /// What is wrong with the files, or with what is written.
    pub fn load(settings: &AcceptSettings) -> Result<Option<Self>, AcceptError> {
        if settings.sslmode() == ClientSslMode::Disable {
            return Ok(None);
        }
        let loaded = Rotating::load(settings.files(), || AcceptConfig::read(settings))?;
        Ok(Some(Self(Arc::new(RotatingAcceptor { settings: settings.clone(), loaded }))))
    }

    /// What it was made of.
    #[must_use]
    pub fn settings(&self) -> &AcceptSettings {
        &self.0.settings
    }

    /// What clients may, or must do.
    #[must_use]
    pub fn mode(&self) -> ClientSslMode {
        self.0.settings.sslmode()
    }

    /// Puts files in force that have been replaced.
    #[must_use]
    pub fn look(&self) -> Rotation {
        self.0.loaded.look(|| AcceptConfig::read(&self.0.settings))
    }

    /// Why files that have been replaced are not in force.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.0.loaded.problem()
    }

    /// The certificate in force.
    #[must_use]
    pub fn certificate(&self) -> Certificate {
        self.0.loaded.in_force().certificate.clone()
    }

    /// The proxy's end of a new connection.
    ///
    /// # Errors
    /// When TLS has no memory or no random bytes.
    pub fn accept(&self) -> Result<Records, TlsError> {
        let in_force = self.0.loaded.in_force();
        let records = Records::server(Arc::clone(&in_force.config))?;
        Ok(records.presenting(in_force.end_point.clone(), in_force.asked))
    }
}

impl AcceptConfig {
    fn read(settings: &AcceptSettings) -> Result<Self, AcceptError> {
        let mode = settings.sslmode();
        let provider = Arc::new(provider(settings.ciphers.as_deref().unwrap_or_default())?);
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let versions = versions(settings.min_protocol_version, settings.max_protocol_version);
        if versions.is_empty() {
            return Err(AcceptError::NoVersion);
        }
        let builder =
            builder.with_protocol_versions(&versions).map_err(|error| unfit("client_tls.ciphers", error))?;
        let verifier = verifier(settings, mode, &provider)?;
        let asked =
            if verifier.offer_client_auth() { AskedOfClient::Certificate } else { AskedOfClient::Nothing };
        let builder = builder.with_client_cert_verifier(verifier);
        let pair = Pair::read(settings)?;
        let end_point = pair.chain.first().and_then(EndPoint::of).map(Arc::new);
        let (presented, certificate) = pair.presented(&provider)?;
        let mut config = builder.with_cert_resolver(Arc::new(presented));
        // Drivers do not resume sessions, and PostgreSQL has turned this off: two records less for each handshake.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.alpn_protocols = vec![ALPN.to_vec()];
        // In the order that is written, if one is: otherwise the client knows best which it computes fast.
        config.ignore_client_order = settings.ciphers.is_some();
        Ok(Self { config: Arc::new(config), certificate, end_point, asked })
    }
}

/// A certificate and its key.
struct Pair {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    cert_file: String,
    key_file: String,
}

/// The one certificate of a listener.
#[derive(Debug)]
struct Presented(Arc<CertifiedKey>);

impl ResolvesServerCert for Presented {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

impl Pair {
    /// With its key, if they fit. The certificate may be of X.509 version 1, which rustls does not read.
    fn presented(self, provider: &CryptoProvider) -> Result<(Presented, Certificate), AcceptError> {
        let Self { chain, key, cert_file, key_file } = self;
        let unusable = |reason: String| AcceptError::Pair { cert_file: cert_file.clone(), key_file, reason };
        let unread = || unfit(&cert_file, "the certificate cannot be read");
        let leaf = chain.first().ok_or_else(unread)?;
        let key = match provider.key_provider.load_private_key(key) {
            Ok(key) => key,
            Err(error) => return Err(unusable(key_fault::of_loading(leaf, &error))),
        };
        if let Some(fault) = key_fault::of_chain_of_own(&chain) {
            return Err(unfit(&cert_file, fault));
        }
        let of_certificate = public_key(leaf).map_err(|_| unread())?;
        if key.public_key().is_some_and(|own| own.as_ref() != of_certificate) {
            return Err(unusable("the key is not that of the certificate".to_owned()));
        }
        let expires_at = expiry(leaf).map_err(|_| unread())?;
        let is_rsa = key.algorithm() == SignatureAlgorithm::RSA;
        let certificate = Certificate { file: cert_file, expires_at, is_rsa };
        Ok((Presented(Arc::new(CertifiedKey::new(chain, key))), certificate))
    }

    fn read(settings: &AcceptSettings) -> Result<Self, AcceptError> {
        let cert_file = settings.cert_file.clone().ok_or(AcceptError::NoCertificate)?;
        if cert_file == SELF_SIGNED {
            return Self::make();
        }
        let key_file = settings.key_file.clone().ok_or(AcceptError::NoKey)?;
        let chain = certificates(&cert_file)?;
        let key = PrivateKeyDer::from_pem_file(&key_file)
            .map_err(|error| of_file(&key_file, "no private key", &error))?;
        Ok(Self { chain, key, cert_file, key_file })
    }

    /// One for this machine, as those see it who try the proxy out.
    fn make() -> Result<Self, AcceptError> {
        let failed = |error: rcgen::Error| unfit(SELF_SIGNED, error);
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
        let made = rcgen::generate_simple_self_signed(names).map_err(failed)?;
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        Ok(Self {
            chain: vec![made.cert.der().clone()],
            key: PrivateKeyDer::Pkcs8(key),
            cert_file: SELF_SIGNED.to_owned(),
            key_file: SELF_SIGNED.to_owned(),
        })
    }
}

/// The ciphers of these names, in this order.
fn provider(ciphers: &str) -> Result<CryptoProvider, AcceptError> {
    let mut provider = suites::provider();
    if ciphers.is_empty() {
        return Ok(provider);
    }
    let mut chosen = Vec::new();
    for name in ciphers.split([':', ',']).map(str::trim).filter(|name| !name.is_empty()) {
        let is_it = |cipher: &&Cipher| {
            cipher.rfc.eq_ignore_ascii_case(name) || cipher.openssl.eq_ignore_ascii_case(name)
        };
        let known = CIPHERS.iter().find(is_it).map(|cipher| cipher.rfc);
        let suite = known.and_then(|rfc| provider.cipher_suites.iter().find(|suite| name_of(suite) == rfc));
        let Some(suite) = suite else {
            let all: Vec<&str> = CIPHERS.iter().map(|cipher| cipher.rfc).collect();
            return Err(AcceptError::UnknownCipher(name.to_owned(), all.join(", ")));
        };
        chosen.push(*suite);
    }
    provider.cipher_suites = chosen;
    Ok(provider)
}

/// The name of a cipher in RFCs; rustls writes `TLS13_` for those of TLS 1.3.
fn name_of(suite: &rustls::SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite()).replace("TLS13_", "TLS_")
}

fn unfit(file: &str, error: impl std::fmt::Display) -> AcceptError {
    FileError { file: file.to_owned(), reason: error.to_string() }.into()
}

fn verifier(
    settings: &AcceptSettings,
    mode: ClientSslMode,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, AcceptError> {
    // Read without a CA, too: one that cannot be used is not passed over until there is one.
    let lists = settings.crl_file.as_deref().map(revocation_lists).transpose()?.unwrap_or_default();
    let Some(ca_file) = &settings.ca_file else {
        return match mode.must_verify() {
            true => Err(AcceptError::NoRoots),
            false => Ok(WebPkiClientVerifier::no_client_auth()),
        };
    };
    let mut named = RootCertStore::empty();
    let roots = certificates(ca_file)?;
    for certificate in &roots {
        named.add(certificate.clone()).map_err(|error| unfit(ca_file, error))?;
    }
    let roots = Roots::new(roots, lists);
    let presenting = if mode.must_verify() { Presenting::Demanded } else { Presenting::Optional };
    let algorithms = provider.signature_verification_algorithms;
    Ok(Arc::new(ClientVerifier { roots, hints: named.subjects(), presenting, algorithms }))
}
