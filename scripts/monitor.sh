#!/usr/bin/env bash
# Live: which server has how many sessions and statements, and how far each is behind.
set -u
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    cat <<END
Usage: monitor.sh [-n ROUNDS] [-i SECONDS]

Shows for each server: state, lag in seconds (at least / estimate / at most), open sessions, statements per second and
their share, and why it is in its state. Reads Trunkline's HTTP address (TRUNKLINE_HTTP, 127.0.0.1:8008) and nothing else.

  -n ROUNDS   End after so many rounds (0 = go on)
  -i SECONDS  Between two rounds (1)
$COMMON_HELP
END
}

rounds=0 interval=1
while [ $# -gt 0 ]; do
    case "$1" in
        -n) rounds=${2:?-n takes a number} TAKEN=2 ;;
        -i) interval=${2:?-i takes seconds} TAKEN=2 ;;
        *)
            common_option "$@"
            [ "$TAKEN" -gt 0 ] || die "unexpected $1"
            ;;
    esac
    shift "$TAKEN"
done
: "${TRUNKLINE_HTTP:=127.0.0.1:8008}"

# One line per server: name, state, lo, est, hi, sessions, statements.
sample() {
    awk '
        function label(key,    text) {
            if (!match($0, key "=\"[^\"]*\"")) return ""
            text = substr($0, RSTART, RLENGTH); gsub(/.*="|"$/, "", text); return text
        }
        /^trunkline_server_state\{/ && $NF == 1 { state[label("server")] = label("state"); order[++n] = label("server") }
        /^trunkline_server_lag_seconds\{/ { lag[label("server"), label("bound")] = sprintf("%.2f", $NF) }
        /^trunkline_sessions_active\{/ { sessions[label("server")] = $NF }
        /^trunkline_statements_total\{/ && /kind="(query|execute)"/ { statements[label("server")] += $NF }
        function known(value) { return value == "" ? "-" : value }
        END {
            for (i = 1; i <= n; i++) {
                name = order[i]
                print name, toupper(state[name]), known(lag[name, "lo"]), known(lag[name, "est"]), known(lag[name, "hi"]), sessions[name] + 0, statements[name] + 0
            }
        }' <<<"$BODY"
}

http /metrics
[ "$STATUS" = 200 ] || die "no answer from http://$TRUNKLINE_HTTP/metrics" "TRUNKLINE_HTTP names another address."
before=$(sample) began=$(now_ms) round=0
while :; do
    sleep "$interval"
    http /metrics
    took=$(($(now_ms) - began)) began=$(now_ms)
    if [ "$STATUS" != 200 ]; then
        note "no answer from http://$TRUNKLINE_HTTP/metrics"
        continue
    fi
    now=$(sample)
    [ -t 1 ] && [ "$rounds" -ne 1 ] && printf '\e[H\e[2J'
    printf '%-12s %-8s %7s %7s %7s %9s %8s %6s  %s\n' SERVER STATE 'LAG >=' '~' '<=' SESSIONS STMT/S SHARE WHY
    while read -r line; do
        read -r name _ <<<"$line"
        printf '%s  %s\n' "$line" "$(state_of "$name")"
    done < <(awk -v took="$took" '
        NR == FNR { old[$1] = $7; next }
        { line[++n] = $1; rest[n] = sprintf("%-12s %-8s %7s %7s %7s %9d", $1, $2, $3, $4, $5, $6); rate[n] = ($7 - old[$1]) * 1000 / took; if (rate[n] < 0) rate[n] = 0; all += rate[n] }
        END { for (i = 1; i <= n; i++) printf "%s %8.1f %4.0f %%\n", rest[i], rate[i], all ? rate[i] * 100 / all : 0 }' \
        <(printf '%s\n' "$before") <(printf '%s\n' "$now"))
    before=$now
    round=$((round + 1))
    [ "$rounds" -eq 0 ] || [ "$round" -lt "$rounds" ] || exit 0
done
