# shellcheck shell=bash disable=SC2034 # what is set here is read by the scripts
# What the scripts share: where the setup runs, how its servers are asked, broken and mended, and the verdicts.
# Sourced, never run. Two kinds of setup: `trunkline demo --exec` (TRUNKLINE_DEMO_DIR is set) and the compose project.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PROGRAM=$(basename "$0")

# --- verdicts -------------------------------------------------------------------------------------------------------
FAILURES=0
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    GREEN=$'\e[32m' RED=$'\e[31m' DIM=$'\e[2m' PLAIN=$'\e[0m'
else
    GREEN='' RED='' DIM='' PLAIN=''
fi

step() { printf '%s==> %s%s\n' "$DIM" "$*" "$PLAIN"; }
note() { printf '    %s\n' "$*"; }
pass() { printf '%sPASS%s  %s\n' "$GREEN" "$PLAIN" "$*"; }
fail() {
    printf '%sFAIL%s  %s\n' "$RED" "$PLAIN" "$*"
    FAILURES=$((FAILURES + 1))
}

# verdict CONDITION TEXT: CONDITION is an arithmetic expression.
verdict() { if (($1)); then pass "$2"; else fail "$2"; fi; }

finish() {
    if [ "$FAILURES" -eq 0 ]; then
        pass "$PROGRAM: all of it holds"
        exit 0
    fi
    fail "$PROGRAM: $FAILURES of its promises do not hold"
    exit 1
}

die() {
    printf 'error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf 'HINT: %s\n' "$2" >&2
    exit 1
}

# --- time -----------------------------------------------------------------------------------------------------------
# Milliseconds since the epoch. bash 5 knows; elsewhere (macOS has bash 3.2, and a date without %N) perl does.
if [ -n "${EPOCHREALTIME:-}" ]; then
    now_ms() { local now=${EPOCHREALTIME/[.,]/}; printf '%s' "${now%???}"; }
else
    now_ms() { perl -MTime::HiRes=time -e 'printf "%d", time * 1000'; }
fi

seconds() { printf '%d.%02d s' "$(($1 / 1000))" "$(($1 % 1000 / 10))"; }

# --- where the setup is ---------------------------------------------------------------------------------------------
VIA=trunkline
# How much later than Trunkline's verdict a server may still get reads. HAProxy alone asks for the verdict, every 500 ms
# (agent-inter in haproxy.cfg), and then ends the sessions of a server that is down: those that came meanwhile, too.
GRACE_MS=0

# common_option ARGUMENTS...: takes one option that all scripts have; sets TAKEN to how many words it was.
common_option() {
    TAKEN=0
    case "$1" in
        --via)
            case "${2:-}" in
                trunkline | haproxy | haproxy-only) VIA=$2 TAKEN=2 ;;
                *) die "--via is trunkline, haproxy or haproxy-only" ;;
            esac
            ;;
        -h | --help)
            usage
            exit 0
            ;;
        -*) die "unknown option $1" "$PROGRAM --help lists them." ;;
    esac
}

COMMON_HELP='  --via WAY   trunkline (default), haproxy or haproxy-only: which way clients connect (compose profiles)
  -h, --help  This text

Where: inside "trunkline demo --auth verify --max-lag 2s --exec COMMAND", or beside the running compose project.
Exit status: 0 it holds, 1 it falls short.'

compose() {
    # As a function of its own, so that both generations of Compose do.
    if [ -z "${COMPOSE:-}" ]; then
        if docker compose version >/dev/null 2>&1; then COMPOSE='docker compose'; else COMPOSE='docker-compose'; fi
    fi
    # COMPOSE is one or two words.
    # shellcheck disable=SC2086
    (cd "$ROOT" && $COMPOSE "$@")
}

# Sets where clients connect and where HTTP is; call it after the options were read.
locate() {
    if [ -n "${TRUNKLINE_DEMO_DIR:-}" ]; then
        SETUP=demo
        : "${PGHOST:=127.0.0.1}" "${PGPORT:?run inside trunkline demo --exec}"
        READS_HOST=$PGHOST READS_PORT=${TRUNKLINE_READS_PORT:-$PGPORT}
        WRITES_HOST=$PGHOST WRITES_PORT=${TRUNKLINE_WRITES_PORT:?run inside trunkline demo --exec}
        SPLIT_PORT=${TRUNKLINE_SPLIT_PORT:-}
        [ "$VIA" = trunkline ] || [ -n "${TRUNKLINE_READS_PORT:-}" ] || die "the demo has no HAProxy of its own"
    else
        SETUP=compose
        command -v docker >/dev/null || die "neither a demo nor Docker is here" \
            "start the project (docker compose up -d --build), or run trunkline demo --exec scripts/$PROGRAM."
        compose ps 2>/dev/null | grep -q trunkline || die "the compose project does not run" \
            "docker compose up -d --build starts it."
        WRITES_HOST=trunkline WRITES_PORT=5431 SPLIT_PORT=5436
        case "$VIA" in
            trunkline) READS_HOST=trunkline READS_PORT=5434 ;;
            haproxy) READS_HOST=haproxy READS_PORT=5435 ;;
            haproxy-only)
                READS_HOST=haproxy READS_PORT=5437 TRUNKLINE_HTTP=${TRUNKLINE_HTTP:-127.0.0.1:8010} GRACE_MS=1000
                note "HAProxy asks for verdicts every 0.5 s: reads have $(seconds "$GRACE_MS") more to be where they should"
                ;;
        esac
    fi
    : "${TRUNKLINE_HTTP:=127.0.0.1:8008}"
    WORK=$(mktemp -d "${TMPDIR:-/tmp}/trunkline-script.XXXXXX")
    trap clean_up EXIT
    trap 'exit 130' INT TERM
    await_ready
}

# --- asking Trunkline -----------------------------------------------------------------------------------------------
# http PATH [ADDRESS]: sets STATUS (0 = no answer) and BODY. In bash itself: curl is not everywhere.
http() {
    local answer head
    answer=$(exchange "${2:-$TRUNKLINE_HTTP}" "$1" 2>/dev/null)
    head=${answer%%$'\n'*}
    STATUS=$(cut -d' ' -f2 <<<"$head")
    BODY=${answer#*$'\r\n\r\n'}
    [ -n "$STATUS" ] || STATUS=0
}

exchange() {
    exec 3<>"/dev/tcp/${1%:*}/${1##*:}" || return
    printf 'GET %s HTTP/1.0\r\n\r\n' "$2" >&3
    local line
    while read -r -t 3 line <&3 || [ -n "$line" ]; do printf '%s\n' "$line"; done
}

is_up() {
    http "/$1"
    [ "$STATUS" = 200 ]
}

# state_of SERVER: its verdict and why, as in "lagging, 2.4 s behind".
state_of() {
    http "/$1"
    printf '%s' "${BODY#*verdict: }"
}

# All servers by name, and the primary's name, as Trunkline has them now.
node_names() {
    http /cluster
    grep -o '"name":"[^"]*"' <<<"$BODY" | cut -d'"' -f4
}

find_nodes() {
    http '/cluster'
    PRIMARY=$(grep -o '"primary":"[^"]*"' <<<"$BODY" | cut -d'"' -f4)
    [ -n "$PRIMARY" ] || die "Trunkline at $TRUNKLINE_HTTP knows no primary"
    REPLICAS=()
    local name
    for name in $(node_names); do
        [ "$name" = "$PRIMARY" ] || REPLICAS+=("$name")
    done
    [ "${#REPLICAS[@]}" -ge 1 ] || die "Trunkline at $TRUNKLINE_HTTP knows no replica"
    REPLICA=${REPLICAS[0]}
    http /cluster
    local max_lag
    max_lag=$(grep -o '"max_lag_seconds":[0-9.]*' <<<"$BODY" | cut -d: -f2)
    MAX_LAG_MS=$(awk -v s="$max_lag" 'BEGIN { printf "%d", s * 1000 }')
}

await_ready() {
    local deadline=$(($(now_ms) + 30000)) name all
    while :; do
        all=1
        for name in $(node_names); do is_up "$name" || all=0; done
        http /readyz
        [ "$STATUS" = 200 ] && [ "$all" = 1 ] && break
        [ "$(now_ms)" -lt "$deadline" ] || die "not every server is UP (http://$TRUNKLINE_HTTP/cluster)" \
            "trunkline status says why."
        sleep 0.2
    done
    find_nodes
}

# A server that was DOWN grows to its share (slow_start): waits until all have theirs.
await_weights() {
    local deadline=$(($(now_ms) + 60000)) told=''
    http /cluster
    while grep -qE '"slow_start":0' <<<"$BODY"; do
        [ -n "$told" ] || note "a server has come back lately, its share still grows: waiting for that"
        told=1
        [ "$(now_ms)" -lt "$deadline" ] || break
        sleep 0.2
        http /cluster
    done
}

# await SERVER up|out SECONDS [SINCE_MS]: sets TOOK (ms since then) and AT, the moment of Trunkline's verdict; fails after
# that time. The moment is Trunkline's own: this script may have noticed later.
await() {
    local begin deadline
    begin=${4:-$(now_ms)}
    deadline=$((begin + $3 * 1000))
    while :; do
        if is_up "$1"; then [ "$2" = up ] && break; else [ "$2" = out ] && break; fi
        TOOK=$(($(now_ms) - begin))
        [ "$(now_ms)" -lt "$deadline" ] || return 1
        sleep 0.02
    done
    local age
    http "/$1?format=json"
    age=$(grep -o '"since_seconds":[0-9.]*' <<<"$BODY" | cut -d: -f2)
    AT=$(awk -v now="$(now_ms)" -v age="${age:-0}" 'BEGIN { printf "%.0f", now - age * 1000 }')
    if [ "$AT" -lt "$begin" ]; then AT=$begin; fi
    TOOK=$((AT - begin))
}

# --- SQL and clients ------------------------------------------------------------------------------------------------
# server_sql SERVER SQL: on that server itself, past Trunkline.
server_sql() {
    if [ "$SETUP" = demo ]; then
        local port
        port=$(sed -n 4p "$TRUNKLINE_DEMO_DIR/$1/postmaster.pid")
        PGAPPNAME=$PROGRAM psql -X -h 127.0.0.1 -p "$port" -Atqc "$2"
    else
        compose exec -T -u postgres "$1" psql -X -d appdb -Atqc "$2" </dev/null
    fi
}

# clients KIND [ARGUMENTS]: runs clients.sh where PostgreSQL is reached, in the foreground.
clients() {
    local kind=$1 host=$READS_HOST port=$READS_PORT
    shift
    [ "$kind" = reads ] || { host=$WRITES_HOST port=$WRITES_PORT; }
    if [ "$SETUP" = demo ]; then
        PGHOST=$host PGPORT=$port exec "${BASH:-bash}" "$ROOT/scripts/clients.sh" "$kind" "$@"
    else
        compose run --rm --no-deps -T --name "trunkline-$kind-$$" -e PGHOST="$host" -e PGPORT="$port" \
            client /scripts/clients.sh "$kind" "$@" </dev/null 2>>"$WORK/compose.log"
    fi
}

CLIENTS=()

# start_clients KIND [ARGUMENTS]: the same beside us, its lines into $WORK/KIND, once the first line is there.
start_clients() {
    local kind=$1 deadline=$(($(now_ms) + 30000))
    : >"$WORK/$kind"
    (clients "$@") >"$WORK/$kind" 2>"$WORK/$kind.err" &
    CLIENTS+=("$kind:$!")
    until [ -s "$WORK/$kind" ]; do
        [ "$(now_ms)" -lt "$deadline" ] || die "the clients ($kind) do not start: $(cat "$WORK/$kind.err" "$WORK/compose.log" 2>/dev/null)"
        sleep 0.05
    done
}

stop_clients() {
    local entry
    for entry in ${CLIENTS[@]+"${CLIENTS[@]}"}; do
        if [ "$SETUP" = demo ]; then
            kill -TERM "${entry#*:}" 2>/dev/null
        else
            docker kill -s TERM "trunkline-${entry%%:*}-$$" >/dev/null 2>&1
        fi
        wait "${entry#*:}" 2>/dev/null
    done
    CLIENTS=()
}

# count_reads FROM_MS: reads that began since then; sets READS, ERRORS, and IN_FLIGHT: errors of those that began before.
count_reads() {
    read -r READS ERRORS IN_FLIGHT < <(awk -v from="$1" '
        $3 == "ERROR" { if ($1 >= from) errors++; else before++ }
        $1 >= from { reads++ }
        END { print reads + 0, errors + 0, before + 0 }' "$WORK/reads")
}

# reads_on SERVER FROM_MS: successful reads by that server that began since then.
reads_on() { awk -v server="$1" -v from="$2" '$1 >= from && $3 == server { n++ } END { print n + 0 }' "$WORK/reads"; }

# stale_reads LIMIT_MS: reads that lacked a row whose INSERT was answered LIMIT_MS before they began.
stale_reads() {
    awk -v limit="$1" '
        NR == FNR { if ($3 != "ERROR") { at[++n] = $2; id[n] = $4 } next }
        $3 == "ERROR" { next }
        {
            low = 0; high = n
            while (low < high) { middle = int((low + high + 1) / 2); if (at[middle] <= $1 - limit) low = middle; else high = middle - 1 }
            if (low > 0 && $4 < id[low]) stale++
        }
        END { print stale + 0 }' "$WORK/writes" "$WORK/reads"
}

show_errors() {
    local line
    awk '$3 == "ERROR"' "$WORK/reads" | cut -d' ' -f4- | sort | uniq -c | sort -rn | head -n 5 |
        while read -r line; do note "$line"; done
}

# --- breaking and mending -------------------------------------------------------------------------------------------
BROKEN=()
# When the last thing was broken, and when that was ordered: Docker needs its time to carry it out.
BROKE_AT=0
ORDERED_AT=0

processes_of() {
    local postmaster
    postmaster=$(head -n 1 "$TRUNKLINE_DEMO_DIR/$1/postmaster.pid")
    printf '%s\n' "$postmaster"
    pgrep -P "$postmaster"
}

# The whole server at once, as the kernel or a power cut does it.
kill_node() {
    BROKEN+=("start:$1")
    local what
    if [ "$SETUP" = demo ]; then
        what=$(processes_of "$1")
        BROKE_AT=$(now_ms)
        # shellcheck disable=SC2086
        kill -9 $what 2>/dev/null
    else
        what=$(container_of "$1")
        ORDERED_AT=$(now_ms)
        docker kill -s KILL "$what" >/dev/null
        BROKE_AT=$(died_at "$what" "$ORDERED_AT")
        return
    fi
    ORDERED_AT=$BROKE_AT
}

# died_at CONTAINER ORDERED_MS: when it really ended, as Docker says; never before the order to kill it.
died_at() {
    local day=86400000 now clock hours minutes rest at
    now=$(now_ms)
    clock=$(docker inspect -f '{{.State.FinishedAt}}' "$1")
    clock=${clock#*T}
    IFS=: read -r hours minutes rest <<<"${clock%Z}"
    clock=$(awk -v h="$hours" -v m="$minutes" -v s="$rest" 'BEGIN { printf "%d", ((h * 60 + m) * 60 + s) * 1000 }')
    # The time of day in UTC is all that is needed of the date.
    at=$((now - (now % day - clock + day) % day))
    if [ "$at" -lt "$2" ]; then at=$2; fi
    printf '%s' "$at"
}

start_node() {
    BROKEN=(${BROKEN[@]+"${BROKEN[@]/#start:$1/}"})
    if [ "$SETUP" = compose ]; then
        compose start "$1" >/dev/null 2>&1
        return
    fi
    local data=$TRUNKLINE_DEMO_DIR/$1 server owner as=()
    server=$(cut -d' ' -f1 "$data/postmaster.opts")
    # Its third column is the owner on every system; stat's options are not.
    # shellcheck disable=SC2012
    owner=$(ls -ld "$data" | awk '{ print $3 }')
    [ "$(id -u)" -ne 0 ] || as=(runuser -u "$owner" --)
    # Just killed, its memory may not be free yet: once more then.
    local attempt
    for attempt in 1 2 3; do
        ${as[@]+"${as[@]}"} "$(dirname "$server")/pg_ctl" -D "$data" -w -l "/dev/null" start >"$WORK/pg_ctl.$attempt" 2>&1 && return
        sleep 0.5
    done
    die "could not start $1: $(cat "$WORK/pg_ctl.3")"
}

# Alive to the kernel, silent to all others.
pause_node() {
    BROKEN+=("resume:$1")
    local what
    if [ "$SETUP" = demo ]; then
        what=$(processes_of "$1")
        BROKE_AT=$(now_ms)
        # shellcheck disable=SC2086
        kill -STOP $what
    else
        what=$(container_of "$1")
        BROKE_AT=$(now_ms)
        docker pause "$what" >/dev/null || die "Docker cannot pause $1 on this machine"
    fi
}

resume_node() {
    BROKEN=(${BROKEN[@]+"${BROKEN[@]/#resume:$1/}"})
    if [ "$SETUP" = demo ]; then
        # shellcheck disable=SC2046
        kill -CONT $(processes_of "$1") 2>/dev/null
    else
        compose unpause "$1" >/dev/null 2>&1
    fi
}

pause_replay() {
    BROKEN+=("replay:$1")
    server_sql "$1" 'SELECT pg_wal_replay_pause()' >/dev/null
}

resume_replay() {
    BROKEN=(${BROKEN[@]+"${BROKEN[@]/#replay:$1/}"})
    server_sql "$1" 'SELECT pg_wal_replay_resume()' >/dev/null
}

# The network that only primary and replicas share, and the container of a server.
replication_network() {
    docker inspect -f '{{range $name, $_ := .NetworkSettings.Networks}}{{println $name}}{{end}}' "$(container_of "$PRIMARY")" | grep "_replication$"
}
container_of() { compose ps -q "$1"; }

# Nothing passes between the primary and this replica any more; clients and Trunkline still reach it.
cut_node() {
    BROKEN+=("heal:$1")
    if [ "$SETUP" = demo ]; then
        # One host has no network to cut: the sender that falls silent is the same to the replica.
        CUT_SENDER=$(server_sql "$PRIMARY" "SELECT pid FROM pg_stat_replication WHERE application_name = '$1'")
        BROKE_AT=$(now_ms)
        kill -STOP "$CUT_SENDER"
    else
        local network what
        network=$(replication_network)
        what=$(container_of "$1")
        BROKE_AT=$(now_ms)
        docker network disconnect "$network" "$what"
    fi
}

heal_node() {
    BROKEN=(${BROKEN[@]+"${BROKEN[@]/#heal:$1/}"})
    if [ "$SETUP" = demo ]; then
        kill -CONT "$CUT_SENDER" 2>/dev/null
    else
        docker network connect "$(replication_network)" "$(container_of "$1")" 2>/dev/null
    fi
}

# Whatever happens, the setup is left whole.
clean_up() {
    local entry
    stop_clients
    for entry in ${BROKEN[@]+"${BROKEN[@]}"}; do
        case "$entry" in
            start:*) start_node "${entry#*:}" ;;
            resume:*) resume_node "${entry#*:}" ;;
            replay:*) resume_replay "${entry#*:}" ;;
            heal:*) heal_node "${entry#*:}" ;;
        esac
    done
    rm -rf "$WORK"
}
