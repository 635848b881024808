#!/usr/bin/env bash
# Counts the user instructions of the scanner and of a query's journey through the session, and fails when one is above
# its ceiling (benches/instructions/main.rs). Installs Valgrind when root, and gungraun-runner below the target
# directory; says so and ends well where they cannot be had.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# What the ceilings were counted with, and percent that they are raised by for any other compiler.
COUNTED_WITH=1.95
OTHER_COMPILER=10

skip() {
    printf '    instruction counts: SKIPPED, %s\n' "$1"
    exit 0
}

[ "$(uname -m)" = x86_64 ] || skip "the ceilings are for x86_64, this is $(uname -m)"
if ! command -v valgrind >/dev/null; then
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then skip "no Valgrind here (apt-get install valgrind)"; fi
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends valgrind; } </dev/null >/dev/null 2>&1 ||
        skip "Valgrind cannot be installed"
fi

# It reads the messages of the library in the benchmark, and so must have the same version.
version=$(sed -n '/^name = "gungraun"$/{n;s/^version = "\(.*\)"/\1/p}' Cargo.lock)
tools=${CARGO_TARGET_DIR:-$PWD/target}/tools/gungraun-$version
if [ ! -x "$tools/bin/gungraun-runner" ]; then
    printf '    installing gungraun-runner %s\n' "$version"
    # Unoptimised, which takes half the time: it starts Valgrind and reads a few files. The builder's directory is a
    # scratch one that goes when it is done.
    env -u CARGO_TARGET_DIR CARGO_PROFILE_DEV_DEBUG=0 cargo install --quiet --locked --debug --no-track --root "$tools" \
        "gungraun-runner@$version" || skip "gungraun-runner $version cannot be installed"
fi
export GUNGRAUN_RUNNER=$tools/bin/gungraun-runner

rustc=$(rustc --version | sed -E 's/^rustc ([0-9]+\.[0-9]+).*/\1/')
if [ "$rustc" != "$COUNTED_WITH" ]; then
    printf '    rustc is %s: the ceilings, counted with %s, are raised by %d %%\n' "$rustc" "$COUNTED_WITH" "$OTHER_COMPILER"
    export TRUNKLINE_CEILING_HEAD_ROOM=$OTHER_COMPILER
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
cargo bench --quiet -p trunkline-instructions --bench instructions 2>&1 | tee "$log" || status=$?
sed -nE 's/^Gungraun result: (Ok|Regressed)\. ([0-9]+) without regressions; ([0-9]+) regressed;.*/\1 \2 \3/p' "$log" |
    while read -r verdict passed failed; do
        printf 'test result: %s. %d passed; %d failed; 0 ignored\n' "${verdict/#Ok/ok}" "$passed" "$failed"
    done
exit "$status"
