//! What Trunkline asks a server for itself: its health, and the settings of a login.

/// Names of columns, and rows.
pub(super) type Table = (&'static [&'static str], &'static [&'static [&'static str]]);

/// What Trunkline's health probe is told: a primary that stands still.
pub(super) fn health_answer(sql: &str) -> Option<Table> {
    if sql.contains("pg_control_system") {
        let names = &["system_identifier", "version", "started_us", "can_see_all"];
        return Some((names, &[&["7000000000000000001", "150000", "1700000000000000", "t"]]));
    }
    if sql.contains("pg_is_in_recovery() AS rec") {
        let names = &["rec", "now_us", "lsn", "tli_hex"];
        return Some((names, &[&["f", "1700000000000000", "0/3000060", "00000001"]]));
    }
    None
}

/// What Trunkline is told of the settings of a login: those of [`PARAMETERS`](super::PARAMETERS), with nothing set for a role or database.
pub(super) fn defaults_answer(sql: &str) -> Option<Table> {
    if sql.contains("pg_conf_load_time") {
        const STARTED: &str = "20231114221320000000";
        // Of each look, or of a session that moves.
        return Some(match sql.contains("rolcanlogin") {
            true => (&["started", "loaded", "of_new_logins", "of_names"], &[&[STARTED, STARTED, "", ""]]),
            false => {
                (&["started", "loaded", "rows", "role", "database"], &[&[STARTED, STARTED, "", "10", "5"]])
            }
        });
    }
    if sql.contains("WHERE rolcanlogin LIMIT") {
        return Some((&["rolname", "oid"], &[&["bench", "10"]]));
    }
    if sql.contains("WHERE datallowconn LIMIT") {
        return Some((&["datname", "oid"], &[&["bench", "5"]]));
    }
    if sql.contains("FROM pg_catalog.pg_settings WHERE context") {
        return Some((
            &["name", "reset_val", "context", "source", "boot_val"],
            &[
                &["application_name", "", "user", "default", ""],
                &["client_encoding", "UTF8", "user", "default", "SQL_ASCII"],
                &["DateStyle", "ISO, MDY", "user", "default", "ISO, MDY"],
                &["default_transaction_read_only", "off", "user", "default", "off"],
                &["IntervalStyle", "postgres", "user", "default", "postgres"],
                &["search_path", "\"$user\", public", "user", "default", "\"$user\", public"],
                &["standard_conforming_strings", "on", "user", "default", "on"],
                &["TimeZone", "UTC", "user", "default", "GMT"],
            ],
        ));
    }
    if sql.contains("FROM pg_catalog.pg_db_role_setting") {
        return Some((
            &["of_one_database", "datname", "of_one_role", "rolname", "written_by", "setting"],
            &[],
        ));
    }
    sql.contains("WHERE rolsuper LIMIT").then_some((&["rolname"], &[&["bench"]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_value_for_each_of_its_columns() {
        let asked = ["pg_control_system", "pg_is_in_recovery() AS rec"].map(health_answer);
        let of_logins = [
            "pg_conf_load_time",
            "pg_conf_load_time, rolcanlogin",
            "WHERE rolcanlogin LIMIT 1",
            "WHERE datallowconn LIMIT 1",
            "FROM pg_catalog.pg_settings WHERE context",
            "WHERE rolsuper LIMIT 1",
        ];
        for table in asked.into_iter().chain(of_logins.map(defaults_answer)) {
            let (names, rows) = table.expect("it is asked for");
            assert!(!rows.is_empty() && rows.iter().all(|row| row.len() == names.len()), "{names:?}");
        }
        let (_, rows) = defaults_answer("FROM pg_catalog.pg_db_role_setting s").expect("it is asked for");
        assert!(rows.is_empty(), "no role has settings of its own");
        assert!(defaults_answer("SELECT 1").is_none());
    }
}
