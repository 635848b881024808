//! Streams of messages.

use std::hint::black_box;

use trunkline_codec::auth::{Authentication, SaslInitialResponse, parse_password};
use trunkline_codec::backend::{
    BackendKeyData, BackendTag, CommandComplete, DataRow, ErrorFields, NegotiateProtocolVersion,
    OldStyleError, ParameterStatus, ReadyForQuery, RowDescription,
};
use trunkline_codec::frontend::{Bind, Close, Describe, Execute, FrontendTag, Parse, Query};
use trunkline_codec::scan::{FrameErrorKind, ScanPhase, Scanner};

use super::reassemble;

/// Which stream, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From a client during its login.
    FrontendLogin,
    /// From a client after it.
    Frontend,
    /// From a server during the login.
    BackendLogin,
    /// From a server after it.
    Backend,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::FrontendLogin, Self::Frontend, Self::BackendLogin, Self::Backend];

    /// Its scanner.
    pub fn scanner(self) -> Scanner {
        let (mut scanner, phase) = match self {
            Self::FrontendLogin => (Scanner::frontend(), ScanPhase::Authentication),
            Self::Frontend => (Scanner::frontend(), ScanPhase::Normal),
            Self::BackendLogin => (Scanner::backend(), ScanPhase::Authentication),
            Self::Backend => (Scanner::backend(), ScanPhase::Normal),
        };
        scanner.set_phase(phase);
        scanner
    }
}

/// The first byte is the phase, the rest what a client sends.
pub fn frontend_scan(data: &[u8]) {
    let Some((selector, stream)) = data.split_first() else { return };
    let way = if selector % 2 == 0 { Way::Frontend } else { Way::FrontendLogin };
    let outcome = reassemble(way.scanner(), stream, []);
    assert_eq!(outcome.to_bytes(), stream[..outcome.consumed]);
    for (tag, body) in &outcome.messages {
        read_frontend(*tag, body);
    }
    if let Some((tag, _, prefix)) = &outcome.open {
        read_frontend(*tag, prefix);
    }
    if let Some(error) = outcome.error {
        black_box(error.refusal());
        assert_eq!(error.kind == FrameErrorKind::UnknownTag, is_unknown(error.tag, way));
    }
}

fn is_unknown(tag: u8, way: Way) -> bool {
    match FrontendTag::from_byte(tag) {
        FrontendTag::Unknown(_) => true,
        FrontendTag::Password => way == Way::Frontend,
        _ => false,
    }
}

/// The first byte is the phase, the rest what a server sends.
pub fn backend_scan(data: &[u8]) {
    let Some((selector, stream)) = data.split_first() else { return };
    let way = if selector % 2 == 0 { Way::Backend } else { Way::BackendLogin };
    let outcome = reassemble(way.scanner(), stream, []);
    assert_eq!(outcome.to_bytes(), stream[..outcome.consumed]);
    for (tag, body) in &outcome.messages {
        read_backend(*tag, body);
    }
    if let Some(error) = outcome.error {
        let is_unknown = matches!(BackendTag::from_byte(error.tag), BackendTag::Unknown(_));
        assert_eq!(error.kind == FrameErrorKind::UnknownTag, is_unknown);
        if error.kind == FrameErrorKind::OldStyleError {
            black_box(OldStyleError::parse_at_end(&stream[outcome.consumed..]));
        }
    }
}

/// The first byte is the way, the next eight are sizes of chunks, the rest is the stream.
pub fn chunking(data: &[u8]) {
    let Some((&[selector, ref sizes @ ..], stream)) = data.split_first_chunk::<9>() else { return };
    let way = Way::ALL[usize::from(selector % 4)];
    let sizes = sizes.iter().map(|s| usize::from(*s) + 1).cycle();
    let chunked = reassemble(way.scanner(), stream, sizes.take(stream.len()));
    assert_eq!(chunked, reassemble(way.scanner(), stream, []));
}

/// Every reader of any frontend message takes this body without a panic.
pub fn read_frontend(tag: u8, body: &[u8]) {
    assert_eq!(FrontendTag::from_byte(tag).byte(), tag);
    if let Ok(query) = Query::parse(body) {
        assert_eq!(query, Query::parse_prefix(body));
    }
    if let Ok(parse) = Parse::parse(body) {
        let prefix = Parse::parse_prefix(body).expect("what parses whole has a name");
        assert_eq!((parse.name, parse.sql), (prefix.name, prefix.sql));
    }
    if let Ok(bind) = Bind::parse(body) {
        assert_eq!(Some(bind), Bind::parse_prefix(body));
    }
    let _ = black_box((Describe::parse(body), Close::parse(body), Execute::parse(body)));
    let _ = black_box((parse_password(body), SaslInitialResponse::parse(body)));
    let _ = black_box((Query::parse_prefix(body), Parse::parse_prefix(body), Bind::parse_prefix(body)));
}

/// Every reader of any backend message takes this body without a panic.
pub fn read_backend(tag: u8, body: &[u8]) {
    assert_eq!(BackendTag::from_byte(tag).byte(), tag);
    if let Ok(Authentication::Sasl(mechanisms)) = Authentication::parse(body) {
        black_box(mechanisms.iter().count());
    }
    if let Ok(complete) = CommandComplete::parse(body) {
        assert!(complete.tag.starts_with(complete.command()));
        black_box(complete.rows());
    }
    if let Ok(negotiate) = NegotiateProtocolVersion::parse(body) {
        black_box(negotiate.options().count());
    }
    if let Ok(description) = RowDescription::parse(body) {
        black_box(description.columns().count());
    }
    if let Ok(row) = DataRow::parse(body) {
        black_box(row.values().count());
    }
    let fields = ErrorFields::new(body);
    let _ = black_box((fields.severity(), fields.sqlstate(), fields.message(), fields.is_fatal()));
    let _ =
        black_box((ReadyForQuery::parse(body), ParameterStatus::parse(body), BackendKeyData::parse(body)));
    black_box(OldStyleError::parse(body));
}
