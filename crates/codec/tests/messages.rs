//! Readers of single messages: truncations, wrong counts, vectors.

use trunkline_codec::auth::{
    Authentication, SaslInitialResponse, md5_from_stored, md5_password, md5_stored, parse_password,
    secrets_match,
};
use trunkline_codec::backend::{
    BackendKeyData, BackendTag, CommandComplete, DataRow, NegotiateProtocolVersion, ParameterStatus,
    ReadyForQuery, RowDescription, TransactionStatus,
};
use trunkline_codec::body::BodyError;
use trunkline_codec::frontend::{Bind, Close, Describe, Execute, FrontendTag, Parse, Query, Target};

/// Checks that `parse` takes `body`, no beginning of it, and nothing longer.
#[track_caller]
fn check_exact<T: std::fmt::Debug>(body: &[u8], parse: impl Fn(&[u8]) -> Result<T, BodyError>) {
    parse(body).expect("the whole body");
    for end in 0..body.len() {
        assert!(parse(&body[..end]).is_err(), "cut to {end} bytes");
    }
    assert_eq!(parse(&[body, b"x"].concat()).err(), Some(BodyError::TrailingBytes));
}

#[test]
fn every_truncation_and_trailing_byte_is_a_typed_error() {
    check_exact(b"select 1\0", |b| Query::parse(b).map(drop));
    check_exact(b"s\0select $1\0\0\x01\0\0\0\x17", |b| Parse::parse(b).map(drop));
    check_exact(b"p\0s\0\0\x01\0\x01\0\x02\0\0\0\x011\xFF\xFF\xFF\xFF\0\x01\0\0", |b| {
        Bind::parse(b).map(drop)
    });
    check_exact(b"Sname\0", |b| Describe::parse(b).map(drop));
    check_exact(b"Pname\0", |b| Close::parse(b).map(drop));
    check_exact(b"p\0\0\0\0\x05", |b| Execute::parse(b).map(drop));
    check_exact(b"secret\0", |b| parse_password(b).map(drop));
    check_exact(b"SCRAM-SHA-256\0\0\0\0\x03abc", |b| SaslInitialResponse::parse(b).map(drop));
    check_exact(b"I", |b| ReadyForQuery::parse(b).map(drop));
    check_exact(b"TimeZone\0UTC\0", |b| ParameterStatus::parse(b).map(drop));
    check_exact(b"SELECT 1\0", |b| CommandComplete::parse(b).map(drop));
    check_exact(b"\0\x03\0\0\0\0\0\x01_pq_.a\0", |b| NegotiateProtocolVersion::parse(b).map(drop));
    check_exact(b"\0\x02\0\0\0\x01a\xFF\xFF\xFF\xFF", |b| DataRow::parse(b).map(drop));
    check_exact(b"\0\x01a\0\0\0\0\0\0\0\0\0\0\x19\xFF\xFF\xFF\xFF\xFF\xFF\0\0", |b| {
        RowDescription::parse(b).map(drop)
    });
    check_exact(b"\0\0\0\0", |b| Authentication::parse(b).map(drop));
    check_exact(b"\0\0\0\x05salt", |b| Authentication::parse(b).map(drop));
    check_exact(b"\0\0\0\x0ASCRAM-SHA-256\0\0", |b| Authentication::parse(b).map(drop));
}

#[test]
fn counts_and_lengths_that_lie_are_typed_errors() {
    assert_eq!(DataRow::parse(b"\xFF\xFF"), Err(BodyError::NegativeCount));
    assert_eq!(DataRow::parse(b"\0\x01\xFF\xFF\xFF\xFE"), Err(BodyError::NegativeCount));
    assert_eq!(DataRow::parse(b"\0\x01\x7F\xFF\xFF\xFFabc"), Err(BodyError::Truncated));
    assert_eq!(RowDescription::parse(b"\xFF\xFF"), Err(BodyError::NegativeCount));
    assert_eq!(NegotiateProtocolVersion::parse(b"\0\x03\0\0\xFF\xFF\xFF\xFF"), Err(BodyError::NegativeCount));
    assert_eq!(NegotiateProtocolVersion::parse(b"\0\x03\0\0\x7F\xFF\xFF\xFFa\0"), Err(BodyError::MissingNul));
    assert_eq!(SaslInitialResponse::parse(b"X\0\xFF\xFF\xFF\xFE"), Err(BodyError::NegativeCount));
    assert_eq!(SaslInitialResponse::parse(b"X\0\x7F\xFF\xFF\xFF"), Err(BodyError::Truncated));
    assert_eq!(Describe::parse(b"Xname\0"), Err(BodyError::UnknownKind(b'X')));
    assert_eq!(ReadyForQuery::parse(b"X"), Err(BodyError::UnknownKind(b'X')));
}

#[test]
fn readers_say_what_was_sent() {
    assert_eq!(Describe::parse(b"Sx\0"), Ok(Describe { kind: Target::Statement, name: b"x" }));
    assert_eq!(Close::parse(b"P\0"), Ok(Close { kind: Target::Portal, name: b"" }));
    assert_eq!(Execute::parse(b"p\0\0\0\0\x05"), Ok(Execute { portal: b"p", max_rows: 5 }));
    assert_eq!(ReadyForQuery::parse(b"E"), Ok(ReadyForQuery { status: TransactionStatus::Failed }));
    let row = DataRow::parse(b"\0\x02\0\0\0\x01a\xFF\xFF\xFF\xFF").expect("a row");
    assert!(row.values().eq([Some(&b"a"[..]), None]));
    let without_data = SaslInitialResponse::parse(b"X\0\xFF\xFF\xFF\xFF").expect("no data");
    assert_eq!((without_data.mechanism, without_data.data), (&b"X"[..], None));
    assert_eq!(SaslInitialResponse::parse(b"X\0\0\0\0\0").map(|r| r.data), Ok(Some(&b""[..])));
}

#[test]
fn prefixes_of_large_messages_tell_what_they_hold() {
    assert_eq!(Query::parse_prefix(b"select").sql, b"select");
    assert_eq!(Query::parse_prefix(b"select\0junk").sql, b"select");
    assert_eq!(Parse::parse_prefix(b"name"), None);
    let parse = Parse::parse_prefix(b"name\0sel").expect("the name is there");
    assert_eq!((parse.name, parse.sql), (&b"name"[..], &b"sel"[..]));
    assert_eq!(Bind::parse_prefix(b"portal\0stat"), None);
    assert_eq!(Bind::parse_prefix(b"p\0s\0\0"), Some(Bind { portal: b"p", statement: b"s" }));
}

#[test]
fn values_of_a_bind_are_told_where_they_are_text() {
    let values = b"\0\x02\0\0\0\x01a\xFF\xFF\xFF\xFF\0\0";
    let body = |formats: &[u8]| [b"p\0s\0", formats, values].concat();
    for (formats, first) in [
        (&b"\0\0"[..], Some(&b"a"[..])),
        (b"\0\x01\0\0", Some(b"a")),
        (b"\0\x01\0\x01", Some(b"a")),
        (b"\0\x01\0\x02", None),
        (b"\0\x02\0\0\0\x01", Some(b"a")),
        (b"\0\x02\0\x01\0\0", Some(b"a")),
        (b"\0\x02\0\x03\0\0", None),
    ] {
        assert_eq!(Bind::text_value(&body(formats), 0), first, "{formats:?}");
    }
    let body = body(b"\0\0");
    assert_eq!((Bind::text_value(&body, 1), Bind::text_value(&body, 2)), (None, None), "NULL, and not there");
    for end in 0..12 {
        assert_eq!(Bind::text_value(&body[..end], 0), None, "cut at {end}");
    }
}

#[test]
fn command_tags_end_with_their_rows() {
    let tag = |tag| CommandComplete { tag };
    for (text, command, rows) in [
        (&b"SELECT 5"[..], &b"SELECT"[..], Some(5)),
        (b"INSERT 0 17", b"INSERT", Some(17)),
        (b"COPY 18446744073709551615", b"COPY", Some(u64::MAX)),
        (b"COPY 18446744073709551616", b"COPY", None),
        (b"CREATE TABLE", b"CREATE TABLE", None),
        (b"BEGIN", b"BEGIN", None),
        (b"", b"", None),
        (b"7", b"7", None),
        (b"X ", b"X", None),
        (b"A1 2", b"A", Some(2)),
        (b"A 1x", b"A 1x", None),
    ] {
        let complete = tag(text);
        assert_eq!(complete.rows(), rows, "{text:?}");
        assert_eq!(complete.command(), command, "{text:?}");
    }
}

#[test]
fn key_data_has_a_key_of_4_to_256_bytes() {
    for (length, is_legal) in [(0, false), (3, false), (4, true), (32, true), (256, true), (257, false)] {
        let body = [&5_i32.to_be_bytes()[..], &vec![1; length]].concat();
        assert_eq!(BackendKeyData::parse(&body).is_ok(), is_legal, "{length}");
    }
    assert_eq!(BackendKeyData::parse(b"\0\0\0"), Err(BodyError::Truncated));
}

#[test]
fn authentication_requests_of_every_kind_are_known() {
    let parse = |kind: i32, rest: &'static [u8]| {
        let body: &'static [u8] = [&kind.to_be_bytes()[..], rest].concat().leak();
        Authentication::parse(body)
    };
    assert_eq!(parse(3, b""), Ok(Authentication::CleartextPassword));
    assert_eq!(parse(5, b"salt"), Ok(Authentication::Md5Password { salt: *b"salt" }));
    assert_eq!(parse(7, b""), Ok(Authentication::Gss));
    assert_eq!(parse(8, b"token"), Ok(Authentication::GssContinue(b"token")));
    assert_eq!(parse(9, b""), Ok(Authentication::Sspi));
    assert_eq!(parse(11, b""), Ok(Authentication::SaslContinue(b"")));
    assert_eq!(parse(12, b"v=1"), Ok(Authentication::SaslFinal(b"v=1")));
    for other in [1, 2, 4, 6, 13, -1, i32::MIN] {
        assert_eq!(parse(other, b"anything"), Ok(Authentication::Other(other)));
    }
    let Ok(Authentication::Sasl(mechanisms)) = parse(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0") else {
        panic!("not SASL")
    };
    assert!(mechanisms.contains("SCRAM-SHA-256") && !mechanisms.contains("SCRAM"));
    assert!(mechanisms.iter().eq([&b"SCRAM-SHA-256-PLUS"[..], b"SCRAM-SHA-256"]));
    assert!(matches!(parse(10, b"\0"), Ok(Authentication::Sasl(none)) if none.iter().next().is_none()));
}

#[test]
fn tags_and_bytes_match_in_both_directions() {
    for byte in 0..=u8::MAX {
        assert_eq!(FrontendTag::from_byte(byte).byte(), byte);
        assert_eq!(BackendTag::from_byte(byte).byte(), byte);
    }
    assert_eq!(FrontendTag::from_byte(b'S'), FrontendTag::Sync);
    assert_eq!(BackendTag::from_byte(b'S'), BackendTag::ParameterStatus);
    assert_eq!(BackendTag::from_byte(b'!'), BackendTag::Unknown(b'!'));
}

#[test]
fn md5_passwords_are_those_of_postgres() {
    let salt = [0x2A, 0x3D, 0x8F, 0xE0];
    let expected = postgres_protocol::authentication::md5_hash(b"md5_user", b"password", salt);
    assert_eq!(md5_password(b"md5_user", b"password", salt), expected);
    assert_eq!(md5_stored(b"md5_user", b"password"), "md57cd2b9a92689eab2e58caf2da80afa15");
    let stored = md5_stored(b"md5_user", b"password");
    assert_eq!(md5_from_stored(&stored, salt), Some(expected.clone()));
    for wrong in [
        "",
        "md5",
        "md5ffa4",
        &stored[3..],
        &format!("{stored}0"),
        &stored.replace(|c: char| c.is_ascii_digit(), "g"),
    ] {
        assert_eq!(md5_from_stored(wrong, salt), None, "{wrong}");
    }
    assert!(secrets_match(expected.as_bytes(), expected.as_bytes()));
    assert!(!secrets_match(expected.as_bytes(), &expected.as_bytes()[1..]));
}
