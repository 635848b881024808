//! What changes under the session's feet.

use super::statements::run;
use super::{Action, STATEMENTS};
use crate::generator::Draft;
use crate::script::{Step, Target};

pub(super) const ACTIONS: &[Action] = &[
    Action { weight: 5, write: tables },
    Action { weight: 3, write: functions },
    Action { weight: 2, write: defaults },
    Action { weight: 1, write: grants },
    Action { weight: 5, write: statement_over_a_migration },
];

/// A replica replays none of these beside a transaction that holds the table.
fn between_transactions(draft: &mut Draft, sql: &str) {
    draft.push(Step::Query("ROLLBACK".to_owned()));
    draft.push(Step::Ddl(sql.to_owned()));
}

fn tables(draft: &mut Draft) {
    let sql = draft.random.one(&[
        "ALTER TABLE items ADD note text DEFAULT 'x'",
        "ALTER TABLE items DROP price",
        "ALTER TABLE items ADD d2 text; UPDATE items SET d2 = name; ALTER TABLE items DROP name; ALTER TABLE items RENAME d2 TO name",
        "ALTER TABLE items ALTER price TYPE float8",
        "ALTER TABLE items ALTER name TYPE varchar(20)",
        "ALTER TABLE items ALTER id TYPE bigint",
        "ALTER TABLE items RENAME name TO title",
        "ALTER TABLE one.orders ADD n int DEFAULT 1",
        "ALTER TABLE two.orders ALTER v TYPE varchar",
        "DROP TABLE two.orders",
        "DROP TABLE one.orders; CREATE TABLE one.orders (v int); INSERT INTO one.orders VALUES (1); GRANT ALL ON one.orders TO PUBLIC",
        "CREATE TABLE one.items (other int); GRANT ALL ON one.items TO PUBLIC",
        "CREATE TABLE public.orders (v text); INSERT INTO orders VALUES ('public'); GRANT ALL ON orders TO PUBLIC",
        "ALTER TYPE mood ADD VALUE 'glad'",
        "ALTER TYPE mood RENAME VALUE 'calm' TO 'quiet'",
        "UPDATE items SET name = 'changed' WHERE id = 2",
    ]);
    between_transactions(draft, sql);
}

/// Statements with what changes their shape.
const MIGRATIONS: &[(&str, &[&str], &str)] = &[
    ("SELECT * FROM items ORDER BY id", &[], "ALTER TABLE items ADD note text DEFAULT 'x'"),
    ("SELECT * FROM items ORDER BY id", &[], "ALTER TABLE items DROP price"),
    ("SELECT price FROM items ORDER BY id", &[], "ALTER TABLE items ALTER price TYPE float8"),
    ("SELECT id, price FROM items ORDER BY id", &[], "ALTER TABLE items DROP price"),
    ("SELECT name FROM items WHERE id = $1", &["2"], "ALTER TABLE items ALTER id TYPE bigint"),
    ("SELECT name FROM items WHERE price > $1", &["2"], "ALTER TABLE items ALTER price TYPE float8"),
    (
        "SELECT fx() + 1",
        &[],
        "DROP FUNCTION fx(); CREATE FUNCTION fx() RETURNS bigint LANGUAGE sql AS $$ SELECT 5::bigint $$",
    ),
    (
        "SELECT * FROM rows_of()",
        &[],
        "DROP FUNCTION rows_of(); CREATE FUNCTION rows_of() RETURNS TABLE (t text) LANGUAGE sql AS $$ SELECT 'one' $$",
    ),
    (
        "SELECT * FROM summary",
        &[],
        "DROP VIEW summary; CREATE VIEW summary AS SELECT total, n FROM sums; GRANT ALL ON summary TO PUBLIC",
    ),
    (
        "SELECT v FROM one.orders",
        &[],
        "DROP TABLE one.orders; CREATE TABLE one.orders (v int); GRANT ALL ON one.orders TO PUBLIC",
    ),
    (
        "SELECT plain($1)",
        &["4"],
        "DROP FUNCTION plain(int); CREATE FUNCTION plain(t text) RETURNS text LANGUAGE sql AS $$ SELECT t || '!' $$",
    ),
    (
        "SELECT feeling FROM items WHERE feeling = $1",
        &["calm"],
        "ALTER TYPE mood RENAME VALUE 'calm' TO 'quiet'",
    ),
    ("TABLE two.orders", &[], "DROP TABLE two.orders"),
    ("SELECT name FROM items ORDER BY id", &[], "ALTER TABLE items ALTER name TYPE varchar(20)"),
    ("SELECT name FROM items ORDER BY id", &[], "ALTER TABLE items RENAME name TO title"),
    (
        "TABLE items",
        &[],
        "ALTER TABLE items ADD d2 text; UPDATE items SET d2 = name; ALTER TABLE items DROP name; ALTER TABLE items RENAME d2 TO name",
    ),
    ("SELECT i + 1 FROM (SELECT 1 AS i) s", &[], "CREATE TABLE one.items (other int)"),
];

/// A statement prepared before a migration, and used after a move.
fn statement_over_a_migration(draft: &mut Draft) {
    let (sql, arguments, change) = draft.random.pick(MIGRATIONS);
    let name = draft.random.pick(STATEMENTS);
    draft.push(Step::Close(Target::Statement, name.to_owned()));
    draft.arguments.insert(name, arguments.to_vec());
    draft.push(Step::Parse { name: name.to_owned(), types: Vec::new(), sql: sql.to_owned() });
    if draft.random.chance(50) {
        draft.push(Step::Describe(Target::Statement, name.to_owned()));
    }
    if draft.random.chance(60) {
        run(draft, "", name);
    }
    draft.sync();
    between_transactions(draft, change);
    draft.make_move();
    if draft.random.chance(30) {
        draft.push(Step::Describe(Target::Statement, name.to_owned()));
        draft.sync();
    }
    for _ in 0..draft.random.below(3) {
        run(draft, "", name);
        draft.sync();
    }
}

fn functions(draft: &mut Draft) {
    let sql = draft.random.one(&[
        "DROP FUNCTION fx(); CREATE FUNCTION fx() RETURNS text LANGUAGE sql AS $$ SELECT 'text' $$",
        "CREATE OR REPLACE FUNCTION fx() RETURNS int LANGUAGE sql AS $$ SELECT 43 $$",
        "DROP FUNCTION rows_of(); CREATE FUNCTION rows_of() RETURNS TABLE (t text) LANGUAGE sql AS $$ SELECT 'one' $$",
        "DROP VIEW summary; CREATE VIEW summary AS SELECT 1 AS one, 2 AS n; GRANT ALL ON summary TO PUBLIC",
        "DROP VIEW summary; CREATE VIEW summary AS SELECT total::float8 FROM sums; GRANT ALL ON summary TO PUBLIC",
        "CREATE OR REPLACE VIEW entered AS SELECT set_tenant('c') AS tenant",
        "CREATE OR REPLACE FUNCTION plain(i int) RETURNS int LANGUAGE sql AS $$ SELECT i + length(set_config('app.tenant', 'b', false)) $$",
        "CREATE OR REPLACE FUNCTION set_tenant(t text) RETURNS text LANGUAGE sql AS $$ SELECT set_config('app.x', t, false) $$",
        "ALTER FUNCTION fx() SET work_mem = '25MB'",
        "DROP POLICY own ON tenants; CREATE POLICY own ON tenants USING (tenant = current_setting('app.x', true))",
    ]);
    between_transactions(draft, sql);
}

fn defaults(draft: &mut Draft) {
    let target = draft.random.one(&[
        "ROLE {app}",
        "ROLE {app}",
        "DATABASE {db}",
        "ROLE {app} IN DATABASE {db}",
        "ROLE {super}",
    ]);
    let what = draft.random.one(&[
        "SET search_path = one",
        "SET DateStyle = 'SQL, DMY'",
        "SET TimeZone = 'Asia/Tokyo'",
        "SET statement_timeout = '41s'",
        "SET work_mem = '24MB'",
        "SET app.tenant = 'b'",
        "SET client_min_messages = 'error'",
        "SET default_transaction_isolation = 'repeatable read'",
        "SET extra_float_digits = 0",
        "SET role = '{member}'",
        "SET client_encoding = 'LATIN1'",
        "SET log_min_duration_statement = '1h'",
        "RESET ALL",
    ]);
    draft.push(Step::Ddl(format!("ALTER {target} {what}")));
}

fn grants(draft: &mut Draft) {
    let sql = draft.random.one(&[
        "REVOKE ALL ON items FROM PUBLIC",
        "GRANT SELECT ON items TO {member}",
        "REVOKE ALL ON tenants FROM PUBLIC",
        "ALTER ROLE {app} PASSWORD 'another'",
    ]);
    between_transactions(draft, sql);
}
