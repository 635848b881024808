//! Servers that are retired, and other settings.

use super::*;
use crate::{CloseReason, ToClose};

#[test]
fn a_retired_servers_connections_are_closed_when_nobody_has_them() {
    let mut setup = Setup::new(settings(3));
    let key = setup.key("app", "web");
    let [idle, busy] = setup.open_all(key, A);
    let elsewhere = setup.open(key, B);
    let opening = setup.place(key, A);
    setup.idle(idle, state(0));
    let effects = setup.pools.retire(A);
    assert_eq!(effects.close, [ToClose { token: idle, server: A, reason: CloseReason::Retired }]);
    assert_eq!(setup.back(busy, state(0)).fate, CheckedIn::Close(CloseReason::Retired));
    let late = setup.opened(0, opening);
    assert_eq!(setup.back(late, state(0)).fate, CheckedIn::Close(CloseReason::Retired));
    setup.idle(elsewhere, state(0));
    // It may come back: what is opened from now on is kept.
    let new = setup.open(key, A);
    setup.idle(new, state(0));
    let closed: Vec<_> = setup.pools.totals().closed().filter(|(_, times)| *times > 0).collect();
    assert_eq!(closed, [(CloseReason::Retired, 3)]);
}

#[test]
fn a_smaller_pool_size_closes_idle_ones_now_and_others_at_check_in() {
    let mut setup = Setup::new(settings(4));
    let key = setup.key("app", "web");
    let [first, second, third, fourth] = setup.open_all(key, A);
    setup.idle(first, state(0));
    let effects = setup.pools.reconfigure(settings(1));
    assert_eq!(effects.close, [ToClose { token: first, server: A, reason: CloseReason::PoolSize }]);
    assert_eq!(setup.back(second, state(0)).fate, CheckedIn::Close(CloseReason::PoolSize));
    assert_eq!(setup.back(third, state(0)).fate, CheckedIn::Close(CloseReason::PoolSize));
    setup.idle(fourth, state(0));
}

#[test]
fn a_smaller_limit_closes_idle_ones_now_and_others_at_check_in() {
    let mut setup = Setup::new(settings(4));
    let [web, batch] = ["web", "batch"].map(|user| setup.key("app", user));
    let [first, second] = setup.open_all(web, A);
    let [third, fourth] = setup.open_all(batch, A);
    setup.idle(first, state(0));
    let effects = setup.pools.reconfigure(PoolSettings { max_db_connections: 2, ..settings(4) });
    assert_eq!(effects.close, [ToClose { token: first, server: A, reason: CloseReason::Limit }]);
    assert_eq!(setup.back(third, state(0)).fate, CheckedIn::Close(CloseReason::Limit));
    setup.idle(second, state(0));
    setup.idle(fourth, state(0));
    let effects = setup.pools.reconfigure(PoolSettings { max_user_connections: 1, ..settings(4) });
    assert!(effects.is_empty(), "each user has one");
}

#[test]
fn a_larger_pool_size_serves_those_who_wait() {
    let mut setup = Setup::new(settings(1));
    let key = setup.key("app", "web");
    let _held = setup.open(key, A);
    let tickets: [_; 3] = std::array::from_fn(|_| setup.wait(key, &[A]));
    let effects = setup.pools.reconfigure(settings(3));
    let expected: Vec<_> = tickets[..2].iter().map(|ticket| (*ticket, GrantKind::Open(A))).collect();
    assert_eq!(granted(&effects.grants), expected);
}

#[test]
fn an_override_of_the_size_holds_for_its_user() {
    let over = crate::PoolOverride {
        user: Some("batch".to_owned()),
        pool_size: Some(1),
        ..crate::PoolOverride::default()
    };
    let mut setup = Setup::new(PoolSettings { overrides: vec![over], ..settings(2) });
    let [web, batch] = ["web", "batch"].map(|user| setup.key("app", user));
    let [_first, _second] = setup.open_all::<2>(web, A);
    let _only = setup.open(batch, A);
    setup.wait(batch, &[A]);
}

#[test]
fn a_longer_reserve_pool_timeout_holds_for_those_who_wait_already() {
    let reserve = |seconds| PoolSettings {
        reserve_pool_size: 1,
        reserve_pool_timeout: Duration::from_secs(seconds),
        ..settings(1)
    };
    let mut setup = Setup::new(reserve(3));
    let key = setup.key("app", "web");
    let held = setup.open(key, A);
    let tickets: [_; 2] = std::array::from_fn(|_| setup.wait(key, &[A]));
    setup.pass(3);
    assert_eq!(granted(&setup.pools.due(setup.now).effects.grants), [(tickets[0], GrantKind::Open(A))]);
    assert!(setup.pools.reconfigure(reserve(60)).is_empty());
    assert!(setup.pools.closed(held).is_empty(), "what is left is the size, and the reserve is not due");
    setup.pass(57);
    assert_eq!(granted(&setup.pools.due(setup.now).effects.grants), [(tickets[1], GrantKind::Open(A))]);
}
