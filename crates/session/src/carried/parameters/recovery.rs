//! The parameter that tells a standby from a primary, among others.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

/// Names the parameter that tells a standby from a primary.
pub(crate) const RECOVERY: &[u8] = b"in_hot_standby";

/// Tag and length word.
const HEADER: usize = 5;

/// Where the message of [`RECOVERY`] is among messages; at their end, and empty, if there is none.
pub(super) fn recovery_among(messages: &[u8]) -> Range<usize> {
    let mut rest = messages;
    while let Some((&[tag, a, b, c, d], _)) = rest.split_first_chunk::<HEADER>() {
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let Some((message, after)) = rest.split_at_checked(length.saturating_add(1)) else { break };
        let named = message.get(HEADER..).and_then(|body| body.strip_prefix(RECOVERY));
        if tag == b'S' && named.is_some_and(|value| value.starts_with(b"\0")) {
            return messages.len() - rest.len()..messages.len() - after.len();
        }
        rest = after;
    }
    messages.len()..messages.len()
}

/// `messages` without those of [`RECOVERY`].
pub(crate) fn without_recovery(messages: Bytes) -> Bytes {
    let mut kept = BytesMut::new();
    let mut rest = &*messages;
    loop {
        let Range { start, end } = recovery_among(rest);
        if start == messages.len() {
            return messages;
        }
        kept.extend_from_slice(&rest[..start]);
        if start == end {
            return kept.freeze();
        }
        rest = &rest[end..];
    }
}

#[cfg(test)]
mod tests {
    use trunkline_codec::write;

    use super::*;

    #[test]
    fn the_role_of_a_server_can_be_left_out() {
        let messages = |names: &[&str]| {
            let mut out = BytesMut::new();
            for name in names {
                write::parameter_status(&mut out, name.as_bytes(), b"on").expect("short");
            }
            out.freeze()
        };
        let all = messages(&["a", "in_hot_standby", "in_hot_standby_b", "in_hot_standby", "z"]);
        assert_eq!(without_recovery(all), messages(&["a", "in_hot_standby_b", "z"]));
        let kept = messages(&["a", "z"]);
        assert_eq!(without_recovery(kept.clone()), kept);
        assert!(without_recovery(messages(&["in_hot_standby"])).is_empty());
    }
}
