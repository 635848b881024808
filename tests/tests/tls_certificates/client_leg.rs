//! Trunkline and PostgreSQL present the same certificates: psql and OpenSSL say the same of both.

use std::process::{Command, Stdio};

use trunkline_cluster::Cluster;
use trunkline_tests::{Auth, Endpoint, cluster_changed, eventually, pg18};

use crate::kinds::{Kind, Strength, Verdict, kinds};
use crate::made::Made;
use crate::{Judged, Judges, PATIENCE, await_presented, machines, present};

/// What `openssl s_client` says of the certificate at a port.
fn s_client(port: u16, made: &Made, kind: &Kind) -> Option<String> {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-starttls", "postgres", "-connect", &format!("127.0.0.1:{port}")]);
    command.args(["-CAfile", &made.path(kind.roots)]);
    let name = if kind.host == "127.0.0.1" { "-verify_ip" } else { "-verify_hostname" };
    let output = command.args([name, kind.host]).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.lines().find_map(|line| line.trim().strip_prefix("Verify return code: ").map(str::to_owned))
}

/// What PostgreSQL logs when it goes on with the certificate before.
const NOT_LOADED: &str = "could not load server certificate file";

/// Both present a pair; `false` where neither takes it.
fn both_present(server: &Cluster, endpoint: &Endpoint, made: &Made, kind: &Kind) -> bool {
    let before = server.primary.log().matches(NOT_LOADED).count();
    present(&server.primary, made, kind);
    made.swap(kind);
    let (code, said) = endpoint.admin(&["reload"]);
    let Strength::TooWeak(why) = kind.strength else {
        await_presented(server.primary.port(), made, kind);
        if let Verdict::NotSpoken(why) = kind.verdict {
            assert_eq!(code, Some(1), "{kind:?}: {said}");
            assert!(said.contains("tls.key") && said.contains(why), "{kind:?}: {said}");
            return false;
        }
        assert_eq!(code, Some(0), "{kind:?}: {said}");
        await_presented(endpoint.writes(), made, kind);
        return true;
    };
    eventually(PATIENCE, "PostgreSQL refuses the certificate", || {
        server.primary.log().matches(NOT_LOADED).count() > before
    });
    assert_eq!(code, Some(1), "{kind:?}: {said}");
    assert!(said.contains("tls.crt") && said.contains(why), "{kind:?}: {said}");
    false
}

#[test]
fn clients_find_what_they_find_at_a_server_of_the_same_files() {
    // What they are asked to show has nothing to do with lists.
    let kinds: Vec<Kind> = kinds().into_iter().filter(|kind| kind.list.is_empty()).collect();
    let made = Made::shared();
    let server =
        cluster_changed(machines(), |spec| spec.settings.extend(Judges::server_settings(made, &kinds[0])));
    made.swap(&kinds[0]);
    let quoted = |file: &str| format!("{:?}", made.path(file));
    let endpoint = Endpoint::over(&server)
        .auth(Auth::Verify)
        .with_admin()
        .key("client_tls.cert_file", &quoted("data/tls.crt"))
        .key("client_tls.key_file", &quoted("data/tls.key"))
        .start();
    let libpqs = [machines(), pg18()];
    let ports = [server.primary.port(), endpoint.writes()];
    for kind in kinds.iter().filter(|kind| both_present(&server, &endpoint, made, kind)) {
        for judged in Judged::ALL {
            for libpq in libpqs.iter().filter(|libpq| judged.is_asked_of(libpq)) {
                let expected = judged.expected(kind.verdict);
                for port in ports {
                    let said = Judges::libpq(libpq, port, made, kind, judged);
                    assert_eq!(
                        said.is_ok(),
                        expected.is_none(),
                        "{libpq:?} {judged:?} {port} {kind:?}: {said:?}"
                    );
                }
            }
        }
        let [direct, ours] = ports.map(|port| s_client(port, made, kind));
        assert_eq!(ours, direct, "{kind:?}");
        let is_good = kind.verdict == Verdict::Taken && kind.name != "wildcard";
        assert!(!is_good || ours.as_deref() == Some("0 (ok)"), "{kind:?}: {ours:?}");
        if kind.name == "wildcard" {
            let named = |host| Kind { host, ..*kind };
            for (host, is_taken) in
                [("a.pool.example", true), ("a.b.pool.example", false), ("pool.example", false)]
            {
                let outcomes = ports.map(|port| {
                    Judges::libpq(&libpqs[0], port, made, &named(host), Judged::VerifyFull).is_ok()
                });
                assert_eq!(outcomes, [is_taken; 2], "{host}");
            }
        }
        // What a login is bound to is made of the certificate.
        if kind.verdict == Verdict::Taken {
            let outcomes = ports.map(|port| Judges::bound(&libpqs[1], port, made, kind));
            assert_eq!(outcomes, [Ok(()), Ok(())], "{kind:?}");
        }
    }
}
