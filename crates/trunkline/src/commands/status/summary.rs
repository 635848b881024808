//! The sessions as reported by `/cluster`, and who authenticates them, in a few lines below the table.

use serde_json::{Map, Value};

use super::{certificates, pools, routed, sources};

/// The lines; empty for `trunkline health`.
pub(crate) fn summary(body: &str) -> String {
    let cluster: Value = serde_json::from_str(body).unwrap_or_default();
    let Some(sessions) = cluster.get("sessions").and_then(Value::as_object) else { return String::new() };
    let mut out = format!("\n{}sessions  {}\n", auth(&cluster["auth"]), mobility(sessions));
    if let Some(moves) = cluster.get("moves") {
        out.push_str(&format!("moved     {}\n", ended(&moves["move"])));
        out.push_str(&format!("repeated  {}\n", ended(&moves["repeat"])));
    }
    out + &routed::line(&cluster)
        + &certificates::lines(&cluster)
        + &sources::lines(&cluster)
        + &pools::table(&cluster)
}

/// `auth      login, chosen by auto: the monitoring role may not read stored secrets (SQLSTATE 42501)`, and what would
/// change that.
fn auth(told: &Value) -> String {
    let Some(why) = told["why"].as_str() else { return String::new() };
    let mode = told["mode"].as_str().map(|mode| format!("{mode}, ")).unwrap_or_default();
    let hint = told["hint"].as_str().map(|hint| format!("          {hint}\n")).unwrap_or_default();
    format!("auth      {mode}{why}\n{hint}")
}

/// `12, 9 movable, 3 pinned (2 listen, 1 temporary object)`
pub(crate) fn mobility(sessions: &Map<String, Value>) -> String {
    let number = |key: &str| sessions.get(key).and_then(Value::as_u64).unwrap_or_default();
    let none = Map::new();
    let pinned = sessions.get("pinned").and_then(Value::as_object).unwrap_or(&none);
    let reasons = counted(pinned);
    let unheard = match number("workers_unheard") {
        0 => String::new(),
        n => format!("; {n} threads were too busy to answer"),
    };
    let by = if reasons.is_empty() { String::new() } else { format!(" ({reasons})") };
    format!("{}, {} movable, {} pinned{by}{unheard}", number("all"), number("movable"), total(pinned))
}

/// `3 (2 server lost, 1 rebalance), median 3 ms, 99 % within 8 ms; 1 failed (1 server lost)`
fn ended(moves: &Value) -> String {
    let none = Map::new();
    let causes = |key: &str| moves[key].as_object().unwrap_or(&none);
    let milliseconds = |key: &str| moves[key].as_f64().map(|seconds| seconds * 1e3);
    let some = |causes: &Map<String, Value>| match total(causes) {
        0 => "0".to_owned(),
        n => format!("{n} ({})", counted(causes)),
    };
    let mut out = some(causes("taken"));
    if let (Some(median), Some(p99)) = (milliseconds("median_seconds"), milliseconds("p99_seconds")) {
        out.push_str(&format!(", median {median:.1} ms, 99 % within {p99:.1} ms"));
    }
    match total(causes("failed")) {
        0 => out,
        n => format!("{out}; {n} failed ({})", counted(causes("failed"))),
    }
}

pub(super) fn total(counts: &Map<String, Value>) -> u64 {
    counts.values().filter_map(Value::as_u64).sum()
}

pub(super) fn counted(counts: &Map<String, Value>) -> String {
    let each = counts.iter().map(|(word, n)| format!("{n} {}", word.replace('_', " ")));
    each.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_sessions_and_what_moved_them_is_counted() {
        let body = r#"{"members": [],
            "auth": {"mode": "login", "why": "chosen by auto: of this", "hint": "do that"},
            "sessions": {"all": 12, "movable": 9, "pinned": {"listen": 2, "temporary_object": 1}, "workers_unheard": 1},
            "moves": {"move": {"taken": {"rebalance": 3}, "failed": {"server_lost": 1},
                               "median_seconds": 0.003, "p99_seconds": 0.0081},
                      "repeat": {"taken": {}, "failed": {}, "median_seconds": null, "p99_seconds": null}}}"#;
        let expected = "
auth      login, chosen by auto: of this
          do that
sessions  12, 9 movable, 3 pinned (2 listen, 1 temporary object); 1 threads were too busy to answer
moved     3 (3 rebalance), median 3.0 ms, 99 % within 8.1 ms; 1 failed (1 server lost)
repeated  0
";
        assert_eq!(summary(body), expected);
        assert_eq!(summary(r#"{"members": []}"#), "", "only health is served there");
    }
}
