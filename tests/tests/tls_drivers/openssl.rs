//! OpenSSL's own client: what a listener agrees to, and what it does not.

use std::process::{Command, Stdio};
use std::time::Duration;

use trunkline_tests::{Endpoint, eventually, pg18, tls_cluster};

use crate::{endpoint, trusted};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What `openssl s_client` says of a connection that ends at once.
fn s_client(port: u16, words: &[&str]) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-CAfile", &trusted()]);
    command.args(["-verify_return_error", "-verify_ip", "127.0.0.1"]).args(words);
    let output = command.stdin(Stdio::null()).output().unwrap();
    [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat()
}

#[test]
fn openssl_verifies_the_certificate_by_each_version() {
    let endpoint = endpoint().start();
    let asked = ["-starttls", "postgres"];
    let at_once = ["-alpn", "postgresql"];
    for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        for way in [&asked, &at_once] {
            let said = s_client(endpoint.reads(), &[way[0], way[1], version]);
            assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
            assert!(said.contains(&format!("New, {name}, Cipher is ")), "{said}");
            assert_eq!(said.contains("ALPN protocol: postgresql"), way == &at_once, "{said}");
        }
    }
    let said = s_client(endpoint.reads(), &["-starttls", "postgres", "-tls1_1"]);
    assert!(said.contains("Cipher is (NONE)"), "{said}");
    let other = s_client(endpoint.reads(), &["-alpn", "http/1.1"]);
    assert!(other.contains("no application protocol"), "{other}");
}

/// How a connection ends that the other end has to end: whether a certificate was presented, the alert that came, and whether
/// the end came as TLS has it.
fn ended(port: u16, words: &[&str]) -> (bool, Option<String>, bool) {
    let said = s_client(port, &[&["-ign_eof"], words].concat());
    let alert = said.split(" alert ").nth(1).and_then(|rest| rest.split(':').next()).map(str::to_owned);
    (!said.contains("no peer certificate available"), alert, !said.contains("unexpected eof"))
}

#[test]
fn another_protocol_and_direct_tls_that_names_none_are_refused_as_by_postgresql_18() {
    let cluster = tls_cluster(Some(pg18()), 0);
    let endpoint = endpoint().start();
    let other = Some("no application protocol".to_owned());
    for version in ["-tls1_2", "-tls1_3"] {
        for (words, outcome) in [
            (&["-alpn", "http/1.1"][..], (false, other.clone(), true)),
            (&["-alpn", "postgresq,postgresql2"], (false, other.clone(), true)),
            (&["-starttls", "postgres", "-alpn", "http/1.1"], (false, other.clone(), true)),
            // The handshake is completed, and nothing that follows is read.
            (&[], (true, None, true)),
        ] {
            let words = [&[version], words].concat();
            assert_eq!(ended(cluster.primary.port(), &words), outcome, "PostgreSQL: {words:?}");
            assert_eq!(ended(endpoint.reads(), &words), outcome, "the proxy: {words:?}");
        }
    }
    let reason = "direct TLS without the application protocol";
    eventually(PATIENCE, "the log says why", || endpoint.log().matches(reason).count() == 2);
}

/// What s_client agrees on by these words, such as `TLSv1.3 TLS_AES_256_GCM_SHA384`, or the alert that it gets.
fn agreed(port: u16, words: &str) -> Result<String, String> {
    let words: Vec<&str> = ["-starttls", "postgres"].into_iter().chain(words.split_whitespace()).collect();
    let said = s_client(port, &words);
    let after =
        |start: &str| said.split(start).nth(1).and_then(|rest| rest.lines().next()).map(str::to_owned);
    let agreed = after("New, ").filter(|new| !new.contains("(NONE)"));
    match agreed {
        Some(agreed) => Ok(agreed.replace(", Cipher is", "")),
        None => Err(after(" alert ").unwrap_or(said)),
    }
}

/// Such a client is refused, as the `nth` of an endpoint.
#[track_caller]
fn refuses(endpoint: &Endpoint, nth: usize, port: u16, words: &str, alert: &str) {
    let refused = agreed(port, words).expect_err("it is refused");
    assert!(refused.starts_with(alert), "{words}: {refused}");
    let reason = "no version or cipher that both ends know: see the least version of each";
    let is_told = |line: &str| line.contains("TLS handshake failed") && line.contains(reason);
    eventually(PATIENCE, "the log says why", || {
        endpoint.log().lines().filter(|line| is_told(line)).count() == nth
    });
}

#[test]
fn a_listener_speaks_the_versions_of_its_configuration_and_no_other() {
    let endpoint = endpoint()
        .key("client_tls.min_protocol_version", "\"TLSv1.3\"")
        .env("TRUNKLINE__LISTENER__WRITES__TARGET_SESSION_ATTRS", "read-write")
        .env("TRUNKLINE__LISTENER__WRITES__CLIENT_TLS__MIN_PROTOCOL_VERSION", "TLSv1.2")
        .env("TRUNKLINE__LISTENER__WRITES__CLIENT_TLS__MAX_PROTOCOL_VERSION", "TLSv1.2")
        .start();
    let (newest, oldest) = (endpoint.reads(), endpoint.writes());
    for words in ["", "-tls1_3"] {
        assert!(agreed(newest, words).is_ok_and(|agreed| agreed.starts_with("TLSv1.3 ")), "{words}");
    }
    refuses(&endpoint, 1, newest, "-tls1_2", "protocol version");
    for words in ["", "-tls1_2"] {
        assert!(agreed(oldest, words).is_ok_and(|agreed| agreed.starts_with("TLSv1.2 ")), "{words}");
    }
    refuses(&endpoint, 2, oldest, "-tls1_3", "protocol version");
}

#[test]
fn a_listener_uses_the_ciphers_of_its_configuration_in_their_order() {
    // By the names of both kinds.
    let ciphers = "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384:\
                   TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,ECDHE-ECDSA-AES128-GCM-SHA256";
    let endpoint = endpoint().key("client_tls.ciphers", &format!("{ciphers:?}")).start();
    let port = endpoint.reads();
    for (words, cipher) in [
        (
            "-tls1_3 -ciphersuites TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256",
            "TLS_CHACHA20_POLY1305_SHA256",
        ),
        ("-tls1_3 -ciphersuites TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"),
        (
            "-tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305",
            "ECDHE-ECDSA-CHACHA20-POLY1305",
        ),
        (
            "-tls1_2 -cipher ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256",
            "ECDHE-ECDSA-AES128-GCM-SHA256",
        ),
    ] {
        let version = if words.starts_with("-tls1_3") { "TLSv1.3" } else { "TLSv1.2" };
        assert_eq!(agreed(port, words), Ok(format!("{version} {cipher}")), "{words}");
    }
    refuses(&endpoint, 1, port, "-tls1_3 -ciphersuites TLS_AES_128_GCM_SHA256", "handshake failure");
    refuses(&endpoint, 2, port, "-tls1_2 -cipher ECDHE-ECDSA-AES256-GCM-SHA384", "handshake failure");
}
