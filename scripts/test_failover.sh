#!/usr/bin/env bash
# A server that dies or hangs is left at once, and clients do not notice.
set -u
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    cat <<END
Usage: test_failover.sh [--via WAY] [--strict] [SCENARIO...]

Clients connect and read all the time, meanwhile something breaks. Scenarios, all of them unless named:

  kill          a replica is killed: out within 1 s, no client error, back in once it is started
  hang          a replica hangs: out within 4 s, no client error for those that come later
  primary-down  the primary is killed: reads go on, no client error; writes work again once it is started
  proxy         one of two Trunklines is killed: no new connection fails (needs --via haproxy)

  --strict      Reads that were under way at that very moment may not fail either

$COMMON_HELP
END
}

scenarios=() strict=0
while [ $# -gt 0 ]; do
    case "$1" in
        --strict) strict=1 TAKEN=1 ;;
        kill | hang | primary-down | proxy) scenarios+=("$1") TAKEN=1 ;;
        *)
            common_option "$@"
            [ "$TAKEN" -gt 0 ] || die "unknown scenario $1" "test_failover.sh --help lists them."
            ;;
    esac
    shift "$TAKEN"
done
locate
if [ "${#scenarios[@]}" -eq 0 ]; then
    scenarios=(kill hang primary-down)
    [ "$VIA" != haproxy ] || scenarios+=(proxy)
fi

# errors_verdict SINCE_MS: of all reads of the scenario, those that began since then.
errors_verdict() {
    count_reads "$(($1 + GRACE_MS))"
    verdict "ERRORS == 0 && READS > 0" "client errors: $ERRORS of $READS reads begun afterwards"
    if [ "$strict" -eq 1 ]; then
        verdict "IN_FLIGHT == 0" "client errors of reads under way at that moment: $IN_FLIGHT"
    elif [ "$IN_FLIGHT" -gt 0 ]; then
        note "reads under way at that moment that failed: $IN_FLIGHT (--strict counts them)"
    fi
    show_errors
}

# back_verdict SERVER: it is UP again and reads reach it.
back_verdict() {
    if await "$1" up 90; then
        pass "$1 is back $(seconds "$TOOK") after its start returned"
    else
        fail "$1 is not back after 90 s: $(state_of "$1")"
    fi
    local since deadline
    since=$(now_ms)
    deadline=$((since + 20000))
    until [ "$(reads_on "$1" "$since")" -gt 0 ] || [ "$(now_ms)" -gt "$deadline" ]; do sleep 0.05; done
    verdict "$(reads_on "$1" "$since") > 0" "reads reach $1 again after $(seconds $(($(now_ms) - since)))"
}

# The kill is when the server's process was gone. Docker takes some time from the order to that, which is shown.
since_order() {
    [ "$ORDERED_AT" -eq "$BROKE_AT" ] || printf ', %s after its order' "$(seconds $((AT - ORDERED_AT)))"
}

scenario_kill() {
    step "kill: $REPLICA is killed while clients read"
    start_clients reads
    sleep 1
    kill_node "$REPLICA"
    local at=$BROKE_AT
    if await "$REPLICA" out 20 "$BROKE_AT"; then
        verdict "TOOK <= 1000" "detected $(seconds "$TOOK") after the kill$(since_order): $(state_of "$REPLICA")"
    else
        fail "$REPLICA is still in rotation 20 s after the kill"
    fi
    sleep 2
    start_node "$REPLICA"
    back_verdict "$REPLICA"
    stop_clients
    errors_verdict "$at"
}

scenario_hang() {
    step "hang: $REPLICA stops answering while clients read"
    start_clients reads
    sleep 1
    local detected
    pause_node "$REPLICA"
    if await "$REPLICA" out 20 "$BROKE_AT"; then
        verdict "TOOK <= 4000" "detected $(seconds "$TOOK") after it fell silent: $(state_of "$REPLICA")"
    else
        fail "$REPLICA is still in rotation 20 s after it fell silent"
    fi
    detected=$(now_ms)
    sleep 2
    resume_node "$REPLICA"
    back_verdict "$REPLICA"
    stop_clients
    errors_verdict "$detected"
}

scenario_primary_down() {
    step "primary-down: $PRIMARY is killed while clients read"
    start_clients reads
    sleep 1
    kill_node "$PRIMARY"
    local at=$BROKE_AT name lost=0 until
    if await "$PRIMARY" out 20 "$BROKE_AT"; then
        verdict "TOOK <= 1000" "detected $(seconds "$TOOK") after the kill$(since_order): $(state_of "$PRIMARY")"
    else
        fail "$PRIMARY still counts as the primary 20 s after the kill"
    fi
    until=$(($(now_ms) + 5000))
    while [ "$(now_ms)" -lt "$until" ]; do
        for name in "${REPLICAS[@]}"; do is_up "$name" || lost=$((lost + 1)); done
        sleep 0.1
    done
    verdict "lost == 0" "every replica stays in rotation without the primary"
    start_node "$PRIMARY"
    if await "$PRIMARY" up 90; then
        pass "$PRIMARY is back $(seconds "$TOOK") after its start returned"
    else
        fail "$PRIMARY is not back after 90 s: $(state_of "$PRIMARY")"
    fi
    stop_clients
    errors_verdict "$at"
    (clients writes 1) >"$WORK/writes"
    verdict "$(grep -c written "$WORK/writes") == 1" "a write works again"
}

scenario_proxy() {
    [ "$VIA" = haproxy ] || die "the scenario proxy needs --via haproxy"
    step "proxy: one of two Trunklines is killed while clients connect through HAProxy"
    start_clients reads
    sleep 1
    kill_node trunkline2
    local at=$BROKE_AT
    sleep 5
    stop_clients
    errors_verdict "$at"
    note "slowest read: $(awk '{ d = $2 - $1; if (d > m) m = d } END { print m + 0 }' "$WORK/reads") ms"
    start_node trunkline2
}

for scenario in "${scenarios[@]}"; do
    case "$scenario" in
        kill) scenario_kill ;;
        hang) scenario_hang ;;
        primary-down) scenario_primary_down ;;
        proxy) scenario_proxy ;;
    esac
done
finish
