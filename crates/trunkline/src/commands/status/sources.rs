//! The sources of servers as reported by `/cluster`.

use std::time::Duration;

use serde_json::Value;

/// Warnings: a source that does not answer.
pub(super) fn notes(cluster: &Value) -> Vec<String> {
    let mut notes = Vec::new();
    for (source, name) in each(cluster) {
        if let Some(error) = source["error"].as_str() {
            let stays = match answered(source) {
                Some(when) => format!("its servers stay, {when}"),
                None => "it has named no server yet".to_owned(),
            };
            notes.push(format!("source {name} gives no answer, {stays}: {error}"));
        }
        if let Some(problem) = source["keep_problem"].as_str() {
            notes.push(format!("source {name}: its last good answer is not kept on disk: {problem}"));
        }
    }
    notes
}

/// A line for each source.
pub(super) fn lines(cluster: &Value) -> String {
    let mut out = String::new();
    for (source, name) in each(cluster) {
        let kind = source["kind"].as_str().unwrap_or_default();
        let members = source["members"].as_array().map_or(0, Vec::len);
        let named = if members == 1 { "1 server".to_owned() } else { format!("{members} servers") };
        let when = answered(source).unwrap_or_else(|| "no answer yet".to_owned());
        out.push_str(&format!("source    {name} ({kind}): {named}, {when}\n"));
    }
    out
}

/// Each with its name.
fn each(cluster: &Value) -> impl Iterator<Item = (&Value, &str)> {
    let all = cluster["sources"].as_array().into_iter().flatten();
    all.filter_map(|source| Some((source, source["source"].as_str()?)))
}

/// How old its last good answer is; `None`: there is none.
fn answered(source: &Value) -> Option<String> {
    let seconds = u64::try_from(source["answered_seconds_ago"].as_i64()?).unwrap_or_default();
    let age = humantime::format_duration(Duration::from_secs(seconds));
    Some(match source["from"].as_str() {
        Some("disk") => format!("answered {age} ago, before the start"),
        _ => format!("answered {age} ago"),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_source_that_is_down_is_warned_of_with_the_age_of_its_answer() {
        let source = |seconds: Option<i64>, from: &str, error: Option<&str>| {
            let members = json!([{"name": "pg1"}, {"name": "pg2"}]);
            let source = json!({"source": "pods", "kind": "kubernetes", "members": members,
                "answered_seconds_ago": seconds, "from": from, "error": error});
            let cluster = json!({"sources": [source]});
            (notes(&cluster), lines(&cluster))
        };
        let (good, line) = source(Some(75), "source", None);
        assert!(good.is_empty());
        assert_eq!(line, "source    pods (kubernetes): 2 servers, answered 1m 15s ago\n");
        let (down, line) = source(Some(3600), "disk", Some("could not ask https://api"));
        assert_eq!(
            down,
            [
                "source pods gives no answer, its servers stay, answered 1h ago, before the start: could not ask https://api"
            ]
        );
        assert!(line.ends_with("answered 1h ago, before the start\n"), "{line}");
        let (never, _) = source(None, "source", Some("no"));
        assert_eq!(never, ["source pods gives no answer, it has named no server yet: no"]);
        assert_eq!(lines(&json!({})), "");
    }
}
