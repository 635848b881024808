#!/usr/bin/env bash
# A replica that falls behind gets no reads, whatever it says of itself.
set -u
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    cat <<END
Usage: test_lag.sh [--via WAY] [SCENARIO...]

A client writes and clients read all the time, meanwhile something falls behind. A read is stale when it lacks a row
whose INSERT was answered max_lag + 1 s before the read began. Scenarios, all of them unless named:

  one        one replica stops replaying: out within max_lag + 2 s, no stale read, back in once it has caught up
  both       all replicas stop replaying: the primary serves, no stale read, and they come back
  partition  nothing passes between the primary and a replica, which looks in sync to itself: out within max_lag + 2 s

$COMMON_HELP
END
}

scenarios=()
while [ $# -gt 0 ]; do
    case "$1" in
        one | both | partition) scenarios+=("$1") TAKEN=1 ;;
        *)
            common_option "$@"
            [ "$TAKEN" -gt 0 ] || die "unknown scenario $1" "test_lag.sh --help lists them."
            ;;
    esac
    shift "$TAKEN"
done
[ "${#scenarios[@]}" -gt 0 ] || scenarios=(one both partition)
locate
LIMIT_MS=$((MAX_LAG_MS + 2000))
WAIT=$((MAX_LAG_MS / 1000 + 20))

# out_verdict SERVER: it is out in time, counted from the first row it misses.
out_verdict() {
    local newest missed
    if ! await "$1" out "$WAIT" "$BEGAN"; then
        fail "$1 is still in rotation: $(state_of "$1")"
        return
    fi
    newest=$(server_sql "$1" 'SELECT max(id) FROM ynar')
    missed=$(awk -v newest="$newest" '$3 == "written" && $4 > newest { print $2; exit }' "$WORK/writes")
    TOOK=$((AT - ${missed:-AT}))
    if [ "$TOOK" -lt 0 ]; then
        fail "$1 left for another reason, before it missed a row: $(state_of "$1")"
        return
    fi
    verdict "TOOK <= LIMIT_MS" "$1 is out $(seconds "$TOOK") after the first row it misses (limit $(seconds "$LIMIT_MS")): $(state_of "$1")"
}

back_verdict() {
    if await "$1" up 90; then
        pass "$1 is back $(seconds "$TOOK") later"
    else
        fail "$1 is not back after 90 s: $(state_of "$1")"
    fi
}

begin() {
    BEGAN=$(now_ms)
    start_clients writes 0 0.05
    start_clients reads
    sleep 1
}

end_verdicts() {
    stop_clients
    count_reads 0
    verdict "ERRORS == 0 && READS > 0" "client errors: $ERRORS of $READS reads"
    local stale
    stale=$(stale_reads "$((MAX_LAG_MS + 1000 + GRACE_MS))")
    verdict "stale == 0" "stale reads: $stale of $READS, while $(grep -c written "$WORK/writes") rows were written"
    show_errors
}

scenario_one() {
    step "one: $REPLICA stops replaying under steady writes"
    begin
    local out
    pause_replay "$REPLICA"
    out_verdict "$REPLICA"
    out=$(now_ms)
    sleep $((2 + GRACE_MS / 1000))
    verdict "$(reads_on "$REPLICA" "$((out + GRACE_MS))") == 0" "no read reaches $REPLICA while it is out"
    resume_replay "$REPLICA"
    back_verdict "$REPLICA"
    end_verdicts
}

scenario_both() {
    step "both: all replicas stop replaying under steady writes"
    begin
    local name out
    for name in "${REPLICAS[@]}"; do pause_replay "$name"; done
    for name in "${REPLICAS[@]}"; do out_verdict "$name"; done
    out=$(now_ms)
    sleep $((2 + GRACE_MS / 1000))
    verdict "$(reads_on "$PRIMARY" "$out") > 0" "$PRIMARY serves the reads ($(reads_on "$PRIMARY" "$out") of them)"
    for name in "${REPLICAS[@]}"; do resume_replay "$name"; done
    for name in "${REPLICAS[@]}"; do back_verdict "$name"; done
    end_verdicts
}

scenario_partition() {
    step "partition: $REPLICA is cut off from $PRIMARY under steady writes, clients still reach it"
    begin
    cut_node "$REPLICA"
    out_verdict "$REPLICA"
    local looks
    looks=$(server_sql "$REPLICA" "SELECT CASE WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
        ELSE extract(epoch FROM now() - pg_last_xact_replay_timestamp()) END")
    note "what the usual formula says of $REPLICA now: $looks s of lag"
    heal_node "$REPLICA"
    back_verdict "$REPLICA"
    end_verdicts
}

for scenario in "${scenarios[@]}"; do
    case "$scenario" in
        one) scenario_one ;;
        both) scenario_both ;;
        partition) scenario_partition ;;
    esac
done
finish
