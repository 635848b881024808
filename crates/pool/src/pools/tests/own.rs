//! Connections that are one client's own.

use super::*;
use crate::CloseReason;

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
