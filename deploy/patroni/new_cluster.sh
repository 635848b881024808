#!/usr/bin/env bash
# What a new cluster gets, once, on its first leader: the database, the role of Trunkline's probes, a table for the scripts.
# Patroni gives the leader's connection string.
set -euo pipefail
psql -X -v ON_ERROR_STOP=1 -d "$1" -c 'CREATE DATABASE appdb'
psql -X -v ON_ERROR_STOP=1 -d "$1 dbname=appdb" -v monitor_password="$MONITOR_PASSWORD" \
    -v replication_password="$REPLICATION_PASSWORD" -f /init.sql
