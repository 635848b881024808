//! Properties that hold for any bytes and any chunking.

#[expect(unreachable_pub, reason = "public for the fuzz targets, which share these files")]
mod checks;

use bytes::BytesMut;
use checks::{Way, reassemble};
use proptest::prelude::*;
use trunkline_codec::backend::TransactionStatus;
use trunkline_codec::frontend::Target;
use trunkline_codec::limits::NAME_BYTES_MAX;
use trunkline_codec::startup::{FirstPacket, ProtocolVersion, StartupMessage, decode_first};
use trunkline_codec::write;

/// Text without NUL, as strings on the wire are.
fn text(max: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(1..=u8::MAX, 0..max)
}

/// Any bytes, now and then more than the scanner hands out in one piece.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        9 => proptest::collection::vec(any::<u8>(), 0..200),
        1 => (32_700_usize..70_000, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]),
    ]
}

fn encoded(write: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    let mut out = BytesMut::new();
    write(&mut out);
    out.to_vec()
}

fn frontend_message() -> impl Strategy<Value = Vec<u8>> {
    let legal = "built from legal parts";
    prop_oneof![
        text(200).prop_map(move |sql| encoded(|out| write::query(out, &sql).expect(legal))),
        (text(20), text(200))
            .prop_map(move |(n, sql)| encoded(|out| write::parse(out, &n, &sql, &[23, 25]).expect(legal))),
        (text(20), payload()).prop_map(move |(n, v)| {
            encoded(|out| write::bind(out, b"", &n, [Some(&v[..]), None]).expect(legal))
        }),
        text(20).prop_map(move |n| encoded(|out| write::describe(out, Target::Statement, &n).expect(legal))),
        text(20).prop_map(move |n| encoded(|out| write::execute(out, &n, 0).expect(legal))),
        payload().prop_map(move |data| encoded(|out| write::copy_data(out, &data).expect(legal))),
        Just(encoded(write::sync)),
        Just(encoded(write::flush)),
    ]
}

fn backend_message() -> impl Strategy<Value = Vec<u8>> {
    let legal = "built from legal parts";
    prop_oneof![
        payload().prop_map(move |v| encoded(|out| write::data_row(out, [Some(&v[..]), None]).expect(legal))),
        text(50).prop_map(move |n| encoded(|out| write::row_description(out, [&n[..]]).expect(legal))),
        text(50).prop_map(move |tag| encoded(|out| write::command_complete(out, &tag).expect(legal))),
        (text(20), text(20))
            .prop_map(move |(n, v)| encoded(|out| write::parameter_status(out, &n, &v).expect(legal))),
        payload().prop_map(move |data| encoded(|out| write::copy_data(out, &data).expect(legal))),
        Just(encoded(|out| write::ready_for_query(out, TransactionStatus::InTransaction))),
    ]
}

fn stream() -> impl Strategy<Value = (Way, Vec<Vec<u8>>)> {
    let frontend = proptest::collection::vec(frontend_message(), 0..12);
    let backend = proptest::collection::vec(backend_message(), 0..12);
    prop_oneof![frontend.prop_map(|m| (Way::Frontend, m)), backend.prop_map(|m| (Way::Backend, m))]
}

/// Sizes from single bytes to more than a large message.
fn sizes() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(prop_oneof![1_usize..8, 1_usize..2000, 20_000_usize..70_000], 1..40)
}

proptest! {
    #[test]
    fn any_chunking_gives_the_messages_that_were_sent((way, messages) in stream(), sizes in sizes()) {
        let outcome = reassemble(way.scanner(), &messages.concat(), sizes);
        prop_assert_eq!(outcome.error, None);
        prop_assert_eq!(outcome.open, None);
        let expected: Vec<_> = messages.iter().map(|m| (m[0], m[5..].to_vec())).collect();
        prop_assert_eq!(outcome.messages, expected);
    }

    #[test]
    fn a_cut_stream_has_the_messages_before_the_cut(
        (way, messages) in stream(),
        cut in any::<prop::sample::Index>(),
    ) {
        let stream = messages.concat();
        let stream = &stream[..cut.index(stream.len() + 1)];
        let outcome = reassemble(way.scanner(), stream, []);
        prop_assert_eq!(outcome.error, None);
        let mut ends = messages.iter().scan(0, |end, m| { *end += m.len(); Some(*end) });
        let whole = ends.by_ref().take_while(|end| *end <= stream.len()).count();
        prop_assert_eq!(outcome.messages.len(), whole);
        prop_assert!(outcome.consumed <= stream.len());
    }

    #[test]
    fn startup_messages_read_back_as_written(
        user in text(64).prop_filter("a session has a user", |u| !u.is_empty()),
        parameters in proptest::collection::vec((text(20), text(50)), 0..10),
        minor in any::<u16>(),
    ) {
        let parameters: Vec<_> = parameters.into_iter().filter(|(n, _)| !n.is_empty() && n != b"user").collect();
        let mut all: Vec<_> = parameters.iter().map(|(n, v)| (&n[..], &v[..])).collect();
        all.push((b"user", &user));
        let message = StartupMessage::new(ProtocolVersion { major: 3, minor }, all.clone()).expect("legal parts");
        let bytes = encoded(|out| message.encode(out));
        prop_assert_eq!(decode_first(&bytes), Ok(Some((FirstPacket::Startup(message.clone()), bytes.len()))));
        prop_assert_eq!(message.parameters().collect::<Vec<_>>(), all);
        prop_assert_eq!(message.user(), &user[..user.len().min(NAME_BYTES_MAX)]);
        for end in 0..bytes.len() {
            prop_assert_eq!(decode_first(&bytes[..end]), Ok(None));
        }
    }

    #[test]
    fn random_bytes_panic_nobody(data in proptest::collection::vec(any::<u8>(), 0..400)) {
        for (_, check) in checks::CHECKS {
            check(&data);
        }
        checks::read_frontend(0, &data);
        checks::read_backend(0, &data);
    }

    #[test]
    fn random_fields_round_trip(fields in proptest::collection::vec(text(30), 0..8)) {
        checks::round_trip(&fields.join(&b'\n'));
    }

    #[test]
    fn random_headers_give_the_same_whatever_the_chunking(
        way in 0_u8..4,
        sizes in any::<[u8; 8]>(),
        headers in proptest::collection::vec((prop::sample::select(&b"QPBFdDECHScfXpRKZITNA123nstGWVv"[..]), 0_u32..40_000), 0..20),
    ) {
        let mut data = vec![way];
        data.extend_from_slice(&sizes);
        for (tag, length) in headers {
            data.push(tag);
            data.extend_from_slice(&length.to_be_bytes());
            data.resize(data.len() + length.saturating_sub(4) as usize, b'x');
        }
        checks::chunking(&data);
    }
}

#[test]
fn the_fuzz_corpora_pass() {
    let corpora = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for (name, check) in checks::CHECKS {
        let seeds = std::fs::read_dir(corpora.join(name)).expect("every target has a corpus");
        for seed in seeds {
            let path = seed.expect("the directory can be read").path();
            check(&std::fs::read(&path).expect("a seed can be read"));
        }
    }
}
