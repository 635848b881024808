//! What standbys show to a session that reads there, and what its client is told of them.

use bytes::{Bytes, BytesMut};
use trunkline_codec::ids::Lsn;
use trunkline_routing::eligible::shows;
use trunkline_topology::{Role, ServerId, Snapshot};

use crate::context::TalliedPositions;

/// Which standbys are up.
pub(super) enum Standbys {
    NoneUp,
    /// These, and none is known to show enough.
    NoneShows(Vec<ServerId>),
    /// One by what health knows, or this one by what it has told since.
    OneShows(Option<ServerId>),
}

pub(super) fn standbys(snapshot: &Snapshot, positions: &TalliedPositions, at_least: Lsn) -> Standbys {
    let mut up = snapshot
        .servers
        .iter()
        .filter(|server| server.role == Role::Standby && server.state.takes_new() && server.weight > 0)
        .peekable();
    if up.peek().is_none() {
        return Standbys::NoneUp;
    }
    if up.clone().any(|server| shows(snapshot, server, at_least)) {
        return Standbys::OneShows(None);
    }
    let told = |id| positions.of(id).is_some_and(|told| told.lsn >= at_least);
    match up.clone().map(|server| server.id).find(|id| told(*id)) {
        Some(one) => Standbys::OneShows(Some(one)),
        None => Standbys::NoneShows(up.map(|server| server.id).collect()),
    }
}

/// ParameterStatus messages without that of the parameter which tells a standby from a primary.
pub(super) fn without_recovery(messages: &[u8]) -> Bytes {
    let mut kept = BytesMut::new();
    let mut rest = messages;
    while let Some((&[_tag, a, b, c, d], _)) = rest.split_first_chunk::<5>() {
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let Some((message, after)) = rest.split_at_checked(length.saturating_add(1)) else { break };
        if !message[5..].starts_with(b"in_hot_standby\0") {
            kept.extend_from_slice(message);
        }
        rest = after;
    }
    kept.freeze()
}

#[cfg(test)]
mod tests {
    use trunkline_codec::write::parameter_status;

    use super::*;

    #[test]
    fn a_client_is_not_told_that_it_reads_on_a_standby() {
        let messages = |names: &[&str]| {
            let mut out = BytesMut::new();
            for name in names {
                parameter_status(&mut out, name.as_bytes(), b"on").expect("short");
            }
            out
        };
        let all = messages(&["a", "in_hot_standby", "in_hot_standby_b", "z"]);
        assert_eq!(*without_recovery(&all), *messages(&["a", "in_hot_standby_b", "z"]));
        assert!(without_recovery(&messages(&["in_hot_standby"])).is_empty());
    }
}
