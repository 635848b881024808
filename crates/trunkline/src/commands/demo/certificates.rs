//! `--tls`: a CA and a certificate, for the proxy and its servers alike.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use trunkline_cluster::ServerCertificate;

use crate::Failure;

/// By these names and addresses everything is on this machine.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// What everything in the demo presents, and the root that vouches for it. The key of the root is kept by nobody.
pub(super) struct DemoCertificates {
    root: String,
    certificate: String,
    key: String,
}

/// Where they are.
pub(super) struct CertificateFiles {
    pub(super) root: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

impl DemoCertificates {
    pub(super) fn make() -> Result<Self, Failure> {
        Self::try_make().map_err(Failure::because("could not make certificates"))
    }

    fn try_make() -> Result<Self, rcgen::Error> {
        let mut of_root = CertificateParams::default();
        of_root.distinguished_name.push(DnType::CommonName, "Trunkline demo");
        of_root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        of_root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let root_key = KeyPair::generate()?;
        let root = of_root.self_signed(&root_key)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(NAMES.map(str::to_owned))?;
        params.distinguished_name.push(DnType::CommonName, "localhost");
        let certificate = params.signed_by(&key, &Issuer::new(of_root, root_key))?;
        Ok(Self { root: root.pem(), certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// For the servers.
    pub(super) fn of_servers(&self) -> ServerCertificate {
        ServerCertificate { certificate: self.certificate.clone(), key: self.key.clone() }
    }

    /// Writes them to files below the demo's directory, which goes with them.
    pub(super) fn write(&self, directory: &Path) -> Result<CertificateFiles, Failure> {
        let failed = || Failure::because("could not write certificates");
        // Whoever tries the demo may read the root, also where root has started it; the key is this user's.
        std::fs::set_permissions(directory, Permissions::from_mode(0o711)).map_err(failed())?;
        let directory = directory.join("tls");
        DirBuilder::new().mode(0o755).create(&directory).map_err(failed())?;
        let write = |name: &str, text: &str, mode: u32| {
            let path = directory.join(name);
            let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path);
            file.and_then(|mut file| file.write_all(text.as_bytes())).map(|()| path)
        };
        Ok(CertificateFiles {
            root: write("root.crt", &self.root, 0o644).map_err(failed())?,
            certificate: write("proxy.crt", &self.certificate, 0o644).map_err(failed())?,
            key: write("proxy.key", &self.key, 0o600).map_err(failed())?,
        })
    }
}
