//! What must be asked for at a login so that it gives what an earlier login, elsewhere or before, has given.

use std::collections::BTreeMap;
use std::sync::Arc;

use trunkline_codec::backend::ParameterStatus;
use trunkline_codec::scan::{Piece, Scanner};
use trunkline_codec::startup::StartupMessage;

use super::generation::{ServerSetting, SettableBy, UserDefaults};
use super::startup::{StartupSetting, named};

/// Settings that servers report and anyone may set, by their names in lower case.
/// Source: PostgreSQL 18, src/backend/utils/misc/guc_tables.c, `GUC_REPORT`.
const REPORTED: [&str; 9] = [
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

/// Settings of a transaction, or of who the session is: no login has defaults of them.
const NOT_DEFAULTS: [&str; 4] =
    ["transaction_isolation", "transaction_read_only", "transaction_deferrable", "session_authorization"];

/// What a server reported of a session's defaults.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReportedDefaults {
    /// Values that a login can ask for, by their names in lower case.
    values: BTreeMap<Box<str>, Box<[u8]>>,
    /// Whether texts are in UTF-8 there, as they are here: a startup packet is not converted.
    is_utf8: bool,
}

impl ReportedDefaults {
    /// Of names and values.
    pub(crate) fn of<'a>(parameters: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        let mut told = Self::default();
        for (name, value) in parameters {
            let Ok(name) = std::str::from_utf8(name) else { continue };
            let name = name.to_ascii_lowercase();
            told.is_utf8 |= name == "server_encoding" && value == b"UTF8";
            // What is not ASCII was told under a client_encoding that the login does not have yet.
            if REPORTED.contains(&name.as_str()) && value.is_ascii() {
                told.values.insert(name.into(), value.into());
            }
        }
        told
    }

    fn get(&self, key: &str) -> Option<&[u8]> {
        self.values.get(key).map(|value| &**value)
    }

    /// Of how many settings a login that is given `login` would report another value.
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

/// What a login that would get `now` must ask for to get what `own` was given. Nothing that its startup packet names.
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

/// The value of a setting by `own`, if it is known and another than `now`'s.
fn wanted<'a>(own: &'a UserDefaults, now: &UserDefaults, key: &str) -> Option<&'a str> {
    let (value, other) = (own.value(key), now.value(key));
    if value == other {
        return None;
    }
    match (value, key) {
        (Some(value), _) => Some(value),
        (None, "role") => Some("none"),
        // A custom setting cannot be taken away: an empty one is nobody's.
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
        // `pg_settings` leaves `role` and custom settings out; all else that it leaves out is the whole server's.
        None => key == "role" || key.contains('.'),
    }
}

/// The settings in which the same login would be given different values by these, and that its session's server can be
/// asked for: none that it has told anyway.
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

/// What a startup packet must ask for where the greeting to `startup` was not right: the server had news of its defaults
/// that the last look did not. Nothing when it was right. What the client's own packet names is right.
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
