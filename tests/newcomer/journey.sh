#!/usr/bin/env bash
# journey.sh SUITE TOOLCHAIN CARGO_HOME: README.md in one bare root. run.sh starts it in namespaces of its own.
set -uo pipefail
suite=$1 host_toolchain=$2 host_cargo=$3
kept=$PWD/target/newcomer/$suite root=$PWD/target/newcomer/$suite/root logs=$PWD/target/newcomer/$suite/logs
monitor_password=monitors-secret demo_directory=''
passed=0 failed=0
source tests/newcomer/root.sh
source tests/newcomer/readme.sh
source tests/newcomer/servers.sh
source tests/newcomer/mistakes.sh

# --- verdicts -------------------------------------------------------------------------------------------------------
passes() {
    passed=$((passed + 1))
    say "ok    $1"
}

fails() {
    failed=$((failed + 1))
    say "FAIL  $1"
    [ ! -f "${2:-}" ] || tail -n 25 "$2" | sed 's/^/          /'
}

# checked WHAT COMMAND...: what it prints is shown when it fails.
checked() {
    local what=$1
    shift
    if "$@" >"$logs/checked" 2>&1; then passes "$what"; else fails "$what" "$logs/checked"; return 1; fi
}

# required: the same; nothing after it makes sense without it.
required() {
    checked "$@" || exit 1
}

# says FILE WORDS...: all of them are in it.
says() {
    local file=$1 words
    shift
    for words in "$@"; do
        grep -qF -- "$words" "$file" || { printf 'lacks: %s\n' "$words"; cat "$file"; return 1; }
    done
}

# counted FILE N TEXT: as many lines are TEXT.
counted() {
    [ "$(grep -cxE -- "$3" "$1")" -eq "$2" ] || { cat "$1"; return 1; }
}

# no_output COMMAND: it prints nothing.
no_output() {
    local output
    output=$("$@")
    printf '%s' "$output"
    [ -z "$output" ]
}

# --- install --------------------------------------------------------------------------------------------------------
packages() {
    inside online 60 "dpkg-query -W" | sort
}

first_steps() {
    say "Debian $(cat "$root/etc/debian_version"), $(packages | wc -l) packages"
    inside online 300 "apt-get update -qq" >"$logs/update" 2>&1 || die "no package lists of $suite" "check the network."
    required "$(quoted 'apt-get install git')" inside online 600 "yes | $(quoted 'apt-get install git')"
}

# The first line of README.md where there is no Rust: one thing to do, and nothing was installed for nothing.
demo_without_rust() {
    local before demo
    demo=$(quoted 'make demo')
    before=$(packages)
    if inside online 600 "export $NO_DOWNLOAD; $demo" >"$logs/no-rust" 2>&1; then
        fails "$demo without a Rust toolchain ends with an error" "$logs/no-rust"
        return
    fi
    if [ "$suite" = bookworm ]; then
        checked "$demo says what Rust it needs, and the one thing to do" \
            says "$logs/no-rust" "no Rust toolchain here, and " " or newer is needed" "Debian's own is 1.63" "HINT: run: $(installer)"
        checked "it has installed nothing" test "$before" = "$(packages)"
    else
        checked "$demo installs rustup, and says that it could not download" \
            says "$logs/no-rust" "installing rustup" "rustup could not download a toolchain" "HINT: run: rustup default stable"
    fi
}

installer() {
    quoted "curl --proto"
}

with_toolchain() {
    give_toolchain
    cargo_env=$(installer)
    cargo_env=${cargo_env##*&& }
    required "a toolchain of this machine in rustup's place, then $cargo_env" inside online 20 "cargo --version"
}

install_for_me() {
    local line
    line=$(quoted "cargo install --path")
    required "$line" inside online 3000 "$line"
    checked "trunkline is on the PATH" inside online 10 "trunkline --version"
}

install_for_the_machine() {
    local line
    line=$(quoted "make install")
    checked "$line" inside online 3000 "$line"
    checked "with completions, a unit and a sample" inside online 10 "/usr/local/bin/trunkline --version && cd /usr/local &&
        ls share/bash-completion/completions/trunkline lib/systemd/system/trunkline.service /etc/trunkline/trunkline.toml"
}

uninstall() {
    local line
    line=$(quoted "make uninstall")
    checked "$line" inside online 60 "$line"
    # shellcheck disable=SC2016 # for the shell in the root
    checked "nothing but /etc/trunkline is left" inside online 10 \
        'left=$(find /usr/local /etc/trunkline -name "*trunkline*" -type f) && echo "$left" && [ "$left" = /etc/trunkline/trunkline.toml ]'
}

# --- the demo -------------------------------------------------------------------------------------------------------
is_up() {
    grep -q "every server is UP" "$1" || ! kill -0 "$started" 2>/dev/null
}

# begin_demo NETWORK LOG SECONDS
begin_demo() {
    line_for "$1" 3600 "$(quoted 'make demo')"
    "${line[@]}" </dev/null >"$2" 2>&1 &
    started=$!
    eventually "$3" is_up "$2"
    grep -q "every server is UP" "$2" || { cat "$2"; return 1; }
}

end_demo() {
    finish INT
    checked "Ctrl-C ends it and leaves nothing behind" inside online 10 '! ls -d /tmp/trunkline-demo-* && ! grep -lx postgres /proc/[0-9]*/comm'
}

# in_demo COMMAND LOG: with the environment that the demo prints.
in_demo() {
    inside offline 60 "$(sed -n 's/^  export/export/p' "$logs/demo"); $1" >"$2" 2>&1
}

# Before it is installed, the demo says how the program is called.
status_as_printed() {
    local line
    line=$(sed -nE 's/^  (.* status) --watch$/\1/p' "$logs/demo-first")
    inside online 30 "$(sed -n 's/^  export/export/p' "$logs/demo-first"); $line"
}

transcript() {
    local loop kill direct
    loop=$(quoted "for i in 1 2 3 4; do psql")
    in_demo "$loop" "$logs/loop"
    checked "the loop is answered by both replicas" counted "$logs/loop" 4 "replica[12]\|1000"
    checked "in turn" test "$(uniq "$logs/loop" | wc -l)" -eq 4
    demo_directory=$(sed -nE 's#.*TRUNKLINE_ADMIN=(/tmp/trunkline-demo-[0-9]+)/.*#\1#p' "$logs/demo" | head -n 1)
    # shellcheck disable=SC2016 # as it stands in README.md
    kill=$(quoted 'kill -9 $(head')
    checked "$kill" in_demo "$kill" "$logs/kill"
    in_demo "$loop" "$logs/loop"
    checked "then by the other one alone" counted "$logs/loop" 4 "replica2\|1000"
    in_demo "$(quoted 'trunkline status')" "$logs/status"
    checked "trunkline status" says "$logs/status" "SERVER" "WHY" "DOWN"
    in_demo "$(quoted 'trunkline profile -n 20')" "$logs/profile"
    checked "trunkline profile" says "$logs/profile" "20 runs, ms" "server first" "answered by" "replica2"
    in_demo "$(quoted "trunkline demo --tls --exec 'psql \"sslmode")" "$logs/tls"
    checked "trunkline demo --tls" says "$logs/tls" "TLSv1.3|TLS_AES_256_GCM_SHA384"
    direct=$(quoted "trunkline demo --tls --exec 'psql \"sslnegotiation")
    # The psql of bookworm is older.
    [ "$suite" = trixie ] || return 0
    in_demo "$direct" "$logs/direct"
    checked "trunkline demo --tls, and TLS without a request" says "$logs/direct" "TLSv1.3|TLS_AES_256_GCM_SHA384"
}

demo() {
    checked "make demo with a toolchain installs, compiles and starts" begin_demo online "$logs/demo-first" 3000 || exit 1
    checked "its own way to call trunkline status works before any install" status_as_printed
    end_demo
}

demo_again() {
    make_network 10.0.0.10 10.0.0.11 10.0.0.12
    checked "make demo again" begin_demo offline "$logs/demo" 120 || return
    transcript
    end_demo
}

# --------------------------------------------------------------------------------------------------------------------
# What ended early has failed, whatever it was.
report() {
    [ -n "${is_complete:-}" ] || [ "$failed" -gt 0 ] || failed=1
    printf '%d %d\n' "$passed" "$failed" >"$kept/counts"
}
trap report EXIT
trap 'exit 130' INT TERM
rm -rf "$logs"
mkdir -p "$logs"
unpack_root
first_steps
demo_without_rust
with_toolchain
demo
install_for_me
demo_again
own_servers
install_for_the_machine
mistakes
uninstall
checked "no command of README.md was left out" no_output not_quoted
is_complete=1
