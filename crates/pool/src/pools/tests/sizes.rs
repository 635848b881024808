//! What `pool_size` bounds: the keys of a database and user together, or what is idle of them.

use super::*;
use crate::{CloseReason, ToClose};

fn closes(token: ConnectionToken, reason: CloseReason) -> ToClose {
    ToClose { token, server: A, reason }
}

#[test]
fn keys_of_a_database_and_user_share_the_size() {
    let mut setup = Setup::new(settings(2));
    let [one, other] = [b"one".as_slice(), b"other"].map(|name| setup.key_of(PoolBound::Sized, name));
    let _held = setup.open(one, A);
    let token = setup.open(other, A);
    let third = setup.key_of(PoolBound::Sized, b"third");
    let ticket = setup.wait(third, &[A]);
    // Other users, databases and servers have their own.
    for (database, user) in [("app", "batch"), ("logs", "web")] {
        let key = setup.key(database, user);
        setup.open(key, A);
    }
    setup.open(third, B);
    assert_eq!(granted(&setup.pools.closed(token).grants), [(ticket, GrantKind::Open(A))]);
}

#[test]
fn where_the_size_is_reached_the_one_idle_longest_of_all_keys_makes_room() {
    let mut setup = Setup::new(settings(3));
    let [one, other] = [b"one".as_slice(), b"other"].map(|name| setup.key_of(PoolBound::Sized, name));
    let own = setup.open(one, A);
    let tokens: [_; 2] = setup.open_all(other, A);
    for token in [tokens[1], own, tokens[0]] {
        setup.idle(token, marked(1));
        setup.pass(1);
    }
    let CheckOut::Open { effects, place } = setup.ask(one, &[A], state(0)) else { panic!("no place") };
    assert_eq!(effects.close, [closes(tokens[1], CloseReason::Evicted)]);
    setup.opened(0, place);
    let CheckOut::Open { effects, .. } = setup.ask(one, &[A], state(0)) else { panic!("no place") };
    assert_eq!(effects.close, [closes(own, CloseReason::Evicted)]);
}

#[test]
fn keys_that_share_the_size_take_turns() {
    let mut setup = Setup::new(settings(1));
    let [busy, quiet] = [b"busy".as_slice(), b"quiet"].map(|name| setup.key_of(PoolBound::Sized, name));
    let mut token = setup.open(busy, A);
    let crowd: [_; 4] = std::array::from_fn(|_| setup.wait(busy, &[A]));
    let few: [_; 2] = std::array::from_fn(|_| setup.wait(quiet, &[A]));
    let mut order = Vec::new();
    for _ in 0..6 {
        let back = setup.back(token, state(0));
        let grant = match back.fate {
            CheckedIn::GivenTo(grant) => grant,
            CheckedIn::Close(CloseReason::Evicted) => back.effects.grants[0],
            other => panic!("{other:?}: nobody got it"),
        };
        order.push(grant.ticket);
        token = match setup.take(grant.ticket) {
            Some(Taken::Idle(given)) => given.token,
            Some(Taken::Open(place)) => setup.opened(0, place),
            None => panic!("nothing was granted"),
        };
    }
    assert_eq!(order, [crowd[0], few[0], crowd[1], few[1], crowd[2], crowd[3]]);
}

#[test]
fn a_smaller_size_closes_what_is_idle_of_all_keys() {
    let mut setup = Setup::new(settings(3));
    let [one, other] = [b"one".as_slice(), b"other"].map(|name| setup.key_of(PoolBound::Sized, name));
    let [first, held] = setup.open_all(one, A);
    let second = setup.open(other, A);
    for token in [first, second] {
        setup.idle(token, state(0));
        setup.pass(1);
    }
    let effects = setup.pools.reconfigure(settings(2));
    assert_eq!(effects.close, [closes(first, CloseReason::PoolSize)]);
    let effects = setup.pools.reconfigure(settings(0));
    assert_eq!(effects.close, [closes(second, CloseReason::PoolSize)]);
    assert_eq!(setup.back(held, state(0)).fate, CheckedIn::Close(CloseReason::PoolSize));
}

#[test]
fn min_pool_size_is_that_of_all_keys_together() {
    let keep = PoolSettings { min_pool_size: 2, server_idle_timeout: Duration::from_secs(60), ..settings(5) };
    let mut setup = Setup::new(keep);
    let [one, other] = [b"one".as_slice(), b"other"].map(|name| setup.key_of(PoolBound::Sized, name));
    for key in [one, other] {
        let tokens: [_; 2] = setup.open_all(key, A);
        tokens.into_iter().for_each(|token| setup.idle(token, state(0)));
    }
    setup.pass(60);
    let due = setup.pools.due(setup.now);
    assert_eq!((due.effects.close.len(), due.open.len()), (2, 0));
}

#[test]
fn each_client_of_an_unlimited_key_has_a_connection_and_so_many_as_the_size_are_kept() {
    let mut setup = Setup::new(settings(2));
    let [one, other] = [b"one".as_slice(), b"other"].map(|name| setup.key_of(PoolBound::Unlimited, name));
    let tokens: [_; 3] = setup.open_all(one, A);
    let late: [_; 2] = setup.open_all(other, A);
    // They are not counted against the others.
    let sized = setup.key_of(PoolBound::Sized, b"one");
    let counted: [_; 2] = setup.open_all(sized, A);
    let ticket = setup.wait(sized, &[A]);
    setup.idle(tokens[0], state(0));
    setup.idle(late[0], state(0));
    setup.pass(1);
    for token in [tokens[1], late[1]] {
        let back = setup.back(token, state(0));
        assert_eq!(back.fate, CheckedIn::Close(CloseReason::PoolSize));
        assert!(back.effects.is_empty());
    }
    assert!(
        matches!(setup.back(counted[0], state(0)).fate, CheckedIn::GivenTo(grant) if grant.ticket == ticket)
    );
    // One that a client has is not idle.
    assert_eq!(setup.given(one, &[A], state(0)).token, tokens[0]);
    setup.idle(tokens[2], state(0));
    let effects = setup.pools.reconfigure(settings(1));
    assert_eq!(effects.close, [closes(late[0], CloseReason::PoolSize)]);
}

#[test]
fn limits_of_database_and_user_bound_unlimited_keys_too() {
    let mut setup = Setup::new(PoolSettings { max_user_connections: 2, ..settings(0) });
    let key = setup.key_of(PoolBound::Unlimited, b"");
    let [token, _held] = setup.open_all(key, A);
    let ticket = setup.wait(key, &[A]);
    assert!(matches!(setup.back(token, state(0)).fate, CheckedIn::GivenTo(grant) if grant.ticket == ticket));
    assert_eq!(setup.pools.cancel(ticket, setup.now).close, [closes(token, CloseReason::PoolSize)]);
}
