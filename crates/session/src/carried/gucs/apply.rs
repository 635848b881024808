//! How the settings of a session are applied on another server.
//!
//! ```text
//! login's statement_timeout off | settings in their order | client_encoding | time-outs, statement_timeout last
//! ```
//!
//! A text that is not ASCII is sent under the client_encoding it was first sent under.

use super::{Gucs, Setting, is_identity};
use crate::carried::alignment::Writer;

const ENCODING: &str = "client_encoding";
const STATEMENT_TIMEOUT: &str = "statement_timeout";

/// Settings that may end the statements after them, in the order in which they are applied.
/// Source: PostgreSQL 18, src/backend/utils/misc/guc_tables.c.
const TIMEOUTS: [&str; 5] = [
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "lock_timeout",
    "transaction_timeout",
    STATEMENT_TIMEOUT,
];

/// Comes first: the login may have set a time-out that is shorter than the rest takes.
const TIMEOUT_OFF: &[u8] = b"SET statement_timeout = 0";

/// Restores the login's value.
const TIMEOUT_OF_LOGIN: &[u8] = b"RESET statement_timeout";

impl Gucs {
    /// Undoes them on a connection that has them, but for the existence of custom settings.
    pub(crate) fn write_reset(&self, out: &mut Writer) {
        if self.settings.iter().any(|setting| is_timeout(&setting.key)) {
            out.run(TIMEOUT_OFF);
        }
        if self.settings.iter().any(|setting| is_identity(&setting.key)) {
            out.run(b"SET SESSION AUTHORIZATION DEFAULT");
            // The login may have given it a role.
            out.run(b"RESET ROLE");
        }
        if self.settings.iter().any(|setting| !is_identity(&setting.key)) {
            out.run(b"RESET ALL");
        }
    }

    /// All settings, time-outs last.
    pub(crate) fn write(&self, out: &mut Writer, has_login_timeout: bool) {
        if has_login_timeout && self.has_more_than_timeouts() {
            out.run(TIMEOUT_OFF);
        }
        let mut encoding = None;
        let is_ordinary = |setting: &&Setting| !is_timeout(&setting.key) && *setting.key != *ENCODING;
        for setting in self.settings.iter().filter(is_ordinary) {
            if let (None, Some(of_text)) = (&setting.value, setting.encoding.as_deref())
                && encoding != Some(of_text)
            {
                out.run(&set_config(ENCODING, of_text));
                encoding = Some(of_text);
            }
            setting.write(|sql| out.run(sql));
        }
        match self.setting(ENCODING) {
            Some(own) => own.write(|sql| out.run(sql)),
            None if encoding.is_some() => out.run(b"RESET client_encoding"),
            None => {}
        }
        self.write_timeouts(out, has_login_timeout);
    }

    fn write_timeouts(&self, out: &mut Writer, has_login_timeout: bool) {
        for setting in TIMEOUTS.iter().filter_map(|key| self.setting(key)) {
            setting.write(|sql| out.run(sql));
        }
        let is_off = has_login_timeout && self.has_more_than_timeouts();
        if is_off && self.setting(STATEMENT_TIMEOUT).is_none() {
            out.run(TIMEOUT_OF_LOGIN);
        }
    }

    fn setting(&self, key: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| *setting.key == *key)
    }

    fn has_more_than_timeouts(&self) -> bool {
        self.settings.iter().any(|setting| !is_timeout(&setting.key))
    }
}

impl Setting {
    fn write(&self, mut run: impl FnMut(&[u8])) {
        match &self.value {
            Some(value) => run(&set_config(&self.key, value)),
            None => run(&self.sql),
        }
    }
}

fn is_timeout(key: &str) -> bool {
    TIMEOUTS.contains(&key)
}

/// The statement that sets `key`, which is a name the proxy knows, to `value`.
pub(crate) fn set_config(key: &str, value: &[u8]) -> Vec<u8> {
    let mut sql = format!("SELECT pg_catalog.set_config('{key}', '").into_bytes();
    for &byte in value {
        sql.push(byte);
        if byte == b'\'' {
            sql.push(byte);
        }
    }
    sql.extend_from_slice(b"', false)");
    sql
}
