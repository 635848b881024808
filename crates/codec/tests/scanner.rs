//! The scanner at every limit, and just beyond.

use trunkline_codec::limits::{
    AUTH_TOKEN_MAX, AUTHENTICATION_REQUEST_MAX, BACKEND_LARGE_MAX, BACKEND_SMALL_MAX, FRONTEND_LARGE_MAX,
    FRONTEND_SMALL_MAX, LOGIN_ERROR_MAX, NEGOTIATE_PROTOCOL_VERSION_MAX, PARAMETER_DESCRIPTION_MAX,
    PREFIX_MIN, WHOLE_MAX,
};
use trunkline_codec::refusal::ConnectionRefusal;
use trunkline_codec::scan::{FrameError, FrameErrorKind, Piece, ScanPhase, Scanner};
use trunkline_codec::sqlstate::SqlState;

fn frontend(phase: ScanPhase) -> Scanner {
    let mut scanner = Scanner::frontend();
    scanner.set_phase(phase);
    scanner
}

fn backend(phase: ScanPhase) -> Scanner {
    let mut scanner = Scanner::backend();
    scanner.set_phase(phase);
    scanner
}

/// A header and up to 64 KiB of what it announces.
fn message(tag: u8, length: u32) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.resize(5 + length.saturating_sub(4).min(65_536) as usize, b'x');
    bytes
}

fn kind(mut scanner: Scanner, bytes: &[u8]) -> Option<FrameErrorKind> {
    scanner.next(bytes, &mut 0).err().map(|error| error.kind)
}

#[track_caller]
fn check_limit(scanner: &Scanner, tags: &[u8], limit: u32) {
    for &tag in tags {
        let name = tag as char;
        assert_eq!(kind(scanner.clone(), &message(tag, limit)), None, "{name} at its limit");
        let beyond = kind(scanner.clone(), &message(tag, limit + 1));
        assert_eq!(beyond, Some(FrameErrorKind::TooLong { limit }), "{name} beyond its limit");
        assert_eq!(kind(scanner.clone(), &message(tag, 4)), None, "{name} without a body");
        for length in 0..4 {
            let small = kind(scanner.clone(), &message(tag, length));
            assert_eq!(small, Some(FrameErrorKind::LengthTooSmall), "{name} of length {length}");
        }
    }
}

#[track_caller]
fn check_unknown(scanner: &Scanner, known: &[u8]) {
    for tag in (0..=u8::MAX).filter(|tag| !known.contains(tag)) {
        // With the header, and before the length is there.
        for (bytes, length) in [(&message(tag, 4711)[..], Some(4711)), (&[tag], None)] {
            let error = scanner.clone().next(bytes, &mut 0);
            assert_eq!(error, Err(FrameError { tag, length, kind: FrameErrorKind::UnknownTag }));
        }
    }
}

#[test]
fn frontend_messages_have_the_limits_of_the_server() {
    for phase in [ScanPhase::Authentication, ScanPhase::Normal] {
        check_limit(&frontend(phase), b"QPBFd", FRONTEND_LARGE_MAX);
        check_limit(&frontend(phase), b"DECHScfX", FRONTEND_SMALL_MAX);
    }
    check_limit(&frontend(ScanPhase::Authentication), b"p", AUTH_TOKEN_MAX);
    check_unknown(&frontend(ScanPhase::Authentication), b"QPBFdDECHScfXp");
    check_unknown(&frontend(ScanPhase::Normal), b"QPBFdDECHScfX");
}

#[test]
fn backend_messages_have_the_limits_of_libpq() {
    let small = b"KSZCI123nsGHWc";
    for phase in [ScanPhase::Authentication, ScanPhase::Normal] {
        check_limit(&backend(phase), small, BACKEND_SMALL_MAX);
        check_limit(&backend(phase), b"DdVTA", BACKEND_LARGE_MAX);
        check_limit(&backend(phase), b"R", AUTHENTICATION_REQUEST_MAX);
        check_limit(&backend(phase), b"v", NEGOTIATE_PROTOCOL_VERSION_MAX);
        check_limit(&backend(phase), b"t", PARAMETER_DESCRIPTION_MAX);
        check_unknown(&backend(phase), b"KSZCI123nsGHWcDdVTENARvt");
    }
    check_limit(&backend(ScanPhase::Normal), b"EN", BACKEND_LARGE_MAX);
    check_limit(&backend(ScanPhase::Authentication), b"EN", LOGIN_ERROR_MAX);
}

#[test]
fn text_in_place_of_a_length_is_an_old_style_error_only_during_login() {
    let text = b"Ecould not fork new process for connection\n\0";
    assert_eq!(kind(backend(ScanPhase::Authentication), text), Some(FrameErrorKind::OldStyleError));
    let limit = BACKEND_LARGE_MAX;
    assert_eq!(kind(backend(ScanPhase::Normal), text), Some(FrameErrorKind::TooLong { limit }));
    assert_eq!(
        kind(backend(ScanPhase::Authentication), b"Nould"),
        Some(FrameErrorKind::TooLong { limit: 30_000 })
    );
}

#[test]
fn a_message_of_whole_max_is_whole_and_one_byte_more_is_not() {
    let whole = message(b'Q', WHOLE_MAX as u32 - 1);
    assert_eq!(whole.len(), WHOLE_MAX);
    let mut at = 0;
    let mut scanner = frontend(ScanPhase::Normal);
    assert_eq!(scanner.next(&whole[..WHOLE_MAX - 1], &mut at), Ok(None), "kept until it is whole");
    assert_eq!(scanner.next(&whole, &mut at), Ok(Some(Piece::Message { tag: b'Q', body: &whole[5..] })));
    assert_eq!(at, WHOLE_MAX);

    let large = message(b'Q', WHOLE_MAX as u32);
    let mut at = 0;
    let body_len = WHOLE_MAX as u32 - 4;
    let start = Piece::Start { tag: b'Q', body_len, body: &large[5..WHOLE_MAX] };
    assert_eq!(scanner.next(&large, &mut at), Ok(Some(start)), "even when all of it is there");
    assert!(!scanner.is_at_boundary());
    let last = Piece::More { body: &large[WHOLE_MAX..], is_last: true };
    assert_eq!(scanner.next(&large, &mut at), Ok(Some(last)));
    assert!(scanner.is_at_boundary());
    assert_eq!(scanner.next(&large, &mut at), Ok(None));
}

#[test]
fn a_large_message_starts_with_a_prefix() {
    let large = message(b'P', 60_000);
    let mut scanner = frontend(ScanPhase::Normal);
    let mut at = 0;
    assert_eq!(scanner.next(&large[..5 + PREFIX_MIN - 1], &mut at), Ok(None));
    assert_eq!(at, 0);
    let start = Piece::Start { tag: b'P', body_len: 59_996, body: &large[5..5 + PREFIX_MIN] };
    assert_eq!(scanner.next(&large[..5 + PREFIX_MIN], &mut at), Ok(Some(start)));
    assert_eq!(scanner.next(&large[..5 + PREFIX_MIN], &mut at), Ok(None));
}

#[test]
fn every_truncation_of_a_message_waits_for_more() {
    let bytes = message(b'Q', 30);
    for end in 0..bytes.len() {
        let mut at = 0;
        let mut scanner = frontend(ScanPhase::Normal);
        assert_eq!(scanner.next(&bytes[..end], &mut at), Ok(None));
        assert!(at == 0 && scanner.is_at_boundary());
    }
}

#[test]
fn a_position_beyond_the_chunk_is_the_end_of_it() {
    assert_eq!(frontend(ScanPhase::Normal).next(b"Q", &mut 2), Ok(None));
}

#[test]
fn clients_are_told_what_postgres_tells_them() {
    let error =
        |bytes: &[u8]| frontend(ScanPhase::Normal).next(bytes, &mut 0).expect_err("an illegal header");
    let message = "invalid frontend message type 112".to_owned();
    let unknown = ConnectionRefusal::Fatal { code: SqlState::PROTOCOL_VIOLATION, message };
    assert_eq!(error(b"p\0\0\0\x04").refusal(), unknown);
    assert_eq!(error(b"Q\0\0\0\x03").refusal(), ConnectionRefusal::Silent);
    assert_eq!(error(b"Q\xFF\xFF\xFF\xFF").refusal(), ConnectionRefusal::Silent);
    assert_eq!(error(b"D\0\0\x27\x11").refusal(), ConnectionRefusal::Silent);
}
