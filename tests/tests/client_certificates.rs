//! Certificates of clients where a listener demands them, and lists of those that are revoked.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use trunkline_tests::{
    Auth, Certificates, Endpoint, EndpointBuilder, eventually, psql_output, revocation_list, shared_cluster,
};

/// The files are looked at every 10 s.
const LOOKED: Duration = Duration::from_secs(60);
/// How soon a reload is in force.
const RELOADED: Duration = Duration::from_secs(30);

/// A root of clients, what it has signed, and its list of what it has revoked; gone with this.
struct Clients {
    directory: tempfile::TempDir,
    root: CertifiedIssuer<'static, KeyPair>,
}

impl Clients {
    /// Two clients, `kept` with the serial number 1 and `lost` with 2.
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "root of clients");
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let clients = Self { directory: tempfile::tempdir().unwrap(), root };
        clients.write("root.crt", &clients.root.pem());
        for (name, serial) in [("kept", 1_u64), ("lost", 2)] {
            let mut params = CertificateParams::default();
            params.serial_number = Some(serial.into());
            params.distinguished_name.push(DnType::CommonName, name);
            let key = KeyPair::generate().unwrap();
            clients.write(&format!("{name}.crt"), &params.signed_by(&key, &clients.root).unwrap().pem());
            clients.write(&format!("{name}.key"), &key.serialize_pem());
        }
        clients
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    /// In one step; such a file is for its owner alone, as libpq wants a key.
    fn write(&self, file: &str, text: &str) {
        let new = tempfile::NamedTempFile::new_in(&self.directory).unwrap();
        std::fs::write(new.path(), text).unwrap();
        new.persist(self.path(file)).unwrap();
    }

    /// The list, in force until that year, with these serial numbers.
    fn list(&self, until: i32, serials: &[u64]) -> String {
        revocation_list(&self.root, until, serials)
    }

    fn endpoint(&self) -> EndpointBuilder {
        let quoted = |path: PathBuf| format!("{path:?}");
        let [certificate, key] = Certificates::shared().endpoint();
        Endpoint::over(shared_cluster())
            .auth(Auth::Verify)
            .key("client_tls.cert_file", &quoted(certificate))
            .key("client_tls.key_file", &quoted(key))
            .key("client_tls.ca_file", &quoted(self.path("root.crt")))
    }

    /// What psql gets that presents the certificate of that name.
    fn ask(&self, port: u16, name: &str) -> Result<String, String> {
        let [certificate, key] =
            ["crt", "key"].map(|ending| self.path(&format!("{name}.{ending}")).display().to_string());
        ask(port, &[("PGSSLMODE", "require"), ("PGSSLCERT", &certificate), ("PGSSLKEY", &key)])
    }
}

fn ask(port: u16, environment: &[(&str, &str)]) -> Result<String, String> {
    let output = psql_output(port, environment, "SELECT 1");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Presents none, also where a home directory has one.
const WITHOUT: [(&str, &str); 3] =
    [("PGSSLMODE", "require"), ("PGSSLCERT", "/nonexistent.crt"), ("PGSSLKEY", "/nonexistent.key")];

#[test]
fn a_certificate_that_is_revoked_meanwhile_lets_nobody_in() {
    let clients = Clients::new();
    clients.write("list", &clients.list(2090, &[]));
    let endpoint = clients
        .endpoint()
        .with_admin()
        .key("client_tls.crl_file", &format!("{:?}", clients.path("list")))
        .key("client_tls.sslmode", "\"verify-ca\"")
        .start();
    let port = endpoint.reads();
    let comes_in = |name| clients.ask(port, name).is_ok();
    assert_eq!(clients.ask(port, "kept").as_deref(), Ok("1"));
    assert_eq!(clients.ask(port, "lost").as_deref(), Ok("1"));

    clients.write("list", &clients.list(2090, &[2]));
    eventually(LOOKED, "the new list is in force", || !comes_in("lost"));
    assert_eq!(clients.ask(port, "kept").as_deref(), Ok("1"));
    eventually(RELOADED, "the log says why", || endpoint.log().contains("revoked"));

    // What is no list leaves the one before in force.
    clients.write("list", "-----BEGIN X509 CRL-----\nbm9uZQ==\n-----END X509 CRL-----\n");
    let (code, said) = endpoint.admin(&["reload"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&clients.path("list").display().to_string()), "{said}");
    assert!(!comes_in("lost") && comes_in("kept"));

    // Of whom nobody can say whether it is revoked does not come in, as with PostgreSQL.
    clients.write("list", &clients.list(2020, &[]));
    endpoint.signal(Signal::SIGHUP);
    eventually(RELOADED, "the list has expired", || !comes_in("kept"));
    eventually(RELOADED, "the log says why", || endpoint.log().contains("expired"));

    clients.write("list", &clients.list(2090, &[1]));
    endpoint.signal(Signal::SIGHUP);
    eventually(RELOADED, "it is the other one that is revoked", || comes_in("lost"));
    assert!(!comes_in("kept"));
}

#[test]
fn a_certificate_is_demanded_by_one_listener_and_looked_at_by_another() {
    let clients = Clients::new();
    clients.write("list", &clients.list(2090, &[2]));
    let endpoint = clients
        .endpoint()
        .key("client_tls.crl_file", &format!("{:?}", clients.path("list")))
        .env("TRUNKLINE__LISTENER__WRITES__CLIENT_TLS__SSLMODE", "verify-full")
        .env("TRUNKLINE__LISTENER__WRITES__TARGET_SESSION_ATTRS", "read-write")
        .start();
    let (optional, demanded) = (endpoint.reads(), endpoint.writes());
    for port in [optional, demanded] {
        assert_eq!(clients.ask(port, "kept").as_deref(), Ok("1"));
        assert!(clients.ask(port, "lost").is_err(), "whoever presents one presents a good one");
        let stranger = Clients::new();
        assert!(stranger.ask(port, "kept").is_err(), "no root vouches for it");
    }
    assert_eq!(ask(optional, &WITHOUT).as_deref(), Ok("1"));
    assert!(ask(demanded, &WITHOUT).is_err());
    let plain = ask(demanded, &[("PGSSLMODE", "disable")]).unwrap_err();
    assert!(plain.contains("no encryption"), "{plain}");
}

#[test]
fn a_certificate_that_is_its_own_root_comes_in_and_vouches_for_no_other() {
    let clients = Clients::new();
    let self_signed = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::ExplicitNoCa;
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let (own, unknown) = (self_signed("own"), self_signed("unknown"));
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "child");
    let key = KeyPair::generate().unwrap();
    let child = params.signed_by(&key, &own).unwrap();
    let pairs = [
        ("own", own.pem(), own.key().serialize_pem()),
        ("unknown", unknown.pem(), unknown.key().serialize_pem()),
        ("child", child.pem(), key.serialize_pem()),
    ];
    for (name, certificate, key) in pairs {
        clients.write(&format!("{name}.crt"), &certificate);
        clients.write(&format!("{name}.key"), &key);
    }
    let both = format!("{}{}", clients.root.pem(), own.pem());
    for (roots, others) in [(own.pem(), false), (both, true)] {
        clients.write("root.crt", &roots);
        let endpoint = clients.endpoint().key("client_tls.sslmode", "\"verify-ca\"").start();
        let port = endpoint.reads();
        assert_eq!(clients.ask(port, "own").as_deref(), Ok("1"), "with others: {others}");
        assert!(clients.ask(port, "unknown").is_err() && clients.ask(port, "child").is_err());
        assert_eq!(clients.ask(port, "kept").is_ok(), others);
    }
}
