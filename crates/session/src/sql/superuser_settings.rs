//! Settings that only superusers may set, or functions that run as one.
//!
//! Source: PostgreSQL 14 to 18, src/backend/utils/misc/guc_tables.c, `PGC_SUSET`; of libraries, contrib and src/pl. `extension_destdir` is Debian's.

const SETTINGS: [&str; 50] = [
    "allow_in_place_tablespaces",
    "allow_system_table_mods",
    "backtrace_functions",
    "commit_delay",
    "compute_query_id",
    "deadlock_timeout",
    "debug_discard_caches",
    "dynamic_library_path",
    "event_triggers",
    "extension_control_path",
    "extension_destdir",
    "ignore_checksum_failure",
    "jit_dump_bitcode",
    "lc_messages",
    "lo_compat_privileges",
    "log_btree_build_stats",
    "log_duration",
    "log_error_verbosity",
    "log_executor_stats",
    "log_lock_failures",
    "log_lock_waits",
    "log_min_duration_sample",
    "log_min_duration_statement",
    "log_min_error_statement",
    "log_min_messages",
    "log_parameter_max_length",
    "log_parser_stats",
    "log_planner_stats",
    "log_replication_commands",
    "log_statement",
    "log_statement_sample_rate",
    "log_statement_stats",
    "log_temp_files",
    "log_transaction_sample_rate",
    "max_stack_depth",
    "session_preload_libraries",
    "session_replication_role",
    "temp_file_limit",
    "track_activities",
    "track_cost_delay_timing",
    "track_counts",
    "track_functions",
    "track_io_timing",
    "track_wal_io_timing",
    "update_process_title",
    "wal_compression",
    "wal_consistency_checking",
    "wal_init_zero",
    "wal_recycle",
    "zero_damaged_pages",
];

/// Of libraries: names, or what they begin with.
const OF_LIBRARIES: [&str; 7] = [
    "auto_explain.",
    "pg_stat_statements.",
    "plperl.on_plperl_init",
    "plperl.on_plperlu_init",
    "plpgsql.variable_conflict",
    "pltcl.start_proc",
    "pltclu.start_proc",
];

/// Whether only superusers may set it. The name is in lower case.
pub(crate) fn is_for_superusers(key: &str) -> bool {
    SETTINGS.binary_search(&key).is_ok() || OF_LIBRARIES.iter().any(|name| key.starts_with(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_superusers_are_told_from_those_of_all() {
        assert!(SETTINGS.is_sorted(), "they are searched");
        for key in [
            "session_replication_role",
            "allow_in_place_tablespaces",
            "zero_damaged_pages",
            "auto_explain.log_timing",
        ] {
            assert!(is_for_superusers(key), "{key}");
        }
        for key in ["work_mem", "app.tenant", "search_path", "plpgsql.extra_errors", ""] {
            assert!(!is_for_superusers(key), "{key}");
        }
    }
}
