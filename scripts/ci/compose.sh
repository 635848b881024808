#!/usr/bin/env bash
# Runs what people run: the compose project with all scripts, where a Docker engine is; otherwise the same scripts on
# the demo, with the reason said. HAProxy without Docker is tests/tests/behind_haproxy.rs.
#   compose.sh            an engine that runs already, or the demo
#   compose.sh --engine   as root on Debian: installs and starts an engine of its own where none runs (minutes)
# The binary is $TRUNKLINE_BIN, or the one that cargo builds with the profile "quick"; it is compiled once, and images
# take it as it is. Everything that could wait for ever has a limit.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit

export COMPOSE_PROJECT_NAME=trunkline-ci TRUNKLINE_DOCKERFILE=deploy/docker/prebuilt.Dockerfile
export DEBIAN_FRONTEND=noninteractive
scratch=$(mktemp -d /tmp/trunkline-compose.XXXXXX)
failed=()
# Load per core from which on the promised times are not the setup's to keep.
LOAD_MAX=6

say() { printf '    %s\n' "$*"; }

# within SECONDS COMMAND...: a command of the machine's own, which may hang on its network. Waited for in the
# background, as bash heeds signals only between commands; what runs there would ignore SIGINT.
running=''
within() {
    env --default-signal=INT timeout -k 30 "$@" </dev/null &
    running=$!
    wait "$running"
    local status=$?
    running=''
    return "$status"
}

overloaded() {
    awk -v cores="$(nproc)" -v most="$LOAD_MAX" '{ exit !($1 > cores * most) }' /proc/loadavg
}

# run COMMAND...: its verdict lines, or all it said when it fails. A failure is one. Only on a machine that is busy with
# other things far beyond its cores it is shown and the command run once more.
run() {
    local begun=$SECONDS
    if within 420 "$@" >"$scratch/said" 2>&1; then
        grep -E '^PASS' "$scratch/said" | sed 's/^/    /'
        say "$* took $((SECONDS - begun)) s"
        return
    fi
    sed 's/^/    /' "$scratch/said"
    say "FAIL  $* (load $(cut -d' ' -f1 /proc/loadavg) on $(nproc) cores)"
    if [ -z "${second:-}" ] && overloaded; then
        say "RETRY $*: the machine has more than $LOAD_MAX times its cores to do"
        second=1 run "$@"
        return
    fi
    failed+=("$*")
}

binary() {
    if [ -z "${TRUNKLINE_BIN:-}" ]; then
        within 1800 cargo build --quiet --profile quick -p trunkline || exit 1
        TRUNKLINE_BIN=$(readlink -f "${CARGO_TARGET_DIR:-target}/quick/trunkline")
    fi
    export TRUNKLINE_BIN
}

# --- an engine ------------------------------------------------------------------------------------------------------
dockerd_pid=''

install() {
    within 120 apt-get update -qq >/dev/null 2>&1
    within 300 apt-get install -y -qq --no-install-recommends "$@" >"$scratch/apt.log" 2>&1
}

start_engine() {
    [ "$(id -u)" -eq 0 ] || { say "no engine: only root could start one"; return 1; }
    if ! command -v dockerd >/dev/null; then
        command -v apt-get >/dev/null || { say "no engine: no dockerd, and no apt-get to install it"; return 1; }
        say "installing docker.io"
        # Its package would start a service that takes over the machine's firewall; only the programs are wanted.
        local policy=/usr/sbin/policy-rc.d
        [ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"; local own=$policy; }
        # Newer releases have the command line in a package of its own.
        install docker.io docker-cli || install docker.io
        [ -z "${own:-}" ] || rm -f "$own"
        command -v dockerd >/dev/null || { say "no engine: docker.io cannot be installed: $(tail -n 1 "$scratch/apt.log")"; return 1; }
    fi
    export DOCKER_HOST=unix://$scratch/docker.sock
    dockerd --host "$DOCKER_HOST" --data-root "$scratch/data" --exec-root "$scratch/exec" --pidfile "$scratch/dockerd.pid" \
        </dev/null >"$scratch/dockerd.log" 2>&1 &
    dockerd_pid=$!
    local deadline=$((SECONDS + 60))
    while [ "$SECONDS" -lt "$deadline" ]; do
        within 5 docker info >/dev/null 2>&1 && return
        kill -0 "$dockerd_pid" 2>/dev/null || break
        sleep 0.5
    done
    say "no engine: dockerd does not start here: $(tail -n 1 "$scratch/dockerd.log")"
    unset DOCKER_HOST
    return 1
}

compose() {
    if docker compose version >/dev/null 2>&1; then within 900 docker compose "$@"; else within 900 docker-compose "$@"; fi
}

compose_program() {
    docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null ||
        { [ "$(id -u)" -eq 0 ] && install docker-compose; }
}

base_image() {
    docker image inspect debian:trixie-slim >/dev/null 2>&1 || within 120 docker pull -q debian:trixie-slim >/dev/null 2>&1 && return
    say "no registry: making debian:trixie-slim of Debian's packages"
    command -v debootstrap >/dev/null || install debootstrap || return
    within 300 debootstrap --variant=minbase trixie "$scratch/root" http://deb.debian.org/debian >"$scratch/debootstrap.log" 2>&1 &&
        tar -C "$scratch/root" -c . | docker import - debian:trixie-slim >/dev/null
}

# All that the images need besides the base: whether this machine gives it is not what is tested here.
containers_work() {
    within 120 docker run --rm debian:trixie-slim apt-get update -qq -o Acquire::Retries=0 >"$scratch/probe" 2>&1 &&
        ! grep -q '^[EW]:' "$scratch/probe"
}

clean_up() {
    if [ -n "${is_up:-}" ]; then
        compose --profile haproxy --profile haproxy-only --profile client down -v --remove-orphans >/dev/null 2>&1
        docker rmi -f trunkline-ci-rust trunkline-ci-source >/dev/null 2>&1
        rm -f deploy/docker/prebuilt/trunkline
    fi
    if [ -n "$dockerd_pid" ]; then
        kill "$dockerd_pid" 2>/dev/null
        wait "$dockerd_pid" 2>/dev/null
    fi
    rm -rf --one-file-system "$scratch"
}
interrupted() {
    trap '' INT TERM
    [ -z "$running" ] || { kill "$running" && wait "$running"; } 2>/dev/null
    exit 130
}
trap clean_up EXIT
trap interrupted INT TERM

# --- what is run ----------------------------------------------------------------------------------------------------
# What a container needs of this machine; says what is missing.
has_what_it_takes() {
    compose_program || { say "no Compose here"; return 1; }
    base_image || { say "no debian:trixie-slim: $(tail -n 1 "$scratch/debootstrap.log" 2>/dev/null)"; return 1; }
    containers_work || { say "no container reaches Debian's archive from here: $(tail -n 1 "$scratch/probe")"; return 1; }
}

# The Dockerfile of users, all but the compiling: its cargo gives the binary that is built already.
check_dockerfile() {
    mkdir -p "$scratch/rust" && cp "$TRUNKLINE_BIN" "$scratch/rust/trunkline"
    cat >"$scratch/rust/Dockerfile" <<'END'
FROM debian:trixie-slim
COPY trunkline /
RUN printf '#!/bin/sh\nset -e\nmkdir -p "target/release"\ncp /trunkline target/release/\n' >/usr/bin/cargo && chmod +x /usr/bin/cargo
END
    image() { within 300 docker build -q "$@" >>"$scratch/build" 2>&1; }
    if ! image -t trunkline-ci-rust "$scratch/rust" ||
        ! image -f deploy/docker/Dockerfile --build-arg RUST_IMAGE=trunkline-ci-rust -t trunkline-ci-source . ||
        ! within 60 docker run --rm --read-only --cap-drop ALL trunkline-ci-source --version >>"$scratch/build" 2>&1; then
        cat "$scratch/build"
        failed+=("deploy/docker/Dockerfile")
        return
    fi
    say "deploy/docker/Dockerfile: ok, $(($(docker image inspect -f '{{.Size}}' trunkline-ci-source) / 1000000)) MB"
}

on_compose() {
    cp "$TRUNKLINE_BIN" deploy/docker/prebuilt/trunkline
    check_dockerfile
    local begun=$SECONDS
    is_up=1
    compose --profile haproxy up -d --build >"$scratch/up" 2>&1 || { tail -n 30 "$scratch/up"; failed+=("docker compose up"); return; }
    say "the project was up after $((SECONDS - begun)) s"
    run scripts/test_lb.sh 20
    run scripts/test_split.sh 20
    run scripts/test_failover.sh
    run scripts/test_lag.sh
    run scripts/test_primary_failback.sh
    run scripts/profile_query.sh -n 5
    run scripts/test_lb.sh --via haproxy 20
    run scripts/test_failover.sh --via haproxy kill proxy
    run scripts/test_lb.sh --via haproxy-only 20
    run scripts/test_failover.sh --via haproxy-only kill
    run scripts/monitor.sh -n 1
    [ "${#failed[@]}" -eq 0 ] || compose --profile haproxy logs --tail 60
}

on_demo() {
    local script
    for script in "test_lb.sh 20" "test_split.sh 20" test_failover.sh test_lag.sh test_primary_failback.sh "profile_query.sh -n 5" "monitor.sh -n 1"; do
        # A cluster for each, so that none waits for what another one broke.
        run "$TRUNKLINE_BIN" demo --auth verify --max-lag 2s --exec "scripts/$script"
    done
}

binary
if { within 10 docker info >/dev/null 2>&1 || { [ "${1:-}" = --engine ] && start_engine; }; } && has_what_it_takes; then
    on_compose
else
    [ "${1:-}" = --engine ] || say "no Docker engine runs here (scripts/ci/compose.sh --engine starts one)"
    say "the compose project is SKIPPED for that reason; the same scripts run on the demo instead"
    on_demo
fi
if [ "${#failed[@]}" -gt 0 ]; then
    printf 'FAIL  %s\n' "${failed[@]}"
    exit 1
fi
