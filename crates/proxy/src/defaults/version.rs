//! The query by which a session that has just logged in finds out whether the server's defaults have changed since
//! they were read.

use super::generation::DefaultsVersion;
use super::identity::LoginIdentity;

/// SQL for a time of the server, as digits that compare as times do, whatever the session's settings. All names
/// are qualified by `pg_catalog`.
pub(super) fn moment(function: &str) -> String {
    format!("pg_catalog.to_char(pg_catalog.timezone('UTC', pg_catalog.{function}()), 'YYYYMMDDHH24MISSUS')")
}

/// The rows of `pg_db_role_setting` that apply to the session: their database and role, and the transaction that
/// wrote each.
const ROWS: &str = "coalesce((SELECT pg_catalog.string_agg(pg_catalog.concat_ws(':', \
 s.setdatabase OPERATOR(pg_catalog.<>) 0::pg_catalog.oid, s.setrole OPERATOR(pg_catalog.<>) 0::pg_catalog.oid, s.xmin), \
 ' ' ORDER BY s.setdatabase, s.setrole) FROM pg_catalog.pg_db_role_setting s \
 WHERE (s.setdatabase OPERATOR(pg_catalog.=) 0::pg_catalog.oid OR s.setdatabase OPERATOR(pg_catalog.=) \
 (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())) \
 AND (s.setrole OPERATOR(pg_catalog.=) 0::pg_catalog.oid OR s.setrole OPERATOR(pg_catalog.=) \
 (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) session_user))), '')";

/// The OIDs of the session's role and database.
const IDENTITY: &str = "(SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) session_user), \
 (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())";

impl DefaultsVersion {
    /// The query. It returns one row.
    pub(crate) fn question() -> String {
        let [started, loaded] = [moment("pg_postmaster_start_time"), moment("pg_conf_load_time")];
        format!("SELECT {started}, {loaded}, {ROWS}, {IDENTITY}")
    }

    /// Reads the row.
    pub(crate) fn of_values<'a>(mut values: impl Iterator<Item = Option<&'a [u8]>>) -> Option<Self> {
        let mut next = || Some(std::str::from_utf8(values.next()??).ok()?.into());
        let [started, loaded, rows]: [Box<str>; 3] = [next()?, next()?, next()?];
        let mut oid = || next().and_then(|oid| oid.parse().ok());
        let identity = match (oid(), oid()) {
            (Some(role), Some(database)) => LoginIdentity::Of { role, database },
            _not_there_any_more => LoginIdentity::Unknown,
        };
        Some(DefaultsVersion { started, loaded, rows, identity })
    }
}
