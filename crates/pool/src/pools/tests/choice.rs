//! Which connection a client gets.

use super::*;
use crate::{CloseReason, ServerLimit, ToClose};

fn evicted(token: ConnectionToken) -> ToClose {
    ToClose { token, server: A, reason: CloseReason::Evicted }
}

#[test]
fn the_asked_state_comes_before_the_own_worker_and_that_before_the_one_used_last() {
    let mut setup = Setup::new(settings(5));
    let key = setup.key("app", "web");
    let places: [_; 4] = std::array::from_fn(|_| setup.place(key, A));
    let mut workers = [0, 1, 0, 1].into_iter();
    let tokens = places.map(|place| setup.opened(workers.next().expect("four"), place));
    for (token, carried) in tokens.into_iter().zip([1, 1, 2, 2]) {
        setup.pass(1);
        setup.idle(token, state(carried));
    }
    // Newest first, that is 3, 2, 1, 0, on the workers 1, 0, 1, 0.
    assert_eq!(setup.given(key, &[A], state(1)).token, tokens[0], "state and worker");
    assert_eq!(setup.given(key, &[A], state(1)).token, tokens[1], "state");
    assert_eq!(setup.given(key, &[A], state(1)).token, tokens[2], "worker");
    assert_eq!(setup.given(key, &[A], state(1)).token, tokens[3], "what is left");
    assert_eq!(setup.pools.totals().reused, 4);
}

#[test]
fn of_equal_ones_the_one_used_last_is_taken() {
    let mut setup = Setup::new(settings(3));
    let key = setup.key("app", "web");
    let tokens: [_; 3] = setup.open_all(key, A);
    for token in [tokens[1], tokens[2], tokens[0]] {
        setup.idle(token, state(0));
    }
    assert_eq!(setup.given(key, &[A], state(0)).token, tokens[0]);
    assert_eq!(setup.given(key, &[A], state(0)).token, tokens[2]);
}

#[test]
fn balance_goes_before_warmth() {
    let mut setup = Setup::new(settings(1));
    let key = setup.key("app", "web");
    let warm = setup.open(key, B);
    setup.idle(warm, state(0));
    let CheckOut::Open { place, .. } = setup.ask(key, &[A, B], state(0)) else { panic!("A has room") };
    assert_eq!(place.server(), A);
    // Now it has none.
    assert_eq!(setup.given(key, &[A, B], state(0)).token, warm);
}

#[test]
fn a_connection_that_cannot_be_brought_to_the_state_is_not_given() {
    let mut setup = Setup::new(settings(2));
    let key = setup.key("app", "web");
    let token = setup.open(key, A);
    setup.idle(token, marked(1));
    drop(setup.place(key, A));
    assert_eq!(setup.given(key, &[A], state(1)).token, token, "it is in that state");
}

#[test]
fn idle_ones_that_do_not_fit_make_room_the_oldest_first() {
    let mut setup = Setup::new(settings(2));
    let key = setup.key("app", "web");
    let tokens: [_; 2] = setup.open_all(key, A);
    setup.idle(tokens[1], marked(1));
    setup.pass(1);
    setup.idle(tokens[0], marked(1));
    let CheckOut::Open { effects, .. } = setup.ask(key, &[A], state(0)) else { panic!("no place") };
    assert_eq!(effects.close, [evicted(tokens[1])]);
    // Its worker has not read that yet.
    assert_eq!(setup.pools.closed(tokens[1]), Effects::default());
}

#[test]
fn at_the_limit_of_a_database_the_one_idle_longest_is_closed() {
    let mut setup = Setup::new(PoolSettings { max_db_connections: 3, ..settings(2) });
    let [web, batch] = ["web", "batch"].map(|user| setup.key("app", user));
    let other_database = setup.key("logs", "batch");
    let tokens: [_; 2] = setup.open_all(web, A);
    let own = setup.open(batch, A);
    for token in [tokens[1], own, tokens[0]] {
        setup.idle(token, marked(1));
        setup.pass(1);
    }
    drop(setup.place(other_database, A));
    drop(setup.place(batch, B));
    let CheckOut::Open { effects, .. } = setup.ask(batch, &[A], state(0)) else { panic!("no place") };
    assert_eq!(effects.close, [evicted(tokens[1])]);
}

#[test]
fn at_the_limits_of_database_and_user_one_that_counts_for_both_is_closed_or_one_of_each() {
    let limits = PoolSettings { max_db_connections: 2, max_user_connections: 2, ..settings(2) };
    let mut setup = Setup::new(limits);
    let of_database = setup.key("app", "batch");
    let of_user = setup.key("logs", "web");
    let both =
        setup.pools.join(&PoolKey::new("app", "web", PoolBound::Sized, 1, b"other")).expect("few keys");
    let keys = [of_database, of_user, both];
    let tokens = keys.map(|key| setup.open(key, A));
    for token in tokens {
        setup.idle(token, state(0));
        setup.pass(1);
    }
    let asks = setup.key("app", "web");
    let CheckOut::Open { effects, place } = setup.ask(asks, &[A], state(0)) else { panic!("no place") };
    assert_eq!(effects.close, [evicted(tokens[2])]);
    let token = setup.opened(0, place);
    // The same again, but its own one is in use.
    let CheckOut::Open { effects, .. } = setup.ask(asks, &[A], state(0)) else { panic!("no place") };
    assert_eq!(effects.close, [evicted(tokens[0]), evicted(tokens[1])]);
    assert_eq!(setup.back(token, state(0)).fate, CheckedIn::Idle);
}

#[test]
fn an_idle_connection_is_checked_after_server_check_delay() {
    let mut setup = Setup::new(settings(1));
    let key = setup.key("app", "web");
    let token = setup.open(key, A);
    setup.idle(token, state(0));
    setup.pass(29);
    assert_eq!(setup.given(key, &[A], state(0)).check, crate::CheckFirst::Unneeded);
    setup.idle(token, state(0));
    setup.pass(30);
    assert_eq!(setup.counts(Some(A)).sv_used, 1);
    assert_eq!(setup.given(key, &[A], state(0)).check, crate::CheckFirst::Needed);
    assert_eq!((setup.counts(Some(A)).sv_tested, setup.counts(Some(A)).sv_active), (1, 0));
    setup.pools.checked(token);
    assert_eq!((setup.counts(Some(A)).sv_tested, setup.counts(Some(A)).sv_active), (0, 1));
}

#[test]
fn a_connection_with_the_marks_of_a_client_is_taken_before_one_that_fits_others_too() {
    let mut setup = Setup::new(settings(2));
    let key = setup.key("app", "web");
    let [marked_one, plain] = setup.open_all(key, A);
    setup.idle(marked_one, marked(1));
    setup.pass(1);
    setup.idle(plain, state(3));
    let fits_all = |_: &CarriedState, _: &CarriedState| true;
    let ask = PoolAsk { key, candidates: &[A], state: marked(2), fits: fits_all, worker: 0, client: 7 };
    let CheckOut::Idle(given) = setup.pools.check_out(&ask, setup.now) else { panic!("both fit") };
    assert_eq!(given.token, marked_one, "the other was used last");
}

#[test]
fn a_limit_of_the_server_closes_what_was_idle_longest_and_counts_against_it() {
    let mut setup = Setup::new(settings(5));
    let [own, of_role, of_database, other] =
        [("app", "web"), ("log", "web"), ("app", "job"), ("log", "job")].map(|(d, u)| setup.key(d, u));
    let elsewhere = setup.open(other, B);
    setup.idle(elsewhere, state(0));
    for key in [other, of_database, of_role] {
        setup.pass(1);
        let token = setup.open(key, A);
        setup.idle(token, state(0));
    }
    let tokens: Vec<u32> = vec![2, 3, 4];
    let place = setup.place(own, A);
    let mut room = |limit| setup.pools.make_room(own, A, limit).map(|effects| effects.close);
    let slot =
        |closed: Option<Vec<ToClose>>| closed.map(|closed| closed.iter().map(|it| it.token.slot).collect());
    assert_eq!(slot(room(ServerLimit::User)), Some(vec![tokens[2]]));
    assert_eq!(slot(room(ServerLimit::User)), None::<Vec<u32>>, "no other is the role's");
    assert_eq!(slot(room(ServerLimit::Database)), Some(vec![tokens[1]]));
    assert_eq!(slot(room(ServerLimit::All)), Some(vec![tokens[0]]));
    assert_eq!(slot(room(ServerLimit::All)), None::<Vec<u32>>, "the last is on another server");
    let _effects = setup.pools.unused(place);
}

#[test]
fn what_min_pool_size_keeps_makes_no_room() {
    let mut setup = Setup::new(PoolSettings { min_pool_size: 1, ..settings(5) });
    let (own, other) = (setup.key("app", "web"), setup.key("log", "web"));
    let (oldest, newest) = (setup.open(other, A), setup.open(other, A));
    setup.idle(oldest, state(0));
    setup.pass(1);
    setup.idle(newest, state(0));
    let place = setup.place(own, A);
    let effects = setup.pools.make_room(own, A, ServerLimit::User).expect("one is beyond what is kept");
    assert_eq!(effects.close, [evicted(oldest)]);
    let more = setup.pools.make_room(own, A, ServerLimit::User);
    assert!(more.is_none(), "it would be opened again at once: {more:?}");
    let _effects = setup.pools.unused(place);
}
