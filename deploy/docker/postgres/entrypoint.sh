#!/usr/bin/env bash
# A primary, or a replica of one: creates the data directory the first time, and then only starts.
#   SERVER    its name: cluster_name, and a replica's replication slot
#   PRIMARY   host of the primary, for a replica; empty for the primary itself
#   /tls      tls.crt and server.key: it speaks TLS
#   REPLICAS  names of the replicas, for the primary: a slot for each keeps the WAL that it needs while it is down
set -euo pipefail
: "${SERVER:?}" "${PGDATA:?}"
part=$PGDATA.part

say() { printf '%s: %s\n' "$SERVER" "$*" >&2; }

settings() {
    cat <<END
listen_addresses = '*'
cluster_name = '$SERVER'
max_connections = 200
wal_level = replica
max_wal_senders = 20
max_replication_slots = 20
hot_standby = on
# A replica that never returns must not fill the primary's disk.
max_slot_wal_keep_size = '2GB'
# A lost link is found in seconds, not in a minute: both ends give up the old connection.
wal_sender_timeout = '10s'
wal_receiver_timeout = '10s'
wal_retrieve_retry_interval = '500ms'
password_encryption = 'scram-sha-256'
log_line_prefix = '%m [%p] %q%u@%d '
END
    if [ -e /tls/server.key ]; then
        cat <<END
ssl = on
ssl_cert_file = '/tls/tls.crt'
ssl_key_file = '/tls/server.key'
END
    fi
    if [ -n "${PRIMARY:-}" ]; then
        cat <<END
primary_slot_name = '$SERVER'
primary_conninfo = 'host=$PRIMARY port=5432 user=trunkline_replication password=$REPLICATION_PASSWORD application_name=$SERVER connect_timeout=3'
END
    fi
}

# All that this script decides is in one file, written anew at each start: another password counts after a restart.
write_settings() {
    settings >"$1/server.conf"
    chmod 600 "$1/server.conf"
    grep -q server.conf "$1/postgresql.conf" || printf "include 'server.conf'\n" >>"$1/postgresql.conf"
}

create_primary() {
    say "creating the database cluster"
    initdb --no-instructions -U postgres --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") --encoding=UTF8 --locale=C.UTF-8 \
        --auth-local=trust --auth-host=scram-sha-256 --data-checksums -D "$part" >/dev/null
    cat >>"$part/pg_hba.conf" <<END
host all all all scram-sha-256
host replication trunkline_replication all scram-sha-256
END
    write_settings "$part"
    pg_ctl -D "$part" -w -o "-c listen_addresses=''" start >/dev/null
    createdb -U postgres "$POSTGRES_DB"
    psql -X -q -U postgres -d "$POSTGRES_DB" -v ON_ERROR_STOP=1 -v replication_password="$REPLICATION_PASSWORD" \
        -v monitor_password="$MONITOR_PASSWORD" -f /init.sql
    local name
    for name in ${REPLICAS:-}; do
        psql -X -q -U postgres -d "$POSTGRES_DB" -v ON_ERROR_STOP=1 -v name="$name" >/dev/null <<<"SELECT pg_create_physical_replication_slot(:'name', true)"
    done
    pg_ctl -D "$part" -w -m fast stop >/dev/null
}

create_replica() {
    say "copying $PRIMARY"
    until pg_isready -q -h "$PRIMARY"; do sleep 0.5; done
    PGPASSWORD=$REPLICATION_PASSWORD pg_basebackup -h "$PRIMARY" -U trunkline_replication -D "$part" \
        --checkpoint=fast --wal-method=stream --slot="$SERVER"
    write_settings "$part"
    touch "$part/standby.signal"
}

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    # Whole or not at all: one that was interrupted begins again.
    rm -rf "$part"
    if [ -n "${PRIMARY:-}" ]; then create_replica; else create_primary; fi
    mv "$part" "$PGDATA"
fi
write_settings "$PGDATA"
exec postgres -D "$PGDATA"
