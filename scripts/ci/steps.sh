# Steps with a name and a time; sourced by run.sh.
# shellcheck shell=bash

step_number=0
run_start=$SECONDS
logs=target/ci

# step NAME COMMAND...: runs COMMAND, shows and keeps what it prints, and ends the run when it fails.
step() {
    local name=$1 start=$SECONDS log status
    shift
    step_number=$((step_number + 1))
    log="$logs/$step_number-${name//[^a-z0-9]/-}.log"
    printf '\n==> %d. %s\n' "$step_number" "$name"
    "$@" 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    if [ "$status" -ne 0 ]; then
        finish "$name"
    fi
    printf '    %s: ok, %d s\n' "$name" "$((SECONDS - start))"
}

# Of the steps that run beside others, by name: process id, log, number.
declare -A beside_pid beside_log beside_number

# beside NAME COMMAND...: begins a step that needs little of the processors, and the next ones need not wait for. What it
# prints is kept; `joined NAME` waits for it. It has a process group of its own, which ends with the run.
beside() {
    local name=$1
    shift
    step_number=$((step_number + 1))
    beside_number[$name]=$step_number
    beside_log[$name]="$logs/$step_number-${name//[^a-z0-9]/-}.log"
    set -m
    timed_out_of_sight "$name" "$@" >"${beside_log[$name]}" 2>&1 </dev/null &
    beside_pid[$name]=$!
    set +m
}

# idle COMMAND...: of a step beside others, at the priority that yields to everything else.
idle() {
    chrt --idle -p 0 "$BASHPID" 2>/dev/null || renice -n 19 -p "$BASHPID" >/dev/null
    "$@"
}

timed_out_of_sight() {
    local name=$1 start=$SECONDS
    shift
    "$@" || return
    printf '    %s: ok, %d s beside other steps\n' "$name" "$((SECONDS - start))"
}

# hurry PID: an idle step that is waited for yields no longer. Twice, for what was begun meanwhile; only root may.
hurry() {
    local pid
    for pid in $(pgrep -g "$1") $(pgrep -g "$1"); do
        chrt --other -p 0 "$pid" 2>/dev/null
    done
}

# joined NAME: waits for the step, shows what it printed, and ends the run when it failed.
joined() {
    local name=$1 status
    hurry "${beside_pid[$name]}"
    wait "${beside_pid[$name]}"
    status=$?
    unset "beside_pid[$name]"
    printf '\n==> %d. %s\n' "${beside_number[$name]}" "$name"
    cat "${beside_log[$name]}"
    [ "$status" -eq 0 ] || finish "$name"
}

end_beside() {
    local pid
    for pid in "${beside_pid[@]}"; do
        kill -- "-$pid" 2>/dev/null
    done
}
trap end_beside EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# summed WORD: the sum of "N WORD" over all `test result:` lines of the run.
summed() {
    cat "$logs"/*.log 2>/dev/null | sed -nE "s/^test result:.* ([0-9]+) $1;.*/\1/p" | awk '{n += $1} END {print n + 0}'
}

# What was not checked, with its reason, so that nobody takes it for checked.
list_skipped() {
    local skipped
    skipped=$(grep -hE '^ *([a-z ]+: SKIPPED,|skip  )' "$logs"/*.log 2>/dev/null | sed -E 's/^ *(skip  )?/    /' | awk '!seen[$0]++')
    [ -z "$skipped" ] || printf '\nNot checked:\n%s\n' "$skipped"
}

# What passed only when nothing ran beside it, so that somebody looks at it.
list_passed_alone() {
    local passed
    passed=$(grep -h '^Failed beside others, passed alone: ' "$logs"/*.log 2>/dev/null)
    [ -z "$passed" ] || printf '\n%s\n' "$passed"
}

# finish [STEP]: the closing lines, and the end of the run: failed when STEP is given.
finish() {
    local failed
    failed=$(summed failed)
    list_skipped
    list_passed_alone
    printf '\n%d s in all\n' "$((SECONDS - run_start))"
    if [ $# -gt 0 ]; then
        # A step without test results, such as a compile error, is a failure too.
        [ "$failed" -gt 0 ] || failed=1
        printf 'FAILED in step "%s"; its output is above\n' "$1"
    fi
    printf '%d passed, %d failed\n' "$(summed passed)" "$failed"
    [ $# -eq 0 ] || exit 1
    exit 0
}
