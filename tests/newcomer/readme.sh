# The commands of README.md; sourced by journey.sh.
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # it shares its variables with the journey

# The gate, which is CI's.
NOT_FOLLOWED="make test"

# Whether rustup's server can be reached is not to matter: here it cannot.
NO_DOWNLOAD="RUSTUP_DIST_SERVER=http://127.0.0.1:9"

# What cannot be run as it stands: the name that the demo's temporary directory has by chance, and a secret.
substituted() {
    sed -E -e "s#/tmp/trunkline-demo-[0-9]+#${demo_directory:-}#" -e "s#^(export TRUNKLINE__MONITOR__PASSWORD)=\.\.\.#\1=$monitor_password#"
}

# tidied: continued lines joined, and no comments behind them.
tidied() {
    sed -e ':more' -e '/\\$/{N;s/\\\n *//;b more}' | sed -E 's/  +# .*//'
}

# every_quoted: the lines of its code blocks, then what is code in its text.
every_quoted() {
    sed -nE 's/^    (\$ )?//p' README.md | tidied
    # shellcheck disable=SC2016 # a backtick is meant
    grep -vE '^    ' README.md | grep -oE '`[^`]+`' | tr -d '`'
}

# quoted START: the one command that is START, or begins so.
quoted() {
    local found
    found=$(every_quoted | grep -Fx -- "$1" | sort -u)
    [ -n "$found" ] || found=$(every_quoted | awk -v start="$1" 'index($0, start) == 1' | sort -u)
    [ "$(grep -c . <<<"$found")" -eq 1 ] || die "README.md has not one command that begins with \"$1\"" "see what became of it."
    printf '%s\n' "$found" >>"$logs/quoted"
    substituted <<<"$found"
}

# not_quoted: the commands of its blocks, as far as the proxy of one's own servers, that nothing has asked for.
not_quoted() {
    awk '/^<!-- transcript: begin/ { output = 1 } /^<!-- transcript: end/ { output = 0 } /^## What it does/ { exit }
        !/^    / || (output && !/^    \$ /) { next } { sub(/^    (\$ )?/, ""); print }' README.md | tidied | sort -u |
        grep -vFx -e "$NOT_FOLLOWED" | grep -vFx -f "$logs/quoted"
}
