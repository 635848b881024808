//! Settings of a client's startup packet that its server connections were not logged in with: they are laid on a connection as
//! what the session has set is, so that clients of other packets may have the connection, too. They are the values that RESET
//! goes back to, for the client; a server, which goes back to its own, is given them again.

use std::sync::Arc;

use super::{Gucs, Setting};

/// See the module. Clones are cheap.
#[derive(Clone, Debug)]
pub struct StartupSettings(pub(crate) Arc<Gucs>);

impl StartupSettings {
    /// From names in lower case and values as servers report them, of printable ASCII without quotes and backslashes. `None`
    /// where there are none.
    #[must_use]
    pub fn new<'a>(values: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Option<Self> {
        let mut gucs = Gucs::default();
        for (key, value) in values {
            debug_assert!(is_plain(value), "not to be quoted");
            gucs.settings.retain(|other| *other.key != *key);
            gucs.settings.push(Setting {
                key: key.into(),
                sql: Box::default(),
                encoding: None,
                value: Some(value.into()),
            });
        }
        gucs.count();
        (!gucs.is_empty()).then(|| StartupSettings(Arc::new(gucs)))
    }

    /// Whether a value may be among them: it means the same under any client_encoding and way of quoting.
    #[must_use]
    pub fn may_have(value: &[u8]) -> bool {
        is_plain(value)
    }

    /// Whether both have the same values.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

fn is_plain(value: &[u8]) -> bool {
    value.iter().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'\'' | b'\\'))
}

impl Gucs {
    /// These and, before them, those of a startup packet that are not among them; `None` where all of those are.
    pub(crate) fn with_startup(&self, startup: &Self) -> Option<Self> {
        let missing = startup.settings.iter().filter(|setting| !self.has(setting.key.as_bytes()));
        let mut all = Gucs { settings: missing.cloned().collect(), ..Gucs::default() };
        if all.is_empty() {
            return None;
        }
        all.settings.extend_from_slice(&self.settings);
        all.count();
        Some(all)
    }

    /// The server has this setting of a startup packet again.
    pub(crate) fn take_back(&mut self, startup: &Self, key: &str) {
        let Some(setting) = startup.setting(key) else { return };
        self.settings.retain(|other| *other.key != *key);
        self.settings.push(setting.clone());
        self.count();
    }

    /// The SQL that gives the server this setting of a startup packet again. A SET may stand before SET TRANSACTION, where
    /// a query may not.
    pub(crate) fn startup_sql(&self, key: &str) -> Option<Vec<u8>> {
        let value = self.setting(key)?.value.as_deref()?;
        Some([b"SET ", key.as_bytes(), b" TO '", value, b"'"].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::effect::Change;

    fn startup() -> StartupSettings {
        let values: [(&str, &[u8]); 2] = [("application_name", b"web 1"), ("extra_float_digits", b"2")];
        StartupSettings::new(values).expect("two")
    }

    fn keys(gucs: &Gucs) -> Vec<&str> {
        gucs.keys().collect()
    }

    #[test]
    fn what_is_reset_comes_back_before_the_rest() {
        let StartupSettings(startup) = startup();
        let mut own = Gucs::clone(&startup);
        assert!(own.with_startup(&startup).is_none(), "nothing is missing");
        let set = Change::Set { key: "work_mem".into(), sql: b"SET work_mem = 1".as_slice().into() };
        own.apply(set, None).expect("short");
        let reset = Change::Reset { key: "application_name".into(), sql: Box::default() };
        own.apply(reset, None).expect("short");
        assert_eq!(keys(&own), ["extra_float_digits", "work_mem"]);
        let whole = own.with_startup(&startup).expect("one is missing");
        assert_eq!(keys(&whole), ["application_name", "extra_float_digits", "work_mem"]);
        own.apply(Change::ResetAll, None).expect("short");
        assert_eq!(own.with_startup(&startup).as_ref(), Some(&*startup));
        own.take_back(&startup, "application_name");
        own.take_back(&startup, "extra_float_digits");
        assert_eq!(own, *startup, "as after the login");
    }

    #[test]
    fn a_setting_is_given_back_by_set() {
        let StartupSettings(startup) = startup();
        assert_eq!(
            startup.startup_sql("application_name").as_deref(),
            Some(&b"SET application_name TO 'web 1'"[..])
        );
        assert_eq!(startup.startup_sql("work_mem"), None);
    }

    #[test]
    fn only_what_needs_no_quotes_is_laid_on() {
        for (value, may) in
            [("ISO, DMY", true), ("it's", false), ("a\\b", false), ("\u{e9}", false), ("a\tb", false)]
        {
            assert_eq!(StartupSettings::may_have(value.as_bytes()), may, "{value}");
        }
    }
}
