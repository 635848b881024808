#!/usr/bin/env bash
# fuzz.sh SECONDS: builds every target of fuzz/fuzz_targets and runs each for SECONDS on its corpus, two at a time.
# fuzz.sh SECONDS --build: builds what that would run.
# Needs a nightly toolchain and a C++ compiler (libFuzzer); says so and ends well where there is no nightly.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
seconds=${1:?seconds for each target}

skip() {
    printf '    fuzz smoke: SKIPPED, %s\n' "$1"
    exit 0
}

ls fuzz/fuzz_targets/*.rs >/dev/null 2>&1 || skip "there are no targets in fuzz/fuzz_targets"
cargo +nightly --version >/dev/null 2>&1 || skip "no nightly toolchain here (rustup toolchain install nightly)"
if ! command -v c++ >/dev/null; then
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then skip "no C++ compiler here (apt-get install g++)"; fi
    DEBIAN_FRONTEND=noninteractive apt-get update -qq </dev/null >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends g++ </dev/null >/dev/null
fi

triple=$(rustc +nightly -vV | sed -n 's/^host: //p')
# The flags of cargo-fuzz, which then need not be installed: coverage for libFuzzer, and the address sanitizer.
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Zsanitizer=address -Cdebug-assertions=on -Ccodegen-units=4"
target_dir=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
# A smoke run is short: it would not win back what full optimization costs to build.
[ "$seconds" -gt 30 ] || export CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off
CARGO_TARGET_DIR=$target_dir cargo +nightly build --quiet --release --manifest-path fuzz/Cargo.toml --target "$triple" --bins
[ "${2:-}" != --build ] || exit 0

# run_target NAME: prints one line; on a finding also libFuzzer's report.
run_target() {
    local name=$1 corpus=fuzz/corpus/$1 log
    log=$(mktemp)
    # New inputs go to the first directory, which is scratch; the committed corpus is only read.
    mkdir -p "$target_dir/corpus/$name" "$target_dir/artifacts/$name" "$corpus"
    if "$target_dir/$triple/release/$name" "$target_dir/corpus/$name" "$corpus" -max_total_time="$seconds" \
        -timeout=10 -rss_limit_mb=2048 -artifact_prefix="$target_dir/artifacts/$name/" >"$log" 2>&1; then
        printf 'test fuzz %s ... ok (%s)\n' "$name" "$(grep -oE 'Done [0-9]+ runs' "$log" | tail -n 1)"
        rm -f "$log"
    else
        printf 'test fuzz %s ... FAILED\n' "$name"
        tail -n 60 "$log"
        return 1
    fi
}
export -f run_target
export seconds target_dir triple

results=$(mktemp)
find fuzz/fuzz_targets -maxdepth 1 -name '*.rs' -printf '%f\n' | sed 's/\.rs$//' | sort |
    xargs -P 2 -I{} bash -c 'run_target {}' | tee "$results" || true
passed=$(grep -c '^test fuzz .* \.\.\. ok' "$results" || true)
failed=$(grep -c '^test fuzz .* \.\.\. FAILED' "$results" || true)
printf 'test result: %s. %d passed; %d failed; 0 ignored\n' "$([ "$failed" -eq 0 ] && echo ok || echo FAILED)" "$passed" "$failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
