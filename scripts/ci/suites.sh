#!/usr/bin/env bash
# Which suites there are, and how each is run. Sourced.

# These promise times, so nothing runs beside them.
timed="lag health_rows faults"
# These keep both processors busy with pgbench, so they come last and two at a time.
loaded="outliving"

# These speak TLS with clients and servers, the others do not: their promises are the same. `make test-long` runs each suite
# the other way.
over_tls="outliving failover cancel relaying farewells lifecycle terminating retrying leaving"

# Whether the suite speaks TLS.
speaks_tls() {
    case " $over_tls " in *" $1 "*) ;; *) return 1 ;; esac
}

suite() {
    if speaks_tls "$1"; then
        TRUNKLINE_TEST_TLS=on cargo test -p trunkline-tests --test "$1" -- --test-threads "${2:-3}"
    else
        cargo test -p trunkline-tests --test "$1" -- --test-threads "${2:-3}"
    fi
}

# The suites that are neither timed nor slow nor loaded.
suites() {
    find tests/tests -maxdepth 1 -name '*.rs' -printf '%f\n' | sed 's/\.rs$//' | sort |
        grep -vE "^slow_|^(${timed// /|}|${loaded// /|})$"
}
