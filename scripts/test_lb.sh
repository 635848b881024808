#!/usr/bin/env bash
# Reads are spread over the replicas.
set -u
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    cat <<END
Usage: test_lb.sh [--via WAY] [N]

Connects N times (20), reads once on each connection, and shows which server answered how many. It holds when every
replica had its share (half of an even one at least), the primary had none, and no client saw an error.

$COMMON_HELP
END
}

count=20
while [ $# -gt 0 ]; do
    common_option "$@"
    if [ "$TAKEN" -eq 0 ]; then
        case "$1" in
            '' | *[!0-9]* | 0) die "$1 is no number of connections" ;;
        esac
        count=$1 TAKEN=1
    fi
    shift "$TAKEN"
done
locate
await_weights

step "$count connections, one read on each, to $READS_HOST:$READS_PORT"
(clients reads "$count" 0) >"$WORK/reads" || die "no clients: $(cat "$WORK/compose.log" 2>/dev/null)"

for name in "$PRIMARY" "${REPLICAS[@]}"; do
    answered=$(reads_on "$name" 0)
    printf '    %-12s %4d  %3d %%\n' "$name" "$answered" "$((answered * 100 / count))"
done
for name in "${REPLICAS[@]}"; do
    answered=$(reads_on "$name" 0)
    verdict "answered * ${#REPLICAS[@]} * 2 >= count" "$name answered $answered of $count"
done
verdict "$(reads_on "$PRIMARY" 0) == 0" "$PRIMARY answered none"
count_reads 0
verdict "ERRORS == 0 && READS == count" "client errors: $ERRORS of $READS"
show_errors
finish
