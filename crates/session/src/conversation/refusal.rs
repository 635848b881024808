//! What a standby answers to a request that only the primary can run, or judge.

use trunkline_codec::backend::ErrorFields;
use trunkline_codec::sqlstate::SqlState;

use crate::step::StandbyRefusal;

/// Routines that raise 0A000, 55000 or XX000 because of recovery. Their names are never translated, unlike messages. With the same
/// codes, others tell of a result whose shape has changed, or of a standby that is broken.
/// Source: PostgreSQL 12 to 18, src/backend/optimizer/util/plancat.c; commands/sequence.c; access/transam/xlogfuncs.c, varsup.c,
/// xact.c, multixact.c, xloginsert.c and xlog.c.
const ROUTINES: [&[u8]; 19] = [
    b"get_relation_info",
    b"currval_oid",
    b"lastval",
    b"pg_current_wal_lsn",
    b"pg_current_wal_insert_lsn",
    b"pg_current_wal_flush_lsn",
    b"pg_walfile_name",
    b"pg_walfile_name_offset",
    b"pg_switch_wal",
    b"pg_create_restore_point",
    b"pg_backup_start",
    b"pg_start_backup",
    b"GetNewObjectId",
    b"GetNewTransactionId",
    b"AssignTransactionId",
    b"GetNewMultiXactId",
    b"XLogBeginInsert",
    b"XLogInsert",
    b"XLogInsertRecord",
];

/// Source: PostgreSQL 12 to 18, src/backend/storage/lmgr/predicate.c and src/backend/commands/variable.c.
const SERIALIZABLE: [&[u8]; 3] =
    [b"GetSerializableTransactionSnapshot", b"check_XactIsoLevel", b"check_transaction_isolation"];

/// Reads the error of a standby; `None` for one that is the answer.
pub(crate) fn refusal(body: &[u8]) -> Option<StandbyRefusal> {
    let fields = ErrorFields::new(body);
    if fields.is_fatal() {
        return None;
    }
    let code = fields.sqlstate()?;
    let is_raised_by = |routines: &[&[u8]]| fields.field(b'R').is_some_and(|by| routines.contains(&by));
    match code {
        SqlState::READ_ONLY_SQL_TRANSACTION => Some(StandbyRefusal::Recovery),
        SqlState::FEATURE_NOT_SUPPORTED if is_raised_by(&SERIALIZABLE) => Some(StandbyRefusal::Serializable),
        SqlState::FEATURE_NOT_SUPPORTED
        | SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE
        | SqlState::INTERNAL_ERROR
            if is_raised_by(&ROUTINES) =>
        {
            Some(StandbyRefusal::Recovery)
        }
        // A label of an enum that the standby has not.
        SqlState::INVALID_TEXT_REPRESENTATION | SqlState::INVALID_SCHEMA_NAME => {
            Some(StandbyRefusal::Catalog)
        }
        _other if is_about_names_or_rights(code) => Some(StandbyRefusal::Catalog),
        _other => None,
    }
}

/// Class 42: a name, its type, or a right.
fn is_about_names_or_rights(code: SqlState) -> bool {
    code.as_str().starts_with("42")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(severity: &str, code: &str, routine: &str) -> Vec<u8> {
        format!("S{severity}\0V{severity}\0C{code}\0Msome text\0R{routine}\0\0").into_bytes()
    }

    #[test]
    fn what_only_the_primary_can_run_or_judge_is_told_from_answers() {
        let cases = [
            ("25006", "PreventCommandIfReadOnly", Some(StandbyRefusal::Recovery)),
            ("0A000", "get_relation_info", Some(StandbyRefusal::Recovery)),
            ("0A000", "GetSerializableTransactionSnapshot", Some(StandbyRefusal::Serializable)),
            ("0A000", "RevalidateCachedQuery", None),
            ("55000", "pg_current_wal_lsn", Some(StandbyRefusal::Recovery)),
            ("55000", "pg_prewarm", None),
            ("XX000", "GetNewObjectId", Some(StandbyRefusal::Recovery)),
            ("XX000", "mdread", None),
            ("42P01", "parserOpenTable", Some(StandbyRefusal::Catalog)),
            ("42883", "ParseFuncOrColumn", Some(StandbyRefusal::Catalog)),
            ("42501", "aclcheck_error", Some(StandbyRefusal::Catalog)),
            ("3F000", "get_namespace_oid", Some(StandbyRefusal::Catalog)),
            ("22P02", "enum_in", Some(StandbyRefusal::Catalog)),
            ("22012", "int4div", None),
            ("57014", "ProcessInterrupts", None),
            ("40001", "ProcessInterrupts", None),
        ];
        for (code, routine, expected) in cases {
            assert_eq!(refusal(&error("ERROR", code, routine)), expected, "{code} of {routine}");
            assert_eq!(refusal(&error("FATAL", code, routine)), None, "{code} ends the connection");
        }
    }
}
