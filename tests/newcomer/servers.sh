# The user's own servers at the addresses of README.md, and the proxy in front of them; sourced by journey.sh.
# shellcheck shell=bash
# shellcheck disable=SC2154 # its variables are the journey's

PASSWORD=secret
# A session for reads says who answers it.
ASK="psql -X -h 127.0.0.1 -p 5434 -U app -d appdb -Atc \"SELECT current_setting('cluster_name')\""

# as_postgres COMMAND: as the servers' user, with the server's programs on the PATH.
as_postgres() {
    inside offline 120 "runuser -u postgres -- env HOME=/var/lib/postgresql bash -ec 'PATH=\$(echo /usr/lib/postgresql/*/bin):\$PATH
        cd /srv; $1'"
}

# sql HOST COMMAND: as the superuser.
sql() {
    inside offline 60 "psql -X -h $1 -U postgres -d postgres -v ON_ERROR_STOP=1 -Atc \"$2\""
}

# start_server NAME
start_server() {
    as_postgres "pg_ctl -D /srv/$1 -l /srv/$1.log -w start"
}

# settings NAME ADDRESS: appended for each server; the three differ in these alone.
settings() {
    printf "%s = '%s'\n" cluster_name "$1" listen_addresses "$2" unix_socket_directories "" >>"$root/srv/$1/postgresql.conf"
}

passwords() {
    local file
    for file in "$root/root/.pgpass" "$root/var/lib/postgresql/.pgpass"; do
        printf '*:*:*:%s\n' "postgres:$PASSWORD" "replicator:$PASSWORD" "app:$PASSWORD" >"$file"
        chmod 600 "$file"
    done
    inside online 10 "chown postgres: /var/lib/postgresql/.pgpass /srv"
}

own_primary() {
    passwords
    printf '%s\n' "$PASSWORD" >"$root/srv/password"
    as_postgres "initdb -D /srv/primary -A scram-sha-256 --pwfile /srv/password"
    settings primary 10.0.0.10
    printf 'host %s 10.0.0.0/24 scram-sha-256\n' "all all" "replication all" >>"$root/srv/primary/pg_hba.conf"
    start_server primary
    sql 10.0.0.10 "CREATE ROLE replicator LOGIN REPLICATION PASSWORD '$PASSWORD'" &&
        sql 10.0.0.10 "CREATE ROLE app LOGIN PASSWORD '$PASSWORD'" && sql 10.0.0.10 "CREATE DATABASE appdb OWNER app"
}

# own_replica NAME ADDRESS
own_replica() {
    as_postgres "pg_basebackup -h 10.0.0.10 -U replicator -D /srv/$1 -R -X stream -c fast" && settings "$1" "$2" && start_server "$1"
}

# monitoring_role COMMAND: at a terminal, where psql asks for the password twice.
monitoring_role() {
    local answers=$logs/answers asked=$logs/asked prompt
    rm -f "$answers" "$asked"
    mkfifo "$answers"
    line_for offline 60 "$1" --foreground
    script -qefc "$(printf '%q ' "${line[@]}")" "$asked" <"$answers" >/dev/null 2>&1 &
    started=$!
    exec 5>"$answers"
    for prompt in "Enter new password" "Enter it again"; do
        eventually 30 grep -qF "$prompt" "$asked" || break
        printf '%s\n' "$monitor_password" >&5
    done
    exec 5>&-
    wait "$started" || { cat "$asked"; return 1; }
}

# serve LOG COMMAND: `trunkline serve` until it listens.
serve() {
    start "$1" "$2"
    eventually 30 is_ready "$1"
    grep -q "^ready: admin" "$1" || { cat "$1"; return 1; }
}

is_ready() {
    grep -q "^ready: admin" "$1" || ! kill -0 "$started" 2>/dev/null
}

# are STATE SERVER...: by `trunkline status`.
are() {
    local state=$1 name
    shift
    inside offline 10 "trunkline status" >"$logs/status" 2>&1
    for name in "$@"; do
        grep -qE "^$name +[a-z]+ +$state " "$logs/status" || return 1
    done
}

reads() {
    inside offline 30 "for i in 1 2 3 4; do $ASK; done" >"$logs/reads" 2>&1
}

# killed_under_load: pgbench and a loop of psql read, replica1 is killed, and neither sees an error.
killed_under_load() {
    local bench=$logs/pgbench loop=$logs/psql-loop reader looper
    line_for offline 60 "\$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)/pgbench -n -S -c 4 -T 8 -P 1 -h 127.0.0.1 -p 5434 -U app appdb"
    "${line[@]}" </dev/null >"$bench" 2>&1 &
    reader=$!
    line_for offline 60 "while :; do $ASK || exit; done"
    "${line[@]}" </dev/null >"$loop" 2>&1 &
    looper=$!
    eventually 20 grep -q '^progress: 3' "$bench"
    checked "replica1 is killed while pgbench and psql read" inside offline 10 "kill -9 \$(head -n 1 /srv/replica1/postmaster.pid)"
    checked "status says so" eventually 10 are DOWN replica1
    checked "pgbench sees no error" ends_well "$reader" "$bench"
    checked "none of its transactions failed" says "$bench" "number of failed transactions: 0 "
    kill "$looper"
    wait "$looper"
    checked "psql sees no error" loop_is_clean "$loop"
}

# ends_well PROCESS LOG
ends_well() {
    wait "$1" || { cat "$2"; return 1; }
}

# loop_is_clean LOG: both have answered, and nothing else is there.
loop_is_clean() {
    ! grep -vxE 'replica[12]' "$1" && grep -q replica1 "$1" && [ "$(tail -n 1 "$1")" = replica2 ]
}

recovered() {
    # What a postmaster killed with SIGKILL leaves: its file, and children that end by themselves.
    start_server replica1 && eventually 60 are UP primary replica1 replica2
}

tables_for_pgbench() {
    inside offline 120 "\$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)/pgbench -i -q -h 127.0.0.1 -p 5431 -U app appdb"
}

in_sync() {
    inside offline 10 "psql -X -h 127.0.0.1 -p 5434 -U app -d appdb -Atc 'SELECT count(*) FROM pgbench_accounts'" 2>/dev/null | grep -qx 100000
}

own_servers() {
    local line secret
    required "a primary at 10.0.0.10" own_primary
    required "replica1 at 10.0.0.11" own_replica replica1 10.0.0.11
    required "replica2 at 10.0.0.12" own_replica replica2 10.0.0.12
    line=$(quoted "trunkline init-sql |")
    checked "$line" monitoring_role "$line"
    secret=$(quoted "export TRUNKLINE__MONITOR__PASSWORD")
    line=$(quoted "trunkline serve --auth verify")
    required "$line" serve "$logs/serve" "$secret; $line"
    checked "every server is UP" eventually 30 are UP primary replica1 replica2
    reads
    checked "sessions through 5434 reach both replicas" test "$(sort -u "$logs/reads" | paste -sd ' ')" = "replica1 replica2"
    required "a session through 5431 writes" tables_for_pgbench
    checked "and is read through 5434" eventually 10 in_sync
    killed_under_load
    checked "replica1, started again, is UP again" recovered
    finish
    checked "the log has no error" says_not "$logs/serve" "level=error"
}

says_not() {
    ! grep -F -- "$2" "$1"
}
