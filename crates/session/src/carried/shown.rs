//! What a pool and the next client are shown of a connection.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use bytes::BytesMut;
use trunkline_codec::write;

use super::connection::ConnectionState;
use super::diff::SessionState;
use super::gucs::Gucs;
use super::parameters::statuses;

impl ConnectionState {
    /// A bit for each custom setting that it has, drawn from 32 by the name, and one for a schema of temporary objects: a
    /// connection with a bit that a session has not, [does not fit](Self::fits) it.
    #[must_use]
    #[inline]
    pub fn custom_marks(&self) -> u32 {
        marks_of(self.settings.as_deref()) | mark_of_temporary(self.has_temporary_schema)
    }

    /// The parameters that it has now, for a client that gets it in place of a login: ParameterStatus messages. `reported` is
    /// what its server has reported since the connection had this state.
    #[must_use]
    pub fn parameter_messages(&self, reported: &[u8]) -> BytesMut {
        let changed = self.changed.as_deref().unwrap_or_default();
        if changed.is_empty() && reported.is_empty() && self.login.are_alone() {
            return BytesMut::from(self.login.messages());
        }
        let since = [changed, reported].concat();
        let newest =
            |name: &[u8]| statuses(&since).filter(|(n, _)| *n == name).last().map(|(_, value)| value);
        let mut out = BytesMut::with_capacity(self.login.messages().len() + since.len());
        let mut write = |name: &[u8], value: &[u8]| {
            let written = write::parameter_status(&mut out, name, value);
            debug_assert!(written.is_ok(), "it was read from such a message");
        };
        for (name, value) in statuses(self.login.messages()) {
            write(name, newest(name).unwrap_or(value));
        }
        let is_of_login = |name: &[u8]| statuses(self.login.messages()).any(|(n, _)| n == name);
        let mut others: Vec<&[u8]> = Vec::new();
        for (name, _) in statuses(&since) {
            if !is_of_login(name) && !others.contains(&name) {
                others.push(name);
                write(name, newest(name).unwrap_or_default());
            }
        }
        out
    }
}

impl SessionState {
    /// The same as [`ConnectionState::custom_marks`], of what the session knows.
    #[must_use]
    #[inline]
    pub fn custom_marks(&self) -> u32 {
        marks_of(self.settings.as_deref()) | mark_of_temporary(self.knows_temporary_schema)
    }
}

fn mark_of_temporary(has_schema: bool) -> u32 {
    u32::from(has_schema)
}

fn marks_of(settings: Option<&Gucs>) -> u32 {
    let bit = |name: &str| {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        1 << (hasher.finish() % u64::from(u32::BITS))
    };
    settings.map_or(0, |settings| settings.custom().map(bit).fold(0, |all, bit| all | bit))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::carried::parameters::LoginParameters;

    fn told(statuses: &[(&str, &str)]) -> BytesMut {
        let mut out = BytesMut::new();
        for (name, value) in statuses {
            write::parameter_status(&mut out, name.as_bytes(), value.as_bytes()).expect("short");
        }
        out
    }

    #[test]
    fn a_new_client_gets_each_parameter_once_as_it_is_now() {
        let login = Arc::new(LoginParameters::new(&told(&[("TimeZone", "UTC"), ("in_hot_standby", "on")])));
        let mut state = ConnectionState::logged_in(false, login);
        state.reported(&told(&[("in_hot_standby", "off"), ("app", "1")]));
        let now = state.parameter_messages(&told(&[("app", "2"), ("TimeZone", "GMT")]));
        assert_eq!(now, told(&[("TimeZone", "GMT"), ("in_hot_standby", "off"), ("app", "2")]));
    }
}
