//! Both ends of a connection, for tests.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedCipherSuite};

use crate::{Records, suites};

/// A server named `db.example` with a certificate of its own, and a client that trusts it.
///
/// # Panics
/// When no certificate can be made.
#[must_use]
pub fn configs() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let provider = Arc::new(suites::provider());
    configs_by(&provider, &provider)
}

fn configs_by(
    of_server: &Arc<CryptoProvider>,
    of_client: &Arc<CryptoProvider>,
) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(["db.example".to_owned()]).expect("the name is fit");
    let certificate: CertificateDer<'static> = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("it is a key");
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("it is a certificate");
    let server = ServerConfig::builder_with_provider(Arc::clone(of_server))
        .with_safe_default_protocol_versions()
        .expect("it has suites")
        .with_no_client_auth();
    let mut server = server.with_single_cert(vec![certificate], key).expect("the key fits");
    server.send_tls13_tickets = 0;
    let client = ClientConfig::builder_with_provider(Arc::clone(of_client))
        .with_safe_default_protocol_versions()
        .expect("it has suites")
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

/// The records of both: server and client.
///
/// # Panics
/// As [`configs`].
#[must_use]
pub fn records() -> (Records, Records) {
    records_of(configs())
}

/// The same by TLS 1.2, with keys that seal so many records of the server and of the client. The end of the handshake is one
/// of them.
///
/// # Panics
/// As [`configs`].
#[must_use]
pub fn records_for(of_server: u64, of_client: u64) -> (Records, Records) {
    let [of_server, of_client] = [of_server, of_client].map(|records_max| {
        let mut provider = suites::provider();
        // They live as long as the tests.
        let suites = suites::tls12_for(records_max).leak();
        provider.cipher_suites = suites.iter().map(SupportedCipherSuite::Tls12).collect();
        Arc::new(provider)
    });
    records_of(configs_by(&of_server, &of_client))
}

fn records_of((server, client): (Arc<ServerConfig>, Arc<ClientConfig>)) -> (Records, Records) {
    let name = ServerName::try_from("db.example").expect("it is a name");
    let client = Records::client(client, name).expect("the configuration is fit");
    (Records::server(server).expect("the configuration is fit"), client)
}
