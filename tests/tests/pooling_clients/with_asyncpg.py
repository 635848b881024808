"""asyncpg's pool, with its cache of statements and without it: more connections than the server has."""

import asyncio
import json

import asyncpg

CLIENTS = 8


async def statements(conn, client):
    kept = await conn.prepare("SELECT $1::int + $2::int AS sum")
    sums = [await kept.fetchval(i, client) for i in range(10)]
    sums += [await conn.fetchval("SELECT $1::text || $2::text", "a", str(i)) for i in range(10)]
    return [sums, [a.name for a in kept.get_attributes()], [t.name for t in kept.get_parameters()]]


async def types(conn, client):
    """Read from the catalogue by the driver, in statements of its own."""
    await conn.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    row = await conn.fetchrow(
        "SELECT $1::mood AS mood, $2::pair AS pair, $3::mood[] AS moods, $4::jsonb AS doc, $5::int4range AS span",
        "ok", (client, "x"), ["sad", "ok"], {"client": client}, asyncpg.Range(1, 5))
    return [row["mood"], tuple(row["pair"]), row["moods"], row["doc"], str(row["span"])]


async def transactions(conn, client):
    seen = []
    async with conn.transaction():
        await conn.execute("INSERT INTO rows VALUES ($1, 1)", client)
        try:
            async with conn.transaction():
                await conn.execute("INSERT INTO rows VALUES ($1, 2)", client)
                await conn.execute("SELECT 1/0")
        except asyncpg.DivisionByZeroError as error:
            seen.append(error.sqlstate)
        seen.append([row["g"] async for row in conn.cursor("SELECT g FROM generate_series(1, 120) g", prefetch=25)][-1])
    async with conn.transaction(isolation="serializable", readonly=True, deferrable=True):
        seen.append(await conn.fetchval("SHOW transaction_isolation"))
        try:
            await conn.execute("INSERT INTO rows VALUES ($1, 3)", client)
        except asyncpg.ReadOnlySQLTransactionError as error:
            seen.append(error.sqlstate)
            raise_after = True
        assert raise_after
    return seen


async def read_only(conn, client):
    try:
        return await transactions(conn, client)
    except asyncpg.PostgresError as error:
        return [error.sqlstate, conn.is_in_transaction()]


async def copies(conn, client):
    await conn.copy_records_to_table("rows", records=[(client, n) for n in range(100, 200)])
    await conn.executemany("INSERT INTO rows VALUES ($1, $2)", [(client, n) for n in range(200, 210)])
    got = bytearray()

    async def take(data):
        got.extend(data)

    said = await conn.copy_from_query("SELECT n FROM rows WHERE client = $1 AND n >= 100", client, output=take)
    return [said, got.count(b"\n"), await conn.fetchval("SELECT count(*) FROM rows WHERE client = $1", client)]


async def settings(conn, client):
    zone = f"Etc/GMT+{client + 1}"
    await conn.execute(f"SET timezone = '{zone}'")
    await conn.execute(f"SELECT set_config('app.tenant', '{client}', false)")
    seen = {tuple(await conn.fetchrow("SELECT current_setting('timezone'), current_setting('app.tenant')")) for _ in range(5)}
    return [seen == {(zone, str(client))}, conn.get_settings().TimeZone == zone]


async def errors(conn, client):
    seen = []
    for sql in ["oops", "SELECT * FROM missing", "INSERT INTO unique_rows VALUES (1)", "SELECT 'x'::int"]:
        try:
            await conn.fetch(sql)
        except asyncpg.PostgresError as error:
            seen.append((error.sqlstate, str(error)))
    seen.append(await conn.fetchval("SELECT 1"))
    return seen


async def timeouts(conn):
    """The driver cancels what takes too long, and waits for the end of it."""
    seen = []
    try:
        await conn.fetch("SELECT pg_sleep(60)", timeout=0.5)
    except TimeoutError:
        seen.append("canceled")
    try:
        async with conn.transaction():
            await conn.execute("INSERT INTO rows VALUES (-1, 0)")
            await asyncio.wait_for(conn.fetch("SELECT pg_sleep(60)"), 0.5)
    except TimeoutError:
        seen.append(conn.is_in_transaction())
    return seen + [await conn.fetchval("SELECT count(*) FROM rows WHERE client < 0")]


async def on_its_own(pool):
    """What keeps a server connection is only one client's at a time here."""
    heard = asyncio.Queue()
    async with pool.acquire() as conn:
        # Both may keep the connection for longer: the driver sets `jit` beside what it asks, and caches statements.
        seen = [await timeouts(conn), await types(conn, 1), await settings(conn, 1)]
        await conn.execute("CREATE TEMP TABLE own (i int)")
        await conn.copy_records_to_table("own", records=[(1,), (2,)])
        own = await conn.fetchval("SELECT sum(i) FROM own")
        await conn.execute("DROP TABLE own")
        listener = lambda *heard_of: heard.put_nowait((heard_of[2], heard_of[3], heard_of[1] == conn.get_server_pid()))
        await conn.add_listener("heard", listener)
        await conn.execute("SELECT pg_notify('heard', 'this')")
        note = await asyncio.wait_for(heard.get(), 20)
        await conn.remove_listener("heard", listener)
        statement = "SELECT * FROM altered"
        shape = [len(await conn.fetchrow(statement))]
        await conn.execute("ALTER TABLE altered ADD COLUMN IF NOT EXISTS b int DEFAULT 2")
        shape.append(len(await conn.fetchrow(statement)))
        await conn.execute("ALTER TABLE altered DROP COLUMN b")
    return [seen, own, note, shape]


async def main():
    conn = await asyncpg.connect()
    await conn.execute("""
        CREATE TABLE rows (client int, n int);
        CREATE TABLE unique_rows (i int CONSTRAINT only_once UNIQUE);
        INSERT INTO unique_rows VALUES (1);
        CREATE TABLE altered (a int);
        INSERT INTO altered VALUES (1);
        CREATE TYPE mood AS ENUM ('sad', 'ok');
        CREATE TYPE pair AS (i int, t text);
    """)
    for size in [100, 0]:
        pool = await asyncpg.create_pool(min_size=CLIENTS, max_size=CLIENTS, statement_cache_size=size)
        async with pool:
            all_there = asyncio.Barrier(CLIENTS)

            async def work(client):
                results = []
                async with pool.acquire() as conn:
                    await asyncio.wait_for(all_there.wait(), 60)
                    for part in [statements, read_only, copies, errors]:
                        results.append((part.__name__, await part(conn, client)))
                return results

            for client, results in enumerate(await asyncio.gather(*map(work, range(CLIENTS)))):
                for name, result in results:
                    print(size, client, name, result)
            print(await on_its_own(pool))
        await conn.execute("TRUNCATE rows")
    await conn.close()
    print("done")


asyncio.run(asyncio.wait_for(main(), 120))
