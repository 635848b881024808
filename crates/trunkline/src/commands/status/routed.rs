//! Where requests go of listeners that choose a server for each, as reported by `/cluster`.

use serde_json::Value;

use super::summary::{counted, total};

/// The line; empty while no listener chooses so.
pub(super) fn line(cluster: &Value) -> String {
    let Some(requests) = cluster["routed"]["requests"].as_object() else { return String::new() };
    let learned = match cluster["routed"]["learned"].as_u64() {
        None | Some(0) => String::new(),
        Some(n) => format!("; {n} learned"),
    };
    let all = total(requests);
    let on_replicas = requests.get("proven").and_then(Value::as_u64).unwrap_or_default();
    let share = match all {
        0 => "0".to_owned(),
        _ => {
            format!("{all}, {} % on replicas ({})", on_replicas.saturating_mul(100) / all, counted(requests))
        }
    };
    format!("routed    {share}{learned}\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_share_of_replicas_is_shown_with_the_reasons() {
        assert_eq!(line(&json!({"members": []})), "", "no listener chooses for each request");
        assert_eq!(line(&json!({"routed": {"requests": {}, "learned": 0}})), "routed    0\n");
        let routed = json!({"requests": {"proven": 6, "floor": 1, "no_standby": 2}, "learned": 3});
        assert_eq!(
            line(&json!({ "routed": routed })),
            "routed    9, 66 % on replicas (1 floor, 2 no standby, 6 proven); 3 learned\n"
        );
    }
}
