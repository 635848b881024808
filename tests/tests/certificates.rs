//! Certificates of a running proxy: renewed, broken, about to expire.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use trunkline_tests::{Endpoint, Wire, eventually, http_get, psql_output, shared_cluster};

/// The files are looked at every 10 s.
const LOOKED: Duration = Duration::from_secs(25);

/// A directory of certificates, gone with this.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    /// Makes `name.crt`, which is its own root, and `name.key`.
    fn make(&self, name: &str, days: u32) {
        let words = format!(
            "req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days {days} -subj /CN={name} \
             -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE \
             -keyout {name}.key -out {name}.crt"
        );
        let words = words.split_whitespace();
        let output = Command::new("openssl").args(words).current_dir(&self.0).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Puts these in force by a symbolic link, as Kubernetes does.
    fn swap(&self, certificate: &str, key: &str) {
        let version = tempfile::tempdir_in(self.0.path()).unwrap().keep();
        std::fs::copy(self.path(certificate), version.join("tls.crt")).unwrap();
        std::fs::copy(self.path(key), version.join("tls.key")).unwrap();
        std::os::unix::fs::symlink(version, self.path("..tmp")).unwrap();
        std::fs::rename(self.path("..tmp"), self.path("data")).unwrap();
    }

    fn toml(&self) -> String {
        let data = self.path("data");
        let data = data.display();
        format!(
            "[client_tls]\nsslmode = \"prefer\"\ncert_file = \"{data}/tls.crt\"\nkey_file = \"{data}/tls.key\"\n"
        )
    }
}

/// What psql says of the server's certificate when it trusts this root alone.
fn verified(port: u16, root: &Path) -> Result<String, String> {
    let root = root.display().to_string();
    let output = psql_output(port, &[("PGSSLMODE", "verify-full"), ("PGSSLROOTCERT", &root)], "SELECT 1");
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

fn metric(port: u16) -> Option<i64> {
    let text = http_get(port, "/metrics")?.body;
    let line =
        text.lines().find(|line| line.starts_with("trunkline_tls_certificate_expiry_timestamp_seconds{"))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn a_renewed_certificate_is_presented_and_a_broken_one_is_not() {
    let files = Files::new();
    files.make("old", 3);
    files.make("new", 90);
    files.swap("old.crt", "old.key");
    let endpoint = Endpoint::over(shared_cluster()).with_admin().toml(&files.toml()).start();
    let port = endpoint.reads();
    assert_eq!(verified(port, &files.path("old.crt")), Ok("1".to_owned()));
    let expired_at = metric(endpoint.http()).expect("the metric is there");
    let mut held = Wire::login(port);
    let (_, status) = endpoint.admin(&["status"]);
    assert!(status.contains("! the certificate for clients expires in 2 days"), "{status}");
    eventually(LOOKED, "the log warns", || endpoint.log().contains("a certificate expires soon"));

    files.swap("new.crt", "new.key");
    eventually(LOOKED, "the new certificate is presented", || verified(port, &files.path("new.crt")).is_ok());
    assert!(verified(port, &files.path("old.crt")).is_err());
    assert_eq!(held.value("SELECT 2"), "2", "who is connected goes on");
    assert!(endpoint.log().contains("files of TLS were replaced: new connections use them"));
    let renewed = metric(endpoint.http()).unwrap();
    assert!(renewed > expired_at + 80 * 86_400, "{expired_at} {renewed}");

    files.swap("old.crt", "new.key");
    let (code, said) = endpoint.admin(&["reload"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the key is not that of the certificate"), "{said}");
    assert!(verified(port, &files.path("new.crt")).is_ok(), "the old pair stays");
    let (_, status) = endpoint.admin(&["status"]);
    assert!(status.contains("! TLS of clients: not in force"), "{status}");
    let (_, json) = endpoint.admin(&["status", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(json["certificates"][0]["problem"].as_str().unwrap().contains("the key is not"), "{json}");
    let told = "files of TLS were replaced and cannot be used";
    eventually(LOOKED, "the log tells", || endpoint.log().contains(told));

    files.swap("old.crt", "old.key");
    endpoint.signal(Signal::SIGHUP);
    let limit = Duration::from_secs(5);
    eventually(limit, "SIGHUP is no slower", || verified(port, &files.path("old.crt")).is_ok());
    let (_, status) = endpoint.admin(&["status"]);
    assert!(!status.contains("not in force"), "{status}");
    assert_eq!(endpoint.log().matches(told).count(), 1, "it is told once");
}

#[test]
fn one_listener_demands_tls_and_another_does_not() {
    let files = Files::new();
    files.make("own", 90);
    files.swap("own.crt", "own.key");
    let tables = files.toml().replace("prefer", "require");
    let endpoint = Endpoint::over(shared_cluster())
        .toml(&tables)
        .env("TRUNKLINE__LISTENER__WRITES__CLIENT_TLS__SSLMODE", "disable")
        .env("TRUNKLINE__LISTENER__WRITES__TARGET_SESSION_ATTRS", "read-write")
        .start();
    let root = files.path("own.crt");
    assert_eq!(verified(endpoint.reads(), &root), Ok("1".to_owned()));
    let plain = psql_output(endpoint.reads(), &[("PGSSLMODE", "disable")], "SELECT 1");
    assert!(
        !plain.status.success() && String::from_utf8_lossy(&plain.stderr).contains("no encryption"),
        "{plain:?}"
    );
    assert_eq!(Wire::login(endpoint.writes()).value("SELECT 1"), "1");
    let refused = verified(endpoint.writes(), &root).unwrap_err();
    assert!(refused.contains("server does not support SSL"), "{refused}");
}
