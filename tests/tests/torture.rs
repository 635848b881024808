//! What clients can tell: of Trunkline nothing, of PgBouncer a lot. Were the latter not found, the former would say nothing.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use trunkline_cluster::{Cluster, PgInstall, PortLease, ServerAccount};
use trunkline_tests::{Auth, Endpoint, cluster_of, root, within};
use trunkline_torture::dsn::{Dsn, Place};
use trunkline_torture::report::{Allowed, TortureTable};
use trunkline_torture::run::{TortureOptions, run};
use trunkline_torture::verdict::TortureVerdict;

/// Databases played on at once.
const JOBS: usize = 4;
/// Longest wait for an answer where none is expected to be missing.
const PATIENT: Duration = Duration::from_secs(10);
/// The same where some may be, at most half as long as clients wait until they are told of it (5 s).
const UNHURRIED: Duration = Duration::from_millis(2500);
/// The same where clients are known to wait for one another.
const IMPATIENT: Duration = Duration::from_secs(1);

/// How Trunkline gives out server connections.
#[derive(Debug, Clone, Copy)]
enum Pooling {
    /// One for each client.
    Session,
    /// So many for each database and user, for a transaction.
    Transaction { pool_size: u32 },
}

#[test]
#[ignore = "some minutes: make test-long"]
fn in_session_mode_clients_can_tell_nothing() {
    assert_nothing_is_told(Pooling::Session, PATIENT, "", SAME_MIN);
}

#[test]
fn in_transaction_mode_clients_can_tell_nothing() {
    // Two clients keep both connections while a third comes.
    let waits = "listen-two waits\nlisten-both waits\nlock-shared waits\ntemp-schema waits\ntemp-schema-quoted waits\n\
                 temp-function waits\ntemp-type waits\ntemp-domain waits";
    let known = format!("{KNOWN_IN_TRANSACTION_MODE}\n{ASKED_FIRST}\n{waits}");
    assert_nothing_is_told(Pooling::Transaction { pool_size: 2 }, UNHURRIED, &known, SAME_MIN);
}

#[test]
#[ignore = "some minutes: make test-long"]
fn with_one_server_connection_clients_wait_and_can_tell_nothing_more() {
    // Whoever waits for the only connection gets it soon after its client has added rows, and before that asks.
    let known = format!("{KNOWN_IN_TRANSACTION_MODE}\n{ASKED_FIRST}\n{ASKED_TOO_LATE}\n* waits");
    assert_nothing_is_told(Pooling::Transaction { pool_size: 1 }, IMPATIENT, &known, SAME_WITH_ONE_MIN);
}

/// Of how many scenarios nothing can be told, of all that there are.
const SAME_MIN: usize = 900;
/// The same where clients wait for the only connection.
const SAME_WITH_ONE_MIN: usize = 400;

/// What docs/pooling.md says that a client can tell. A default of half a second ago may be missing, or still be there: that
/// is no other client's state.
const KNOWN_IN_TRANSACTION_MODE: &str = "same-process-later lost\n\
    default-of-database lost\ndefault-of-database leak\ndefault-of-role lost\ndefault-of-role leak\n\
    default-reset lost";

/// Questions for what `nextval` and `setval` gave, which may come too late on a machine that is busy for long, if they are the
/// first of their database. They show nobody else's value.
const ASKED_FIRST: &str = "sequence-currval lost\nsequence-lastval lost\nsequence-both lost\nsequence-setval lost\n\
    sequence-rolled-back lost\nsequence-discard lost\nsequence-cache lost\nutility-sequence-by-call lost";

/// Questions for what a column's default took from a sequence, with another request between.
const ASKED_TOO_LATE: &str = "sequence-serial lost\nsequence-identity lost\nnumbered-transaction lost\n\
    numbered-rolled-back lost\nnumbered-extended lost\nnumbered-returning lost\nnumbered-with lost\n\
    numbered-function lost\nnumbered-prepared lost\nnumbered-both lost";

/// Where a statement runs. What one client did another one finds on standbys once they have replayed it, as it is waited for.
#[test]
fn on_one_port_for_reads_and_writes_clients_can_tell_nothing() {
    assert_nothing_is_told_on_one_port("transaction", |_cluster| {});
}

#[test]
fn on_one_port_with_a_late_replica_clients_can_tell_nothing() {
    assert_nothing_is_told_on_one_port("transaction", |cluster| {
        cluster.replicas[1].set("recovery_min_apply_delay", "300ms").expect("it is a setting");
    });
}

#[test]
#[ignore = "two minutes: make test-long"]
fn on_one_port_with_connections_of_their_own_clients_can_tell_nothing() {
    assert_nothing_is_told_on_one_port("session", |_cluster| {});
}

fn assert_nothing_is_told_on_one_port(pool_mode: &str, prepare: impl FnOnce(&Cluster)) {
    let cluster = cluster_with(2);
    prepare(&cluster);
    let listener =
        "[[listener]]\nname = \"writes\"\ntarget_session_attrs = \"read-write\"\nroute = \"statement\"\n";
    let builder = Endpoint::over(&cluster).pooling(4).toml(listener);
    let endpoint = builder.key("pool.pool_mode", &format!("\"{pool_mode}\"")).start();
    let mut options = options(&cluster, endpoint.writes(), PATIENT);
    options.only = vec!["port-".to_owned()];
    options.standbys = true;
    let table = run(&options, &|_, _| {}).expect("the scenarios can be played");
    println!("{}", table.totals());
    let same = table.count(TortureVerdict::Same);
    assert!(same == table.results.len() && same >= 250, "{}", table.text());
    let on_standbys = endpoint.counted("trunkline_requests_routed_total{reason=\"proven\"}");
    assert!(on_standbys > 0, "nothing was read from a standby");
}

#[test]
fn what_leaks_through_pgbouncer_is_found() {
    let cluster = cluster();
    let pgbouncer = PgBouncer::start(&cluster);
    let table = played(&cluster, pgbouncer.port.port(), IMPATIENT);
    println!("{}", table.text());
    let count = |verdict| table.count(verdict);
    assert_eq!(count(TortureVerdict::Void), 0, "{}", table.text());
    assert!(count(TortureVerdict::Leak) >= 150, "{}", table.totals());
    assert!(count(TortureVerdict::Lost) >= 30, "{}", table.totals());
    // It is no straw man either.
    assert!(count(TortureVerdict::Same) >= 200, "{}", table.totals());
    let of = |name: &str| {
        let result = table.results.iter().find(|result| result.name == name);
        result.map(|result| result.judged.verdict)
    };
    // What its documentation says is kept apart, and what it says is not.
    assert_eq!(of("set-DateStyle"), Some(TortureVerdict::Same));
    assert_eq!(of("content-types"), Some(TortureVerdict::Same));
    assert_eq!(of("set-work-mem"), Some(TortureVerdict::Leak));
    assert_eq!(of("temp-table"), Some(TortureVerdict::Leak));
}

fn cluster() -> Cluster {
    cluster_with(0)
}

fn cluster_with(replicas: usize) -> Cluster {
    let chosen = std::env::var_os("TRUNKLINE_TEST_PG_BIN");
    let install = PgInstall::find(chosen.as_deref().map(Path::new)).expect("there is a PostgreSQL");
    cluster_of(install, replicas, &[("max_prepared_transactions", "10"), ("max_connections", "200")])
}

/// What can be told through Trunkline but for what is `known`. What differs for all clients, but is nobody else's state, is
/// played once more alone: on a busy machine an answer may be late.
fn through_trunkline(pooling: Pooling, wait: Duration, known: &Allowed) -> TortureTable {
    let cluster = cluster();
    let builder = Endpoint::over(&cluster).auth(Auth::Verify);
    let builder = match pooling {
        Pooling::Session => builder,
        Pooling::Transaction { pool_size } => {
            builder.key("pool.pool_mode", "\"transaction\"").key("pool.pool_size", &pool_size.to_string())
        }
    };
    let endpoint = builder.start();
    let mut table = played(&cluster, endpoint.writes(), wait);
    let told = table.unaccepted(known).into_iter();
    let again = told.filter(|result| result.judged.verdict != TortureVerdict::Leak);
    let again: Vec<String> = again.map(|result| result.name.clone()).collect();
    if again.is_empty() {
        return table;
    }
    println!("once more alone: {}", again.join(" "));
    let mut options = options(&cluster, endpoint.writes(), wait);
    options.jobs = 1;
    options.only.clone_from(&again);
    for result in run(&options, &|_, _| {}).expect("the scenarios can be played").results {
        // Those of which the name is only a part are played, too.
        let known = table.results.iter_mut().find(|known| known.name == result.name);
        if let Some(known) = known.filter(|known| again.contains(&known.name)) {
            *known = result;
        }
    }
    table
}

fn played(cluster: &Cluster, port: u16, wait: Duration) -> TortureTable {
    run(&options(cluster, port, wait), &|_, _| {}).expect("the scenarios can be played")
}

fn options(cluster: &Cluster, port: u16, wait: Duration) -> TortureOptions {
    let at = |port| Dsn {
        place: Place::Tcp("127.0.0.1".to_owned(), port),
        user: "postgres".to_owned(),
        password: "postgres".to_owned(),
        database: "appdb".to_owned(),
    };
    let direct = at(cluster.primary.port());
    TortureOptions {
        pooler: at(port),
        direct,
        only: Vec::new(),
        wait,
        jobs: JOBS,
        reasons: None,
        standbys: false,
    }
}

/// Trunkline's clients can tell nothing but what is `known`, and of so many scenarios nothing at all.
#[track_caller]
fn assert_nothing_is_told(pooling: Pooling, wait: Duration, known: &str, same_min: usize) {
    let known = Allowed::parse(known);
    let table = through_trunkline(pooling, wait, &known);
    println!("{}", table.totals());
    let told = table.unaccepted(&known).into_iter().cloned().collect();
    let told = TortureTable { results: told, took: table.took };
    assert!(told.results.is_empty(), "{}{}", told.text(), table.totals());
    // The role and the server have all that the scenarios need.
    assert_eq!(table.count(TortureVerdict::Skipped), 0, "{}", table.text());
    assert!(table.count(TortureVerdict::Same) >= same_min, "{}", table.totals());
}

/// Debian's newest, in transaction mode, with one server connection for each database.
#[derive(Debug)]
struct PgBouncer {
    child: Child,
    port: PortLease,
    _directory: tempfile::TempDir,
}

impl PgBouncer {
    fn start(cluster: &Cluster) -> Self {
        let program = root().join("target/tools/pgbouncer/run");
        assert!(
            program.exists(),
            "{} is not there: scripts/ci/tools.sh pooler unpacks it",
            program.display()
        );
        let directory = tempfile::Builder::new().prefix("trunkline-pgbouncer-").tempdir_in("/tmp");
        let directory = directory.expect("/tmp takes a directory");
        let port = PortLease::take().expect("a port is free");
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("users.txt"), "\"postgres\" \"postgres\"\n").expect("the directory takes a file");
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\n\
             unix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = transaction\n\
             default_pool_size = 1\nmax_prepared_statements = 200\n",
            cluster.primary.port(),
            port.port(),
            path("users.txt").display(),
        );
        std::fs::write(path("pgbouncer.ini"), settings).expect("the directory takes a file");
        let log = File::create(path("log")).expect("the directory takes a file");
        let mut command = Command::new(program);
        command.arg("-q").arg(path("pgbouncer.ini")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        give_to(&mut command, directory.path());
        let child = command.spawn().expect("PgBouncer runs");
        let pgbouncer = Self { child, port, _directory: directory };
        within(Duration::from_secs(10), "PgBouncer listens", || {
            std::net::TcpStream::connect(("127.0.0.1", pgbouncer.port.port())).ok()
        });
        pgbouncer
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// It refuses to be root, as PostgreSQL does.
fn give_to(command: &mut Command, directory: &Path) {
    match ServerAccount::detect().expect("there is an account for servers") {
        ServerAccount::Caller => {}
        ServerAccount::Dropped { uid, gid, .. } => {
            std::os::unix::fs::chown(directory, Some(uid.as_raw()), Some(gid.as_raw())).expect("root may");
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
    }
}
