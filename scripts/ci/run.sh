#!/usr/bin/env bash
# All checks and suites: `make test`, and so CI. Works on a bare Debian bookworm or trixie that has git, make and a Rust
# toolchain (trixie: it is installed); installs the rest when root, and otherwise says what to install.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit
source scripts/ci/steps.sh
source scripts/ci/suites.sh

mkdir -p "$logs"
rm -f "$logs"/*.log
export CARGO_TERM_COLOR=never
# Compiling takes minutes: a person sees which crate, a log does not need it.
quiet=--quiet
[ ! -t 1 ] || quiet=
# A fresh clone compiles everything once: incremental data would be written and never read.
[ "${CI:-}" != true ] || export CARGO_INCREMENTAL=0
# Clusters and sockets by the dozen.
ulimit -n "$(ulimit -Hn)" 2>/dev/null
# The binary that the suites start; the step "build" makes it.
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
TRUNKLINE_BIN=$(cd "$target" && pwd)/quick/trunkline
export TRUNKLINE_BIN

all_suites() {
    local status=0 name slow
    # Those tests end at once without it, as if they had passed.
    command -v haproxy >/dev/null || printf '    behind haproxy: SKIPPED, no haproxy here (apt-get install haproxy)\n'
    { [ "$(id -u)" -eq 0 ] && unshare --net --pid --fork true 2>/dev/null; } ||
        printf '    patroni: SKIPPED, only root makes network namespaces, and not everywhere\n'
    cargo test -p trunkline-tests --lib || status=1
    for name in $timed; do
        suite "$name" || status=1
    done
    # Those that need minutes mostly wait: they run beside the others.
    cargo test --no-fail-fast -p trunkline-tests --test 'slow_*' -- --test-threads 4 >"$logs/slow.txt" 2>&1 &
    slow=$!
    for name in $(suites); do
        suite "$name" || status=1
    done
    wait "$slow" || status=1
    cat "$logs/slow.txt"
    for name in $loaded; do
        suite "$name" 2 || status=1
    done
    return "$status"
}

build() {
    cargo build ${quiet:+$quiet} --profile quick -p trunkline &&
        cargo test ${quiet:+$quiet} --workspace --no-run
}

step "tools" scripts/ci/tools.sh all
step "format" cargo fmt --all --check
step "clippy" cargo clippy --workspace --all-targets ${quiet:+$quiet} -- -D warnings
step "clippy without the demo" cargo clippy -p trunkline --no-default-features --quiet -- -D warnings
step "dependencies" scripts/ci/deny.sh
step "deployment files" deploy/check.sh --install
step "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet
step "build" build
step "oldest Rust" scripts/ci/msrv.sh
step "unit and simulation tests" cargo test --workspace --exclude trunkline-tests --no-fail-fast
step "20000 schedules of the relay" cargo test --profile quick -p trunkline-proxy --lib relay::simulation
step "suites on real clusters" all_suites
step "compose" scripts/ci/compose.sh --engine
step "instruction ceilings" scripts/ci/ceilings.sh
step "fuzz smoke" scripts/ci/fuzz.sh 20
finish
