#!/usr/bin/env bash
# A real Patroni cluster under load: what Patroni does, clients do not notice.
set -u
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    cat <<END
Usage: test_patroni.sh

Starts etcd and three members of Patroni, each with a network of its own, and two Trunklines before them: one knows the members by
[[server]] (ByName), the other has the URLs of Patroni's REST API alone (ByDiscovery). Each has 16 clients that read and 4 that write.
Then: a switchover, SIGKILL of the leader with its Patroni, the leader's network cut, a replica copied again, a fourth member that
comes and goes. Each answer is checked, and at the end every acknowledged write is looked for.

  -h, --help  This text

Where: on Linux as root, with Debian's patroni and etcd-server, which are installed where they lack. About three minutes, and the
first time those of compiling. The same in containers: deploy/patroni.
Exit status: 0 it holds, 1 it falls short.
END
}

if [ $# -gt 0 ]; then
    common_option "$@"
    die "unknown word $1" "test_patroni.sh --help lists what there is."
fi

[ "$(id -u)" -eq 0 ] || die "only root makes network namespaces" "run it with sudo."
cd "$ROOT" || exit
step "what is needed: PostgreSQL, Patroni, etcd"
scripts/ci/tools.sh patroni || exit

# shown: one line of the suite after the other.
shown() {
    local line
    while IFS= read -r line; do
        case "$line" in
            *'; failed: 0 reads, '*) pass "$line" ;;
            *'; failed: '*) fail "$line" ;;
            'test '*' ... FAILED' | *' panicked at '*) fail "$line" ;;
            *SKIPPED*) fail "$line" ;;
            'running '*) note "$line" ;;
        esac
    done
    [ "$FAILURES" -eq 0 ]
}

step "the cluster under load"
log=$(mktemp "${TMPDIR:-/tmp}/trunkline-script.XXXXXX")
cargo test --quiet -p trunkline-tests --test slow_patroni -- --nocapture 2>&1 |
    tee "$log" | shown
status=("${PIPESTATUS[@]}")
if [ "${status[0]}" -ne 0 ] || [ "${status[2]}" -ne 0 ]; then
    FAILURES=1
    note "all that was said is in $log"
else
    rm -f "$log"
fi
finish
