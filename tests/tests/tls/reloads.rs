//! Other TLS of servers by a reload, while sessions live.

use trunkline_tests::{Auth, Certificates, Endpoint, Wire, eventually, tls_cluster};

use super::PATIENCE;

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
