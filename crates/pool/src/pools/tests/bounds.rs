//! What bounds the pools, and what they forget.

use super::*;
use crate::limits::{KEYS_MAX, POOLS_MAX, WAITERS_MAX, WAITERS_PER_KEY_MAX};
use crate::{CloseReason, PoolRefusal};

#[test]
fn one_more_than_may_wait_for_a_key_is_refused() {
    let mut setup = Setup::new(settings(0));
    let [web, batch] = ["web", "batch"].map(|user| setup.key("app", user));
    let first = setup.wait(web, &[A]);
    for _ in 1..WAITERS_PER_KEY_MAX {
        setup.wait(web, &[A]);
    }
    let refused = CheckOut::Refused(PoolRefusal::TooManyWaiters);
    assert_eq!(setup.ask(web, &[A], state(0)), refused);
    // Others may.
    setup.wait(batch, &[A]);
    assert!(setup.pools.cancel(first, setup.now).is_empty());
    setup.wait(web, &[A]);
    assert_eq!(setup.pools.totals().refused, 1);
}

#[test]
fn one_more_than_may_wait_in_all_is_refused() {
    let mut setup = Setup::new(settings(0));
    let keys = ["a", "b", "c"].map(|user| setup.key("app", user));
    for waits in 0..WAITERS_MAX {
        setup.wait(keys[waits % 3], &[]);
    }
    assert_eq!(setup.ask(keys[0], &[A], state(0)), CheckOut::Refused(PoolRefusal::TooManyWaiters));
}

#[test]
fn one_more_key_than_there_may_be_is_refused() {
    let mut setup = Setup::new(settings(1));
    let key = |digest: usize| PoolKey::new("app", "web", PoolBound::Sized, digest as u64, b"");
    for digest in 0..KEYS_MAX {
        setup.pools.join(&key(digest)).expect("one of those that may be");
    }
    assert_eq!(setup.pools.join(&key(KEYS_MAX)), Err(PoolRefusal::TooManyPools));
    let known = setup.pools.join(&key(0)).expect("a known one");
    for _ in 0..2 {
        assert!(setup.pools.leave(known).is_empty());
    }
    assert!(setup.pools.join(&key(KEYS_MAX)).is_ok());
}

#[test]
fn one_more_pool_than_there_may_be_is_refused() {
    const SERVERS: u32 = 1 << 10;
    let mut setup = Setup::new(settings(0));
    let servers: Vec<ServerId> = (0..SERVERS).map(ServerId).collect();
    for digest in 0..(POOLS_MAX as u64 / u64::from(SERVERS)) {
        let key =
            setup.pools.join(&PoolKey::new("app", "web", PoolBound::Sized, digest, b"")).expect("few keys");
        setup.wait(key, &servers);
    }
    let key = setup.key("logs", "web");
    let refused = CheckOut::Refused(PoolRefusal::TooManyPools);
    assert_eq!(setup.ask(key, &[A], state(0)), refused);
}

#[test]
fn nothing_is_kept_of_those_who_left() {
    let mut setup = Setup::new(settings(1));
    let key = setup.key("app", "web");
    let [token, elsewhere] = [A, B].map(|server| setup.open(key, server));
    let ticket = setup.wait(key, &[A, B]);
    assert!(matches!(setup.back(token, state(0)).fate, CheckedIn::GivenTo(_)));
    assert!(setup.pools.closed(elsewhere).is_empty());
    assert!(matches!(setup.take(ticket), Some(Taken::Idle(_))));
    assert_eq!(setup.pools.counts(setup.now).count(), 2, "the key, and its pool on A");
    assert!(setup.pools.closed(token).is_empty());
    assert_eq!(setup.pools.counts(setup.now).count(), 1, "the key");
    assert!(setup.pools.leave(key).is_empty());
    assert_eq!(setup.pools.counts(setup.now).count(), 0);
    // The handle of a key that was forgotten is nobody else's.
    let other = setup.key("app", "web");
    assert_eq!(setup.ask(key, &[A], state(0)), CheckOut::Refused(PoolRefusal::UnknownKey));
    assert_ne!(key, other);
}

#[test]
fn a_connection_outlives_its_last_client() {
    let mut setup = Setup::new(settings(1));
    let key = setup.key("app", "web");
    let token = setup.open(key, A);
    setup.idle(token, state(0));
    assert!(setup.pools.leave(key).is_empty());
    let key = setup.key("app", "web");
    assert_eq!(setup.given(key, &[A], state(0)).token, token);
}

#[test]
fn what_is_not_known_is_not_kept() {
    let mut setup = Setup::new(settings(1));
    let token = ConnectionToken { worker: 0, slot: 1, generation: 2 };
    assert_eq!(setup.back(token, state(0)).fate, CheckedIn::Close(CloseReason::Unknown));
    assert!(setup.pools.closed(token).is_empty());
}

#[test]
fn keys_differ_by_all_that_they_are_made_of() {
    let key = PoolKey::new("app", "web", PoolBound::Sized, 1, b"x");
    assert_eq!(key, PoolKey::new("app", "web", PoolBound::Sized, 1, b"x"));
    let others = [
        ("logs", "web", 1, b"x"),
        ("app", "batch", 1, b"x"),
        ("app", "web", 2, b"x"),
        ("app", "web", 1, b"y"),
    ];
    assert_ne!(key, PoolKey::new("app", "web", PoolBound::Unlimited, 1, b"x"));
    for (database, user, digest, rest) in others {
        assert_ne!(key, PoolKey::new(database, user, PoolBound::Sized, digest, rest));
    }
}
