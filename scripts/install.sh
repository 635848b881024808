#!/usr/bin/env bash
# `make install` and `make uninstall`. In the environment: PREFIX, DESTDIR, SYSCONFDIR (/etc for a system's PREFIX),
# TRUNKLINE_BIN to install a binary that was built already.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PREFIX=${PREFIX:-/usr/local}
case "$PREFIX" in
    /usr | /usr/local) SYSCONFDIR=${SYSCONFDIR:-/etc} ;;
    *) SYSCONFDIR=${SYSCONFDIR:-$PREFIX/etc} ;;
esac
root=${DESTDIR:-}
program=$PREFIX/bin/trunkline
# Where debuggers and the binary's own backtraces look for it.
debug=$PREFIX/bin/.debug/trunkline.debug
bash_completion=$PREFIX/share/bash-completion/completions/trunkline
zsh_completion=$PREFIX/share/zsh/site-functions/_trunkline
fish_completion=$PREFIX/share/fish/vendor_completions.d/trunkline.fish
unit=$PREFIX/lib/systemd/system/trunkline.service
sample=$PREFIX/share/doc/trunkline/trunkline.toml
config=$SYSCONFDIR/trunkline/trunkline.toml

die() {
    printf 'error: %s\nHINT: %s\n' "$1" "$2" >&2
    exit 1
}

# The release binary as cargo has it now; one that was built before where there is no cargo, as below sudo.
built() {
    local target=${CARGO_TARGET_DIR:-target}/release/trunkline
    if [ -n "${TRUNKLINE_BIN:-}" ]; then
        printf '%s' "$TRUNKLINE_BIN"
        return
    fi
    if command -v cargo >/dev/null; then
        cargo build --release --locked -p trunkline >&2 || exit 1
    elif [ ! -x "$target" ]; then
        die "no cargo on the PATH, and no $target" \
            "run \"cargo build --release --locked -p trunkline\" as the user who has Rust, then install again."
    fi
    printf '%s' "$target"
}

# put MODE FILE: standard input becomes FILE.
put() {
    install -D -m "$1" /dev/stdin "$root$2" || die "could not write $root$2" "become root, or choose another PREFIX."
    printf '    %s\n' "$root$2"
}

put_program() {
    local binary=$1 scratch
    if ! command -v objcopy >/dev/null; then
        put 755 "$program" <"$binary"
        printf '    with its debug information: there is no objcopy (binutils) here to take it out\n'
        return
    fi
    scratch=$(mktemp -d)
    objcopy --only-keep-debug --compress-debug-sections "$binary" "$scratch/trunkline.debug"
    # Function names stay, for backtraces; lines come from the file beside it.
    (cd "$scratch" && objcopy --strip-debug --add-gnu-debuglink=trunkline.debug "$binary" trunkline)
    put 755 "$program" <"$scratch/trunkline"
    put 644 "$debug" <"$scratch/trunkline.debug"
    rm -rf "$scratch"
}

install_all() {
    local binary
    binary=$(built)
    binary=$(readlink -f "$binary")
    put_program "$binary"
    "$binary" completions bash | put 644 "$bash_completion"
    "$binary" completions zsh | put 644 "$zsh_completion"
    "$binary" completions fish | put 644 "$fish_completion"
    sed -e "s#/usr/bin/trunkline#$program#g" -e "s#/etc/trunkline/#$SYSCONFDIR/trunkline/#g" deploy/systemd/trunkline.service |
        put 644 "$unit"
    "$binary" config default | put 644 "$sample"
    if [ -e "$root$config" ]; then
        printf '    %s stays as it is\n' "$root$config"
    else
        "$binary" config default | put 644 "$config"
    fi
    [ -n "$root" ] || printf '%s\n' "Next: name your servers in $config, then" \
        "    systemctl daemon-reload && systemctl enable --now trunkline"
}

uninstall_all() {
    local file
    for file in "$program" "$debug" "$bash_completion" "$zsh_completion" "$fish_completion" "$unit" "$sample"; do
        [ -e "$root$file" ] || continue
        rm -f "$root$file" || die "could not remove $root$file" "become root."
        printf '    removed %s\n' "$root$file"
    done
    rmdir "$root$PREFIX/bin/.debug" "$root$PREFIX/share/doc/trunkline" 2>/dev/null || true
    [ ! -e "$root$config" ] || printf '    %s stays\n' "$root$config"
}

case "${1:-}" in
    install) install_all ;;
    uninstall) uninstall_all ;;
    *) die "install.sh install|uninstall" "run \"make install\"." ;;
esac
