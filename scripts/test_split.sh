#!/usr/bin/env bash
# One port for reads and writes: reads run on replicas, writes on the primary, and a session reads what it has written.
set -u
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    cat <<END
Usage: test_split.sh [N]

Reads N times (20), each on a new connection, and shows which server ran how many; then writes a row N times and reads
behind it in the same session. It holds when replicas ran most of the reads, the primary each write, every read showed
the row before it, and no client saw an error.

${COMMON_HELP#*$'\n'}
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
[ "$VIA" = trunkline ] || die "there is one way to the port for reads and writes" "leave --via out."
locate
[ -n "$SPLIT_PORT" ] || die "this demo has no port for reads and writes" "leave --auth relay out."
# Where clients.sh connects.
# shellcheck disable=SC2034,SC2153
READS_HOST=$WRITES_HOST READS_PORT=$SPLIT_PORT WRITES_PORT=$SPLIT_PORT

# The first clients of a database read on the primary, until what its catalog has was read.
(clients reads 5 0.5) >"$WORK/first" || die "no clients: $(cat "$WORK/compose.log" 2>/dev/null)"

step "$count connections, one read on each, to $READS_HOST:$SPLIT_PORT"
(clients reads "$count" 0) >"$WORK/reads"
by_replicas=0
for name in "$PRIMARY" "${REPLICAS[@]}"; do
    answered=$(reads_on "$name" 0)
    printf '    %-12s %4d  %3d %%\n' "$name" "$answered" "$((answered * 100 / count))"
    [ "$name" = "$PRIMARY" ] || by_replicas=$((by_replicas + answered))
done
verdict "by_replicas * 2 > count" "replicas ran $by_replicas of $count reads"
count_reads 0
verdict "ERRORS == 0 && READS == count" "client errors: $ERRORS of $READS"
show_errors

step "$count sessions, each inserts a row and then reads"
(clients both "$count" 0) >"$WORK/both"
read -r errors by_primary unseen < <(awk -v primary="$PRIMARY" '
    $3 == "ERROR" || NF != 6 { errors++; next }
    $3 == primary { written++ }
    $6 < $4 { unseen++ }
    END { print errors + 0, written + 0, unseen + 0 }' "$WORK/both")
verdict "by_primary == count" "$PRIMARY ran $by_primary of $count writes"
verdict "unseen == 0" "reads that missed the row before them: $unseen of $count"
verdict "errors == 0" "client errors: $errors of $count"
awk '$3 == "ERROR" || NF != 6' "$WORK/both" | cut -d' ' -f3- | sort | uniq -c | head -n 5
finish
