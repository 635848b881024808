//! The proxy's own settings in SQL: what a SET gives one, and what the first comment of a statement says.

use std::borrow::Cow;

use super::lexer::{Token, is_in_word, is_space, trim_start};
use super::reader::{Reader, unquote};
use super::set::setting_name;
use crate::hints::{Hints, PREFIX, REPORT_LSN};

/// What a statement makes of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Assigned {
    /// This is its value.
    Value(Vec<u8>),
    /// It has that of the session's beginning again.
    Default,
    /// It is not one constant.
    Unclear,
}

/// Whether SQL may say something of the proxy's settings, by its first bytes.
pub(crate) fn may_say_something(sql: &[u8]) -> bool {
    let sql = trim_start(sql);
    sql.starts_with(b"/*") || sql.get(..3).is_some_and(|word| word.eq_ignore_ascii_case(b"set"))
}

/// The setting, in lower case, that a statement gives a value, if that is all it does: SET, RESET, or `set_config` as it is kept of
/// a session's settings.
pub(crate) fn assigned(sql: &[u8]) -> Option<(String, Assigned)> {
    let mut reader = Reader::new(sql);
    if reader.eat("select") {
        return by_function(&mut reader);
    }
    if reader.eat("reset") {
        return setting_name(&mut reader).map(|key| (key, Assigned::Default));
    }
    if !reader.eat("set") {
        return None;
    }
    let _scope = reader.eat("session") || reader.eat("local");
    let key = setting_name(&mut reader)?;
    if !(reader.eat("to") || reader.eat_symbol(b'=')) {
        return None;
    }
    Some((key, value(&mut reader)))
}

/// What a statement that sets `trunkline.report_lsn` says; `None` where it leaves that to the session's beginning.
pub(crate) fn reports_lsn(sql: &[u8]) -> Option<bool> {
    let (_, Assigned::Value(value)) = assigned(sql)? else { return None };
    let mut hints = Hints::default();
    hints.put(REPORT_LSN.as_bytes(), &value).ok()?;
    hints.report_lsn
}

fn value(reader: &mut Reader<'_>) -> Assigned {
    let rest = reader.rest();
    let token = reader.bump();
    let after = reader.rest();
    let is_alone = reader.is_at_end() || reader.eat_symbol(b';');
    match token {
        _ if !is_alone => Assigned::Unclear,
        Some(Token::Word(word)) if word.eq_ignore_ascii_case(b"default") => Assigned::Default,
        Some(Token::Word(word)) => Assigned::Value(word.to_ascii_lowercase()),
        Some(Token::Quoted(text)) => Assigned::Value(unquote(text)),
        Some(Token::String(text)) => Assigned::Value(undoubled(text)),
        Some(Token::Number) => {
            let text = &rest[..rest.len() - after.len()];
            let end = text.iter().position(|byte| !is_in_word(*byte) && *byte != b'.');
            Assigned::Value(text[..end.unwrap_or(text.len())].to_vec())
        }
        Some(Token::OtherString | Token::Parameter(_) | Token::Symbol(_)) | None => Assigned::Unclear,
    }
}

fn by_function(reader: &mut Reader<'_>) -> Option<(String, Assigned)> {
    if reader.eat("pg_catalog") && !reader.eat_symbol(b'.') {
        return None;
    }
    if !(reader.eat("set_config") && reader.eat_symbol(b'(')) {
        return None;
    }
    let Token::String(name) = reader.bump()? else { return None };
    let is_next = reader.eat_symbol(b',');
    let Token::String(text) = reader.bump()? else { return None };
    let name = String::from_utf8(name.to_ascii_lowercase()).ok()?;
    (is_next && reader.eat_symbol(b',')).then(|| (name, Assigned::Value(undoubled(text))))
}

/// What stands between quotes, with each doubled one once.
fn undoubled(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        out.push(*byte);
        if *byte == b'\'' {
            bytes.next();
        }
    }
    out
}

/// The proxy's settings in the comment that SQL begins with, as `trunkline.route=primary` or, with sqlcommenter,
/// `trunkline.route='primary'`, among whatever else is there. Nothing of a comment that does not end.
pub(crate) fn hints_in_comment(sql: &[u8]) -> Vec<(&[u8], Cow<'_, [u8]>)> {
    let Some(text) = first_comment(sql) else { return Vec::new() };
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(next) = next_name(text, at) {
        let end =
            text[next..].iter().position(|byte| !is_in_name(*byte)).map_or(text.len(), |end| next + end);
        let name = &text[next..end];
        at = end;
        if let Some((value, length)) = value_after(&text[end..]) {
            found.push((name, value));
            at += length;
        }
    }
    found
}

/// The inside of the comment at the beginning.
fn first_comment(sql: &[u8]) -> Option<&[u8]> {
    let inside = trim_start(sql).strip_prefix(b"/*")?;
    let (mut depth, mut at) = (1_usize, 0);
    while depth > 0 {
        match inside.get(at..at + 2)? {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _other => at += 1,
        }
    }
    Some(&inside[..at - 2])
}

/// Where the next name of the proxy's begins.
fn next_name(text: &[u8], from: usize) -> Option<usize> {
    let is_at = |at: &usize| text[*at..].get(..PREFIX.len()).is_some_and(is_prefix);
    let begins =
        |at: &usize| *at == 0 || !(is_in_word(text[at - 1]) || matches!(text[at - 1], b'.' | b'\'' | b'"'));
    (from..text.len()).find(|at| is_at(at) && begins(at))
}

fn is_prefix(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(PREFIX.as_bytes())
}

fn is_in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.')
}

/// The value behind a name, and where it ends. `None` where there is no equals sign: the name is part of a sentence.
fn value_after(text: &[u8]) -> Option<(Cow<'_, [u8]>, usize)> {
    let value = trim_start(trim_start(text).strip_prefix(b"=")?);
    let before = text.len() - value.len();
    let Some(quoted) = value.strip_prefix(b"'") else {
        let end = value.iter().position(|byte| is_space(*byte) || matches!(byte, b',' | b';'));
        let end = end.unwrap_or(value.len());
        return Some((decoded(&value[..end]), before + end));
    };
    let mut is_escaped = false;
    let end = quoted.iter().position(|byte| {
        let ends = *byte == b'\'' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        ends
    });
    // Without its end it is no value of any setting.
    Some(match end {
        Some(end) => (decoded(&quoted[..end]), before + end + 2),
        None => (Cow::Borrowed(value), text.len()),
    })
}

/// sqlcommenter writes values as URLs do: `1%2F0`.
fn decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'%') {
        return Cow::Borrowed(text);
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let code = match rest {
            [b'%', high, low, ..] => digit(*high).zip(digit(*low)),
            _other => None,
        };
        match code {
            Some((high, low)) => {
                out.push(high << 4 | low);
                rest = &rest[3..];
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sql: &str) -> Option<(String, Assigned)> {
        assigned(sql.as_bytes())
    }

    #[test]
    fn most_sql_says_nothing_by_its_first_bytes() {
        assert!(may_say_something(b" SeT a = b") && may_say_something(b"\n/* a */"));
        for sql in [&b"SELECT 1"[..], b"", b"/", b"se", b"-- a", b"'set'"] {
            assert!(!may_say_something(sql));
        }
    }

    #[test]
    fn what_a_setting_is_given_is_read_as_postgresql_reads_it() {
        let key = || "trunkline.route".to_owned();
        let value = |text: &str| Some((key(), Assigned::Value(text.into())));
        for (sql, expected) in [
            ("SET trunkline.route = primary", value("primary")),
            ("set SESSION Trunkline.Route TO 'Primary';", value("Primary")),
            ("SET LOCAL \"trunkline\".\"route\" = \"a\"\"b\"", value("a\"b")),
            ("SET /* x */ trunkline.route = 'it''s' -- end", value("it's")),
            ("SET trunkline.route = PRIMARY", value("primary")),
            ("SET trunkline.route = 500 ;", value("500")),
            ("SET trunkline.route = primary; SELECT 1", value("primary")),
            ("SET trunkline.route = 1.5", value("1.5")),
            ("SET trunkline.route TO DEFAULT", Some((key(), Assigned::Default))),
            ("RESET trunkline.route", Some((key(), Assigned::Default))),
            ("RESET \"trunkline\".\"route\"", Some((key(), Assigned::Default))),
            ("SET trunkline.route = E'primary'", Some((key(), Assigned::Unclear))),
            ("SET trunkline.route = a, b", Some((key(), Assigned::Unclear))),
            ("SET trunkline.route = -1", Some((key(), Assigned::Unclear))),
            ("SET trunkline.route =", Some((key(), Assigned::Unclear))),
            ("SELECT pg_catalog.set_config('Trunkline.route', 'a''b', false)", value("a'b")),
            ("SELECT set_config('trunkline.route', $1, false)", None),
            ("SET trunkline.route", None),
            ("SHOW trunkline.route", None),
            ("SET SESSION AUTHORIZATION a", None),
            ("", None),
        ] {
            assert_eq!(of(sql), expected, "{sql}");
        }
    }

    fn hints(sql: &[u8]) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        hints_in_comment(sql).iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    #[track_caller]
    fn says(sql: &str, expected: &[(&str, &str)]) {
        let expected: Vec<_> = expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        assert_eq!(hints(sql.as_bytes()), expected, "{sql}");
    }

    #[test]
    fn the_first_comment_says_where_a_statement_goes() {
        let primary = [("trunkline.route", "primary")];
        for sql in [
            "/* trunkline.route=primary */ SELECT 1",
            "/*trunkline.route='primary'*/SELECT 1",
            " \n\t/* trunkline.route = primary*/",
            "/*+ trunkline.route=primary SeqScan(t) */ SELECT 1",
            "/*application='a%20b',trunkline.route='primary',traceparent='00-1'*/ SELECT 1",
            "/* /* nested */ trunkline.route=primary, */ SELECT 1",
            "/* my.trunkline.route=standby xtrunkline.route=standby trunkline.route=primary */",
            "/* ask for trunkline.route, then trunkline.route=primary; */ SELECT 1",
            "/* trunkline.route=prim%61ry */ SELECT 1",
        ] {
            says(sql, &primary);
        }
        says(
            "/* Trunkline.Route=a trunkline.other=b */",
            &[("Trunkline.Route", "a"), ("trunkline.other", "b")],
        );
        says("/* trunkline.min_lsn='1%2F0%2f16B3748' */", &[("trunkline.min_lsn", "1/0/16B3748")]);
        says("/* trunkline.route= */", &[("trunkline.route", "")]);
        says(
            "/* trunkline.route='a\\'b' trunkline.x=1 */",
            &[("trunkline.route", "a\\'b"), ("trunkline.x", "1")],
        );
    }

    #[test]
    fn what_is_no_first_comment_says_nothing() {
        for sql in [
            "",
            "SELECT 1 /* trunkline.route=primary */",
            "SELECT 1",
            "/**/ /* trunkline.route=primary */ SELECT 1",
            "-- trunkline.route=primary\nSELECT 1",
            "/* trunkline.route=primary",
            "/* trunkline.route=primary /* */",
            "/*/ trunkline.route=primary",
            "/* trunkline.route primary */",
            "/* 'trunkline.route=primary' */",
            "'/* trunkline.route=primary */'",
            "/*",
            "/",
        ] {
            says(sql, &[]);
        }
    }

    /// Every comment of a hostile alphabet, up to a length.
    #[test]
    fn no_comment_makes_it_panic() {
        let pieces: [&[u8]; 8] = [b"trunkline.route", b"=", b"'", b"\\", b"%4", b"/*", b"*/", b"\0\xff\xc3"];
        for length in 0..=6_u32 {
            for number in 0..pieces.len().pow(length) {
                let mut n = number;
                let mut sql = b"/*".to_vec();
                for _ in 0..length {
                    sql.extend_from_slice(pieces[n % pieces.len()]);
                    n /= pieces.len();
                }
                let open = hints_in_comment(&sql).len();
                assert!(open <= 6);
                sql.extend_from_slice(b"*/");
                assert!(hints_in_comment(&sql).len() <= 6 && assigned(&sql).is_none());
            }
        }
    }

    #[test]
    fn a_long_comment_is_read_once() {
        let long = [b"/* ".to_vec(), b"trunkline.route=primary ".repeat(1000), b"*/".to_vec()].concat();
        assert_eq!(hints(&long).len(), 1000);
        let unended = vec![b'*'; 1_000_000];
        assert!(hints(&[b"/*", &unended[..]].concat()).is_empty());
    }
}
