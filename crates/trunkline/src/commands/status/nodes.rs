//! The servers, as `/cluster` tells them.

use serde_json::Value;

/// One server.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) state: String,
    /// Estimated lag in seconds; `None` is not known, which is never zero.
    pub(crate) lag: Option<f64>,
    pub(crate) is_in_sync: Option<bool>,
    pub(crate) sessions: Option<u64>,
    pub(crate) reason: String,
}

/// The servers in the body of `/cluster`; `None` when it is something else.
pub(crate) fn parse(body: &str) -> Option<Vec<Node>> {
    let cluster: Value = serde_json::from_str(body).ok()?;
    let members = cluster.get("members").or_else(|| cluster.get("nodes"))?.as_array()?;
    Some(members.iter().map(node).collect())
}

fn node(member: &Value) -> Node {
    let text = |key: &str| member.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let lag = member.get("lag_seconds").or_else(|| member.get("lag")).or_else(|| member.get("est"));
    Node {
        name: text("name"),
        role: text("role"),
        state: text("state").to_uppercase(),
        lag: lag.and_then(|lag| lag.get("est").unwrap_or(lag).as_f64()),
        is_in_sync: member.get("in_sync").or_else(|| member.get("is_sync")).and_then(Value::as_bool),
        sessions: member.get("sessions").and_then(Value::as_u64),
        reason: text("reason"),
    }
}
