//! First packets.

use std::hint::black_box;

use bytes::BytesMut;
use trunkline_codec::limits::{STARTUP_PACKET_MAX, STARTUP_PACKET_MIN};
use trunkline_codec::startup::{FirstPacket, StartupError, StartupMessage, decode_first};

/// Any bytes as the beginning of a connection.
pub fn startup(data: &[u8]) {
    match decode_first(data) {
        Ok(Some((packet, consumed))) => {
            assert!((STARTUP_PACKET_MIN as usize..=STARTUP_PACKET_MAX as usize).contains(&consumed));
            assert_eq!(decode_first(&data[..consumed - 1]), Ok(None), "all of the packet was needed");
            check(&packet, &data[..consumed]);
        }
        Ok(None) => assert!(data.len() < STARTUP_PACKET_MAX as usize),
        Err(error) => {
            let mut out = BytesMut::new();
            error.refusal().encode(&mut out);
            assert_ne!(error, StartupError::Parameter, "only for packets to be encoded");
        }
    }
}

fn check(packet: &FirstPacket, bytes: &[u8]) {
    let mut out = BytesMut::new();
    match packet {
        FirstPacket::Startup(message) => {
            message.encode(&mut out);
            assert_eq!(out, bytes);
            check_message(message);
        }
        FirstPacket::Cancel(request) => {
            request.encode(&mut out);
            assert_eq!(out, bytes);
        }
        FirstPacket::SslRequest | FirstPacket::GssEncRequest => {}
    }
}

fn check_message(message: &StartupMessage) {
    assert!(!message.user().is_empty() && !message.database().is_empty());
    assert_eq!(StartupMessage::new(message.version(), message.parameters()).as_ref(), Ok(message));
    let bare = message.without("options");
    assert_eq!(bare.get("options"), None);
    assert_eq!(bare.user(), message.user());
    let _ = black_box((message.replication(), message.is_user_only(), message.protocol_options().count()));
    for setting in message.options() {
        assert!(!setting.name.is_empty());
    }
    assert!(message.options().count() <= message.get("options").unwrap_or_default().len());
}
