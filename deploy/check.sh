#!/usr/bin/env bash
# Checks everything below deploy/, docker-compose.yml and haproxy.cfg with the programs that will read them.
# What is not installed is skipped with its reason; as root, --install gets it from Debian and PyPI first.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

failures=0
ok() { printf 'ok    %s\n' "$*"; }
skip() { printf 'skip  %s\n' "$*"; }

# checked WHAT COMMAND...: quiet when it is right.
checked() {
    local what=$1 said
    shift
    if said=$("$@" 2>&1); then
        ok "$what"
    else
        printf 'FAIL  %s\n%s\n' "$what" "$said"
        failures=$((failures + 1))
    fi
}

has() { command -v "$1" >/dev/null; }

install_tools() {
    export DEBIAN_FRONTEND=noninteractive
    local packages=()
    has shellcheck || packages+=(shellcheck)
    has haproxy || packages+=(haproxy)
    has promtool || packages+=(prometheus)
    has systemd-analyze || packages+=(systemd)
    python3 -c 'import venv, ensurepip' 2>/dev/null || packages+=(python3 python3-venv)
    if [ "${#packages[@]}" -gt 0 ]; then
        # Only their programs are wanted, not their services.
        local policy=/usr/sbin/policy-rc.d own=''
        [ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy" && own=$policy; }
        if ! timeout 120 apt-get update -qq </dev/null >/dev/null ||
            ! timeout 300 apt-get install -y -qq --no-install-recommends "${packages[@]}" </dev/null >/dev/null 2>&1; then
            skip "installing ${packages[*]}: the package archive does not give them"
        fi
        [ -z "$own" ] || rm -f "$own"
    fi
    mkdir -p target
    [ -x target/venv/bin/pip ] || python3 -m venv target/venv
    timeout 120 target/venv/bin/pip install --quiet --disable-pip-version-check kubernetes-validate ||
        skip "installing kubernetes-validate: the package index does not give it"
}

manifests() {
    if has kubectl; then kubectl kustomize deploy/k8s; else
        for file in deploy/k8s/*.yaml; do
            [ "${file##*/}" = kustomization.yaml ] || { echo ---; cat "$file"; }
        done
    fi
}

# The deployment of the variant with TLS, as kustomize merges it.
tls_deployment() {
    if has kubectl; then kubectl kustomize deploy/k8s-tls >/dev/null || return; fi
    target/venv/bin/python - deploy/k8s/deployment.yaml deploy/k8s-tls/deployment.yaml deploy/k8s-tls/kustomization.yaml <<'END'
import os, sys, yaml

def merged(base, patch):
    if isinstance(base, dict) and isinstance(patch, dict):
        return base | {key: merged(base[key], value) if key in base else value for key, value in patch.items()}
    if isinstance(base, list) and isinstance(patch, list):
        both = merged({one["name"]: one for one in base}, {one["name"]: one for one in patch})
        return list(both.values())
    return patch

base, patch, variant = (yaml.safe_load(open(path)) for path in sys.argv[1:])
for named in [*variant["resources"], *(one["path"] for one in variant["patches"])]:
    if not os.path.exists(os.path.join(os.path.dirname(sys.argv[3]), named)): sys.exit(f"kustomization.yaml: no {named}")
for one in variant["patches"]:
    if one["target"] != {"kind": base["kind"], "name": base["metadata"]["name"]}: sys.exit(f"kustomization.yaml: no target {one['target']}")
yaml.safe_dump(merged(base, patch), sys.stdout)
END
}

if [ "${1:-}" = --install ]; then
    if [ "$(id -u)" -eq 0 ] && has apt-get; then install_tools; else skip "installing what is missing: only root can, on Debian"; fi
fi

if has shellcheck; then
    checked "scripts (shellcheck)" shellcheck -x -e SC2317 scripts/*.sh scripts/ci/*.sh scripts/bench/*.sh tests/newcomer/*.sh deploy/check.sh deploy/docker/root.sh deploy/docker/postgres/entrypoint.sh deploy/docker/postgres/certificates.sh deploy/patroni/new_cluster.sh \
        deploy/haproxy/trunkline-check
else skip "scripts: no shellcheck here"; fi

if has haproxy; then
    version=$(haproxy -v | sed -n 's/^HAProxy version \([0-9.]*\).*/\1/p')
    for file in haproxy.cfg deploy/haproxy/*.cfg; do checked "$file (haproxy $version)" haproxy -c -q -f "$file"; done
else skip "haproxy.cfg, deploy/haproxy: no haproxy here"; fi

if has promtool; then
    checked "deploy/prometheus/prometheus.yml (promtool)" promtool check config deploy/prometheus/prometheus.yml
    checked "deploy/prometheus/alerts.yml (promtool test rules)" promtool test rules deploy/prometheus/alerts.test.yml
else skip "deploy/prometheus: no promtool here"; fi

if [ -x target/venv/bin/kubernetes-validate ]; then
    manifests >target/k8s.yaml
    checked "deploy/k8s (kubernetes-validate)" target/venv/bin/kubernetes-validate --strict target/k8s.yaml
    tls_deployment >target/k8s-tls.yaml || failures=$((failures + 1))
    checked "deploy/k8s-tls (kubernetes-validate)" target/venv/bin/kubernetes-validate --strict target/k8s-tls.yaml
else skip "deploy/k8s: no kubernetes-validate here (deploy/check.sh --install)"; fi

if has systemd-analyze; then
    scratch=$(mktemp -d)
    # The program itself need not be installed here.
    sed 's#/usr/bin/trunkline#/bin/true#' deploy/systemd/trunkline.service >"$scratch/trunkline.service"
    checked "deploy/systemd (systemd-analyze verify)" systemd-analyze verify "$scratch/trunkline.service"
    rm -rf "$scratch"
else skip "deploy/systemd: no systemd-analyze here"; fi

if docker compose version >/dev/null 2>&1; then
    checked "docker-compose.yml (Compose v2)" docker compose --profile haproxy --profile haproxy-only --profile client config -q
    checked "deploy/patroni/docker-compose.yml (Compose v2)" docker compose -f deploy/patroni/docker-compose.yml config -q
else skip "docker-compose.yml, deploy/patroni: no Compose v2 here"; fi
if has docker-compose; then
    checked "docker-compose.yml ($(docker-compose version --short))" docker-compose --profile haproxy --profile client config -q
    checked "deploy/patroni/docker-compose.yml ($(docker-compose version --short))" docker-compose -f deploy/patroni/docker-compose.yml config -q
fi

[ "$failures" -eq 0 ]
