#!/usr/bin/env bash
# Which suites there are, in which order they begin, and how each is run. Sourced.

# These promise times, so nothing runs beside them.
timed="lag health_rows faults splitting_shares"
# These keep both processors busy with pgbench, so they come last and two at a time.
loaded="outliving"
# These need minutes or nearly, the longest first: of those that run side by side, one that began late would end the run alone.
long="slow_patroni slow_pooling discovery failover slow_health moves gray verdicts torture slow_fleet slow_memory tls_faults tls_crowds tls_certificates tls behind_haproxy
functions logging_in terminating authentication pooling pooling_clients splitting splitting_writes splitting_hints splitting_floors splitting_lsn splitting_transactions"

# These speak TLS with clients and servers, the others do not: their promises are the same. `make test-long` runs each suite
# the other way.
over_tls="outliving failover cancel relaying farewells lifecycle terminating retrying leaving
pooling_faults pooling_limits authentication large_values"

# one_of NAME LIST
one_of() {
    local word
    for word in $2; do
        [ "$word" != "$1" ] || return 0
    done
    return 1
}

# Whether the suite speaks TLS.
speaks_tls() {
    one_of "$1" "$over_tls"
}

# How many tests of the suite run at one time.
threads_of() {
    case $1 in
        # Each of its tests has hundreds of clients.
        slow_pooling) echo 1 ;;
        slow_*) echo 4 ;;
        *) if one_of "$1" "$loaded"; then echo 2; else echo 3; fi ;;
    esac
}

# The suites that are neither timed nor loaded, those of `long` first.
suites() {
    local name
    for name in $long $(find tests/tests -maxdepth 1 -name '*.rs' -printf '%f\n' | sed 's/\.rs$//' | sort); do
        one_of "$name" "$timed $loaded" || printf '%s\n' "$name"
    done | awk '!seen[$0]++'
}
