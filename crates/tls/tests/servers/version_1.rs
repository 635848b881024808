//! Certificates of X.509 version 1 with one between them and their root, on both legs.

use trunkline_tls::accept::AcceptSettings;
use trunkline_tls::connect::{ConnectSettings, ServerSslMode};

use super::{Made, list, refused, revoking};

/// Of the configuration that comes with OpenSSL, which the manual's recipe uses.
const V3_CA: &str = "[v3_ca]\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid:always,issuer\nbasicConstraints=critical,CA:true\n";

impl Made {
    /// The manual's third recipe up to the intermediate.
    pub(super) fn root_and_intermediate(&self) {
        self.write("openssl.cnf", V3_CA);
        self.openssl("req -new -nodes -text -out root.csr -keyout root.key -subj /CN=root.example");
        self.openssl("x509 -req -in root.csr -text -days 3650 -extfile openssl.cnf -extensions v3_ca -signkey root.key -out root.crt");
        self.openssl("req -new -nodes -text -out intermediate.csr -keyout intermediate.key -subj /CN=intermediate.example");
        self.openssl("x509 -req -in intermediate.csr -text -days 1825 -extfile openssl.cnf -extensions v3_ca -CA root.crt -CAkey root.key -CAcreateserial -out intermediate.crt");
    }

    /// Its leaf, by the intermediate and without extensions, and with the intermediate.
    fn leaf(&self, name: &str, subject: &str) {
        self.openssl(&format!(
            "req -new -nodes -text -out {name}.csr -keyout {name}.key -subj /CN={subject}"
        ));
        self.openssl(&format!("x509 -req -in {name}.csr -text -days 365 -CA intermediate.crt -CAkey intermediate.key -CAcreateserial -out {name}.leaf"));
        self.bundle(name);
    }

    pub(super) fn bundle(&self, name: &str) {
        let both = [format!("{name}.leaf"), "intermediate.crt".to_owned()];
        let both = both.map(|file| std::fs::read_to_string(self.path(&file)).unwrap());
        self.write(&format!("{name}.crt"), &both.concat());
    }

    /// An intermediate of the same key with these extensions, in both bundles.
    fn limit(&self, extensions: &str) {
        self.write("limits", extensions);
        self.openssl("x509 -req -in intermediate.csr -days 30 -extfile limits -CA root.crt -CAkey root.key -set_serial 7 -out intermediate.crt");
        self.bundle("server");
        self.bundle("app");
    }

    /// A server with its bundle, and a client with its own.
    pub(super) fn both_legs(&self, sslcrl: Option<&str>) -> [Result<(), String>; 2] {
        let lists = sslcrl.map(|file| self.path(file));
        let towards = ConnectSettings {
            sslmode: ServerSslMode::VerifyFull,
            sslrootcert: Some(self.path("root.crt")),
            sslcrl: lists.clone(),
            ..ConnectSettings::default()
        };
        let accept = AcceptSettings { crl_file: lists, ..self.accept() };
        [self.connect_by(&towards, "db.example"), self.come(&accept)]
    }
}

#[test]
fn the_manuals_leaf_by_an_intermediate() {
    let made = Made::new();
    made.root_and_intermediate();
    made.leaf("server", "db.example");
    made.leaf("app", "app");
    assert_eq!(made.both_legs(None), [Ok(()), Ok(())]);
    for (limits, is_taken) in [
        ("basicConstraints=critical,CA:TRUE,pathlen:0", true),
        ("basicConstraints=critical,CA:TRUE\nextendedKeyUsage=serverAuth,clientAuth", true),
        ("basicConstraints=critical,CA:FALSE", false),
        ("keyUsage=digitalSignature", false),
        ("basicConstraints=critical,CA:TRUE\nkeyUsage=critical,digitalSignature", false),
        ("basicConstraints=critical,CA:TRUE\nextendedKeyUsage=codeSigning", false),
        ("basicConstraints=critical,CA:TRUE\nnameConstraints=critical,permitted;DNS:other.example", false),
        ("basicConstraints=critical,CA:TRUE\n1.2.3.4=critical,ASN1:NULL", false),
    ] {
        made.limit(limits);
        for outcome in made.both_legs(None) {
            assert_eq!(outcome.is_ok(), is_taken, "{limits}: {outcome:?}");
        }
    }
    // Without the one between, and with one of its name that has another key.
    for name in ["server", "app"] {
        std::fs::copy(made.path(&format!("{name}.leaf")), made.path(&format!("{name}.crt"))).unwrap();
    }
    let [towards, from] = made.both_legs(None);
    refused(towards, "none of the roots");
    refused(from, "none of the roots");
    made.openssl(
        "req -new -nodes -out intermediate.csr -keyout intermediate.key -subj /CN=intermediate.example",
    );
    made.limit("basicConstraints=critical,CA:TRUE");
    let [towards, from] = made.both_legs(None);
    refused(towards, "its signature is not that of the root");
    refused(from, "its signature is not that of the root");
}

/// As libpq judges it, which looks for a list of each certificate of the chain.
#[test]
fn the_intermediate_or_its_leaf_is_revoked() {
    let made = Made::new();
    let root = revoking(&made, "root");
    let between = revoking(&made, "intermediate");
    made.openssl("req -new -key intermediate.key -subj /CN=intermediate.example -out intermediate.csr");
    made.openssl("req -new -nodes -subj /CN=db.example -keyout server.key -out server.csr");
    made.openssl("req -new -nodes -subj /CN=app -keyout app.key -out app.csr");
    for name in ["server", "app"] {
        made.openssl(&format!("x509 -req -in {name}.csr -days 30 -CA intermediate.crt -CAkey intermediate.key -set_serial 9 -out {name}.leaf"));
    }
    // Number 7.
    made.limit("basicConstraints=critical,CA:TRUE");
    assert_eq!(made.both_legs(None), [Ok(()), Ok(())]);
    for (lists, why) in [
        ([list(&root, 2090, 1), list(&between, 2090, 1)].concat(), None),
        ([list(&root, 2090, 7), list(&between, 2090, 1)].concat(), Some("is revoked")),
        ([list(&root, 2090, 1), list(&between, 2090, 9)].concat(), Some("is revoked")),
        ([list(&root, 2020, 1), list(&between, 2090, 1)].concat(), Some("list has expired")),
        (list(&root, 2090, 1), Some("no revocation list at hand")),
        (list(&between, 2090, 1), Some("no revocation list at hand")),
    ] {
        made.write("lists", &lists);
        for outcome in made.both_legs(Some("lists")) {
            match why {
                None => assert_eq!(outcome, Ok(())),
                Some(why) => refused(outcome, why),
            }
        }
    }
}

impl Made {
    /// Has the certificate of a file say that it is of version 1, and the root sign it again: `openssl` makes none of that
    /// version that has extensions.
    fn turn_to_version_1(&self, name: &str) {
        self.openssl(&format!("x509 -in {name}.crt -outform DER -out {name}.der"));
        let mut whole = std::fs::read(self.path(&format!("{name}.der"))).unwrap();
        // Behind the lengths of the certificate and of what is signed, of two bytes each.
        let version = &mut whole[8..13];
        assert_eq!(*version, [0xA0, 3, 2, 1, 2]);
        version[4] = 0;
        let signed = 4 + 4 + usize::from(u16::from_be_bytes([whole[6], whole[7]]));
        std::fs::write(self.path("signed"), &whole[4..signed]).unwrap();
        self.openssl("dgst -sha256 -sign root.key -out signature signed");
        let signature = std::fs::read(self.path("signature")).unwrap();
        let at = whole.len() - signature.len();
        whole[at..].copy_from_slice(&signature);
        std::fs::write(self.path(&format!("{name}.der")), whole).unwrap();
        self.openssl(&format!("x509 -inform DER -in {name}.der -out {name}.crt"));
    }
}

/// As `openssl verify -purpose sslserver` and `sslclient` have it.
#[test]
fn one_with_extensions_is_held_to_what_it_is_for() {
    let made = Made::listener("rsa:2048");
    made.openssl("req -new -key server.key -subj /CN=db.example -out server.csr");
    for (usage, is_taken) in
        [("serverAuth", [true, false]), ("clientAuth", [false, true]), ("serverAuth,clientAuth", [true; 2])]
    {
        made.write("use", &format!("extendedKeyUsage={usage}"));
        for name in ["server", "app"] {
            made.openssl(&format!("x509 -req -in {name}.csr -days 30 -sha256 -CA root.crt -CAkey root.key -set_serial 5 -extfile use -out {name}.crt"));
            made.turn_to_version_1(name);
        }
        let purposes = ["sslserver server.crt", "sslclient app.crt"];
        let outcomes = made.both_legs(None);
        for ((outcome, expected), purpose) in outcomes.into_iter().zip(is_taken).zip(purposes) {
            let openssl = made.verifies(&format!("verify -CAfile root.crt -purpose {purpose}"));
            assert_eq!((outcome.is_ok(), openssl), (expected, expected), "{usage}, {purpose}: {outcome:?}");
        }
    }
}
