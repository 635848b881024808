#!/bin/sh
# The release built in other ways, and what a query and a session then cost: instructions.sh on each. Minutes for every
# one; docs/decisions/build-profile.md says what came of it.
#
#   scripts/bench/profiles.sh [NAME...]   release units16 thin unwind o2 size v3 pgo; all of them unless named
#
# pgo needs `rustup component add llvm-tools`. Memory: `make bench BENCH_ARGS="--stage idle --binary NAME=PATH"`.
set -eu
cd "$(dirname "$0")/../.."
CARGO_TARGET_DIR=$(realpath "${CARGO_TARGET_DIR:-target}")
export CARGO_TARGET_DIR
kept=$CARGO_TARGET_DIR/profiles

built() { # NAME ASSIGNMENT...: kept beside the load and the server, which are built once
    mkdir -p "$kept/$1"
    name=$1
    shift
    env "$@" cargo build --quiet --release -p trunkline --bin trunkline
    cp "$CARGO_TARGET_DIR/release/trunkline" "$kept/$name/"
    ln -sf "$kept/fakepg" "$kept/pgload" "$kept/$name/"
}

counted() { # NAME
    for what in "proxy 1" "proxy 16" "connect 1"; do
        # shellcheck disable=SC2086 # a mode and its clients
        line=$(BIN_DIR=$kept/$1 scripts/bench/instructions.sh $what 2>/dev/null | grep ' instructions and ')
        echo "$1, $what: $line"
    done
}

# The instrumented binary writes its profile when it ends. Its load is the one that is then counted: the best case.
profile() {
    tools=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin
    rm -rf "$kept/profile"
    built instrumented RUSTFLAGS="-Cprofile-generate=$kept/profile/of-builds"
    LLVM_PROFILE_FILE=$kept/profile/%p.profraw
    export LLVM_PROFILE_FILE
    counted instrumented >/dev/null
    unset LLVM_PROFILE_FILE
    "$tools/llvm-profdata" merge -o "$kept/merged.profdata" "$kept"/profile/*.profraw
}

cargo build --quiet --release -p trunkline-bench --bins
mkdir -p "$kept"
cp "$CARGO_TARGET_DIR/release/fakepg" "$CARGO_TARGET_DIR/release/pgload" "$kept/"
[ $# -gt 0 ] || set -- release units16 thin unwind o2 size v3 pgo
for name in "$@"; do
    case $name in
        release) built release CARGO_PROFILE_RELEASE_DEBUG=line-tables-only ;;
        units16) built units16 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 ;;
        thin) built thin CARGO_PROFILE_RELEASE_LTO=thin ;;
        unwind) built unwind CARGO_PROFILE_RELEASE_PANIC=unwind ;;
        o2) built o2 CARGO_PROFILE_RELEASE_OPT_LEVEL=2 ;;
        size) built size CARGO_PROFILE_RELEASE_OPT_LEVEL=s ;;
        v3) built v3 RUSTFLAGS=-Ctarget-cpu=x86-64-v3 ;;
        pgo)
            profile
            built pgo RUSTFLAGS="-Cprofile-use=$kept/merged.profdata"
            ;;
        *) echo "no build is called $name" >&2; exit 2 ;;
    esac
    counted "$name"
done
