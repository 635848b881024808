//! What a client has seen, in words that can be compared.

use std::collections::BTreeMap;
use std::fmt;

use trunkline_codec::backend::{DataRow, ErrorFields, RowDescription};

use crate::scenario::Until;

/// The first OID that is not the same in every database (FirstNormalObjectId).
const FIRST_NORMAL_OID: u32 = 16_384;
/// Longest text of a value that is kept; of longer ones the beginning and the length.
const VALUE_LENGTH_MAX: usize = 200;

/// How the reading of a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeenEnd {
    /// All that was waited for came.
    Complete,
    /// Nothing more came in time.
    Silent,
    /// The connection ended, and that was not waited for.
    Closed,
    /// The login was refused.
    Refused,
}

/// What a client saw in a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The messages in order, without those that come at any time.
    pub lines: Vec<String>,
    /// What ParameterStatus says now that it did not at the login; none where nothing is compared.
    pub parameters: BTreeMap<String, String>,
    /// How it ended.
    pub end: SeenEnd,
    /// The types of the messages in `lines`.
    tags: Vec<u8>,
}

impl Seen {
    /// Nothing, which is all that was to be seen.
    #[must_use]
    pub fn nothing() -> Self {
        Self { lines: Vec::new(), parameters: BTreeMap::new(), end: SeenEnd::Complete, tags: Vec::new() }
    }

    /// One that is nothing but how it ended, and why.
    #[must_use]
    pub fn ended(end: SeenEnd, why: String) -> Self {
        Self { lines: vec![why], end, ..Self::nothing() }
    }

    /// One more message.
    pub fn push(&mut self, tag: u8, body: &[u8]) {
        self.lines.push(words(tag, body));
        self.tags.push(tag);
    }

    /// Whether what a client reads until is there.
    #[must_use]
    pub fn has(&self, until: Until) -> bool {
        match until {
            Until::Ready(count) => self.tags.iter().filter(|&&tag| tag == b'Z').count() >= count,
            Until::Tag(tag) => self.tags.last() == Some(&tag),
            Until::End => false,
        }
    }

    /// Whether one of the messages or parameters contains the text.
    #[must_use]
    pub fn contains(&self, text: &str) -> bool {
        self.to_string().contains(text)
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines.join(" · "))?;
        for (name, value) in &self.parameters {
            write!(f, " [{name}={value}]")?;
        }
        match self.end {
            SeenEnd::Complete => Ok(()),
            SeenEnd::Silent => f.write_str(" (then silence)"),
            SeenEnd::Closed => f.write_str(" (then the connection ends)"),
            SeenEnd::Refused => f.write_str(" (login refused)"),
        }
    }
}

/// A message of the server in words.
#[must_use]
pub fn words(tag: u8, body: &[u8]) -> String {
    match tag {
        b'T' => format!("T({})", columns(body)),
        b'D' => format!("D({})", row(body)),
        b'C' => format!("C({})", text(body)),
        b'E' => format!("E({})", report(body)),
        b'N' => format!("N({})", report(body)),
        b't' => format!("t({})", parameter_types(body)),
        b'd' => format!("d({})", short(body)),
        b'V' => format!("V({})", body.get(4..).map(short).unwrap_or_default()),
        b'Z' => format!("Z({})", text(body)),
        _ => char::from(tag).to_string(),
    }
}

/// Channel and payload of a NotificationResponse.
#[must_use]
pub fn notification(body: &[u8]) -> String {
    let text = body.get(4..).map(String::from_utf8_lossy).unwrap_or_default();
    let mut parts = text.split('\0');
    format!("{}={}", parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

/// Name and value of a ParameterStatus.
#[must_use]
pub fn parameter(body: &[u8]) -> Option<(String, String)> {
    let text = String::from_utf8_lossy(body);
    let mut parts = text.split('\0');
    Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body.strip_suffix(&[0]).unwrap_or(body)).into_owned()
}

fn short(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value).trim_end_matches('\n').to_owned();
    if text.len() <= VALUE_LENGTH_MAX {
        return text;
    }
    let head: String = text.chars().take(VALUE_LENGTH_MAX / 4).collect();
    format!("{head}... of {} bytes", value.len())
}

fn columns(body: &[u8]) -> String {
    let Ok(description) = RowDescription::parse(body) else { return "malformed".to_owned() };
    let columns = description.columns().map(|column| {
        let name = String::from_utf8_lossy(column.name);
        format!("{name}:{}", type_name(column.type_oid))
    });
    columns.collect::<Vec<_>>().join(",")
}

fn type_name(oid: u32) -> String {
    if oid < FIRST_NORMAL_OID { oid.to_string() } else { "own".to_owned() }
}

fn row(body: &[u8]) -> String {
    let Ok(row) = DataRow::parse(body) else { return "malformed".to_owned() };
    let values = row.values().map(|value| value.map_or_else(|| "NULL".to_owned(), short));
    values.collect::<Vec<_>>().join("|")
}

fn parameter_types(body: &[u8]) -> String {
    let oids = body.get(2..).unwrap_or_default().chunks_exact(4);
    let names = oids.map(|oid| type_name(oid.iter().fold(0, |sum, &byte| sum << 8 | u32::from(byte))));
    names.collect::<Vec<_>>().join(",")
}

/// Severity, SQLSTATE and primary message: detail and hint may name hosts and limits of a pooler.
fn report(body: &[u8]) -> String {
    let fields = ErrorFields::new(body);
    let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
    let code = fields.sqlstate().map(|code| code.as_str().to_owned()).unwrap_or_default();
    let message = without_process_ids(&text(fields.message()));
    format!("{} {code} {message}", text(fields.severity()))
}

/// A process ID is another one on each connection.
fn without_process_ids(message: &str) -> String {
    let mut last = "";
    let words = message.split(' ').map(|word| {
        let is_id = matches!(last, "PID" | "process") && word.starts_with(|c: char| c.is_ascii_digit());
        last = word;
        if is_id { "#" } else { word }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_without_what_differs_by_itself() {
        assert_eq!(words(b'C', b"SELECT 1\0"), "C(SELECT 1)");
        assert_eq!(words(b'D', b"\0\x02\0\0\0\x01x\xff\xff\xff\xff"), "D(x|NULL)");
        assert_eq!(words(b't', b"\0\x02\0\0\0\x17\0\0\x40\0"), "t(23,own)");
        let error = b"SERROR\0C42P01\0Mgone\0Hask process 12\0\0";
        assert_eq!(words(b'E', error), "E(ERROR 42P01 gone)");
        assert_eq!(without_process_ids("you are PID 123 of process 4,"), "you are PID # of process #");
    }

    #[test]
    fn malformed_messages_are_said_to_be() {
        assert_eq!(words(b'D', b"\0\x02\0"), "D(malformed)");
        assert_eq!(words(b'T', b"\0"), "T(malformed)");
        assert_eq!(parameter(b"name"), None);
    }
}
