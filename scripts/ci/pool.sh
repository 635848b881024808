# A Trunkline in transaction mode before the primary of the demo that runs the caller; sourced. `TRUNKLINE` is the binary.
# shellcheck shell=bash

# Seconds that it may take until it listens, or has ended.
POOL_START_SECONDS=20

# free_port: a port of 127.0.0.1 that nobody listens on.
free_port() {
    local port
    for _ in $(seq 100); do
        port=$((20000 + RANDOM % 12000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { printf '%s' "$port"; return; }
    done
    return 1
}

# pool SIZE [KEY...]: starts it with so many server connections for each user and database, and with further lines of [pool].
# Its clients connect to `pool_port`.
pool() {
    local home=$TRUNKLINE_DEMO_DIR/pool http size=$1
    shift
    mkdir -p "$home"
    pool_port=$(free_port)
    http=$(free_port)
    printf '%s\n' '[auth]' 'mode = "verify"' '[admin]' "socket = \"$home/admin.sock\"" '[pool]' 'pool_mode = "transaction"' "pool_size = $size" "$@" \
        >"$home/trunkline.toml"
    "$TRUNKLINE" serve --config "$home/trunkline.toml" --writes "127.0.0.1:$pool_port" --http "127.0.0.1:$http" \
        --primary "primary=127.0.0.1:$(sed -n 4p "$TRUNKLINE_DEMO_DIR/primary/postmaster.pid")" \
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

# end_pool: ends it.
end_pool() {
    [ -n "${pool_pid:-}" ] || return 0
    kill -INT "$pool_pid" 2>/dev/null || true
    wait "$pool_pid" 2>/dev/null || true
    pool_pid=''
}
