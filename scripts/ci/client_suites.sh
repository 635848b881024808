# How the test suites of drivers and of what stands on them are got and run, for pooled_clients.sh; sourced. `HOME_DIR` is where
# they are kept, `REPOSITORY` ours, `direct` the primary's port, and `reason` says why one is skipped.
# shellcheck shell=bash disable=SC2034,SC2154

# shellcheck source=scripts/ci/debian_source.sh
source "$REPOSITORY/scripts/ci/debian_source.sh"

# Each suite, once; SQLAlchemy's takes ten minutes on two cores that have nothing else to do.
SUITE_SECONDS_MAX=2400
# A file of node-postgres' suite; its tests give up after five seconds each.
NODE_SECONDS_MAX=60
# Those with a suite in their source package of PyPI. psycopg's own suite is in none, and comes from Debian's, as node-postgres' does.
declare -A SOURCES=([asyncpg]=asyncpg==0.32.0 [psycopg2]=psycopg2==2.9.13 [sqlalchemy]=sqlalchemy==2.1.9 [django]=django==5.2.19)
BUILT=(pytest distro anyio asyncpg==0.32.0 psycopg2-binary==2.9.13 'psycopg[binary,pool]==3.3.9' 'SQLAlchemy[asyncio]==2.1.9'
    django==5.2.19)
DEBIAN_SUITE=sid
# Of Django's suite, the folders whose tests ask the database what it does with sessions, transactions and queries.
DJANGO_TESTS=(basic backends queries transactions transaction_hooks ordering select_for_update select_related bulk_create get_or_create
    update delete lookup aggregation annotations expressions distinct_on_fields multiple_database force_insert_update
    introspection inspectdb schema migrations postgres_tests sessions_tests cache async serializers fixtures db_functions test_utils)

# fetched NAME: gets the suite; fails, and `reason` says why, where this machine cannot.
fetched() {
    built
    case $1 in
        psycopg) from_debian psycopg psycopg3 ;;
        node-postgres) node_postgres ;;
        sqlalchemy-*) from_pypi sqlalchemy ;;
        *) from_pypi "$1" ;;
    esac
}

built() {
    [ "$(cat "$HOME_DIR/venv/installed" 2>/dev/null)" != "${BUILT[*]}" ] || return 0
    say "installing drivers, SQLAlchemy and Django into target/foreign/venv"
    python3 -m venv "$HOME_DIR/venv"
    "$HOME_DIR/venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: "${BUILT[@]}" || die "pip could not install them"
    printf '%s' "${BUILT[*]}" >"$HOME_DIR/venv/installed"
}

from_pypi() {
    [ ! -d "$HOME_DIR/$1" ] || return 0
    say "downloading the source of ${SOURCES[$1]}"
    rm -rf "$HOME_DIR/$1.part"
    mkdir "$HOME_DIR/$1.part"
    "$HOME_DIR/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --no-binary "$1" --dest "$HOME_DIR/$1.part" "${SOURCES[$1]}" || die "pip could not download it"
    tar -xzf "$HOME_DIR/$1.part"/*.tar.gz -C "$HOME_DIR/$1.part" --strip-components 1 || die "what came is no archive"
    mv "$HOME_DIR/$1.part" "$HOME_DIR/$1"
}

# from_debian NAME PACKAGE
from_debian() {
    [ ! -d "$HOME_DIR/$1" ] || return 0
    say "downloading the source of $2 from Debian $DEBIAN_SUITE"
    debian_source "$2" "$DEBIAN_SUITE" "$HOME_DIR/$1" "$HOME_DIR/fetch-$1.log" && return
    reason="Debian's archive does not give its source, see $HOME_DIR/fetch-$1.log"
    return 1
}

# node_postgres: its tests have the driver beside them, and find what it needs in the folder above.
node_postgres() {
    local home=$HOME_DIR/node-postgres
    [ ! -d "$home" ] || return 0
    command -v npm >/dev/null || { reason='no npm here'; return 1; }
    rm -rf "$home-source" "$home.part"
    from_debian node-postgres-source node-postgres || return
    mkdir "$home.part"
    mv "$home-source/packages/pg" "$home.part"
    rm -rf "$home-source"
    # shellcheck disable=SC2016 # JavaScript
    node -e 'const { dependencies: of, devDependencies: its } = require(process.argv[1])
        for (const name of Object.keys(of)) console.log(`${name}@${of[name]}`)
        for (const name of ["async", "bluebird", "co", "pg-copy-streams"]) console.log(`${name}@${its[name]}`)' "$home.part/pg/package.json" |
        xargs npm install --silent --no-audit --no-fund --prefix "$home.part" >/dev/null ||
        { reason='npm could not install what it needs'; return 1; }
    mv "$home.part" "$home"
}

# run_suite NAME PORT DATABASE OUTCOMES [TEST...]: all of it, or these tests. How each ended goes to OUTCOMES, a line each; failing
# tests are what is compared, and no error.
run_suite() {
    local name=$1 port=$2 database=$3 outcomes=$4
    shift 4
    case $name in
        django) run_django "$@" ;;
        node-postgres) run_node_postgres "$@" ;;
        *) run_pytest "$@" ;;
    esac
}

run_pytest() (
    local arguments=(-p pytest_outcomes -p no:cacheprovider -q --continue-on-collection-errors)
    case $name in
        sqlalchemy-*)
            psql -XAtq -p "$direct" -d "$database" -c 'CREATE SCHEMA test_schema; CREATE EXTENSION hstore; CREATE EXTENSION citext'
            arguments+=(--dburi "postgresql+${name#*-}://$PGUSER:$PGPASSWORD@127.0.0.1:$port/$database")
            [ $# -gt 0 ] || set -- test/dialect/postgresql test/dialect/test_suite.py
            cd "$HOME_DIR/sqlalchemy" || exit
            ;;
        psycopg)
            arguments+=(--test-dsn "host=127.0.0.1 port=$port dbname=$database" -m 'not slow and not timing')
            [ $# -gt 0 ] || set -- tests
            cd "$HOME_DIR/psycopg" || exit
            ;;
        *)
            [ $# -gt 0 ] || set -- tests
            cd "$HOME_DIR/$name" || exit
            # The package is the built one, not the source beside its tests.
            rm -rf "$name"
            ;;
    esac
    PGHOST=127.0.0.1 PGPORT=$port PGDATABASE=$database PSYCOPG2_TESTDB=$database PYTHONPATH="$REPOSITORY/scripts/ci" \
        PYTHONDONTWRITEBYTECODE=1 TRUNKLINE_OUTCOMES="$outcomes" \
        timeout -k 10 "$SUITE_SECONDS_MAX" "$HOME_DIR/venv/bin/python" -m pytest "${arguments[@]}" "$@" || true
)

# Its tests have two databases, `default` and `other`.
run_django() (
    [ $# -gt 0 ] || set -- "${DJANGO_TESTS[@]}"
    psql -XAtq -p "$direct" -c "DROP DATABASE IF EXISTS ${database}_other WITH (FORCE)" -c "CREATE DATABASE ${database}_other"
    cd "$HOME_DIR/django/tests" || exit
    PGHOST=127.0.0.1 PGPORT=$port PGDATABASE=$database PYTHONPATH="$REPOSITORY/scripts/ci" PYTHONDONTWRITEBYTECODE=1 \
        TRUNKLINE_OUTCOMES="$outcomes" timeout -k 10 "$SUITE_SECONDS_MAX" "$HOME_DIR/venv/bin/python" runtests.py \
        --settings=django_settings --keepdb --noinput --parallel=1 "$@" || true
)

# Each file is a program that ends with an error at its first test that fails; one that passes may have any number of tests, or none.
# All read a table that another program has made.
run_node_postgres() (
    local file log status
    local -a files
    cd "$HOME_DIR/node-postgres/pg" || exit
    export PGHOST=127.0.0.1 PGPORT=$port PGDATABASE=$database PGTESTNOSSL=1 SCRAM_TEST_PGUSER=$PGUSER SCRAM_TEST_PGPASSWORD=$PGPASSWORD
    node script/create-test-tables.js postgres:// || die "node-postgres' table could not be made"
    if [ $# -gt 0 ]; then
        mapfile -t files < <(printf '%s\n' "${@%%::*}" | LC_ALL=C sort -u)
    else
        mapfile -t files < <(find test/integration -name '*-tests.js' | LC_ALL=C sort)
    fi
    log=$(mktemp)
    for file in "${files[@]}"; do
        [ "$port" = "$direct" ] || replayed
        status=passed
        timeout -k 5 "$NODE_SECONDS_MAX" node "$file" postgres:// >"$log" 2>&1 || status=failed
        cat "$log"
        printf '%s\t%s\n' "$status" "$file" >>"$outcomes"
        sed -nE "s|^  (.*) ✔\$|passed\t$file::\1|p" "$log" >>"$outcomes"
    done
    rm -f "$log"
)
