//! Settings of a session: the values the server reports of them, or the SQL that set them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::carried::encoding::Encoding;
use crate::carried::parameters::ReportedParameters;
use crate::limits::SETTING_BYTES_MAX;
use crate::sql::effect::Change;
use crate::sql::set::decides_reading;

mod apply;

pub(crate) use self::apply::set_config;

/// One setting.
#[derive(Clone, Debug)]
struct Setting {
    /// Its name in lower case.
    key: Box<str>,
    /// The SQL that set it last.
    sql: Box<[u8]>,
    encoding: Encoding,
    /// What the server reports of it. It stands before the SQL, which may have set a part of it only.
    value: Option<Box<[u8]>>,
}

impl Setting {
    /// Whether the server reports another value of it than is kept. Who the session is depends on the order, in which the
    /// SQL stands.
    fn is_told_otherwise(&self, name: &[u8], value: &[u8]) -> bool {
        self.key.as_bytes().eq_ignore_ascii_case(name)
            && !is_identity(&self.key)
            && self.value.as_deref() != Some(value)
    }

    fn bytes(&self) -> usize {
        let texts = [Some(&self.sql), self.encoding.as_ref(), self.value.as_ref()];
        self.key.len() + texts.into_iter().flatten().map(|text| text.len()).sum::<usize>()
    }
}

/// Two are equal when they are applied alike.
impl PartialEq for Setting {
    fn eq(&self, other: &Self) -> bool {
        let is_told = self.value.is_some();
        self.key == other.key
            && self.value == other.value
            && (is_told || (self.sql == other.sql && self.encoding == other.encoding))
    }
}

impl Hash for Setting {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.key, &self.value).hash(state);
        if self.value.is_none() {
            (&self.sql, &self.encoding).hash(state);
        }
    }
}

/// The settings exceed the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SettingsTooLarge;

/// What was set since the login and not reset, in the order it was set last: what may be set depends
/// on the role, which is a setting too.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gucs {
    settings: Vec<Setting>,
    bytes: usize,
    /// A hash of the settings; zero where there are none.
    fingerprint: u64,
}

impl PartialEq for Gucs {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint && self.settings == other.settings
    }
}

/// Whether two sessions, or a session and a connection, have the same settings; `None` is none.
#[inline]
pub(crate) fn have_same_settings(one: Option<&Arc<Gucs>>, other: Option<&Arc<Gucs>>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) if Arc::ptr_eq(one, other) => true,
        (one, other) => have_equal_settings(one, other),
    }
}

#[cold]
fn have_equal_settings(one: Option<&Arc<Gucs>>, other: Option<&Arc<Gucs>>) -> bool {
    let fingerprint = |gucs: Option<&Arc<Gucs>>| gucs.map_or(0, |gucs| gucs.fingerprint);
    fingerprint(one) == fingerprint(other) && listed(one) == listed(other)
}

fn listed(gucs: Option<&Arc<Gucs>>) -> &[Setting] {
    gucs.map(|gucs| gucs.settings.as_slice()).unwrap_or_default()
}

/// Whether those of them that decide how SQL is read are the same.
pub(crate) fn read_alike(one: Option<&Arc<Gucs>>, other: Option<&Arc<Gucs>>) -> bool {
    have_same_settings(one, other) || {
        let decides = |setting: &&Setting| decides_reading(&setting.key);
        // One of a name, as roles do not decide it.
        let have_all =
            |these: &[Setting], those: &[Setting]| these.iter().filter(decides).all(|it| those.contains(it));
        let (one, other) = (listed(one), listed(other));
        have_all(one, other) && have_all(other, one)
    }
}

/// A hash of those of them that may change what a statement means, or how it is planned: constants are folded by the settings
/// of output, too. Zero where there are none.
pub(crate) fn meaning_of_statements(settings: Option<&Arc<Gucs>>) -> u64 {
    let mut decide = listed(settings).iter().filter(|it| !leaves_meaning(&it.key)).peekable();
    if decide.peek().is_none() {
        return 0;
    }
    let mut hasher = DefaultHasher::new();
    decide.for_each(|setting| setting.hash(&mut hasher));
    hasher.finish()
}

/// Whether a setting has nothing to do with how statements are read and planned. The `search_path` is told apart by itself.
pub(crate) fn leaves_meaning(key: &str) -> bool {
    match key {
        "application_name" | "client_min_messages" | "search_path" => true,
        "statement_timeout" | "lock_timeout" | "transaction_timeout" => true,
        "idle_in_transaction_session_timeout" | "idle_session_timeout" => true,
        _other => false,
    }
}

/// Whether a key says who the session is: the setting depends on those before it, and others on it.
fn is_identity(key: &str) -> bool {
    key == "role" || key == "session_authorization"
}

impl Gucs {
    /// A change took effect. Its SQL was sent under `encoding`.
    pub(crate) fn apply(&mut self, change: Change, encoding: Encoding) -> Result<(), SettingsTooLarge> {
        match change {
            Change::Set { key, sql } => self.put(key, sql, encoding),
            Change::Reset { key, sql } if is_identity(&key) => self.put(key, sql, encoding),
            Change::Reset { key, .. } if key.contains('.') => self.forget(&key),
            Change::Reset { key, .. } => {
                self.remove(&key);
                Ok(())
            }
            Change::ResetAll => self.reset_all(),
            Change::Local { key, .. } => self.touch(&key),
        }
    }

    /// A custom setting exists from its first use on, without a value, whatever becomes of its
    /// transaction: `current_setting` tells that from one that was never used.
    pub(crate) fn touch(&mut self, key: &str) -> Result<(), SettingsTooLarge> {
        if !key.contains('.') || self.settings.iter().any(|setting| *setting.key == *key) {
            return Ok(());
        }
        self.forget(key)
    }

    /// A custom setting loses its value and stays known.
    fn forget(&mut self, key: &str) -> Result<(), SettingsTooLarge> {
        let quoted: Vec<_> = key.split('.').map(|part| format!("\"{part}\"")).collect();
        self.put(key.into(), format!("RESET {}", quoted.join(".")).into_bytes().into(), None)
    }

    fn put(&mut self, key: Box<str>, sql: Box<[u8]>, encoding: Encoding) -> Result<(), SettingsTooLarge> {
        if !is_identity(&key) {
            self.remove(&key);
        }
        self.settings.push(Setting { key, sql, encoding, value: None });
        self.compact();
        self.is_within_limit()
    }

    fn is_within_limit(&self) -> Result<(), SettingsTooLarge> {
        if self.bytes > SETTING_BYTES_MAX { Err(SettingsTooLarge) } else { Ok(()) }
    }

    /// The session is idle outside a transaction: what its server reports now is what it has. A value that is not
    /// ASCII was reported under some client_encoding, so the SQL speaks for it.
    pub(crate) fn reported(&mut self, told: &ReportedParameters) -> Result<(), SettingsTooLarge> {
        for (name, value) in told.iter().filter(|(_, value)| value.is_ascii()) {
            let is_it = |setting: &&mut Setting| setting.is_told_otherwise(name, value);
            if let Some(setting) = self.settings.iter_mut().find(is_it) {
                setting.value = Some(value.into());
            }
        }
        self.count();
        self.is_within_limit()
    }

    /// Whether [`Self::reported`] changes something.
    pub(crate) fn is_told_otherwise(&self, told: &ReportedParameters) -> bool {
        let mut ascii = told.iter().filter(|(_, value)| value.is_ascii());
        ascii.any(|(name, value)| self.settings.iter().any(|setting| setting.is_told_otherwise(name, value)))
    }

    fn remove(&mut self, key: &str) {
        self.settings.retain(|setting| *setting.key != *key);
        self.compact();
    }

    /// Drops who the session was when nothing was set as that.
    fn compact(&mut self) {
        let mut at = 0;
        while at + 1 < self.settings.len() {
            let (this, next) = (&self.settings[at].key, &self.settings[at + 1].key);
            // Becoming another session user drops the role too.
            let is_undone = is_identity(this) && (this == next || **next == *"session_authorization");
            if is_undone {
                self.settings.remove(at);
                at = at.saturating_sub(1);
            } else {
                at += 1;
            }
        }
        self.count();
    }

    fn count(&mut self) {
        self.bytes = self.settings.iter().map(Setting::bytes).sum();
        self.fingerprint = if self.settings.is_empty() {
            0
        } else {
            let mut hasher = DefaultHasher::new();
            self.settings.hash(&mut hasher);
            hasher.finish()
        };
    }

    /// See the field.
    #[inline]
    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The custom settings among them: all that a connection with these settings has.
    pub(crate) fn custom(&self) -> impl Iterator<Item = &str> {
        self.keys().filter(|key| key.contains('.'))
    }

    /// `RESET ALL`: it leaves the role.
    fn reset_all(&mut self) -> Result<(), SettingsTooLarge> {
        let mut custom = Vec::new();
        self.settings.retain(|setting| {
            let is_custom = setting.key.contains('.');
            if is_custom {
                custom.push(setting.key.clone());
            }
            !is_custom && is_identity(&setting.key)
        });
        self.compact();
        custom.iter().try_for_each(|key| self.forget(key))
    }

    /// `DISCARD ALL`.
    pub(crate) fn discard_all(&mut self) -> Result<(), SettingsTooLarge> {
        let had_identity = self.settings.iter().any(|setting| is_identity(&setting.key));
        self.reset_all()?;
        self.settings.retain(|setting| !is_identity(&setting.key));
        self.compact();
        if !had_identity {
            return Ok(());
        }
        let sql = b"SET SESSION AUTHORIZATION DEFAULT"[..].into();
        self.put("session_authorization".into(), sql, None)
    }

    /// Whether a setting of this name, in whatever case, is kept.
    pub(crate) fn has(&self, name: &[u8]) -> bool {
        self.settings.iter().any(|setting| setting.key.as_bytes().eq_ignore_ascii_case(name))
    }

    /// The SQL that has set this one, by its name in lower case.
    pub(crate) fn sql_of(&self, key: &str) -> Option<&[u8]> {
        self.settings.iter().find(|setting| *setting.key == *key).map(|setting| &*setting.sql)
    }

    /// What the server reports of this one, by its name in lower case, since the session has set it.
    pub(crate) fn reported_value(&self, key: &str) -> Option<&[u8]> {
        self.settings.iter().find(|setting| *setting.key == *key)?.value.as_deref()
    }

    /// The names of what is kept, in lower case.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.settings.iter().map(|setting| &*setting.key)
    }

    /// Whether one of them has this text in its value, in upper or lower case.
    pub(crate) fn name(&self, text: &[u8]) -> bool {
        let has = |value: &[u8]| value.windows(text.len()).any(|part| part.eq_ignore_ascii_case(text));
        self.settings.iter().any(|setting| has(&setting.sql) || setting.value.as_deref().is_some_and(has))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.settings.is_empty()
    }

    /// Nothing is kept any more.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(gucs: &mut Gucs, key: &str, sql: &str) {
        gucs.apply(Change::Set { key: key.into(), sql: sql.as_bytes().into() }, None).expect("short");
    }

    fn reset(gucs: &mut Gucs, key: &str) {
        let sql = format!("RESET {key}").into_bytes().into();
        gucs.apply(Change::Reset { key: key.into(), sql }, None).expect("short");
    }

    fn told(gucs: &Gucs) -> Vec<String> {
        let sql = gucs.settings.iter().map(|setting| &setting.sql);
        sql.map(|sql| String::from_utf8_lossy(sql).into_owned()).collect()
    }

    #[test]
    fn the_last_value_counts_in_the_order_of_setting() {
        let mut gucs = Gucs::default();
        for (key, sql) in [("a", "a1"), ("b", "b1"), ("a", "a2")] {
            set(&mut gucs, key, sql);
        }
        assert_eq!(told(&gucs), ["b1", "a2"]);
        reset(&mut gucs, "b");
        assert_eq!(told(&gucs), ["a2"]);
        gucs.apply(Change::ResetAll, None).expect("short");
        assert_eq!(gucs.bytes, 0);
    }

    #[test]
    fn a_role_is_kept_as_long_as_something_was_set_in_it() {
        let mut gucs = Gucs::default();
        set(&mut gucs, "role", "admin");
        set(&mut gucs, "a", "a1");
        set(&mut gucs, "role", "app");
        assert_eq!(told(&gucs), ["admin", "a1", "app"]);
        reset(&mut gucs, "a");
        assert_eq!(told(&gucs), ["app"]);
        for _ in 0..100 {
            set(&mut gucs, "role", "app");
            set(&mut gucs, "a", "a1");
            reset(&mut gucs, "role");
            reset(&mut gucs, "a");
        }
        assert_eq!(told(&gucs), ["RESET role"], "request after request leaves nothing behind");
        set(&mut gucs, "session_authorization", "other");
        assert_eq!(told(&gucs), ["other"]);
        gucs.discard_all().expect("short");
        assert_eq!(told(&gucs), ["SET SESSION AUTHORIZATION DEFAULT"]);
    }

    #[test]
    fn a_custom_setting_stays_known() {
        let mut gucs = Gucs::default();
        gucs.touch("plain").expect("short");
        gucs.touch("app.user").expect("short");
        assert_eq!(told(&gucs), ["RESET \"app\".\"user\""]);
        set(&mut gucs, "app.user", "SET app.user = 1");
        gucs.touch("app.user").expect("short");
        assert_eq!(told(&gucs), ["SET app.user = 1"]);
        gucs.discard_all().expect("short");
        assert_eq!(told(&gucs), ["RESET \"app\".\"user\""]);
    }

    #[test]
    fn settings_end_exactly_at_the_limit() {
        let mut gucs = Gucs::default();
        let full = vec![b'x'; SETTING_BYTES_MAX - 1].into_boxed_slice();
        let again = full.clone();
        assert_eq!(gucs.apply(Change::Set { key: "a".into(), sql: full }, None), Ok(()));
        assert_eq!(
            gucs.apply(Change::Set { key: "a".into(), sql: again }, None),
            Ok(()),
            "in place of the other"
        );
        let one_more = Change::Set { key: "b".into(), sql: Box::default() };
        assert_eq!(gucs.apply(one_more, None), Err(SettingsTooLarge));
    }
}
