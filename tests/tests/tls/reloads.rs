//! Other TLS of servers by a reload, while sessions live and share connections to them.

use trunkline_tests::{Auth, Certificates, Endpoint, PoolRole, Wire, eventually, own_cluster, tls_cluster};

use super::{ENCRYPTED, PATIENCE};

/// How often two clients take turns.
const TURNS: u32 = 10;

#[track_caller]
fn run(wire: &mut Wire, sql: &str) {
    assert_eq!(wire.query(sql).error, None, "{sql}");
}

#[test]
fn clients_share_no_connection_that_was_made_by_other_rules_than_those_in_force() {
    let cluster = own_cluster(0);
    let server = &cluster.primary;
    for (name, value) in Certificates::shared().server_settings() {
        server.psql(&format!("ALTER SYSTEM SET {name} = '{value}'")).unwrap();
    }
    server.psql("SELECT pg_reload_conf()").unwrap();
    let role = PoolRole::create(&cluster, "of_rules");
    let builder = Endpoint::over(&cluster).pooling(3).key("server_tls.sslmode", "\"disable\"");
    let mut endpoint = builder.with_admin().start();
    let [mut busy, mut idle] = [(), ()].map(|()| role.connect(endpoint.writes()));
    run(&mut busy, "BEGIN");
    assert_eq!([busy.value(ENCRYPTED), idle.value(ENCRYPTED)], ["f", "f"]);
    endpoint.rewrite("server_tls.sslmode", "\"require\"");
    let (code, said) = endpoint.admin(&["reload"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(idle.value(ENCRYPTED), "t", "it gets another");
    assert_eq!(busy.value(ENCRYPTED), "f", "its transaction goes on");
    run(&mut busy, "COMMIT");
    let plain = "SELECT count(*) FROM pg_stat_activity JOIN pg_stat_ssl USING (pid)
                 WHERE NOT ssl AND usename = 'of_rules'";
    eventually(PATIENCE, "none is left", || server.psql(plain).unwrap().trim() == "0");
    for _ in 0..TURNS {
        assert_eq!([busy.value(ENCRYPTED), idle.value(ENCRYPTED)], ["t", "t"]);
    }
}

#[test]
fn a_session_from_before_a_reload_is_canceled_by_the_root_of_now() {
    let cluster = tls_cluster(None, 0);
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root.crt");
    std::fs::copy(Certificates::shared().root(), &root).unwrap();
    let endpoint = Endpoint::over(&cluster)
        .auth(Auth::Verify)
        .with_tls()
        .key("server_tls.sslrootcert", &format!("{root:?}"))
        .with_admin()
        .start();
    let mut session = Wire::login(endpoint.writes());
    let other = Certificates::by_another_root();
    for (name, value) in other.server_settings() {
        cluster.primary.set(&name, &value).unwrap();
    }
    std::fs::copy(other.root(), &root).unwrap();
    // The server may take a moment to present its new certificate.
    eventually(PATIENCE, "the reload succeeds", || endpoint.admin(&["reload"]).0 == Some(0));
    session.send_query("SELECT pg_sleep(60)");
    let sleeps =
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(60)'";
    eventually(PATIENCE, "it runs", || cluster.primary.psql(sleeps).unwrap().trim() == "1");
    session.cancel(endpoint.writes());
    let error = session.read_answer().error.unwrap();
    assert_eq!(error.code, "57014", "{error:?}");
}
