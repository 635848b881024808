//! Certificates that are replaced while they are in use.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::process::Command;

use tempfile::TempDir;
use trunkline_tls::Rotation;
use trunkline_tls::accept::{AcceptSettings, Acceptor};
use trunkline_tls::connect::{ConnectSettings, ServerTls};

/// Makes `name.crt` and `name.key`, valid for so many days.
fn make(directory: &TempDir, name: &str, key: &str, days: u32) {
    let words = format!(
        "req -x509 -nodes -newkey {key} -days {days} -subj /CN=proxy -keyout {name}.key -out {name}.crt"
    );
    let output = Command::new("openssl").args(words.split(' ')).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

const ECDSA: &str = "ec -pkeyopt ec_paramgen_curve:prime256v1";

fn path(directory: &TempDir, file: &str) -> String {
    directory.path().join(file).display().to_string()
}

/// Puts a file in another's place at once, as whoever renews certificates does.
fn replace(directory: &TempDir, file: &str, by: &str) {
    std::fs::copy(path(directory, by), path(directory, "new")).unwrap();
    std::fs::rename(path(directory, "new"), path(directory, file)).unwrap();
}

#[test]
fn a_pair_that_does_not_fit_leaves_the_old_one_in_force() {
    let directory = tempfile::tempdir().unwrap();
    make(&directory, "old", ECDSA, 2);
    make(&directory, "new1", "rsa:2048", 90);
    replace(&directory, "tls.crt", "old.crt");
    replace(&directory, "tls.key", "old.key");
    let settings = AcceptSettings {
        cert_file: Some(path(&directory, "tls.crt")),
        key_file: Some(path(&directory, "tls.key")),
        ..AcceptSettings::default()
    };
    let acceptor = Acceptor::load(&settings).unwrap().unwrap();
    let shared = acceptor.clone();
    let old = acceptor.certificate();
    assert!(!old.is_rsa && old.file == path(&directory, "tls.crt"), "{old:?}");
    replace(&directory, "tls.crt", "new1.crt");
    assert_eq!(acceptor.look(), Rotation::Broken);
    assert_eq!(acceptor.certificate(), old);
    assert!(shared.problem().unwrap().contains("the key is not that of the certificate"));
    replace(&directory, "tls.key", "new1.key");
    assert_eq!(acceptor.look(), Rotation::Renewed);
    let new = shared.certificate();
    assert!(new.is_rsa && new.expires_at > old.expires_at + 80 * 86_400, "{new:?}");
    assert_eq!((shared.problem(), acceptor.look()), (None, Rotation::Unchanged));
    shared.accept().unwrap();
}

#[test]
fn roots_and_the_proxys_own_certificate_for_servers_are_replaced_alike() {
    let directory = tempfile::tempdir().unwrap();
    make(&directory, "own", ECDSA, 2);
    make(&directory, "next", ECDSA, 90);
    replace(&directory, "root.crt", "own.crt");
    let settings = ConnectSettings {
        sslrootcert: Some(path(&directory, "root.crt")),
        sslcert: Some(path(&directory, "own.crt")),
        sslkey: Some(path(&directory, "own.key")),
        ..ConnectSettings::default()
    };
    let tls = ServerTls::load(&settings).unwrap().unwrap();
    let before = tls.certificate().unwrap();
    replace(&directory, "root.crt", "own.key");
    assert_eq!(tls.look(), Rotation::Broken);
    assert!(tls.problem().unwrap().contains("root.crt: no certificate in it"), "{:?}", tls.problem());
    replace(&directory, "root.crt", "next.crt");
    replace(&directory, "own.crt", "next.crt");
    replace(&directory, "own.key", "next.key");
    assert_eq!(tls.look(), Rotation::Renewed);
    assert!(tls.certificate().unwrap().expires_at > before.expires_at);
    let none = ServerTls::load(&ConnectSettings::default()).unwrap().unwrap();
    assert_eq!((none.certificate(), none.look()), (None, Rotation::Unchanged));
}
