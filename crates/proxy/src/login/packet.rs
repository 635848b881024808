//! What of a startup packet decides which server connections a client may have.
//!
//! Settings that any client may SET later, and whose values need no reading, are taken out of the packet: connections are
//! logged in without them, and brought to them as to what a session has set. So clients that differ in their
//! `application_name`, or in what their drivers ask for, share connections. Whatever else a packet has tells them apart: what
//! is settled at the login for good, what only superusers set, custom settings, and values that a server reports in other
//! words than it was given.

use std::borrow::Cow;

use trunkline_codec::startup::StartupMessage;
use trunkline_session::StartupSettings;

/// These settings. None of them changes what a statement means, but for the digits of `float` constants that are shown in
/// plans.
/// Source: PostgreSQL 18, src/backend/utils/misc/guc_tables.c: of `PGC_USERSET`, without a list or enum of many spellings.
const CARRIED: [&str; 6] = [
    "application_name",
    "client_min_messages",
    "extra_float_digits",
    "idle_in_transaction_session_timeout",
    "lock_timeout",
    "statement_timeout",
];

/// Bytes of an `application_name` that servers keep.
/// Source: PostgreSQL 18, src/include/pg_config_manual.h, NAMEDATALEN - 1.
const NAME_BYTES_MAX: usize = 63;

/// A startup packet in two parts.
#[derive(Debug)]
pub(super) struct SplitPacket {
    /// What connections are logged in with.
    pub(super) login: StartupMessage,
    /// What they are brought to.
    pub(super) settings: Option<StartupSettings>,
}

impl SplitPacket {
    /// Takes the settings out of a packet; leaves it whole where one has a value that a server would not report as it is.
    pub(super) fn of(startup: StartupMessage) -> Self {
        match split(&startup) {
            Some((login, settings)) => SplitPacket { login, settings: Some(settings) },
            None => SplitPacket { login: startup, settings: None },
        }
    }
}

fn split(startup: &StartupMessage) -> Option<(StartupMessage, StartupSettings)> {
    let in_options = carried_in_options(startup);
    let are_options = |name: &[u8]| in_options.is_some() && name == b"options";
    let carried =
        startup.parameters().filter_map(|(name, value)| Some((carried_key(name)?, Cow::Borrowed(value))));
    // Parameters outrank options, and of each the last counts.
    let values: Vec<_> = in_options.iter().flatten().cloned().chain(carried).collect();
    if !values.iter().all(|(key, value)| is_reported_as_given(key, value)) {
        return None;
    }
    let settings = StartupSettings::new(values.iter().map(|(key, value)| (*key, &**value)))?;
    let kept = startup.parameters().filter(|(name, _)| carried_key(name).is_none() && !are_options(name));
    let login = StartupMessage::new(startup.version(), kept).ok()?;
    Some((login, settings))
}

fn carried_key(name: &[u8]) -> Option<&'static str> {
    CARRIED.into_iter().find(|key| name.eq_ignore_ascii_case(key.as_bytes()))
}

fn is_reported_as_given(key: &str, value: &[u8]) -> bool {
    StartupSettings::may_have(value) && (key != "application_name" || value.len() <= NAME_BYTES_MAX)
}

/// The name of one of these settings, and its value.
type CarriedValue<'p> = (&'static str, Cow<'p, [u8]>);

/// The settings in `options`, if it has nothing else.
fn carried_in_options(startup: &StartupMessage) -> Option<Vec<CarriedValue<'static>>> {
    let text = startup.get("options")?;
    let words =
        || text.split(|byte| byte.is_ascii_whitespace() || *byte == 0x0B).filter(|word| !word.is_empty());
    let settings: Vec<_> = startup.options().collect();
    let is_all = words().count() == settings.len() + words().filter(|word| *word == b"-c").count();
    if !is_all || text.contains(&b'\\') {
        return None;
    }
    settings
        .into_iter()
        .map(|setting| Some((carried_key(&setting.name)?, Cow::Owned(setting.value))))
        .collect()
}

#[cfg(test)]
mod tests {
    use trunkline_codec::startup::ProtocolVersion;

    use super::*;

    fn packet(parameters: &[(&str, &str)]) -> StartupMessage {
        let all = [("user", "u"), ("database", "d")];
        let all = all.iter().chain(parameters).map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        StartupMessage::new(ProtocolVersion::V3_0, all).expect("short")
    }

    /// Checks what connections are logged in with and brought to.
    #[track_caller]
    fn check(parameters: &[(&str, &str)], login: &[(&str, &str)], settings: &[(&str, &str)]) {
        let split = SplitPacket::of(packet(parameters));
        let kept: Vec<_> = split.login.parameters().collect();
        let wanted = packet(login);
        assert_eq!(kept, wanted.parameters().collect::<Vec<_>>(), "{parameters:?}");
        let expected = StartupSettings::new(settings.iter().map(|(name, value)| (*name, value.as_bytes())));
        match (&split.settings, &expected) {
            (Some(one), Some(other)) => assert!(one.is_same(other), "{one:?} of {parameters:?}"),
            (one, other) => assert_eq!(one.is_some(), other.is_some(), "{parameters:?}"),
        }
    }

    #[test]
    fn settings_of_drivers_are_taken_out_of_a_packet() {
        check(&[], &[], &[]);
        check(&[("Application_Name", "a b")], &[], &[("application_name", "a b")]);
        check(
            &[
                ("extra_float_digits", "2"),
                ("TimeZone", "UTC"),
                ("application_name", "a"),
                ("application_name", "b"),
            ],
            &[("TimeZone", "UTC")],
            &[("extra_float_digits", "2"), ("application_name", "b")],
        );
        check(
            &[
                ("options", " -c statement_timeout=5s  --lock-timeout=1s -cextra_float_digits=3"),
                ("lock_timeout", "2s"),
            ],
            &[],
            &[("statement_timeout", "5s"), ("extra_float_digits", "3"), ("lock_timeout", "2s")],
        );
    }

    #[test]
    fn a_packet_that_is_not_understood_stays_whole() {
        for whole in [
            ("options", "-c statement_timeout=5s -c work_mem=1MB"),
            ("options", "-c statement_timeout=5s -e"),
            ("options", "-c application_name=a\\ b"),
            ("options", "-c"),
            ("application_name", "it's"),
            ("application_name", "caf\u{e9}"),
            ("client_min_messages", "a\\b"),
            ("app.tenant", "1"),
            ("search_path", "a"),
            ("role", "r"),
        ] {
            check(&[whole], &[whole], &[]);
        }
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        check(&[("application_name", &long)], &[("application_name", &long)], &[]);
        check(&[("application_name", &long[1..])], &[], &[("application_name", &long[1..])]);
        let options = ("options", "-c work_mem=1MB -c application_name=a");
        check(&[options, ("application_name", "b")], &[options], &[("application_name", "b")]);
    }
}
