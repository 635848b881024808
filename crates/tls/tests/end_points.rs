//! What logins are bound to, as `openssl` computes it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::process::Command;

use tempfile::TempDir;
use trunkline_tls::EndPoint;
use trunkline_tls::accept::{AcceptSettings, Acceptor};
use trunkline_tls::connect::{ConnectSettings, ServerSslMode, ServerTls};

fn openssl(directory: &TempDir, words: &str) -> String {
    let output = Command::new("openssl").args(words.split(' ')).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "openssl {words}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Both ends' view of a connection whose server has a certificate made by `openssl req` with these words.
fn ends(directory: &TempDir, words: &str) -> [Option<EndPoint>; 2] {
    let made =
        format!("req -new -x509 -nodes -subj /CN=db.example -keyout server.key -out server.crt {words}");
    openssl(directory, &made);
    let path = |file: &str| Some(directory.path().join(file).display().to_string());
    let (cert_file, key_file) = (path("server.crt"), path("server.key"));
    let accept = AcceptSettings { cert_file, key_file, ..AcceptSettings::default() };
    let connect = ConnectSettings { sslmode: ServerSslMode::Require, ..ConnectSettings::default() };
    let mut server = Acceptor::load(&accept).unwrap().unwrap().accept().unwrap();
    let mut client = ServerTls::load(&connect).unwrap().unwrap().connect("db.example").unwrap();
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    client.open(&mut [], |_| {}, &mut to_server).unwrap();
    let mut is_done = [false; 2];
    while is_done != [true; 2] {
        let opened = server.open(&mut std::mem::take(&mut to_server), |_| {}, &mut to_client);
        is_done[0] |= opened.unwrap().may_seal;
        let opened = client.open(&mut std::mem::take(&mut to_client), |_| {}, &mut to_server);
        is_done[1] |= opened.unwrap().may_seal;
    }
    [server.end_point(), client.end_point()]
}

#[test]
fn both_ends_hash_the_certificate_as_its_signature_does() {
    let directory = tempfile::tempdir().unwrap();
    let pss = "-sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:-1";
    let ec = |curve: &str| format!("-newkey ec -pkeyopt ec_paramgen_curve:{curve}");
    for (words, hash) in [
        (format!("{} -sha256", ec("P-256")), "sha256"),
        (format!("{} -sha384", ec("P-384")), "sha384"),
        (format!("{} -sha512", ec("P-256")), "sha512"),
        (format!("{} -sha224", ec("P-256")), "sha224"),
        // RFC 5929: SHA-256 in the place of what is broken.
        (format!("{} -sha1", ec("P-256")), "sha256"),
        ("-newkey rsa:2048 -sha1".to_owned(), "sha256"),
        ("-newkey rsa:2048 -md5".to_owned(), "sha256"),
        ("-newkey rsa:2048 -sha224".to_owned(), "sha224"),
        ("-newkey rsa:2048 -sha256".to_owned(), "sha256"),
        ("-newkey rsa:2048 -sha384".to_owned(), "sha384"),
        ("-newkey rsa:2048 -sha512".to_owned(), "sha512"),
        ("-newkey rsa:2048 -sha512-256".to_owned(), "sha512-256"),
        (format!("-newkey rsa:2048 -sha256 {pss}"), "sha256"),
        (format!("-newkey rsa:2048 -sha384 {pss}"), "sha384"),
        (format!("-newkey rsa:2048 -sha1 {pss}"), "sha256"),
    ] {
        let ends = ends(&directory, &words).map(Option::unwrap);
        openssl(&directory, "x509 -in server.crt -outform der -out server.der");
        let digest = openssl(&directory, &format!("dgst -{hash} -r server.der"));
        for end in ends {
            let hex: String = end.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(Some(hex.as_str()), digest.split(' ').next(), "{words}");
        }
    }
}

#[test]
fn nothing_is_bound_to_a_signature_without_a_hash() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(ends(&directory, "-newkey ed25519"), [None, None]);
    let unknown = "-newkey rsa:2048 -sha3-256";
    assert_eq!(ends(&directory, unknown), [None, None], "a hash of the future");
}
