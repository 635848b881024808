//! Writers at the limits of what their readers accept.

use bytes::BytesMut;
use trunkline_codec::backend::{ErrorFields, NegotiateProtocolVersion};
use trunkline_codec::frontend::Target;
use trunkline_codec::limits::{
    AUTH_TOKEN_MAX, AUTHENTICATION_REQUEST_MAX, BACKEND_SMALL_MAX, FRONTEND_SMALL_MAX, LOGIN_ERROR_MAX,
    OLD_STYLE_ERROR_MAX, REPORT_TEXT_MAX,
};
use trunkline_codec::sqlstate::SqlState;
use trunkline_codec::startup::ProtocolVersion;
use trunkline_codec::write::{self, EncodeError, ErrorReport, Severity};

/// Checks that the longest payload that fits is written, and one byte more is not.
#[track_caller]
fn check_limit(limit: u32, overhead: usize, write: impl Fn(&mut BytesMut, &[u8]) -> Result<(), EncodeError>) {
    let longest = vec![b'x'; limit as usize - overhead];
    let mut out = BytesMut::new();
    assert_eq!(write(&mut out, &longest), Ok(()));
    assert_eq!(out.len(), limit as usize + 1);
    out.clear();
    let refused = write(&mut out, &[&longest[..], b"x"].concat());
    assert_eq!(refused, Err(EncodeError::TooLong { length: limit as usize + 1 }));
    assert!(out.is_empty());
}

#[test]
fn no_message_is_longer_than_its_reader_accepts() {
    check_limit(FRONTEND_SMALL_MAX, 6, |out, name| write::describe(out, Target::Portal, name));
    check_limit(FRONTEND_SMALL_MAX, 6, |out, name| write::close(out, Target::Portal, name));
    check_limit(FRONTEND_SMALL_MAX, 9, |out, name| write::execute(out, name, 0));
    check_limit(FRONTEND_SMALL_MAX, 5, write::copy_fail);
    check_limit(AUTH_TOKEN_MAX, 5, write::password);
    check_limit(AUTH_TOKEN_MAX, 4, write::sasl_response);
    check_limit(AUTH_TOKEN_MAX, 10, |out, data| write::sasl_initial_response(out, b"X", Some(data)));
    check_limit(AUTHENTICATION_REQUEST_MAX, 8, write::authentication_sasl_continue);
    check_limit(AUTHENTICATION_REQUEST_MAX, 8, write::authentication_sasl_final);
    check_limit(BACKEND_SMALL_MAX, 5, write::command_complete);
    check_limit(BACKEND_SMALL_MAX, 6, |out, value| write::parameter_status(out, b"", value));
}

#[test]
fn no_list_is_longer_than_its_count_can_say() {
    let mut out = BytesMut::new();
    let oids = vec![0; 65_536];
    assert_eq!(write::parse(&mut out, b"", b"", &oids[1..]), Ok(()));
    assert_eq!(write::parse(&mut out, b"", b"", &oids), Err(EncodeError::TooMany(65_536)));
    assert_eq!(write::bind(&mut out, b"", b"", vec![None; 65_535]), Ok(()));
    assert_eq!(write::bind(&mut out, b"", b"", vec![None; 65_536]), Err(EncodeError::TooMany(65_536)));
    assert_eq!(write::data_row(&mut out, vec![None; 32_767]), Ok(()));
    assert_eq!(write::data_row(&mut out, vec![None; 32_768]), Err(EncodeError::TooMany(32_768)));
    assert_eq!(write::row_description(&mut out, vec![&b""[..]; 32_768]), Err(EncodeError::TooMany(32_768)));
}

#[test]
fn strings_with_nul_are_refused() {
    let mut out = BytesMut::new();
    assert_eq!(write::query(&mut out, b"select 1\0; drop table t"), Err(EncodeError::NulInString));
    assert_eq!(write::password(&mut out, b"a\0b"), Err(EncodeError::NulInString));
    assert_eq!(write::parameter_status(&mut out, b"a", b"\0"), Err(EncodeError::NulInString));
    assert!(out.is_empty());
}

#[test]
fn reports_are_cut_and_always_sent() {
    let long = "\u{FC}".repeat(REPORT_TEXT_MAX);
    let report = ErrorReport::error(SqlState::INTERNAL_ERROR, &long).with_detail(&long).with_hint("do\0not");
    let mut out = BytesMut::new();
    write::error_response(&mut out, &report);
    assert!(out.len() <= LOGIN_ERROR_MAX as usize);
    let fields = ErrorFields::new(&out[5..]);
    assert_eq!(fields.severity(), Some(&b"ERROR"[..]));
    assert_eq!(fields.message(), Some(&long.as_bytes()[..REPORT_TEXT_MAX]));
    assert_eq!(fields.hint(), Some(&b"do"[..]));
    assert!(!fields.is_fatal());
    out.clear();
    write::notice_response(&mut out, &ErrorReport { severity: Severity::Warning, ..report });
    assert_eq!(out[0], b'N');
    out.clear();
    write::old_style_error(&mut out, &long);
    assert!(out.len() <= OLD_STYLE_ERROR_MAX + 2 && out.ends_with(b"\n\0"));
}

#[test]
fn negotiation_names_the_whole_version() {
    let mut out = BytesMut::new();
    write::negotiate_protocol_version(&mut out, ProtocolVersion::V3_2, [&b"_pq_.a"[..], b"_pq_.b"])
        .expect("short");
    assert_eq!(out[..], b"v\0\0\0\x1A\0\x03\0\x02\0\0\0\x02_pq_.a\0_pq_.b\0"[..]);
    let read = NegotiateProtocolVersion::parse(&out[5..]).expect("just written");
    assert_eq!(read.version, ProtocolVersion::V3_2);
}

#[test]
fn messages_without_variable_parts_are_those_of_the_manual() {
    let mut out = BytesMut::new();
    write::authentication_ok(&mut out);
    write::authentication_cleartext_password(&mut out);
    write::authentication_sasl(&mut out, &["SCRAM-SHA-256"]).expect("short");
    write::empty_query_response(&mut out);
    write::terminate(&mut out);
    let expected = b"R\0\0\0\x08\0\0\0\0R\0\0\0\x08\0\0\0\x03R\0\0\0\x17\0\0\0\x0ASCRAM-SHA-256\0\0I\0\0\0\x04X\0\0\0\x04";
    assert_eq!(out[..], expected[..]);
}
