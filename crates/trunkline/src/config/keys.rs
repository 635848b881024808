//! The table of every key.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use trunkline_pool::ServerReuse;
use trunkline_proxy::settings::{AddHost, MockNonce, Retry};
use trunkline_topology::Address;

use super::raw::{RawConfig, Sourced};
use super::words::Word;
use super::{RawValue, Source, units};

mod table;
mod unwritten;
mod written;

pub use table::{LISTENER_KEYS, OVERRIDE_KEYS, SECTIONS, SERVER_KEYS, SOURCE_KEYS};
pub use unwritten::{defaults, new_listener, new_override, new_server, new_source};
use written::{command, is_off, list, listen, listen_or_socket, networks, permissions, switch};

/// One section of the file.
pub struct Section {
    /// Name, such as `health` or `log.statements`.
    pub name: &'static str,
    /// What it is about.
    pub doc: &'static str,
    /// Its keys.
    pub keys: &'static [Key<RawConfig>],
}

/// One key of `T`: a section's, or that of an entry of a list.
pub struct Key<T: 'static> {
    /// Name within its section.
    pub name: &'static str,
    /// Default as TOML; `None` when the key is unset unless written.
    pub default: Option<&'static str>,
    /// An example as TOML, for a key without a default.
    pub example: &'static str,
    /// Meaning, in one or more sentences.
    pub doc: &'static str,
    /// Its kind and the place its value goes to.
    pub slot: KeyKind<T>,
}

/// Puts a value, and where it was written, in its place in a `T`.
pub type Setter<T, V> = fn(&mut T, V, &Source);

/// A place that a value is put in. Most keys go to the proxy's own settings directly. A key that is checked against another
/// one keeps its source, for the message.
pub(super) trait PutValue<V> {
    /// Replaces the value: a later source wins.
    fn put(&mut self, value: V, source: &Source);
}

impl<V> PutValue<V> for Sourced<V> {
    fn put(&mut self, value: V, source: &Source) {
        *self = Sourced { value, source: source.clone() };
    }
}

/// Places that keep the value alone.
macro_rules! plain_places {
    ($($kind:ty),+) => {
        $(impl PutValue<$kind> for $kind {
            fn put(&mut self, value: $kind, _source: &Source) {
                *self = value;
            }
        })+
    };
}
plain_places!(bool, Duration, Option<Duration>, f64, u64, Option<String>, Vec<IpNet>);

impl PutValue<bool> for AddHost {
    fn put(&mut self, value: bool, _source: &Source) {
        *self = if value { AddHost::On } else { AddHost::Off };
    }
}

impl PutValue<bool> for Retry {
    fn put(&mut self, value: bool, _source: &Source) {
        *self = if value { Retry::On } else { Retry::Off };
    }
}

impl PutValue<bool> for ServerReuse {
    fn put(&mut self, value: bool, _source: &Source) {
        *self = if value { ServerReuse::On } else { ServerReuse::Off };
    }
}

impl PutValue<u64> for usize {
    fn put(&mut self, value: u64, _source: &Source) {
        *self = usize::try_from(value).unwrap_or(usize::MAX);
    }
}

impl PutValue<u64> for u32 {
    fn put(&mut self, value: u64, _source: &Source) {
        *self = u32::try_from(value).unwrap_or(u32::MAX);
    }
}

impl PutValue<u64> for u16 {
    fn put(&mut self, value: u64, _source: &Source) {
        *self = u16::try_from(value).unwrap_or(u16::MAX);
    }
}

impl PutValue<u32> for u32 {
    fn put(&mut self, value: u32, _source: &Source) {
        *self = value;
    }
}

impl PutValue<Option<String>> for Option<MockNonce> {
    fn put(&mut self, value: Option<String>, _source: &Source) {
        *self = value.as_deref().map(MockNonce::new);
    }
}

/// The kind of a key, with the place in `T` its value goes to.
pub enum KeyKind<T: 'static> {
    /// A length of time greater than zero.
    Duration(Setter<T, Duration>),
    /// A length of time, `0` = off or what the key says.
    DurationOrZero(Setter<T, Duration>),
    /// A length of time or `off`.
    DurationOrOff(Setter<T, Option<Duration>>),
    /// A number of bytes within bounds.
    Bytes {
        /// Least value.
        min: u64,
        /// Greatest value.
        max: u64,
        /// Where it goes.
        put: Setter<T, u64>,
    },
    /// A whole number within bounds.
    Count {
        /// Least value.
        min: u64,
        /// Greatest value.
        max: u64,
        /// Where it goes.
        put: Setter<T, u64>,
    },
    /// A number from 0 to 1.
    Share(Setter<T, f64>),
    /// Any text.
    Text(Setter<T, Option<String>>),
    /// Text never shown.
    Secret(Setter<T, Option<String>>),
    /// Texts.
    List(Setter<T, Vec<String>>),
    /// Networks or single addresses, separated by commas.
    Networks(Setter<T, Vec<IpNet>>),
    /// `address:port` to listen on, or `off`.
    Listen(Setter<T, Option<SocketAddr>>),
    /// The same, or the directory of a Unix socket with its port.
    ListenOrSocket(Setter<T, Option<Address>>),
    /// Permissions of a file, as an octal number.
    Permissions(Setter<T, u32>),
    /// `on` or `off`.
    Switch(Setter<T, bool>),
    /// A program with its arguments.
    Command(Setter<T, Vec<String>>),
    /// One of a closed set of words.
    Word {
        /// The words.
        words: fn() -> Vec<&'static str>,
        /// Puts the word in its place; false when it is none of them.
        put: fn(&mut T, &str) -> bool,
    },
}

/// The words of `W`, for [`KeyKind::Word`].
pub(super) fn words<W: Word>() -> Vec<&'static str> {
    W::WORDS.iter().map(|(word, _)| *word).collect()
}

/// Puts a word in its place, for [`KeyKind::Word`].
pub(super) fn put_word<W: Word>(slot: &mut W, word: &str) -> bool {
    W::parse(word).map(|value| *slot = value).is_some()
}

impl<T> Key<T> {
    /// Puts a value in its place.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn put(&self, into: &mut T, value: &RawValue, source: &Source) -> Result<(), String> {
        let text = || value.as_text().ok_or_else(|| self.expected(value));
        match &self.slot {
            KeyKind::Duration(put) => match self.duration(value)? {
                Duration::ZERO => return Err("must be longer than zero".to_owned()),
                duration => put(into, duration, source),
            },
            KeyKind::DurationOrZero(put) => put(into, self.duration(value)?, source),
            KeyKind::DurationOrOff(put) => {
                let is_off = value.as_text().is_some_and(is_off);
                put(into, if is_off { None } else { Some(self.duration(value)?) }, source);
            }
            KeyKind::Bytes { min, max, put } => match self.bytes(value)? {
                bytes if (*min..=*max).contains(&bytes) => put(into, bytes, source),
                _ => return Err(format!("must be from {min} to {max} bytes")),
            },
            KeyKind::Count { min, max, put } => {
                let number = value.as_integer().ok_or_else(|| self.expected(value))?;
                let number = u64::try_from(number).ok().filter(|number| (*min..=*max).contains(number));
                put(into, number.ok_or_else(|| self.expected(value))?, source);
            }
            KeyKind::Share(put) => {
                let share = value.as_float().filter(|share| (0.0..=1.0).contains(share));
                put(into, share.ok_or_else(|| self.expected(value))?, source);
            }
            KeyKind::Text(put) | KeyKind::Secret(put) => {
                let text = text()?;
                put(into, (!text.is_empty()).then(|| text.to_owned()), source);
            }
            KeyKind::List(put) => put(into, list(value).ok_or_else(|| self.expected(value))?, source),
            KeyKind::Networks(put) => put(into, networks(text()?)?, source),
            KeyKind::Listen(put) => {
                // The source is kept even if the value is wrong, so that the address is not reported as missing.
                put(into, None, source);
                let address = listen(text()?)?;
                put(into, address, source);
            }
            KeyKind::ListenOrSocket(put) => {
                put(into, None, source);
                let address = listen_or_socket(text()?)?;
                put(into, address, source);
            }
            KeyKind::Permissions(put) => {
                put(into, permissions(text()?).ok_or_else(|| self.expected(value))?, source);
            }
            KeyKind::Switch(put) => match value {
                RawValue::Boolean(is_on) => put(into, *is_on, source),
                _ => put(into, switch(text()?).ok_or_else(|| self.expected(value))?, source),
            },
            KeyKind::Command(put) => put(into, command(value).ok_or_else(|| self.expected(value))?, source),
            KeyKind::Word { put, .. } => {
                if !put(into, text()?) {
                    return Err(self.expected(value));
                }
            }
        }
        Ok(())
    }

    /// What a value of this key looks like, as a sentence for a hint.
    #[must_use]
    pub fn hint(&self) -> String {
        match &self.slot {
            KeyKind::Duration(_) | KeyKind::DurationOrZero(_) => {
                r#"Write a number with its unit, such as "500ms", "2s" or "5m"."#.to_owned()
            }
            KeyKind::DurationOrOff(_) => {
                r#"Write a number with its unit, such as "200ms", or "off"."#.to_owned()
            }
            KeyKind::Bytes { .. } => {
                r#"Write a number of bytes, with a unit if you like: "4KiB", "16MiB"."#.to_owned()
            }
            KeyKind::Count { min, max: u64::MAX, .. } => format!("Write a whole number, at least {min}."),
            KeyKind::Count { min, max, .. } => format!("Write a whole number from {min} to {max}."),
            KeyKind::Share(_) => "Write a number from 0 to 1.".to_owned(),
            KeyKind::Text(_) | KeyKind::Secret(_) => "Write a text in quotes.".to_owned(),
            KeyKind::List(_) => r#"Write a list of texts, such as ["one", "two"]."#.to_owned(),
            KeyKind::Networks(_) => {
                "Write networks such as 10.0.0.0/8, or addresses, separated by commas.".to_owned()
            }
            KeyKind::Listen(_) => {
                r#"Write an address and a port, such as "127.0.0.1:5434" or "[::]:5434"."#.to_owned()
            }
            KeyKind::ListenOrSocket(_) => {
                r#"Write an address and a port, such as "127.0.0.1:5434" or "[::]:5434", or the directory of a Unix socket with its port, such as "/run/trunkline:5434"."#.to_owned()
            }
            KeyKind::Permissions(_) => {
                r#"Write an octal number in quotes, such as "0777" for everybody or "0770" for the group."#.to_owned()
            }
            KeyKind::Switch(_) => r#"Write "on" or "off"."#.to_owned(),
            KeyKind::Command(_) => r#"Write a program and its arguments, such as ["cat", "/run/secrets/monitor"]."#.to_owned(),
            KeyKind::Word { words, .. } => format!("Write one of: {}.", words().join(", ")),
        }
    }

    /// The kind in a word, for the reference.
    #[must_use]
    pub fn kind(&self) -> String {
        match &self.slot {
            KeyKind::Duration(_) | KeyKind::DurationOrZero(_) => "duration".to_owned(),
            KeyKind::DurationOrOff(_) => "duration or `off`".to_owned(),
            KeyKind::Bytes { .. } => "bytes".to_owned(),
            KeyKind::Count { .. } => "whole number".to_owned(),
            KeyKind::Share(_) => "number 0 to 1".to_owned(),
            KeyKind::Text(_) => "text".to_owned(),
            KeyKind::Secret(_) => "secret".to_owned(),
            KeyKind::List(_) | KeyKind::Command(_) => "list of texts".to_owned(),
            KeyKind::Networks(_) => "networks".to_owned(),
            KeyKind::Listen(_) => "address:port".to_owned(),
            KeyKind::ListenOrSocket(_) => "address:port, or /directory:port".to_owned(),
            KeyKind::Permissions(_) => "octal number".to_owned(),
            KeyKind::Switch(_) => "`on`, `off`".to_owned(),
            KeyKind::Word { words, .. } => {
                words().iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
            }
        }
    }

    fn expected(&self, value: &RawValue) -> String {
        if matches!(self.slot, KeyKind::Secret(_)) {
            "not a text".to_owned()
        } else {
            format!("{} is not valid here", value.shown())
        }
    }

    fn duration(&self, value: &RawValue) -> Result<Duration, String> {
        match value {
            RawValue::Integer(0) => Ok(Duration::ZERO),
            RawValue::Integer(number) => Err(format!("the unit is missing in {number}")),
            RawValue::Text(text) | RawValue::Bare(text) => units::duration(text),
            RawValue::Float(_) | RawValue::Boolean(_) | RawValue::List(_) => Err(self.expected(value)),
        }
    }

    fn bytes(&self, value: &RawValue) -> Result<u64, String> {
        match value {
            RawValue::Integer(number) => u64::try_from(*number).map_err(|_| self.expected(value)),
            RawValue::Text(text) | RawValue::Bare(text) => units::bytes(text),
            RawValue::Float(_) | RawValue::Boolean(_) | RawValue::List(_) => Err(self.expected(value)),
        }
    }
}

/// The key of this full name, such as `health.fallback.mode`.
#[must_use]
pub fn find(full_name: &str) -> Option<&'static Key<RawConfig>> {
    let (section, name) = full_name.rsplit_once('.')?;
    SECTIONS.iter().find(|known| known.name == section)?.keys.iter().find(|key| key.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::raw::{ListenerEntry, OverrideEntry, ServerEntry, SourceEntry};

    #[test]
    fn every_default_and_example_is_valid() {
        fn all_valid<T>(keys: &[Key<T>], mut into: T) {
            for key in keys {
                for text in
                    key.default.into_iter().chain([key.example].into_iter().filter(|text| !text.is_empty()))
                {
                    let value = RawValue::Bare(text.trim_matches('"').to_owned());
                    assert_eq!(key.put(&mut into, &value, &Source::Default), Ok(()), "{}", key.name);
                }
                assert!(
                    key.default.is_some() || !key.example.is_empty(),
                    "{} has neither default nor example",
                    key.name
                );
                assert!(key.doc.ends_with('.'), "{}: {}", key.name, key.doc);
            }
        }
        for section in SECTIONS {
            assert!(section.doc.ends_with('.'), "{}", section.name);
            all_valid(section.keys, RawConfig::default());
        }
        all_valid(SERVER_KEYS, ServerEntry::default());
        all_valid(LISTENER_KEYS, ListenerEntry::default());
        all_valid(SOURCE_KEYS, SourceEntry::default());
        all_valid(OVERRIDE_KEYS, OverrideEntry::default());
    }

    #[test]
    fn every_switch_is_on_or_off_true_or_false() {
        fn switches<T>(keys: &[Key<T>], mut into: T) -> usize {
            let mut number = 0;
            for key in keys.iter().filter(|key| key.kind().contains("`on`")) {
                number += 1;
                for word in ["on", "off", "true", "false", "On"] {
                    let bare = RawValue::Bare(word.to_owned());
                    assert_eq!(key.put(&mut into, &bare, &Source::Default), Ok(()), "{}: {word}", key.name);
                }
                assert_eq!(key.put(&mut into, &RawValue::Boolean(true), &Source::Default), Ok(()));
                assert!(key.put(&mut into, &RawValue::Bare("yes".to_owned()), &Source::Default).is_err());
            }
            number
        }
        let in_sections: usize =
            SECTIONS.iter().map(|section| switches(section.keys, RawConfig::default())).sum();
        let of_sources = switches(SOURCE_KEYS, SourceEntry::default());
        let of_listeners = switches(LISTENER_KEYS, ListenerEntry::default());
        assert_eq!((in_sections, of_listeners, of_sources), (4, 2, 1));
    }

    #[test]
    fn a_wrong_value_leaves_what_was_there() {
        let mut raw = defaults();
        let key = find("health.max_lag").expect("the key exists");
        assert!(key.put(&mut raw, &RawValue::Text("soon".to_owned()), &Source::Default).is_err());
        assert_eq!(raw.proxy.health.judge.max_lag, Duration::from_secs(10));
    }

    #[test]
    fn a_secret_is_not_repeated_in_an_error() {
        let key = find("monitor.password").expect("the key exists");
        let error =
            key.put(&mut defaults(), &RawValue::Integer(1234), &Source::Default).expect_err("not a text");
        assert!(!error.contains("1234"));
    }
}
