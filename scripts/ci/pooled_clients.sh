#!/usr/bin/env bash
# The test suites of drivers, of SQLAlchemy's dialect and of Django, on a direct connection and so:
#   pooled          in transaction mode on a pool of POOL_SIZE server connections
#   split           the same on a split port before two standbys
#   split-session   on a split port in session mode
# A test that passes directly passes there, but for those of pooled_clients.txt in transaction mode, and of split_clients.txt on a
# split port.
#   pooled_clients.sh [HOW...] [NAME...]   all, or these of CLIENTS below, in all of these ways or in some
# They are downloaded from PyPI and Debian's source packages into target/foreign: the suites as source, the drivers built.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

source scripts/ci/pool.sh
REPOSITORY=$PWD
HOME_DIR=$PWD/target/foreign
TRUNKLINE=${TRUNKLINE_BIN:-${CARGO_TARGET_DIR:-$PWD/target}/quick/trunkline}
POOL_SIZE=4
# A test that needs more connections than that fails then, and not at the end of pytest's patience.
QUERY_WAIT=10s
CLIENTS='psycopg psycopg2 asyncpg sqlalchemy-psycopg sqlalchemy-asyncpg django node-postgres'
HOWS='pooled split split-session'
source scripts/ci/client_suites.sh

say() { printf '    %s\n' "$*"; }

die() {
    printf 'error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf 'HINT: %s\n' "$2" >&2
    exit 1
}

# suite NAME HOW PORT [TEST...]: runs the suite, or these tests of it, in a new database. How each ended is in clients/NAME-HOW.
suite() {
    local name=$1 how=$2 port=$3 database="suite_${2//-/_}" file=$HOME_DIR/clients/$1-$2
    shift 3
    psql -XAtq -p "$direct" -c "DROP DATABASE IF EXISTS $database WITH (FORCE)" -c "CREATE DATABASE $database"
    rm -f "$file"
    run_suite "$name" "$port" "$database" "$file" "$@" >"$file.log" 2>&1
    [ -s "$file" ] || die "the suite of $name did not end ($how)" "see $file.log."
}

# outcomes NAME HOW OUTCOME: the tests that ended so.
outcomes() {
    awk -F '\t' -v outcome="$3" '$1 == outcome { print $2 }' "$HOME_DIR/clients/$1-$2" | LC_ALL=C sort
}

# differing NAME HOW: the tests that passed directly and not so.
differing() {
    LC_ALL=C comm -23 <(outcomes "$1" direct passed) <(outcomes "$1" "$2" passed)
}

# asked [HOW...] [NAME...]: `hows` and `names` are what is to be run.
asked() {
    local word
    hows='' names=''
    for word in "$@"; do
        case " $HOWS " in *" $word "*) hows+=" $word" ;; *) names+=" $word" ;; esac
    done
    hows=${hows:-$HOWS}
    names=${names:-$CLIENTS}
}

# within HOW... NAME...: all of it, within the demo.
within() {
    local name how is_well=1 hows names
    direct=$(demo_port primary)
    asked "$@"
    for name in $names; do
        suite "$name" direct "$direct"
        for how in $hows; do compared "$name" "$how"; done
    done
    [ -n "$is_well" ] || die "tests pass directly and not in the pool or on a split port" "see $HOME_DIR/clients."
}

# begin HOW: starts what the tests go through.
begin() {
    local wait="query_wait_timeout = \"$QUERY_WAIT\""
    case $1 in
        pooled) pool "$POOL_SIZE" "$wait" ;;
        split) split transaction "$POOL_SIZE" "$wait" ;;
        split-session) split session "$POOL_SIZE" ;;
    esac
}

# listed NAME HOW: the tests that may differ so.
listed() {
    local lists
    case $2 in
        pooled) lists='pooled_clients.txt' ;;
        split) lists='pooled_clients.txt split_clients.txt' ;;
        split-session) lists='split_clients.txt' ;;
    esac
    # shellcheck disable=SC2086 # names
    (cd "$REPOSITORY/scripts/ci" && sed -n "s/^$1 //p" $lists | LC_ALL=C sort)
}

# compared NAME HOW: runs the suite so; `is_well` is empty afterwards if it differs otherwise than listed.
compared() {
    local name=$1 how=$2 tests expected differs reads=''
    begin "$how"
    suite "$name" "$how" "$pool_port"
    [ "$how" = pooled ] || reads=", $(routed proven) of $(routed) requests on standbys"
    differs=$(differing "$name" "$how")
    if [ -n "$differs" ]; then
        # One that differs does so twice: a busy machine is late for some, and sessions of other tests are pinned.
        mapfile -t tests <<<"$differs"
        suite "$name" "$how-again" "$pool_port" "${tests[@]}"
        differs=$(LC_ALL=C comm -23 <(printf '%s\n' "$differs") <(outcomes "$name" "$how-again" passed))
    fi
    end_pool
    expected=$(listed "$name" "$how")
    say "$name, $how: of $(grep -c . "$HOME_DIR/clients/$name-direct") tests $(outcomes "$name" direct passed | grep -c .) pass directly and" \
        "$(outcomes "$name" "$how" passed | grep -c .) so$reads; $(grep -c . <<<"$differs") differ, of which" \
        "$(LC_ALL=C comm -12 <(echo "$expected") <(echo "$differs") | grep -c .) are listed"
    if LC_ALL=C comm -13 <(echo "$expected") <(echo "$differs") | grep .; then is_well=''; fi
}

# main [HOW...] [NAME...]: gets what is to be run, and runs it within a demo. What this machine cannot get is skipped.
main() {
    local name hows names reason
    mkdir -p "$HOME_DIR/clients"
    asked "$@"
    set --
    for name in $names; do
        if fetched "$name"; then set -- "$@" "$name"; else say "$name: SKIPPED, $reason"; fi
    done
    [ $# -eq 0 ] || "$TRUNKLINE" demo --replicas 2 --exec "$PWD/scripts/ci/pooled_clients.sh within $hows $*"
}

case "${1:-}" in
    within) shift; within "$@" ;;
    *) main "$@" ;;
esac
