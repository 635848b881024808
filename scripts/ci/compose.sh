#!/usr/bin/env bash
# Runs what people run: the compose project with all scripts, where a Docker engine is; otherwise the same scripts on
# the demo, with the reason said. HAProxy without Docker is tests/tests/behind_haproxy.rs.
#   compose.sh            an engine that runs already, or the demo
#   compose.sh --engine   as root on Debian: installs and starts an engine of its own where none runs (minutes)
# The binary is $TRUNKLINE_BIN, or the one that cargo builds with the profile "quick".
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit

export COMPOSE_PROJECT_NAME=trunkline-ci TRUNKLINE_DOCKERFILE=deploy/docker/prebuilt.Dockerfile
export DEBIAN_FRONTEND=noninteractive
scratch=$(mktemp -d /tmp/trunkline-compose.XXXXXX)
failed=()

say() { printf '    %s\n' "$*"; }

# run COMMAND...: its verdict lines, or all it said when it fails. Limits of time are a busy machine's too, so one
# failure is shown and followed by a second try, which must hold.
run() {
    local attempt begun
    for attempt in first second; do
        begun=$SECONDS
        if "$@" >"$scratch/said" 2>&1; then
            grep -E '^PASS' "$scratch/said" | sed 's/^/    /'
            say "$* took $((SECONDS - begun)) s"
            return
        fi
        printf '    %s falls short, %s try (load %s):\n' "$*" "$attempt" "$(cut -d' ' -f1 /proc/loadavg)"
        sed 's/^/    /' "$scratch/said"
    done
    failed+=("$*")
}

binary() {
    if [ -z "${TRUNKLINE_BIN:-}" ]; then
        cargo build --quiet --profile quick -p trunkline || exit 1
        TRUNKLINE_BIN=$(readlink -f "${CARGO_TARGET_DIR:-target}/quick/trunkline")
    fi
    export TRUNKLINE_BIN
}

# --- an engine ------------------------------------------------------------------------------------------------------
dockerd_pid=''

start_engine() {
    [ "$(id -u)" -eq 0 ] || { say "no engine: only root could start one"; return 1; }
    command -v dockerd >/dev/null || {
        say "installing docker.io"
        apt-get update -qq >/dev/null && apt-get install -y -qq --no-install-recommends docker.io >/dev/null 2>&1
    } || { say "no engine: docker.io cannot be installed"; return 1; }
    export DOCKER_HOST=unix://$scratch/docker.sock
    dockerd --host "$DOCKER_HOST" --data-root "$scratch/data" --exec-root "$scratch/exec" --pidfile "$scratch/dockerd.pid" \
        >"$scratch/dockerd.log" 2>&1 &
    dockerd_pid=$!
    for _ in $(seq 60); do
        docker info >/dev/null 2>&1 && return
        kill -0 "$dockerd_pid" 2>/dev/null || break
        sleep 0.5
    done
    say "no engine: dockerd does not start here: $(tail -n 1 "$scratch/dockerd.log")"
    return 1
}

compose() {
    if docker compose version >/dev/null 2>&1; then docker compose "$@"; else docker-compose "$@"; fi
}

compose_program() {
    docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null ||
        { [ "$(id -u)" -eq 0 ] && apt-get install -y -qq docker-compose >/dev/null 2>&1; }
}

base_image() {
    docker image inspect debian:trixie-slim >/dev/null 2>&1 || docker pull -q debian:trixie-slim 2>/dev/null && return
    say "no registry: making debian:trixie-slim of Debian's packages"
    command -v debootstrap >/dev/null || apt-get install -y -qq debootstrap >/dev/null 2>&1 || return
    debootstrap --variant=minbase trixie "$scratch/root" http://deb.debian.org/debian >"$scratch/debootstrap.log" 2>&1 &&
        tar -C "$scratch/root" -c . | docker import - debian:trixie-slim >/dev/null
}

clean_up() {
    if [ -n "${is_up:-}" ]; then
        compose --profile haproxy --profile haproxy-only --profile client down -v --remove-orphans >/dev/null 2>&1
    fi
    if [ -n "$dockerd_pid" ]; then
        kill "$dockerd_pid" 2>/dev/null
        wait "$dockerd_pid" 2>/dev/null
    fi
    rm -rf --one-file-system "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# --- what is run ----------------------------------------------------------------------------------------------------
on_compose() {
    compose_program || { say "no Compose here"; return 1; }
    base_image || { say "no debian:trixie-slim: $(tail -n 1 "$scratch/debootstrap.log" 2>/dev/null)"; return 1; }
    cp "$TRUNKLINE_BIN" deploy/docker/prebuilt/trunkline
    local begun=$SECONDS
    is_up=1
    compose --profile haproxy up -d --build >"$scratch/up" 2>&1 || { tail -n 30 "$scratch/up"; failed+=("docker compose up"); return; }
    say "the project was up after $((SECONDS - begun)) s"
    run scripts/test_lb.sh 20
    run scripts/test_failover.sh
    run scripts/test_lag.sh
    run scripts/test_primary_failback.sh
    run scripts/profile_query.sh -n 5
    run scripts/test_lb.sh --via haproxy 20
    run scripts/test_failover.sh --via haproxy kill proxy
    run scripts/test_lb.sh --via haproxy-only 20
    run scripts/test_failover.sh --via haproxy-only kill
    [ "${#failed[@]}" -eq 0 ] || compose --profile haproxy logs --tail 60
}

on_demo() {
    local script
    for script in "test_lb.sh 20" test_failover.sh test_lag.sh test_primary_failback.sh "profile_query.sh -n 5" "monitor.sh -n 1"; do
        # A cluster for each, so that none waits for what another one broke.
        run "$TRUNKLINE_BIN" demo --auth verify --max-lag 2s --exec "scripts/$script"
    done
}

binary
if docker info >/dev/null 2>&1 || { [ "${1:-}" = --engine ] && start_engine; }; then
    on_compose || failed+=("the compose project")
else
    [ "${1:-}" = --engine ] || say "compose is skipped: no Docker engine runs here (scripts/ci/compose.sh --engine starts one)"
    say "the scripts run on the demo instead"
    on_demo
fi
if [ "${#failed[@]}" -gt 0 ]; then
    printf 'FAIL  %s\n' "${failed[@]}"
    exit 1
fi
