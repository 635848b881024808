//! What the cases find in schema `torture`, made once, so that a proxy that reads the catalogue knows it.

pub(in crate::cases) const FIXTURE: &[&str] = &[
    "CREATE TABLE torture.ported (id int, v text)",
    "CREATE SEQUENCE torture.ported_ids",
    "CREATE UNLOGGED TABLE torture.port_unlogged (id int)",
    "INSERT INTO torture.port_unlogged VALUES (41), (42)",
    // What a standby refuses.
    "CREATE FUNCTION torture.port_add() RETURNS int LANGUAGE sql AS \
     $$ INSERT INTO torture.ported VALUES (2, 'added') RETURNING 4711 $$",
    "CREATE FUNCTION torture.port_add(x int) RETURNS int LANGUAGE plpgsql AS \
     $$ BEGIN INSERT INTO torture.ported VALUES (x, 'added'); RETURN x; END $$",
    "CREATE FUNCTION torture.port_maybe(really bool) RETURNS text LANGUAGE plpgsql AS \
     $$ BEGIN IF really THEN INSERT INTO torture.ported VALUES (3, 'maybe'); RETURN 'written'; END IF; RETURN 'read'; END $$",
    "CREATE FUNCTION torture.port_notice() RETURNS int LANGUAGE plpgsql AS \
     $$ BEGIN RAISE NOTICE 'once'; INSERT INTO torture.ported VALUES (4, 'told'); RETURN 4; END $$",
    "CREATE FUNCTION torture.port_late() RETURNS SETOF int LANGUAGE plpgsql AS \
     $$ BEGIN RETURN NEXT 1; RETURN NEXT 2; INSERT INTO torture.ported VALUES (5, 'late'); RETURN NEXT 3; END $$",
    // What it does not refuse, and does otherwise.
    "CREATE FUNCTION torture.port_swallow() RETURNS text LANGUAGE plpgsql AS \
     $$ BEGIN INSERT INTO torture.ported VALUES (9, 'swallowed'); RETURN 'written'; \
     EXCEPTION WHEN OTHERS THEN RETURN 'nothing'; END $$",
    "CREATE FUNCTION torture.port_swallow_by_name() RETURNS text LANGUAGE plpgsql AS \
     $$ BEGIN INSERT INTO torture.ported VALUES (9, 'swallowed'); RETURN 'written'; \
     EXCEPTION WHEN read_only_sql_transaction THEN RETURN 'nothing'; END $$",
    "CREATE FUNCTION torture.port_swallow_by_class() RETURNS text LANGUAGE plpgsql AS \
     $$ BEGIN INSERT INTO torture.ported VALUES (9, 'swallowed'); RETURN 'written'; \
     EXCEPTION WHEN SQLSTATE '25000' THEN RETURN 'nothing'; END $$",
    "CREATE FUNCTION torture.port_deep() RETURNS text LANGUAGE sql AS $$ SELECT torture.port_swallow() $$",
    "CREATE FUNCTION torture.port_dynamic() RETURNS text LANGUAGE plpgsql AS \
     $$ DECLARE r text; BEGIN EXECUTE 'SELECT torture.port_' || 'swallow()' INTO r; RETURN r; END $$",
    "CREATE FUNCTION torture.port_recovery() RETURNS text LANGUAGE plpgsql AS \
     $$ BEGIN IF pg_is_in_recovery() THEN RETURN 'standby'; END IF; \
     INSERT INTO torture.ported VALUES (8, 'asked'); RETURN 'written'; END $$",
    "CREATE FUNCTION torture.port_setting() RETURNS text LANGUAGE plpgsql AS \
     $$ BEGIN IF current_setting('transaction_read_only')::bool THEN RETURN 'standby'; END IF; \
     INSERT INTO torture.ported VALUES (8, 'asked'); RETURN 'written'; END $$",
    "CREATE FUNCTION torture.port_lock(k bigint) RETURNS bool LANGUAGE sql AS $$ SELECT pg_try_advisory_lock(k) $$",
    // What reaches it without a name.
    "CREATE VIEW torture.port_view AS SELECT torture.port_swallow() AS v",
    "CREATE VIEW torture.port_outer AS SELECT v FROM torture.port_view",
    "CREATE VIEW torture.port_adding AS SELECT torture.port_add() AS v",
    "CREATE FUNCTION torture.port_two(int, int) RETURNS text LANGUAGE sql AS $$ SELECT torture.port_swallow() $$",
    "CREATE OPERATOR torture.<+> (LEFTARG = int, RIGHTARG = int, FUNCTION = torture.port_two)",
    "CREATE FUNCTION torture.port_step(text, int) RETURNS text LANGUAGE sql AS $$ SELECT torture.port_swallow() $$",
    "CREATE AGGREGATE torture.port_all(int) (SFUNC = torture.port_step, STYPE = text)",
    "CREATE TYPE torture.port_pair AS (a int, b int)",
    "CREATE FUNCTION torture.port_cast(torture.port_pair) RETURNS text LANGUAGE sql AS $$ SELECT torture.port_swallow() $$",
    "CREATE CAST (torture.port_pair AS text) WITH FUNCTION torture.port_cast",
    "CREATE DOMAIN torture.port_domain AS text CHECK (torture.port_swallow() IS NOT NULL AND VALUE <> 'nothing')",
    "CREATE FUNCTION torture.port_field(torture.ported) RETURNS text LANGUAGE sql AS $$ SELECT torture.port_swallow() $$",
    "CREATE TABLE torture.port_guarded (id int); INSERT INTO torture.port_guarded VALUES (1)",
    "ALTER TABLE torture.port_guarded ENABLE ROW LEVEL SECURITY",
    "CREATE FUNCTION torture.port_policy() RETURNS bool SECURITY DEFINER LANGUAGE sql AS \
     $$ SELECT torture.port_swallow() = 'written' $$",
    "CREATE POLICY port ON torture.port_guarded USING (torture.port_policy())",
    "CREATE PROCEDURE torture.port_procedure() LANGUAGE plpgsql AS \
     $$ BEGIN INSERT INTO torture.ported VALUES (6, 'called'); COMMIT; INSERT INTO torture.ported VALUES (7, 'called'); END $$",
    "CREATE PROCEDURE torture.port_quiet() LANGUAGE plpgsql AS $$ BEGIN PERFORM 1; END $$",
];
