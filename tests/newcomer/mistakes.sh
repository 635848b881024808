# The usual mistakes, each made against the program, with what it has to say: what happened, to what, and what to do.
# Sourced by journey.sh.
# shellcheck shell=bash
# shellcheck disable=SC2154 # its variables are the journey's

# mistaken WHAT COMMAND TEXT...: what COMMAND prints has every TEXT.
mistaken() {
    local what=$1 log=$logs/mistake-${1//[^a-z0-9]/-}
    start "$log" "$2"
    shift 2
    # One that serves in spite of the mistake goes on; another command ends.
    eventually 15 said_or_ended "$log" "$@"
    finish
    checked "mistake: $what" says "$log" "$@"
}

said_or_ended() {
    says "$@" >/dev/null || ! kill -0 "$started" 2>/dev/null
}

# changed SCRIPT: the proxy of README.md, changed by a script of sed.
changed() {
    printf '%s; %s' "$(quoted 'export TRUNKLINE__MONITOR__PASSWORD')" "$(quoted 'trunkline serve --auth verify')" | sed -E "$1"
}

# asked SCRIPT: the same configuration, looked at by `trunkline check --connect`.
asked() {
    changed "s/trunkline serve/trunkline check --connect/; $1"
}

# Roles that a user made by hand.
poor_roles() {
    sql 10.0.0.10 "CREATE ROLE no_monitor LOGIN PASSWORD '$monitor_password'" &&
        sql 10.0.0.10 "CREATE ROLE no_secrets LOGIN PASSWORD '$monitor_password' IN ROLE pg_monitor"
}

# A proxy, and a client that tries until it is refused for want of secrets.
no_secrets() {
    # shellcheck disable=SC2016 # for the shell in the root
    printf '%s & trap "kill $!; wait" EXIT; for i in $(seq 100); do %s 2>&1 | grep -A3 "cannot verify" && break; sleep 0.1; done' \
        "$(changed 's/trunkline_monitor/no_secrets/')" 'psql -X -h 127.0.0.1 -p 5434 -U app -d appdb -c "SELECT 1"'
}

# Two proxies with the same addresses.
port_taken() {
    # shellcheck disable=SC2016 # for the shell in the root
    printf '%s >/tmp/first 2>&1 & trap "kill $!; wait" EXIT; until grep -q "^ready: reads" /tmp/first; do sleep 0.1; done; %s' \
        "$(changed '')" "$(changed '')"
}

mistakes() {
    # shellcheck disable=SC2016 # a backtick is meant
    local hint='hint="`trunkline check --connect` with the same configuration asks every server and says what to do"'
    required "two monitoring roles made by hand" poor_roles
    mistaken "a wrong password of the monitoring role" "$(changed 's/(PASSWORD)=[^;]*/\1=wrong/')" \
        'password authentication failed for user \"trunkline_monitor\"' "server.name=primary" \
        "the server refuses the monitoring role: check its password, rights and pg_hba.conf"
    mistaken "one underscore in the name of a variable, and so no password" "$(changed 's/TRUNKLINE__MONITOR__/TRUNKLINE_MONITOR_/')" \
        "environment variable TRUNKLINE_MONITOR_PASSWORD" "is not read: two underscores are missing" "Write TRUNKLINE__MONITOR__PASSWORD." \
        "the server asks for a password, and none is set: set TRUNKLINE__MONITOR__PASSWORD" "server.name=primary"
    mistaken "--auth verify with a role that may not read secrets" "$(no_secrets)" \
        "the proxy cannot verify passwords now" "The proxy could not read stored secrets from any server." \
        "run what \`trunkline init-sql\` prints"
    mistaken "a role that is no member of pg_monitor" "$(changed 's/trunkline_monitor/no_monitor/')" \
        "the monitoring role lacks pg_monitor" "server.name=primary" "grant pg_monitor to it"
    mistaken "a port that is taken" "$(port_taken)" \
        "could not listen on 0.0.0.0:5434 (reads): Address already in use" "HINT: Another program listens there" \
        "ss -ltnp 'sport = :5434'" "choose another port"
    mistaken "an address of another machine" "$(changed 's/0.0.0.0:5434/10.0.0.5:5434/')" \
        "could not listen on 10.0.0.5:5434 (reads): Cannot assign requested address" "HINT: 10.0.0.5 is no address of this machine"
    mistaken "a privileged port as a plain user" \
        "$(changed 's#trunkline serve#runuser -u postgres -- /usr/local/bin/&#; s/0.0.0.0:5434/0.0.0.0:432/')" \
        "could not listen on 0.0.0.0:432 (reads): Permission denied" "HINT: Ports below 1024 need a privilege: choose another one"
    mistaken "a server name that does not resolve" "$(changed 's/10.0.0.12:/replica2.invalid:/')" \
        "server.name=replica2 reason=\"host name not resolved" "$hint"
    mistaken "a server name that does not resolve, by trunkline check" "$(asked 's/10.0.0.12:/replica2.invalid:/')" \
        "server replica2 (replica2.invalid:5432): host name not resolved" "HINT: See that the name is right"
    mistaken "primary and replica1 swapped" "$(changed 's/10.0.0.10:/NEW:/; s/10.0.0.11:/10.0.0.10:/; s/NEW:/10.0.0.11:/')" \
        "server.name=replica1 reason=\"promoted: it is configured as a replica but not in recovery\"" "$hint"
    mistaken "primary and replica1 swapped, by trunkline check" "$(asked 's/10.0.0.10:/NEW:/; s/10.0.0.11:/10.0.0.10:/; s/NEW:/10.0.0.11:/')" \
        "server primary (10.0.0.11:5432): it is a standby, and is configured as the primary" "HINT: Give it as --replica" \
        "server replica1 (10.0.0.10:5432): it is a primary, and is configured as a replica" "HINT: Give it as --primary"
    mistaken "a replica at the proxy's own listener" "$(changed 's/10.0.0.11:5432/10.0.0.11:5434/')" \
        "server.address: 10.0.0.11:5434 is where listener \"reads\" of this proxy listens" "HINT: Write the address of PostgreSQL itself"
    mistaken "a misspelled key in the file" \
        "printf '[health]\nmax_leg = \"2s\"\n' >/tmp/trunkline.toml; $(changed 's#trunkline serve#& --config /tmp/trunkline.toml#')" \
        "/tmp/trunkline.toml:2: health.max_leg: unknown key" "HINT: Did you mean \"max_lag\"?"
    mistaken "a command to a proxy that does not run" "trunkline drain replica1" \
        "no running proxy with an admin socket was found" \
        "HINT: Start \`trunkline serve\`, or name the socket of one that runs with --admin PATH." "/run/trunkline/admin.sock"
}
