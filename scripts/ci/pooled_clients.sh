#!/usr/bin/env bash
# The test suites of Python's drivers and of SQLAlchemy's dialect, on a direct connection, in transaction mode on a pool of
# POOL_SIZE server connections, and the same on a split port before two standbys: a test that passes directly passes there,
# but for those of pooled_clients.txt, and on a split port of split_clients.txt.
#   pooled_clients.sh [NAME...]   all, or these of asyncpg, psycopg2, sqlalchemy-psycopg, sqlalchemy-asyncpg
# They are downloaded from PyPI into target/foreign: the suites as source, the drivers built.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

source scripts/ci/pool.sh
REPOSITORY=$PWD
HOME_DIR=$PWD/target/foreign
TRUNKLINE=${TRUNKLINE_BIN:-${CARGO_TARGET_DIR:-$PWD/target}/quick/trunkline}
POOL_SIZE=4
# A test that needs more connections than that fails then, and not at the end of pytest's patience.
QUERY_WAIT=10s
# Each suite, once; SQLAlchemy's takes ten minutes on two cores that have nothing else to do.
SUITE_SECONDS_MAX=2400
CLIENTS='asyncpg psycopg2 sqlalchemy-psycopg sqlalchemy-asyncpg'
# Those with a suite in their source package. psycopg's own suite is in none.
SOURCES=(asyncpg==0.32.0 psycopg2==2.9.13 sqlalchemy==2.1.9)
BUILT=(pytest distro asyncpg==0.32.0 psycopg2-binary==2.9.13 'psycopg[binary]==3.3.9' 'SQLAlchemy[asyncio]==2.1.9')

say() { printf '    %s\n' "$*"; }

die() {
    printf 'error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf 'HINT: %s\n' "$2" >&2
    exit 1
}

fetch() {
    local source name
    mkdir -p "$HOME_DIR/clients"
    if [ ! -e "$HOME_DIR/venv/installed" ]; then
        say "installing drivers and SQLAlchemy into target/foreign/venv"
        python3 -m venv "$HOME_DIR/venv"
        "$HOME_DIR/venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: "${BUILT[@]}"
        touch "$HOME_DIR/venv/installed"
    fi
    for source in "${SOURCES[@]}"; do
        name=${source%%=*}
        [ ! -d "$HOME_DIR/$name" ] || continue
        say "downloading the source of $source"
        rm -rf "$HOME_DIR/$name.part"
        mkdir "$HOME_DIR/$name.part"
        "$HOME_DIR/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --no-binary "$name" \
            --dest "$HOME_DIR/$name.part" "$source"
        tar -xzf "$HOME_DIR/$name.part"/*.tar.gz -C "$HOME_DIR/$name.part" --strip-components 1
        mv "$HOME_DIR/$name.part" "$HOME_DIR/$name"
    done
}

# suite NAME HOW PORT [TEST...]: runs the suite, or these tests of it, in a new database. How each ended is in clients/NAME-HOW.
suite() {
    local name=$1 how=$2 port=$3 database="suite_${2//-/_}" arguments=(-p pytest_outcomes -p no:cacheprovider -q --continue-on-collection-errors)
    shift 3
    psql -XAtq -p "$direct" -c "DROP DATABASE IF EXISTS $database WITH (FORCE)" -c "CREATE DATABASE $database"
    case $name in
        sqlalchemy-*)
            psql -XAtq -p "$direct" -d "$database" -c 'CREATE SCHEMA test_schema; CREATE EXTENSION hstore; CREATE EXTENSION citext'
            arguments+=(--dburi "postgresql+${name#*-}://$PGUSER:$PGPASSWORD@127.0.0.1:$port/$database")
            [ $# -gt 0 ] || set -- test/dialect/postgresql test/dialect/test_suite.py
            cd "$HOME_DIR/sqlalchemy"
            ;;
        *)
            [ $# -gt 0 ] || set -- tests
            cd "$HOME_DIR/$name"
            # The package is the built one, not the source beside its tests.
            rm -rf "$name"
            ;;
    esac
    rm -f "$HOME_DIR/clients/$name-$how"
    # Failing tests are what is compared.
    PGHOST=127.0.0.1 PGPORT=$port PGDATABASE=$database PSYCOPG2_TESTDB=$database PYTHONPATH="$REPOSITORY/scripts/ci" \
        PYTHONDONTWRITEBYTECODE=1 TRUNKLINE_OUTCOMES="$HOME_DIR/clients/$name-$how" \
        timeout -k 10 "$SUITE_SECONDS_MAX" "$HOME_DIR/venv/bin/python" -m pytest "${arguments[@]}" "$@" \
        >"$HOME_DIR/clients/$name-$how.log" 2>&1 || true
    cd "$REPOSITORY"
    [ -s "$HOME_DIR/clients/$name-$how" ] || die "the suite of $name did not end ($how)" "see $HOME_DIR/clients/$name-$how.log."
}

# outcomes NAME HOW OUTCOME: the tests that ended so.
outcomes() {
    awk -F '\t' -v outcome="$3" '$1 == outcome { print $2 }' "$HOME_DIR/clients/$1-$2" | LC_ALL=C sort
}

# differing NAME HOW: the tests that passed directly and not so.
differing() {
    LC_ALL=C comm -23 <(outcomes "$1" direct passed) <(outcomes "$1" "$2" passed)
}

# within NAME...: all of it, within the demo.
within() {
    local name how is_well=1
    direct=$(demo_port primary)
    for name in "$@"; do
        suite "$name" direct "$direct"
        for how in pooled split; do compared "$name" "$how"; done
    done
    [ -n "$is_well" ] || die "tests pass directly and not in the pool or on a split port" "see $HOME_DIR/clients."
}

# compared NAME HOW: runs the suite so; `is_well` is empty afterwards if it differs otherwise than listed.
compared() {
    local name=$1 how=$2 tests expected differs lists=pooled_clients.txt begin=pool reads=''
    [ "$how" = pooled ] || { lists+=' split_clients.txt' begin=split; }
    "$begin" "$POOL_SIZE" "query_wait_timeout = \"$QUERY_WAIT\""
    suite "$name" "$how" "$pool_port"
    differs=$(differing "$name" "$how")
    if [ -n "$differs" ]; then
        # One that differs does so twice: a busy machine is late for some, and sessions of other tests are pinned.
        mapfile -t tests <<<"$differs"
        suite "$name" "$how-again" "$pool_port" "${tests[@]}"
        differs=$(LC_ALL=C comm -23 <(printf '%s\n' "$differs") <(outcomes "$name" "$how-again" passed))
    fi
    [ "$how" = pooled ] || reads=", $(routed proven) of $(routed) requests on standbys"
    end_pool
    # shellcheck disable=SC2086 # names
    expected=$(cd "$REPOSITORY/scripts/ci" && sed -n "s/^$name //p" $lists | LC_ALL=C sort)
    say "$name, $how: $(outcomes "$name" direct passed | grep -c .) tests pass directly, $(outcomes "$name" "$how" passed | grep -c .) so$reads;" \
        "$(grep -c . <<<"$differs") differ, of which $(LC_ALL=C comm -12 <(echo "$expected") <(echo "$differs") | grep -c .) are listed"
    if LC_ALL=C comm -13 <(echo "$expected") <(echo "$differs") | grep .; then is_well=''; fi
}

case "${1:-}" in
    within) shift; within "$@" ;;
    *)
        fetch
        # shellcheck disable=SC2086 # names
        [ $# -gt 0 ] || set -- $CLIENTS
        "$TRUNKLINE" demo --replicas 2 --exec "$PWD/scripts/ci/pooled_clients.sh within $*"
        ;;
esac
