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

# summed WORD: the sum of "N WORD" over all `test result:` lines of the run.
summed() {
    cat "$logs"/*.log 2>/dev/null | sed -nE "s/^test result:.* ([0-9]+) $1;.*/\1/p" | awk '{n += $1} END {print n + 0}'
}

# What was not checked, with its reason, so that nobody takes it for checked.
list_skipped() {
    local skipped
    skipped=$(grep -hE '^ *([a-z ]+: SKIPPED,|skip  )' "$logs"/*.log 2>/dev/null | sed -E 's/^ *(skip  )?/    /')
    [ -z "$skipped" ] || printf '\nNot checked:\n%s\n' "$skipped"
}

# finish [STEP]: the closing lines, and the end of the run: failed when STEP is given.
finish() {
    local failed
    failed=$(summed failed)
    list_skipped
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
