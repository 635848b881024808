//! The environment layer: `TRUNKLINE__SECTION__KEY`.
//!
//! `TRUNKLINE__HEALTH__MAX_LAG=2s` is `[health] max_lag`. A server or listener is named in the variable:
//! `TRUNKLINE__SERVER__REPLICA1__ADDRESS=10.0.0.12:5432` changes the server `replica1`, or adds it; so does
//! `TRUNKLINE__DISCOVERY__SOURCE__PODS__INTERVAL=5s` with the source `pods`, and
//! `TRUNKLINE__POOL__OVERRIDE__BATCH__POOL_SIZE=5` with the override `batch`.

use std::collections::HashMap;
use std::sync::Arc;

use config::{Environment, Source as _};

use super::file::{FORMER_SERVER, former_server, unknown_key};
use super::keys::{self, Key, LISTENER_KEYS, OVERRIDE_KEYS, SERVER_KEYS, SOURCE_KEYS};
use super::raw::RawConfig;
use super::{Problem, Problems, RawValue, Source};

/// What every variable begins with.
pub const PREFIX: &str = "TRUNKLINE__";

/// Puts what `variables` say over `raw`, and adds what is wrong with them to `problems`.
pub fn apply(variables: HashMap<String, String>, raw: &mut RawConfig, problems: &mut Problems) {
    let environment = Environment::with_prefix(PREFIX.trim_end_matches('_'))
        .prefix_separator("__")
        .separator("__")
        .source(Some(variables));
    let collected = match environment.collect() {
        Ok(collected) => collected,
        Err(error) => {
            return problems.push(Problem::new(&Source::Default, "", format!("environment: {error}")));
        }
    };
    // The map has no order; sorted, problems and new servers always come in the same one.
    let mut collected: Vec<_> = collected.into_iter().collect();
    collected.sort_by(|(left, _), (right, _)| left.cmp(right));
    for (full, value) in collected {
        let variable = format!("{PREFIX}{}", full.to_ascii_uppercase().replace('.', "__"));
        let source = Source::Environment(Arc::from(variable));
        let value = RawValue::Bare(value.into_string().unwrap_or_default());
        apply_one(&full, &value, &source, raw, problems);
    }
}

/// Variables that name a key, but with one underscore where two belong: they are not read.
pub fn misspelt<'n>(names: impl Iterator<Item = &'n str>) -> Problems {
    let mut found: Vec<_> = names.filter_map(|name| Some((name, meant(name)?))).collect();
    found.sort_unstable();
    let problem = |(name, meant): (&str, String)| {
        Problem::new(&Source::Environment(Arc::from(name)), "", "is not read: two underscores are missing")
            .hint(format!("Write {meant}."))
    };
    Problems(found.into_iter().map(problem).collect())
}

/// The variable that was meant by `name`, if that is none and looks like one.
fn meant(name: &str) -> Option<String> {
    let rest = name.strip_prefix(PREFIX.trim_end_matches('_'))?.strip_prefix('_')?;
    if rest.starts_with('_') {
        return None;
    }
    let sections = keys::SECTIONS.iter().flat_map(|section| {
        section.keys.iter().map(move |key| format!("{}.{}", section.name, key.name).to_ascii_uppercase())
    });
    let plain = |text: &str| text.replace("__", "_");
    if let Some(full) = sections.into_iter().find(|full| full.replace('.', "_") == plain(rest)) {
        return Some(format!("{PREFIX}{}", full.replace('.', "__")));
    }
    let servers = SERVER_KEYS.iter().map(|key| ("SERVER", key.name));
    let listeners = LISTENER_KEYS.iter().map(|key| ("LISTENER", key.name));
    let sources = SOURCE_KEYS.iter().map(|key| ("DISCOVERY__SOURCE", key.name));
    let overrides = OVERRIDE_KEYS.iter().map(|key| ("POOL__OVERRIDE", key.name));
    servers.chain(listeners).chain(sources).chain(overrides).find_map(|(kind, key)| {
        let key = key.to_ascii_uppercase().replace('.', "__");
        let ending = plain(&key);
        let named = plain(rest);
        let named = named
            .strip_prefix(plain(kind).as_str())?
            .strip_prefix('_')?
            .strip_suffix(ending.as_str())?
            .strip_suffix('_')?;
        (!named.is_empty()).then(|| format!("{PREFIX}{kind}__{named}__{key}"))
    })
}

fn apply_one(full: &str, value: &RawValue, source: &Source, raw: &mut RawConfig, problems: &mut Problems) {
    let parts: Vec<&str> = full.split('.').collect();
    match parts.as_slice() {
        [FORMER_SERVER, ..] => problems.push(former_server(source, full)),
        ["server", name, key] => {
            let at = raw.servers.iter().position(|server| is_named(server.name.value.as_deref(), name));
            let at = at.unwrap_or_else(|| {
                let mut server = keys::new_server(source.clone());
                server.name.put(Some((*name).to_owned()), source);
                raw.servers.push(server);
                raw.servers.len() - 1
            });
            put_named(full, key, SERVER_KEYS, value, source, &mut raw.servers[at], problems);
        }
        ["listener", name, key @ ..] if !key.is_empty() => {
            let key = &key.join(".");
            let at = raw.listeners.iter().position(|listener| is_named(listener.name.value.as_deref(), name));
            let at = at.unwrap_or_else(|| {
                let mut listener = keys::new_listener(source.clone());
                listener.name.put(Some((*name).to_owned()), source);
                raw.listeners.push(listener);
                raw.listeners.len() - 1
            });
            put_named(full, key, LISTENER_KEYS, value, source, &mut raw.listeners[at], problems);
        }
        ["discovery", "source", name, key] => {
            let sources = &mut raw.discovery.sources;
            let at = sources.iter().position(|source| is_named(source.name.value.as_deref(), name));
            let at = at.unwrap_or_else(|| {
                let mut entry = keys::new_source(source.clone());
                entry.name.put(Some((*name).to_owned()), source);
                sources.push(entry);
                sources.len() - 1
            });
            put_named(full, key, SOURCE_KEYS, value, source, &mut sources[at], problems);
        }
        ["pool", "override", name, key] => {
            let overrides = &mut raw.pool.overrides;
            let at = overrides.iter().position(|rule| is_named(rule.name.value.as_deref(), name));
            let at = at.unwrap_or_else(|| {
                let mut entry = keys::new_override(source.clone());
                entry.name.put(Some((*name).to_owned()), source);
                overrides.push(entry);
                overrides.len() - 1
            });
            put_named(full, key, OVERRIDE_KEYS, value, source, &mut overrides[at], problems);
        }
        _ => match keys::find(full) {
            Some(key) => report(full, key, key.put(raw, value, source), source, problems),
            None => {
                let (section, key) = full.rsplit_once('.').unwrap_or(("", full));
                problems.push(unknown_key(section, key, source));
            }
        },
    }
}

/// Variables have no hyphens and no case: `REPLICA_1` names `replica-1` too.
fn is_named(name: Option<&str>, variable: &str) -> bool {
    name.is_some_and(|name| name.to_ascii_lowercase().replace(['-', '.'], "_") == variable)
}

fn put_named<T>(
    full: &str,
    name: &str,
    keys: &[Key<T>],
    value: &RawValue,
    source: &Source,
    into: &mut T,
    problems: &mut Problems,
) {
    match keys.iter().find(|key| key.name == name) {
        Some(key) => report(full, key, key.put(into, value, source), source, problems),
        None => {
            let names: Vec<_> = keys.iter().map(|key| key.name).collect();
            problems.push(
                Problem::new(source, full, "unknown key").hint(format!("Known are: {}.", names.join(", "))),
            );
        }
    }
}

fn report<T>(full: &str, key: &Key<T>, result: Result<(), String>, source: &Source, problems: &mut Problems) {
    if let Err(message) = result {
        problems.push(Problem::new(source, full, message).hint(key.hint()));
    }
}
