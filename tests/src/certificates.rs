//! Certificates for suites, and the switch that has every suite use them.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use nix::unistd::{Uid, User};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa,
    KeyIdMethod, KeyPair, RevokedCertParams, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ALL_VERSIONS, ClientConfig, RootCertStore, SupportedProtocolVersion};

/// Whether endpoints, their clients and their servers speak TLS: `TRUNKLINE_TEST_TLS` is set. A suite promises the same
/// then.
#[must_use]
pub fn tls_is_on() -> bool {
    std::env::var_os("TRUNKLINE_TEST_TLS").is_some_and(|value| !value.is_empty())
}

/// A root of this test binary's own, and what it has signed, as files.
#[derive(Debug)]
pub struct Certificates {
    directory: PathBuf,
}

impl Certificates {
    /// Those of this test binary: of servers and endpoints at `127.0.0.1` and `localhost`.
    ///
    /// # Panics
    /// When none can be made.
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Certificates> = OnceLock::new();
        SHARED.get_or_init(Self::by_another_root)
    }

    /// The same by a root of their own.
    ///
    /// # Panics
    /// When none can be made.
    #[must_use]
    pub fn by_another_root() -> Self {
        let directory = tempfile::Builder::new().prefix("trunkline-test-").tempdir_in("/tmp");
        // The servers read it until this process ends.
        let directory = directory.expect("/tmp takes a directory").keep();
        std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o755)).expect("it is ours");
        let certificates = Certificates { directory };
        certificates.make();
        certificates
    }

    fn make(&self) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "root of the suites");
        let key = KeyPair::generate().expect("a key");
        let root = CertifiedIssuer::self_signed(params, key).expect("a root");
        std::fs::write(self.root(), root.pem()).expect("the directory takes files");
        for (name, owner) in [("endpoint", Owner::Caller), ("server", Owner::Server)] {
            let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
            let params = CertificateParams::new(names).expect("they are names");
            let key = KeyPair::generate().expect("a key");
            let signed = params.signed_by(&key, &root).expect("the root signs");
            let [certificate, key_file] = self.pair(name);
            std::fs::write(&certificate, signed.pem()).expect("the directory takes files");
            std::fs::write(&key_file, key.serialize_pem()).expect("the directory takes files");
            std::fs::set_permissions(&key_file, PermissionsExt::from_mode(0o600)).expect("it is ours");
            if let (Owner::Server, true, Ok(Some(user))) =
                (owner, Uid::effective().is_root(), User::from_name("postgres"))
            {
                chown(&key_file, Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("root may");
            }
        }
    }

    /// The root's certificate.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.directory.join("root.crt")
    }

    /// The endpoint's certificate and key.
    #[must_use]
    pub fn endpoint(&self) -> [PathBuf; 2] {
        self.pair("endpoint")
    }

    /// The servers' certificate and key.
    #[must_use]
    pub fn server(&self) -> [PathBuf; 2] {
        self.pair("server")
    }

    fn pair(&self, name: &str) -> [PathBuf; 2] {
        ["crt", "key"].map(|kind| self.directory.join(format!("{name}.{kind}")))
    }

    /// What a server is started with.
    #[must_use]
    pub fn server_settings(&self) -> [(String, String); 3] {
        let [certificate, key] = self.server().map(|path| shown(&path));
        [("ssl", "on".to_owned()), ("ssl_cert_file", certificate), ("ssl_key_file", key)]
            .map(|(name, value)| (name.to_owned(), value))
    }

    /// A client that trusts the root.
    #[must_use]
    pub fn client(&self) -> Arc<ClientConfig> {
        self.client_of(ALL_VERSIONS)
    }

    /// One that speaks these versions.
    ///
    /// # Panics
    /// When there are none.
    #[must_use]
    pub fn client_of(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_file(self.root()).expect("it was written");
        roots.add(root).expect("it is a certificate");
        let config = ClientConfig::builder_with_protocol_versions(versions);
        Arc::new(config.with_root_certificates(roots).with_no_client_auth())
    }
}

/// The revocation list of a root, in force until that year, with these serial numbers; in PEM.
///
/// # Panics
/// When none can be made.
#[must_use]
pub fn revocation_list(root: &CertifiedIssuer<'_, KeyPair>, until: i32, serials: &[u64]) -> String {
    let revoked = serials.iter().map(|&serial| RevokedCertParams {
        serial_number: serial.into(),
        revocation_time: date_time_ymd(2019, 1, 1),
        reason_code: None,
        invalidity_date: None,
    });
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2019, 1, 1),
        next_update: date_time_ymd(until, 1, 1),
        crl_number: 1_u64.into(),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    list.signed_by(root).and_then(|list| list.pem()).expect("it can be signed")
}

/// Who reads a key.
#[derive(Clone, Copy, Debug)]
enum Owner {
    Caller,
    Server,
}

fn shown(path: &Path) -> String {
    path.to_str().expect("it is UTF-8").to_owned()
}
