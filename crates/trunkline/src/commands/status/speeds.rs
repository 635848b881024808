//! What was measured of the servers' speeds, as reported by `/cluster`.

use serde_json::Value;

use super::table::columns;

const HEAD: [&str; 7] = ["SERVER", "ZONE", "SHARE", "SPEED", "SLOW", "FIRST BYTE", "PEERS"];

/// The table, an empty line above it; nothing where the answer says nothing of it.
pub(super) fn table(body: &str) -> String {
    let Ok(cluster) = serde_json::from_str::<Value>(body) else { return String::new() };
    let members = cluster.get("members").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let rows: Vec<[String; 7]> = members.iter().flat_map(of_server).collect();
    let uncoloured = rows.iter().map(|_| None);
    let zone = match cluster.get("zone").and_then(Value::as_str) {
        Some(zone) => format!("zone of this proxy: {zone}\n"),
        None => String::new(),
    };
    format!("\n{}{zone}", columns(HEAD, &rows, &[2, 5, 6], uncoloured))
}

/// Its own line, one for its probes, and one for each statement.
fn of_server(member: &Value) -> Vec<[String; 7]> {
    let text = |key: &str| member.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
    let speed = |key: &str| member.pointer(&format!("/speed/{key}"));
    let share = speed("share").and_then(Value::as_f64).map_or_else(|| "-".to_owned(), |s| format!("{s:.2}"));
    let verdict = speed("verdict").and_then(Value::as_str).unwrap_or("not compared").to_owned();
    let count = |key| speed(key).and_then(Value::as_u64).unwrap_or_default();
    let slow = format!("{} of {}", count("slow_cells"), count("cells"));
    let mut rows = vec![[text("name"), text("zone"), share, verdict, slow, String::new(), String::new()]];
    if let Some(own) = speed("probe_seconds").and_then(Value::as_f64) {
        let peers = speed("peers_probe_seconds").and_then(Value::as_f64);
        rows.push(measured("probes".to_owned(), Some(own), peers));
    }
    for statement in speed("statements").and_then(Value::as_array).into_iter().flatten() {
        let name = statement.get("fingerprint").and_then(Value::as_str).unwrap_or("-");
        let samples = statement.get("samples").and_then(Value::as_u64).unwrap_or_default();
        let seconds = |key: &str| statement.get(key).and_then(Value::as_f64);
        let (own, peers) = (seconds("first_byte_seconds"), seconds("peers_first_byte_seconds"));
        rows.push(measured(format!("{name} x{samples}"), own, peers));
    }
    rows
}

fn measured(what: String, own: Option<f64>, peers: Option<f64>) -> [String; 7] {
    let shown =
        |seconds: Option<f64>| seconds.map_or_else(|| "-".to_owned(), |s| format!("{:.2} ms", s * 1e3));
    let none = String::new;
    [format!("  {what}"), none(), none(), none(), none(), shown(own), shown(peers)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_is_shown_below_its_server() {
        let body = r#"{"zone": "a", "members": [
            {"name": "primary", "zone": null},
            {"name": "replica1", "zone": "b", "speed": {"share": 0.25, "verdict": "slow", "cells": 8, "slow_cells": 7,
             "probe_seconds": 0.052, "peers_probe_seconds": null, "statements": [
                {"fingerprint": "57955f1a2bad3868", "samples": 40, "first_byte_seconds": 0.0514,
                 "peers_first_byte_seconds": 0.0004}]}}]}"#;
        let text = table(body);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[2], ["primary", "-", "-", "not", "compared", "0", "of", "0"]);
        assert_eq!(lines[3], ["replica1", "b", "0.25", "slow", "7", "of", "8"]);
        assert_eq!(lines[4], ["probes", "52.00", "ms", "-"]);
        assert_eq!(lines[5], ["57955f1a2bad3868", "x40", "51.40", "ms", "0.40", "ms"]);
        assert_eq!(lines[6], ["zone", "of", "this", "proxy:", "a"]);
    }
}
