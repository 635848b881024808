-- The roles of replicas and of Trunkline's probes, and the table of the setup that Trunkline replaces.
CREATE ROLE trunkline_replication REPLICATION LOGIN PASSWORD :'replication_password';
CREATE ROLE trunkline_monitor LOGIN PASSWORD :'monitor_password';
GRANT pg_monitor TO trunkline_monitor;
ALTER ROLE trunkline_monitor SET default_transaction_read_only = on;
ALTER ROLE trunkline_monitor SET statement_timeout = '1s';

-- What `trunkline init-sql` prints for auth.mode = "verify".
CREATE SCHEMA trunkline;
CREATE FUNCTION trunkline.user_secret(wanted text)
    RETURNS TABLE (name text, secret text, is_expired boolean, can_login boolean)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$
        SELECT rolname::text, rolpassword, coalesce(rolvaliduntil < now(), false), rolcanlogin
        FROM pg_authid WHERE rolname = wanted
    $$;
REVOKE ALL ON FUNCTION trunkline.user_secret(text) FROM PUBLIC;
GRANT USAGE ON SCHEMA trunkline TO trunkline_monitor;
GRANT EXECUTE ON FUNCTION trunkline.user_secret(text) TO trunkline_monitor;

CREATE TABLE ynar (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    info text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO ynar (info) SELECT 'row ' || n FROM generate_series(1, 1000) AS n;
