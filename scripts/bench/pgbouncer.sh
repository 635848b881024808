#!/usr/bin/env bash
# The newest PgBouncer that Debian has, to be compared with: from its testing release, unpacked with the libraries it
# wants below the target directory, where nothing of this machine notices. Prints the program, which runs by its own
# dynamic linker. What is there already stays; remove its directory to have a newer one.
#   pgbouncer.sh [DIRECTORY]    where it is unpacked, by default target/tools/pgbouncer-SUITE
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

SUITE=forky
MIRROR=http://deb.debian.org/debian
KEYS=/usr/share/keyrings/debian-archive-keyring.gpg
# Seconds for all of apt's downloads: a network without a mirror must not hold up a bench.
FETCH_MAX=180

die() {
    printf 'error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf 'HINT: %s\n' "$2" >&2
    exit 1
}

# fetch DIRECTORY: the packages of the suite, by apt with lists and a status of their own, so that it takes nothing of
# what is installed for given.
fetch() {
    local scratch=$1 wanted package
    mkdir -p "$scratch/lists/partial" "$scratch/cache/archives/partial" "$scratch/packages" "$scratch/root"
    : >"$scratch/status"
    printf 'deb [signed-by=%s] %s %s main\n' "$KEYS" "$MIRROR" "$SUITE" >"$scratch/sources.list"
    set -- -qq -o APT::Sandbox::User=root -o Debug::NoLocking=1 -o Acquire::Retries=1 -o Acquire::http::Timeout=20 \
        -o Dir::Etc::SourceList="$scratch/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State::Lists="$scratch/lists" -o Dir::State::Status="$scratch/status" -o Dir::Cache="$scratch/cache"
    timeout "$FETCH_MAX" apt-get "$@" update || return
    # Its libraries and theirs; what else it depends on makes a service of it.
    read -ra wanted <<<"$(apt-cache "$@" show --no-all-versions pgbouncer | sed -n 's/^Depends: //p' | tr ',' '\n' |
        sed -nE 's/^ *(lib[^ ]*).*/\1/p' | tr '\n' ' ')"
    read -ra wanted <<<"$(apt-get "$@" -s install --no-install-recommends "${wanted[@]}" |
        sed -nE 's/^Inst (z?lib[^ ]*).*/\1/p' | tr '\n' ' ')"
    (cd "$scratch/packages" && timeout "$FETCH_MAX" apt-get "$@" download pgbouncer "${wanted[@]}") || return
    for package in "$scratch"/packages/*.deb; do
        dpkg-deb -x "$package" "$scratch/root" || return
    done
}

# launcher ROOT: the script that runs it, wherever its directory is moved to.
launcher() {
    local linker libraries
    linker=$(cd "$1" && find . -name 'ld-linux*.so.*' | sort | head -n 1)
    libraries=$(cd "$1" && find . -name 'libc.so.6' -printf '%h\n' | head -n 1)
    [ -n "$linker" ] && [ -n "$libraries" ] || return 1
    cat >"$1/run" <<EOT
#!/bin/sh
here=\$(dirname "\$(readlink -f "\$0")")
exec "\$here/$linker" --library-path "\$here/$libraries" "\$here/usr/sbin/pgbouncer" "\$@"
EOT
    chmod 755 "$1/run"
}

directory=${1:-${CARGO_TARGET_DIR:-target}/tools/pgbouncer-$SUITE}
if [ ! -x "$directory/run" ]; then
    { command -v apt-get >/dev/null && [ -e "$KEYS" ]; } || die "the newest PgBouncer is Debian's, and this is no Debian"
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    fetch "$scratch" >"$scratch/log" 2>&1 ||
        die "no PgBouncer of Debian $SUITE" "$(tail -n 1 "$scratch/log")"
    { launcher "$scratch/root" && "$scratch/root/run" -V >/dev/null; } || die "PgBouncer of Debian $SUITE does not run here"
    mkdir -p "$(dirname "$directory")"
    [ ! -e "$directory" ] || [ -e "$directory/usr/sbin/pgbouncer" ] || die "$directory is something else than PgBouncer"
    rm -rf "$directory"
    # Readable by whom it becomes.
    chmod -R a+rX "$scratch/root"
    mv "$scratch/root" "$directory"
fi
realpath "$directory/run"
