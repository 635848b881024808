//! What changes under the session's feet.

use super::Action;
use crate::generator::Draft;
use crate::script::Step;

pub(super) const ACTIONS: &[Action] = &[
    Action { weight: 5, write: tables },
    Action { weight: 3, write: functions },
    Action { weight: 2, write: defaults },
    Action { weight: 1, write: grants },
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

fn functions(draft: &mut Draft) {
    let sql = draft.random.one(&[
        "DROP FUNCTION fx(); CREATE FUNCTION fx() RETURNS text LANGUAGE sql AS $$ SELECT 'text' $$",
        "CREATE OR REPLACE FUNCTION fx() RETURNS int LANGUAGE sql AS $$ SELECT 43 $$",
        "DROP FUNCTION rows_of(); CREATE FUNCTION rows_of() RETURNS TABLE (t text) LANGUAGE sql AS $$ SELECT 'one' $$",
        "DROP VIEW summary; CREATE VIEW summary AS SELECT 1 AS one, 2 AS n; GRANT ALL ON summary TO PUBLIC",
        "DROP VIEW summary; CREATE VIEW summary AS SELECT sum(price)::float8 AS total FROM items; GRANT ALL ON summary TO PUBLIC",
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
