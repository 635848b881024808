//! Keys of the configuration as documents write them: `[health] max_lag`, `health.max_lag`, `TRUNKLINE__HEALTH__MAX_LAG`.

use trunkline::config::keys::{LISTENER_KEYS, OVERRIDE_KEYS, SECTIONS, SERVER_KEYS, SOURCE_KEYS};

/// Stands for every variable.
const ANY_VARIABLE: &str = "TRUNKLINE__SECTION__KEY";

/// The keys and sections in a line of code that do not exist.
pub(crate) fn unknown(line: &str) -> Vec<String> {
    let mut unknown = bracketed(line);
    for word in line.split(|c: char| !(c.is_ascii_alphanumeric() || "_./-".contains(c))) {
        let word = word.trim_matches('.');
        let is_wrong = match word.strip_prefix("TRUNKLINE__") {
            Some(path) => word != ANY_VARIABLE && !path.is_empty() && !is_variable(path),
            None => is_dotted_key(word) == Some(false),
        };
        if is_wrong {
            unknown.push(format!("key {word}"));
        }
    }
    unknown
}

/// The names of the keys of a section, of `server` and of `listener`; `None` when there is no such section.
fn keys_of(section: &str) -> Option<Vec<&'static str>> {
    match section {
        "server" => Some(SERVER_KEYS.iter().map(|key| key.name).collect()),
        "discovery.source" => Some(SOURCE_KEYS.iter().map(|key| key.name).collect()),
        "pool.override" => Some(OVERRIDE_KEYS.iter().map(|key| key.name).collect()),
        "listener" => Some(LISTENER_KEYS.iter().map(|key| key.name).collect()),
        _ => {
            let section = SECTIONS.iter().find(|known| known.name == section)?;
            Some(section.keys.iter().map(|key| key.name).collect())
        }
    }
}

fn is_key(section: &str, key: &str) -> bool {
    keys_of(section).is_some_and(|keys| keys.contains(&key))
}

/// `[section] key`, and a section alone.
fn bracketed(line: &str) -> Vec<String> {
    let mut unknown = Vec::new();
    for after in line.split('[').skip(1) {
        let Some((section, rest)) = after.split_once(']') else { continue };
        let rest = rest.trim_start_matches(']');
        let is_name = |text: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c == '.')
        };
        let key = rest.strip_prefix(' ').map(|rest| {
            let end = rest.find(|c: char| !(c.is_ascii_lowercase() || c == '_')).unwrap_or(rest.len());
            &rest[..end]
        });
        match key.filter(|key| !key.is_empty()) {
            Some(key) if is_name(section) && !is_key(section, key) => {
                unknown.push(format!("key [{section}] {key}"));
            }
            None if rest.is_empty()
                && line.starts_with('[')
                && is_name(section)
                && keys_of(section).is_none() =>
            {
                unknown.push(format!("section [{section}]"));
            }
            _ => {}
        }
    }
    unknown
}

/// `SECTION__KEY`, or `SERVER__NAME__KEY`.
fn is_variable(path: &str) -> bool {
    let path = path.to_ascii_lowercase().replace("__", ".");
    match path.split('.').collect::<Vec<_>>()[..] {
        [entries @ ("server" | "listener"), _name, key] => is_key(entries, key),
        ["discovery", "source", _name, key] => is_key("discovery.source", key),
        ["pool", "override", _name, key] => is_key("pool.override", key),
        _ => path.rsplit_once('.').is_some_and(|(section, key)| is_key(section, key)),
    }
}

/// Whether `section.key` is one; `None` for other words, such as names of files. Servers and listeners have no single
/// key each, and fields of the log begin with their names, too.
fn is_dotted_key(word: &str) -> Option<bool> {
    let (section, key) = word.rsplit_once('.')?;
    let is_section = SECTIONS.iter().any(|known| known.name == section);
    let is_other = ["rs", "md", "id"].contains(&key) || keys_of(word).is_some();
    (is_section && !key.is_empty() && !is_other).then(|| is_key(section, key))
}

#[test]
fn what_the_key_table_lacks_is_found() {
    assert_eq!(unknown("[health] max_leg = \"2s\""), ["key [health] max_leg"]);
    assert_eq!(
        unknown("with [[server]] colour and [nosuch] key"),
        ["key [server] colour", "key [nosuch] key"]
    );
    assert_eq!(unknown("[helth]"), ["section [helth]"]);
    assert_eq!(
        unknown("timeouts.dran, TRUNKLINE__HEALTH__LAG=2s"),
        ["key timeouts.dran", "key TRUNKLINE__HEALTH__LAG"]
    );
    let known = "[health.fallback] mode, log.statements.threshold, log.statements, limits.rs, c-agent.cfg, x [a] [-n N] \
        TRUNKLINE__SERVER__REPLICA1__ADDRESS TRUNKLINE__LOG__STATEMENTS__THRESHOLD=1s TRUNKLINE__SECTION__KEY.";
    assert!(unknown(known).is_empty(), "{:?}", unknown(known));
}
