#!/usr/bin/env bash
# Follows README.md as a newcomer does, in a bare Debian: from its first line to a replica killed behind a proxy of the
# user's own servers; then makes the usual mistakes and looks at what the program says of each.
#   run.sh [bookworm] [trixie]   both when none is named
# Every command comes from README.md and is run as it stands there, but for what `substituted` names. The server that a
# Rust toolchain is downloaded from is left out: a stable one of this machine is mounted in its place. Needs root,
# debootstrap and Debian's archive; crates come from crates.io where this machine has not downloaded them yet. Keeps the
# bare trees, downloads and objects below target/newcomer, so that the second run takes a few minutes.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit

source tests/newcomer/root.sh

needed() {
    local name
    [ "$(id -u)" -eq 0 ] || die "only root can make a Debian root" "run it as root."
    for name in debootstrap unshare nsenter ip script; do
        command -v "$name" >/dev/null || die "no $name here" "apt-get install debootstrap util-linux iproute2 bsdutils."
    done
    host_cargo=${CARGO_HOME:-$HOME/.cargo}
    host_toolchain=$(find "${RUSTUP_HOME:-$HOME/.rustup}/toolchains" -maxdepth 1 -name 'stable-*' -print -quit 2>/dev/null)
    host_toolchain=$(readlink -e "$host_toolchain") ||
        die "no stable Rust toolchain of rustup's here" "run: rustup toolchain install stable"
}

# followed SUITE: in a mount and a PID namespace: whatever ends them, their mounts and processes end, too.
followed() {
    printf '\n==> %s\n' "$1"
    exec 9>"target/newcomer/$1/lock"
    flock -n 9 || die "another run is in target/newcomer/$1" "wait for its end."
    unpacked=target/newcomer/$1/root
    rm -f "target/newcomer/$1/counts"
    unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
        tests/newcomer/journey.sh "$1" "$host_toolchain" "$host_cargo" </dev/null 9>&- &
    running=$!
    wait "$running"
    running=''
    clean_up
    exec 9>&-
}

# Nothing is mounted below the root outside of that namespace, and nothing of it runs any more.
clean_up() {
    [ -z "$unpacked" ] || rm -rf --one-file-system "$unpacked"
    unpacked=''
}

interrupted() {
    trap '' INT TERM
    [ -z "$running" ] || { kill "$running" && wait "$running"; } 2>/dev/null
    exit 130
}
running='' unpacked=''
trap clean_up EXIT
trap interrupted INT TERM

needed
passed=0 failed=0
[ $# -gt 0 ] || set -- bookworm trixie
for suite in "$@"; do
    case "$suite" in bookworm | trixie) ;; *) die "run.sh [bookworm] [trixie]" ;; esac
done
for suite in "$@"; do
    mkdir -p "target/newcomer/$suite"
    counts=target/newcomer/$suite/counts
    followed "$suite"
    # What ended early is a failure, too.
    if ! read -r one two <"$counts"; then one=0 two=1; fi 2>/dev/null
    passed=$((passed + one)) failed=$((failed + two))
done
printf '\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
