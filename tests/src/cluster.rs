//! Clusters for suites.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::{Certificates, tls_is_on};
use trunkline_cluster::{Cluster, ClusterSpec, MONITOR_ROLE, PgInstall, Server};

/// The repository's root directory.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is inside the repository").to_path_buf()
}

/// A primary and two replicas for this test binary, for tests that leave them as they found them.
/// The cluster's own watcher removes it when the binary ends.
#[must_use]
pub fn shared_cluster() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(|| {
        let cluster = own_cluster(2);
        cluster.primary.psql(FIXTURE).expect("the fixture is valid SQL");
        cluster.wait_caught_up().expect("the replicas stream");
        cluster
    })
}

/// A table of numbers, and users of each way to log in; see [`hba`].
const FIXTURE: &str = "
    CREATE TABLE numbers AS SELECT i, repeat('x', 100) AS filler FROM generate_series(1, 10000) AS i;
    CREATE ROLE app LOGIN PASSWORD 'app secret';
    CREATE ROLE cleartext_user LOGIN PASSWORD 'clear';
    CREATE ROLE trust_user LOGIN;
    CREATE ROLE nologin_user NOLOGIN PASSWORD 'n';
    CREATE ROLE expired_user LOGIN PASSWORD 'e' VALID UNTIL '2001-01-01';
    SET password_encryption = 'md5';
    CREATE ROLE md5_user LOGIN PASSWORD 'md5';
    GRANT ALL ON SCHEMA public TO app;
    GRANT SELECT ON numbers TO app;
";

/// How the users of the fixture log in; all others by SCRAM.
fn hba() -> Vec<String> {
    ["md5_user 127.0.0.1/32 md5", "cleartext_user 127.0.0.1/32 password", "trust_user 127.0.0.1/32 trust"]
        .map(|rule| format!("host all {rule}"))
        .to_vec()
}

/// A primary and `replicas` replicas of the caller's own.
///
/// # Panics
/// When it does not start, with the reason.
#[must_use]
pub fn own_cluster(replicas: usize) -> Cluster {
    cluster_of(install(), replicas, &[])
}

/// As [`own_cluster`], of the given PostgreSQL and with further settings.
///
/// # Panics
/// When it does not start, with the reason.
#[must_use]
pub fn cluster_of(install: PgInstall, replicas: usize, settings: &[(&str, &str)]) -> Cluster {
    let directory = tempfile::Builder::new()
        .prefix("trunkline-test-")
        .tempdir_in("/tmp")
        .expect("/tmp takes a directory");
    let mut spec = ClusterSpec::new(install, replicas, directory.keep());
    // A vacuum would write WAL at a moment of its own, where tests say that nothing is written.
    spec.settings.push(("autovacuum".into(), "off".into()));
    spec.settings.extend(settings.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
    if tls_is_on() {
        spec.settings.extend(Certificates::shared().server_settings());
    }
    spec.hba = hba();
    begun(spec)
}

/// A primary and `replicas` replicas that nobody reaches over TCP without TLS, of the given PostgreSQL.
///
/// # Panics
/// When it does not start, with the reason.
#[must_use]
pub fn tls_cluster(install: Option<PgInstall>, replicas: usize) -> Cluster {
    let directory = tempfile::Builder::new().prefix("trunkline-test-").tempdir_in("/tmp");
    let directory = directory.expect("/tmp takes a directory");
    let mut spec = ClusterSpec::new(install.unwrap_or_else(self::install), replicas, directory.keep());
    spec.settings.push(("autovacuum".into(), "off".into()));
    spec.settings.extend(Certificates::shared().server_settings());
    spec.hba = vec!["hostnossl all all 127.0.0.1/32 reject".to_owned()];
    spec.hba.extend(hba());
    begun(spec)
}

/// A primary without replicas, of the given PostgreSQL and changed as a suite needs it.
///
/// # Panics
/// When it does not start, with the reason.
#[must_use]
pub fn cluster_changed(install: PgInstall, change: impl FnOnce(&mut ClusterSpec)) -> Cluster {
    let directory = tempfile::Builder::new().prefix("trunkline-test-").tempdir_in("/tmp");
    let mut spec = ClusterSpec::new(install, 0, directory.expect("/tmp takes a directory").keep());
    spec.settings.push(("autovacuum".into(), "off".into()));
    change(&mut spec);
    begun(spec)
}

fn begun(spec: ClusterSpec) -> Cluster {
    let cluster = match Cluster::start(spec, &mut |_| {}) {
        Ok(cluster) => cluster,
        Err(error) => panic!("{error}"),
    };
    for (role, verifier) in [("postgres", CHEAP_POSTGRES), (MONITOR_ROLE, CHEAP_MONITOR)] {
        cluster.primary.psql(&format!("ALTER ROLE {role} PASSWORD '{verifier}'")).expect("it is valid");
    }
    cluster.wait_caught_up().expect("the replicas stream");
    cluster
}

/// The verifier of the password `postgres` with one iteration instead of 4,096: thousands of logins from
/// unoptimized tests then cost nothing.
pub(crate) const CHEAP_POSTGRES: &str = "SCRAM-SHA-256$1:dHJ1bmtsaW5lLXRlc3RzIQ==$\
    mBe+XIpQrSQMoSGRFBVPeFxd8oNom4/jcO1Yqo6DWZI=:+0aMIuU1b6F/yHo6ROGpB3F0HTh7W7rKRLLlJivDMKI=";

pub(crate) fn install() -> PgInstall {
    let chosen = std::env::var_os("TRUNKLINE_TEST_PG_BIN").map(PathBuf::from);
    match PgInstall::find(chosen.as_deref()) {
        Ok(install) => install,
        Err(error) => panic!("{error}"),
    }
}

/// The newest PostgreSQL that `scripts/ci/tools.sh` unpacks.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn pg18() -> PgInstall {
    unpacked("18")
}

/// The one before, for its libpq.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn pg17() -> PgInstall {
    unpacked("17")
}

fn unpacked(version: &str) -> PgInstall {
    match PgInstall::find(Some(&root().join("target/pg").join(version).join("bin"))) {
        Ok(install) => install,
        Err(error) => panic!("{error}\nscripts/ci/tools.sh unpacks it"),
    }
}

/// The same for the password of [`MONITOR_ROLE`], whose probes log in every few seconds.
pub(crate) const CHEAP_MONITOR: &str = "SCRAM-SHA-256$1:dHJ1bmtsaW5lLXRlc3RzIQ==$\
    a8n82f8OPI2pdTmKUowvU3vmtnDGnti0AEzvZX1W4h4=:L5BpCk/HlWU49oRc4mrFtHpTptukQJ32321xINhhSOc=";

/// Commits small transactions on `server` until dropped, about 50 a second.
pub fn traffic(server: &Server) -> Traffic<'_> {
    server.psql("CREATE TABLE IF NOT EXISTS traffic (at timestamptz)").expect("the server takes writes");
    Traffic::start(server)
}

/// See [`traffic`].
#[must_use]
pub struct Traffic<'s> {
    stop: &'static AtomicBool,
    writer: Option<JoinHandle<()>>,
    _server: std::marker::PhantomData<&'s Server>,
}

impl Traffic<'_> {
    fn start(server: &Server) -> Self {
        // Leaked: a test binary starts a handful, and the thread may outlive a panicking test.
        let stop: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
        let conninfo = server.conninfo();
        let writer = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime starts").block_on(write_until(&conninfo, stop));
        });
        Self { stop, writer: Some(writer), _server: std::marker::PhantomData }
    }
}

impl Drop for Traffic<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(writer) = self.writer.take() {
            // It ends early when its server is killed, which is the test's business.
            let _ended = writer.join();
        }
    }
}

async fn write_until(conninfo: &str, stop: &AtomicBool) {
    let Ok((client, connection)) = tokio_postgres::connect(conninfo, tokio_postgres::NoTls).await else {
        return;
    };
    let writes = async {
        while !stop.load(Ordering::Relaxed) {
            if client.batch_execute("INSERT INTO traffic VALUES (now())").await.is_err() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::select! { () = writes => {}, _ = connection => {} }
}
