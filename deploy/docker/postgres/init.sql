-- The roles of replicas and of Trunkline's probes, and the table of the setup that Trunkline replaces.
CREATE ROLE trunkline_replication REPLICATION LOGIN PASSWORD :'replication_password';
CREATE ROLE trunkline_monitor LOGIN PASSWORD :'monitor_password';
GRANT pg_monitor TO trunkline_monitor;
ALTER ROLE trunkline_monitor SET default_transaction_read_only = on;
ALTER ROLE trunkline_monitor SET statement_timeout = '1s';

-- auth.mode = "verify" looks secrets up here, so that the probes' role needs no access to pg_authid.
CREATE SCHEMA trunkline;
CREATE FUNCTION trunkline.user_lookup(name text, OUT usename name, OUT passwd text) RETURNS SETOF record
    LANGUAGE sql STABLE STRICT SECURITY DEFINER SET search_path = pg_catalog
    AS $$ SELECT rolname, rolpassword FROM pg_authid
          WHERE rolname = name AND rolcanlogin AND (rolvaliduntil IS NULL OR rolvaliduntil > now()) $$;
REVOKE ALL ON FUNCTION trunkline.user_lookup(text) FROM PUBLIC;
GRANT USAGE ON SCHEMA trunkline TO trunkline_monitor;
GRANT EXECUTE ON FUNCTION trunkline.user_lookup(text) TO trunkline_monitor;

CREATE TABLE ynar (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    info text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO ynar (info) SELECT 'row ' || n FROM generate_series(1, 1000) AS n;
