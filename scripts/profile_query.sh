#!/usr/bin/env bash
# Where a query's time goes.
set -u
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    cat <<END
Usage: profile_query.sh [-n RUNS] [--explain] [SQL]

Runs SQL (SELECT count(*) FROM ynar) RUNS times (10) through Trunkline and prints connect time, time in the server, time
in the proxy, and which servers answered: "trunkline profile" where Trunkline is. Without -n and SQL it does the same
again on one session.

  --explain   Also the server's plan with its own times
$COMMON_HELP
END
}

runs=10 sql='SELECT count(*) FROM ynar' flags=()
while [ $# -gt 0 ]; do
    case "$1" in
        -n)
            case "${2:-}" in '' | *[!0-9]*) die "-n takes a number of runs" ;; esac
            runs=$2 TAKEN=2
            ;;
        --explain) flags+=(--explain) TAKEN=1 ;;
        *)
            common_option "$@"
            [ "$TAKEN" -gt 0 ] || { sql=$1 TAKEN=1; }
            ;;
    esac
    shift "$TAKEN"
done
[ "$VIA" = trunkline ] || die "the timing is Trunkline's own: only --via trunkline"
locate

trunkline() {
    if [ "$SETUP" = compose ]; then
        compose exec -T trunkline /trunkline profile "$@" --dsn \
            "host=127.0.0.1 port=5434 user=postgres password=${POSTGRES_PASSWORD:-postgres} dbname=appdb" </dev/null
    else
        # The program, not this function: whoever runs the demo has it, though not always on the path.
        command "${TRUNKLINE_BIN:-trunkline}" profile "$@"
    fi
}

if trunkline -n "$runs" ${flags[@]+"${flags[@]}"} "$sql" && echo && trunkline -n "$runs" --one-session "$sql"; then
    pass "profile_query.sh: the query ran $runs times on new connections, and $runs times on one session"
else
    fail "profile_query.sh: the query did not run"
    exit 1
fi
