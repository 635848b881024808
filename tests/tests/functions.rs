//! Functions of the user's own: what they leave behind in a session goes with it, or keeps it where it is.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use trunkline_cluster::{Cluster, Server};
use trunkline_codec::write;
use trunkline_tests::{
    Auth, Endpoint, EndpointBuilder, Forwarder, Login, Weather, Wire, binary, eventually, http_get,
    own_cluster,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Rows of two tenants, and each way to become one of them.
const TENANTS: &str = "
    CREATE ROLE tenants LOGIN PASSWORD 'tenants';
    CREATE TABLE orders (tenant text, item text);
    INSERT INTO orders VALUES ('a', 'apples'), ('b', 'bananas');
    ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON orders USING (tenant = current_setting('app.tenant', true));
    GRANT SELECT ON orders TO tenants;
    CREATE FUNCTION by_plpgsql(t text) RETURNS void LANGUAGE plpgsql AS
        $$ BEGIN PERFORM set_config('app.tenant', t, false); END $$;
    CREATE FUNCTION by_sql(t text) RETURNS text LANGUAGE sql AS
        $$ SELECT set_config('app.tenant', t, false) $$;
    CREATE FUNCTION by_body(t text) RETURNS text LANGUAGE sql RETURN set_config('app.tenant', t, false);
    CREATE FUNCTION by_set() RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET app.tenant = 'a'; END $$;
    CREATE FUNCTION by_caller(t text) RETURNS void LANGUAGE plpgsql AS
        $$ BEGIN PERFORM public.by_plpgsql(t); END $$;
    CREATE FUNCTION by_definer(t text) RETURNS text LANGUAGE sql SECURITY DEFINER AS
        $$ SELECT set_config('app.tenant', t, false) $$;
    CREATE FUNCTION \"By Name\"(t text) RETURNS text LANGUAGE sql AS
        $$ SELECT set_config('app.tenant', t, false) $$;
    CREATE FUNCTION by_operator(text, text) RETURNS text LANGUAGE sql AS $$ SELECT by_sql($1 || $2) $$;
    CREATE OPERATOR <~> (LEFTARG = text, RIGHTARG = text, FUNCTION = by_operator);
    CREATE AGGREGATE by_aggregate (text) (SFUNC = by_operator, STYPE = text, INITCOND = '');
    CREATE TYPE told AS (tenant text);
    CREATE FUNCTION by_cast(t text) RETURNS told LANGUAGE sql AS
        $$ SELECT ROW(set_config('app.tenant', t, false))::told $$;
    CREATE CAST (text AS told) WITH FUNCTION by_cast(text);
    CREATE VIEW by_view AS SELECT by_sql('a');
    CREATE VIEW by_built_in AS SELECT set_config('app.tenant', 'a', false);
    CREATE TABLE audited (n int);
    INSERT INTO audited VALUES (1);
    ALTER TABLE audited ENABLE ROW LEVEL SECURITY;
    CREATE POLICY by_policy ON audited USING (by_sql('a') IS NOT NULL);
    GRANT SELECT ON audited, by_view, by_built_in TO tenants;
    CREATE FUNCTION computed(t text) RETURNS text LANGUAGE sql AS
        $$ SELECT set_config('app.' || t, 'a', false) $$;
    CREATE FUNCTION locks() RETURNS void LANGUAGE sql AS $$ SELECT pg_advisory_lock(1) $$;
    CREATE FUNCTION harmless(t text) RETURNS text LANGUAGE plpgsql AS
        $$ BEGIN PERFORM set_config('work_mem', '1MB', true); RETURN upper(t); END $$;
";

fn tenants() -> Cluster {
    let cluster = own_cluster(2);
    cluster.primary.psql(TENANTS).unwrap();
    cluster.wait_caught_up().unwrap();
    cluster
}

fn endpoint(cluster: &Cluster) -> EndpointBuilder {
    let socket = cluster.directory().join("admin.sock");
    Endpoint::over(cluster).auth(Auth::Verify).flag("--admin", socket.to_str().unwrap())
}

fn login(endpoint: &Endpoint) -> Wire {
    Login::of("tenants", "tenants").connect(endpoint.reads())
}

fn operator(cluster: &Cluster, wanted: &str, server: &str) {
    let socket = cluster.directory().join("admin.sock");
    let output = Command::new(binary()).args([wanted, server, "--admin"]).arg(socket).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The server that answers this session now.
fn server_of<'c>(cluster: &'c Cluster, wire: &mut Wire) -> &'c Server {
    let name = wire.value("SHOW cluster_name");
    cluster.replicas.iter().find(|server| server.name() == name).unwrap()
}

/// A login to the database that the monitoring role may not connect to.
fn closed_login() -> Login {
    let mut login = Login::of("tenants", "tenants");
    login.parameters = vec![("database".to_owned(), "closed".to_owned())];
    login
}

/// How many sessions each reason keeps where they are, in words.
fn pinned(endpoint: &Endpoint, by: &str) -> f64 {
    let metrics = http_get(endpoint.http(), "/metrics").unwrap().body;
    let family = metrics.lines().filter(|line| line.starts_with("trunkline_sessions_pinned{"));
    let samples = family.filter(|line| line.contains(&format!("\"{by}\"")));
    samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

fn movable(endpoint: &Endpoint) -> f64 {
    let metrics = http_get(endpoint.http(), "/metrics").unwrap().body;
    let samples = metrics.lines().filter(|line| line.starts_with("trunkline_sessions_movable"));
    samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

fn await_movable(endpoint: &Endpoint) {
    eventually(PATIENCE, "the session may move", || movable(endpoint) == 1.0);
}

/// Drains the session's server, and waits until it has left.
fn drain_away(cluster: &Cluster, endpoint: &Endpoint, wire: &mut Wire) {
    let left = server_of(cluster, wire).name().to_owned();
    operator(cluster, "drain", &left);
    eventually(PATIENCE, "the drained server has no sessions", || endpoint.sessions_on(&left) == 0);
    assert_ne!(server_of(cluster, wire).name(), left);
    operator(cluster, "ready", &left);
}

#[test]
fn a_session_keeps_the_tenant_that_a_function_has_set() {
    let cluster = tenants();
    let endpoint = endpoint(&cluster).start();
    for call in [
        "SELECT by_plpgsql('a')",
        "SELECT by_sql('a')",
        "SELECT by_body('a')",
        "SELECT by_set()",
        "SELECT by_caller('a')",
        "SELECT by_definer('a')",
        "SELECT \"By Name\"('a')",
        "SELECT * FROM by_view",
        "SELECT * FROM by_view; SELECT 1",
        "TABLE by_view",
        "SELECT '' <~> 'a'",
        "SELECT by_aggregate(x) FROM (VALUES ('a')) v (x)",
        "SELECT ('a'::text)::told",
        "TABLE audited",
        "BEGIN; SELECT by_sql('b'); SAVEPOINT s; SELECT by_sql('x'); ROLLBACK TO s; SELECT by_sql('a'); COMMIT",
        "PREPARE p AS SELECT by_sql('a'); EXECUTE p",
    ] {
        let mut wire = login(&endpoint);
        await_movable(&endpoint);
        assert_eq!(wire.value("SELECT count(*) FROM orders"), "0");
        assert_eq!(wire.query(call).error, None, "{call}");
        await_movable(&endpoint);
        drain_away(&cluster, &endpoint, &mut wire);
        assert_eq!(wire.value("SELECT item FROM orders"), "apples", "{call}");
        drop(wire);
        eventually(PATIENCE, "the session has ended", || movable(&endpoint) == 0.0);
    }
}

#[test]
fn the_first_query_of_a_database_is_followed_too() {
    let cluster = tenants();
    for call in ["TABLE audited", "TABLE by_view", "SELECT '' <~> 'a'"] {
        let endpoint = endpoint(&cluster).start();
        let mut wire = login(&endpoint);
        assert_eq!(wire.query(call).error, None, "{call}");
        await_movable(&endpoint);
        drain_away(&cluster, &endpoint, &mut wire);
        assert_eq!(wire.value("SELECT item FROM orders"), "apples", "{call}");
    }
}

#[test]
fn a_tenant_outlives_the_death_of_its_server() {
    let cluster = tenants();
    let endpoint = endpoint(&cluster).start();
    let mut wire = login(&endpoint);
    assert_eq!(wire.query("SELECT by_plpgsql('a')").error, None);
    assert_eq!(wire.value("SELECT item FROM orders"), "apples");
    await_movable(&endpoint);
    server_of(&cluster, &mut wire).kill_postmaster();
    assert_eq!(wire.value("SELECT item FROM orders"), "apples");
    assert_eq!(wire.query("SELECT by_plpgsql('b')").error, None);
    assert_eq!(wire.value("SELECT item FROM orders"), "bananas");
    assert_eq!(wire.query("BEGIN; SELECT by_plpgsql('a'); ROLLBACK").error, None);
    assert_eq!(wire.value("SELECT item FROM orders"), "bananas");
}

#[test]
fn the_unnamed_statement_survives_the_reading_of_what_it_set() {
    let cluster = tenants();
    let endpoint = endpoint(&cluster).start();
    let mut wire = login(&endpoint);
    await_movable(&endpoint);
    let tenant = |wire: &mut Wire, tenant: &str| {
        wire.send_with(|out| {
            write::bind(out, b"", b"", [Some(tenant.as_bytes())]).unwrap();
            write::execute(out, b"", 0).unwrap();
            write::sync(out);
        });
        let answer = wire.read_answer();
        assert_eq!(answer.error, None);
        assert_eq!(answer.tags(), "2DCZ");
    };
    wire.send_with(|out| {
        write::parse(out, b"", b"SELECT by_sql($1)", &[]).unwrap();
        write::sync(out);
    });
    assert_eq!(wire.read_answer().tags(), "1Z");
    tenant(&mut wire, "a");
    tenant(&mut wire, "b");
    await_movable(&endpoint);
    tenant(&mut wire, "a");
    await_movable(&endpoint);
    drain_away(&cluster, &endpoint, &mut wire);
    assert_eq!(wire.value("SELECT item FROM orders"), "apples");
}

#[test]
fn a_function_that_cannot_be_followed_keeps_its_session() {
    let cluster = tenants();
    let endpoint = endpoint(&cluster).start();
    for (call, by) in [
        ("SELECT computed('tenant')", "setting"),
        ("SELECT locks()", "advisory_lock"),
        ("TABLE by_built_in", "setting"),
    ] {
        let mut wire = login(&endpoint);
        await_movable(&endpoint);
        assert_eq!(wire.query(call).error, None, "{call}");
        eventually(PATIENCE, "the session is pinned", || pinned(&endpoint, by) == 1.0);
        let server = server_of(&cluster, &mut wire).name().to_owned();
        operator(&cluster, "drain", &server);
        assert_eq!(wire.value("SHOW cluster_name"), server);
        operator(&cluster, "ready", &server);
        drop(wire);
        eventually(PATIENCE, "the session has ended", || pinned(&endpoint, by) == 0.0);
    }
}

#[test]
fn a_session_never_goes_on_without_its_tenant() {
    let cluster = tenants();
    let endpoint = endpoint(&cluster).start();
    let mut wire = login(&endpoint);
    assert_eq!(wire.query("SELECT computed('tenant')").error, None);
    assert_eq!(wire.value("SELECT item FROM orders"), "apples");
    server_of(&cluster, &mut wire).kill_postmaster();
    eventually(PATIENCE, "the server's end is noticed", || endpoint.log().contains("its server was lost"));
    let error = wire.query("SELECT item FROM orders").error.unwrap();
    assert_eq!(error.severity, "FATAL", "{error:?}");
    assert!(["57P01", "08006"].contains(&error.code.as_str()), "{error:?}");
}

#[test]
fn a_function_made_a_moment_ago_is_read_before_its_session_moves() {
    let cluster = tenants();
    let endpoint = endpoint(&cluster).start();
    let mut wire = login(&endpoint);
    await_movable(&endpoint);
    for n in 0..5 {
        let made = format!(
            "CREATE FUNCTION new_{n}(t text) RETURNS text LANGUAGE sql AS
                $$ SELECT set_config('app.tenant', t, false) $$; GRANT EXECUTE ON FUNCTION new_{n} TO tenants"
        );
        cluster.primary.psql(&made).unwrap();
        cluster.wait_caught_up().unwrap();
        let (tenant, item) = if n % 2 == 0 { ("a", "apples") } else { ("b", "bananas") };
        assert_eq!(wire.query(&format!("SELECT new_{n}('{tenant}')")).error, None);
        drain_away(&cluster, &endpoint, &mut wire);
        assert_eq!(wire.value("SELECT item FROM orders"), item);
    }
    cluster.primary.psql("CREATE FUNCTION new_one() RETURNS int LANGUAGE sql AS 'SELECT 1'").unwrap();
    cluster.wait_caught_up().unwrap();
    assert_eq!(wire.value("SELECT new_one()"), "1");
    await_movable(&endpoint);
}

#[test]
fn a_function_replaced_a_moment_ago_is_read_before_its_session_moves() {
    let cluster = tenants();
    let endpoint = endpoint(&cluster).start();
    let mut wire = login(&endpoint);
    assert_eq!(wire.value("SELECT harmless('a')"), "A");
    await_movable(&endpoint);
    let replaced = "CREATE OR REPLACE FUNCTION harmless(t text) RETURNS text LANGUAGE sql AS
        $$ SELECT set_config('app.tenant', t, false) $$";
    cluster.primary.psql(replaced).unwrap();
    cluster.wait_caught_up().unwrap();
    assert_eq!(wire.value("SELECT harmless('a')"), "a");
    drain_away(&cluster, &endpoint, &mut wire);
    assert_eq!(wire.value("SELECT item FROM orders"), "apples");
}

#[test]
fn an_index_and_a_key_made_later_are_read_too() {
    let cluster = tenants();
    let endpoint = endpoint(&cluster).start();
    let tables = "
        CREATE FUNCTION by_index(n int) RETURNS int IMMUTABLE LANGUAGE sql AS
            $$ SELECT set_config('app.' || 'tenant', 'a', false); SELECT n $$;
        CREATE FUNCTION by_trigger() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM set_config('app.' || 'tenant', 'b', false); RETURN OLD; END $$;
        CREATE TABLE numbers (n int);
        CREATE TABLE owners (n int PRIMARY KEY);
        CREATE TABLE owned (n int);
        CREATE TRIGGER deleted BEFORE DELETE ON owned FOR EACH ROW EXECUTE FUNCTION by_trigger();
        GRANT INSERT ON numbers TO tenants; GRANT SELECT, DELETE ON owners TO tenants";
    cluster.primary.psql(tables).unwrap();
    for (made, statement) in [
        ("CREATE INDEX ON numbers (by_index(n))", "INSERT INTO numbers VALUES (1)"),
        ("ALTER TABLE owned ADD FOREIGN KEY (n) REFERENCES owners ON DELETE CASCADE", "DELETE FROM owners"),
    ] {
        let mut wire = Login::of("tenants", "tenants").connect(endpoint.writes());
        assert_eq!(wire.query(statement).error, None);
        await_movable(&endpoint);
        cluster.primary.psql(made).unwrap();
        eventually(PATIENCE, "the session is kept where it is", || {
            assert_eq!(wire.query(statement).error, None);
            movable(&endpoint) == 0.0
        });
    }
}

#[test]
fn what_is_made_anew_while_functions_are_read_is_read_again() {
    let cluster = tenants();
    let way = Forwarder::to(cluster.primary.port());
    let endpoint = endpoint(&cluster).through("primary", way.port()).start();
    let mut wire = login(&endpoint);
    await_movable(&endpoint);
    let mut migration = Login::default().connect(cluster.primary.port());
    // Between two queries there is time for a migration.
    way.set(Weather::Slow(Duration::from_millis(60)));
    cluster.primary.psql("CREATE FUNCTION another() RETURNS int LANGUAGE sql AS 'SELECT 1'").unwrap();
    let began = migration.value("SELECT clock_timestamp()");
    let reads = format!(
        "SELECT max(query_start) FROM pg_stat_activity WHERE application_name = 'trunkline functions' \
         AND datname = current_database() AND query LIKE 'WITH sources%' AND state <> 'active' \
         AND query_start > '{began}'"
    );
    let mut seen = BTreeSet::new();
    eventually(PATIENCE, "the functions are read, and not yet what depends on them", || {
        seen.extend(migration.query(&reads).rows.remove(0).remove(0));
        // The query is prepared, and then run.
        seen.len() == 2
    });
    let anew = "DROP FUNCTION by_operator CASCADE;
        CREATE FUNCTION by_operator(text, text) RETURNS text LANGUAGE sql AS $$ SELECT by_sql($1 || $2) $$;
        CREATE OPERATOR <~> (LEFTARG = text, RIGHTARG = text, FUNCTION = by_operator)";
    assert_eq!(migration.query(anew).error, None);
    way.set(Weather::Fair);
    cluster.wait_caught_up().unwrap();
    let is_over = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'trunkline functions' \
        AND datname = current_database() AND query NOT LIKE 'WITH sources%' AND state = 'idle' \
        AND query_start < clock_timestamp() - interval '100 ms'";
    eventually(PATIENCE, "the look is over", || migration.value(is_over) == "1");
    assert_eq!(wire.query("SELECT 'a' <~> ''").error, None);
    drain_away(&cluster, &endpoint, &mut wire);
    assert_eq!(wire.query("SELECT item FROM orders").rows, [[Some("apples".to_owned())]]);
}

#[test]
fn harmless_functions_keep_no_session_where_it_is() {
    let cluster = tenants();
    let endpoint = endpoint(&cluster).start();
    let mut wire = login(&endpoint);
    await_movable(&endpoint);
    assert_eq!(wire.value("SELECT harmless('a')"), "A");
    await_movable(&endpoint);
    assert_eq!(wire.value("SELECT harmless('a')"), "A");
    assert_eq!(movable(&endpoint), 1.0, "it is known by now");
    assert_eq!(wire.value("SELECT count(*) FROM orders AS o (a, b)"), "0");
    assert_eq!(movable(&endpoint), 1.0);
}

#[test]
fn functions_are_trusted_or_all_pin_as_the_operator_says() {
    let cluster = tenants();
    for (functions, call, is_movable) in [
        ("trust", "SELECT by_sql('a')", true),
        ("pin", "SELECT harmless('a')", false),
        ("pin", "SELECT count(*), upper('a') FROM orders", true),
    ] {
        let endpoint = endpoint(&cluster).key("session.functions", &format!("\"{functions}\"")).start();
        let mut wire = login(&endpoint);
        await_movable(&endpoint);
        assert_eq!(wire.query(call).error, None);
        if is_movable {
            await_movable(&endpoint);
        } else {
            eventually(PATIENCE, "the session is pinned", || pinned(&endpoint, "function") == 1.0);
        }
    }
}

#[test]
fn functions_that_cannot_be_read_are_not_trusted() {
    let cluster = tenants();
    cluster.primary.psql("CREATE DATABASE closed").unwrap();
    let closing =
        "REVOKE CONNECT ON DATABASE closed FROM PUBLIC; GRANT CONNECT ON DATABASE closed TO tenants";
    cluster.primary.psql(closing).unwrap();
    cluster.wait_caught_up().unwrap();
    let endpoint = endpoint(&cluster).start();
    let mut wire = closed_login().connect(endpoint.reads());
    eventually(PATIENCE, "the log says so", || {
        endpoint.log().contains("could not read user-defined functions")
    });
    assert_eq!(wire.value("SELECT upper(lower('a'))"), "A");
    await_movable(&endpoint);
    assert!(wire.query("SELECT own_function()").error.is_some());
    eventually(PATIENCE, "the session is pinned", || pinned(&endpoint, "function") == 1.0);
}

#[test]
fn bodies_that_are_kept_read_count_as_sources() {
    let cluster = tenants();
    // Two hundred times a fifth of a megabyte is more than the 32 MiB that are read.
    let made = "DO $do$ BEGIN FOR n IN 1..200 LOOP EXECUTE format(
        'CREATE FUNCTION large_%s() RETURNS text LANGUAGE sql RETURN %L', n, repeat('x', 200000)); END LOOP; END $do$";
    cluster.primary.psql(made).unwrap();
    let endpoint = endpoint(&cluster).start();
    let mut session = login(&endpoint);
    assert!(session.query("SELECT harmless('a')").error.is_none());
    eventually(PATIENCE, "the log says so", || {
        endpoint.log().contains("there are more bytes of function sources than are read")
    });
}
