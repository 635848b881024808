//! Values that the login set, read from the session's own server when no other source has them.

use crate::carried::followed::Followed;
use crate::limits::SETTING_NAME_MAX;

/// A setting, in lower case, with the value that RESET goes back to; `None` where the server knows none.
pub type LoginValue = (Box<str>, Option<Box<[u8]>>);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct LoginValues {
    /// Settings to query.
    pub(crate) keys: Vec<Box<str>>,
    pub(crate) read: Option<Vec<LoginValue>>,
}

impl LoginValues {
    pub(crate) fn keys(&self) -> &[Box<str>] {
        &self.keys
    }

    /// The values have come, in the order of the keys.
    pub(crate) fn have_come<'a>(&mut self, values: impl Iterator<Item = Option<&'a [u8]>>) {
        let keys = std::mem::take(&mut self.keys);
        if !keys.is_empty() {
            self.read = Some(keys.into_iter().zip(values.map(|value| value.map(Box::from))).collect());
        }
    }
}

/// SQL that gives the value that RESET goes back to. `pg_settings` leaves out `role` and custom settings: those have the
/// value that they have now, as the session has not set them. The operator is qualified, so that no user-defined one is used.
pub(crate) fn value_at_login(key: &str) -> String {
    format!(
        "coalesce((SELECT s.reset_val FROM pg_catalog.pg_settings s \
         WHERE pg_catalog.lower(s.name) OPERATOR(pg_catalog.=) '{key}'), \
         pg_catalog.current_setting('{key}', true))"
    )
}

impl Followed {
    /// Whether the server has only the session's own value of a setting.
    pub(crate) fn hides_login_value(&self, key: &str) -> bool {
        let is_hidden = key == "role" || key.contains('.');
        let is_own = || self.has_set(key.as_bytes()) || self.unsettled.keys().iter().any(|own| **own == *key);
        is_hidden && is_own()
    }
}

pub(crate) fn is_plain(key: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.';
    key.len() <= SETTING_NAME_MAX && key.bytes().all(is_plain)
}
