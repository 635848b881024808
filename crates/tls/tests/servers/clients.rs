//! The same certificates in the hands of clients, before a listener that demands one.

use trunkline_tls::TlsVersion;
use trunkline_tls::accept::{AcceptSettings, Acceptor, ClientSslMode};
use trunkline_tls::connect::{ConnectSettings, ServerSslMode, ServerTls};

use super::{Made, list, refused, revoking_root, shake_hands};

impl Made {
    /// A root of clients, the listener's own certificate, and a request of a client with such a key.
    pub(super) fn listener(key: &str) -> Self {
        let made = Self::new();
        made.root_and_request("listener.example");
        made.sign("subjectAltName=DNS:listener.example");
        made.ask(key);
        made
    }

    fn ask(&self, key: &str) {
        self.openssl(&format!("req -new -nodes -subj /CN=app -newkey {key} -keyout app.key -out app.csr"));
    }

    /// Signs it by the root, with more words of `openssl x509`.
    fn sign_client(&self, words: &str) {
        self.write("client", "basicConstraints=CA:FALSE");
        self.openssl(&format!(
            "x509 -req -in app.csr -CA root.crt -CAkey root.key -set_serial 9 -out app.crt {words}"
        ));
    }

    pub(super) fn accept(&self) -> AcceptSettings {
        AcceptSettings {
            sslmode: Some(ClientSslMode::VerifyFull),
            cert_file: Some(self.path("server.crt")),
            key_file: Some(self.path("server.key")),
            ca_file: Some(self.path("root.crt")),
            ..AcceptSettings::default()
        }
    }

    /// Comes to such a listener with that certificate.
    pub(super) fn come(&self, accept: &AcceptSettings) -> Result<(), String> {
        let listener = Acceptor::load(accept).map_err(|error| error.to_string())?.unwrap();
        let client = ConnectSettings {
            sslmode: ServerSslMode::Require,
            sslcert: Some(self.path("app.crt")),
            sslkey: Some(self.path("app.key")),
            ..ConnectSettings::default()
        };
        let client = ServerTls::load(&client).unwrap().unwrap();
        shake_hands(listener.accept().unwrap(), client.connect("listener.example").unwrap())
    }
}

const OF_VERSION_3: &str = "-days 30 -extfile client";

#[test]
fn a_certificate_by_another_root_or_at_another_time() {
    let made = Made::listener("ed25519");
    made.sign_client("-days -1 -extfile client");
    refused(made.come(&made.accept()), "server: certificate verify failed: the certificate has expired");
    made.sign_client(OF_VERSION_3);
    assert_eq!(made.come(&made.accept()), Ok(()));
    let other = Made::listener("ed25519");
    let accept = AcceptSettings { ca_file: Some(other.path("root.crt")), ..made.accept() };
    refused(made.come(&accept), "server: certificate verify failed");
    // One is demanded.
    let listener = Acceptor::load(&made.accept()).unwrap().unwrap();
    let client = ConnectSettings { sslmode: ServerSslMode::Require, ..ConnectSettings::default() };
    let client = ServerTls::load(&client).unwrap().unwrap();
    let outcome = shake_hands(listener.accept().unwrap(), client.connect("listener.example").unwrap());
    refused(outcome, "the other end shows no certificate");
}

#[test]
fn a_certificate_that_is_revoked_or_of_which_nobody_can_say() {
    let made = Made::listener("ed25519");
    let root = revoking_root(&made);
    made.sign_client(OF_VERSION_3);
    let accept = AcceptSettings { crl_file: Some(made.path("list")), ..made.accept() };
    let strangers = list(&revoking_root(&Made::new()), 2090, 8);
    for (list, why) in [
        (list(&root, 2090, 8), None),
        (list(&root, 2090, 9), Some("server: certificate verify failed: the certificate is revoked")),
        (list(&root, 2020, 8), Some("list has expired")),
        (strangers, Some("")),
        // It must not come to nothing being looked at.
        (String::new(), Some("list: no revocation list in it")),
        ("-----BEGIN X509 CRL-----\nbm9uZQ==\n-----END X509 CRL-----\n".to_owned(), Some("cannot be read")),
    ] {
        made.write("list", &list);
        let outcome = made.come(&accept);
        match why {
            None => assert_eq!(outcome, Ok(())),
            Some(why) => refused(outcome, why),
        }
    }
}

#[test]
fn a_certificate_of_version_1_by_the_manuals_root() {
    let made = Made::listener("ed25519");
    for key in ["ed25519", "ec -pkeyopt ec_paramgen_curve:P-256", "rsa:2048"] {
        made.ask(key);
        made.sign_client("-days 30");
        for version in [TlsVersion::V12, TlsVersion::V13] {
            let accept = AcceptSettings { max_protocol_version: version, ..made.accept() };
            assert_eq!(made.come(&accept), Ok(()), "{key} {version:?}");
        }
    }
    let other = Made::listener("ed25519");
    let accept = AcceptSettings { ca_file: Some(other.path("root.crt")), ..made.accept() };
    refused(made.come(&accept), "server: certificate verify failed");
    made.sign_client("-days -1");
    refused(made.come(&made.accept()), "the certificate has expired");
    let root = revoking_root(&made);
    made.sign_client("-days 30");
    let accept = AcceptSettings { crl_file: Some(made.path("list")), ..made.accept() };
    for (list, why) in [
        (list(&root, 2090, 8), None),
        (list(&root, 2090, 9), Some("is revoked")),
        (list(&root, 2020, 8), Some("list has expired")),
    ] {
        made.write("list", &list);
        let outcome = made.come(&accept);
        match why {
            None => assert_eq!(outcome, Ok(())),
            Some(why) => refused(outcome, why),
        }
    }
}
