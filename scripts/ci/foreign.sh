#!/usr/bin/env bash
# PostgreSQL's own test programs through Trunkline, each beside a run without it: in both modes of authentication, in
# transaction mode on a pool of POOL_SIZE server connections, and on a split port before two standbys, in both modes of pooling.
#   foreign.sh                         the isolation schedule of Debian's server, and libpq_pipeline and the regression suite of the second one
#   foreign.sh only SUITE [MODE...]    of them this one, in its modes or in some: isolation, pipeline, regress
# Both look their sessions up in the server by the process id they were told; in a pool isolation_in_pool.c does so by
# name. What differs there is in isolation_in_pool.txt, and nothing else may. The regression suite, which wants a server set
# up for it alone, is run in a pool only, and what it prints there is compared with what it prints directly: what may differ
# is in regress_in_pool.txt, and for a split port in regress_split.txt. The isolation schedule is not for a split port: its
# sessions look at what others have committed. The tests are downloaded as Debian source packages into target/foreign.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

source scripts/ci/pool.sh
source scripts/ci/debian_source.sh
REPOSITORY=$PWD
HOME_DIR=$PWD/target/foreign
TRUNKLINE=${TRUNKLINE_BIN:-${CARGO_TARGET_DIR:-$PWD/target}/quick/trunkline}
# The release whose archive has the source of the second server.
SECOND_SUITE=sid
SECOND=18
MODES='direct relay verify pooled'
PIPELINE_MODES="$MODES split split-session"
REGRESS_MODES='direct pooled split split-session'
POOL_SIZE=4
# For specifications with as many sessions or more: with the tester's own they would wait for a connection for ever.
CROWDED_SIZE=12
# Seconds until the tester gives up a step that neither ends nor waits for a lock.
STEP_SECONDS=60

say() { printf '    %s\n' "$*"; }

die() {
    printf 'error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf 'HINT: %s\n' "$2" >&2
    exit 1
}

# fetch MAJOR SUITE: unpacks the source of postgresql-MAJOR of a Debian suite to target/foreign/MAJOR.
fetch() {
    [ ! -d "$HOME_DIR/$1" ] || return 0
    say "downloading the source of PostgreSQL $1 from Debian $2"
    mkdir -p "$HOME_DIR"
    debian_source "postgresql-$1" "$2" "$HOME_DIR/$1" "$HOME_DIR/fetch.log" || die "no source of PostgreSQL $1" "see $HOME_DIR/fetch.log."
}

# debians_server: the version of Debian's server is `first`; its source is here, and what isolationtester needs in a pool.
debians_server() {
    # shellcheck disable=SC1091 # it is on every Debian
    . /etc/os-release
    # shellcheck disable=SC2012 # version directories, never odd names
    first=$(ls /usr/lib/postgresql | sort -V | tail -n 1)
    fetch "$first" "$VERSION_CODENAME"
    cc -Wall -Wextra -O1 -shared -fPIC -o "$HOME_DIR/isolation_in_pool.so" scripts/ci/isolation_in_pool.c -ldl
}

# second_server: the source of the second one is here, and libpq_pipeline of that version, with that server's libpq.
second_server() {
    local pg=$PWD/target/pg/$SECOND
    fetch "$SECOND" "$SECOND_SUITE"
    cc -O1 -w -shared -fPIC -I"$pg/include/internal" -I"$pg/include/server" -I"$pg/include" -o "$HOME_DIR/regress.so" \
        "$HOME_DIR/$SECOND/src/test/regress/regress.c"
    [ ! -x "$HOME_DIR/libpq_pipeline_in_pool" ] || return 0
    local source=$HOME_DIR/$SECOND/src/test/modules/libpq_pipeline/libpq_pipeline.c
    compile_pipeline "$source" "$HOME_DIR/libpq_pipeline"
    # Its test of cancel waits until the process it was told sleeps: in a pool it waits for any other.
    # shellcheck disable=SC2016 # the parameter of SQL
    sed 's/"pid = \$1 AND /"pid <> pg_backend_pid() AND $1 > 0 AND /' "$source" >"$HOME_DIR/libpq_pipeline_in_pool.c"
    compile_pipeline "$HOME_DIR/libpq_pipeline_in_pool.c" "$HOME_DIR/libpq_pipeline_in_pool"
}

# compile_pipeline SOURCE PROGRAM
compile_pipeline() {
    cc -O1 -w -I"$pg/include/internal" -I"$pg/include/server" -I"$pg/include" -o "$2" "$1" \
        "$pg"/lib/lib{pgfeutils,pgcommon,pgport}.a -L"$pg/lib" -Wl,-rpath,"$pg/lib" -lpq -lm
}

# Everything below runs within the demo, which says where its listeners and its primary are.
port_of() {
    case $1 in
        direct) demo_port primary ;;
        pooled | split | split-session) printf '%s' "$pool_port" ;;
        *) printf '%s' "$TRUNKLINE_WRITES_PORT" ;;
    esac
}

# pool_of MODE: starts what the mode needs, before the demo's servers.
pool_of() {
    case $1 in
        pooled) pool "$POOL_SIZE" ;;
        split) split transaction "$POOL_SIZE" ;;
        split-session) split session "$POOL_SIZE" ;;
    esac
}

isolation() {
    local mode=$1 major=$2 out failed passed
    cd "$HOME_DIR/$major/src/test/isolation"
    if [ "$mode" != pooled ]; then
        schedule "$mode" "$major" isolation_schedule
        [ -z "$failed" ] || die "the isolation schedule failed ($mode): $failed" "see $out."
        say "isolation schedule, $mode: $passed tests passed"
        return
    fi
    local crowded
    crowded=$(crowded)
    grep -vxF "$crowded" isolation_schedule >"$HOME_DIR/schedule"
    with_pool "$POOL_SIZE" pooled "$HOME_DIR/schedule"
    printf '%s\n' "$crowded" >"$HOME_DIR/schedule"
    with_pool "$CROWDED_SIZE" crowded "$HOME_DIR/schedule"
}

# crowded: lines of the schedule whose tests have POOL_SIZE sessions or more.
crowded() {
    local test
    sed -n 's/^test: //p' isolation_schedule | while read -r test; do
        [ "$(grep -c '^session' "specs/$test.spec")" -lt "$POOL_SIZE" ] || printf 'test: %s\n' "$test"
    done
}

# with_pool SIZE NAME SCHEDULE: the schedule in a pool of this size fails where isolation_in_pool.txt says so, and only there.
with_pool() {
    local failed expected passed
    pool "$1"
    LD_PRELOAD="$HOME_DIR/isolation_in_pool.so" PGISOLATIONTIMEOUT=$STEP_SECONDS schedule "$2" "$major" "$3"
    end_pool
    expected=$(grep -xF "$(sed -n 's/^test: //p' "$3")" "$REPOSITORY/scripts/ci/isolation_in_pool.txt" | sort || true)
    [ "$failed" = "$expected" ] ||
        { diff <(echo "$expected") <(echo "$failed") >&2; die "the isolation schedule differs otherwise than expected ($2)" "see $out."; }
    say "isolation schedule, $2, $1 server connections: $passed tests passed, $(grep -c . <<<"$failed" || true) differ as listed"
}

# schedule NAME MAJOR FILE: runs it, in `isolation` of the source. `passed` tests did, and `failed` are those that failed twice: of two
# sessions that speak at one moment, a busy machine may let either be the first. `out` is the directory of what they printed.
schedule() {
    out=$HOME_DIR/isolation-$1
    rm -rf "$out"
    mkdir -p "$out"
    isolation_regress "$2" "$3" log || true
    grep -aq '^test .* ok ' "$out/log" || die "the isolation schedule did not run ($1)" "see $out/log."
    failed=$(failed_of log)
    if [ -n "$failed" ]; then
        cp "$out/regression.diffs" "$out/first.diffs"
        awk '{ print "test: " $0 }' <<<"$failed" >"$out/again"
        isolation_regress "$2" "$out/again" log.again --use-existing || true
        grep -aq '^test ' "$out/log.again" || die "tests that failed did not run again ($1)" "see $out/log.again."
        failed=$(failed_of log.again)
    fi
    passed=$(($(grep -ac '^test .*\.\.\. ' "$out/log") - $(grep -c . <<<"$failed" || true)))
}

# failed_of LOG: names of tests, sorted.
failed_of() {
    sed -nE 's/^test ([^ ]+) +\.\.\. FAILED.*/\1/p' "$out/$1" | sort
}

# isolation_regress MAJOR FILE LOG [FLAG...]
isolation_regress() {
    PGPASSWORD=$PGPASSWORD "/usr/lib/postgresql/$1/lib/pgxs/src/test/isolation/pg_isolation_regress" \
        --host=127.0.0.1 --port="$(port_of "$mode")" --user="$PGUSER" --dbname=isolation_regression --inputdir=. \
        --outputdir="$out" --bindir="/usr/lib/postgresql/$1/bin" --schedule="$2" "${@:4}" >"$out/$3" 2>&1
}

pipeline() {
    local mode=$1 program=$HOME_DIR/libpq_pipeline test version passed=0
    case $mode in pooled | split) program+=_in_pool ;; esac
    pool_of "$mode"
    for test in $("$program" tests); do
        for version in 3.0 latest; do
            timeout 120 "$program" "$test" "host=127.0.0.1 port=$(port_of "$mode") max_protocol_version=$version" \
                >"$HOME_DIR/pipeline.log" 2>&1 ||
                { cat "$HOME_DIR/pipeline.log" >&2; die "libpq_pipeline $test failed ($mode, protocol $version)"; }
            passed=$((passed + 1))
        done
    done
    say "libpq_pipeline, $mode: $passed tests passed"
}

# regress MODE PG_BIN: in a directory that the server's user reaches. What each test prints is in target/foreign/regress-MODE.
regress() {
    local mode=$1 bin=$2 home=$TRUNKLINE_DEMO_DIR/regress out=$HOME_DIR/regress-$1 clients=$2 file
    rm -rf "$out"
    mkdir -p "$out"
    cp -r "$HOME_DIR/$SECOND/src/test/regress" "$home"
    cp "$HOME_DIR/regress.so" "$home"
    mkdir "$home/results"
    chmod -R a+rwX "$home"
    pool_of "$mode"
    cd "$home"
    case $mode in split*) patient_psql ;; esac
    # A test that makes something has a connection until its end: more tests at once would wait for one.
    PGPASSWORD=$PGPASSWORD "$bin/../lib/pgxs/src/test/regress/pg_regress" --host=127.0.0.1 --port="$(port_of "$mode")" \
        --user="$PGUSER" --dbname=regression --inputdir=. --expecteddir=. --outputdir=. --bindir="$clients" --dlpath="$home" \
        --schedule=parallel_schedule --max-connections=$((POOL_SIZE - 1)) >"$out/log" 2>&1 || true
    for file in results/*.out; do sed "s|$home|.|g" "$file" >"$out/${file##*/}"; done
    cp regression.diffs "$out" 2>/dev/null || true
    say "regression suite, $mode: $(grep -c '^ok ' "$out/log") tests passed, $(grep -c '^not ok ' "$out/log") would need a server of their own"
    case $mode in split*) reads_were_split ;; esac
    [ "$mode" = direct ] || regress_differs
}

# patient_psql: `clients` becomes a directory with a psql that begins when the standbys show what earlier sessions have written: each
# file of the suite stands on what others have made.
patient_psql() {
    mkdir "$home/bin"
    cat >"$home/bin/psql" <<EOT
#!/usr/bin/env bash
source "$REPOSITORY/scripts/ci/pool.sh"
PGDATABASE=postgres PGOPTIONS='' replayed || exit
exec "$bin/psql" "\$@"
EOT
    chmod +x "$home/bin/psql"
    clients=$home/bin
}

# reads_were_split: some have to be, though most of the suite's sessions make something that keeps them on the primary.
reads_were_split() {
    local reads
    reads=$(routed proven)
    say "regression suite, $mode: $reads of $(routed) requests that could go anywhere ran on standbys"
    [ "$reads" -gt 0 ] || die "no request ran on a standby"
}

# regress_differs: fails unless the tests that print something else so than directly are those listed.
regress_differs() {
    local file differing='' lists
    case $mode in
        pooled) lists=regress_in_pool.txt ;;
        split) lists='regress_in_pool.txt regress_split.txt' ;;
        split-session) lists=regress_split.txt ;;
    esac
    for file in "$HOME_DIR"/regress-direct/*.out; do
        cmp -s "$file" "$out/${file##*/}" || differing+=$(basename "$file" .out)$'\n'
    done
    # shellcheck disable=SC2086 # names
    diff <(cd "$REPOSITORY/scripts/ci" && cat $lists | grep -v '^#' | grep . | sort) <(printf '%s' "$differing" | sort) >&2 ||
        die "the regression suite differs otherwise than expected ($mode)" "see $HOME_DIR/regress-direct and $out."
    say "regression suite, $mode: $(printf '%s' "$differing" | grep -c .) tests differ as listed"
}

# in_modes "MODE..." SUITE PG_BIN ARGUMENT...: the suite in each mode: without Trunkline, then through it.
in_modes() {
    local modes=$1 suite=$2 bin=$3 mode auth
    shift 3
    for mode in $modes; do
        case $mode in direct) auth=relay ;; pooled | split*) auth=verify ;; *) auth=$mode ;; esac
        "$TRUNKLINE" demo --pg-bin "$bin" --auth "$auth" \
            --exec "$PWD/scripts/ci/foreign.sh $suite $mode $*" 2>"$HOME_DIR/demo.log" || die "$suite failed" "see $HOME_DIR/demo.log too."
    done
}

all() {
    only isolation
    only pipeline
    only regress
}

# only SUITE [MODE...]
only() {
    local suite=$1 modes first second=$PWD/target/pg/$SECOND/bin
    shift
    command -v cc >/dev/null || die "no C compiler here" "install gcc."
    case $suite in
        isolation)
            modes=${*:-$MODES}
            debians_server
            in_modes "$modes" isolation "/usr/lib/postgresql/$first/bin" "$first"
            ;;
        pipeline)
            modes=${*:-$PIPELINE_MODES}
            second_server
            in_modes "$modes" pipeline "$second"
            ;;
        regress)
            modes=${*:-$REGRESS_MODES}
            second_server
            in_modes "$modes" regress "$second" "$second"
            ;;
        *) die "no suite $suite" ;;
    esac
}

case "${1:-}" in
    isolation) isolation "$2" "$3" ;;
    pipeline) pipeline "$2" ;;
    regress) regress "$2" "$3" ;;
    "") all ;;
    only) shift; only "$@" ;;
    *) die "foreign.sh [only isolation|pipeline|regress [MODE...]]" ;;
esac
