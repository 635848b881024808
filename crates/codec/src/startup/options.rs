//! The `options` parameter: command-line switches of a server process.

use std::borrow::Cow;

/// One `-c name=value` or `--name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionSetting {
    /// Name of the variable; `-` in it has become `_`, as in PostgreSQL.
    pub name: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// The settings in an `options` parameter, in their order. Other switches and settings without a
/// value are passed over: the server judges them.
/// Source: PostgreSQL 18, src/backend/utils/init/postinit.c, `pg_split_opts`, and
/// src/backend/tcop/postgres.c, `process_postgres_switches`.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    rest: &'a [u8],
}

impl<'a> Options<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { rest: text }
    }

    /// The next word: words end at white space that no backslash precedes.
    fn next_word(&mut self) -> Option<Cow<'a, [u8]>> {
        let start = self.rest.iter().position(|b| !is_space(*b))?;
        let text = &self.rest[start..];
        let mut is_escaped = false;
        let mut has_escapes = false;
        let end = text.iter().position(|&b| {
            let ends = is_space(b) && !is_escaped;
            is_escaped = b == b'\\' && !is_escaped;
            has_escapes |= is_escaped;
            ends
        });
        let (word, rest) = text.split_at(end.unwrap_or(text.len()));
        self.rest = rest;
        Some(if has_escapes { Cow::Owned(unescape(word)) } else { Cow::Borrowed(word) })
    }
}

impl Iterator for Options<'_> {
    type Item = OptionSetting;

    fn next(&mut self) -> Option<OptionSetting> {
        // Each turn takes a word off a finite text.
        while let Some(word) = self.next_word() {
            let setting = match &*word {
                b"-c" => self.next_word().as_deref().and_then(parse_setting),
                [b'-', b'c', attached @ ..] => parse_setting(attached),
                [b'-', b'-', long @ ..] => parse_setting(long),
                _ => None,
            };
            if setting.is_some() {
                return setting;
            }
        }
        None
    }
}

fn parse_setting(text: &[u8]) -> Option<OptionSetting> {
    let equals = text.iter().position(|&b| b == b'=')?;
    let (name, value) = (&text[..equals], &text[equals + 1..]);
    if name.is_empty() {
        return None;
    }
    let name = name.iter().map(|&b| if b == b'-' { b'_' } else { b }).collect();
    Some(OptionSetting { name, value: value.to_vec() })
}

fn unescape(word: &[u8]) -> Vec<u8> {
    let mut is_escaped = false;
    let mut plain = Vec::with_capacity(word.len());
    for &b in word {
        is_escaped = b == b'\\' && !is_escaped;
        if !is_escaped {
            plain.push(b);
        }
    }
    plain
}

/// White space as C's `isspace` has it.
fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | 0x0B | 0x0C | b'\r')
}
