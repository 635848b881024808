#!/bin/sh
# User instructions and calls of malloc of the whole proxy, counted by callgrind: the same on a busy machine.
#
#   scripts/bench/instructions.sh proxy [CLIENTS]    per query, before canned answers [1]
#   scripts/bench/instructions.sh connect [CLIENTS]  per session of a login and one query [1]
#
# The binaries are those of `make bench`; BIN_DIR overrides where they are. The scanner and the session alone:
# `make bench-instructions`.
set -eu
cd "$(dirname "$0")/../.."
bin=${BIN_DIR:-${CARGO_TARGET_DIR:-target}/release}
work=$(mktemp -d)
trap 'kill $children 2>/dev/null || true; wait; rm -rf "$work"' EXIT
children=

command -v valgrind >/dev/null || { echo "valgrind is needed: apt-get install valgrind" >&2; exit 1; }

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

proxy() { # UNIT LOAD CLIENTS
    mkfifo "$work/hold" "$work/port"
    sleep 600 >"$work/hold" &
    children="$children $!"
    "$bin/fakepg" <"$work/hold" >"$work/port" &
    children="$children $!"
    read -r server <"$work/port"
    reads=$(free_port) http=$(free_port)
    valgrind --tool=callgrind --instr-atstart=no --callgrind-out-file="$work/out" \
        "$bin/trunkline" serve --config /dev/null --auth relay --primary "primary=127.0.0.1:$server" --threads 1 \
        --reads "127.0.0.1:$reads" --http "127.0.0.1:$http" --monitor "user=bench dbname=bench" 2>"$work/log" &
    proxy=$!
    children="$children $proxy"
    for _ in $(seq 300); do
        curl -sf -o /dev/null "http://127.0.0.1:$http/primary" && break
        kill -0 "$proxy" 2>/dev/null || { cat "$work/log" >&2; exit 1; }
        sleep 0.1
    done
    "$bin/pgload" "$2" --port "$reads" --clients "$3" --warm-up 1 --seconds 6 >/dev/null &
    load=$!
    sleep 2.5
    callgrind_control -i on "$proxy" >/dev/null
    sleep 2
    callgrind_control -i off "$proxy" >/dev/null
    callgrind_control -d "$proxy" >/dev/null
    wait "$load"
    python3 scripts/bench/per_unit.py "$1" "$work"/out.*
}

case ${1:-} in
    proxy) proxy query loop "${2:-1}" ;;
    connect) proxy session reconnect "${2:-1}" ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
