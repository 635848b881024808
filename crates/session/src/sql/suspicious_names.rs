//! Names in SQL of functions that change the session, or have effects outside of it.
//!
//! A name counts anywhere, even inside a string, which may be SQL that runs later. Calls inside
//! user-defined functions are not visible here.

use super::lexer::is_in_word;
use crate::pin::PinReason;
use crate::pins::Pins;

/// What was found in SQL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SuspiciousNames {
    /// Reasons from functions that change the session.
    pub(crate) pins: Pins,
    /// Must not be run twice.
    pub(crate) is_once: bool,
    /// Sets a setting by a function.
    pub(crate) has_set_config: bool,
    /// May name a temporary object.
    pub(crate) has_temp: bool,
    /// Names a function that uses a sequence. That keeps a connection from other sessions.
    pub(crate) has_sequence: bool,
    /// Names the view whose update sets a setting.
    pub(crate) has_settings_view: bool,
}

#[derive(Clone, Copy)]
enum Suspicion {
    Once,
    /// The same, at the start of a word only.
    OnceAsWord,
    Pin(PinReason),
    Sequence,
    SetConfig,
    SettingsView,
    Temp,
    TempSchema,
}

/// The first match counts.
const WORDS: &[(&[u8], Suspicion)] = &[
    (b"set_config", Suspicion::SetConfig),
    (b"setseed", Suspicion::Pin(PinReason::SideEffects("setseed"))),
    (b"dblink_connect", Suspicion::Pin(PinReason::SideEffects("dblink_connect"))),
    (b"dblink", Suspicion::Once),
    (b"currval", Suspicion::Pin(PinReason::SideEffects("currval"))),
    (b"nextval", Suspicion::Sequence),
    (b"setval", Suspicion::Sequence),
    (b"lastval", Suspicion::Pin(PinReason::SideEffects("lastval"))),
    (b"u&\"", Suspicion::Pin(PinReason::SideEffects("U&\"\""))),
    (b"lo_", Suspicion::OnceAsWord),
    (b"temp", Suspicion::Temp),
    (b"pg_create_physical_", Suspicion::Pin(PinReason::SideEffects("replication_slot"))),
    (b"pg_create_logical_", Suspicion::Pin(PinReason::SideEffects("replication_slot"))),
    (b"pg_copy_", Suspicion::Pin(PinReason::SideEffects("replication_slot"))),
    (b"pg_drop_replication_slot", Suspicion::Once),
    (b"pg_replication_slot_", Suspicion::Once),
    (b"pg_sync_replication_slot", Suspicion::Pin(PinReason::SideEffects("pg_sync_replication_slots"))),
    (TEMP_SCHEMA, Suspicion::TempSchema),
    (b"pg_settings", Suspicion::SettingsView),
    (b"pg_advisory_unlock", Suspicion::Once),
    (b"pg_advisory_xact", Suspicion::Once),
    (b"pg_try_advisory_xact", Suspicion::Once),
    (b"pg_advisory_", Suspicion::Pin(PinReason::AdvisoryLock)),
    (b"pg_try_advisory", Suspicion::Pin(PinReason::AdvisoryLock)),
    (EXPORT_SNAPSHOT, Suspicion::Once),
    (b"pg_backup_start", Suspicion::Pin(PinReason::SideEffects("pg_backup_start"))),
    (b"pg_start_backup", Suspicion::Pin(PinReason::SideEffects("pg_start_backup"))),
    (b"pg_replication_origin_session", Suspicion::Pin(PinReason::SideEffects("pg_replication_origin"))),
    (b"pg_replication_origin", Suspicion::Once),
    (b"pg_backup_stop", Suspicion::Once),
    (b"pg_stop_backup", Suspicion::Once),
    (b"pg_terminate_backend", Suspicion::Once),
    (b"pg_cancel_backend", Suspicion::Once),
    (b"pg_reload_conf", Suspicion::Once),
    (b"pg_rotate_logfile", Suspicion::Once),
    (b"pg_wal_replay_", Suspicion::Once),
    (b"pg_promote", Suspicion::Once),
    (b"pg_stat_reset", Suspicion::Once),
    (b"pg_stat_statements_reset", Suspicion::Once),
    (b"pg_log_", Suspicion::Once),
    (b"pg_logical_", Suspicion::Once),
    (b"pg_sleep", Suspicion::Once),
    (b"pg_switch_wal", Suspicion::Once),
    (b"pg_create_restore_point", Suspicion::Once),
    (b"pg_file_", Suspicion::Once),
    (b"pg_notify", Suspicion::Once),
];

/// First bytes of the names.
static FIRSTS: [bool; 256] = {
    let mut firsts = [false; 256];
    let mut at = 0;
    while at < WORDS.len() {
        let first = WORDS[at].0[0];
        firsts[first as usize] = true;
        firsts[first.to_ascii_uppercase() as usize] = true;
        at += 1;
    }
    firsts
};

/// Which of the names may begin at a place: a bit for each, the first in the lowest.
type Candidates = u64;

const PREFIX: &[u8] = b"pg_";

/// The names that begin with this letter, in lower case, but for those that begin with `pg_`.
static OTHERS: [Candidates; 256] = candidates(false, 0);

/// The names in which this letter follows `pg_`. SQL may be full of that.
static BEHIND_PREFIX: [Candidates; 256] = candidates(true, PREFIX.len());

const fn candidates(have_prefix: bool, place: usize) -> [Candidates; 256] {
    assert!(WORDS.len() <= Candidates::BITS as usize);
    let mut candidates = [0; 256];
    let mut at = 0;
    while at < WORDS.len() {
        let word = WORDS[at].0;
        let has_prefix = word[0] == PREFIX[0] && word[1] == PREFIX[1] && word[2] == PREFIX[2];
        if has_prefix == have_prefix {
            candidates[word[place] as usize] |= 1 << at;
        }
        at += 1;
    }
    candidates
}

/// The names that may begin here.
fn candidates_at(rest: &[u8]) -> Candidates {
    let letter = |at: usize| rest.get(at).map_or(0, u8::to_ascii_lowercase);
    let others = OTHERS[usize::from(letter(0))];
    let has_prefix = rest.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX));
    others | if has_prefix { BEHIND_PREFIX[usize::from(letter(PREFIX.len()))] } else { 0 }
}

/// Bytes compared at once: the size of the narrowest vector register.
const LANES: usize = 16;

/// Whether the SQL has a part of one of the names: three letters of each name that are rare elsewhere.
///
/// This runs for every query; the compiler turns it into vector instructions.
/// Setting the bit of lower case makes `_` 0x7f.
#[inline]
pub(crate) fn may_have_suspicious_name(sql: &[u8]) -> bool {
    let Some(end) = sql.last_chunk::<{ LANES + 2 }>() else {
        let mut short = [0; LANES + 2];
        short[..sql.len()].copy_from_slice(sql);
        return has_part(&short);
    };
    let mut windows = sql;
    while let Some(window) = windows.first_chunk::<{ LANES + 2 }>() {
        if has_part(window) {
            return true;
        }
        windows = &windows[LANES..];
    }
    has_part(end)
}

#[inline]
fn has_part(window: &[u8; LANES + 2]) -> bool {
    let mut found = [0_u8; LANES];
    for lane in 0..LANES {
        let (a, b, c) = (window[lane] | 0x20, window[lane + 1] | 0x20, window[lane + 2] | 0x20);
        let part = |x: u8, y: u8, z: u8| u8::from(a == x) & u8::from(b == y) & u8::from(c == z);
        found[lane] = part(b'p', b'g', 0x7f)
            | part(b't', 0x7f, b'c')
            | part(b't', b's', b'e')
            | part(b'd', b'b', b'l')
            | part(b'r', b'r', b'v')
            | part(b't', b'v', b'a')
            | part(b'l', b'o', 0x7f)
            | part(b'u', b'&', b'"')
            | part(b'e', b'm', b'p');
    }
    found.iter().fold(0, |all, one| all | one) != 0
}

/// Everything found in the SQL.
pub(crate) fn suspicious_names(sql: &[u8]) -> SuspiciousNames {
    let mut found = SuspiciousNames::default();
    if may_have_suspicious_name(sql) {
        let starts = (0..sql.len()).filter(|at| FIRSTS[usize::from(sql[*at])]);
        starts.for_each(|at| found.look(sql, at));
    }
    found
}

impl SuspiciousNames {
    fn look(&mut self, sql: &[u8], at: usize) {
        let rest = &sql[at..];
        let fits = |word: &[u8]| rest.get(..word.len()).is_some_and(|r| r.eq_ignore_ascii_case(word));
        let mut candidates = candidates_at(rest);
        let trip = loop {
            if candidates == 0 {
                return;
            }
            let (word, trip) = WORDS[candidates.trailing_zeros() as usize];
            if fits(word) {
                break trip;
            }
            candidates &= candidates - 1;
        };
        match trip {
            Suspicion::Once => self.is_once = true,
            Suspicion::OnceAsWord => self.is_once |= at == 0 || !is_in_word(sql[at - 1]),
            Suspicion::Pin(reason) => self.pin(reason),
            Suspicion::Sequence => self.has_sequence = true,
            Suspicion::SetConfig => {
                self.has_set_config = true;
                self.is_once = true;
            }
            Suspicion::SettingsView => self.has_settings_view = true,
            Suspicion::Temp => self.has_temp = true,
            Suspicion::TempSchema => {
                if !is_pattern(&sql[..at], &rest[TEMP_SCHEMA.len()..]) {
                    self.pin(PinReason::TemporaryObject);
                }
            }
        }
    }

    /// The reasons whatever the statements are.
    pub(crate) fn of_every_statement(&self) -> Pins {
        let mut pins = self.pins.clone();
        if self.has_sequence {
            pins.add(PinReason::SEQUENCE);
        }
        pins
    }

    /// The reasons when the SQL cannot be split into statements: all that the names may mean.
    pub(crate) fn of_any_statement(&self) -> Pins {
        let mut pins = self.of_every_statement();
        if self.has_set_config || self.has_settings_view {
            pins.add(PinReason::UnknownSetting);
        }
        if self.has_temp {
            pins.add(PinReason::TemporaryObject);
        }
        pins
    }

    pub(crate) fn pin(&mut self, reason: PinReason) {
        self.is_once = true;
        self.pins.add(reason);
    }
}

/// The schema of temporary objects, and the start of its other names, which a number follows.
const TEMP_SCHEMA: &[u8] = b"pg_temp";

/// Whether a `search_path` names it: tables are temporary then without saying so.
#[must_use]
pub fn names_temporary_schema(path: &[u8]) -> bool {
    path.windows(TEMP_SCHEMA.len()).any(|part| part.eq_ignore_ascii_case(TEMP_SCHEMA))
}

/// Whether the name between these is all of a string, as drivers compare it with names of schemas: `'^pg_temp_'`,
/// `'pg_temp_'`, `'pg_temp%'`. That is no name of a schema, nor SQL.
fn is_pattern(before: &[u8], after: &[u8]) -> bool {
    let is_start = before.ends_with(b"'^");
    let rest = after.strip_prefix(b"_").unwrap_or(after);
    let has_more = is_start || rest.starts_with(b"%") || rest.len() < after.len();
    let is_end = rest.strip_prefix(b"%").unwrap_or(rest).starts_with(b"'");
    has_more && is_end && (is_start || before.ends_with(b"'"))
}

/// The function that exports the snapshot of its transaction.
const EXPORT_SNAPSHOT: &[u8] = b"pg_export_snapshot";

/// Whether the SQL names it.
#[inline]
pub(crate) fn exports_snapshot(sql: &[u8]) -> bool {
    may_have_suspicious_name(sql) && names_export(sql)
}

#[cold]
fn names_export(sql: &[u8]) -> bool {
    sql.windows(EXPORT_SNAPSHOT.len()).any(|window| window.eq_ignore_ascii_case(EXPORT_SNAPSHOT))
}

/// The functions that tell what sequences have given on their connection.
const SEQUENCE_VALUES: [&[u8]; 2] = [b"currval", b"lastval"];

/// Whether these bytes name one of them.
pub(crate) fn names_sequence_value(bytes: &[u8]) -> bool {
    // Both names are of this length.
    bytes.windows(7).any(|window| SEQUENCE_VALUES.iter().any(|name| window.eq_ignore_ascii_case(name)))
}

/// Whether the SQL has a word by itself, in upper or lower case.
pub(crate) fn has_word(sql: &[u8], word: &[u8]) -> bool {
    let is_free = |b: Option<&u8>| !b.is_some_and(|b| is_in_word(*b));
    sql.windows(word.len()).enumerate().any(|(at, window)| {
        window.eq_ignore_ascii_case(word)
            && is_free(at.checked_sub(1).and_then(|at| sql.get(at)))
            && is_free(sql.get(at + word.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_seen_anywhere_and_in_any_case() {
        for (word, _) in WORDS {
            for before in 0..40 {
                let blank = vec![b' '; before];
                for word in [word.to_vec(), word.to_ascii_uppercase()] {
                    for sql in [[&blank[..], &word].concat(), [&blank[..], &word, b"('x')"].concat()] {
                        assert!(may_have_suspicious_name(&sql), "{:?}", String::from_utf8_lossy(&sql));
                        assert_ne!(suspicious_names(&sql), SuspiciousNames::default());
                    }
                }
            }
        }
    }

    #[test]
    fn plain_sql_is_not_suspected() {
        for sql in [
            "",
            "select 1",
            "SELECT abalance FROM pgbench_accounts WHERE aid = 12345;",
            "select pg_stat_get_replication_slot(slot_name) from pg_get_replication_slots()",
            "select last_value, product_id, template from pg_class, pg_replication_slots",
            "select hello_world, slo_target from system_items where offset_x = $1",
        ] {
            let found = suspicious_names(sql.as_bytes());
            assert_eq!((found.pins.first(), found.is_once), (None, false), "{sql}");
        }
    }

    #[test]
    fn what_runs_once_and_what_pins_are_told_apart() {
        let of = |sql: &str| {
            let found = suspicious_names(sql.as_bytes());
            (found.pins.first(), found.is_once)
        };
        assert_eq!(of("select Pg_Sleep(1)"), (None, true));
        assert_eq!(of("select pg_advisory_xact_lock(1)"), (None, true));
        assert_eq!(of("select pg_try_advisory_lock(1)"), (Some(PinReason::AdvisoryLock), true));
        assert_eq!(of("select pg_catalog.lo_export(1, 'x')"), (None, true));
        assert_eq!(of("select * from dblink('', '')"), (None, true));
        let slot = Some(PinReason::SideEffects("replication_slot"));
        assert_eq!(of("select pg_create_physical_replication_slot('x', false, true)"), (slot, true));
    }

    #[test]
    fn a_pattern_for_names_of_temporary_schemas_is_no_temporary_object() {
        let of = |sql: &str| suspicious_names(sql.as_bytes()).pins.first();
        for sql in [
            "nspname !~ '^pg_temp_' AND nspname = replace((current_schemas(true))[1], 'pg_temp_', 'pg_toast_temp_')",
            "nspname not like 'pg_temp%' or nspname like 'pg_temp_%'",
            "nspname ~ '^pg_temp'",
        ] {
            assert_eq!(of(sql), None, "{sql}");
        }
        for sql in [
            "select set_config('search_path', 'pg_temp', false)",
            "select 'create table pg_temp_'",
            "select 'pg_temp_3.f'()",
            "create table pg_temp.t ()",
            "do 'create table pg_temp_' '3.t ()'",
            "set search_path = 'pg_temp'",
            "pg_temp_'",
            "'^pg_temp_3'",
        ] {
            assert_eq!(of(sql), Some(PinReason::TemporaryObject), "{sql}");
        }
    }

    /// Otherwise SQL full of `pg_` would cost a comparison with every name at each of them.
    #[test]
    fn no_place_is_compared_with_more_than_a_few_names() {
        let most = OTHERS.iter().chain(&BEHIND_PREFIX).map(|names| names.count_ones()).max();
        assert!(most <= Some(8), "{most:?} of {}", WORDS.len());
        assert_eq!(candidates_at(b"pg_x_"), 0);
        assert_eq!(candidates_at(b"pgbench_"), 0);
        assert_eq!(candidates_at(b"PG_Sleep").count_ones(), candidates_at(b"pg_s").count_ones());
    }
}
