use std::time::Duration;

use super::*;

#[test]
fn a_server_that_may_have_been_restarted_since_has_to_show_what_was_seen() {
    let (begun, second) = (Instant::now(), Duration::from_secs(1));
    let last = LastServer { server: ServerId(1), answered_at: begun + second, chosen_at: begun };
    assert!(last.shows_as_much(ServerId(1), begun));
    assert!(!last.shows_as_much(ServerId(1), begun + 2 * second));
    assert!(!last.shows_as_much(ServerId(2), begun));
}

#[test]
fn connections_fit_by_their_defaults_and_by_what_they_cannot_forget() {
    let of = |defaults, custom| carried(7, defaults, custom);
    assert_eq!(of(1, 0), of(1, 0));
    assert_ne!(of(1, 0).fingerprint, of(2, 0).fingerprint, "the same settings on other defaults");
    assert!(fits(&of(1, 0b11), &of(1, 0b10)), "it knows the custom setting");
    assert!(!fits(&of(1, 0b01), &of(1, 0b10)), "it has never heard of it");
    assert!(!fits(&of(1, 0), &of(2, 0)));
}
