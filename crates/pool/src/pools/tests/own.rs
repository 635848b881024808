//! Connections that are one client's own.

use super::*;
use crate::limits::KEYS_MAX;
use crate::{CloseReason, PoolRefusal};

/// Limits that nothing of a pool would pass, and times that end everything.
fn strict() -> PoolSettings {
    PoolSettings {
        min_pool_size: 1,
        max_db_connections: 1,
        max_user_connections: 1,
        server_idle_timeout: Duration::from_secs(60),
        server_lifetime: Duration::from_secs(60),
        ..settings(1)
    }
}

fn closed(effects: &Effects) -> Vec<(ConnectionToken, CloseReason)> {
    assert!(effects.grants.is_empty());
    effects.close.iter().map(|close| (close.token, close.reason)).collect()
}

impl Setup {
    fn own(&mut self, client: u8) -> PoolId {
        self.key_of(PoolBound::Own, &[client])
    }
}

#[test]
fn neither_limits_nor_times_of_pools_end_them_and_no_other_gets_them() {
    let mut setup = Setup::new(strict());
    let [one, other] = [1, 2].map(|client| setup.own(client));
    let tokens = [setup.open(one, A), setup.open(one, B), setup.open(other, A)];
    tokens.into_iter().for_each(|token| setup.idle(token, state(0)));
    setup.pass(3600);
    let due = setup.pools.due(setup.now);
    assert!(due.effects.is_empty() && due.open.is_empty(), "{due:?}");
    assert!(setup.pools.reconfigure(strict()).is_empty());
    setup.pass(3600);
    assert!(setup.pools.due(setup.now).effects.is_empty(), "a reload makes them no older");
    // They keep nobody out either.
    let shared = setup.key("app", "web");
    let of_pool = setup.open(shared, A);
    let given = |setup: &mut Setup, key, server| setup.given(key, &[server], state(0)).token;
    assert_eq!([given(&mut setup, one, A), given(&mut setup, one, B), given(&mut setup, other, A)], tokens);
    assert_eq!(setup.pools.make_room(shared, A, crate::ServerLimit::All), None);
    setup.idle(tokens[2], state(0));
    assert_eq!(setup.pools.make_room(shared, A, crate::ServerLimit::All), None, "nor make they room");
    setup.idle(of_pool, state(0));
    assert_eq!(setup.pools.totals().opened, 1, "what is counted is the pools'");
    assert_eq!(setup.pools.counts(setup.now).count(), 2, "and so is what is shown");
}

#[test]
fn there_is_one_to_each_server() {
    let mut setup = Setup::new(settings(20));
    let key = setup.own(1);
    let first = setup.open(key, A);
    // Somebody asks a question on it.
    let ticket = setup.wait(key, &[A]);
    let back = setup.back(first, state(0));
    assert!(matches!(back.fate, CheckedIn::GivenTo(grant) if grant.ticket == ticket), "{back:?}");
    assert!(matches!(setup.take(ticket), Some(Taken::Idle(given)) if given.token == first));
    setup.idle(first, marked(1));
    // It does not fit any more.
    let CheckOut::Open { place, effects } = setup.ask(key, &[A], state(0)) else { panic!("no place") };
    assert_eq!(closed(&effects), [(first, CloseReason::Evicted)]);
    let second = setup.opened(0, place);
    setup.idle(second, state(0));
    assert!(setup.pools.close_own(key, B).is_empty());
    assert_eq!(closed(&setup.pools.close_own(key, A)), [(second, CloseReason::Left)]);
    let shared = setup.key("app", "web");
    let token = setup.open(shared, A);
    setup.idle(token, state(0));
    assert!(setup.pools.close_own(shared, A).is_empty(), "it is no client's own");
}

#[test]
fn all_of_them_are_closed_when_their_client_leaves() {
    let mut setup = Setup::new(settings(20));
    let key = setup.own(1);
    let [idle, asked] = [setup.open(key, A), setup.open(key, B)];
    setup.idle(idle, state(0));
    assert_eq!(closed(&setup.pools.leave(key)), [(idle, CloseReason::Left)]);
    assert_eq!(setup.back(asked, state(0)).fate, CheckedIn::Close(CloseReason::Left));
    assert_eq!(setup.pools.servers().count(), 0);
    assert!(!setup.pools.is_own(key), "its key is forgotten");
}

#[test]
fn one_that_is_in_use_is_closed_as_soon_as_another_has_its_place_and_it_comes_back() {
    let mut setup = Setup::new(settings(20));
    let key = setup.own(1);
    let on_primary = setup.open(key, A);
    let asked = setup.open(key, B);
    // It is asked for a position while its client turns to another standby.
    assert!(setup.pools.close_own(key, B).is_empty());
    let other = setup.open(key, ServerId(2));
    assert_eq!(setup.back(asked, state(0)).fate, CheckedIn::Close(CloseReason::Left));
    setup.idle(on_primary, state(0));
    setup.idle(other, state(0));
    assert_eq!(setup.pools.servers().count(), 2);
    // The next one there is a new one, and stays.
    let again = setup.open(key, B);
    setup.idle(again, marked(1));
    // Not so one that was sought before.
    let CheckOut::Open { place, effects } = setup.ask(key, &[B], state(0)) else { panic!("no place") };
    assert_eq!(closed(&effects), [(again, CloseReason::Evicted)]);
    assert!(setup.pools.close_own(key, B).is_empty());
    let late = setup.opened(0, place);
    assert_eq!(setup.back(late, state(0)).fate, CheckedIn::Close(CloseReason::Left));
}

#[test]
fn who_waits_for_one_that_is_closed_opens_another() {
    let mut setup = Setup::new(settings(20));
    let key = setup.own(1);
    let asked = setup.open(key, A);
    assert!(setup.pools.close_own(key, A).is_empty());
    let ticket = setup.wait(key, &[A]);
    let back = setup.back(asked, state(0));
    assert_eq!(back.fate, CheckedIn::Close(CloseReason::Left));
    assert!(back.effects.grants.iter().any(|grant| grant.ticket == ticket), "{back:?}");
    let Some(Taken::Open(place)) = setup.take(ticket) else { panic!("no place") };
    let next = setup.opened(0, place);
    setup.idle(next, state(0));
}

#[test]
fn clients_with_their_own_leave_pools_and_their_keys_to_others() {
    let mut pools = Pools::new(settings(1));
    let key = |client: usize, bound| PoolKey::new("app", "web", bound, client as u64, &client.to_ne_bytes());
    let own: Vec<PoolId> =
        (0..=KEYS_MAX).map(|client| pools.join(&key(client, PoolBound::Own)).expect("it has room")).collect();
    let shared: Vec<PoolId> = (0..KEYS_MAX)
        .map(|client| pools.join(&key(client, PoolBound::Sized)).expect("it has room, too"))
        .collect();
    let one_more = || key(KEYS_MAX, PoolBound::Sized);
    assert_eq!(pools.join(&one_more()), Err(PoolRefusal::TooManyPools));
    own.into_iter().for_each(|id| assert!(pools.leave(id).is_empty()));
    assert_eq!(pools.join(&one_more()), Err(PoolRefusal::TooManyPools), "they have made no room");
    assert!(pools.leave(shared[0]).is_empty());
    assert!(pools.join(&one_more()).is_ok());
}
