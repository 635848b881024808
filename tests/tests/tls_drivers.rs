//! The drivers people use reach a listener that takes nothing but TLS, verify it in full, and bind their logins to it
//! where they can. Behind it are servers that take nothing but TLS, too.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use tokio_postgres::config::{ChannelBinding, SslMode};
use trunkline_cluster::Cluster;
use trunkline_tests::{
    Auth, Certificates, Endpoint, EndpointBuilder, Overheard, Wiretap, driver_skipped, has_program, python,
    root, tls_cluster,
};

#[path = "tls_drivers/go.rs"]
mod go;
#[path = "tls_drivers/libpq.rs"]
mod libpq;
#[path = "tls_drivers/openssl.rs"]
mod openssl;
#[path = "tls_drivers/outliving.rs"]
mod outliving;
#[path = "tls_drivers/over_rustls.rs"]
mod over_rustls;

use over_rustls::OverRustls;

fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let cluster = tls_cluster(None, 1);
        // The superuser's verifier has one iteration: too few for some drivers.
        cluster.primary.psql("CREATE ROLE app LOGIN PASSWORD 'app secret'").unwrap();
        cluster.wait_caught_up().unwrap();
        cluster
    })
}

/// An endpoint that takes nobody without TLS.
fn endpoint() -> EndpointBuilder {
    Endpoint::over(cluster()).auth(Auth::Verify).with_tls().key("client_tls.sslmode", "\"require\"")
}

fn trusted() -> String {
    Certificates::shared().root().display().to_string()
}

/// What a program printed.
///
/// # Panics
/// When it failed, with what it said.
#[track_caller]
fn printed(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn psycopg_binds_its_login_streams_and_cancels() {
    let endpoint = endpoint().start();
    let wiretap = Wiretap::before(endpoint.reads());
    let program = r#"
import psycopg, threading
verified = "sslmode=verify-full sslrootcert=ROOT channel_binding=require"
with psycopg.connect(verified, autocommit=True) as conn:
    assert conn.pgconn.ssl_in_use
    for i in range(10):  # Prepared by the driver from the sixth on.
        assert conn.execute("SELECT %s::int + 1", (i,)).fetchone() == (i + 1,)
    assert conn.execute("SELECT %b::bytea", (b"\0\1\2" * 100000,)).fetchone()[0] == b"\0\1\2" * 100000
    with conn.cursor() as cur, cur.copy("COPY (SELECT generate_series(1, 100000)) TO STDOUT") as copy:
        assert sum(1 for _ in copy.rows()) == 100000
    with conn.pipeline():
        cursors = [conn.execute("SELECT %s::int", (i,)) for i in range(200)]
    assert [cur.fetchone()[0] for cur in cursors] == list(range(200))
    assert psycopg.pq.version() >= 170000  # Its cancel_safe is PQcancelBlocking, by TLS.
    # A session beside it, on the same server or the other, which nobody cancels.
    with psycopg.connect(verified, autocommit=True) as beside:
        rows = []
        sleeper = threading.Thread(target=lambda: rows.extend(beside.execute("SELECT 'whole' FROM pg_sleep(2)")))
        sleeper.start()
        for cancel in conn.cancel_safe, conn.cancel_safe, conn.cancel:
            threading.Timer(0.3, cancel).start()
            try:
                conn.execute("SELECT pg_sleep(30)")
            except psycopg.errors.QueryCanceled:
                print("canceled")
        sleeper.join()
        print(*rows)
    print(*conn.execute("SELECT ssl, current_user FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone())
try:
    psycopg.connect("sslmode=disable")
except psycopg.OperationalError as error:
    print("no encryption" in str(error))
"#;
    let said = python(wiretap.port(), &program.replace("ROOT", &trusted()));
    assert_eq!(said, "canceled\ncanceled\ncanceled\n('whole',)\nTrue postgres\nTrue");
    let overheard = wiretap.overheard();
    let by_tls = overheard.iter().filter(|one| matches!(one, Overheard::Tls { .. })).count();
    assert_eq!(by_tls, 2 + 2, "two sessions, and two cancels of `cancel_safe`: {overheard:?}");
    assert_eq!(overheard.len(), 4 + 2, "one of `cancel`, which has no TLS, and one in plain: {overheard:?}");
}

#[test]
fn asyncpg_asks_for_tls_or_begins_with_it() {
    let endpoint = endpoint().start();
    let program = r#"
import asyncio, asyncpg, ssl

def context():
    made = ssl.create_default_context(cafile="ROOT")
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    return made

async def use(**how):
    conn = await asyncpg.connect(**how)
    assert await conn.fetch("SELECT g FROM generate_series(1, 1000) g") == [(i,) for i in range(1, 1001)]
    async with conn.transaction():
        assert [row["g"] async for row in conn.cursor("SELECT g FROM generate_series(1, 500) g")] == list(range(1, 501))
    assert await conn.fetchval("SELECT $1::bytea", b"\0\1\2" * 100000) == b"\0\1\2" * 100000
    try:
        await conn.fetch("SELECT pg_sleep(30)", timeout=0.3)
    except TimeoutError:
        print("canceled")
    print(await conn.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"))
    await conn.close()

async def main():
    await use(ssl=context())
    at_once = context()
    at_once.set_alpn_protocols(["postgresql"])
    await use(ssl=at_once, direct_tls=True)
    try:
        await asyncpg.connect(ssl=context(), direct_tls=True)
    except (OSError, asyncpg.PostgresError) as error:
        print("names no protocol")
    strange = ssl.create_default_context()
    try:
        await asyncpg.connect(ssl=strange)
    except ssl.SSLCertVerificationError:
        print("not verified")

asyncio.run(main())
"#;
    let said = python(endpoint.reads(), &program.replace("ROOT", &trusted()));
    assert_eq!(said, "canceled\nTrue\ncanceled\nTrue\nnames no protocol\nnot verified");
}

#[test]
fn pg8000_binds_its_login() {
    let endpoint = endpoint().start();
    let program = r#"
import os, pg8000.native, ssl
for version in ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3:
    context = ssl.create_default_context(cafile="ROOT")
    context.minimum_version = context.maximum_version = version
    conn = pg8000.native.Connection(
        "app", password="app secret", host="127.0.0.1", port=int(os.environ["PGPORT"]), database="appdb",
        ssl_context=context)
    assert conn.run("SELECT g FROM generate_series(1, 1000) g") == [[i] for i in range(1, 1001)]
    statement = conn.prepare("SELECT :v::int + 1")
    assert [statement.run(v=i)[0][0] for i in range(10)] == list(range(1, 11))
    try:
        conn.run("SELECT 1/0")
    except pg8000.native.DatabaseError as error:
        print(error.args[0]["C"], conn.auth.mechanism_name, conn._usock.version())
    assert conn.run("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == [[True]]
    conn.close()
"#;
    let said = python(endpoint.reads(), &program.replace("ROOT", &trusted()));
    assert_eq!(said, "22012 SCRAM-SHA-256-PLUS TLSv1.2\n22012 SCRAM-SHA-256-PLUS TLSv1.3");
}

#[test]
fn tokio_postgres_over_rustls_binds_its_login_copies_and_cancels() {
    use futures_util::TryStreamExt as _;

    let endpoint = endpoint().start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tls = OverRustls(Certificates::shared().client());
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(endpoint.reads()).user("postgres").password("postgres").dbname("appdb");
        config.ssl_mode(SslMode::Require).channel_binding(ChannelBinding::Require);
        let (client, connection) = config.connect(tls.clone()).await.unwrap();
        let connection = tokio::spawn(connection);
        let statement = client.prepare("SELECT $1::int + 1").await.unwrap();
        // Pipelined: all are sent before the first is answered.
        let sums = (0..200_i32).map(|index| {
            let (client, statement) = (&client, &statement);
            async move { client.query_one(statement, &[&index]).await.unwrap().get::<_, i32>(0) }
        });
        assert_eq!(futures_util::future::join_all(sums).await, (1..201).collect::<Vec<i32>>());
        let rows = client.copy_out("COPY (SELECT repeat('x', 99) FROM generate_series(1, 50000)) TO STDOUT");
        let copied: Vec<bytes::Bytes> = rows.await.unwrap().try_collect().await.unwrap();
        assert_eq!(copied.iter().map(bytes::Bytes::len).sum::<usize>(), 50_000 * 100);
        let cancel = client.cancel_token();
        let (ended, ()) = tokio::join!(client.batch_execute("SELECT pg_sleep(30)"), async {
            let running = "SELECT count(*) FROM pg_stat_activity \
                           WHERE state = 'active' AND query = 'SELECT pg_sleep(30)'";
            while cluster().replicas[0].psql(running).unwrap() != "1" {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            cancel.cancel_query(tls).await.unwrap();
        });
        assert_eq!(ended.unwrap_err().code(), Some(&tokio_postgres::error::SqlState::QUERY_CANCELED));
        drop(client);
        connection.await.unwrap().unwrap();
    });
}

/// Where Debian's package has it.
const PGJDBC: &str = "/usr/share/java/postgresql.jar";

#[test]
fn pgjdbc_verifies_in_full_prepares_and_cancels() {
    if !has_program("java") || !Path::new(PGJDBC).exists() {
        return driver_skipped(
            "pgjdbc",
            "no Java or no driver here (apt-get install libpostgresql-jdbc-java)",
        );
    }
    let endpoint = endpoint().start();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("Client.java");
    let program = r#"
import java.sql.*;

public class Client {
    public static void main(String[] words) throws Exception {
        String url = "jdbc:postgresql://127.0.0.1:" + words[0] + "/appdb?user=app&password=app%20secret"
            + "&sslmode=verify-full&sslrootcert=" + words[1];
        try (Connection conn = DriverManager.getConnection(url)) {
            try (PreparedStatement statement = conn.prepareStatement("SELECT ?::int + 1")) {
                for (int i = 0; i < 20; i++) {  // Prepared by the driver from the fifth on.
                    statement.setInt(1, i);
                    try (ResultSet rows = statement.executeQuery()) {
                        rows.next();
                        if (rows.getInt(1) != i + 1) throw new Exception("wrong sum");
                    }
                }
            }
            conn.setAutoCommit(false);
            try (Statement statement = conn.createStatement()) {
                statement.setFetchSize(100);
                int count = 0;
                try (ResultSet rows = statement.executeQuery("SELECT generate_series(1, 10000)")) {
                    while (rows.next()) count++;
                }
                System.out.println(count);
            }
            conn.commit();
            try (Statement statement = conn.createStatement()) {
                statement.setQueryTimeout(1);
                statement.executeQuery("SELECT pg_sleep(30)");
            } catch (SQLException error) {
                System.out.println(error.getSQLState());
            }
            conn.rollback();
            try (ResultSet rows = conn.createStatement().executeQuery(
                    "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")) {
                rows.next();
                System.out.println(rows.getBoolean(1));
            }
        }
    }
}
"#;
    std::fs::write(&file, program).unwrap();
    let mut java = Command::new("java");
    java.args(["-cp", PGJDBC]).arg(&file).arg(endpoint.reads().to_string()).arg(trusted());
    assert_eq!(printed(&java.output().unwrap()), "10000\n57014\ntrue");
}

/// The result of a program for node with the drivers of `target/node`, or nothing where they are not.
fn node(driver: &str, port: u16, program: &str) -> Option<String> {
    let modules: PathBuf = root().join("target/node/node_modules");
    if !has_program("node") || !modules.join(driver).exists() {
        driver_skipped(
            "node",
            &format!("no node or no driver here (npm install --prefix target/node {driver})"),
        );
        return None;
    }
    let mut node = Command::new("node");
    node.env("NODE_PATH", modules).env("PORT", port.to_string()).env("ROOT", trusted());
    Some(printed(&node.args(["-e", program]).output().unwrap()))
}

#[test]
fn node_postgres_binds_its_login_however_tls_begins() {
    let endpoint = endpoint().start();
    let program = r"
const { Client } = require('pg');
const ca = require('fs').readFileSync(process.env.ROOT);
async function use(more) {
    const client = new Client({
        host: 'localhost', port: process.env.PORT, user: 'postgres', password: 'postgres', database: 'appdb',
        ssl: { ca, rejectUnauthorized: true }, enableChannelBinding: true, ...more,
    });
    await client.connect();
    for (let i = 0; i < 10; i++) {
        const result = await client.query({ name: 'sum', text: 'SELECT $1::int + 1 AS sum', values: [i] });
        if (result.rows[0].sum !== i + 1) throw new Error('wrong sum');
    }
    const rows = await client.query('SELECT generate_series(1, 10000)');
    const own = await client.query('SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()');
    console.log(rows.rowCount, own.rows[0].ssl, client.saslSession?.mechanism ?? '');
    await client.end();
}
use({}).then(() => use({ sslnegotiation: 'direct' })).catch(error => { console.error(error); process.exit(1); });
";
    if let Some(said) = node("pg", endpoint.reads(), program) {
        assert_eq!(said.lines().filter(|line| line.starts_with("10000 true")).count(), 2, "{said}");
    }
}

#[test]
fn postgres_js_verifies_in_full_however_tls_begins() {
    let endpoint = endpoint().start();
    let program = r"
const postgres = require('postgres');
const ca = require('fs').readFileSync(process.env.ROOT);
async function use(more) {
    const sql = postgres({
        host: 'localhost', port: process.env.PORT, user: 'postgres', password: 'postgres', database: 'appdb', max: 3,
        ssl: { ca, rejectUnauthorized: true }, ...more,
    });
    const sums = await Promise.all([...Array(50).keys()].map(i => sql`SELECT ${i}::int + 1 AS sum`));
    if (sums.some(([row], i) => row.sum !== i + 1)) throw new Error('wrong sum');
    let rows = 0;
    await sql`SELECT generate_series(1, 10000)`.cursor(100, part => { rows += part.length; });
    const sleep = sql`SELECT pg_sleep(30)`;
    setTimeout(() => sleep.cancel(), 300);
    const code = await sleep.catch(error => error.code);
    const [own] = await sql`SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()`;
    console.log(rows, code, own.ssl);
    await sql.end();
}
use({}).then(() => use({ sslnegotiation: 'direct' })).catch(error => { console.error(error); process.exit(1); });
";
    if let Some(said) = node("postgres", endpoint.reads(), program) {
        assert_eq!(said, "10000 57014 true\n10000 57014 true");
    }
}
