//! The pools as reported by `/cluster`, in the words of PgBouncer's SHOW POOLS.

use serde_json::Value;

use super::table::columns;
use crate::terminal;

const HEAD: [&str; 11] = [
    "DATABASE",
    "USER",
    "SERVER",
    "CL_ACTIVE",
    "CL_WAITING",
    "SV_ACTIVE",
    "SV_IDLE",
    "SV_USED",
    "SV_TESTED",
    "SV_LOGIN",
    "MAXWAIT",
];

/// The columns of numbers.
const NUMBERS: [usize; 8] = [3, 4, 5, 6, 7, 8, 9, 10];

/// The table under its title; empty while no session may share a server connection.
pub(super) fn table(cluster: &Value) -> String {
    let Some(pools) = cluster["pools"]["pools"].as_array() else { return String::new() };
    if pools.is_empty() {
        return "pools     none yet\n".to_owned();
    }
    let rows: Vec<_> = pools.iter().map(row).collect();
    let table = columns(HEAD, &rows, &NUMBERS, rows.iter().map(|_| None));
    let all = cluster["pools"]["all"].as_u64().unwrap_or_default();
    let listed = u64::try_from(pools.len()).unwrap_or(u64::MAX);
    let more = match all.saturating_sub(listed) {
        0 => String::new(),
        more => format!("and {more} more\n"),
    };
    format!("\npools\n{table}{more}")
}

fn row(pool: &Value) -> [String; 11] {
    let text = |key: &str| terminal::printable(pool[key].as_str().unwrap_or_default());
    let number = |key: &str| pool[key].as_u64().unwrap_or_default().to_string();
    [
        text("database"),
        text("user"),
        text("server"),
        number("cl_active"),
        number("cl_waiting"),
        number("sv_active"),
        number("sv_idle"),
        number("sv_used"),
        number("sv_tested"),
        number("sv_login"),
        format!("{:.1} s", pool["maxwait_seconds"].as_f64().unwrap_or_default()),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pool_is_a_line_in_the_words_of_show_pools() {
        let pool = json!({"database": "app", "user": "w\u{1b}b", "server": "replica1", "cl_active": 480, "cl_waiting": 3,
            "sv_active": 20, "sv_idle": 1, "sv_used": 2, "sv_tested": 4, "sv_login": 5, "maxwait_seconds": 1.25});
        let expected = "
pools
DATABASE  USER  SERVER    CL_ACTIVE  CL_WAITING  SV_ACTIVE  SV_IDLE  SV_USED  SV_TESTED  SV_LOGIN  MAXWAIT
app       w?b   replica1        480           3         20        1        2          4         5    1.2 s
";
        assert_eq!(table(&json!({"pools": {"all": 1, "pools": [pool]}})), expected);
        let more = table(&json!({"pools": {"all": 7, "pools": [pool]}}));
        assert_eq!(more, format!("{expected}and 6 more\n"));
    }

    #[test]
    fn nothing_is_said_of_pools_while_none_is_wanted() {
        assert_eq!(table(&json!({"members": []})), "");
        assert_eq!(table(&json!({"pools": {"all": 0, "pools": []}})), "pools     none yet\n");
    }
}
