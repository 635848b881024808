//! What all scenarios find in schema `torture`: ways to reach `set_config` that no statement names.

use super::one_port;
use crate::run::OTHER_ROLE;

/// SQL that makes schema `torture` anew, one transaction each.
#[must_use]
pub fn fixture() -> Vec<String> {
    let mut all = vec![
        "DROP SCHEMA IF EXISTS torture CASCADE".to_owned(),
        "CREATE SCHEMA torture; GRANT USAGE ON SCHEMA torture TO PUBLIC".to_owned(),
    ];
    all.extend(
        FUNCTIONS
            .iter()
            .chain(DOORS)
            .chain(UTILITIES)
            .chain(HUNTED)
            .chain(one_port::FIXTURE)
            .map(|&sql| sql.to_owned()),
    );
    all.push(format!(
        "DO $$ BEGIN IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{OTHER_ROLE}') THEN \
         EXECUTE 'GRANT ALL ON ALL TABLES IN SCHEMA torture TO {OTHER_ROLE}'; END IF; END $$"
    ));
    all
}

const FUNCTIONS: &[&str] = &[
    "CREATE FUNCTION torture.set_it(n text, v text) RETURNS text LANGUAGE plpgsql AS \
     $$ BEGIN RETURN set_config(n, v, false); END $$",
    "CREATE FUNCTION torture.set_sql(n text, v text) RETURNS text LANGUAGE sql AS $$ SELECT set_config(n, v, false) $$",
    "CREATE FUNCTION torture.set_dynamic(n text, v text) RETURNS void LANGUAGE plpgsql AS \
     $$ BEGIN EXECUTE 'SE' || 'T ' || n || ' = ' || quote_literal(v); END $$",
    "CREATE FUNCTION torture.set_deep(n text, v text) RETURNS text LANGUAGE sql AS $$ SELECT torture.set_it(n, v) $$",
    "CREATE FUNCTION torture.set_immutable(n text, v text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS \
     $$ BEGIN RETURN set_config(n, v, false); END $$",
    "CREATE FUNCTION torture.set_procedure_named(procedure text) RETURNS void LANGUAGE plpgsql AS \
     $$ BEGIN EXECUTE procedure; END $$",
    "CREATE FUNCTION torture.set_rows(n text, v text) RETURNS TABLE (x text) LANGUAGE plpgsql AS \
     $$ BEGIN RETURN QUERY SELECT set_config(n, v, false) FROM generate_series(1, 2); END $$",
    "CREATE FUNCTION torture.set_caught(n text, v text) RETURNS text LANGUAGE plpgsql AS \
     $$ BEGIN PERFORM set_config(n, v, false); BEGIN PERFORM 1 / 0; EXCEPTION WHEN OTHERS THEN NULL; END; RETURN v; END $$",
    "CREATE PROCEDURE torture.set_procedure(n text, v text) LANGUAGE plpgsql AS \
     $$ BEGIN PERFORM set_config(n, v, false); COMMIT; END $$",
    "CREATE FUNCTION torture.set_step(state text, n text, v text) RETURNS text LANGUAGE sql AS \
     $$ SELECT set_config(n, v, false) $$",
    "CREATE AGGREGATE torture.set_all(text, text) (SFUNC = torture.set_step, STYPE = text)",
    "CREATE OPERATOR torture.<~ (LEFTARG = text, RIGHTARG = text, FUNCTION = torture.set_it)",
    "CREATE TYPE torture.setting AS (n text, v text)",
    "CREATE FUNCTION torture.set_cast(torture.setting) RETURNS text LANGUAGE sql AS \
     $$ SELECT set_config($1.n, $1.v, false) $$",
    "CREATE CAST (torture.setting AS text) WITH FUNCTION torture.set_cast",
    "CREATE DOMAIN torture.doorway AS text CHECK \
     (torture.set_it(split_part(VALUE, '=', 1), split_part(VALUE, '=', 2)) IS NOT NULL)",
    "CREATE FUNCTION torture.lock_it(k bigint) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_lock(k); END $$",
    "CREATE FUNCTION torture.make_temporary() RETURNS void LANGUAGE plpgsql AS \
     $$ BEGIN CREATE TEMP TABLE hidden_temp AS SELECT 'hidden' AS x; END $$",
    "CREATE FUNCTION torture.listen_it() RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'LISTEN torture_hidden'; END $$",
];

const DOORS: &[&str] = &[
    "CREATE TABLE torture.doors (n text, v text)",
    "CREATE FUNCTION torture.set_trigger() RETURNS trigger LANGUAGE plpgsql AS \
     $$ BEGIN PERFORM set_config(NEW.n, NEW.v, false); RETURN NEW; END $$",
    "CREATE TRIGGER setting BEFORE INSERT ON torture.doors FOR EACH ROW EXECUTE FUNCTION torture.set_trigger()",
    "CREATE TABLE torture.late_doors (n text, v text)",
    "CREATE CONSTRAINT TRIGGER setting AFTER INSERT ON torture.late_doors DEFERRABLE INITIALLY DEFERRED \
     FOR EACH ROW EXECUTE FUNCTION torture.set_trigger()",
    "CREATE TABLE torture.ruled (n text, v text)",
    "CREATE RULE setting AS ON INSERT TO torture.ruled DO ALSO SELECT set_config(NEW.n, NEW.v, false)",
    "CREATE TABLE torture.checked (n text, v text, CHECK (torture.set_it(n, v) IS NOT NULL))",
    "CREATE TABLE torture.indexed (n text, v text); \
     CREATE INDEX ON torture.indexed (torture.set_immutable(n, v))",
    "CREATE TABLE torture.generated (n text, v text, g text GENERATED ALWAYS AS (torture.set_immutable(n, v)) STORED)",
    "CREATE TABLE torture.guarded (n text, v text)",
    "ALTER TABLE torture.guarded ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY setting ON torture.guarded USING (torture.set_it(n, v) IS NOT NULL)",
    "CREATE TABLE torture.things (n text, v text)",
    "CREATE VIEW torture.viewed AS SELECT n, v, torture.set_it(n, v) AS s FROM torture.things",
];

/// What utility statements run.
const UTILITIES: &[&str] = &[
    "CREATE FUNCTION torture.set_emptied() RETURNS trigger LANGUAGE plpgsql AS \
     $$ BEGIN PERFORM set_config('torture.tenant', 'mine', false); RETURN NULL; END $$",
    "CREATE TABLE torture.emptied (x int)",
    "CREATE TRIGGER setting BEFORE TRUNCATE ON torture.emptied EXECUTE FUNCTION torture.set_emptied()",
    "CREATE TABLE torture.emptied_parent (x int); CREATE TABLE torture.emptied_child () INHERITS (torture.emptied_parent)",
    "CREATE TRIGGER setting BEFORE TRUNCATE ON torture.emptied_child EXECUTE FUNCTION torture.set_emptied()",
    "CREATE TABLE torture.emptied_owner (x int PRIMARY KEY); \
     CREATE TABLE torture.emptied_owned (x int REFERENCES torture.emptied_owner)",
    "CREATE TRIGGER setting BEFORE TRUNCATE ON torture.emptied_owned EXECUTE FUNCTION torture.set_emptied()",
    "CREATE FUNCTION torture.lock_number(k bigint) RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS \
     $$ BEGIN PERFORM pg_advisory_lock(k); RETURN k; END $$",
    "CREATE MATERIALIZED VIEW torture.locked_view AS SELECT torture.lock_number(4712) AS x WITH NO DATA",
    "CREATE TABLE torture.locking_index (x bigint); CREATE INDEX ON torture.locking_index (torture.lock_number(x))",
    "INSERT INTO torture.locking_index VALUES (4712); SELECT pg_advisory_unlock_all()",
    "CREATE TABLE torture.numbers AS SELECT 4712::bigint AS x",
    "CREATE MATERIALIZED VIEW torture.counted AS SELECT count(*) AS n FROM torture.numbers; \
     CREATE UNIQUE INDEX ON torture.counted (n)",
    "CREATE PROCEDURE torture.set_tenant_and_commit() LANGUAGE plpgsql AS \
     $$ BEGIN PERFORM set_config('torture.tenant', 'mine', false); COMMIT; PERFORM 1; END $$",
    "CREATE PROCEDURE torture.call_tenant() LANGUAGE plpgsql AS $$ BEGIN CALL torture.set_tenant_and_commit(); END $$",
    "CREATE PROCEDURE torture.set_tenant_and_fail() LANGUAGE plpgsql AS \
     $$ BEGIN SET torture.tenant = 'mine'; COMMIT; PERFORM 1 / 0; END $$",
    "CREATE PROCEDURE torture.nothing(x text) LANGUAGE plpgsql AS $$ BEGIN COMMIT; PERFORM 1; END $$",
    "CREATE PROCEDURE torture.lock_and_commit() LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_lock(4712); COMMIT; END $$",
    "CREATE PROCEDURE torture.make_temporary_and_commit() LANGUAGE plpgsql AS \
     $$ BEGIN CREATE TEMP TABLE made_temporary AS SELECT 'hidden' AS x; COMMIT; END $$",
    "CREATE PROCEDURE torture.seed_and_commit() LANGUAGE plpgsql AS $$ BEGIN PERFORM setseed(0.5); COMMIT; END $$",
    "CREATE PROCEDURE torture.draw_and_commit() LANGUAGE plpgsql AS \
     $$ BEGIN PERFORM nextval('torture.counter'); COMMIT; END $$",
    "CREATE FUNCTION torture.set_at_event() RETURNS event_trigger LANGUAGE plpgsql AS \
     $$ BEGIN PERFORM set_config('torture.tenant', 'mine', false); END $$",
    "CREATE FUNCTION torture.lock_at_event() RETURNS event_trigger LANGUAGE plpgsql AS \
     $$ BEGIN PERFORM pg_advisory_lock(4712); END $$",
];

/// What `hunted` needs.
const HUNTED: &[&str] = &[
    "CREATE FUNCTION torture.by_default(x text DEFAULT torture.set_it('work_mem', '7777kB')) RETURNS text LANGUAGE sql AS \
     $$ SELECT x $$",
    "CREATE VIEW torture.one AS SELECT torture.set_it('work_mem', '7777kB') AS x",
    "CREATE VIEW torture.settings AS SELECT name, setting FROM pg_settings",
    "CREATE FUNCTION torture.set_in_clause() RETURNS text LANGUAGE plpgsql SET lock_timeout = '77s' AS \
     $$ BEGIN RETURN set_config('work_mem', '7777kB', false); END $$",
    "CREATE FUNCTION torture.set_local(n text, v text) RETURNS text LANGUAGE plpgsql AS \
     $$ BEGIN RETURN set_config(n, v, true); END $$",
    "CREATE FUNCTION torture.set_as_owner(n text, v text) RETURNS text LANGUAGE sql SECURITY DEFINER AS \
     $$ SELECT set_config(n, v, false) $$",
    "CREATE PROCEDURE torture.set_and_undo(n text, v text) LANGUAGE plpgsql AS \
     $$ BEGIN PERFORM set_config(n, v, false); ROLLBACK; END $$",
    "CREATE FUNCTION torture.make_in_clause() RETURNS void LANGUAGE plpgsql SET search_path = pg_temp, torture AS \
     $$ BEGIN CREATE TABLE clause_temp AS SELECT 'own'::text AS x; END $$",
    "CREATE TYPE torture.holder AS (d torture.doorway)",
    "CREATE TABLE torture.typed (d torture.doorway)",
    "CREATE FUNCTION torture.declares(x text) RETURNS text LANGUAGE plpgsql AS \
     $$ DECLARE d torture.doorway := x; BEGIN RETURN d; END $$",
    "CREATE FUNCTION torture.lower(torture.setting) RETURNS text LANGUAGE sql AS $$ SELECT set_config($1.n, $1.v, false) $$",
    "CREATE FUNCTION torture.keep(torture.setting, n text, v text) RETURNS torture.setting LANGUAGE sql AS \
     $$ SELECT ROW(n, v)::torture.setting $$",
    "CREATE AGGREGATE torture.set_last(text, text) (SFUNC = torture.keep, STYPE = torture.setting, FINALFUNC = torture.set_cast)",
    "CREATE FUNCTION torture.set_like(torture.setting, text) RETURNS boolean LANGUAGE sql AS \
     $$ SELECT set_config($1.n, $1.v, false) IS NOT NULL $$",
    "CREATE OPERATOR torture.~~ (LEFTARG = torture.setting, RIGHTARG = text, FUNCTION = torture.set_like)",
    "CREATE TABLE torture.parts (n text, v text) PARTITION BY LIST (n); CREATE TABLE torture.part PARTITION OF torture.parts DEFAULT",
    "CREATE TRIGGER setting BEFORE INSERT ON torture.part FOR EACH ROW EXECUTE FUNCTION torture.set_trigger()",
    "CREATE TABLE torture.owners (n text PRIMARY KEY)",
    "CREATE TABLE torture.owned (n text REFERENCES torture.owners ON DELETE CASCADE, v text)",
    "CREATE FUNCTION torture.set_old() RETURNS trigger LANGUAGE plpgsql AS \
     $$ BEGIN PERFORM set_config(OLD.n, OLD.v, false); RETURN OLD; END $$",
    "CREATE TRIGGER setting BEFORE DELETE ON torture.owned FOR EACH ROW EXECUTE FUNCTION torture.set_old()",
    "CREATE TABLE torture.renewed (n text, v text)",
    "CREATE TRIGGER setting BEFORE UPDATE ON torture.renewed FOR EACH ROW EXECUTE FUNCTION torture.set_trigger()",
    "CREATE TABLE torture.batches (n text, v text)",
    "CREATE FUNCTION torture.set_batch() RETURNS trigger LANGUAGE plpgsql AS \
     $$ BEGIN PERFORM set_config(n, v, false) FROM added; RETURN NULL; END $$",
    "CREATE TRIGGER setting AFTER INSERT ON torture.batches REFERENCING NEW TABLE AS added FOR EACH STATEMENT \
     EXECUTE FUNCTION torture.set_batch()",
    "CREATE VIEW torture.instead AS SELECT n, v FROM torture.things",
    "CREATE TRIGGER setting INSTEAD OF INSERT ON torture.instead FOR EACH ROW EXECUTE FUNCTION torture.set_trigger()",
    "CREATE TABLE torture.told (n text, v text)",
    "CREATE RULE setting AS ON UPDATE TO torture.told DO INSTEAD SELECT set_config(NEW.n, NEW.v, false)",
    "CREATE TABLE torture.locking (k bigint); CREATE TABLE torture.tempting (k bigint); CREATE TABLE torture.counting (k bigint)",
    "CREATE FUNCTION torture.lock_row() RETURNS trigger LANGUAGE plpgsql AS \
     $$ BEGIN PERFORM pg_advisory_lock(NEW.k); RETURN NEW; END $$",
    "CREATE TRIGGER locks BEFORE INSERT ON torture.locking FOR EACH ROW EXECUTE FUNCTION torture.lock_row()",
    "CREATE FUNCTION torture.make_for_row() RETURNS trigger LANGUAGE plpgsql AS \
     $$ BEGIN CREATE TEMP TABLE hunted_temp AS SELECT 'own'::text AS x; RETURN NEW; END $$",
    "CREATE TRIGGER makes BEFORE INSERT ON torture.tempting FOR EACH ROW EXECUTE FUNCTION torture.make_for_row()",
    "CREATE FUNCTION torture.count_row() RETURNS trigger LANGUAGE plpgsql AS \
     $$ BEGIN PERFORM nextval('torture.taken'); RETURN NEW; END $$",
    "CREATE TRIGGER counts BEFORE INSERT ON torture.counting FOR EACH ROW EXECUTE FUNCTION torture.count_row()",
];
