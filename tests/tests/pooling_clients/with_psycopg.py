"""psycopg's ConnectionPool: more connections than the server has, all of them used at once."""

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
from psycopg_pool import ConnectionPool

CLIENTS = 8


def prepared(conn, client):
    """Prepared by the driver from its threshold on, and found under the driver's names."""
    for i in range(12):
        assert conn.execute("SELECT %s::int + %s", (i, client)).fetchone() == (i + client,)
        conn.commit()
    names = conn.execute("SELECT name FROM pg_prepared_statements ORDER BY 1").fetchall()
    conn.commit()
    return [name for (name,) in names]


def transactions(conn, client):
    """Savepoints, an error inside, isolation levels, and what is left of all that."""
    with conn.transaction():
        conn.execute("INSERT INTO rows VALUES (%s, 1)", (client,))
        try:
            with conn.transaction():
                conn.execute("INSERT INTO rows VALUES (%s, 2)", (client,))
                conn.execute("SELECT 1/0")
        except psycopg.errors.DivisionByZero:
            conn.execute("INSERT INTO rows VALUES (%s, 3)", (client,))
    conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    conn.read_only = True
    level = conn.execute("SHOW transaction_isolation").fetchone()[0]
    try:
        conn.execute("INSERT INTO rows VALUES (%s, 4)", (client,))
    except psycopg.errors.ReadOnlySqlTransaction as error:
        level += " " + error.sqlstate
    conn.rollback()
    conn.isolation_level = conn.read_only = None
    rows = conn.execute("SELECT n FROM rows WHERE client = %s ORDER BY n", (client,)).fetchall()
    conn.commit()
    return [level, conn.execute("SHOW transaction_isolation").fetchone()[0], rows]


def settings(conn, client):
    """Each client's own, as it last told them; what is rolled back never was."""
    zone = f"Etc/GMT+{client + 1}"
    conn.execute(f"SET timezone = '{zone}'")
    conn.commit()
    conn.execute("SET timezone = 'Asia/Tokyo'")
    conn.rollback()
    conn.execute("SET LOCAL work_mem = '7MB'")
    conn.commit()
    seen = {conn.execute("SHOW timezone").fetchone()[0] for _ in range(5) if not conn.commit()}
    memory = conn.execute("SHOW work_mem").fetchone()[0]
    conn.commit()
    return [seen == {zone}, conn.info.parameter_status("TimeZone") == zone, memory != "7MB"]


def cursors(conn, client):
    """On the server, inside a transaction and after it."""
    with conn.cursor(name=f"c{client}") as cur:
        cur.itersize = 50
        cur.execute("SELECT generate_series(1, 500)")
        inside = sum(row[0] for row in cur)
    conn.commit()
    with conn.cursor(name="held", withhold=True) as cur:
        cur.execute("SELECT generate_series(1, 500)")
        conn.commit()
        after = sum(row[0] for row in cur.fetchmany(100))
        conn.commit()
        after += sum(row[0] for row in cur.fetchall())
    conn.commit()
    return [inside, after]


def pipelines(conn, client):
    """All sent before the first is answered; an error ends its own part alone."""
    conn.autocommit = True
    with conn.pipeline():
        many = [conn.execute("SELECT %s::int", (i + client,)) for i in range(100)]
    sums = [sum(cur.fetchone()[0] for cur in many)]
    try:
        with conn.pipeline() as pipe:
            conn.execute("INSERT INTO rows VALUES (%s, 5)", (client,))
            pipe.sync()
            conn.execute("SELECT 1/0")
            conn.execute("INSERT INTO rows VALUES (%s, 6)", (client,))
    except psycopg.errors.DivisionByZero:
        sums.append("22012")
    sums.append(conn.execute("SELECT n FROM rows WHERE client = %s AND n > 4", (client,)).fetchall())
    conn.autocommit = False
    return sums


def copies(conn, client):
    with conn.cursor() as cur:
        with cur.copy("COPY rows FROM STDIN") as copy:
            for n in range(100, 200):
                copy.write_row((client, n))
        cur.executemany("INSERT INTO rows VALUES (%s, %s)", [(client, n) for n in range(200, 210)])
        with cur.copy("COPY (SELECT n FROM rows WHERE client = %s AND n >= 100) TO STDOUT", (client,)) as copy:
            count = sum(1 for _ in copy.rows())
    conn.commit()
    return count


def errors(conn, client):
    seen = []
    for sql in ["oops", "SELECT * FROM missing", "INSERT INTO unique_rows VALUES (1)", "SELECT 'x'::int", "COMMIT PREPARED 'x'"]:
        try:
            conn.execute(sql)
        except psycopg.Error as error:
            seen.append((error.sqlstate, error.diag.message_primary, error.diag.constraint_name))
        conn.rollback()
    return seen


def canceled(conn):
    """Asked again until it works: a request that comes before its query is lost, also on a direct connection."""
    ended = threading.Event()

    def cancel():
        while not ended.wait(0.3):
            conn.cancel_safe()

    asking = threading.Thread(target=cancel)
    asking.start()
    try:
        conn.execute("SELECT pg_sleep(60)")
    except psycopg.errors.QueryCanceled as error:
        return error.sqlstate
    finally:
        ended.set()
        asking.join()
        conn.rollback()


def on_its_own(conn):
    """What keeps a server connection is only one client's at a time here."""
    stopped = canceled(conn)
    conn.autocommit = True
    conn.execute("CREATE TEMP TABLE own (i int)")
    conn.execute("INSERT INTO own VALUES (1), (2)")
    own = conn.execute("SELECT sum(i) FROM own").fetchone()[0]
    conn.execute("DROP TABLE own")
    conn.execute("LISTEN heard")
    conn.execute("NOTIFY heard, 'this'")
    heard = [note.payload for note in conn.notifies(timeout=5, stop_after=1)]
    conn.execute("UNLISTEN heard")
    conn.execute("SELECT pg_advisory_lock(7)")
    locked = conn.execute("SELECT pg_advisory_unlock(7)").fetchone()[0]
    said = []
    conn.add_notice_handler(lambda notice: said.append(notice.message_primary))
    conn.execute("DROP TABLE IF EXISTS never_there")
    conn.autocommit = False
    return [stopped, own, heard, locked, said]


with psycopg.connect("", autocommit=True) as conn:
    conn.execute("CREATE TABLE rows (client int, n int)")
    conn.execute("CREATE TABLE unique_rows (i int CONSTRAINT only_once UNIQUE)")
    conn.execute("INSERT INTO unique_rows VALUES (1)")

for threshold in [5, 1, None]:
    def configure(conn, threshold=threshold):
        conn.prepare_threshold = threshold

    with ConnectionPool("", min_size=CLIENTS, max_size=CLIENTS, configure=configure, check=ConnectionPool.check_connection) as pool:
        pool.wait(60)
        all_there = threading.Barrier(CLIENTS)

        def work(client):
            results = []
            with pool.connection() as conn:
                all_there.wait(60)
                for part in [prepared, transactions, settings, cursors, pipelines, copies, errors]:
                    results.append((part.__name__, part(conn, client)))
            return results

        with ThreadPoolExecutor(CLIENTS) as executor:
            for client, results in enumerate(executor.map(work, range(CLIENTS))):
                for name, result in results:
                    print(threshold, client, name, result)
        with pool.connection() as conn:
            print(on_its_own(conn))
            conn.execute("TRUNCATE rows")
print("done")
