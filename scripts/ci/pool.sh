# A Trunkline with pools, or on a split port, before the servers of the demo that runs the caller; sourced. `TRUNKLINE` is the binary.
# shellcheck shell=bash

# Seconds that it may take until it listens, or has ended.
POOL_START_SECONDS=20
# How long the second standby of a split port waits until it replays a commit.
SPLIT_DELAY=300ms
# Seconds that standbys may take to replay what there is.
REPLAY_SECONDS=60

# free_port: a port of 127.0.0.1 that nobody listens on.
free_port() {
    local port
    for _ in $(seq 100); do
        port=$((20000 + RANDOM % 12000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { printf '%s' "$port"; return; }
    done
    return 1
}

# demo_port SERVER: where this server of the demo listens: primary, replica1, ...
demo_port() {
    sed -n 4p "$TRUNKLINE_DEMO_DIR/$1/postmaster.pid"
}

# pool SIZE [KEY...]: starts it in transaction mode before the primary, with so many server connections for each user and database,
# and with further lines of [pool]. Its clients connect to `pool_port`.
pool() {
    local size=$1
    shift
    start_pool transaction "$size" '' "$@"
}

# split MODE SIZE [KEY...]: starts it in this pool_mode before the primary and two standbys, which run what only reads
# (`route = "statement"`). One of them shows what was written SPLIT_DELAY later.
split() {
    local mode=$1 size=$2 standby
    local -a standbys=()
    shift 2
    psql -XAtq -p "$(demo_port replica2)" -c "ALTER SYSTEM SET recovery_min_apply_delay = '$SPLIT_DELAY'" -c 'SELECT pg_reload_conf()' >/dev/null
    for standby in replica1 replica2; do
        standbys+=(--replica "$standby=127.0.0.1:$(demo_port "$standby")")
    done
    start_pool "$mode" "$size" "${standbys[*]}" "$@" '[[listener]]' 'name = "writes"' 'target_session_attrs = "read-write"' 'route = "statement"'
}

# start_pool MODE SIZE FLAGS [LINE...]
start_pool() {
    local home=$TRUNKLINE_DEMO_DIR/pool mode=$1 size=$2 flags=$3
    shift 3
    mkdir -p "$home"
    pool_port=$(free_port)
    pool_http=$(free_port)
    printf '%s\n' '[auth]' 'mode = "verify"' '[admin]' "socket = \"$home/admin.sock\"" '[pool]' "pool_mode = \"$mode\"" "pool_size = $size" "$@" \
        >"$home/trunkline.toml"
    # shellcheck disable=SC2086 # words
    "$TRUNKLINE" serve --config "$home/trunkline.toml" --writes "127.0.0.1:$pool_port" --http "127.0.0.1:$pool_http" \
        --primary "primary=127.0.0.1:$(demo_port primary)" $flags \
        --monitor "user=trunkline_monitor password=trunkline_monitor dbname=$PGDATABASE" >"$home/log" 2>&1 </dev/null &
    pool_pid=$!
    trap end_pool EXIT
    for _ in $(seq $((POOL_START_SECONDS * 10))); do
        ! PGCONNECT_TIMEOUT=2 psql -XAtq -h 127.0.0.1 -p "$pool_port" -c 'SELECT 1' >/dev/null 2>&1 || return 0
        kill -0 "$pool_pid" 2>/dev/null || break
        sleep 0.1
    done
    cat "$home/log" >&2
    return 1
}

# routed [REASON]: how many requests went to standbys and the primary by now, or for this reason.
routed() {
    exec 3<>"/dev/tcp/127.0.0.1/$pool_http"
    printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3
    sed -nE "s/^trunkline_requests_routed_total\{reason=\"${1:-.*}\"\} ([0-9]+).*/\1/p" <&3 | awk '{ n += $1 } END { print n + 0 }'
    exec 3<&-
}

# replayed: waits until the standbys show all that the primary has by now.
replayed() {
    local behind port
    port=$(demo_port primary)
    local lsn
    lsn=$(psql -XAtq -p "$port" -c 'SELECT pg_current_wal_insert_lsn()')
    for _ in $(seq $((REPLAY_SECONDS * 20))); do
        behind=$(psql -XAtq -p "$port" -c "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn IS NULL OR replay_lsn < '$lsn'")
        [ "$behind" != 0 ] || return 0
        sleep 0.05
    done
    printf 'error: standbys do not replay\n' >&2
    return 1
}

# end_pool: ends it.
end_pool() {
    [ -n "${pool_pid:-}" ] || return 0
    kill -INT "$pool_pid" 2>/dev/null || true
    wait "$pool_pid" 2>/dev/null || true
    pool_pid=''
}
