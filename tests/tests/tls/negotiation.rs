//! How a connection is encrypted, or not: every way of libpq to ask for it ends as with PostgreSQL 18 of the same settings.

use std::io::Read as _;

use bytes::BytesMut;
use tempfile::TempDir;
use trunkline_codec::startup::{gssenc_request, ssl_request};
use trunkline_tests::{ClientStream, Wire, cluster_changed, cluster_of};

use super::*;

/// Settings of a connection, as libpq's variables.
type Way = Vec<(&'static str, &'static str)>;

/// What has libpq ask for GSSAPI encryption: it does not without tickets. Nobody gives any for this realm, so that a server
/// which agrees gets no further.
struct Tickets(TempDir);

impl Tickets {
    fn new() -> Self {
        let tickets = Self(tempfile::tempdir().unwrap());
        std::fs::write(tickets.path("tickets"), tickets_of("TEST.INVALID")).unwrap();
        let config = "[libdefaults]\ndefault_realm = TEST.INVALID\ndns_lookup_kdc = false\ndns_lookup_realm = false\n\
                      dns_canonicalize_hostname = false\nrdns = false\n";
        std::fs::write(tickets.path("krb5.conf"), config).unwrap();
        tickets
    }

    fn path(&self, file: &str) -> String {
        self.0.path().join(file).display().to_string()
    }

    fn environment(&self) -> [(&'static str, String); 2] {
        [("KRB5CCNAME", format!("FILE:{}", self.path("tickets"))), ("KRB5_CONFIG", self.path("krb5.conf"))]
    }
}

/// A credential cache with a ticket-granting ticket that no KDC has made.
/// Source: MIT Kerberos documentation, "Credential cache file format", version 4.
fn tickets_of(realm: &str) -> Vec<u8> {
    fn counted(out: &mut Vec<u8>, data: &[u8]) {
        out.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
        out.extend(data);
    }
    fn principal(out: &mut Vec<u8>, realm: &str, components: &[&str]) {
        out.extend(1_u32.to_be_bytes());
        out.extend(u32::try_from(components.len()).unwrap().to_be_bytes());
        counted(out, realm.as_bytes());
        components.iter().for_each(|component| counted(out, component.as_bytes()));
    }
    let mut out = vec![5, 4, 0, 0];
    principal(&mut out, realm, &["app"]);
    principal(&mut out, realm, &["app"]);
    principal(&mut out, realm, &["krbtgt", realm]);
    // A key of AES-256, then four times: authentication, start, end (2033), renewal.
    out.extend(18_u16.to_be_bytes());
    counted(&mut out, &[7; 32]);
    [1_000_000_000_u32, 1_000_000_000, 2_000_000_000, 0]
        .iter()
        .for_each(|time| out.extend(time.to_be_bytes()));
    // No second key; no flags, addresses or authorization data.
    out.push(0);
    out.extend([0; 12]);
    counted(&mut out, b"no ticket");
    counted(&mut out, b"");
    out
}

/// What a libpq makes of one combination: whether it gets in, and by TLS; and what it says.
fn outcome(libpq: &PgInstall, port: u16, way: &Way, tickets: &Tickets) -> (&'static str, String) {
    let output = libpq
        .command("psql")
        .envs([
            ("PGHOST", "127.0.0.1"),
            ("PGUSER", "postgres"),
            ("PGPASSWORD", "postgres"),
            ("PGDATABASE", "appdb"),
        ])
        .env("PGPORT", port.to_string())
        .envs(tickets.environment())
        .env("PGSSLROOTCERT", root())
        .envs(way.iter().copied())
        .args(["-XAtq", "-c", "\\conninfo"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    // As psql 18 says it, and as those before do.
    let is_tls = |line: &str| {
        (line.starts_with("SSL Connection") && line.ends_with("true")) || line.starts_with("SSL connection (")
    };
    let has_tls = said.lines().any(is_tls);
    let outcome = match (output.status.success(), has_tls) {
        (false, _) => "refused",
        (true, true) => "TLS",
        (true, false) => "plain",
    };
    (outcome, String::from_utf8_lossy(&output.stderr).into_owned())
}

const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// libpq's settings that decide how encryption is asked for. Those before 17 know no `sslnegotiation`; others refuse
/// `direct` by themselves where TLS is not demanded: one of these is enough.
fn ways(libpq: &PgInstall) -> Vec<Way> {
    let mut ways = Vec::new();
    for gssencmode in ["disable", "prefer", "require"] {
        for sslmode in SSL_MODES {
            ways.push(vec![("PGGSSENCMODE", gssencmode), ("PGSSLMODE", sslmode)]);
            if libpq.major >= 17 && !["disable", "allow"].contains(&sslmode) {
                let direct = ("PGSSLNEGOTIATION", "direct");
                ways.push(vec![("PGGSSENCMODE", gssencmode), ("PGSSLMODE", sslmode), direct]);
            }
        }
    }
    // Nobody vouches for the server.
    for sslmode in ["prefer", "verify-ca", "verify-full"] {
        let nobody = ("PGSSLROOTCERT", "/nonexistent");
        ways.push(vec![("PGGSSENCMODE", "disable"), ("PGSSLMODE", sslmode), nobody]);
    }
    ways
}

/// An endpoint that reaches its servers either way, and takes clients by this `sslmode`.
fn taking(servers: &Cluster, sslmode: &str) -> EndpointBuilder {
    Endpoint::over(servers)
        .auth(Auth::Verify)
        .with_tls()
        .key("server_tls.sslmode", "\"prefer\"")
        .key("client_tls.sslmode", &format!("{sslmode:?}"))
}

/// Each libpq, with all its ways.
fn all_clients() -> Vec<(PgInstall, Vec<Way>)> {
    [pg18(), pg17(), PgInstall::find(None).unwrap()].map(|libpq| (libpq.clone(), ways(&libpq))).to_vec()
}

/// The newest libpq, with its ways that ask for no GSSAPI: enough where a listener's answer to that is the usual.
fn one_client() -> Vec<(PgInstall, Vec<Way>)> {
    let mut ways = ways(&pg18());
    ways.retain(|way| way.contains(&("PGGSSENCMODE", "disable")));
    vec![(pg18(), ways)]
}

/// How an endpoint of a `sslmode` and PostgreSQL 18 with the same answer each libpq.
fn assert_alike(servers: &Cluster, sslmode: &str) {
    assert_alike_by(taking(servers, sslmode), servers, all_clients(), &format!("sslmode {sslmode}"));
}

/// How this endpoint and PostgreSQL 18, both with these `settings`, answer these clients.
fn assert_alike_by(
    endpoint: EndpointBuilder,
    servers: &Cluster,
    clients: Vec<(PgInstall, Vec<Way>)>,
    settings: &str,
) {
    let tickets = Tickets::new();
    let endpoint = endpoint.start();
    for (libpq, ways) in clients {
        for way in ways {
            let (server, _) = outcome(&libpq, servers.primary.port(), &way, &tickets);
            let (ours, said) = outcome(&libpq, endpoint.writes(), &way, &tickets);
            assert_eq!(ours, server, "{settings} here, {way:?} there, {libpq:?}: {said}");
            if way.contains(&("PGGSSENCMODE", "require"))
                && !way.iter().any(|(name, _)| *name == "PGSSLNEGOTIATION")
            {
                // It has asked, and was told `N`.
                assert!(
                    said.contains("server doesn't support GSSAPI encryption"),
                    "{way:?}, {libpq:?}: {said}"
                );
            }
        }
    }
}

#[test]
fn negotiation_ends_as_with_a_server_that_demands_tls() {
    assert_alike(&tls_cluster(Some(pg18()), 0), "require");
}

#[test]
fn negotiation_ends_as_with_a_server_that_takes_both() {
    let settings = Certificates::shared().server_settings();
    let settings = settings.each_ref().map(|(name, value)| (name.as_str(), value.as_str()));
    let servers = cluster_of(pg18(), 0, &settings);
    assert_alike(&servers, "prefer");
    assert_alike_by(taking(&servers, "allow"), &servers, one_client(), "sslmode allow");
}

#[test]
fn negotiation_ends_as_with_a_server_without_tls() {
    assert_alike(&cluster_of(pg18(), 0, &[("ssl", "off")]), "disable");
}

/// Servers and an endpoint with TLS, and with these rules for whoever comes by TCP.
fn assert_alike_with_rules(rules: &[&str]) {
    let root = root();
    let servers = cluster_changed(pg18(), |spec| {
        spec.settings.extend(Certificates::shared().server_settings());
        spec.settings.push(("ssl_ca_file".to_owned(), root.clone()));
        spec.hba = rules.iter().map(|&rule| rule.to_owned()).collect();
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), rules.join("\n") + "\n").unwrap();
    let endpoint = taking(&servers, "prefer")
        .key("client_tls.ca_file", &format!("{root:?}"))
        .key("auth.hba_file", &format!("{:?}", file.path()));
    assert_alike_by(endpoint, &servers, one_client(), &format!("{rules:?}"));
}

#[test]
fn negotiation_ends_as_with_a_server_whose_rules_are_for_clients_without_tls() {
    assert_alike_with_rules(&[
        "hostnossl all all 127.0.0.1/32 scram-sha-256",
        "hostssl all all 127.0.0.1/32 reject",
    ]);
}

#[test]
fn negotiation_ends_as_with_a_server_whose_rules_demand_a_client_certificate_in_tls() {
    assert_alike_with_rules(&[
        "hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca",
        "hostnossl all all 127.0.0.1/32 scram-sha-256",
    ]);
}

#[test]
fn requests_inside_tls_are_refused_as_by_a_server() {
    let endpoint = both().start();
    let refused = |port: u16, request: fn(&mut BytesMut)| {
        let mut plain = Wire::connect_plain(port);
        plain.send_with(ssl_request);
        let mut answer = [0];
        plain.stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, *b"S");
        let socket = plain.stream.socket().try_clone().unwrap();
        let sealed = ClientStream::seal(socket, Certificates::shared().client()).unwrap();
        let mut wire = Wire::over(sealed);
        wire.send_with(request);
        let error = wire.read_answer().error.unwrap();
        (error.severity, error.code)
    };
    for request in [ssl_request as fn(&mut BytesMut), gssenc_request] {
        let server = refused(cluster().primary.port(), request);
        assert_eq!(server.1, "0A000");
        assert_eq!(refused(endpoint.writes(), request), server);
    }
}
