#!/usr/bin/env bash
# A CA, and a certificate by it for all of the compose project, made once in the volume that they share. The key of the CA is kept
# by nobody: to have others, remove the volume "tls".
set -euo pipefail
cd /tls
[ ! -e root.crt ] || exit 0
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
new_key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)
names=DNS:localhost,IP:127.0.0.1
for name in primary primary.replication replica1 replica2 trunkline trunkline2 haproxy; do names+=,DNS:$name; done

openssl req -x509 "${new_key[@]}" -days 3650 -subj "/CN=Trunkline compose" -keyout "$scratch/root.key" -out "$scratch/root.crt"
openssl req "${new_key[@]}" -subj /CN=trunkline -keyout "$scratch/tls.key" -out "$scratch/tls.csr"
openssl x509 -req -in "$scratch/tls.csr" -days 3650 -CA "$scratch/root.crt" -CAkey "$scratch/root.key" -CAcreateserial \
    -extfile <(printf 'subjectAltName=%s' "$names") -out "$scratch/tls.crt"
# A server takes a key that is its user's alone. Trunkline runs as another user.
install -m 0600 "$scratch/tls.key" server.key
install -m 0644 "$scratch/tls.key" trunkline.key
install -m 0644 "$scratch/tls.crt" tls.crt
# Last: it says that all are there.
install -m 0644 "$scratch/root.crt" root.crt
