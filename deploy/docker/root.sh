#!/bin/sh
# root.sh BINARY DIRECTORY: a root file system of the binary, the libraries it loads, and a user to run as.
set -eu
binary=$1 root=$2

mkdir -p "$root/etc" "$root/tmp"
chmod 1777 "$root/tmp"
install -m 755 "$binary" "$root/"
# Whatever the processor calls its loader: ldd names it, too.
ldd "$binary" | awk '{ for (i = 1; i <= NF; i++) if ($i ~ "^/") print $i }' | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
done
printf 'root:x:0:0::/:\ntrunkline:x:65532:65532::/:\n' >"$root/etc/passwd"
printf 'root:x:0:\ntrunkline:x:65532:\n' >"$root/etc/group"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
