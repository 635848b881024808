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

/// The table under its title: for each database and user its clients, then its connections to each server. Empty while no session may share a server connection.
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

/// Clients are of no server, and server connections of no client: what does not apply is left out.
fn row(pool: &Value) -> [String; 11] {
    let none = || "-".to_owned();
    let text = |key: &str| pool[key].as_str().map_or_else(none, terminal::printable);
    let is_of_clients = pool["server"].is_null();
    let number = |key: &str| match key.starts_with("cl_") == is_of_clients {
        true => pool[key].as_u64().map_or_else(none, |n| n.to_string()),
        false => none(),
    };
    let maxwait = pool["maxwait_seconds"].as_f64().filter(|_| is_of_clients);
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
        maxwait.map_or_else(none, |seconds| format!("{seconds:.1} s")),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pool_is_a_line_in_the_words_of_show_pools() {
        let clients = json!({"database": "app", "user": "w\u{1b}b", "server": null, "cl_active": 480, "cl_waiting": 3,
            "sv_active": 0, "sv_idle": 0, "sv_used": 0, "sv_tested": 0, "sv_login": 0, "maxwait_seconds": 1.25});
        let pool = json!({"database": "app", "user": "w\u{1b}b", "server": "replica1", "cl_active": 0, "cl_waiting": 0,
            "sv_active": 20, "sv_idle": 1, "sv_used": 2, "sv_tested": 4, "sv_login": 5, "maxwait_seconds": 0.0});
        let pools = [clients, pool];
        let expected = "
pools
DATABASE  USER  SERVER    CL_ACTIVE  CL_WAITING  SV_ACTIVE  SV_IDLE  SV_USED  SV_TESTED  SV_LOGIN  MAXWAIT
app       w?b   -               480           3          -        -        -          -         -    1.2 s
app       w?b   replica1          -           -         20        1        2          4         5        -
";
        assert_eq!(table(&json!({"pools": {"all": 2, "pools": pools}})), expected);
        let more = table(&json!({"pools": {"all": 8, "pools": pools}}));
        assert_eq!(more, format!("{expected}and 6 more\n"));
    }

    #[test]
    fn nothing_is_said_of_pools_while_none_is_wanted() {
        assert_eq!(table(&json!({"members": []})), "");
        assert_eq!(table(&json!({"pools": {"all": 0, "pools": []}})), "pools     none yet\n");
    }
}
