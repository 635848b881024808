#!/usr/bin/env bash
# Clients for the other scripts: each statement on a new connection, one line for each.
set -u

usage() {
    cat <<'END'
Usage: clients.sh reads|writes|both [COUNT] [PAUSE]

Connects as the PG* environment says, asks once, and leaves: COUNT times (0 = two clients, until ended), PAUSE seconds
apart (0.02).

  reads   BEGAN_MS ENDED_MS SERVER NEWEST_ID      the server that answered, and the newest row of ynar it has
  writes  BEGAN_MS ENDED_MS written ID          a row that was inserted
  both    BEGAN_MS ENDED_MS SERVER ID SERVER NEWEST_ID   a row that was inserted, then a read, each with its server
  any     BEGAN_MS ENDED_MS ERROR TEXT          what the client was told
END
}

now_ms() { local now=${EPOCHREALTIME/[.,]/}; printf -v "$1" '%s' "${now%???}"; }
[ -n "${EPOCHREALTIME:-}" ] || now_ms() { printf -v "$1" '%s' "$(perl -MTime::HiRes=time -e 'printf "%d", time * 1000')"; }

case "${1:-}" in
    reads) sql="SELECT current_setting('cluster_name') || ' ' || COALESCE(max(id), 0) FROM ynar" ;;
    writes) sql="INSERT INTO ynar (info) VALUES ('written by a script') RETURNING 'written ' || id" ;;
    both) sql="INSERT INTO ynar (info) VALUES ('written by a script') RETURNING current_setting('cluster_name') || ' ' || id" ;;
    -h | --help)
        usage
        exit 0
        ;;
    *)
        usage >&2
        exit 1
        ;;
esac
count=${2:-0} pause=${3:-0.02} done=0 began=0 ended=0
requests=(-c "$sql")
# A request of its own, by the same session.
[ "$1" != both ] || requests+=(-c "SELECT current_setting('cluster_name') || ' ' || max(id) FROM ynar")
export PGAPPNAME=clients.sh PGCONNECT_TIMEOUT=${PGCONNECT_TIMEOUT:-15}

converse() {
    while [ "$count" -eq 0 ] || [ "$done" -lt "$count" ]; do
        now_ms began
        answer=$(psql -XAtq "${requests[@]}" 2>&1)
        status=$?
        now_ms ended
        if [ "$status" -eq 0 ]; then
            printf '%s %s %s\n' "$began" "$ended" "${answer//$'\n'/ }"
        else
            printf '%s %s ERROR %s\n' "$began" "$ended" "${answer//$'\n'/ | }"
        fi
        done=$((done + 1))
        sleep "$pause"
    done
}

# A second reader, so that one that waits does not hide what others see.
second=''
trap '[ -z "$second" ] || kill "$second" 2>/dev/null; exit 0' TERM INT
if [ "$count" -eq 0 ] && [ "$1" = reads ]; then
    converse &
    second=$!
fi
converse
