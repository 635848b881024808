//! Certificates as PostgreSQL's manual and its users make them, and what each `sslmode` says of them: as libpq does.
//!
//! Source: PostgreSQL, doc/src/sgml/runtime.sgml, "Creating Certificates"; libpq.sgml, "SSL Mode Descriptions".
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use trunkline_tls::Records;
use trunkline_tls::accept::{AcceptSettings, Acceptor};
use trunkline_tls::connect::{ConnectSettings, ServerSslMode, ServerTls};

#[path = "servers/clients.rs"]
mod clients;
#[path = "servers/refusals.rs"]
mod refusals;
#[path = "servers/roots.rs"]
mod roots;
#[path = "servers/version_1.rs"]
mod version_1;

/// Files made by `openssl`.
struct Made(TempDir);

impl Made {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, file: &str) -> String {
        self.0.path().join(file).display().to_string()
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.0.path().join(file), text).unwrap();
    }

    /// Runs `openssl` with these words, in the directory.
    fn openssl(&self, words: &str) {
        let output = Command::new("openssl").args(words.split(' ')).current_dir(&self.0).output().unwrap();
        assert!(output.status.success(), "openssl {words}\n{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Whether `openssl` takes what these words have it verify.
    fn verifies(&self, words: &str) -> bool {
        let output = Command::new("openssl").args(words.split(' ')).current_dir(&self.0).output().unwrap();
        output.status.success()
    }

    /// The manual's root, and a server's request for a name.
    fn root_and_request(&self, name: &str) {
        self.openssl("req -new -x509 -nodes -days 30 -subj /CN=root.example -keyout root.key -out root.crt");
        self.openssl(&format!("req -new -nodes -subj /CN={name} -keyout server.key -out server.csr"));
    }

    /// Signs the request by the root, with these extensions.
    fn sign(&self, extensions: &str) {
        self.write("extensions", extensions);
        self.openssl(
            "x509 -req -in server.csr -days 30 -CA root.crt -CAkey root.key -CAcreateserial -extfile extensions -out server.crt",
        );
    }

    /// Connects to a server with that certificate, of this name.
    fn connect(&self, sslmode: ServerSslMode, root: Option<&str>, host: &str) -> Result<(), String> {
        let settings = ConnectSettings {
            sslmode,
            sslrootcert: root.map(|file| self.path(file)),
            ..ConnectSettings::default()
        };
        self.connect_by(&settings, host)
    }

    fn connect_by(&self, settings: &ConnectSettings, host: &str) -> Result<(), String> {
        let accept = AcceptSettings {
            cert_file: Some(self.path("server.crt")),
            key_file: Some(self.path("server.key")),
            ..AcceptSettings::default()
        };
        let server = Acceptor::load(&accept).unwrap().unwrap().accept().unwrap();
        let client = ServerTls::load(settings).map_err(|error| error.to_string())?.unwrap();
        shake_hands(server, client.connect(host).unwrap())
    }
}

fn shake_hands(mut server: Records, mut client: Records) -> Result<(), String> {
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    let mut is_done = [false; 2];
    client.open(&mut [], |_| {}, &mut to_server).unwrap();
    while is_done != [true; 2] {
        let opened = server.open(&mut std::mem::take(&mut to_server), |_| {}, &mut to_client);
        is_done[0] |= opened.map_err(|error| format!("server: {error}"))?.may_seal;
        let opened = client.open(&mut std::mem::take(&mut to_client), |_| {}, &mut to_server);
        is_done[1] |= opened.map_err(|error| error.to_string())?.may_seal;
    }
    Ok(())
}

use ServerSslMode::{Prefer, Require, VerifyCa, VerifyFull};

fn refused(outcome: Result<(), String>, why: &str) {
    let error = outcome.expect_err("it is refused");
    assert!(error.contains(why), "{error}");
}

#[test]
fn a_certificate_that_is_its_own_root() {
    let made = Made::new();
    made.openssl(
        "req -new -x509 -days 365 -nodes -text -out server.crt -keyout server.key -subj /CN=db.example",
    );
    for mode in [Prefer, Require, VerifyCa, VerifyFull] {
        assert_eq!(made.connect(mode, Some("server.crt"), "db.example"), Ok(()), "{mode:?}");
    }
    assert_eq!(
        made.connect(VerifyCa, Some("server.crt"), "other.example"),
        Ok(()),
        "the name does not count"
    );
    refused(made.connect(VerifyFull, Some("server.crt"), "other.example"), "not for this host name");
    assert_eq!(made.connect(Require, None, "other.example"), Ok(()), "nobody is asked");
    refused(made.connect(VerifyCa, None, "db.example"), "need sslrootcert");
}

#[test]
fn a_certificate_of_version_1_by_the_manuals_root() {
    let made = Made::new();
    made.root_and_request("db.example");
    made.openssl("x509 -req -in server.csr -text -days 365 -CA root.crt -CAkey root.key -CAcreateserial -out server.crt");
    assert_eq!(made.connect(VerifyFull, Some("root.crt"), "db.example"), Ok(()));
    refused(made.connect(VerifyFull, Some("root.crt"), "other.example"), "not for this host name");
    let other = Made::new();
    other.root_and_request("db.example");
    std::fs::copy(Path::new(&other.path("root.crt")), made.path("other.crt")).unwrap();
    refused(made.connect(VerifyCa, Some("other.crt"), "db.example"), "its signature is not that of the root");
}

#[test]
fn a_certificate_with_what_has_to_be_understood_and_is_not() {
    let made = Made::new();
    made.root_and_request("db.example");
    made.sign("subjectAltName=DNS:db.example\n1.2.3.4=critical,ASN1:NULL");
    for mode in [VerifyCa, VerifyFull] {
        refused(made.connect(mode, Some("root.crt"), "db.example"), "critical extension that is not known");
    }
    assert_eq!(made.connect(Require, None, "db.example"), Ok(()), "nobody is asked");
}

#[test]
fn a_servers_own_certificate_among_the_roots_vouches_for_no_other() {
    let made = Made::new();
    made.root_and_request("db.example");
    // Another server's, which is its own root.
    for extensions in ["basicConstraints=CA:FALSE", "subjectAltName=DNS:other.example"] {
        made.write("extensions", &format!("[own]\n{extensions}\n[req]\ndistinguished_name=dn\n[dn]\n"));
        made.openssl("req -x509 -nodes -days 30 -subj /CN=other.example -config extensions -extensions own -keyout other.key -out other.crt");
        made.write("names", "subjectAltName=DNS:db.example");
        for names in [" -extfile names", ""] {
            made.openssl(&format!(
                "x509 -req -in server.csr -days 30 -CA other.crt -CAkey other.key -CAcreateserial{names} -out server.crt"
            ));
            let roots =
                ["root.crt", "other.crt"].map(|file| std::fs::read_to_string(made.path(file)).unwrap());
            made.write("roots.crt", &roots.concat());
            refused(made.connect(VerifyFull, Some("roots.crt"), "db.example"), "none of the roots");
        }
        made.openssl("x509 -in other.crt -out server.crt");
        std::fs::copy(made.path("other.key"), made.path("server.key")).unwrap();
        assert_eq!(
            made.connect(VerifyFull, Some("roots.crt"), "other.example"),
            Ok(()),
            "it is there itself"
        );
        made.root_and_request("db.example");
    }
}

#[test]
fn names_of_a_certificate() {
    let made = Made::new();
    made.root_and_request("common.example");
    made.sign("subjectAltName=DNS:db.example,DNS:*.pool.example,IP:10.0.0.1");
    for host in ["db.example", "db.example.", "a.pool.example", "10.0.0.1"] {
        assert_eq!(made.connect(VerifyFull, Some("root.crt"), host), Ok(()), "{host}");
    }
    for host in ["common.example", "a.b.pool.example", "10.0.0.2"] {
        refused(made.connect(VerifyFull, Some("root.crt"), host), "not for this host name");
    }
    made.sign("basicConstraints=CA:FALSE");
    assert_eq!(made.connect(VerifyFull, Some("root.crt"), "common.example"), Ok(()), "it has no other name");
}

/// Each as libpq 15 judges it.
#[test]
fn a_common_name_counts_without_another_name_of_the_hosts_kind() {
    let made = Made::new();
    made.root_and_request("db.example");
    for (common, names, host, is_taken) in [
        ("db.example", "IP:10.0.0.5", "db.example", true),
        ("db.example", "IP:10.0.0.5", "10.0.0.5", true),
        ("db.example", "IP:10.0.0.5", "other.example", false),
        ("db.example", "DNS:other.example", "db.example", false),
        ("db.example", "email:dba@db.example", "db.example", true),
        ("10.0.0.5", "DNS:db", "10.0.0.5", true),
        ("10.0.0.5", "IP:10.0.0.6", "10.0.0.5", false),
        ("common", "DNS:10.0.0.5", "10.0.0.5", true),
        ("common", "DNS:10.0.0.5", "10.0.0.6", false),
        ("common", "IP:fd00::5", "fd00::5", true),
        ("fd00::5", "DNS:db", "fd00::5", true),
        ("common", "DNS:*.example", "db.example", true),
    ] {
        made.openssl(&format!(
            "req -new -nodes -newkey ed25519 -subj /CN={common} -keyout server.key -out server.csr"
        ));
        made.sign(&format!("subjectAltName={names}"));
        let outcome = made.connect(VerifyFull, Some("root.crt"), host);
        let what = format!("CN={common} {names}, reached as {host}");
        if is_taken {
            assert_eq!(outcome, Ok(()), "{what}");
        } else {
            let error = outcome.expect_err(&what);
            assert!(error.contains("not for this host name"), "{what}: {error}");
        }
    }
}

#[test]
fn a_certificate_by_another_root_or_at_another_time() {
    let made = Made::new();
    made.root_and_request("db.example");
    made.sign("subjectAltName=DNS:db.example");
    made.openssl(
        "req -new -x509 -nodes -days 30 -subj /CN=stranger.example -keyout stranger.key -out stranger.crt",
    );
    for mode in [Prefer, Require, VerifyCa] {
        refused(made.connect(mode, Some("stranger.crt"), "db.example"), "none of the roots");
    }
    for ((from, to), why) in [((2019, 2020), "has expired"), ((2090, 2091), "not valid yet")] {
        let mut parameters = rcgen::CertificateParams::new(["db.example".to_owned()]).unwrap();
        parameters.not_before = rcgen::date_time_ymd(from, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(to, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        made.write("server.crt", &parameters.self_signed(&key).unwrap().pem());
        made.write("server.key", &key.serialize_pem());
        refused(made.connect(VerifyCa, Some("server.crt"), "db.example"), why);
    }
    assert_eq!(made.connect(Require, None, "db.example"), Ok(()));
}

/// A root with what it needs to revoke certificates.
fn revoking_root(made: &Made) -> rcgen::Issuer<'static, rcgen::KeyPair> {
    revoking(made, "root")
}

/// A CA `name.example`, which is its own root, with `name.crt` and `name.key`.
fn revoking(made: &Made, name: &str) -> rcgen::Issuer<'static, rcgen::KeyPair> {
    let mut parameters = rcgen::CertificateParams::default();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, format!("{name}.example"));
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    made.write(&format!("{name}.crt"), &parameters.self_signed(&key).unwrap().pem());
    made.write(&format!("{name}.key"), &key.serialize_pem());
    rcgen::Issuer::new(parameters, key)
}

/// Its list, in force until that year, with this serial number.
fn list(root: &rcgen::Issuer<'_, rcgen::KeyPair>, until: i32, serial: u64) -> String {
    list_of(root, 2019, until, serial)
}

/// The same, made in a year.
fn list_of(root: &rcgen::Issuer<'_, rcgen::KeyPair>, made: i32, until: i32, serial: u64) -> String {
    let revoked = rcgen::RevokedCertParams {
        serial_number: serial.into(),
        revocation_time: rcgen::date_time_ymd(2019, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let list = rcgen::CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(made, 1, 1),
        next_update: rcgen::date_time_ymd(until, 1, 1),
        crl_number: 1_u64.into(),
        issuing_distribution_point: None,
        revoked_certs: vec![revoked],
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    list.signed_by(root).unwrap().pem().unwrap()
}

#[test]
fn a_certificate_that_is_revoked_or_of_which_nobody_can_say() {
    let made = Made::new();
    let root = revoking_root(&made);
    made.openssl("req -new -nodes -subj /CN=db.example -keyout server.key -out server.csr");
    made.write("extensions", "subjectAltName=DNS:db.example");
    let lists = [
        (list(&root, 2090, 8), None),
        (list(&root, 2090, 9), Some("is revoked")),
        (list(&root, 2020, 8), Some("list has expired")),
        // Of two the newer counts, or the one that was added.
        (list_of(&root, 2019, 2090, 8) + &list_of(&root, 2021, 2090, 9), Some("is revoked")),
        (list_of(&root, 2021, 2090, 9) + &list_of(&root, 2019, 2090, 8), Some("is revoked")),
        (list(&root, 2090, 8) + &list(&root, 2090, 9), Some("is revoked")),
        (list_of(&root, 2019, 2020, 9) + &list_of(&root, 2021, 2090, 8), None),
        (list(&revoking_root(&Made::new()), 2090, 8), Some("")),
        // It must not come to nothing being looked at.
        (String::new(), Some("list: no revocation list in it")),
    ];
    let settings = ConnectSettings {
        sslmode: VerifyFull,
        sslrootcert: Some(made.path("root.crt")),
        sslcrl: Some(made.path("list")),
        ..ConnectSettings::default()
    };
    made.openssl("x509 -req -in server.csr -days 30 -CA root.crt -CAkey root.key -set_serial 9 -extfile extensions -out server.crt");
    for (list, why) in &lists {
        made.write("list", list);
        let outcome = made.connect_by(&settings, "db.example");
        match why {
            None => assert_eq!(outcome, Ok(())),
            Some(why) => refused(outcome, why),
        }
    }
    // Of version 1.
    made.openssl(
        "x509 -req -in server.csr -days 30 -CA root.crt -CAkey root.key -set_serial 9 -out server.crt",
    );
    for (list, why) in &lists[..7] {
        made.write("list", list);
        let outcome = made.connect_by(&settings, "db.example");
        match why {
            None => assert_eq!(outcome, Ok(())),
            Some(why) => refused(outcome, why),
        }
    }
    // By who has no list.
    let other = Made::new();
    other.root_and_request("db.example");
    other.openssl("req -new -x509 -nodes -days 30 -subj /CN=other.example -key root.key -out root.crt");
    let settings = ConnectSettings { sslrootcert: Some(other.path("root.crt")), ..settings };
    for extensions in [" -extfile extensions", ""] {
        other.write("extensions", "subjectAltName=DNS:db.example");
        other.openssl(&format!(
            "x509 -req -in server.csr -days 30 -CA root.crt -CAkey root.key -set_serial 9{extensions} -out server.crt"
        ));
        made.write("list", &lists[0].0);
        refused(other.connect_by(&settings, "db.example"), "no revocation list at hand");
    }
}

/// As libpq 15 judges it, which looks for a list of each certificate of the chain.
#[test]
fn a_certificate_that_is_its_own_root_and_is_revoked() {
    let made = Made::new();
    let own = revoking(&made, "server");
    // Numbers from 128 on have one byte more.
    for number in [9, 200] {
        made.openssl(&format!("req -new -x509 -days 30 -key server.key -subj /CN=server.example -set_serial {number} -out server.crt"));
        let settings = ConnectSettings {
            sslmode: VerifyFull,
            sslrootcert: Some(made.path("server.crt")),
            sslcrl: Some(made.path("list")),
            ..ConnectSettings::default()
        };
        made.write("list", &list(&own, 2090, 8));
        assert_eq!(made.connect_by(&settings, "server.example"), Ok(()));
        made.write("list", &list(&own, 2090, number));
        refused(made.connect_by(&settings, "server.example"), "is revoked");
        made.write("list", &list(&own, 2020, 8));
        refused(made.connect_by(&settings, "server.example"), "list has expired");
        made.write("list", &list(&revoking_root(&made), 2090, 8));
        refused(made.connect_by(&settings, "server.example"), "no revocation list at hand");
    }
}

/// As OpenSSL, which wants a chain up to a root.
#[test]
fn a_certificate_among_the_roots_by_a_ca_that_is_not() {
    let made = Made::new();
    made.root_and_request("db.example");
    for extensions in ["subjectAltName=DNS:db.example", "[none]"] {
        made.sign(extensions);
        refused(made.connect(VerifyCa, Some("server.crt"), "db.example"), "none of the roots");
        let both = ["server.crt", "root.crt"].map(|file| std::fs::read_to_string(made.path(file)).unwrap());
        made.write("both.crt", &both.concat());
        assert_eq!(made.connect(VerifyFull, Some("both.crt"), "db.example"), Ok(()), "{extensions}");
    }
    // Its own root, but for something else.
    made.openssl("req -new -x509 -nodes -days 30 -subj /CN=db.example -addext extendedKeyUsage=clientAuth -keyout server.key -out server.crt");
    assert!(made.connect(VerifyCa, Some("server.crt"), "db.example").is_err(), "it is for clients");
}

#[test]
fn a_chain_with_one_between() {
    let made = Made::new();
    made.root_and_request("db.example");
    made.openssl("req -new -nodes -subj /CN=between.example -keyout between.key -out between.csr");
    made.write("ca", "basicConstraints=critical,CA:TRUE");
    made.openssl("x509 -req -in between.csr -days 30 -CA root.crt -CAkey root.key -CAcreateserial -extfile ca -out between.crt");
    made.write("extensions", "subjectAltName=DNS:db.example");
    made.openssl("x509 -req -in server.csr -days 30 -CA between.crt -CAkey between.key -CAcreateserial -extfile extensions -out leaf.crt");
    let chain = ["leaf.crt", "between.crt"].map(|file| std::fs::read_to_string(made.path(file)).unwrap());
    made.write("server.crt", &chain[0]);
    refused(made.connect(VerifyFull, Some("root.crt"), "db.example"), "none of the roots");
    made.write("server.crt", &chain.concat());
    assert_eq!(made.connect(VerifyFull, Some("root.crt"), "db.example"), Ok(()));
}

#[test]
fn the_roots_of_the_machine_count_for_names_alone() {
    let weak = ConnectSettings {
        sslmode: VerifyCa,
        sslrootcert: Some("system".to_owned()),
        ..ConnectSettings::default()
    };
    refused(ServerTls::load(&weak).map(drop).map_err(|error| error.to_string()), "needs sslmode verify-full");
}

#[test]
fn revocation_lists_are_read_without_roots_too() {
    let settings = ConnectSettings {
        sslmode: ServerSslMode::Require,
        sslcrl: Some("/nonexistent/list".to_owned()),
        ..ConnectSettings::default()
    };
    refused(ServerTls::load(&settings).map(drop).map_err(|error| error.to_string()), "/nonexistent/list");
    let made = Made::new();
    made.root_and_request("db.example");
    made.sign("subjectAltName=DNS:db.example");
    let settings = AcceptSettings {
        cert_file: Some(made.path("server.crt")),
        key_file: Some(made.path("server.key")),
        crl_file: Some(made.path("list")),
        ..AcceptSettings::default()
    };
    refused(Acceptor::load(&settings).map(drop).map_err(|error| error.to_string()), &made.path("list"));
}
