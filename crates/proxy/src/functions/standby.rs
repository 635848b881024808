//! What of PostgreSQL itself answers on a standby as it does on the primary.
//!
//! A function or view that this release does not know counts as one that does not. Names of PostgreSQL 14 to 18, each looked
//! at; those that a standby refuses are listed where that saves the attempt. Not plain, by reason:
//!
//! - A standby is asked what it is, or where the log is: `pg_is_in_recovery`, `pg_last_wal_*`, `pg_current_wal_*` (55000 there),
//!   `pg_walfile_name` (55000), `pg_control_*`, `pg_wal_summary_contents`, `pg_get_wal_*`.
//! - Transactions that are running: `pg_current_snapshot`, `pg_current_xact_id_if_assigned`, `pg_xact_status`, `pg_last_committed_xact`,
//!   their names with `txid_`, `pg_locks`, `pg_prepared_xacts`.
//! - The server, its statistics, files and processes: `pg_stat_*`, `pg_settings`, `pg_backend_pid`, `inet_server_addr`, `pg_read_file`, `pg_ls_*`,
//!   `pg_postmaster_start_time`, sizes (of unlogged relations they are 0), `pg_config`.
//! - Sequences, which are up to 32 values ahead on a standby: `pg_sequences`, `pg_sequence_last_value`, and their own relations.
//! - What has an effect that the primary should have, or that stays in the session: advisory locks, `setseed`, `set_config`, `currval`,
//!   `pg_notify`, `pg_export_snapshot`, slots, `pg_stat_reset*`, `pg_reload_conf`, `pg_terminate_backend`, `pg_sleep`, large objects.
//! - SQL, or the name of a type to read, that is given as a value: `query_to_xml`, `ts_stat`, `pg_input_is_valid`; `cursor_to_xml` needs the cursor of its session.
//!
//! Plain, with answers that may differ: `version`, `age` of a transaction, and times.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use trunkline_session::RUN_SQL;

use super::{BuiltIn, built_in};

/// Functions whose names begin with `pg_` and that are plain: they read catalogs or compute.
const PLAIN: &[&str] = &[
    "pg_basetype",
    "pg_char_to_encoding",
    "pg_client_encoding",
    "pg_collation_for",
    "pg_column_compression",
    "pg_column_is_updatable",
    "pg_column_size",
    "pg_describe_object",
    "pg_encoding_max_length",
    "pg_encoding_to_char",
    "pg_filenode_relation",
    "pg_get_acl",
    "pg_get_catalog_foreign_keys",
    "pg_get_constraintdef",
    "pg_get_expr",
    "pg_get_function_arg_default",
    "pg_get_function_arguments",
    "pg_get_function_identity_arguments",
    "pg_get_function_result",
    "pg_get_function_sqlbody",
    "pg_get_functiondef",
    "pg_get_indexdef",
    "pg_get_keywords",
    "pg_get_object_address",
    "pg_get_partition_constraintdef",
    "pg_get_partkeydef",
    "pg_get_publication_tables",
    "pg_get_replica_identity_index",
    "pg_get_ruledef",
    "pg_get_serial_sequence",
    "pg_get_statisticsobjdef",
    "pg_get_statisticsobjdef_columns",
    "pg_get_statisticsobjdef_expressions",
    "pg_get_triggerdef",
    "pg_get_userbyid",
    "pg_get_viewdef",
    "pg_get_wait_events",
    "pg_has_role",
    "pg_identify_object",
    "pg_identify_object_as_address",
    "pg_index_column_has_property",
    "pg_index_has_property",
    "pg_indexam_has_property",
    "pg_indexam_progress_phasename",
    "pg_mcv_list_items",
    "pg_my_temp_schema",
    "pg_is_other_temp_schema",
    "pg_options_to_table",
    "pg_partition_ancestors",
    "pg_partition_root",
    "pg_partition_tree",
    "pg_relation_filenode",
    "pg_relation_is_publishable",
    "pg_relation_is_updatable",
    "pg_sequence_parameters",
    "pg_size_bytes",
    "pg_size_pretty",
    "pg_split_walfile_name",
    "pg_tablespace_location",
    "pg_timezone_abbrevs",
    "pg_timezone_abbrevs_abbrevs",
    "pg_timezone_abbrevs_zone",
    "pg_timezone_names",
    "pg_trigger_depth",
    "pg_typeof",
    "pg_visible_in_snapshot",
    "pg_wal_lsn_diff",
];

/// Beginnings of more of them: the functions of types.
const PLAIN_BEGINNINGS: &[&str] = &[
    "pg_ddl_command_",
    "pg_dependencies_",
    "pg_lsn",
    "pg_mcv_list_",
    "pg_ndistinct_",
    "pg_node_tree_",
    "pg_snapshot_",
];

/// Beginnings of the names of other functions that are not plain.
const NOT_PLAIN: &[&str] = &[
    "binary_upgrade_",
    "brin_desummarize_",
    "brin_summarize_",
    "currval",
    "cursor_to_xml",
    "gin_clean_pending_list",
    "inet_server_",
    "lastval",
    "lo_",
    "loread",
    "lowrite",
    "set_config",
    "setseed",
    "txid_current",
    "txid_status",
];

/// Views of `pg_catalog` that show only what catalogs have.
const PLAIN_VIEWS: &[&str] = &[
    "pg_group",
    "pg_indexes",
    "pg_matviews",
    "pg_policies",
    "pg_publication_tables",
    "pg_roles",
    "pg_rules",
    "pg_seclabels",
    "pg_shadow",
    "pg_stats",
    "pg_stats_ext",
    "pg_stats_ext_exprs",
    "pg_tables",
    "pg_timezone_abbrevs",
    "pg_timezone_names",
    "pg_user",
    "pg_user_mappings",
    "pg_views",
    "pg_wait_events",
];

/// The functions of PostgreSQL that are plain, and those that are not.
static JUDGED: LazyLock<(BuiltIn, BuiltIn)> = LazyLock::new(|| {
    let known = built_in::names();
    let (plain, not_plain): (HashSet<_>, HashSet<_>) =
        known.iter().cloned().partition(|name| std::str::from_utf8(name).is_ok_and(is_plain_name));
    (Arc::new(plain), Arc::new(not_plain))
});

fn is_plain_name(name: &str) -> bool {
    let begins = |beginnings: &[&str]| beginnings.iter().any(|beginning| name.starts_with(beginning));
    if name.starts_with("pg_") {
        name.ends_with("_is_visible") || PLAIN.contains(&name) || begins(PLAIN_BEGINNINGS)
    } else {
        !begins(NOT_PLAIN) && !RUN_SQL.contains(&name)
    }
}

/// Names of the functions of PostgreSQL that are plain.
pub(super) fn plain_functions() -> BuiltIn {
    Arc::clone(&JUDGED.0)
}

/// Names of those that are known and not plain.
pub(super) fn not_plain_functions() -> BuiltIn {
    Arc::clone(&JUDGED.1)
}

/// Whether a view of `pg_catalog` is plain.
pub(super) fn is_plain_view(name: &[u8]) -> bool {
    PLAIN_VIEWS.iter().any(|view| view.as_bytes() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_answers_otherwise_on_a_standby_is_not_plain() {
        for name in [
            "pg_is_in_recovery",
            "pg_last_wal_replay_lsn",
            "pg_current_wal_lsn",
            "txid_current_if_assigned",
            "pg_current_xact_id_if_assigned",
            "pg_advisory_xact_lock",
            "pg_try_advisory_lock",
            "setseed",
            "set_config",
            "currval",
            "pg_export_snapshot",
            "pg_stat_reset",
            "pg_stat_get_activity",
            "pg_reload_conf",
            "pg_terminate_backend",
            "pg_notify",
            "lo_get",
            "loread",
            "query_to_xml",
            "ts_stat",
            "pg_input_is_valid",
            "pg_backend_pid",
            "inet_server_addr",
            "pg_sequence_last_value",
            "pg_relation_size",
            "pg_control_system",
        ] {
            assert!(not_plain_functions().contains(name.as_bytes()), "{name}");
            assert!(!plain_functions().contains(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn what_reads_catalogs_and_computes_is_plain() {
        for name in [
            "count",
            "now",
            "nextval",
            "current_setting",
            "random",
            "lower",
            "pg_get_viewdef",
            "pg_table_is_visible",
            "pg_typeof",
            "pg_lsn_mi",
            "int4pl",
            "to_tsvector",
            "version",
            "inet_client_addr",
            "last_value",
        ] {
            assert!(plain_functions().contains(name.as_bytes()), "{name}");
        }
        assert!(!plain_functions().contains(&b"pg_made_by_a_later_release"[..]));
    }

    /// A name that PostgreSQL does not have would be a mistake here.
    #[test]
    fn each_name_is_one_of_a_function() {
        let known = built_in::names();
        for name in PLAIN {
            assert!(known.contains(name.as_bytes()), "{name}");
        }
        for beginning in PLAIN_BEGINNINGS.iter().chain(NOT_PLAIN) {
            assert!(known.iter().any(|name| name.starts_with(beginning.as_bytes())), "{beginning}");
        }
    }

    #[test]
    fn views_of_the_server_itself_are_not_plain() {
        assert!(is_plain_view(b"pg_tables") && is_plain_view(b"pg_stats"));
        for view in ["pg_stat_activity", "pg_locks", "pg_settings", "pg_sequences", "pg_replication_slots"] {
            assert!(!is_plain_view(view.as_bytes()), "{view}");
        }
    }
}
