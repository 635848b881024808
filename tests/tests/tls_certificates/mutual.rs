//! Certificates of clients: Trunkline says of them what PostgreSQL says, and PostgreSQL of Trunkline's own what it says of
//! psql's.

use std::process::Command;

use trunkline_cluster::{Cluster, MONITOR_ROLE};
use trunkline_tests::{Auth, Certificates, Endpoint, Wiretap, binary, cluster_changed, eventually, pg18};

use crate::kinds::{Kind, Strength, Verdict, kinds};
use crate::made::Made;
use crate::{PATIENCE, machines, probed, psql};

/// A server that wants a certificate of one role.
fn server_asking(role: &str) -> Cluster {
    let cluster = cluster_changed(machines(), |spec| {
        spec.settings.extend(Certificates::shared().server_settings());
        spec.hba = vec![format!("hostssl all {role} 127.0.0.1/32 scram-sha-256 clientcert=verify-ca")];
    });
    cluster.primary.psql("CREATE ROLE direct SUPERUSER LOGIN PASSWORD 'postgres'").unwrap();
    cluster
}

/// Who vouches for clients, and who is revoked.
fn trust(server: &Cluster, roots: &str, lists: &str) {
    let set = [("ssl_ca_file", roots), ("ssl_crl_file", lists)]
        .map(|(name, value)| format!("ALTER SYSTEM SET {name} = '{value}';\n"))
        .concat();
    server.primary.psql(&format!("{set}SELECT pg_reload_conf();")).unwrap();
}

/// What a client with a certificate gets, which shows it however weak it is.
fn shows(made: &Made, kind: &Kind, port: u16, user: &str) -> Result<(), String> {
    let [certificate, key] = ["crt", "own"].map(|ending| made.path(&format!("{}.{ending}", kind.name)));
    let target = format!("host=127.0.0.1 user={user} sslmode=require sslcert={certificate} sslkey={key}");
    psql(&pg18(), &[made.level_0()], port, &target)
}

/// An endpoint that wants certificates, as the server does.
fn endpoint_asking(server: &Cluster, roots: &str, lists: &str) -> Endpoint {
    let [certificate, key] = Certificates::shared().endpoint();
    let endpoint = Endpoint::over(server)
        .auth(Auth::Verify)
        .key("client_tls.cert_file", &format!("{certificate:?}"))
        .key("client_tls.key_file", &format!("{key:?}"))
        .key("client_tls.ca_file", &format!("{roots:?}"))
        .key("client_tls.sslmode", "\"verify-ca\"");
    let endpoint =
        if lists.is_empty() { endpoint } else { endpoint.key("client_tls.crl_file", &format!("{lists:?}")) };
    endpoint.start()
}

#[test]
fn certificates_of_clients_are_judged_as_postgresql_judges_them() {
    let kinds = kinds();
    let made = Made::shared();
    let server = server_asking("direct");
    let mut trusts: Vec<_> = kinds.iter().map(|kind| (kind.roots, kind.list)).collect();
    trusts.sort_unstable();
    trusts.dedup();
    for (roots, list) in trusts {
        let lists = if list.is_empty() { String::new() } else { made.path(list) };
        trust(&server, &made.path(roots), &lists);
        let endpoint = endpoint_asking(&server, &made.path(roots), &lists);
        for kind in kinds.iter().filter(|kind| (kind.roots, kind.list) == (roots, list)) {
            let direct = shows(made, kind, server.primary.port(), "direct");
            let is_refused = matches!(kind.verdict, Verdict::Refused(_) | Verdict::KeyTooShort(_));
            assert_eq!(direct.is_err(), is_refused, "{kind:?}: {direct:?}");
            let told_before = endpoint.log().len();
            let ours = shows(made, kind, endpoint.writes(), "postgres");
            let why = match kind.verdict {
                Verdict::Taken | Verdict::ForOtherHost => {
                    assert_eq!(ours, Ok(()), "{kind:?}");
                    continue;
                }
                Verdict::Refused(why) | Verdict::KeyTooShort(why) => why,
                // OpenSSL shows no certificate that it knows to be of no use.
                Verdict::NotSpoken(_) => "the other end shows no certificate",
            };
            assert!(ours.is_err(), "{kind:?}: {ours:?}");
            eventually(PATIENCE, &format!("the log says of {kind:?}: {why}"), || {
                endpoint.log().split_at(told_before).1.contains(why)
            });
        }
    }
}

/// The server with a certificate of Trunkline's own, at a port of its own.
fn table(made: &Made, kind: &Kind, port: u16) -> String {
    let [certificate, key] = ["crt", "own"].map(|ending| made.path(&format!("{}.{ending}", kind.name)));
    format!(
        "[[server]]\nname = {:?}\naddress = \"127.0.0.1:{port}\"\nsslmode = \"require\"\nsslcert = {certificate:?}\n\
         sslkey = {key:?}\n",
        kind.name
    )
}

#[test]
fn the_proxys_own_certificate_fares_with_a_server_as_that_of_psql() {
    let kinds: Vec<Kind> = kinds().into_iter().filter(|kind| kind.list.is_empty()).collect();
    let made = Made::shared();
    let server = server_asking(&format!("direct,{MONITOR_ROLE}"));
    trust(&server, &made.all_roots(), "");
    let unusable = |kind: &Kind| match (kind.strength, kind.verdict) {
        (Strength::TooWeak(why), _) | (_, Verdict::NotSpoken(why)) => Some(why),
        _ => None,
    };
    let (unusable_kinds, kinds): (Vec<_>, Vec<_>) = kinds.iter().partition(|kind| unusable(kind).is_some());
    for kind in &unusable_kinds {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), table(made, kind, server.primary.port())).unwrap();
        let output = Command::new(binary()).args(["check", "--config"]).arg(file.path()).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!output.status.success(), "{kind:?}: {said}");
        let why = unusable(kind).unwrap();
        assert!(said.contains(&format!("{}.crt", kind.name)) && said.contains(why), "{kind:?}: {said}");
    }
    let wiretaps: Vec<Wiretap> = kinds.iter().map(|_| Wiretap::before(server.primary.port())).collect();
    let tables: String =
        kinds.iter().zip(&wiretaps).map(|(kind, wiretap)| table(made, kind, wiretap.port())).collect();
    let endpoint = Endpoint::over_none().toml(&tables).start();
    let mut refused = Vec::new();
    for kind in &kinds {
        let direct = shows(made, kind, server.primary.port(), "direct");
        let ours = probed(&endpoint, kind.name);
        assert_eq!(ours.is_ok(), direct.is_ok(), "{kind:?}: {ours:?} {direct:?}");
        if let Err(said) = ours {
            assert!(said.contains("the other end refuses"), "{kind:?}: {said}");
            refused.push(kind.name);
        }
    }
    // The others are known, or by whom the server knows.
    let by_dates_and_roots = ["expired", "early", "by_stranger", "by_twin", "between_kept", "between_known"];
    let by_uses = [
        "for_certificates",
        "for_anything",
        "by_expired",
        "by_other_purpose",
        "by_no_signer",
        "below_bound_root",
    ];
    assert_eq!(refused, [by_dates_and_roots, by_uses].concat());

    // And it is no use any more when it is revoked.
    trust(&server, &made.path("root.crt"), &made.path("revoked.list"));
    assert!(shows(made, &kinds[0], server.primary.port(), "direct").is_err());
    let endpoint = Endpoint::over_none().toml(&table(made, &kinds[0], wiretaps[0].port())).start();
    let revoked = probed(&endpoint, kinds[0].name).unwrap_err();
    assert!(revoked.contains("our certificate is revoked"), "{revoked}");
}
