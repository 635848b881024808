# A bare Debian root, and commands in it. All but `say` and `die` is for a mount and PID namespace of its own, with which
# every mount and process ends. $suite, $kept, $root, $host_toolchain and $host_cargo are journey.sh's.
# shellcheck shell=bash
# shellcheck disable=SC2154

# Where the copy of the repository is in the root, and what is outside PATH on a bare machine.
SOURCE=/root/trunkline
MIRROR=${NEWCOMER_MIRROR:-http://deb.debian.org/debian}
TOOLCHAIN=/opt/rust
CA=/opt/ca.crt

network='' authority=() cargo_env=:

say() { printf '    %s\n' "$*"; }

die() {
    printf 'error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf 'HINT: %s\n' "$2" >&2
    exit 1
}

# mount_at SOURCE DIRECTORY [OPTION...]: a bind mount of a directory or file of the host below the root.
mount_at() {
    local from=$1 to=$root$2
    shift 2
    if [ -d "$from" ]; then mkdir -p "$to"; else mkdir -p "${to%/*}" && touch "$to"; fi
    mount --bind "$@" "$from" "$to"
}

# base_tree: the archive of the bare root, made once.
base_tree() {
    local scratch=$kept/base.part
    [ ! -f "$kept/base.tar" ] || return 0
    say "debootstrap --variant=minbase $suite"
    discard "$scratch"
    timeout 900 debootstrap --variant=minbase "$suite" "$scratch" "$MIRROR" >"$kept/debootstrap.log" 2>&1 ||
        die "debootstrap made no $suite" "read $kept/debootstrap.log."
    tar -C "$scratch" --numeric-owner -cf "$kept/base.tar.part" .
    mv "$kept/base.tar.part" "$kept/base.tar"
    discard "$scratch"
}

# unpack_root: a fresh root with the repository in it, as it stands here. Downloads and objects are kept outside of it.
unpack_root() {
    base_tree
    discard "$root"
    mkdir -p "$root$SOURCE" "$kept/apt" "$kept/target"
    tar -C "$root" --numeric-owner -xf "$kept/base.tar"
    git ls-files -z --cached --others --exclude-standard | tar -c --null --verbatim-files-from --files-from - --ignore-failed-read |
        tar -x --no-same-owner -C "$root$SOURCE"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs tmpfs "$root/dev/shm"
    mount_at "$kept/apt" /var/cache/apt/archives
    mount_at "$kept/target" "$SOURCE/target"
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    printf '127.0.0.1 localhost\n' >"$root/etc/hosts"
}

# give_toolchain: what rustup's installer would leave, its server apart: a toolchain of the host, ~/.cargo/bin and
# ~/.cargo/env. Crates that the host has downloaded are shared.
give_toolchain() {
    local name
    mount_at "$host_toolchain" "$TOOLCHAIN" -o ro
    mkdir -p "$host_cargo/registry" "$root/root/.cargo/bin"
    mount_at "$host_cargo/registry" /root/.cargo/registry
    for name in cargo rustc rustdoc rustfmt cargo-fmt cargo-clippy clippy-driver; do
        ln -sf "$TOOLCHAIN/bin/$name" "$root/root/.cargo/bin/$name"
    done
    # shellcheck disable=SC2016 # the user's shell expands it
    printf 'export PATH="$HOME/.cargo/bin:$PATH"\n' >"$root/root/.cargo/env"
    # A network with an authority of its own, such as a company's.
    [ -z "${SSL_CERT_FILE:-}" ] || { mount_at "$(readlink -f "$SSL_CERT_FILE")" "$CA" -o ro && authority=(CARGO_HTTP_CAINFO="$CA"); }
}

# make_network: a network of its own with the addresses that README.md names, and nothing else.
make_network() {
    unshare --net sleep infinity &
    network=/proc/$!/ns/net
    until [ "$(readlink "$network")" != "$(readlink /proc/self/ns/net)" ]; do kill -0 $!; done
    nsenter --net="$network" ip link set lo up
    for address in "$@"; do
        nsenter --net="$network" ip address add "$address/32" dev lo
    done
}

# line_for NETWORK SECONDS COMMAND [OPTION]: puts into $line what runs COMMAND in the root, in a shell of the user, in the
# clone, for SECONDS at most. NETWORK is online, the machine's own, for what is downloaded, or offline, that of
# make_network. OPTION is timeout's.
line_for() {
    local through=()
    # What README.md does not have is no command that succeeds.
    [ -n "$3" ] || exit 1
    [ "$1" = online ] || through=(nsenter --net="$network")
    # shellcheck disable=SC2016 # expanded by the shell in the root
    line=(env -i --default-signal=INT HOME=/root TERM=dumb LANG=C.UTF-8 CARGO_INCREMENTAL=0 "${authority[@]}"
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
        timeout --kill-after 10 ${4:+"$4"} "$2" "${through[@]}" chroot "$root" bash -c 'cd "$0" && eval "$1" && eval "$2"'
        "$SOURCE" "$cargo_env" "$3")
}

# inside NETWORK SECONDS COMMAND: runs it.
inside() {
    line_for "$@"
    "${line[@]}" </dev/null
}

# start LOG COMMAND: runs it in the background, offline, until `finish`; $started is its process.
start() {
    line_for offline 900 "$2"
    "${line[@]}" </dev/null >"$1" 2>&1 &
    started=$!
}

# finish [SIGNAL]: what was started last gets SIGNAL, all its processes do, and ends within 60 s.
finish() {
    kill -s "${1:-TERM}" "$started" 2>/dev/null
    # What does not end by itself is ended.
    timeout 60 tail --pid="$started" -f /dev/null || kill -s KILL "$started"
    wait "$started"
}

# eventually SECONDS COMMAND...: until it succeeds.
eventually() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.1
    done
}

# discard DIRECTORY: removes it; never through a mount.
discard() {
    ! grep -qF " $1" /proc/mounts || die "something is mounted below $1" "umount it first."
    rm -rf --one-file-system "$1"
}
