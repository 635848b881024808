#!/usr/bin/env bash
# PostgreSQL's own test programs through Trunkline, in both modes of authentication, each beside a run without it.
#   foreign.sh        the isolation schedule of Debian's server, and libpq_pipeline of the second one
# Both look their sessions up in the server by the process id they were told. The tests are downloaded as Debian source
# packages into target/foreign; nothing is installed but a compiler where there is none.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

HOME_DIR=$PWD/target/foreign
TRUNKLINE=${TRUNKLINE_BIN:-${CARGO_TARGET_DIR:-$PWD/target}/quick/trunkline}
# The release whose archive has the source of the second server.
SECOND_SUITE=sid
SECOND=18

say() { printf '    %s\n' "$*"; }

die() {
    printf 'error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf 'HINT: %s\n' "$2" >&2
    exit 1
}

# fetch MAJOR SUITE: unpacks the source of postgresql-MAJOR of a Debian suite to target/foreign/MAJOR.
fetch() {
    local major=$1 suite=$2 apt
    [ ! -d "$HOME_DIR/$major" ] || return 0
    say "downloading the source of PostgreSQL $major from Debian $suite"
    apt=$(mktemp -d)
    mkdir -p "$apt/lists/partial" "$HOME_DIR"
    printf 'deb-src http://deb.debian.org/debian %s main\n' "$suite" >"$apt/sources.list"
    (
        cd "$apt"
        set -- -qq -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$apt/lists"
        apt-get "$@" update
        apt-get "$@" source --download-only "postgresql-$major"
        mkdir unpacked
        tar -xf postgresql-"$major"_*.orig.tar.* -C unpacked --strip-components 1
    ) >"$HOME_DIR/fetch.log" 2>&1 || die "no source of PostgreSQL $major" "see $HOME_DIR/fetch.log."
    mv "$apt/unpacked" "$HOME_DIR/$major"
    rm -rf "$apt"
}

# build: libpq_pipeline of the second server's version, with that server's libpq.
build() {
    local pg=$PWD/target/pg/$SECOND
    [ ! -x "$HOME_DIR/libpq_pipeline" ] || return 0
    command -v cc >/dev/null || die "no C compiler here" "install gcc."
    cc -O1 -w -I"$pg/include/internal" -I"$pg/include/server" -I"$pg/include" -o "$HOME_DIR/libpq_pipeline" \
        "$HOME_DIR/$SECOND/src/test/modules/libpq_pipeline/libpq_pipeline.c" \
        "$pg"/lib/lib{pgfeutils,pgcommon,pgport}.a -L"$pg/lib" -Wl,-rpath,"$pg/lib" -lpq -lm
}

# Everything below runs within the demo, which says where its listeners and its primary are.
port_of() {
    case $1 in
        direct) sed -n 4p "$TRUNKLINE_DEMO_DIR/primary/postmaster.pid" ;;
        *) printf '%s' "$TRUNKLINE_WRITES_PORT" ;;
    esac
}

isolation() {
    local out=$HOME_DIR/isolation-$1 major=$2
    rm -rf "$out"
    mkdir -p "$out"
    cd "$HOME_DIR/$major/src/test/isolation"
    PGPASSWORD=$PGPASSWORD "/usr/lib/postgresql/$major/lib/pgxs/src/test/isolation/pg_isolation_regress" \
        --host=127.0.0.1 --port="$(port_of "$1")" --user="$PGUSER" --dbname=isolation_regression --inputdir=. \
        --outputdir="$out" --bindir="/usr/lib/postgresql/$major/bin" --schedule=isolation_schedule >"$out/log" 2>&1 ||
        { grep -a FAILED "$out/log" >&2; die "the isolation schedule failed ($1)" "see $out."; }
    say "isolation schedule, $1: $(grep -ac '^test .* ok ' "$out/log") tests passed"
}

pipeline() {
    local test version passed=0
    for test in $("$HOME_DIR/libpq_pipeline" tests); do
        for version in 3.0 latest; do
            timeout 120 "$HOME_DIR/libpq_pipeline" "$test" "host=127.0.0.1 port=$(port_of "$1") max_protocol_version=$version" \
                >"$HOME_DIR/pipeline.log" 2>&1 ||
                { cat "$HOME_DIR/pipeline.log" >&2; die "libpq_pipeline $test failed ($1, protocol $version)"; }
            passed=$((passed + 1))
        done
    done
    say "libpq_pipeline, $1: $passed tests passed"
}

# both SUITE PG_BIN ARGUMENT...: the suite without Trunkline, then through it in each mode.
both() {
    local suite=$1 bin=$2 mode
    shift 2
    for mode in direct relay verify; do
        "$TRUNKLINE" demo --pg-bin "$bin" --auth "${mode/direct/relay}" \
            --exec "$PWD/scripts/ci/foreign.sh $suite $mode $*" 2>"$HOME_DIR/demo.log" || die "$suite failed" "see $HOME_DIR/demo.log too."
    done
}

case "${1:-}" in
    isolation) isolation "$2" "$3" ;;
    pipeline) pipeline "$2" ;;
    "")
        # shellcheck disable=SC1091 # it is on every Debian
        . /etc/os-release
        # shellcheck disable=SC2012 # version directories, never odd names
        first=$(ls /usr/lib/postgresql | sort -V | tail -n 1)
        fetch "$first" "$VERSION_CODENAME"
        fetch "$SECOND" "$SECOND_SUITE"
        build
        both isolation "/usr/lib/postgresql/$first/bin" "$first"
        both pipeline "$PWD/target/pg/$SECOND/bin"
        ;;
    *) die "foreign.sh" ;;
esac
