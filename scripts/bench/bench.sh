#!/bin/sh
# Builds what the side-by-side bench runs, and runs it: arguments are those of `python3 -m side_by_side`.
set -eu
cd "$(dirname "$0")/../.."
cargo build --quiet --release -p trunkline -p trunkline-bench --bins
CARGO_TARGET_DIR=$(realpath "${CARGO_TARGET_DIR:-target}")
export CARGO_TARGET_DIR
scripts/bench/pgbouncer.sh >/dev/null || printf '    PgBouncer: the one of this machine is compared, not the newest\n' >&2
cd benches
exec python3 -m side_by_side "$@"
