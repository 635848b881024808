#!/usr/bin/env bash
# sysbench's loads of OLTP outside transactions, on a direct connection and on a split port before two standbys, one of them SPLIT_DELAY
# late, in both modes of pooling: there are no errors that are not direct ones, and of the SELECTs at least STANDBY_PERCENT run on standbys.
#   sysbench_split.sh [MODE...]   session, transaction
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

source scripts/ci/pool.sh
TRUNKLINE=${TRUNKLINE_BIN:-${CARGO_TARGET_DIR:-$PWD/target}/quick/trunkline}
LOGS=$PWD/target/foreign/sysbench
POOL_SIZE=8
THREADS=8
LOAD_SECONDS=${SYSBENCH_SECONDS:-20}
STANDBY_PERCENT=60
LOADS='oltp_read_only oltp_read_write'

say() { printf '    %s\n' "$*"; }

die() {
    printf 'error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf 'HINT: %s\n' "$2" >&2
    exit 1
}

# sysbench_on PORT LOAD COMMAND
sysbench_on() {
    sysbench "$2" --db-driver=pgsql --pgsql-host=127.0.0.1 --pgsql-port="$1" --pgsql-user="$PGUSER" --pgsql-password="$PGPASSWORD" \
        --pgsql-db="$PGDATABASE" --tables=4 --table-size=10000 --skip_trx=on --threads="$THREADS" --time="$LOAD_SECONDS" "$3"
}

# load PORT LOAD NAME: what sysbench says is in LOGS. It ends at the first error that is not one of concurrent writers, which it counts.
load() {
    sysbench_on "$1" "$2" run >"$LOGS/$2-$3" 2>&1 || { tail -n 20 "$LOGS/$2-$3" >&2; die "$2 failed ($3)" "see $LOGS/$2-$3."; }
}

# figure LOAD NAME WORD: what sysbench says of it: read, write, transactions, reconnects.
figure() {
    sed -nE "s/^ +$3: +([0-9]+).*/\1/p" "$LOGS/$1-$2"
}

within() {
    local mode load before reads standbys percent direct
    direct=$(demo_port primary)
    sysbench_on "$direct" oltp_read_write prepare >"$LOGS/prepare"
    for load in $LOADS; do
        load "$direct" "$load" direct
        say "$load, direct: $(figure "$load" direct transactions) series, $(figure "$load" direct read) SELECTs"
    done
    for mode in "$@"; do
        split "$mode" "$POOL_SIZE"
        replayed
        for load in $LOADS; do
            before=$(routed proven)
            load "$pool_port" "$load" "$mode"
            standbys=$(($(routed proven) - before))
            reads=$(figure "$load" "$mode" read)
            percent=$((standbys * 100 / reads))
            say "$load, split, $mode mode: $(figure "$load" "$mode" transactions) series, of $reads SELECTs $standbys ($percent %) on standbys"
            [ "$percent" -ge "$STANDBY_PERCENT" ] || too_few+=" $load ($mode mode)"
        done
        end_pool
    done
    [ -z "${too_few:-}" ] || die "less than $STANDBY_PERCENT % of the SELECTs ran on standbys:$too_few" "see $LOGS."
}

case "${1:-}" in
    within) shift; within "$@" ;;
    *)
        command -v sysbench >/dev/null || { say "sysbench: SKIPPED, it is not here (apt-get install sysbench)"; exit 0; }
        mkdir -p "$LOGS"
        [ $# -gt 0 ] || set -- session transaction
        "$TRUNKLINE" demo --replicas 2 --exec "$PWD/scripts/ci/sysbench_split.sh within $*"
        ;;
esac
