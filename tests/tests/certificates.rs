//! Certificates of a running proxy: renewed, broken, about to expire.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use trunkline_tests::{
    Auth, Certificates, Endpoint, Wire, eventually, http_get, psql_output, shared_cluster, tls_cluster,
};

/// The files are looked at every 10 s.
const LOOKED: Duration = Duration::from_secs(60);

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

    /// Puts these in force as the kubelet does with a Secret: both files are links through `..data`, which leads to a directory
    /// of this version, and in one step to another. The directory before is removed.
    fn swap(&self, certificate: &str, key: &str) {
        let version = tempfile::Builder::new().prefix("..2026_").tempdir_in(self.0.path()).unwrap().keep();
        std::fs::copy(self.path(certificate), version.join("tls.crt")).unwrap();
        std::fs::copy(self.path(key), version.join("tls.key")).unwrap();
        let data = self.path("..data");
        let before = std::fs::read_link(&data).ok();
        symlink(version.file_name().unwrap(), self.path("..data_tmp")).unwrap();
        std::fs::rename(self.path("..data_tmp"), data).unwrap();
        match before {
            Some(before) => std::fs::remove_dir_all(self.0.path().join(before)).unwrap(),
            None => ["tls.crt", "tls.key"]
                .iter()
                .for_each(|file| symlink(Path::new("..data").join(file), self.path(file)).unwrap()),
        }
    }

    fn toml(&self) -> String {
        let [certificate, key] = ["tls.crt", "tls.key"].map(|file| self.path(file));
        format!("[client_tls]\nsslmode = \"prefer\"\ncert_file = {certificate:?}\nkey_file = {key:?}\n")
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

#[test]
fn a_replaced_root_of_servers_counts_for_sessions_and_probes_and_auto_stays_what_it_was() {
    let cluster = tls_cluster(None, 1);
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root.crt");
    std::fs::copy(Certificates::shared().root(), &root).unwrap();
    let endpoint = Endpoint::over(&cluster)
        .auth(Auth::Auto)
        .with_tls()
        .key("server_tls.sslrootcert", &format!("{root:?}"))
        .key("monitor.conninfo", "\"user=postgres password=postgres dbname=appdb\"")
        .with_admin()
        .start();
    let chosen = "auth      verify, chosen by auto: the monitoring role may read stored secrets";
    let choice = || endpoint.admin(&["status"]).1;
    eventually(LOOKED, "auto has chosen", || choice().contains(chosen));
    let trusts = Certificates::shared().root();
    assert_eq!(verified(endpoint.reads(), &trusts), Ok("1".to_owned()));
    let mut held = Wire::login(endpoint.reads());

    // All servers present certificates by another root, and so does the file, in one step.
    let other = Certificates::by_another_root();
    for server in cluster.servers() {
        for (name, value) in other.server_settings() {
            server.set(&name, &value).unwrap();
        }
    }
    let new = directory.path().join("new");
    std::fs::copy(other.root(), &new).unwrap();
    std::fs::rename(&new, &root).unwrap();
    for port in [endpoint.reads(), endpoint.writes()] {
        eventually(LOOKED, "new sessions verify by the new root", || verified(port, &trusts).is_ok());
    }
    assert_eq!(held.value("SELECT 2"), "2", "who is connected goes on");

    // So do probes that have to connect again.
    let probes = "FROM pg_stat_activity WHERE application_name = 'trunkline_health'";
    let oldest = format!("SELECT coalesce(extract(epoch FROM min(backend_start)), 0) {probes}");
    let oldest = |server: &trunkline_cluster::Server| server.psql(&oldest).unwrap().parse::<f64>().unwrap();
    for server in cluster.servers() {
        let now: f64 = server.psql("SELECT extract(epoch FROM now())").unwrap().parse().unwrap();
        server.psql(&format!("SELECT pg_terminate_backend(pid) {probes}")).unwrap();
        eventually(LOOKED, "a new probe is there", || oldest(server) > now);
        endpoint.await_health(server.name(), true, LOOKED);
    }
    assert!(choice().contains(chosen), "{}", choice());
    let log = endpoint.log();
    assert!(log.contains("files of TLS were replaced: new connections use them"), "{log}");
    assert_eq!(log.matches("chosen by auto").count(), 1, "it has chosen once: {log}");
}
