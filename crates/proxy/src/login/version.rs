//! Which version of the protocol a client is offered.
//!
//! The version is negotiated before a server is taken, and cannot change when the session moves. So it is the
//! newest version that all servers speak: any of them may become the primary, or a standby of the listener.

use bytes::BytesMut;
use trunkline_codec::startup::{ProtocolVersion, StartupMessage};
use trunkline_codec::write;
use trunkline_topology::{ServerId, Snapshot};

use super::LoginFailure;
use super::request::StartupRequest;
use crate::context::Worker;
use crate::errors::Refusal;

/// The first server that speaks protocol 3.2, by its `server_version_num`.
/// Source: PostgreSQL 18, src/include/libpq/pqcomm.h, `PG_PROTOCOL_LATEST`.
const FIRST_WITH_3_2: u32 = 180_000;

/// The newest version that may be offered to the client of `request`.
pub(super) fn newest(worker: &Worker, request: &StartupRequest) -> ProtocolVersion {
    newest_of(&worker.shared.health.load(), request.criteria.only)
}

/// The newest version that all servers speak, or the only server of the session. A server that health has never
/// reached may be old.
fn newest_of(snapshot: &Snapshot, only: Option<ServerId>) -> ProtocolVersion {
    let mut servers = snapshot.servers.iter().filter(|server| only.is_none_or(|only| only == server.id));
    let all_speak_it = servers.all(|server| server.version.is_some_and(|version| version >= FIRST_WITH_3_2));
    if all_speak_it { ProtocolVersion::V3_2 } else { ProtocolVersion::V3_0 }
}

/// The version for a client that sent `startup`, and a NegotiateProtocolVersion if that is not the one it asked
/// for.
pub(super) fn negotiate(
    startup: &StartupMessage,
    newest: ProtocolVersion,
) -> Result<(ProtocolVersion, BytesMut), LoginFailure> {
    let asked = startup.version();
    // 3.1 was never used: PostgreSQL 18 takes it for 3.0.
    let version = if asked >= ProtocolVersion::V3_2 { newest } else { ProtocolVersion::V3_0 };
    let options: Vec<&[u8]> = startup.protocol_options().map(|(name, _)| name).collect();
    let mut preface = BytesMut::new();
    if asked > newest || !options.is_empty() {
        // Never a version above what was asked for: libpq takes that for a broken server.
        write::negotiate_protocol_version(&mut preface, version, options)
            .map_err(|_| Refusal::Protocol { message: "too many protocol options".to_owned() })?;
    }
    Ok((version, preface))
}

/// For a server that negotiates with the client itself: limits the packet to `newest`. The second value is the
/// message for the client if the server then has nothing to negotiate.
pub(super) fn ask_for_no_more(
    startup: StartupMessage,
    newest: ProtocolVersion,
) -> Result<(StartupMessage, BytesMut), LoginFailure> {
    // PostgreSQL 18 negotiates 3.2 and later itself.
    if newest >= ProtocolVersion::V3_2 || startup.version() <= newest {
        return Ok((startup, BytesMut::new()));
    }
    let (_, owed) = negotiate(&startup, newest)?;
    let bounded = StartupMessage::new(newest, startup.parameters());
    Ok((bounded.unwrap_or(startup), owed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunkline_telemetry::exposition::testing::snapshot;

    fn asks(minor: u16, options: &[&str]) -> StartupMessage {
        let options = options.iter().map(|name| (name.as_bytes(), &b"1"[..]));
        let parameters = std::iter::once((&b"user"[..], &b"u"[..])).chain(options);
        StartupMessage::new(ProtocolVersion { major: 3, minor }, parameters).expect("sound parameters")
    }

    /// The version spoken, and the one the client is told of, if any, with the number of options.
    fn negotiated(startup: &StartupMessage, newest: ProtocolVersion) -> (u16, Option<(u8, u8)>) {
        let (version, preface) = negotiate(startup, newest).expect("few options");
        (version.minor, (!preface.is_empty()).then(|| (preface[8], preface[12])))
    }

    #[test]
    fn it_is_3_2_only_when_every_server_is_known_to_speak_it() {
        let mut snapshot = snapshot();
        for version in [Some(179_999), None, Some(150_018)] {
            snapshot.servers.iter_mut().for_each(|server| server.version = Some(180_000));
            assert_eq!(newest_of(&snapshot, None), ProtocolVersion::V3_2);
            snapshot.servers[2].version = version;
            assert_eq!(newest_of(&snapshot, None), ProtocolVersion::V3_0, "{version:?}");
            assert_eq!(newest_of(&snapshot, Some(ServerId(2))), ProtocolVersion::V3_0);
            assert_eq!(
                newest_of(&snapshot, Some(ServerId(0))),
                ProtocolVersion::V3_2,
                "it keeps to that one"
            );
        }
    }

    #[test]
    fn clients_are_answered_as_18_does_and_as_17_does() {
        let option = "_pq_.unknown";
        for (asked, options, by_18, by_17) in [
            (0, &[][..], (0, None), (0, None)),
            (1, &[], (0, None), (0, Some((0, 0)))),
            (2, &[], (2, None), (0, Some((0, 0)))),
            (9999, &[], (2, Some((2, 0))), (0, Some((0, 0)))),
            (0, &[option], (0, Some((0, 1))), (0, Some((0, 1)))),
            (2, &[option], (2, Some((2, 1))), (0, Some((0, 1)))),
        ] {
            let startup = asks(asked, options);
            assert_eq!(negotiated(&startup, ProtocolVersion::V3_2), by_18, "{asked} {options:?}");
            assert_eq!(negotiated(&startup, ProtocolVersion::V3_0), by_17, "{asked} {options:?}");
        }
    }

    #[test]
    fn a_server_is_asked_for_no_more_than_all_speak() {
        for (asked, newest, passed_on, owes) in [
            (0, ProtocolVersion::V3_0, 0, false),
            (2, ProtocolVersion::V3_0, 0, true),
            (9999, ProtocolVersion::V3_0, 0, true),
            (2, ProtocolVersion::V3_2, 2, false),
            (9999, ProtocolVersion::V3_2, 9999, false),
        ] {
            let (startup, owed) =
                ask_for_no_more(asks(asked, &["_pq_.unknown"]), newest).expect("few options");
            assert_eq!((startup.version().minor, !owed.is_empty()), (passed_on, owes), "{asked} {newest:?}");
            assert_eq!(startup.protocol_options().count(), 1, "the server answers for these");
        }
    }
}
