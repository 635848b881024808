#!/usr/bin/env bash
# Each suite the other way: with TLS where `make test` runs it without, and the reverse. About twenty minutes.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit
source scripts/ci/suites.sh

# They set up TLS themselves, or count bytes, descriptors and connections that it changes.
fixed="limits tls tls_certificates tls_crowds tls_drivers tls_faults certificates client_certificates channel_binding handshakes hba hba_lines hba_semantics first_packets proxy_protocol"

status=0
for name in $timed $(suites) $loaded; do
    ! one_of "$name" "$fixed" || continue
    # Of the slow ones the one whose promises TLS could break: that memory stays flat, and a value of a gigabyte passes.
    case $name in slow_memory) ;; slow_*) continue ;; esac
    other=on
    ! speaks_tls "$name" || other=
    printf '    %s, %s\n' "$name" "$([ -n "$other" ] && echo over TLS || echo without TLS)"
    TRUNKLINE_TEST_TLS=$other cargo test --quiet -p trunkline-tests --test "$name" -- --test-threads 2 || status=1
done
exit "$status"
