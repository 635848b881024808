//! What `GET /cluster` answers.
//!
//! Source: Patroni 4, patroni/utils.py, `cluster_as_json`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::member::{Member, RoleHint};

/// The port of a member that says none: PostgreSQL's.
const PORT: u16 = 5432;

#[derive(Deserialize)]
struct ClusterView {
    members: Vec<ClusterMember>,
}

#[derive(Deserialize)]
struct ClusterMember {
    name: String,
    role: Option<String>,
    state: Option<String>,
    /// Not there while a member has yet to say where it is.
    host: Option<String>,
    port: Option<u16>,
    tags: Option<BTreeMap<String, Value>>,
}

/// The members that say where they are, whatever their state: health judges it.
///
/// # Errors
/// When the text is no such answer; why, in words.
pub(super) fn read(body: &[u8]) -> Result<Vec<Member>, String> {
    let view: ClusterView = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    Ok(view.members.into_iter().filter_map(member).collect())
}

fn member(member: ClusterMember) -> Option<Member> {
    let ClusterMember { name, role, state, host, port, tags } = member;
    let tags = tags.unwrap_or_default();
    let is_excluded = tags.get("noloadbalance").is_some_and(is_true);
    let weight = if is_excluded { Some(0) } else { tags.get("weight").and_then(weight) };
    let zone = tags.get("zone").and_then(text).map(Arc::from);
    let kept = tags.iter().filter_map(|(key, value)| shown(key, value)).collect();
    let role = role_hint(role.as_deref(), state.as_deref());
    Some(Member { name, host: host?, port: port.unwrap_or(PORT), role, weight, zone, tags: kept })
}

/// What the role is a hint for, if the member's PostgreSQL is up. The leader of a standby cluster takes no writes.
fn role_hint(role: Option<&str>, state: Option<&str>) -> RoleHint {
    match (state, role) {
        (Some("running" | "streaming"), Some("leader" | "primary" | "master")) => RoleHint::Primary,
        (
            Some("running" | "streaming"),
            Some("replica" | "sync_standby" | "quorum_standby" | "standby_leader"),
        ) => RoleHint::Replica,
        _ => RoleHint::Unknown,
    }
}

/// As Patroni reads what a tag says in YAML, where quotes are easily left or set.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Bool(is_true) => *is_true,
        Value::String(text) => matches!(text.to_ascii_lowercase().as_str(), "true" | "on" | "yes" | "1"),
        Value::Number(number) => number.as_u64() == Some(1),
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

/// What cannot be a weight says nothing.
fn weight(value: &Value) -> Option<u16> {
    let number = match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }?;
    // Larger ones are made the largest later.
    Some(u16::try_from(number).unwrap_or(u16::MAX))
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The tags that say something to who looks at the list of servers.
fn shown(key: &str, value: &Value) -> Option<Arc<str>> {
    match key {
        "noloadbalance" | "nofailover" | "clonefrom" | "nosync" => is_true(value).then(|| key.into()),
        "replicatefrom" => text(value).map(|from| format!("{key}={from}").into()),
        _ => None,
    }
}
