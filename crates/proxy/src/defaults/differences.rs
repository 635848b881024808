//! Which settings a login must ask for to get the defaults of an earlier login.

use std::collections::BTreeMap;
use std::sync::Arc;

use trunkline_codec::backend::ParameterStatus;
use trunkline_codec::scan::{Piece, Scanner};
use trunkline_codec::startup::StartupMessage;

use super::generation::{ServerSetting, SettableBy, UserDefaults};
use super::startup::{StartupSetting, named};

/// Settings that servers report and any user may set, in lower case.
/// Source: PostgreSQL 18, src/backend/utils/misc/guc_tables.c, `GUC_REPORT`.
pub(super) const REPORTED: [&str; 9] = [
    "application_name",
    "client_encoding",
    "datestyle",
    "default_transaction_read_only",
    "intervalstyle",
    "scram_iterations",
    "search_path",
    "standard_conforming_strings",
    "timezone",
];

/// Settings of a transaction or of the session's identity: a login has no defaults for them.
const NOT_DEFAULTS: [&str; 4] =
    ["transaction_isolation", "transaction_read_only", "transaction_deferrable", "session_authorization"];

/// The defaults that a server reported to a session in ParameterStatus messages.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReportedDefaults {
    /// Values that a login can ask for, by name in lower case.
    values: BTreeMap<Box<str>, Box<[u8]>>,
    /// Whether the server's encoding is UTF-8, as the proxy's: a startup packet is not converted.
    is_utf8: bool,
}

impl ReportedDefaults {
    /// From names and values.
    pub(crate) fn of<'a>(parameters: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        let mut told = Self::default();
        for (name, value) in parameters {
            let Ok(name) = std::str::from_utf8(name) else { continue };
            let name = name.to_ascii_lowercase();
            told.is_utf8 |= name == "server_encoding" && value == b"UTF8";
            // A value that is not ASCII is in a client_encoding that the next login does not have yet.
            if REPORTED.contains(&name.as_str()) && value.is_ascii() {
                told.values.insert(name.into(), value.into());
            }
        }
        told
    }

    fn get(&self, key: &str) -> Option<&[u8]> {
        self.values.get(key).map(|value| &**value)
    }

    /// Leaves out one setting.
    pub(super) fn forget(&mut self, key: &str) {
        self.values.remove(key);
    }

    /// The number of settings that a login with the defaults `login` would report another value for.
    pub(crate) fn contradictions(&self, login: &UserDefaults) -> usize {
        let plain = |value: &[u8]| -> Vec<u8> {
            value.iter().filter(|byte| **byte != b' ').map(u8::to_ascii_lowercase).collect()
        };
        let is_another = |key: &str, told: &[u8]| {
            login.value(key).is_some_and(|value| plain(value.as_bytes()) != plain(told))
        };
        self.values.iter().filter(|(key, told)| is_another(key, told)).count()
    }
}

/// The settings that a login which would get `now` must ask for to get `own`. Those in its startup packet are not
/// among them.
pub(crate) fn differences(
    own: &UserDefaults,
    now: &UserDefaults,
    told: &ReportedDefaults,
    startup: &StartupMessage,
) -> Vec<StartupSetting> {
    let mut keys: Vec<&str> = own.keys().chain(now.keys()).collect();
    if !Arc::ptr_eq(own.level(), now.level()) {
        let is_other = |key: &str, of_server: &ServerSetting| now.level().get(key) != Some(of_server);
        let others = own.level().iter().filter(|(key, of_server)| is_other(key, of_server));
        keys.extend(others.map(|(key, _)| &**key));
    }
    keys.sort_unstable();
    keys.dedup();
    let different = keys.into_iter().filter(|key| !NOT_DEFAULTS.contains(key)).filter_map(|key| {
        let value = wanted(own, now, key)?;
        let value = told.get(key).unwrap_or(value.as_bytes());
        let is_readable = value.is_ascii() || told.is_utf8;
        let is_free = is_readable && may_ask(now, key) && named(startup, key).is_none();
        is_free.then(|| StartupSetting { name: key.into(), value: value.into() })
    });
    different.collect()
}

/// The value of a setting in `own`, if it is known and differs from that in `now`.
fn wanted<'a>(own: &'a UserDefaults, now: &UserDefaults, key: &str) -> Option<&'a str> {
    let (value, other) = (own.value(key), now.value(key));
    if value == other {
        return None;
    }
    match (value, key) {
        (Some(value), _) => Some(value),
        (None, "role") => Some("none"),
        // A custom setting cannot be removed, so it is set to an empty value.
        (None, custom) if custom.contains('.') && !own.level().contains_key(custom) => Some(""),
        (None, _not_known) => None,
    }
}

fn may_ask(now: &UserDefaults, key: &str) -> bool {
    match now.level().get(key) {
        Some(of_server) => match of_server.by {
            SettableBy::Anyone => true,
            SettableBy::Superusers => now.is_superuser,
        },
        // `pg_settings` omits `role` and custom settings; nothing else that it omits can be set by a session.
        None => key == "role" || key.contains('.'),
    }
}

/// The settings for which these possible defaults of one login differ, and whose values can be queried from the
/// session's server. Those that it reports are not among them.
pub(crate) fn doubtful(logins: &[UserDefaults], told: &ReportedDefaults) -> Vec<Box<str>> {
    let Some((first, others)) = logins.split_first() else { return Vec::new() };
    let mut keys: Vec<&str> = logins.iter().flat_map(UserDefaults::keys).collect();
    keys.sort_unstable();
    keys.dedup();
    let is_doubtful = |key: &str| others.iter().any(|other| other.value(key) != first.value(key));
    let can_be_asked =
        |key: &str| !NOT_DEFAULTS.contains(&key) && told.get(key).is_none() && may_ask(first, key);
    keys.into_iter().filter(|key| can_be_asked(key) && is_doubtful(key)).map(Box::from).collect()
}

/// The settings to ask for next, given the server's messages after the login by `startup`: those reported with a
/// wrong value, because the server's defaults have changed since they were read. Settings in the client's own
/// packet are always right.
pub(crate) fn corrected(
    told: &ReportedDefaults,
    login_reply: &[u8],
    own: &StartupMessage,
    startup: &StartupMessage,
) -> Vec<StartupSetting> {
    let mut scanner = Scanner::backend();
    let mut at = 0;
    let mut wrong = Vec::new();
    while let Ok(Some(piece)) = scanner.next(login_reply, &mut at) {
        let Piece::Message { tag: b'S', body } = piece else { continue };
        let Ok(ParameterStatus { name, value }) = ParameterStatus::parse(body) else { continue };
        let Ok(name) = std::str::from_utf8(name) else { continue };
        let name = name.to_ascii_lowercase();
        let Some(right) = told.get(&name).filter(|right| *right != value) else { continue };
        let is_asked_for = named(own, &name).is_some() || named(startup, &name).as_deref() == Some(right);
        if !is_asked_for {
            wrong.push(StartupSetting { name: name.into(), value: right.into() });
        }
    }
    wrong
}
