//! TLS and credentials, with Patroni as the API.

use trunkline_discovery::SourceKind;
use trunkline_discovery::http::{CertificateCheck, HttpCredentials, HttpSettings, HttpTls, SecretFrom};
use trunkline_discovery::patroni::PatroniSettings;

use crate::certificates::{Authority, ClientCertificates};
use crate::fake::Fake;
use crate::patroni::{CLUSTER, ok, settings};
use crate::{error, follow, until};

fn patroni(fake: &Fake, http: HttpSettings) -> SourceKind {
    SourceKind::Patroni(PatroniSettings { http, ..settings(&[&fake.url]) })
}

fn trusting(authority: &Authority) -> HttpSettings {
    let tls = HttpTls { ca_file: Some(authority.file("ca.crt")), ..HttpTls::default() };
    HttpSettings { tls, ..HttpSettings::default() }
}

#[tokio::test]
async fn a_certificate_that_its_ca_vouches_for_is_believed() {
    let authority = Authority::new();
    let config = authority.server("localhost", ClientCertificates::Ignored);
    let fake = Fake::start_tls(config, |_| ok(CLUSTER)).await;
    let (_discovery, mut found) = follow(patroni(&fake, trusting(&authority)));
    let source = until(&mut found, |source| source.answer.is_some()).await;
    assert_eq!(source.members().len(), 4);
}

#[tokio::test]
async fn a_certificate_of_another_ca_or_name_is_not_believed_unless_that_is_wanted() {
    let (ours, another) = (Authority::new(), Authority::new());
    for (server, name) in [(&another, "localhost"), (&ours, "other.example")] {
        let config = server.server(name, ClientCertificates::Ignored);
        let fake = Fake::start_tls(config, |_| ok(CLUSTER)).await;
        let (_discovery, mut found) = follow(patroni(&fake, trusting(&ours)));
        let source = until(&mut found, |source| source.errors_since >= 1).await;
        assert!(error(&source).contains("could not ask https://localhost"), "{}", error(&source));
        assert_eq!((source.answer, fake.heads().len()), (None, 0), "nothing was said to it: {name}");
        let tls = HttpTls { check: CertificateCheck::Nothing, ..HttpTls::default() };
        let (_discovery, mut found) = follow(patroni(&fake, HttpSettings { tls, ..HttpSettings::default() }));
        until(&mut found, |source| source.answer.is_some()).await;
    }
    let config = ours.server("other.example", ClientCertificates::Ignored);
    let fake = Fake::start_tls(config, |_| ok(CLUSTER)).await;
    let mut chain = trusting(&ours);
    chain.tls.check = CertificateCheck::Chain;
    let (_discovery, mut found) = follow(patroni(&fake, chain));
    until(&mut found, |source| source.answer.is_some()).await;
}

#[tokio::test]
async fn a_certificate_of_the_proxy_is_shown() {
    let authority = Authority::new();
    let config = authority.server("localhost", ClientCertificates::Required);
    let fake = Fake::start_tls(config, |_| ok(CLUSTER)).await;
    let (_without, mut found) = follow(patroni(&fake, trusting(&authority)));
    let source = until(&mut found, |source| source.errors_since >= 1).await;
    assert_eq!(source.answer, None);
    let mut with = trusting(&authority);
    with.tls.cert_file = Some(authority.file("client.crt"));
    with.tls.key_file = Some(authority.file("client.key"));
    let (_with, mut found) = follow(patroni(&fake, with));
    until(&mut found, |source| source.answer.is_some()).await;
}

#[tokio::test]
async fn a_missing_ca_file_is_told_and_used_once_it_is_there() {
    let authority = Authority::new();
    let config = authority.server("localhost", ClientCertificates::Ignored);
    let fake = Fake::start_tls(config, |_| ok(CLUSTER)).await;
    let mut http = trusting(&authority);
    http.tls.ca_file = Some(authority.file("late.crt"));
    let (_discovery, mut found) = follow(patroni(&fake, http));
    let source = until(&mut found, |source| source.errors_since >= 1).await;
    assert!(error(&source).contains("late.crt"), "{}", error(&source));
    std::fs::copy(authority.file("ca.crt"), authority.file("late.crt")).unwrap();
    until(&mut found, |source| source.answer.is_some()).await;
}

#[tokio::test]
async fn a_password_of_a_file_is_read_each_time_and_never_told() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    let fake = Fake::start(|head| match head.contains("authorization: Basic cHJveHk6Z2VoZWlt\r\n") {
        true => ok(CLUSTER),
        false => crate::fake::Reply::Whole("401 Unauthorized", String::new()),
    })
    .await;
    let password = SecretFrom::File(file.clone());
    let credentials = HttpCredentials::Basic { username: "proxy".to_owned(), password };
    let settings = patroni(&fake, HttpSettings { credentials, ..HttpSettings::default() });
    let (_discovery, mut found) = follow(settings);
    let source = until(&mut found, |source| source.errors_since >= 1).await;
    assert!(error(&source).contains("could not read"), "{}", error(&source));
    std::fs::write(&file, "falsch\n").unwrap();
    let source = until(&mut found, |source| error(source).contains("401")).await;
    assert_eq!(source.answer, None);
    std::fs::write(&file, "geheim\n").unwrap();
    let source = until(&mut found, |source| source.answer.is_some()).await;
    assert!(!format!("{source:?}").contains("geheim"));
    let text = SecretFrom::Text("geheim".to_owned().into());
    assert!(!format!("{text:?}").contains("geheim"));
}
