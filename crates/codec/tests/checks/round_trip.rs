//! What the writers write, the scanner and the readers read back.

use bytes::BytesMut;
use trunkline_codec::auth::{Authentication, SaslInitialResponse, parse_password};
use trunkline_codec::backend::{
    BackendKeyData, CommandComplete, DataRow, ErrorFields, NegotiateProtocolVersion, ParameterStatus,
    ReadyForQuery, RowDescription, TransactionStatus,
};
use trunkline_codec::frontend::{Bind, Close, Describe, Execute, Parse, Query, Target};
use trunkline_codec::ids::{ProcessId, SecretKey};
use trunkline_codec::sqlstate::SqlState;
use trunkline_codec::startup::ProtocolVersion;
use trunkline_codec::write::{self, EncodeError, ErrorReport};

use super::{Way, reassemble};

/// Reads `data` as a list of fields, writes every message with them, and reads them back.
pub fn round_trip(data: &[u8]) {
    let mut fields = data.split(|&b| b == b'\n');
    let a = fields.next().unwrap_or_default();
    let b = fields.next().unwrap_or_default();
    let rest: Vec<&[u8]> = fields.collect();
    frontend(a, b, &rest);
    login(a, b, &rest);
    backend(a, b, &rest);
}

/// Writes one message, checks that it is one, and hands its body to `check`. A message that may
/// not be written leaves nothing behind.
fn written(
    way: Way,
    tag: u8,
    write: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>,
    check: impl FnOnce(&[u8]),
) {
    let mut out = BytesMut::from(&b"before"[..]);
    let result = write(&mut out);
    let stream = out.split_off(6);
    assert_eq!(out, "before");
    if result.is_err() {
        assert!(stream.is_empty(), "a refused message leaves nothing behind");
        return;
    }
    let outcome = reassemble(way.scanner(), &stream, []);
    assert_eq!((outcome.error, outcome.consumed), (None, stream.len()));
    let [(found, body)] = &outcome.messages[..] else {
        panic!("one message was written, but {} read", outcome.messages.len());
    };
    assert_eq!(*found, tag);
    check(body);
}

fn frontend(a: &[u8], b: &[u8], rest: &[&[u8]]) {
    let way = Way::Frontend;
    let oids: Vec<u32> = rest.iter().map(|field| field.len() as u32).collect();
    let oid_bytes: Vec<u8> = oids.iter().flat_map(|oid| oid.to_be_bytes()).collect();
    let values = || rest.iter().map(|field| (!field.is_empty()).then_some(*field));
    written(
        way,
        b'Q',
        |out| write::query(out, a),
        |body| assert_eq!(Query::parse(body), Ok(Query { sql: a })),
    );
    written(
        way,
        b'P',
        |out| write::parse(out, a, b, &oids),
        |body| {
            assert_eq!(Parse::parse(body), Ok(Parse { name: a, sql: b, parameter_types: &oid_bytes }));
        },
    );
    written(
        way,
        b'B',
        |out| write::bind(out, a, b, values()),
        |body| {
            assert_eq!(Bind::parse(body), Ok(Bind { portal: a, statement: b }));
        },
    );
    for kind in [Target::Statement, Target::Portal] {
        written(
            way,
            b'D',
            |out| write::describe(out, kind, a),
            |body| {
                assert_eq!(Describe::parse(body), Ok(Describe { kind, name: a }));
            },
        );
        written(
            way,
            b'C',
            |out| write::close(out, kind, a),
            |body| {
                assert_eq!(Close::parse(body), Ok(Close { kind, name: a }));
            },
        );
    }
    let max_rows = rest.len() as i32;
    written(
        way,
        b'E',
        |out| write::execute(out, a, max_rows),
        |body| {
            assert_eq!(Execute::parse(body), Ok(Execute { portal: a, max_rows }));
        },
    );
    written(way, b'd', |out| write::copy_data(out, a), |body| assert_eq!(body, a));
    written(way, b'f', |out| write::copy_fail(out, a), |body| assert_eq!(body.strip_suffix(b"\0"), Some(a)));
    written(way, b'S', infallible(write::sync), |body| assert!(body.is_empty()));
    written(way, b'H', infallible(write::flush), |body| assert!(body.is_empty()));
    written(way, b'X', infallible(write::terminate), |body| assert!(body.is_empty()));
    written(way, b'c', infallible(write::copy_done), |body| assert!(body.is_empty()));
}

/// A writer that cannot refuse, as one that could.
fn infallible(write: impl FnOnce(&mut BytesMut)) -> impl FnOnce(&mut BytesMut) -> Result<(), EncodeError> {
    |out| {
        write(out);
        Ok(())
    }
}

fn login(a: &[u8], b: &[u8], rest: &[&[u8]]) {
    let way = Way::FrontendLogin;
    written(way, b'p', |out| write::password(out, a), |body| assert_eq!(parse_password(body), Ok(a)));
    written(way, b'p', |out| write::sasl_response(out, a), |body| assert_eq!(body, a));
    let first = SaslInitialResponse { mechanism: a, data: (!b.is_empty()).then_some(b) };
    written(
        way,
        b'p',
        |out| first.encode(out),
        |body| assert_eq!(SaslInitialResponse::parse(body), Ok(first)),
    );

    let way = Way::BackendLogin;
    written(
        way,
        b'R',
        |out| write::authentication_sasl_continue(out, a),
        |body| {
            assert_eq!(Authentication::parse(body), Ok(Authentication::SaslContinue(a)));
        },
    );
    written(
        way,
        b'R',
        |out| write::authentication_sasl_final(out, a),
        |body| {
            assert_eq!(Authentication::parse(body), Ok(Authentication::SaslFinal(a)));
        },
    );
    let names: Vec<&str> =
        rest.iter().filter_map(|n| std::str::from_utf8(n).ok()).filter(|n| !n.is_empty()).collect();
    written(
        way,
        b'R',
        |out| write::authentication_sasl(out, &names),
        |body| {
            let Ok(Authentication::Sasl(mechanisms)) = Authentication::parse(body) else {
                panic!("not SASL: {body:?}")
            };
            assert!(mechanisms.iter().eq(names.iter().map(|n| n.as_bytes())));
        },
    );
    let version = ProtocolVersion { major: 3, minor: a.len() as u16 };
    let options = || rest.iter().copied();
    written(
        way,
        b'v',
        |out| write::negotiate_protocol_version(out, version, options()),
        |body| {
            let negotiate = NegotiateProtocolVersion::parse(body).expect("just written");
            assert_eq!(negotiate.version, version);
            assert!(negotiate.options().eq(options()));
        },
    );
    if let Some(salt) = a.first_chunk() {
        let write = infallible(|out| write::authentication_md5_password(out, *salt));
        written(way, b'R', write, |body| {
            assert_eq!(Authentication::parse(body), Ok(Authentication::Md5Password { salt: *salt }));
        });
    }
    if let Ok(secret_key) = SecretKey::new(a) {
        let process_id = ProcessId(b.len() as i32);
        let write = infallible(|out| write::backend_key_data(out, process_id, &secret_key));
        written(way, b'K', write, |body| {
            let expected = BackendKeyData { process_id, secret_key: secret_key.clone() };
            assert_eq!(BackendKeyData::parse(body), Ok(expected));
        });
    }
}

fn backend(a: &[u8], b: &[u8], rest: &[&[u8]]) {
    let way = Way::Backend;
    let values = || rest.iter().map(|field| (!field.is_empty()).then_some(*field));
    written(
        way,
        b'S',
        |out| write::parameter_status(out, a, b),
        |body| {
            assert_eq!(ParameterStatus::parse(body), Ok(ParameterStatus { name: a, value: b }));
        },
    );
    written(
        way,
        b'C',
        |out| write::command_complete(out, a),
        |body| {
            assert_eq!(CommandComplete::parse(body), Ok(CommandComplete { tag: a }));
        },
    );
    written(
        way,
        b'T',
        |out| write::row_description(out, rest.iter().copied()),
        |body| {
            let description = RowDescription::parse(body).expect("just written");
            assert!(description.columns().map(|column| column.name).eq(rest.iter().copied()));
        },
    );
    written(
        way,
        b'D',
        |out| write::data_row(out, values()),
        |body| {
            let row = DataRow::parse(body).expect("just written");
            assert_eq!(row.values().collect::<Vec<_>>(), values().collect::<Vec<_>>());
        },
    );
    for status in [TransactionStatus::Idle, TransactionStatus::InTransaction, TransactionStatus::Failed] {
        let write = infallible(|out| write::ready_for_query(out, status));
        written(way, b'Z', write, |body| {
            assert_eq!(ReadyForQuery::parse(body), Ok(ReadyForQuery { status }))
        });
    }
    report(a, b);
}

/// Reports can always be written, whatever their texts are.
fn report(a: &[u8], b: &[u8]) {
    let (message, detail) = (String::from_utf8_lossy(a), String::from_utf8_lossy(b));
    let report = ErrorReport::fatal(SqlState::ADMIN_SHUTDOWN, &message).with_detail(&detail);
    let write = infallible(|out| write::error_response(out, &report));
    written(Way::BackendLogin, b'E', write, |body| {
        let fields = ErrorFields::new(body);
        assert!(fields.is_fatal());
        assert_eq!(fields.sqlstate(), Some(SqlState::ADMIN_SHUTDOWN));
        let sent = fields.message().expect("every report has one");
        assert!(message.as_bytes().starts_with(sent));
        assert_eq!(body.last(), Some(&0));
    });
}
