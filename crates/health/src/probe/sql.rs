//! The statements, made of one piece per fact: what a server refuses is left out. They run on PostgreSQL 12 and later, on
//! primaries and standbys, with any role that may log in.
//!
//! Every name is qualified by the schema that it is in, so that nothing can be put in its place.

use trunkline_topology::Dialect;

use crate::judge::AskedFact;

/// What is added to a statement for one fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FactPiece {
    pub(super) fact: AskedFact,
    columns: String,
    join: &'static str,
}

/// What all pieces of a statement have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    columns: &'static str,
    from: &'static str,
}

/// Frame of what does not change while a connection lasts.
pub(super) const IDENTIFY: Frame =
    Frame { columns: "pg_catalog.current_setting('server_version_num') AS version", from: "" };

/// Frame of what is asked every tick. Every function that fails in the wrong mode stays inside CASE on r.rec.
pub(super) const TICK: Frame = Frame {
    columns: "r.rec, (extract(epoch FROM pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.*) 1e6)::pg_catalog.int8 AS now_us",
    from: " FROM (SELECT pg_catalog.pg_is_in_recovery() AS rec OFFSET 0) r",
};

/// The instances of an RDS Multi-AZ DB cluster; one of another kind has no source.
pub(super) const RDS_TOPOLOGY: &str = "SELECT rds_tools.multi_az_db_cluster_source_dbi_resource_id() AS source,\
    rds_tools.dbi_resource_id() AS own,\
    (SELECT pg_catalog.string_agg(t.id::pg_catalog.text, ',') FROM rds_tools.show_topology('trunkline') t) AS instances";

/// `server_version_num` from which on `pg_get_wal_replay_pause_state` exists.
const PAUSE_STATE_SINCE: u32 = 140_000;

const SYSTEM_IDENTIFIER: &str =
    "(SELECT c.system_identifier FROM pg_catalog.pg_control_system() c) AS system_identifier";
const START_TIME: &str = "(extract(epoch FROM pg_catalog.pg_postmaster_start_time()) OPERATOR(pg_catalog.*) 1e6)::pg_catalog.int8 AS started_us";
const STATS_RIGHTS: &str = "pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE') AS can_see_all";
const PLATFORM: &str = "(SELECT s.setting FROM pg_catalog.pg_settings s \
    WHERE s.name OPERATOR(pg_catalog.=) 'rds.extensions') AS rds_extensions,\
    EXISTS (SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace \
    WHERE n.nspname OPERATOR(pg_catalog.=) 'rds_tools' \
    AND p.proname OPERATOR(pg_catalog.=) 'multi_az_db_cluster_source_dbi_resource_id') AS has_rds_tools";
const REPLAYED: &str =
    "(CASE WHEN r.rec THEN pg_catalog.pg_last_wal_replay_lsn() END)::pg_catalog.text AS replay_lsn";
const RECEIVED: &str =
    "(CASE WHEN r.rec THEN pg_catalog.pg_last_wal_receive_lsn() END)::pg_catalog.text AS receive_lsn";
const FLUSHED: &str =
    "(CASE WHEN NOT r.rec THEN pg_catalog.pg_current_wal_flush_lsn() END)::pg_catalog.text AS flush_lsn";
const WRITTEN: &str =
    "(CASE WHEN NOT r.rec THEN pg_catalog.pg_current_wal_lsn() END)::pg_catalog.text AS write_lsn";
const INSERTED: &str =
    "(CASE WHEN NOT r.rec THEN pg_catalog.pg_current_wal_insert_lsn() END)::pg_catalog.text AS insert_lsn";
// The name of any segment begins with the timeline that is written now.
// It is immutable to the planner, which would call it with a constant, also on a standby, which refuses it.
const TIMELINE: &str = "pg_catalog.substr(pg_catalog.pg_walfile_name(CASE WHEN NOT r.rec THEN '0/1000000'::pg_catalog.pg_lsn END), 1, 8) AS tli_hex";
const LAST_COMMIT: &str = "(extract(epoch FROM CASE WHEN r.rec THEN pg_catalog.pg_last_xact_replay_timestamp() END) OPERATOR(pg_catalog.*) 1e6)::pg_catalog.int8 AS last_xact_us";
const PAUSE_STATE: &str = "CASE WHEN r.rec THEN pg_catalog.pg_get_wal_replay_pause_state() OPERATOR(pg_catalog.=) 'paused' END AS is_paused";
const PAUSED: &str = "CASE WHEN r.rec THEN pg_catalog.pg_is_wal_replay_paused() END AS is_paused";
const APPLY_DELAY: &str = "pg_catalog.current_setting('recovery_min_apply_delay', true) AS apply_delay";
const RECEIVER: &str = "w.pid IS NOT NULL AS has_receiver, w.status, w.received_tli, w.latest_end_lsn::pg_catalog.text AS latest_end_lsn";
const RECEIVER_JOIN: &str = " LEFT JOIN pg_catalog.pg_stat_wal_receiver w ON r.rec";
const STARTUP: &str = "CASE WHEN r.rec THEN EXISTS (SELECT FROM pg_catalog.pg_stat_activity a \
    WHERE a.backend_type OPERATOR(pg_catalog.=) 'startup') END AS sees_startup,\
    CASE WHEN r.rec THEN (SELECT a.wait_event FROM pg_catalog.pg_stat_activity a \
    WHERE a.backend_type OPERATOR(pg_catalog.=) 'startup') END AS startup_wait";
const AURORA_INSTANCE: &str = "pg_catalog.aurora_db_instance_identifier() AS instance";
const AURORA_STATUS: &str = "s.server_id, s.session_id, s.durable_lsn, s.highest_lsn_rcvd, s.current_read_lsn, s.replica_lag_in_msec,\
    s.last_update_timestamp";
const AURORA_STATUS_JOIN: &str = " LEFT JOIN pg_catalog.aurora_replica_status() s ON true";

/// Asks for `pieces`, in their order.
pub(super) fn statement<'a>(frame: Frame, pieces: impl IntoIterator<Item = &'a FactPiece>) -> String {
    let mut columns = format!("SELECT {}", frame.columns);
    let mut from = frame.from.to_owned();
    for piece in pieces {
        columns.push_str(", ");
        columns.push_str(&piece.columns);
        from.push_str(piece.join);
    }
    columns + &from
}

/// What is asked once per connection.
pub(super) fn identify(dialect: Dialect) -> Vec<FactPiece> {
    let mut pieces = whose();
    pieces.push(piece(AskedFact::StatsRights, STATS_RIGHTS));
    if dialect == Dialect::Auto {
        pieces.push(piece(AskedFact::Platform, PLATFORM));
    }
    pieces
}

/// What tells one postmaster from another.
pub(super) fn whose() -> Vec<FactPiece> {
    vec![piece(AskedFact::SystemIdentifier, SYSTEM_IDENTIFIER), piece(AskedFact::StartTime, START_TIME)]
}

/// What is asked every tick, of servers that have a word for it.
pub(super) fn tick(dialect: Dialect, version: u32, lag_query: Option<&str>) -> Vec<FactPiece> {
    match (dialect, lag_query) {
        (Dialect::Aurora, _) => vec![
            piece(AskedFact::AuroraInstance, AURORA_INSTANCE),
            joined(AskedFact::AuroraStatus, AURORA_STATUS, AURORA_STATUS_JOIN),
        ],
        (Dialect::Custom, Some(query)) => {
            let mut pieces = primary();
            pieces.push(joined(AskedFact::Receiver, RECEIVER, RECEIVER_JOIN));
            let query = query.trim().trim_end_matches(';');
            // A line of its own ends a comment of the operator's.
            let columns =
                format!("(SELECT q.value FROM ({query}\n) AS q (value))::pg_catalog.text AS told_lag");
            pieces.push(FactPiece { fact: AskedFact::LagQuery, columns, join: "" });
            pieces
        }
        (Dialect::Auto | Dialect::Postgres | Dialect::RdsCluster | Dialect::Custom, _) => {
            let paused = if version >= PAUSE_STATE_SINCE { PAUSE_STATE } else { PAUSED };
            let mut pieces = primary();
            pieces.extend([
                piece(AskedFact::Replayed, REPLAYED),
                // Before the startup process's wait: a wait seen after it proves that it was consumed.
                piece(AskedFact::Received, RECEIVED),
                piece(AskedFact::LastCommit, LAST_COMMIT),
                piece(AskedFact::Paused, paused),
                joined(AskedFact::Receiver, RECEIVER, RECEIVER_JOIN),
                piece(AskedFact::ApplyDelay, APPLY_DELAY),
                piece(AskedFact::Startup, STARTUP),
            ]);
            pieces
        }
    }
}

/// What a primary tells, where sessions have to see there what they have written elsewhere. Aurora has no such position.
pub(super) fn inserted(dialect: Dialect) -> Option<FactPiece> {
    (dialect != Dialect::Aurora).then(|| piece(AskedFact::Inserted, INSERTED))
}

/// What a primary tells.
fn primary() -> Vec<FactPiece> {
    vec![
        piece(AskedFact::Flushed, FLUSHED),
        piece(AskedFact::Written, WRITTEN),
        piece(AskedFact::Timeline, TIMELINE),
    ]
}

fn piece(fact: AskedFact, columns: &str) -> FactPiece {
    joined(fact, columns, "")
}

fn joined(fact: AskedFact, columns: &str, join: &'static str) -> FactPiece {
    FactPiece { fact, columns: columns.to_owned(), join }
}
