#!/usr/bin/env bash
# With no replica left the primary serves, and reads go back as replicas return.
set -u
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    cat <<END
Usage: test_primary_failback.sh [--via WAY]

Clients read all the time. All replicas are killed: the primary serves. They are started one after the other: reads go
to the first as soon as it is fit, and to all of them in the end; the primary gets none any more.

$COMMON_HELP
END
}

while [ $# -gt 0 ]; do
    common_option "$@"
    [ "$TAKEN" -gt 0 ] || die "unexpected $1"
    shift "$TAKEN"
done
locate

step "all replicas are killed while clients read"
start_clients reads
sleep 1
at=$(now_ms)
for name in "${REPLICAS[@]}"; do kill_node "$name"; done
for name in "${REPLICAS[@]}"; do
    await "$name" out 20 || fail "$name is still in rotation"
done
down=$(now_ms)
pass "all are out $(seconds $((down - at))) after the kill"
sleep $((2 + GRACE_MS / 500))
verdict "$(reads_on "$PRIMARY" "$down") > 0" "$PRIMARY serves the reads ($(reads_on "$PRIMARY" "$down") of them)"

for name in "${REPLICAS[@]}"; do
    step "$name is started"
    start_node "$name"
    if await "$name" up 90; then
        pass "$name is back $(seconds "$TOOK") after its start returned"
    else
        fail "$name is not back after 90 s: $(state_of "$name")"
    fi
    back=$(now_ms)
    sleep $(((GRACE_MS + 500) / 1000))
    settled=$(now_ms)
    sleep 2
    verdict "$(reads_on "$name" "$back") > 0" "reads reach $name again ($(reads_on "$name" "$back") of them)"
    verdict "$(reads_on "$PRIMARY" "$settled") == 0" "$PRIMARY serves no read any more"
done
stop_clients
count_reads "$((at + GRACE_MS))"
verdict "ERRORS == 0" "client errors: $ERRORS of $READS reads begun after the kill"
[ "$IN_FLIGHT" -eq 0 ] || note "reads under way at the kill that failed: $IN_FLIGHT"
show_errors
finish
