//! PostgreSQL's own functions, as a session judges SQL that calls them.

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use trunkline_cluster::Server;
use trunkline_codec::write;
use trunkline_session::{
    LoginParameters, Mobility, ReportTiming, ServerRole, Session, SessionSettings, StatementNames, Tracking,
};

/// Volatile functions that leave nothing behind in their session, and nothing outside of the database; of a name
/// with a star, all that begin so.
///
/// - What only reads or computes.
/// - What writes to the database: statistics, indexes. No standby does it.
/// - What counts in a transaction only: large objects by descriptor, a snapshot of statistics.
/// - What only the server itself, initdb or pg_upgrade may call.
/// - What runs SQL that it is given as a value: names in a constant are found there.
const HARMLESS: &[&str] = &[
    "amvalidate",
    "array_sample",
    "array_shuffle",
    "bernoulli",
    "binary_upgrade_*",
    "brin_*",
    "brinhandler",
    "bthandler",
    "clock_timestamp",
    "current_query",
    "currtid2",
    "cursor_to_xml*",
    "dsnowball_*",
    "gen_random_uuid",
    "gin_clean_pending_list",
    "ginhandler",
    "gisthandler",
    "hashhandler",
    "heap_tableam_handler",
    "loread",
    "lowrite",
    "pg_available_wal_summaries",
    "pg_blocking_pids",
    "pg_clear_attribute_stats",
    "pg_clear_relation_stats",
    "pg_collation_actual_version",
    "pg_control_*",
    "pg_current_logfile",
    "pg_current_wal_*",
    "pg_database_collation_actual_version",
    "pg_database_size",
    "pg_extension_config_dump",
    "pg_get_*",
    "pg_hba_file_rules",
    "pg_ident_file_mappings",
    "pg_import_system_collations",
    "pg_indexes_size",
    "pg_is_in_recovery",
    "pg_is_wal_replay_paused",
    "pg_isolation_test_session_is_blocked",
    "pg_jit_available",
    "pg_last_*",
    "pg_lock_status",
    "pg_ls_*",
    "pg_nextoid",
    "pg_notification_queue_usage",
    "pg_partition_ancestors",
    "pg_partition_tree",
    "pg_prepared_xact",
    "pg_read_*",
    "pg_relation_size",
    "pg_restore_attribute_stats",
    "pg_restore_relation_stats",
    "pg_safe_snapshot_blocking_pids",
    "pg_sequence_last_value",
    "pg_show_*",
    "pg_stat_clear_snapshot",
    "pg_stat_file",
    "pg_stat_force_next_flush",
    "pg_stat_get_*",
    "pg_stat_have_stats",
    "pg_stop_making_pinned_objects",
    "pg_table_size",
    "pg_tablespace_size",
    "pg_total_relation_size",
    "pg_wal_summary_contents",
    "pg_xact_*",
    "query_to_xml*",
    "random",
    "random_normal",
    "spghandler",
    "system",
    "timeofday",
    "ts_rewrite",
    "ts_stat",
    "txid_status",
    "uuidv4",
    "uuidv7",
];

fn is_harmless(name: &str) -> bool {
    HARMLESS.iter().any(|known| match known.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => *known == name,
    })
}

/// Whether a session that may move stays once it has run the SQL, or would not run it twice.
fn is_told_of(sql: &str) -> bool {
    let settings = SessionSettings {
        sql_bytes_max: 0,
        report_timing: ReportTiming::Off,
        server: "server".into(),
        tracking: Tracking::Full,
        mobility: Mobility::Movable,
        statement_names: StatementNames::OfClient,
        role: ServerRole::Standby,
        parameters: Arc::new(LoginParameters::new(b"S\0\0\0\x1fstandard_conforming_strings\0on\0")),
    };
    let now = Instant::now();
    let mut session = Session::new(settings, now);
    let mut query = BytesMut::new();
    write::query(&mut query, sql.as_bytes()).expect("it has no NUL");
    session.handle_client(&query, now, &mut ());
    session.movability().is_err() || session.repeatable().is_err()
}

/// Functions of the server that may change something and that nobody has judged: none, or a new version has some.
/// Those are volatile, but for triggers and handlers, which SQL cannot call.
///
/// # Panics
/// When the server cannot be asked.
#[must_use]
pub fn functions_not_judged(server: &Server) -> Vec<String> {
    let volatile = "SELECT DISTINCT proname FROM pg_proc
        WHERE pronamespace = 'pg_catalog'::regnamespace AND provolatile = 'v' AND oid < 16384
          AND prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype, 'language_handler'::regtype)
          AND prolang = (SELECT oid FROM pg_language WHERE lanname = 'internal')";
    let names = server.psql(volatile).expect("anybody may ask");
    assert!(names.contains("set_config"), "{names}");
    let is_judged = |name: &&str| is_told_of(&format!("SELECT {name}()")) != is_harmless(name);
    names.lines().filter(|name| !is_judged(name)).map(str::to_owned).collect()
}

/// What of the server's own reaches a volatile function without its name in the SQL: rules, operators, casts,
/// aggregates, views and types. Of views the update of `pg_settings` alone does.
///
/// # Panics
/// When the server cannot be asked.
#[must_use]
pub fn reached_without_a_name(server: &Server) -> Vec<String> {
    let hidden = "WITH volatile AS (SELECT oid FROM pg_proc WHERE provolatile = 'v' AND oid < 16384)
        SELECT 'rule ' || rulename || ' on ' || ev_class::regclass FROM pg_rewrite
            WHERE rulename <> '_RETURN' AND oid < 16384
        UNION ALL SELECT 'operator ' || oprname FROM pg_operator WHERE oprcode IN (TABLE volatile)
        UNION ALL SELECT 'cast by ' || castfunc::regproc FROM pg_cast WHERE castfunc IN (TABLE volatile)
        UNION ALL SELECT 'aggregate ' || aggfnoid FROM pg_aggregate
            WHERE ARRAY[aggtransfn, aggfinalfn, aggcombinefn, aggmtransfn, aggmfinalfn]::oid[]
                && (SELECT array_agg(oid) FROM volatile)
        UNION ALL SELECT 'type ' || typname FROM pg_type
            WHERE ARRAY[typinput, typoutput, typreceive, typsend, typmodin]::oid[]
                && (SELECT array_agg(oid) FROM volatile)
        ORDER BY 1";
    let views = "SELECT oid::regclass || E'\\t' || translate(pg_get_viewdef(oid), E'\\n', ' ')
        FROM pg_class WHERE relkind = 'v' AND oid < 16384";
    let views = server.psql(views).expect("anybody may ask");
    let definitions: Vec<_> = views.lines().filter_map(|line| line.split_once('\t')).collect();
    assert!(definitions.len() > 100, "{}", definitions.len());
    let hidden = server.psql(hidden).expect("anybody may ask");
    let views =
        definitions.into_iter().filter(|(_, sql)| is_told_of(sql)).map(|(name, _)| format!("view {name}"));
    hidden.lines().map(str::to_owned).chain(views).collect()
}
