//! First packets at every limit, and what PostgreSQL says to wrong ones.

use bytes::BytesMut;
use trunkline_codec::backend::ErrorFields;
use trunkline_codec::ids::{ProcessId, SecretKey};
use trunkline_codec::limits::STARTUP_PACKET_MAX;
use trunkline_codec::refusal::ConnectionRefusal;
use trunkline_codec::sqlstate::SqlState;
use trunkline_codec::startup::{
    CancelRequest, CommonParameters, FirstPacket, InvalidReplication, OptionSetting, ProtocolVersion,
    Replication, StartupError, StartupMessage, decode_first, gssenc_request, is_direct_tls, ssl_request,
};

fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let length = 8 + body.len() as u32;
    [&length.to_be_bytes(), &code.to_be_bytes(), body].concat()
}

fn startup(body: &[u8]) -> Result<StartupMessage, StartupError> {
    match decode_first(&packet(196_608, body))? {
        Some((FirstPacket::Startup(message), _)) => Ok(message),
        other => panic!("not a StartupMessage: {other:?}"),
    }
}

fn message(body: &[u8]) -> StartupMessage {
    startup(body).expect("a legal StartupMessage")
}

#[test]
fn length_is_checked_at_both_limits_before_anything_else_is_there() {
    for (length, is_legal) in
        [(0, false), (7, false), (8, true), (STARTUP_PACKET_MAX, true), (STARTUP_PACKET_MAX + 1, false)]
    {
        let decoded = decode_first(&length.to_be_bytes());
        let expected = if is_legal { Ok(None) } else { Err(StartupError::Length { length }) };
        assert_eq!(decoded, expected, "{length}");
    }
    assert_eq!(StartupError::Length { length: 7 }.refusal(), ConnectionRefusal::Silent);
    assert_eq!(decode_first(&u32::MAX.to_be_bytes()), Err(StartupError::Length { length: u32::MAX }));
}

#[test]
fn the_longest_packet_is_read() {
    let mut body = b"user\0a\0filler\0".to_vec();
    body.resize(STARTUP_PACKET_MAX as usize - 8 - 2, b'x');
    body.extend_from_slice(b"\0\0");
    let packet = packet(196_608, &body);
    assert_eq!(packet.len(), STARTUP_PACKET_MAX as usize);
    let (_, consumed) = decode_first(&packet).expect("legal").expect("whole");
    assert_eq!(consumed, packet.len());
}

#[test]
fn encryption_requests_are_known_by_their_code_alone() {
    for (code, expected) in [(80_877_103, FirstPacket::SslRequest), (80_877_104, FirstPacket::GssEncRequest)]
    {
        assert_eq!(decode_first(&packet(code, b"")), Ok(Some((expected.clone(), 8))));
        assert_eq!(decode_first(&packet(code, b"more")), Ok(Some((expected, 12))));
    }
    let mut out = BytesMut::new();
    ssl_request(&mut out);
    gssenc_request(&mut out);
    assert_eq!(out[..], [packet(80_877_103, b""), packet(80_877_104, b"")].concat());
    let (_, consumed) = decode_first(&out).expect("legal").expect("whole");
    assert_eq!(decode_first(&out[consumed..]), Ok(Some((FirstPacket::GssEncRequest, 8))));
    assert!(is_direct_tls(0x16) && !is_direct_tls(0));
}

#[test]
fn cancel_requests_carry_keys_of_4_to_256_bytes() {
    for (length, is_legal) in [(0, false), (3, false), (4, true), (32, true), (256, true), (257, false)] {
        let key = vec![9; length];
        let bytes = packet(80_877_102, &[&7_i32.to_be_bytes()[..], &key].concat());
        let decoded = decode_first(&bytes);
        if !is_legal {
            let error = decoded.expect_err("an illegal key");
            assert_eq!(error.refusal(), ConnectionRefusal::Silent);
            continue;
        }
        let secret_key = SecretKey::new(&key).expect("a legal key");
        let request = CancelRequest { process_id: ProcessId(7), secret_key };
        assert_eq!(decoded, Ok(Some((FirstPacket::Cancel(request.clone()), bytes.len()))));
        let mut out = BytesMut::new();
        request.encode(&mut out);
        assert_eq!(out, bytes);
    }
    assert!(decode_first(&packet(80_877_102, b"")).is_err(), "not even a process id");
}

#[test]
fn duplicates_the_last_wins() {
    let message = message(b"user\0first\0a\x001\0user\0last\0a\x002\0\0");
    assert_eq!(message.user(), b"last");
    assert_eq!(message.get("a"), Some(&b"2"[..]));
    assert_eq!(message.get("b"), None);
    assert_eq!(message.parameters().count(), 4);
}

#[test]
fn names_are_cut_as_the_server_cuts_them() {
    let message =
        message(format!("user\0{}\0database\0{}\u{e9}\0\0", "u".repeat(64), "d".repeat(62)).as_bytes());
    assert_eq!(message.user(), "u".repeat(63).as_bytes());
    assert_eq!(
        message.database(),
        ["d".repeat(62).as_bytes(), b"\xc3"].concat(),
        "inside of a character, too"
    );
    assert_eq!(message.get("user").map(<[u8]>::len), Some(64), "it goes on to a server as it came");
}

#[test]
fn database_defaults_to_the_user() {
    assert_eq!(message(b"user\0me\0\0").database(), b"me");
    assert_eq!(message(b"user\0me\0database\0\0\0").database(), b"me");
    assert_eq!(message(b"user\0me\0database\0db\0\0").database(), b"db");
}

#[test]
fn one_pass_finds_what_looking_for_each_finds() {
    let long = format!("database\0{0}\0user\0{0}\0\0", "d".repeat(64));
    for body in [
        &b"user\0me\0\0"[..],
        b"user\0me\0database\0\0\0",
        b"user\0me\0database\0db\0replication\0true\0user\0you\0\0",
        b"replication\0database\0user\0me\0application_name\0one\0application_name\0two\0\0",
        b"user\0me\0replication\0perhaps\0users\0x\0\0",
        long.as_bytes(),
    ] {
        let message = message(body);
        let expected = CommonParameters {
            user: message.user(),
            database: message.database(),
            application_name: message.get("application_name").unwrap_or_default(),
            replication: message.replication(),
        };
        assert_eq!(message.common(), expected, "{message:?}");
        let mut packet = BytesMut::new();
        message.encode(&mut packet);
        assert_eq!(message.packet_bytes(), packet.len());
    }
}

#[test]
fn layouts_that_do_not_end_with_the_packet_are_refused() {
    for body in
        [&b""[..], b"user\0me\0", b"user\0me", b"user", b"user\0", b"user\0me\0\0\0", b"\0user\0me\0\0", b"x"]
    {
        assert_eq!(startup(body), Err(StartupError::Layout), "{body:?}");
    }
    let ConnectionRefusal::Fatal { code, .. } = StartupError::Layout.refusal() else { panic!("not FATAL") };
    assert_eq!(code, SqlState::PROTOCOL_VIOLATION);
}

#[test]
fn a_session_has_a_user() {
    for body in [&b"\0"[..], b"database\0db\0\0", b"user\0\0\0", b"user\0me\0user\0\0\0"] {
        assert_eq!(startup(body), Err(StartupError::NoUser), "{body:?}");
    }
    let mut out = BytesMut::new();
    StartupError::NoUser.refusal().encode(&mut out);
    let fields = ErrorFields::new(&out[5..]);
    assert!(fields.is_fatal());
    assert_eq!(fields.sqlstate(), Some(SqlState::INVALID_AUTHORIZATION));
}

#[test]
fn versions_other_than_3_are_refused_in_words_their_clients_understand() {
    let refusal = |code| {
        let error = decode_first(&packet(code, b"user\0me\0\0")).expect_err("unsupported");
        let mut out = BytesMut::new();
        error.refusal().encode(&mut out);
        out
    };
    let words = b"unsupported frontend protocol 2.0: server supports 3.0 to 3.2";
    assert_eq!(refusal(2 << 16)[..], [&b"EFATAL:  "[..], words, b"\n\0"].concat());
    assert_eq!(ErrorFields::new(&refusal(4 << 16)[5..]).sqlstate(), Some(SqlState::FEATURE_NOT_SUPPORTED));
    let repeated = StartupError::UnsupportedProtocol(ProtocolVersion::REPEATED_SSL_REQUEST);
    assert!(repeated.to_string().starts_with("unsupported frontend protocol 1234.5679"));
    assert!(matches!(repeated.refusal(), ConnectionRefusal::Fatal { .. }));
}

#[test]
fn unknown_minor_versions_and_protocol_options_are_kept() {
    let bytes = packet(0x0003_270F, b"user\0me\0_pq_.grease\x001\0\0");
    let Ok(Some((FirstPacket::Startup(message), _))) = decode_first(&bytes) else { panic!("refused") };
    assert_eq!(message.version(), ProtocolVersion { major: 3, minor: 9999 });
    assert!(message.protocol_options().eq([(&b"_pq_.grease"[..], &b"1"[..])]));
    let mut out = BytesMut::new();
    message.encode(&mut out);
    assert_eq!(out, bytes);
}

#[test]
fn replication_is_a_boolean_or_database() {
    let replication =
        |value: &str| message(format!("user\0me\0replication\0{value}\0\0").as_bytes()).replication();
    assert_eq!(message(b"user\0me\0\0").replication(), Ok(Replication::No));
    assert_eq!(replication("database"), Ok(Replication::Logical));
    for yes in ["true", "t", "TRUE", "yes", "y", "on", "1"] {
        assert_eq!(replication(yes), Ok(Replication::Physical), "{yes}");
    }
    for no in ["false", "f", "no", "n", "off", "of", "0"] {
        assert_eq!(replication(no), Ok(Replication::No), "{no}");
    }
    for bad in ["", "o", "10", "2", "truer", "DATABASE", "maybe"] {
        assert_eq!(replication(bad), Err(InvalidReplication), "{bad}");
    }
}

#[test]
fn haproxys_check_names_only_a_user() {
    assert!(message(b"user\0check\0\0").is_user_only());
    assert!(!message(b"user\0check\0database\0check\0\0").is_user_only());
}

#[test]
fn a_parameter_can_be_left_out_but_not_the_user() {
    let whole = message(b"user\0me\0options\0-c a=1\0a.b\0c\0options\0x\0\0");
    assert_eq!(whole.without("options"), message(b"user\0me\0a.b\0c\0\0"));
    assert_eq!(whole.without("user"), whole);
    assert_eq!(whole.without("nothing"), whole);
}

#[test]
fn messages_that_cannot_be_sent_are_not_built() {
    let build = |name: &[u8], value: &[u8]| {
        StartupMessage::new(ProtocolVersion::V3_0, [(&b"user"[..], &b"me"[..]), (name, value)])
    };
    assert_eq!(build(b"", b"x"), Err(StartupError::Parameter));
    assert_eq!(build(b"a\0b", b"x"), Err(StartupError::Parameter));
    assert_eq!(build(b"a", b"x\0"), Err(StartupError::Parameter));
    // Length word, version, "user\0me\0", "a\0", the value, and two NUL bytes.
    let room = STARTUP_PACKET_MAX as usize - 8 - 8 - 2 - 2;
    assert!(build(b"a", &vec![b'x'; room]).is_ok());
    let length = STARTUP_PACKET_MAX + 1;
    assert_eq!(build(b"a", &vec![b'x'; room + 1]), Err(StartupError::Length { length }));
    assert_eq!(StartupMessage::new(ProtocolVersion::V3_0, []), Err(StartupError::NoUser));
}

#[test]
fn options_are_split_as_postgres_splits_them() {
    let settings = |options: &str| -> Vec<(String, String)> {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text in, text out");
        let message = message(format!("user\0me\0options\0{options}\0\0").as_bytes());
        message.options().map(|OptionSetting { name, value }| (text(name), text(value))).collect()
    };
    let one = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    assert_eq!(settings(""), vec![]);
    assert_eq!(settings("-c work_mem=1MB"), one("work_mem", "1MB"));
    assert_eq!(settings("-cwork_mem=1MB"), one("work_mem", "1MB"));
    assert_eq!(settings("  \t--work-mem=1MB\n"), one("work_mem", "1MB"));
    assert_eq!(settings(r"-c search_path=a\ b\\c"), one("search_path", r"a b\c"));
    assert_eq!(settings("-c a=b=c"), one("a", "b=c"));
    assert_eq!(settings("-c a="), one("a", ""));
    assert_eq!(settings("-c a=1 -B 5 --b=2").len(), 2);
    for nothing in ["-c", "-c=", "-c =", "--", "--=x", "-", "\\", "-c -c", "-c a", "-e", " "] {
        assert_eq!(settings(nothing), vec![], "{nothing:?}");
    }
}

#[test]
fn every_truncation_waits_for_more() {
    for bytes in
        [packet(196_608, b"user\0me\0\0"), packet(80_877_103, b""), packet(80_877_102, b"\0\0\0\x01abcd")]
    {
        for end in 0..bytes.len() {
            assert_eq!(decode_first(&bytes[..end]), Ok(None));
        }
    }
}
