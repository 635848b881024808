#!/usr/bin/env bash
# faults.sh [--seconds N] [--clients N]: the same replica is killed under the same load, behind HAProxy, PgBouncer and Trunkline.
# Each runs pgbench in its simple, extended and prepared mode over two replicas; one is killed with SIGKILL at a quarter of
# the time and started again at six tenths. Prints what each client program saw, as a Markdown table.
# Started by `make bench-faults`; needs Debian's haproxy and pgbouncer, and installs them when root.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

usage() { sed -n '2,5s/^# //p' "$0"; }

seconds=20 clients=16
while [ $# -gt 0 ]; do
    case $1 in
        --seconds) seconds=${2:?}; shift 2 ;;
        --clients) clients=${2:?}; shift 2 ;;
        --inside) inside=1; shift ;;
        -h | --help) usage; exit 0 ;;
        *) printf 'error: unknown argument %s\n' "$1" >&2; exit 2 ;;
    esac
done

peers() {
    local missing=()
    [ -x /usr/sbin/haproxy ] || missing+=(haproxy)
    [ -x /usr/sbin/pgbouncer ] || missing+=(pgbouncer)
    [ ${#missing[@]} -eq 0 ] && return
    [ "$(id -u)" -eq 0 ] || { printf 'error: install %s\n' "${missing[*]}" >&2; exit 1; }
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

if [ -z "${inside:-}" ]; then
    peers
    cargo build --quiet --profile quick -p trunkline
    exec "${CARGO_TARGET_DIR:-target}/quick/trunkline" demo \
        --exec "bash scripts/bench/faults.sh --inside --seconds $seconds --clients $clients" 2>/dev/null
fi

work=$(mktemp -d)
chmod 755 "$work"
cleanup() {
    [ -z "${haproxy:-}" ] || kill "$haproxy" 2>/dev/null || true
    [ -z "${bouncer:-}" ] || kill "$bouncer" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

port_of() { sed -n 4p "$TRUNKLINE_DEMO_DIR/$1/postmaster.pid"; }
replica1=$(port_of replica1) replica2=$(port_of replica2)
trunkline=$PGPORT
haproxy_port=$((trunkline + 10)) bouncer_port=$((trunkline + 11))

cat >"$work/haproxy.cfg" <<CFG
defaults
    mode tcp
    timeout connect 2s
    timeout client 1m
    timeout server 1m
listen reads
    bind 127.0.0.1:$haproxy_port
    balance leastconn
    option redispatch
    option httpchk
    http-check send meth GET uri-lf /%[srv_name]
    http-check expect status 200
    default-server check port ${TRUNKLINE_HTTP##*:} inter 1s fastinter 200ms downinter 500ms fall 2 rise 2
    server replica1 127.0.0.1:$replica1
    server replica2 127.0.0.1:$replica2
CFG
/usr/sbin/haproxy -f "$work/haproxy.cfg" -q &
haproxy=$!

# PgBouncer has no health checks of its own: it stands before HAProxy, as it is deployed.
printf '"%s" "%s"\n' "$PGUSER" "$PGPASSWORD" >"$work/users.txt"
cat >"$work/pgbouncer.ini" <<CFG
[databases]
$PGDATABASE = host=127.0.0.1 port=$haproxy_port
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $bouncer_port
unix_socket_dir =
auth_type = scram-sha-256
auth_file = $work/users.txt
pool_mode = session
default_pool_size = 100
logfile = $work/pgbouncer.log
CFG
chmod 644 "$work"/*
as_nobody=()
[ "$(id -u)" -ne 0 ] || { chown nobody "$work"; as_nobody=(setpriv --reuid=nobody --clear-groups); }
"${as_nobody[@]}" /usr/sbin/pgbouncer -q "$work/pgbouncer.ini" &
bouncer=$!
for port in "$haproxy_port" "$bouncer_port"; do
    until pg_isready -q -h 127.0.0.1 -p "$port"; do read -rt 0.1 <> <(:) || true; done
done

echo "SELECT info FROM ynar WHERE id = 1;" >"$work/read.sql"
load() { # NAME PORT MODE
    pgbench -n -h 127.0.0.1 -p "$2" -M "$3" -c "$clients" -j 1 -T "$seconds" -f "$work/read.sql" >"$work/$1.$3" 2>&1 || true
}
start_again() {
    local run=()
    [ "$(id -u)" -ne 0 ] || run=(setpriv --reuid=postgres --clear-groups)
    rm -f "$TRUNKLINE_DEMO_DIR/replica1/postmaster.pid"
    "${run[@]}" "$(dirname "$(readlink "/proc/$postmaster_of_2/exe")")/pg_ctl" -D "$TRUNKLINE_DEMO_DIR/replica1" -w -l "$TRUNKLINE_DEMO_DIR/replica1/again.log" start >/dev/null
}
postmaster_of_2=$(head -n 1 "$TRUNKLINE_DEMO_DIR/replica2/postmaster.pid")

for mode in simple extended prepared; do
    for target in "haproxy $haproxy_port" "pgbouncer $bouncer_port" "trunkline $trunkline"; do
        # shellcheck disable=SC2086 # name and port
        load $target "$mode" &
        eval "${target%% *}_pid=$!"
    done
    sleep "$((seconds / 4))"
    kill -KILL "$(head -n 1 "$TRUNKLINE_DEMO_DIR/replica1/postmaster.pid")"
    sleep "$((seconds * 35 / 100))"
    start_again
    # shellcheck disable=SC2154 # set by eval above
    wait "$haproxy_pid" "$pgbouncer_pid" "$trunkline_pid"
    until curl -fs -o /dev/null "http://$TRUNKLINE_HTTP/replica1"; do read -rt 0.2 <> <(:) || true; done
done

lost() { grep -c ' aborted in command ' "$work/$1.$2" || true; }
printf '| sessions lost of %s, replica killed after %s s of %s | simple | extended | prepared |\n|---|---|---|---|\n' \
    "$clients" "$((seconds / 4))" "$seconds"
for name in haproxy pgbouncer trunkline; do
    printf '| %s | %s | %s | %s |\n' "$name" "$(lost $name simple)" "$(lost $name extended)" "$(lost $name prepared)"
done
[ "$(lost trunkline simple)$(lost trunkline extended)$(lost trunkline prepared)" = 000 ]
