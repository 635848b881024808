//! What transactions of the session are by default, as far as a standby has such ones.

use crate::carried::gucs::Gucs;
use crate::session::Session;
use crate::sql::hinted::{Assigned, assigned};
use crate::sql::transactions::AccessDefault;

const READ_ONLY: &str = "default_transaction_read_only";
const ISOLATION: &str = "default_transaction_isolation";

/// All that standbys have.
const ISOLATION_LEVELS: [&str; 3] = ["read committed", "repeatable read", "read uncommitted"];

/// Words for on, which come first, and off. Source: PostgreSQL 18, src/backend/utils/adt/bool.c, `parse_bool_with_len`; it takes
/// shorter ones, too.
const WORDS: [(&str, &str); 4] = [("on", "off"), ("true", "false"), ("yes", "no"), ("1", "0")];

/// Whether standbys have transactions as these settings make them.
pub(super) fn may_be_on_standby(settings: &Gucs) -> bool {
    let has_level = |level: Vec<u8>| is_one_of(&level, &ISOLATION_LEVELS);
    set(settings, ISOLATION).is_none_or(|level| level.is_some_and(has_level))
        && set(settings, READ_ONLY).is_none_or(|value| value.and_then(|value| access(&value)).is_some())
}

impl Session {
    /// As the session has set it, or else its login.
    pub(super) fn access_default(&self) -> AccessDefault {
        let followed = self.carried.followed.as_deref();
        let own = followed.and_then(|followed| set(followed.settings()?, READ_ONLY)?);
        match own {
            Some(value) => access(&value).unwrap_or(AccessDefault::ReadWrite),
            None if self.carried.parameters.only_reads() => AccessDefault::ReadOnly,
            None => AccessDefault::ReadWrite,
        }
    }
}

/// What the session has given a setting, if that is a constant. `None` if it has not set it.
fn set(settings: &Gucs, key: &str) -> Option<Option<Vec<u8>>> {
    if let Some(value) = settings.reported_value(key) {
        return Some(Some(value.to_vec()));
    }
    Some(match assigned(settings.sql_of(key)?) {
        Some((_, Assigned::Value(value))) => Some(value),
        Some((_, Assigned::Default | Assigned::Unclear)) | None => None,
    })
}

fn access(value: &[u8]) -> Option<AccessDefault> {
    let [on, off] = [WORDS.map(|(on, _)| on), WORDS.map(|(_, off)| off)];
    if is_one_of(value, &on) {
        Some(AccessDefault::ReadOnly)
    } else if is_one_of(value, &off) {
        Some(AccessDefault::ReadWrite)
    } else {
        None
    }
}

fn is_one_of(value: &[u8], words: &[&str]) -> bool {
    words.iter().any(|word| value.eq_ignore_ascii_case(word.as_bytes()))
}
