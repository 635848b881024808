//! The servers as reported by `/cluster`.

use serde_json::Value;

use super::{certificates, sources};

/// The answer of `/cluster`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct View {
    pub(crate) servers: Vec<ServerRow>,
    /// Warnings above the table of servers.
    pub(crate) notes: Vec<String>,
}

/// One server.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ServerRow {
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) state: String,
    pub(crate) zone: Option<String>,
    /// Estimated lag in seconds; `None` when it is unknown, which is not the same as zero.
    pub(crate) lag: Option<f64>,
    pub(crate) is_in_sync: Option<bool>,
    /// `None` for `trunkline health`, which has no sessions.
    pub(crate) sessions: Option<u64>,
    pub(crate) reason: String,
    /// Who says that it is there: `configured`, `added`, or the name of a source.
    pub(crate) origin: Option<String>,
}

/// Parses the body of `/cluster`; `None` when it is something else.
pub(crate) fn parse(body: &str) -> Option<View> {
    let cluster: Value = serde_json::from_str(body).ok()?;
    let members = cluster.get("members")?.as_array()?;
    let servers = members.iter().map(server).collect();
    let is = |key: &str| cluster.get(key).and_then(Value::as_bool) == Some(true);
    let mut notes = Vec::new();
    let mut note = |text: &str| notes.push(text.to_owned());
    if is("split_brain") {
        note("split brain: a second server claims to be a primary");
    }
    if is("stale") {
        note("stale: the probes have not completed a round recently");
    }
    if cluster.get("primary_lost_seconds").is_some_and(|since| !since.is_null()) {
        note("the primary does not answer: lag is judged against its last known WAL position");
    }
    if members.iter().any(|member| member.get("monitor_refused").is_some_and(Value::is_string)) {
        note("a server refuses the monitoring role, see WHY: check its password, rights and pg_hba.conf");
    }
    notes.extend(certificates::notes(&cluster));
    notes.extend(sources::notes(&cluster));
    Some(View { servers, notes })
}

fn server(member: &Value) -> ServerRow {
    let text = |key: &str| member.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    ServerRow {
        name: text("name"),
        role: text("role"),
        state: text("state"),
        zone: member.get("zone").and_then(Value::as_str).map(str::to_owned),
        lag: member.pointer("/lag/est").and_then(Value::as_f64),
        is_in_sync: member.get("in_sync").and_then(Value::as_bool),
        sessions: member.get("sessions").and_then(Value::as_u64),
        reason: text("reason"),
        origin: member.get("origin").and_then(Value::as_str).map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_stays_unknown() {
        let body = r#"{"stale": true, "members": [{"name": "a", "state": "UP", "lag": {"est": null}, "in_sync": null}]}"#;
        let view = parse(body).expect("it is an answer");
        assert_eq!(
            (view.servers[0].lag, view.servers[0].is_in_sync, view.servers[0].sessions),
            (None, None, None)
        );
        assert_eq!(view.notes.len(), 1);
    }

    #[test]
    fn a_refused_monitoring_role_is_noted() {
        let body =
            r#"{"members": [{"name": "a", "state": "UP", "monitor_refused": "no (28P01)"}, {"name": "b"}]}"#;
        let view = parse(body).expect("it is an answer");
        assert!(view.notes[0].contains("monitoring role"), "{:?}", view.notes);
    }

    #[test]
    fn another_service_is_recognised() {
        assert_eq!(parse("<html>"), None);
        assert_eq!(parse(r#"{"status": "ok"}"#), None);
    }
}
