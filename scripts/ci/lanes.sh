# Builds the test executables once, and runs suites of them side by side; sourced by run.sh after steps.sh and suites.sh.
# shellcheck shell=bash

logs=${logs:?sourced after steps.sh}

# A suite that takes this long hangs: the longest takes three minutes.
SUITE_SECONDS_MAX=900

# Of the suites whose tests fail beside others so many are run once more, alone: a time that was missed since the machine was
# busy is no reason to do all again. With more of them the reason is another, and so it is where a suite crashes or hangs.
AGAIN_MAX=3
TESTS_FAILED=101

# build_tests FLAG...: builds every test of the workspace; `executable_of` then knows where each suite is. They are started
# from there: `cargo test -p trunkline-tests` chooses other features of the dependencies, and builds and links all once more.
build_tests() {
    cargo test "$@" --workspace --no-run --message-format json-render-diagnostics >"$logs/artifacts.json"
}

# executable_of DIRECTORY NAME: the path of the tests NAME of the package in DIRECTORY; fails when nothing built them.
executable_of() {
    local of="\"manifest_path\":\"$PWD/$1/Cargo.toml\",\"target\":{\"kind\":[\"[a-z]*\"],.*\"name\":\"$2\","
    grep "$of" "$logs/artifacts.json" | sed -nE 's/.*"test":true\},.*"executable":"([^"]+)".*/\1/p' | tail -n 1 | grep .
}

# suite NAME: becomes the suite.
suite() {
    local executable tls='' threads
    executable=$(executable_of tests "$1") || { printf 'no executable of this suite was built\n'; exit 1; }
    threads=$(threads_of "$1")
    ! speaks_tls "$1" || tls=on
    # Where cargo starts it.
    cd tests || exit
    TRUNKLINE_TEST_TLS=$tls exec timeout --foreground -k 30 "$SUITE_SECONDS_MAX" "$executable" --test-threads "$threads"
}

# report NAME STATUS SECONDS: prints what the suite has said, and what is not right with how it ended. One that failed beside
# others is added to `again`; its result counts when it has been run alone.
report() {
    local said=$logs/$1.txt what=''
    printf '\n     Suite %s, %d s\n' "$1" "$3"
    if [ "$2" -eq "$TESTS_FAILED" ] && grep -q '^test result: FAILED' "$said" &&
        [ "$lanes" -gt 1 ] && [ "${#again[@]}" -lt "$AGAIN_MAX" ]; then
        sed 's/^test result: /result beside others: /' "$said"
        printf 'it is run once more alone when the others have ended\n'
        again+=("$1")
        return
    fi
    cat "$said"
    if ! grep -q '^test result: ' "$said"; then
        # A suite without a result is one failure.
        what="it ended with status $2 and no result"
        [ "$2" -ne 124 ] || what="it was ended after $SUITE_SECONDS_MAX s"
        printf 'test result: FAILED. 0 passed; 1 failed; %s\n' "$what"
    elif [ "$2" -eq 0 ]; then
        return
    fi
    printf 'error: suite failed, to rerun: cargo test -p trunkline-tests --test %s\n' "$1" | sed 's/--test trunkline_tests/--lib/'
    failed_suites+=("$1")
}

# begin_suite LANE: begins the next of `left`. Long suites mostly wait, short ones are busy with making clusters: the last
# lane takes the short ones, from the end, so that a few of each kind run at any time.
begin_suite() {
    local name
    [ "${#left[@]}" -gt 0 ] || return
    if [ "$1" -gt 1 ] && [ "$1" -eq "$lanes" ]; then
        name=${left[-1]}
        unset 'left[-1]'
    else
        name=${left[0]}
        left=("${left[@]:1}")
    fi
    # A process group of its own, which ends with the run.
    set -m
    {
        (suite "$name") >"$logs/$name.txt" 2>&1 {ends}>&-
        printf '%s %d\n' "$name" "$?" >&"$ends"
    } &
    set +m
    running[$name]=$!
    lane_of[$name]=$1
    begun[$name]=$SECONDS
}

# await_suite: waits until one of `running` ends, and begins another in its place. It is told by a pipe: `wait -n` misses
# those that end while it is not called.
await_suite() {
    local name status
    if ! read -r -t "$((SUITE_SECONDS_MAX + 60))" -u "$ends" name status; then
        printf 'error: no word of the suites that run: %s\n' "${!running[*]}"
        failed_suites+=("${!running[@]}")
        end_suites
        running=() left=()
        return
    fi
    unset "running[$name]"
    begin_suite "${lane_of[$name]}"
    report "$name" "$status" "$((SECONDS - begun[$name]))"
}

# end_suites: ends those that run.
end_suites() {
    local name
    for name in "${!running[@]}"; do
        kill -- "-${running[$name]}" 2>/dev/null
    done
}

# interrupted SIGNAL: ends this shell as the signal would have.
interrupted() {
    trap - INT TERM
    end_suites
    kill -s "$1" "$BASHPID"
}

# in_lanes COUNT NAME...: runs the suites, COUNT at one time, and prints what each has said when it has ended; then those that
# failed beside others once more alone. Those that fail are added to `failed_suites`.
in_lanes() {
    local name again=()
    side_by_side "$@"
    [ "${#again[@]}" -eq 0 ] || side_by_side 1 "${again[@]}"
    for name in "${again[@]}"; do
        one_of "$name" "${failed_suites[*]}" || printf 'Failed beside others, passed alone: %s\n' "$name"
    done
}

# side_by_side COUNT NAME...: runs the suites, COUNT at one time. Of those that fail beside others the first are added to
# `again`.
side_by_side() {
    local lanes=$1 lane ends
    local -A running=() lane_of=() begun=()
    local -a left=("${@:2}")
    trap 'interrupted INT' INT
    trap 'interrupted TERM' TERM
    rm -f "$logs/ends"
    mkfifo "$logs/ends"
    exec {ends}<>"$logs/ends"
    for ((lane = 1; lane <= lanes; lane++)); do begin_suite "$lane"; done
    while [ "${#running[@]}" -gt 0 ]; do await_suite; done
    exec {ends}>&-
    trap - INT TERM
}
