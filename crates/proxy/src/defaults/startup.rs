//! Settings in a startup packet: only a SET outranks them.
//! Source: PostgreSQL 18, src/backend/utils/init/postinit.c, `process_startup_options`.

use trunkline_codec::startup::StartupMessage;

/// The value of a setting in a startup packet. Parameters outrank `options`.
pub(crate) fn named(startup: &StartupMessage, key: &str) -> Option<Vec<u8>> {
    let is_it = |name: &[u8]| name.eq_ignore_ascii_case(key.as_bytes());
    let parameter = startup.parameters().filter(|(name, _)| is_it(name)).last();
    let in_options = || startup.options().filter(|option| is_it(&option.name)).last();
    parameter.map(|(_, value)| value.to_vec()).or_else(|| in_options().map(|option| option.value))
}

/// A setting for a startup packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StartupSetting {
    pub(crate) name: Box<str>,
    pub(crate) value: Box<[u8]>,
}

/// The startup packet with as many of these settings as there is room for.
pub(crate) fn extended(startup: &StartupMessage, settings: &[StartupSetting]) -> StartupMessage {
    let mut extended = startup.clone();
    for StartupSetting { name, value } in settings {
        let more = [(name.as_bytes(), &**value)];
        let others = extended.parameters().filter(|(other, _)| *other != name.as_bytes());
        if let Ok(longer) = StartupMessage::new(extended.version(), others.chain(more)) {
            extended = longer;
        }
    }
    extended
}

/// Whether the startup packet sets a statement_timeout.
pub(crate) fn has_statement_timeout(startup: &StartupMessage) -> bool {
    named(startup, "statement_timeout").is_some_and(|value| value.trim_ascii() != b"0")
}

#[cfg(test)]
mod tests {
    use trunkline_codec::startup::ProtocolVersion;

    use super::*;

    #[test]
    fn parameters_outrank_options_and_the_last_one_counts() {
        let named_in = |parameters: &[(&str, &str)]| {
            let all = [("user", "u")].iter().chain(parameters).map(|(n, v)| (n.as_bytes(), v.as_bytes()));
            let startup = StartupMessage::new(ProtocolVersion::V3_0, all).expect("short");
            let value = named(&startup, "statement_timeout");
            (value.map(|value| String::from_utf8_lossy(&value).into_owned()), has_statement_timeout(&startup))
        };
        let options = ("options", "-c Statement_Timeout=1 --statement-timeout=2s -c work_mem=1MB");
        assert_eq!(named_in(&[]), (None, false));
        assert_eq!(named_in(&[options]), (Some("2s".to_owned()), true));
        assert_eq!(named_in(&[("STATEMENT_TIMEOUT", "0"), options]), (Some("0".to_owned()), false));
        assert_eq!(
            named_in(&[("statement_timeout", "1"), ("statement_timeout", "5")]),
            (Some("5".to_owned()), true)
        );
    }
}
