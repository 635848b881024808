#!/usr/bin/env bash
# All checks and suites: `make test`, and so CI. Works on a bare Debian bookworm or trixie that has git, make and a Rust
# toolchain (trixie: it is installed); installs the rest when root, and otherwise says what to install.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit
source scripts/ci/steps.sh
source scripts/ci/suites.sh
source scripts/ci/lanes.sh

mkdir -p "$logs"
rm -f "$logs"/*.log "$logs"/*.txt
export CARGO_TERM_COLOR=never
# Compiling takes minutes: a person sees which crate, a log does not need it.
quiet=--quiet
[ ! -t 1 ] || quiet=
# A fresh clone compiles everything once: incremental data would be written and never read.
[ "${CI:-}" != true ] || export CARGO_INCREMENTAL=0
# Clusters and sockets by the dozen.
ulimit -n "$(ulimit -Hn)" 2>/dev/null
# The binary that the suites start; the step "build of the binary" makes it.
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
TRUNKLINE_BIN=$(cd "$target" && pwd)/quick/trunkline
export TRUNKLINE_BIN

# all_of COUNT SUITE...: runs the suites, COUNT at one time; fails when one does.
all_of() {
    local failed_suites=()
    # Those tests end at once without it, as if they had passed.
    ! one_of behind_haproxy "$*" || command -v haproxy >/dev/null ||
        printf '    behind haproxy: SKIPPED, no haproxy here (apt-get install haproxy)\n'
    ! one_of slow_patroni "$*" || { [ "$(id -u)" -eq 0 ] && unshare --net --pid --fork true 2>/dev/null; } ||
        printf '    patroni: SKIPPED, only root makes network namespaces, and not everywhere\n'
    in_lanes "$@"
    [ "${#failed_suites[@]}" -eq 0 ] || { printf 'failed suites: %s\n' "${failed_suites[*]}"; return 1; }
}

# What a query may cost; two of these tests start the binary.
budgets() {
    local name executable
    for name in trunkline_bench allocations pressure syscalls; do
        executable=$(executable_of benches "$name") || { printf 'no executable of %s was built\n' "$name"; return 1; }
        printf '\n     Budget %s\n' "$name"
        (cd benches && "$executable") || { printf 'error: test failed, to rerun: cargo test -p trunkline-bench\n'; return 1; }
    done
}

# Unoptimised, each takes ten times as long; to optimise it and all that it stands on takes longer still.
schedules() {
    TRUNKLINE_SIMULATION_SCHEDULES=20000 "$(executable_of crates/proxy trunkline_proxy)" relay::simulation
}

step "Rust" scripts/ci/tools.sh rust
# A plain user is told at once what is missing; for root it is downloaded while others compile. Of what may install packages
# one runs at a time: apt-get wants to be alone.
tools=step
[ "$(id -u)" -ne 0 ] || tools=beside
"$tools" "tools" scripts/ci/tools.sh all
step "format" cargo fmt --all --check
step "clippy" cargo clippy --workspace --all-targets ${quiet:+$quiet} -- -D warnings
[ "$tools" = step ] || joined "tools"
beside "deployment files" deploy/check.sh --install
step "clippy without the demo" cargo clippy -p trunkline --no-default-features --quiet -- -D warnings
step "dependencies" scripts/ci/deny.sh
step "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet
step "build" build_tests ${quiet:+$quiet}
joined "deployment files"
step "oldest Rust" scripts/ci/msrv.sh
# Tests mostly wait: meanwhile the processors are free for what no time depends on.
beside "build of the binary" idle cargo build --quiet --profile quick -p trunkline
step "unit and simulation tests" cargo test --workspace --exclude trunkline-tests --exclude trunkline-bench --no-fail-fast
joined "build of the binary"
step "budgets" budgets
# shellcheck disable=SC2086 # lists of words
step "suites that are alone" all_of 1 trunkline_tests $timed $loaded
beside "20000 schedules of the relay" idle schedules
beside "instruction ceilings" idle scripts/ci/ceilings.sh
beside "fuzz targets" idle scripts/ci/fuzz.sh 20 --build
# shellcheck disable=SC2046 # a list of words
step "suites on real clusters" all_of 3 $(suites)
step "compose" scripts/ci/compose.sh --engine
joined "20000 schedules of the relay"
joined "instruction ceilings"
joined "fuzz targets"
step "fuzz smoke" scripts/ci/fuzz.sh 20
finish
