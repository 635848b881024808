//! Keys of `[server_tls]`: each changes what a server sees, and what it does not take is said in words of its own.

use std::process::{Child, Command, Stdio};

use trunkline_cluster::{PortLease, Server};
use trunkline_tests::{Overheard, TlsBeginning, Wiretap};

use super::*;

/// Waits until the endpoint says for what reason it does not reach a server.
fn fails_for(endpoint: &Endpoint, name: &str, reason: &str) {
    eventually(PATIENCE, reason, || member(endpoint, name).contains(reason));
    assert_eq!(endpoint.status_of(&format!("/{name}")), 503);
}

#[test]
fn tls_begins_at_once_with_servers_that_take_it() {
    let cluster = tls_cluster(Some(pg18()), 1);
    let wiretap = Wiretap::before(cluster.replicas[0].port());
    let endpoint = Endpoint::over(&cluster)
        .auth(Auth::Verify)
        .with_tls()
        .key("server_tls.sslnegotiation", "\"direct\"")
        .through("replica1", wiretap.port())
        .start();
    assert_eq!(ask(endpoint.reads(), &[], ENCRYPTED).as_deref(), Ok("t"));
    let at_once = Overheard::Tls { begun: TlsBeginning::AtOnce, server_name: None };
    let overheard = wiretap.overheard();
    assert!(overheard.len() >= 2, "a probe and a session: {overheard:?}");
    assert!(overheard.iter().all(|one| [&at_once, &Overheard::Unfinished].contains(&one)), "{overheard:?}");
}

#[test]
fn a_server_before_17_is_told_what_direct_tls_needs() {
    let endpoint = both().key("server_tls.sslnegotiation", "\"direct\"");
    let endpoint =
        ["primary", "replica1", "replica2"].into_iter().fold(endpoint, EndpointBuilder::not_awaiting);
    let endpoint = endpoint.start();
    let why = "connection lost: the server ended the connection when TLS began without a request: if it is up, it is older than \
               PostgreSQL 17, which sslnegotiation = \"direct\" needs, or has ssl = off";
    // As it is in JSON.
    fails_for(&endpoint, "replica1", &why.replace('"', "\\\""));
}

#[test]
fn servers_are_told_their_name_unless_sslsni_is_off() {
    let server = &cluster().replicas[0];
    for (sslsni, server_name) in [("on", Some("localhost".to_owned())), ("off", None)] {
        let wiretap = Wiretap::before(server.port());
        let named = format!("[[server]]\nname = \"named\"\naddress = \"localhost:{}\"\n", wiretap.port());
        let endpoint = both()
            .key("server_tls.sslsni", &format!("{sslsni:?}"))
            .toml(&named)
            .without("replica1")
            .without("replica2")
            .awaiting("named")
            .start();
        assert_eq!(ask(endpoint.reads(), &[], "SHOW cluster_name").as_deref(), Ok("replica1"));
        let wanted = Overheard::Tls { begun: TlsBeginning::Asked, server_name };
        let overheard = wiretap.overheard();
        assert!(overheard.len() >= 2, "a probe and a session: {overheard:?}");
        assert!(
            overheard.iter().all(|one| [&wanted, &Overheard::Unfinished].contains(&one)),
            "sslsni = {sslsni}: {overheard:?}"
        );
    }
}

/// By which version the server speaks with libpq.
fn version_of(server: &Server) -> Result<String, String> {
    ask(server.port(), &[("PGSSLMODE", "require")], VERSION)
}

const VERSION: &str = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

#[test]
fn versions_that_a_server_does_not_speak_are_told_from_a_server_that_is_down() {
    let cluster = tls_cluster(None, 1);
    let older = &cluster.replicas[0];
    older.set("ssl_max_protocol_version", "TLSv1.2").unwrap();
    eventually(PATIENCE, "the server is limited", || version_of(older).as_deref() == Ok("TLSv1.2"));
    let endpoint = || Endpoint::over(&cluster).auth(Auth::Verify).with_tls();

    let usual = endpoint().start();
    assert_eq!(ask(usual.reads(), &[], VERSION).as_deref(), Ok("TLSv1.2"), "the newest that both know");
    assert_eq!(ask(usual.writes(), &[], VERSION).as_deref(), Ok("TLSv1.3"));

    let newest =
        endpoint().key("server_tls.ssl_min_protocol_version", "\"TLSv1.3\"").not_awaiting("replica1");
    let newest = newest.start();
    fails_for(
        &newest,
        "replica1",
        "TLS failed: the other end refuses: it speaks no version of TLS that we do",
    );
    assert_eq!(ask(newest.writes(), &[], VERSION).as_deref(), Ok("TLSv1.3"));

    let oldest = endpoint().key("server_tls.ssl_max_protocol_version", "\"TLSv1.2\"").start();
    assert_eq!(ask(oldest.writes(), &[], VERSION).as_deref(), Ok("TLSv1.2"));
}

/// `openssl s_server`, ended when dropped.
struct WeakServer(Child, PortLease);

impl WeakServer {
    /// One that takes TLS at once, and whose own OpenSSL does not mind a key of 1,024 bits.
    fn start(directory: &std::path::Path) -> Self {
        let words = "req -x509 -nodes -newkey rsa:1024 -days 9 -subj /CN=weak -keyout weak.key -out weak.crt";
        let made = Command::new("openssl").args(words.split(' ')).current_dir(directory).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let lease = PortLease::take().unwrap();
        let mut command = Command::new("openssl");
        command.args(["s_server", "-cert", "weak.crt", "-key", "weak.key", "-alpn", "postgresql", "-accept"]);
        command.arg(format!("127.0.0.1:{}", lease.port())).args(["-cipher", "DEFAULT@SECLEVEL=0"]);
        // Its input stays open: at its end it would end, too.
        command.current_dir(directory).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap(), lease)
    }
}

impl Drop for WeakServer {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[test]
fn a_server_whose_key_is_too_short_is_refused_as_libpq_does() {
    let directory = tempfile::tempdir().unwrap();
    let weak = WeakServer::start(directory.path());
    let root = directory.path().join("weak.crt").display().to_string();
    let endpoint = Endpoint::over_none()
        .toml(&format!("[[server]]\nname = \"weak\"\naddress = \"127.0.0.1:{}\"\n", weak.1.port()))
        .key("server_tls.sslmode", "\"verify-ca\"")
        .key("server_tls.sslnegotiation", "\"direct\"")
        .key("server_tls.sslrootcert", &format!("{root:?}"))
        .start();
    fails_for(&endpoint, "weak", "TLS failed: certificate verify failed: it has an RSA key of 1024 bits");
    let mut psql = pg18().command("psql");
    let port = weak.1.port();
    let target =
        format!("host=127.0.0.1 port={port} sslmode=verify-ca sslnegotiation=direct sslrootcert={root}");
    let said = psql.arg(target).output().unwrap();
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("certificate verify failed"), "{said}");
}
