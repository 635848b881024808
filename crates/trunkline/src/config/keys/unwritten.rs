//! What a configuration has where nothing is written.

use super::{Key, LISTENER_KEYS, OVERRIDE_KEYS, SECTIONS, SERVER_KEYS, SOURCE_KEYS};
use crate::config::raw::{ListenerEntry, OverrideEntry, RawConfig, ServerEntry, SourceEntry};
use crate::config::{RawValue, Source};

/// Everything at its default; no servers, no listeners.
#[must_use]
pub fn defaults() -> RawConfig {
    let mut raw = RawConfig::default();
    for section in SECTIONS {
        put_defaults(section.keys, &mut raw);
    }
    raw
}

/// A server with nothing written.
#[must_use]
pub fn new_server(source: Source) -> ServerEntry {
    let mut server = ServerEntry { source, ..ServerEntry::default() };
    put_defaults(SERVER_KEYS, &mut server);
    server
}

/// A listener with nothing written.
#[must_use]
pub fn new_listener(source: Source) -> ListenerEntry {
    let mut listener = ListenerEntry { source, ..ListenerEntry::default() };
    put_defaults(LISTENER_KEYS, &mut listener);
    listener
}

/// A source with nothing written.
#[must_use]
pub fn new_source(source: Source) -> SourceEntry {
    let mut entry = SourceEntry { source, ..SourceEntry::default() };
    put_defaults(SOURCE_KEYS, &mut entry);
    entry
}

/// A pool override with nothing written.
#[must_use]
pub fn new_override(source: Source) -> OverrideEntry {
    let mut entry = OverrideEntry { source, ..OverrideEntry::default() };
    put_defaults(OVERRIDE_KEYS, &mut entry);
    entry
}

fn put_defaults<T>(keys: &[Key<T>], into: &mut T) {
    for key in keys {
        if let Some(default) = key.default {
            let value = RawValue::Bare(default.trim_matches('"').to_owned());
            let put = key.put(into, &value, &Source::Default);
            debug_assert!(put.is_ok(), "default of {}: {put:?}", key.name);
        }
    }
}
