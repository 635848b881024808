// node-postgres and its pool: named statements, transactions, notifications.
const { Client, Pool } = require('pg');

const CLIENTS = 8;

async function named(client, number) {
    const sums = [];
    for (let i = 0; i < 12; i++) {
        const result = await client.query({ name: 'sum', text: 'SELECT $1::int + $2::int AS sum', values: [i, number] });
        sums.push(result.rows[0].sum);
    }
    const unnamed = await client.query('SELECT $1::text || $2 AS both', ['a', String(number)]);
    // A name that stands for two texts is the driver's own error.
    const twice = await client.query({ name: 'sum', text: 'SELECT 1', values: [] }).catch(error => error.message);
    return [sums, unnamed.rows, unnamed.fields.map(field => field.dataTypeID), twice];
}

async function transactions(client, number) {
    const seen = [];
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
    await client.query('INSERT INTO rows VALUES ($1, 1)', [number]);
    await client.query('SAVEPOINT s');
    await client.query('INSERT INTO rows VALUES ($1, 2) RETURNING *', [number]);
    seen.push(await client.query('SELECT 1/0').catch(error => error.code));
    seen.push(await client.query('SELECT 1').catch(error => error.code));
    await client.query('ROLLBACK TO s');
    seen.push((await client.query('SHOW transaction_isolation')).rows);
    await client.query('COMMIT');
    seen.push((await client.query('SELECT n FROM rows WHERE client = $1 ORDER BY 1', [number])).rows);
    const several = await client.query('SELECT 1 AS a; SELECT 2 AS b; SHOW transaction_isolation');
    seen.push(several.map(result => [result.command, result.rows]));
    return seen;
}

async function settings(client, number) {
    await client.query(`SET application_name = 'client ${number}'`);
    await client.query(`SET DateStyle = 'SQL, ${number % 2 ? 'DMY' : 'MDY'}'`);
    await client.query("BEGIN; SET LOCAL statement_timeout = '100ms'");
    const timeout = await client.query('SELECT pg_sleep(60)').catch(error => error.code);
    await client.query('ROLLBACK');
    const seen = [];
    for (let i = 0; i < 4; i++) {
        const own = await client.query("SELECT current_setting('application_name') AS name, '2001-02-03'::date::text AS day, current_setting('statement_timeout') AS timeout");
        seen.push(own.rows[0]);
    }
    return [timeout, seen];
}

async function errors(client) {
    const seen = [];
    for (const sql of ['oops', 'SELECT * FROM missing', "SELECT 'x'::int", 'INSERT INTO unique_rows VALUES (1)']) {
        seen.push(await client.query(sql).catch(error => [error.code, error.message, error.position, error.constraint]));
    }
    seen.push(await client.query('SELECT $1::int', ['x']).catch(error => [error.code, error.message]));
    return seen;
}

async function onItsOwn() {
    const client = new Client();
    await client.connect();
    const heard = new Promise(resolve => client.on('notification', note => resolve([note.channel, note.payload, note.processId === client.processID])));
    const notices = [];
    client.on('notice', notice => notices.push(notice.message));
    await client.query('LISTEN heard');
    await client.query("NOTIFY heard, 'this'");
    const note = await heard;
    await client.query('UNLISTEN heard');
    await client.query('CREATE TEMP TABLE own AS SELECT 7 AS i');
    const own = await client.query('SELECT i FROM own');
    await client.query('DROP TABLE own');
    await client.query('DROP TABLE IF EXISTS never_there');
    await client.end();
    return [note, own.rows, notices];
}

async function main() {
    // A client whose DateStyle has changed beside its named statements keeps its server connection until it ends.
    const pool = new Pool({ max: CLIENTS, idleTimeoutMillis: 500 });
    await pool.query('CREATE TABLE rows (client int, n int)');
    await pool.query('CREATE TABLE unique_rows (i int CONSTRAINT only_once UNIQUE)');
    await pool.query('INSERT INTO unique_rows VALUES (1)');
    const clients = await Promise.all([...Array(CLIENTS)].map(() => pool.connect()));
    const results = await Promise.all(clients.map(async (client, number) => {
        const seen = [];
        for (const part of [named, transactions, settings, errors]) {
            seen.push([part.name, await part(client, number)]);
        }
        client.release();
        return seen;
    }));
    results.forEach((seen, number) => seen.forEach(part => console.log(number, JSON.stringify(part))));
    const many = await Promise.all([...Array(100).keys()].map(i => pool.query({ name: 'one', text: 'SELECT $1::int AS i', values: [i] })));
    console.log(JSON.stringify(many.map(result => result.rows[0].i)));
    console.log(JSON.stringify(await onItsOwn()));
    await pool.end();
    console.log('done');
}

main().catch(error => { console.error(error); process.exit(1); });
