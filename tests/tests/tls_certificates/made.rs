//! Certificates of many kinds, made by OpenSSL, with those who vouch for them.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use nix::unistd::{Uid, User};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use trunkline_tests::revocation_list;

use crate::kinds::{Kind, Signer, kinds};

/// A configuration of OpenSSL that takes keys and signatures which are too weak by default.
/// Source: config(5ssl), SSL_CONF_cmd(3ssl).
const LEVEL_0: &str = "openssl_conf = all\n[all]\nssl_conf = ssl\n[ssl]\nsystem_default = weak\n[weak]\n\
                       CipherString = DEFAULT@SECLEVEL=0\n";

/// A directory of certificates. Servers read it until this process ends.
pub(crate) struct Made {
    directory: PathBuf,
    root: CertifiedIssuer<'static, KeyPair>,
}

impl Made {
    /// Those of this test binary: the CAs, and all kinds.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Made> = OnceLock::new();
        SHARED.get_or_init(|| Self::new(&kinds()))
    }

    fn new(kinds: &[Kind]) -> Self {
        let directory = tempfile::Builder::new().prefix("trunkline-test-").tempdir_in("/tmp").unwrap().keep();
        // The servers' user reads what is in it.
        std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o755)).unwrap();
        let made = Self { directory, root: issuer("root of the kinds") };
        made.write("openssl.cnf", LEVEL_0);
        made.keep("root", &made.root);
        for (name, common) in [("stranger", "root of strangers"), ("twin", "root of the kinds")] {
            made.keep(name, &issuer(common));
        }
        made.openssl("req -x509 -nodes -newkey rsa:2048 -days 30 -subj /CN=rsa -keyout rsa.key -out rsa.crt");
        made.intermediate();
        made.unfit_roots();
        made.write("both.crt", &["root.crt", "between.crt"].map(|file| made.read(file)).concat());
        for (index, kind) in kinds.iter().enumerate() {
            made.make(kind, serial(index));
            made.give_key(kind);
        }
        made
    }

    /// The path of a file.
    pub(crate) fn path(&self, file: &str) -> String {
        self.directory.join(file).display().to_string()
    }

    /// What is in a file.
    pub(crate) fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.path(file)).unwrap()
    }

    /// A file of all who vouch for kinds that are taken without a list.
    pub(crate) fn all_roots(&self) -> String {
        let all = ["root.crt", "rsa.crt", "own_root.crt"].map(|file| self.read(file));
        self.write("all.crt", &all.concat());
        self.path("all.crt")
    }

    /// Has OpenSSL take weak keys and signatures.
    pub(crate) fn level_0(&self) -> (&'static str, String) {
        ("OPENSSL_CONF", self.path("openssl.cnf"))
    }

    /// Puts a pair in force by a symbolic link, as Kubernetes does, as `data/tls.crt` and `data/tls.key`.
    pub(crate) fn swap(&self, kind: &Kind) {
        let version = tempfile::tempdir_in(&self.directory).unwrap().keep();
        for ending in ["crt", "key"] {
            std::fs::copy(
                self.path(&format!("{}.{ending}", kind.name)),
                version.join("tls").with_extension(ending),
            )
            .unwrap();
        }
        std::os::unix::fs::symlink(version, self.path("..tmp")).unwrap();
        std::fs::rename(self.path("..tmp"), self.path("data")).unwrap();
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.path(file), text).unwrap();
    }

    /// A key is for the servers' user alone, and a copy of it for the caller: libpq and the server want that of each other.
    fn give_key(&self, kind: &Kind) {
        let [key, own] = ["key", "own"].map(|ending| self.path(&format!("{}.{ending}", kind.name)));
        std::fs::copy(&key, &own).unwrap();
        for file in [&key, &own] {
            std::fs::set_permissions(file, PermissionsExt::from_mode(0o600)).unwrap();
        }
        // Root reads it all the same.
        if let (true, Ok(Some(user))) = (Uid::effective().is_root(), User::from_name("postgres")) {
            chown(Path::new(&key), Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
        }
    }

    fn keep(&self, name: &str, issuer: &CertifiedIssuer<'static, KeyPair>) {
        self.write(&format!("{name}.crt"), &issuer.pem());
        self.write(&format!("{name}.key"), &issuer.key().serialize_pem());
    }

    /// The CA `between`, which the root has signed with the serial number 2, and lists of those whom CAs have revoked.
    fn intermediate(&self) {
        let key = KeyPair::generate().unwrap();
        let mut params = of_ca("between");
        params.serial_number = Some(2_u64.into());
        let between = CertifiedIssuer::signed_by(params, key, &self.root).unwrap();
        self.keep("between", &between);
        let (root, stranger) = (&self.root, issuer("root of others"));
        let lists = [
            ("nobody.list", revocation_list(root, 2090, &[1])),
            ("revoked.list", revocation_list(root, 2090, &(3..200).collect::<Vec<_>>())),
            ("expired.list", revocation_list(root, 2020, &[1])),
            ("strangers.list", revocation_list(&stranger, 2090, &[1])),
            (
                "chain.list",
                [revocation_list(root, 2090, &[1]), revocation_list(&between, 2090, &[1])].concat(),
            ),
            (
                "chain_revoked.list",
                [revocation_list(root, 2090, &[2]), revocation_list(&between, 2090, &[1])].concat(),
            ),
        ];
        for (file, text) in lists {
            self.write(file, &text);
        }
    }

    /// Roots that say of themselves why they vouch for nobody, and one that allows no intermediate, with one.
    fn unfit_roots(&self) {
        let [mut old, mut code, mut sealing, mut bound] = ["old", "code", "sealing", "bound"].map(of_ca);
        (old.not_before, old.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(2020, 1, 1));
        code.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        sealing.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        bound.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let own = |params| CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        for (name, params) in [("old", old), ("code", code), ("sealing", sealing)] {
            self.keep(name, &own(params));
        }
        let bound = own(bound);
        let below = CertifiedIssuer::signed_by(of_ca("below"), KeyPair::generate().unwrap(), &bound).unwrap();
        self.keep("bound", &bound);
        self.keep("below_bound", &below);
    }

    fn make(&self, kind: &Kind, serial: u64) {
        let Kind { name, key, common, names, says, signer, .. } = kind;
        if let Signer::RootFor(from, until) = signer {
            return self.dated(kind, *from, *until, serial);
        }
        self.openssl(&format!("genpkey {key} -out {name}.key"));
        if let Signer::Itself = signer {
            return self.openssl(&format!(
                "req -x509 -key {name}.key -days 30 -subj /CN={common} -set_serial {serial} -out {name}.crt"
            ));
        }
        let names = if names.is_empty() { String::new() } else { format!("subjectAltName={names}\n") };
        self.write("extensions", &format!("{says}\n{names}"));
        self.openssl(&format!("req -new -key {name}.key -subj /CN={common} -out {name}.csr"));
        let (ca, words) = signer.words();
        self.openssl(&format!(
            "x509 -req -in {name}.csr -days 30 -CA {ca}.crt -CAkey {ca}.key -set_serial {serial} -extfile extensions \
             -out {name}.crt {words}"
        ));
        if let Signer::BetweenAndSent | Signer::BelowBound = signer {
            let both = [format!("{name}.crt"), format!("{ca}.crt")].map(|file| self.read(&file));
            self.write(&format!("{name}.crt"), &both.concat());
        }
    }

    /// By the root, for these years.
    fn dated(&self, kind: &Kind, from: i32, until: i32, serial: u64) {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, kind.common);
        params.serial_number = Some(serial.into());
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.root).unwrap();
        self.write(&format!("{}.crt", kind.name), &signed.pem());
        self.write(&format!("{}.key", kind.name), &key.serialize_pem());
    }

    fn openssl(&self, words: &str) {
        let mut command = Command::new("openssl");
        command.args(words.split_whitespace()).current_dir(&self.directory);
        let output = command.output().unwrap();
        assert!(output.status.success(), "openssl {words}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The serial number of a kind.
fn serial(index: usize) -> u64 {
    u64::try_from(index).unwrap() + 10
}

fn of_ca(common: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, common);
    params
}

/// A CA that is its own root.
fn issuer(common: &str) -> CertifiedIssuer<'static, KeyPair> {
    CertifiedIssuer::self_signed(of_ca(common), KeyPair::generate().unwrap()).unwrap()
}
