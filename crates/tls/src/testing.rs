//! Both ends of a connection, for tests.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::Records;

/// A server named `db.example` with a certificate of its own, and a client that trusts it.
///
/// # Panics
/// When no certificate can be made.
#[must_use]
pub fn configs() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(["db.example".to_owned()]).expect("the name is fit");
    let certificate: CertificateDer<'static> = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("it is a key");
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("it is a certificate");
    let server = ServerConfig::builder().with_no_client_auth();
    let mut server = server.with_single_cert(vec![certificate], key).expect("the key fits");
    server.send_tls13_tickets = 0;
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

/// The records of both: server and client.
///
/// # Panics
/// As [`configs`].
#[must_use]
pub fn records() -> (Records, Records) {
    let (server, client) = configs();
    let name = ServerName::try_from("db.example").expect("it is a name");
    let client = Records::client(client, name).expect("the configuration is fit");
    (Records::server(server).expect("the configuration is fit"), client)
}
