//! The TLS of a connection string: libpq's keys that tokio-postgres does not know.

use trunkline_tls::connect::ConnectSettings;

use crate::Failure;
use crate::config::words::Word;

/// The keys, each with the variable that stands in for it.
const KEYS: [(&str, &str); 9] = [
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcrl", "PGSSLCRL"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("sslnegotiation", "PGSSLNEGOTIATION"),
    ("sslsni", "PGSSLSNI"),
    ("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION"),
    ("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION"),
];

/// The connection string without those keys, and what they say.
pub(super) fn split(
    dsn: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<(String, ConnectSettings), Failure> {
    let (rest, written) = if dsn.contains("://") { of_uri(dsn) } else { of_words(dsn) };
    let of = |key: &str| {
        let (_, name) = KEYS.iter().find(|(known, _)| *known == key)?;
        written
            .iter()
            .rev()
            .find(|(known, _)| known == key)
            .map(|(_, value)| value.clone())
            .or_else(|| variable(name))
    };
    let mut settings = ConnectSettings {
        sslrootcert: of("sslrootcert"),
        sslcrl: of("sslcrl"),
        sslcert: of("sslcert"),
        sslkey: of("sslkey"),
        ..ConnectSettings::default()
    };
    put(&mut settings.sslmode, "sslmode", of)?;
    put(&mut settings.sslnegotiation, "sslnegotiation", of)?;
    put(&mut settings.min_protocol_version, "ssl_min_protocol_version", of)?;
    put(&mut settings.max_protocol_version, "ssl_max_protocol_version", of)?;
    // As libpq: anything but 1 is no, and nothing is the default.
    if let Some(word) = of("sslsni").filter(|word| !word.is_empty()) {
        settings.sslsni = word.starts_with('1');
    }
    Ok((rest, settings))
}

/// A word of libpq's, where there is one.
fn put<W: Word>(slot: &mut W, key: &str, of: impl Fn(&str) -> Option<String>) -> Result<(), Failure> {
    if let Some(word) = of(key) {
        *slot = W::parse(&word)
            .ok_or_else(|| Failure::usage(format!("{key} {word:?} is none that Trunkline knows")))?;
    }
    Ok(())
}

type Written = Vec<(String, String)>;

fn is_ours(key: &str) -> bool {
    KEYS.iter().any(|(known, _)| *known == key)
}

fn of_uri(dsn: &str) -> (String, Written) {
    let Some((place, query)) = dsn.split_once('?') else { return (dsn.to_owned(), Vec::new()) };
    let mut written = Vec::new();
    let mut left = Vec::new();
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some((key, value)) if is_ours(key) => written.push((key.to_owned(), decoded(value))),
            Some(_) | None => left.push(pair),
        }
    }
    let mark = if left.is_empty() { "" } else { "?" };
    (format!("{place}{mark}{}", left.join("&")), written)
}

/// A value without its percent escapes.
fn decoded(value: &str) -> String {
    percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned()
}

/// `key=value` separated by spaces, a value with spaces in single quotes, a backslash before a quote or another.
fn of_words(dsn: &str) -> (String, Written) {
    let mut written = Vec::new();
    let mut rest = String::new();
    let mut left = dsn.trim_start();
    while !left.is_empty() {
        let end = end_of_pair(left);
        let pair = &left[..end];
        match pair.split_once('=') {
            Some((key, value)) if is_ours(key.trim()) => {
                written.push((key.trim().to_owned(), unquoted(value.trim())));
            }
            Some(_) | None => {
                rest.push_str(pair);
                rest.push(' ');
            }
        }
        left = left[end..].trim_start();
    }
    (rest, written)
}

/// Where a pair ends: at the first space outside of quotes behind its value's beginning.
fn end_of_pair(text: &str) -> usize {
    let (mut has_value, mut is_quoted, mut is_escaped, mut is_past_equals) = (false, false, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '\'' => (is_quoted, has_value) = (!is_quoted, true),
            '=' if !is_past_equals => is_past_equals = true,
            c if c.is_whitespace() && !is_quoted && has_value => return at,
            c if is_past_equals && !c.is_whitespace() => has_value = true,
            _ => {}
        }
    }
    text.len()
}

fn unquoted(value: &str) -> String {
    let inner = value.strip_prefix('\'').and_then(|value| value.strip_suffix('\'')).unwrap_or(value);
    let mut plain = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        plain.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    plain
}

#[cfg(test)]
mod tests {
    use trunkline_tls::TlsVersion;
    use trunkline_tls::connect::ServerSslMode;

    use super::*;

    #[test]
    fn keys_of_tls_are_taken_out_of_both_forms() {
        let none = |_: &str| None;
        let (rest, tls) =
            split("host=db sslmode=verify-full user='a b' sslrootcert = '/a b/ca.pem' port=1", none)
                .expect("it is valid");
        assert_eq!(rest.trim(), "host=db user='a b' port=1");
        assert_eq!(
            (tls.sslmode, tls.sslrootcert.as_deref()),
            (ServerSslMode::VerifyFull, Some("/a b/ca.pem"))
        );
        let (rest, tls) =
            split("postgresql://u@h:1/db?sslmode=require&application_name=x&sslrootcert=%2Fca", none)
                .expect("it is valid");
        assert_eq!(rest, "postgresql://u@h:1/db?application_name=x");
        assert_eq!((tls.sslmode, tls.sslrootcert.as_deref()), (ServerSslMode::Require, Some("/ca")));
        assert_eq!(split("postgresql://h?sslmode=require", none).expect("it is valid").0, "postgresql://h");
        assert!(split("sslmode=always", none).is_err());
        let (rest, tls) =
            split("host=db sslsni=0 ssl_min_protocol_version=TLSv1.3", none).expect("it is valid");
        assert_eq!((rest.trim(), tls.sslsni, tls.min_protocol_version), ("host=db", false, TlsVersion::V13));
        assert!(split("ssl_max_protocol_version=TLSv1", none).is_err(), "there is no such TLS here");
    }

    #[test]
    fn variables_stand_in() {
        let set = |name: &str| (name == "PGSSLMODE").then(|| "disable".to_owned());
        assert_eq!(split("host=db", set).expect("it is valid").1.sslmode, ServerSslMode::Disable);
        assert_eq!(split("sslmode=require", set).expect("it is valid").1.sslmode, ServerSslMode::Require);
    }
}
