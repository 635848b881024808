//! What a real server's catalog tells of plainness.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle, Runtime};
use trunkline_cluster::{Cluster, ClusterSpec, PgInstall};
use trunkline_health::MonitorLogin;
use trunkline_health::monitor::ByHand;
use trunkline_session::{FunctionCatalog, Functions, NotJudged, Plainness};
use trunkline_topology::testing::snapshot;

use super::connection::FunctionsReadError;
use super::read::{FunctionsReader, PlainnessWish};
use super::{FunctionStore, UserFunctions};

const PATIENCE: Duration = Duration::from_secs(60);

/// Functions that a standby would run with another result, and each kind of object that runs one.
const OBJECTS: &str = "
    CREATE TABLE t (a int, b text);
    CREATE TABLE \"Other\" (a int);
    CREATE SEQUENCE seq;
    CREATE FUNCTION plain(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1';
    CREATE FUNCTION writes(int) RETURNS int LANGUAGE sql AS 'INSERT INTO t VALUES ($1) RETURNING a';
    CREATE FUNCTION catches_little(int) RETURNS int LANGUAGE plpgsql AS
        $$ BEGIN RETURN 1 / $1; EXCEPTION WHEN division_by_zero THEN RETURN 0; END $$;
    CREATE FUNCTION sets_locally() RETURNS text LANGUAGE sql AS $$ SELECT set_config('work_mem', '1MB', true) $$;
    CREATE FUNCTION swallows(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
        $$ BEGIN INSERT INTO t VALUES ($1); RETURN 1; EXCEPTION WHEN OTHERS THEN RETURN $1; END $$;
    CREATE FUNCTION hides(int) RETURNS int LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO t VALUES ($1); RETURN 1; EXCEPTION WHEN read_only_sql_transaction THEN RETURN $1; END $$;
    CREATE FUNCTION calls_it(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN public.swallows($1); END $$;
    CREATE FUNCTION asks() RETURNS bool LANGUAGE plpgsql AS
        $$ BEGIN IF pg_is_in_recovery() THEN RETURN true; END IF; RETURN false; END $$;
    CREATE FUNCTION asks_by_body() RETURNS bool LANGUAGE sql RETURN pg_is_in_recovery();
    CREATE FUNCTION asks_by_setting() RETURNS text LANGUAGE sql AS $$ SELECT current_setting('transaction_read_only') $$;
    CREATE FUNCTION other_name() RETURNS bool LANGUAGE internal VOLATILE AS 'pg_is_in_recovery';
    CREATE FUNCTION other_plain_name(int, int) RETURNS int LANGUAGE internal IMMUTABLE AS 'int4pl';
    CREATE FUNCTION locks() RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_xact_lock(1)';
    CREATE FUNCTION seeds() RETURNS void LANGUAGE sql AS 'SELECT setseed(0.5)';
    CREATE FUNCTION dynamic(text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE $1; END $$;
    CREATE FUNCTION constant() RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'SELECT 1'; END $$;
    CREATE FUNCTION programs() RETURNS void LANGUAGE plpgsql AS $$ BEGIN COPY t TO PROGRAM 'cat'; END $$;
    CREATE FUNCTION notifies() RETURNS void LANGUAGE sql AS $$ SELECT pg_notify('a', 'b') $$;
    CREATE FUNCTION defaults(a int DEFAULT swallows(1)) RETURNS int LANGUAGE sql AS 'SELECT $1';
    CREATE FUNCTION overloaded(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION overloaded(text) RETURNS bool LANGUAGE sql AS 'SELECT pg_is_in_recovery()';
    CREATE FUNCTION in_c(int) RETURNS int LANGUAGE c AS '$libdir/euc2004_sjis2004', 'shift_jis_2004_to_euc_jis_2004';
    CREATE FUNCTION by_operator(t, t) RETURNS bool LANGUAGE sql AS 'SELECT swallows(1) = 1';
    CREATE OPERATOR <~> (LEFTARG = t, RIGHTARG = t, FUNCTION = by_operator);
    CREATE FUNCTION by_in(t, t) RETURNS bool LANGUAGE sql AS 'SELECT asks()';
    CREATE OPERATOR ~~ (LEFTARG = t, RIGHTARG = t, FUNCTION = by_in);
    CREATE AGGREGATE worst (int) (SFUNC = int4pl, STYPE = int, FINALFUNC = swallows);
    CREATE AGGREGATE best (int) (SFUNC = int4pl, STYPE = int);
    CREATE TYPE span AS RANGE (SUBTYPE = int);
    CREATE TYPE told AS (a int);
    CREATE FUNCTION tell(int) RETURNS told LANGUAGE sql AS 'SELECT ROW(swallows($1))::told';
    CREATE CAST (int AS told) WITH FUNCTION tell(int);
    CREATE DOMAIN checked AS int CHECK (swallows(VALUE) > 0);
    CREATE VIEW over_function AS SELECT swallows(a) FROM t;
    CREATE VIEW over_view AS SELECT * FROM over_function;
    CREATE VIEW over_built_in AS SELECT pg_is_in_recovery();
    CREATE VIEW over_system_view AS SELECT count(*) FROM pg_stat_activity;
    CREATE VIEW over_sequence AS SELECT last_value FROM seq;
    CREATE VIEW over_table AS SELECT * FROM t JOIN pg_tables ON tablename = b;
    CREATE MATERIALIZED VIEW kept AS SELECT calls_it(a) FROM t;
    CREATE VIEW over_kept AS SELECT * FROM kept;
    CREATE FUNCTION reads_view() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM over_view';
    CREATE FOREIGN DATA WRAPPER w;
    CREATE SERVER elsewhere FOREIGN DATA WRAPPER w;
    CREATE FOREIGN TABLE remote (a int) SERVER elsewhere;
    CREATE VIEW over_remote AS SELECT * FROM remote;
    CREATE TABLE parted (a int) PARTITION BY LIST (a);
    CREATE FOREIGN TABLE part PARTITION OF parted FOR VALUES IN (1) SERVER elsewhere;
    CREATE TABLE guarded (a int);
    ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON guarded USING (asks());
    CREATE TABLE guarded_by_view (a int);
    CREATE POLICY own ON guarded_by_view USING (a IN (SELECT pid FROM pg_stat_activity));
    CREATE TABLE audited (a int DEFAULT swallows(1), b int GENERATED ALWAYS AS (swallows(2)) STORED,
        c int DEFAULT pg_backend_pid());
    CREATE FUNCTION audits() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RETURN NEW; EXCEPTION WHEN OTHERS THEN RETURN NULL; END $$;
    CREATE TRIGGER audit AFTER INSERT ON audited FOR EACH ROW EXECUTE FUNCTION audits();
    CREATE TABLE numbered (a int DEFAULT nextval('seq'), b serial, c int GENERATED ALWAYS AS IDENTITY);
";

/// Statements, and what is not plain in each; nothing for one that is.
const VERDICTS: &[(&str, Option<&str>)] = &[
    ("SELECT a, count(*) FROM t GROUP BY a", None),
    ("SELECT plain(a), catches_little(a), constant(), writes(1), sets_locally() FROM public.t", None),
    ("SELECT other_plain_name(1, 2), lower(b), generate_series(1, 2) FROM t, \"Other\" o", None),
    ("SELECT * FROM over_table JOIN information_schema.columns ON true", None),
    ("SELECT relname, pg_get_viewdef(oid) FROM pg_class WHERE pg_table_is_visible(oid)", None),
    ("SELECT * FROM audited, numbered", None),
    ("SELECT * FROM kept, over_kept", None),
    ("SELECT best(a), span(1, 2), span(1, 2, '[]'), span_multirange(span(1, 2)) FROM t", None),
    ("SELECT current_setting('work_mem'), random(), version()", None),
    ("SELECT swallows(1)", Some("function swallows (exception handler)")),
    ("SELECT hides(1)", Some("function hides (exception handler)")),
    ("SELECT calls_it(1)", Some("function swallows (exception handler)")),
    ("SELECT defaults()", Some("function swallows (exception handler)")),
    ("SELECT reads_view()", Some("function swallows (exception handler)")),
    ("SELECT worst(a) FROM t", Some("function swallows (exception handler)")),
    ("SELECT x.a <~> y.a FROM t x, t y", Some("function swallows (exception handler)")),
    ("SELECT (1)::told", Some("function swallows (exception handler)")),
    ("SELECT '1'::checked", Some("function swallows (exception handler)")),
    ("TABLE over_view", Some("function swallows (exception handler)")),
    ("SELECT x.a LIKE y.a FROM t x, t y", Some("pg_is_in_recovery")),
    ("SELECT asks()", Some("pg_is_in_recovery")),
    ("SELECT asks_by_body()", Some("pg_is_in_recovery")),
    ("SELECT asks_by_setting()", Some("function asks_by_setting (transaction_read_only)")),
    ("SELECT other_name()", Some("function other_name (another name)")),
    ("SELECT pg_catalog.pg_is_in_recovery()", Some("pg_is_in_recovery")),
    ("SELECT * FROM over_built_in", Some("pg_is_in_recovery")),
    ("SELECT overloaded(1)", Some("pg_is_in_recovery")),
    ("SELECT * FROM guarded", Some("pg_is_in_recovery")),
    ("SELECT * FROM guarded_by_view", Some("pg_stat_activity")),
    ("SELECT * FROM over_system_view", Some("pg_stat_activity")),
    ("SELECT * FROM pg_stat_activity", Some("pg_stat_activity")),
    ("SELECT in_c(1)", Some("function in_c (in C)")),
    ("SELECT locks()", Some("pg_advisory_xact_lock")),
    ("SELECT seeds()", Some("function seeds (changes the session, or runs what cannot be seen)")),
    ("SELECT dynamic('x')", Some("function dynamic (changes the session, or runs what cannot be seen)")),
    ("SELECT programs()", Some("function programs (COPY)")),
    ("SELECT notifies()", Some("pg_notify")),
    ("SELECT query_to_xml('SELECT 1', true, true, '')", Some("query_to_xml")),
    ("SELECT * FROM remote", Some("foreign table remote")),
    ("SELECT * FROM over_remote", Some("foreign table remote")),
    ("SELECT * FROM parted", Some("foreign table part")),
    ("SELECT last_value FROM seq", Some("sequence seq")),
    ("SELECT * FROM over_sequence", Some("a sequence")),
];

/// A primary and a standby for all tests here. What started them removes them when the tests end.
fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    let start = || {
        let bin = std::env::var_os("TRUNKLINE_TEST_PG_BIN");
        let install = PgInstall::find(bin.as_deref().map(Path::new)).expect("PostgreSQL");
        let directory =
            tempfile::Builder::new().prefix("tlc-").tempdir_in("/tmp").expect("a directory").keep();
        Cluster::start(ClusterSpec::new(install, 1, directory), &mut |_| {}).expect("it starts")
    };
    CLUSTER.get_or_init(start)
}

/// Looks until the server has answered in time: on a busy machine a login may take longer than a reader waits for it.
async fn read(reader: &mut FunctionsReader, wish: PlainnessWish) -> Option<FunctionCatalog> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match reader.look(wish).await {
            Ok(catalog) => return catalog,
            Err(FunctionsReadError::NotNow(_)) if Instant::now() < deadline => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// A database of a test's own, and its reader.
struct ReadDatabase {
    name: &'static str,
    runtime: Runtime,
    reader: FunctionsReader,
    functions: Functions,
}

impl ReadDatabase {
    fn with(name: &'static str, objects: &str) -> Self {
        let primary = &cluster().primary;
        primary.psql(&format!("CREATE DATABASE {name}")).expect("a new name");
        primary.psql_in(name, objects).expect("valid SQL");
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let config = primary.monitor_conninfo().parse().expect("a connection string");
        let mut verdicts = snapshot();
        verdicts.servers.truncate(1);
        verdicts.servers[0].port = primary.port();
        verdicts.servers[0].address = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, primary.port())).into());
        let (health, _by_hand) =
            ByHand::with_login(verdicts, MonitorLogin { config, ..MonitorLogin::default() });
        let store = FunctionStore::new(UserFunctions::Read, health, Handle::clone(runtime.handle()));
        let mut reader = FunctionsReader::new(Arc::clone(&store.shared), name.into());
        let catalog = runtime.block_on(read(&mut reader, PlainnessWish::Wanted)).expect("new");
        let functions = Functions::new(catalog);
        functions.look_ended(functions.look_begins(), None);
        Self { name, runtime, reader, functions }
    }

    fn psql(&self, sql: &str) -> String {
        cluster().primary.psql_in(self.name, sql).expect("valid SQL")
    }

    /// One more look. Returns whether it has found something new.
    fn look(&mut self, wish: PlainnessWish) -> bool {
        let number = self.functions.look_begins();
        let catalog = self.runtime.block_on(read(&mut self.reader, wish));
        let is_new = catalog.is_some();
        self.functions.look_ended(number, catalog);
        is_new
    }

    fn judged(&self, sql: &str) -> Plainness {
        self.functions.plainness(sql.as_bytes(), &[]).0
    }
}

#[test]
fn what_runs_what_is_not_plain_is_found_in_a_real_catalog() {
    let database = ReadDatabase::with("objects", OBJECTS);
    let wrong: Vec<(&str, Plainness)> = VERDICTS
        .iter()
        .filter_map(|(sql, cause)| {
            let expected = cause.map_or(Plainness::Plain, |cause| Plainness::NotPlain(cause.into()));
            Some((*sql, database.judged(sql))).filter(|(_, judged)| *judged != expected)
        })
        .collect();
    assert_eq!(wrong, []);
    for sql in ["SELECT made_later()", "SELECT * FROM made_later", "SELECT 1 FROM t, s.made_later"] {
        assert_eq!(database.judged(sql), Plainness::Unknown(NotJudged::NoSuchName), "{sql}");
    }
    let oid = database.psql("SELECT 'checked'::regtype::oid");
    let types = oid.trim().parse::<u32>().expect("a number").to_be_bytes();
    let (verdict, _) = database.functions.plainness(b"SELECT $1", &types);
    assert_eq!(verdict, Plainness::NotPlain("function swallows (exception handler)".into()));
}

/// The verdicts are true: what is plain is answered alike or refused, and what is not is not.
#[test]
fn a_standby_answers_what_is_plain_as_the_primary_does_or_refuses() {
    let database = ReadDatabase::with("answers", OBJECTS);
    database.psql(
        "INSERT INTO t VALUES (1, 'x'), (2, 'y'); SELECT nextval('seq'); REFRESH MATERIALIZED VIEW kept",
    );
    cluster().wait_caught_up().expect("it streams");
    let standby = &cluster().replicas[0];
    let mut refused = Vec::new();
    for (sql, _) in VERDICTS.iter().filter(|(sql, cause)| cause.is_none() && !sql.contains("random()")) {
        match standby.psql_in("answers", sql) {
            Ok(answer) => assert_eq!(answer, database.psql(sql), "{sql}"),
            Err(error) => refused.push((*sql, error.to_string())),
        }
    }
    assert!(refused.iter().all(|(sql, _)| sql.contains("writes(")), "{refused:?}");
    assert!(refused.iter().all(|(_, why)| why.contains("read-only transaction")), "{refused:?}");
    for sql in [
        "SELECT hides(5)",
        "SELECT asks()",
        "SELECT asks_by_body()",
        "SELECT asks_by_setting()",
        "SELECT other_name()",
        "SELECT last_value FROM seq",
    ] {
        assert!(matches!(database.judged(sql), Plainness::NotPlain(_)), "{sql}");
        let answer = standby.psql_in("answers", sql).expect("it is accepted");
        assert_ne!(answer, database.psql(sql), "{sql}");
    }
}

/// The definitions of all views of PostgreSQL: queries of many forms, whose names are all known.
#[test]
fn no_name_in_the_views_of_postgresql_is_unknown() {
    let database = ReadDatabase::with("views", "SELECT 1");
    let definitions = database.psql(
        "SELECT string_agg(translate(pg_get_viewdef(oid), E'\\n', ' '), E'\\n') FROM pg_class WHERE relkind = 'v' AND oid < 16384",
    );
    let unknown: Vec<&str> =
        definitions.lines().filter(|sql| matches!(database.judged(sql), Plainness::Unknown(_))).collect();
    assert_eq!(unknown, [""; 0]);
    assert!(definitions.lines().count() > 100, "there are some {}", definitions.lines().count());
}

#[test]
fn what_runs_without_a_name_counts_for_all_statements() {
    let hides = "CREATE FUNCTION hides(text) RETURNS int LANGUAGE plpgsql AS
        $$ BEGIN RETURN 1; EXCEPTION WHEN OTHERS THEN RETURN 2; END $$;";
    let cast = format!("{hides} CREATE CAST (text AS int) WITH FUNCTION hides(text) AS IMPLICIT");
    let lexizes =
        "CREATE FUNCTION lexizes(internal, internal, internal, internal) RETURNS internal LANGUAGE c
        AS '$libdir/euc2004_sjis2004', 'shift_jis_2004_to_euc_jis_2004';";
    let template = format!("{lexizes} CREATE TEXT SEARCH TEMPLATE words (LEXIZE = lexizes)");
    for (name, objects, cause) in [
        ("unused", hides, None),
        ("castings", &cast, Some("function hides (exception handler)")),
        ("unused_in_c", lexizes, None),
        ("templates", &template, Some("function lexizes (in C)")),
    ] {
        let expected = cause.map_or(Plainness::Plain, |cause| Plainness::NotPlain(cause.into()));
        assert_eq!(ReadDatabase::with(name, objects).judged("SELECT 1"), expected, "{name}");
    }
}

/// Where PostgreSQL comes without its contrib modules, the unit tests of names must do.
#[test]
fn extensions_are_judged_by_what_they_do() {
    let mut database = ReadDatabase::with("extensions", "CREATE TABLE t (a int, b text)");
    let found = database
        .psql("SELECT count(*) FROM pg_available_extensions WHERE name IN ('dblink', 'pg_trgm', 'citext')");
    if found.trim() != "3" {
        eprintln!("skipped: PostgreSQL has no contrib modules here");
        return;
    }
    let objects = "CREATE EXTENSION dblink; CREATE EXTENSION pg_trgm; CREATE EXTENSION citext; CREATE TABLE c (a citext);
        CREATE INDEX ON t USING gin (b gin_trgm_ops);
        CREATE FUNCTION reaches() RETURNS text LANGUAGE sql AS $$ SELECT dblink_exec('', '') $$;
        CREATE VIEW over_dblink AS SELECT * FROM dblink('', 'SELECT 1') AS d (a int)";
    database.psql(objects);
    assert!(database.look(PlainnessWish::Wanted));
    for sql in [
        "SELECT similarity(b, 'x') FROM t WHERE b % 'x' AND b LIKE '%x%' ORDER BY b <-> 'x'",
        "SELECT * FROM c WHERE a = 'X'",
        "SELECT 'x'::citext",
    ] {
        assert_eq!(database.judged(sql), Plainness::Plain, "{sql}");
    }
    for (sql, cause) in [
        ("SELECT * FROM dblink('', '') AS d (a int)", "function dblink (in C)"),
        ("SELECT reaches()", "function dblink_exec (in C)"),
        ("SELECT * FROM over_dblink", "function dblink (in C)"),
        ("SELECT set_limit(0.5)", "function set_limit (changes the session, or runs what cannot be seen)"),
    ] {
        assert_eq!(database.judged(sql), Plainness::NotPlain(cause.into()), "{sql}");
    }
}

#[test]
fn what_is_made_or_replaced_is_known_by_the_next_look() {
    let mut database = ReadDatabase::with(
        "replaced",
        "CREATE TABLE t (a int); CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    );
    let (verdict, epoch) = database.functions.plainness(b"SELECT f() FROM t", &[]);
    assert_eq!(verdict, Plainness::Plain);
    let position = database.functions.plainness_position().expect("it is told");
    assert!(!database.look(PlainnessWish::Wanted), "nothing has changed");
    assert!(database.functions.is_plainness_of(epoch, b"SELECT f() FROM t"));
    for (change, sql, expected) in [
        ("CREATE TABLE u (a int)", "SELECT * FROM u", Plainness::Plain),
        ("CREATE TABLE w (a int)", "SELECT * FROM u, w", Plainness::Plain),
        ("ALTER TABLE u RENAME TO v", "SELECT * FROM u", Plainness::Unknown(NotJudged::NoSuchName)),
        (
            "DROP TABLE v; CREATE VIEW v AS SELECT pg_is_in_recovery()",
            "TABLE v",
            Plainness::NotPlain("pg_is_in_recovery".into()),
        ),
        (
            "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE plpgsql AS
             'BEGIN RETURN 1; EXCEPTION WHEN OTHERS THEN RETURN 2; END'",
            "SELECT f() FROM t",
            Plainness::NotPlain("function f (exception handler)".into()),
        ),
        (
            "CREATE POLICY p ON t USING (pg_backend_pid() = 1)",
            "TABLE t",
            Plainness::NotPlain("pg_backend_pid".into()),
        ),
    ] {
        assert_ne!(database.judged(sql), expected, "{change}");
        database.psql(change);
        assert!(database.look(PlainnessWish::Wanted), "{change}");
        assert_eq!(database.judged(sql), expected, "{change}");
    }
    assert!(!database.functions.is_plainness_of(epoch, b"SELECT f() FROM t"));
    assert!(database.functions.plainness_position() > Some(position), "the log has grown");
}

#[test]
fn nothing_more_is_asked_until_somebody_wants_to_know() {
    let mut database = ReadDatabase::with("unasked", "CREATE TABLE t (a int)");
    database.reader.forget();
    assert!(database.look(PlainnessWish::NotWanted));
    assert_eq!(database.judged("SELECT 1"), Plainness::Unknown(NotJudged::Unread));
    database.psql("CREATE TABLE u (a int)");
    assert!(!database.look(PlainnessWish::NotWanted), "tables alone change nothing for sessions");
    assert!(database.look(PlainnessWish::of(&database.functions)), "it was asked for above");
    assert_eq!(database.judged("SELECT 1 FROM u"), Plainness::Plain);
}
