//! The programs people use work through the endpoint as they do without it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::fmt::Write as _;

use trunkline_tests::{Auth, Endpoint, own_cluster, pgbench, psql, python, shared_cluster};

#[test]
fn pgbench_runs_in_every_protocol_mode() {
    let endpoint = Endpoint::over(shared_cluster()).start();
    let script = "\\set i random(1, 10000)\nSELECT filler FROM numbers WHERE i = :i;\n";
    for mode in ["simple", "extended", "prepared"] {
        let run = pgbench(endpoint.reads(), &["-M", mode, "-c", "4", "-j", "2", "-t", "50"], script);
        assert!(run.is_success && run.processed == Some(200), "{mode}: {}", run.output);
    }
    for auth in [Auth::Relay, Auth::Verify] {
        let endpoint = Endpoint::over(shared_cluster()).auth(auth).start();
        let run = pgbench(endpoint.reads(), &["-C", "-c", "4", "-j", "2", "-t", "25"], script);
        assert!(run.is_success && run.processed == Some(100), "{auth:?}: {}", run.output);
    }
}

#[test]
fn pgbench_pipelines() {
    let endpoint = Endpoint::over(shared_cluster()).start();
    let script = "\\startpipeline\nSELECT 1;\nSELECT 2;\nSELECT 3;\n\\endpipeline\n";
    let run = pgbench(endpoint.reads(), &["-M", "extended", "-c", "2", "-t", "100"], script);
    assert!(run.is_success && run.processed == Some(200), "{}", run.output);
}

#[test]
fn pgbench_writes_through_the_writes_port() {
    let cluster = own_cluster(1);
    cluster
        .primary
        .psql("CREATE TABLE counters (i int PRIMARY KEY, n int); INSERT INTO counters VALUES (1, 0)")
        .unwrap();
    let endpoint = Endpoint::over(&cluster).start();
    let script = "BEGIN;\nUPDATE counters SET n = n + 1 WHERE i = 1;\nEND;\n";
    let run = pgbench(endpoint.writes(), &["-M", "prepared", "-c", "4", "-j", "2", "-t", "50"], script);
    assert!(run.is_success && run.processed == Some(200), "{}", run.output);
    assert_eq!(psql(endpoint.writes(), "SELECT n FROM counters"), "200");
}

#[test]
fn psql_copies_both_ways() {
    let cluster = own_cluster(1);
    let endpoint = Endpoint::over(&cluster).start();
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().display();
    psql(endpoint.writes(), "CREATE TABLE t (i int)");
    let mut rows = String::new();
    for index in 0..1000 {
        writeln!(rows, "{index}").unwrap();
    }
    std::fs::write(file.path(), &rows).unwrap();
    psql(endpoint.writes(), &format!("\\copy t FROM '{path}'"));
    cluster.wait_caught_up().unwrap();
    psql(endpoint.reads(), &format!("\\copy t TO '{path}'"));
    assert_eq!(std::fs::read_to_string(file.path()).unwrap(), rows);
}

#[test]
fn psycopg_prepares_streams_copies_pipelines_and_cancels() {
    let endpoint = Endpoint::over(shared_cluster()).start();
    let said = python(
        endpoint.reads(),
        r#"
import psycopg, threading, time
with psycopg.connect("", autocommit=True) as conn:
    for i in range(10):  # Prepared by the driver from the sixth on.
        assert conn.execute("SELECT %s::int + 1", (i,)).fetchone() == (i + 1,)
    assert conn.execute("SELECT %b::bytea", (b"\0\1\2" * 1000,)).fetchone()[0] == b"\0\1\2" * 1000
    with conn.transaction(), conn.cursor(name="named") as cur:
        cur.itersize = 100
        cur.execute("SELECT i FROM numbers ORDER BY i")
        assert [row[0] for row in cur] == list(range(1, 10001))
    with conn.cursor() as cur, cur.copy("COPY (SELECT i FROM numbers) TO STDOUT") as copy:
        assert sum(1 for _ in copy.rows()) == 10000
    with conn.pipeline() as pipe:
        cursors = [conn.execute("SELECT %s::int", (i,)) for i in range(200)]
    assert [cur.fetchone()[0] for cur in cursors] == list(range(200))
    threading.Timer(0.3, conn.cancel).start()
    try:
        conn.execute("SELECT pg_sleep(30)")
    except psycopg.errors.QueryCanceled:
        print("canceled")
    assert conn.execute("SELECT 1").fetchone() == (1,)
    with conn.cursor() as cur:
        rows = sum(1 for _ in cur.stream("SELECT generate_series(1, 1000)"))
    print(rows)
"#,
    );
    assert_eq!(said, "canceled\n1000");
}

#[test]
fn psycopg_errors_keep_the_session() {
    let endpoint = Endpoint::over(shared_cluster()).start();
    let said = python(
        endpoint.reads(),
        r#"
import psycopg
with psycopg.connect("", autocommit=True) as conn:
    for sql in ["SELECT 1/0", "oops", "SELECT * FROM missing", "INSERT INTO numbers VALUES (0, '')"]:
        try:
            conn.execute(sql)
        except psycopg.Error as error:
            print(error.sqlstate)
    print(conn.execute("SELECT 'alive'").fetchone()[0])
"#,
    );
    assert_eq!(said, "22012\n42601\n42P01\n25006\nalive");
}

#[test]
fn tokio_postgres_queries_prepares_copies_and_cancels() {
    use futures_util::{SinkExt as _, TryStreamExt as _};

    let cluster = own_cluster(1);
    let endpoint = Endpoint::over(&cluster).auth(Auth::Verify).start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let conninfo =
            format!("host=127.0.0.1 port={} user=postgres password=postgres dbname=appdb", endpoint.writes());
        let (client, connection) = tokio_postgres::connect(&conninfo, tokio_postgres::NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        client.batch_execute("CREATE TABLE t (i int)").await.unwrap();
        let statement = client.prepare("INSERT INTO t VALUES ($1)").await.unwrap();
        // Pipelined: all are sent before the first is answered.
        let inserts = (0..100i32).map(|index| {
            let (client, statement) = (&client, &statement);
            async move { client.execute(statement, &[&index]).await.unwrap() }
        });
        assert_eq!(futures_util::future::join_all(inserts).await.into_iter().sum::<u64>(), 100);
        let sink = client.copy_in("COPY t FROM STDIN").await.unwrap();
        let mut sink = std::pin::pin!(sink);
        sink.send(bytes::Bytes::from_static(b"100\n101\n")).await.unwrap();
        assert_eq!(sink.finish().await.unwrap(), 2);
        let stream = client.copy_out("COPY t TO STDOUT").await.unwrap();
        let copied: Vec<bytes::Bytes> = stream.try_collect().await.unwrap();
        assert_eq!(copied.iter().map(bytes::Bytes::len).sum::<usize>(), 10 * 2 + 90 * 3 + 2 * 4);
        let cancel = client.cancel_token();
        let (ended, ()) = tokio::join!(client.batch_execute("SELECT pg_sleep(30)"), async {
            let running =
                "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT pg_sleep(30)'";
            let runs = async {
                while cluster.primary.psql(running).unwrap() != "1" {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(std::time::Duration::from_secs(10), runs).await.unwrap();
            cancel.cancel_query(tokio_postgres::NoTls).await.unwrap();
        });
        let code = ended.unwrap_err().code().cloned();
        assert_eq!(code, Some(tokio_postgres::error::SqlState::QUERY_CANCELED));
        assert_eq!(client.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get::<_, i64>(0), 102);
        drop(client);
        connection.await.unwrap().unwrap();
    });
}

/// Two connections of asyncpg, without its cache and without names of statements, by turns on one server connection.
const UNNAMED: &str = "
import asyncio, asyncpg, os

async def main():
    connect = lambda: asyncpg.connect(port=int(os.environ['PGPORT']), statement_cache_size=0)
    one, other = await connect(), await connect()
    for turn in range(10):
        # It prepares and runs first in one series.
        ones = await one.prepare('SELECT $1::int + $2::int AS sum', name='')
        assert await ones.fetchval(turn, 0) == turn
        others = await other.prepare('SELECT $1::text AS word', name='')
        assert await others.fetchval('first') == 'first'
        for value in range(3):
            assert await ones.fetchval(turn, value) == turn + value
            assert await others.fetchval(str(value)) == str(value)
        assert await one.fetch('SELECT generate_series(1, $1::int)', 2) == [(1,), (2,)]
    print('right')

asyncio.run(main())
";

/// INSERTs that commit at once, and what their drivers' clients ask then.
const LAST: &str = "
import psycopg

with psycopg.connect(autocommit=True) as one, psycopg.connect(autocommit=True) as other:
    ids = []
    for turn in range(40):
        for connection in (one, other):
            connection.execute('INSERT INTO lasts (x) VALUES (%s)', (turn,))
        for connection in (one, other):
            ids.append(connection.execute('SELECT lastval()').fetchone()[0])
    assert ids == list(range(1, 81)), ids
    print('right')
";

#[test]
fn drivers_without_names_and_drivers_that_ask_for_sequences_work_in_transaction_mode() {
    let cluster = own_cluster(0);
    cluster.primary.psql("CREATE TABLE lasts (id serial, x int)").unwrap();
    let of_size = |size| Endpoint::over(&cluster).pooling(size).start();
    assert_eq!(python(of_size(1).writes(), UNNAMED), "right");
    assert_eq!(python(of_size(2).writes(), LAST), "right");
}
