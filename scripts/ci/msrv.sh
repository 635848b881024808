#!/usr/bin/env bash
# Builds everything with the oldest Rust that Cargo.toml declares (rust-version), where rustup has it or may get it. Where
# not, clippy's incompatible_msrv has still held what we call of the standard library against that version.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

oldest=$(sed -nE 's/^rust-version = "([0-9.]+)"$/\1/p' Cargo.toml)
if ! timeout 300 cargo "+$oldest" --version >/dev/null 2>&1; then
    printf '    oldest Rust: SKIPPED, no Rust %s here (rustup toolchain install --profile minimal %s)\n' "$oldest" "$oldest"
    exit 0
fi
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/oldest
cargo "+$oldest" check --quiet --locked --workspace --all-targets
printf '    %s builds it\n' "$(rustc "+$oldest" --version)"
