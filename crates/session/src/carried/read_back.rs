//! Settings that functions have changed, and those that the login gave: their values are read from the session's
//! server.

use trunkline_codec::backend::DataRow;

use crate::carried::followed::Followed;
use crate::carried::gucs::set_config;
use crate::carried::login_values::{is_plain, value_at_login};
use crate::carried::parameters::ReportedParameters;
use crate::pin::PinReason;
use crate::pins::Pins;
use crate::sql::effect::Change;
use crate::sql::superuser_settings::is_for_superusers;
use crate::sql::suspicious_names::names_temporary_schema;

/// Settings that are not set by a value read.
const CHANGES_READING: [&str; 2] = ["session_authorization", "standard_conforming_strings"];

impl Followed {
    /// Whether values have to be read at the next idle point: nothing else pins the session.
    #[inline]
    pub(crate) fn must_read_back(&self) -> bool {
        self.pins.contains(PinReason::ReadingBack) && self.ends_by_values()
    }

    /// Whether only values keep the session, and calls of functions that are known by now.
    #[cold]
    fn ends_by_values(&self) -> bool {
        self.pins.iter().all(|reason| match reason {
            PinReason::ReadingBack => true,
            PinReason::UnreadFunction => self.unsettled.is_harmless(),
            _other => false,
        })
    }

    /// What these settings are is not known: their values are read.
    #[cold]
    pub(crate) fn read_back(&mut self, keys: &[Box<str>]) {
        let mut pins = Pins::default();
        for key in keys {
            if is_plain(key) && !CHANGES_READING.contains(&&**key) {
                pins.add(PinReason::ReadingBack);
            } else {
                pins.add(PinReason::UnknownSetting);
            }
        }
        self.unsettled.add_keys(keys, &mut pins);
        self.pins.extend(&pins);
    }

    /// The query for them, which returns one row. Names of settings have no quotes in them.
    pub(crate) fn question_of_values(&self) -> Vec<u8> {
        let now = self.unsettled.keys().iter().map(|key| value_now(key));
        let at_login = self.login_values.keys().iter().map(|key| value_at_login(key));
        format!("SELECT {}", now.chain(at_login).collect::<Vec<_>>().join(", ")).into_bytes()
    }

    /// The values have come, in this row; `None` when they could not be read.
    pub(crate) fn values_read(&mut self, row: Option<&[u8]>, told: &ReportedParameters) {
        self.pins.remove(PinReason::ReadingBack);
        let number = self.unsettled.keys().len() + self.login_values.keys().len();
        let Some(values) = row.and_then(|row| values(row, number)) else {
            return self.pin(PinReason::UnknownSetting);
        };
        let (now, at_login) = values.split_at(self.unsettled.keys().len());
        let is_superuser = told.get(b"is_superuser") == Some(b"on");
        let mut read = self.unsettled.keys().iter().zip(now);
        if !is_superuser && read.any(|(key, value)| value.is_some() && is_for_superusers(key)) {
            // A function of a superuser has set it: the session itself could not on another connection.
            self.pin(PinReason::UnknownSetting);
        }
        let changes = changes(self.unsettled.keys(), now, |key| is_superuser || !is_for_superusers(key));
        self.login_values.have_come(at_login.iter().copied());
        let era = self.encoding.era();
        for change in changes {
            if change.sets_path().is_some_and(names_temporary_schema) {
                self.pin(PinReason::TemporaryObject);
            }
            self.change(change, era, told);
        }
    }
}

/// The values of a row of so many.
fn values(row: &[u8], number: usize) -> Option<Vec<Option<&[u8]>>> {
    let row = DataRow::parse(row).ok()?;
    let values: Vec<_> = row.values().collect();
    (values.len() == number).then_some(values)
}

/// The value of a setting, NULL where the server does not know it. Of one that only superusers may set, no other session is
/// told a value that is that of its login.
fn value_now(key: &str) -> String {
    let value = format!("pg_catalog.current_setting('{key}', true)");
    if !is_for_superusers(key) {
        return value;
    }
    format!(
        "CASE WHEN pg_catalog.current_setting('is_superuser') OPERATOR(pg_catalog.=) 'on' OR EXISTS ( \
         SELECT FROM pg_catalog.pg_settings s WHERE s.name OPERATOR(pg_catalog.=) '{key}' \
         AND s.setting OPERATOR(pg_catalog.<>) s.reset_val) THEN {value} END"
    )
}

/// What values set, of settings that may be set. One that is NULL is not known to the server.
fn changes(keys: &[Box<str>], values: &[Option<&[u8]>], may_be_set: impl Fn(&str) -> bool) -> Vec<Change> {
    let settable = keys.iter().zip(values).filter(|(key, _)| may_be_set(key));
    settable.filter_map(|(key, value)| Some(change(key, (*value)?))).collect()
}

/// The same by SQL. An empty value is set, too: RESET goes back to what the login is given.
fn change(key: &str, value: &[u8]) -> Change {
    Change::Set { key: key.into(), sql: set_config(key, value).into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[Option<&str>]) -> Vec<u8> {
        let mut row = u16::try_from(values.len()).unwrap_or_default().to_be_bytes().to_vec();
        for value in values {
            let length = value.map_or(-1, |value| i32::try_from(value.len()).unwrap_or_default());
            row.extend_from_slice(&length.to_be_bytes());
            row.extend_from_slice(value.unwrap_or_default().as_bytes());
        }
        row
    }

    #[test]
    fn values_are_set_as_they_are_and_unknown_settings_are_not() {
        let keys: Vec<Box<str>> =
            ["app.tenant", "app.empty", "app.unknown", "search_path"].map(Box::from).to_vec();
        let row = row(&[Some("it's"), Some(""), None, Some("")]);
        let set = |key: &str, sql: &str| Change::Set { key: key.into(), sql: sql.as_bytes().into() };
        let expected = [
            set("app.tenant", "SELECT pg_catalog.set_config('app.tenant', 'it''s', false)"),
            set("app.empty", "SELECT pg_catalog.set_config('app.empty', '', false)"),
            set("search_path", "SELECT pg_catalog.set_config('search_path', '', false)"),
        ];
        let values_of = values(&row, keys.len()).expect("whole");
        assert_eq!(changes(&keys, &values_of, |_| true), expected);
        assert_eq!(changes(&keys, &values_of, |key| key == "app.tenant"), expected[..1]);
        for end in 0..row.len() {
            assert_eq!(values(&row[..end], keys.len()), None, "cut at {end}");
        }
        assert_eq!(values(&row, 3), None, "a row of other columns");
    }
}
