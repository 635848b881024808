//! What time brings about.

use super::*;
use crate::limits::{FILL_RETRY, NOTICE_AFTER};
use crate::{CloseReason, Due};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl Setup {
    /// Looks at the next time that something is due; returns how long that took.
    fn next(&mut self) -> (Duration, Due) {
        let at = self.pools.next_due(self.now).expect("something is due");
        let passed = at - self.now;
        self.now = at;
        (passed, self.pools.due(at))
    }
}

#[test]
fn a_client_is_told_once_that_it_waits_and_sent_away_in_the_end() {
    let mut setup = Setup::new(PoolSettings { query_wait_timeout: seconds(120), ..settings(1) });
    let key = setup.key("app", "web");
    let _held = setup.open(key, A);
    let ticket = setup.wait(key, &[A]);
    setup.pass(1);
    let later = setup.wait(key, &[A]);
    let (passed, due) = setup.next();
    assert_eq!((passed + seconds(1), due.notices.len()), (NOTICE_AFTER, 1));
    assert_eq!((due.notices[0].ticket, due.notices[0].queue_len), (ticket, 2));
    let (_, due) = setup.next();
    assert_eq!(due.notices.iter().map(|wait| wait.ticket).collect::<Vec<_>>(), [later]);
    assert_eq!(setup.counts(None).maxwait, seconds(6));
    let (_, due) = setup.next();
    assert!(due.notices.is_empty());
    assert_eq!(due.expired.len(), 1);
    let expired = due.expired[0];
    assert_eq!((expired.ticket, expired.waited, expired.queue_len), (ticket, seconds(120), 2));
    assert_eq!(setup.wait_state(ticket), WaitState::Over);
    assert_eq!((setup.counts(None).cl_waiting, setup.pools.totals().expired), (1, 1));
}

#[test]
fn what_was_granted_does_not_expire() {
    let mut setup = Setup::new(PoolSettings { query_wait_timeout: seconds(10), ..settings(1) });
    let key = setup.key("app", "web");
    let token = setup.open(key, A);
    let ticket = setup.wait(key, &[A]);
    setup.pass(9);
    assert!(matches!(setup.back(token, state(0)).fate, CheckedIn::GivenTo(_)));
    setup.pass(9);
    let due = setup.pools.due(setup.now);
    assert!(due.expired.is_empty() && due.notices.is_empty());
    assert!(setup.take(ticket).is_some());
}

#[test]
fn the_reserve_is_for_those_who_have_waited() {
    let reserve = PoolSettings { reserve_pool_size: 1, reserve_pool_timeout: seconds(3), ..settings(1) };
    let mut setup = Setup::new(reserve);
    let key = setup.key("app", "web");
    let _held = setup.open(key, A);
    let tickets: [_; 2] = std::array::from_fn(|_| setup.wait(key, &[A]));
    let (passed, due) = setup.next();
    assert_eq!(passed, seconds(3));
    assert_eq!(granted(&due.effects.grants), [(tickets[0], GrantKind::Open(A))]);
    let Some(Taken::Open(place)) = setup.take(tickets[0]) else { panic!("no place") };
    let token = setup.opened(0, place);
    assert!(matches!(setup.back(token, state(0)).fate, CheckedIn::GivenTo(_)));
    // Whoever comes now waits again.
    assert!(setup.take(tickets[1]).is_some());
    setup.wait(key, &[A]);
}

#[test]
fn connections_idle_too_long_are_closed_but_for_min_pool_size() {
    let keep = PoolSettings { min_pool_size: 1, server_idle_timeout: seconds(600), ..settings(3) };
    let mut setup = Setup::new(keep);
    let key = setup.key("app", "web");
    let tokens: [_; 3] = setup.open_all(key, A);
    for token in tokens {
        setup.idle(token, state(0));
        setup.pass(1);
    }
    let mut closed = Vec::new();
    while let Some(at) = setup.pools.next_due(setup.now) {
        setup.now = at;
        let due = setup.pools.due(at);
        closed.extend(due.effects.close.iter().map(|close| (close.token, close.reason)));
    }
    assert_eq!(closed, [tokens[0], tokens[1]].map(|token| (token, CloseReason::IdleTimeout)));
    // With the last client goes the reason to keep any.
    assert!(setup.pools.leave(key).is_empty());
    let (_, due) = setup.next();
    assert_eq!(due.effects.close.len(), 1);
    assert_eq!(setup.pools.counts(setup.now).count(), 0);
}

#[test]
fn a_connection_that_is_put_back_has_been_idle_since_before() {
    let mut setup = Setup::new(PoolSettings { server_idle_timeout: seconds(600), ..settings(2) });
    let key = setup.key("app", "web");
    let tokens: [_; 2] = setup.open_all(key, A);
    let ticket = setup.wait(key, &[A]);
    setup.pass(590);
    assert!(matches!(setup.back(tokens[0], state(0)).fate, CheckedIn::GivenTo(_)));
    setup.pass(10);
    assert!(setup.pools.due(setup.now).effects.is_empty(), "it is somebody's");
    setup.idle(tokens[1], state(0));
    assert!(setup.pools.cancel(ticket, setup.now).is_empty());
    for (token, wait) in tokens.into_iter().zip([590, 10]) {
        let (passed, due) = setup.next();
        assert_eq!((passed, due.effects.close.len()), (seconds(wait), 1));
        assert_eq!(due.effects.close[0].token, token);
    }
}

#[test]
fn connections_are_closed_in_the_last_tenth_of_their_lifetime_not_all_at_once() {
    let mut setup = Setup::new(PoolSettings { server_lifetime: seconds(3_600), ..settings(50) });
    let key = setup.key("app", "web");
    let tokens: [_; 50] = setup.open_all(key, A);
    let busy = tokens[0];
    tokens[1..].iter().for_each(|token| setup.idle(*token, state(0)));
    let start = setup.now;
    let mut most_at_once = 0;
    let mut closed = 0;
    while let Some(at) = setup.pools.next_due(setup.now) {
        setup.now = at;
        let due = setup.pools.due(at);
        assert!((seconds(3_240)..=seconds(3_600)).contains(&(at - start)));
        most_at_once = most_at_once.max(due.effects.close.len());
        closed += due.effects.close.len();
    }
    assert_eq!((closed, most_at_once), (49, 1));
    setup.pass(360);
    assert_eq!(setup.back(busy, state(0)).fate, CheckedIn::Close(CloseReason::Lifetime));
}

#[test]
fn a_pool_that_was_used_is_filled_up_to_min_pool_size() {
    let fill = PoolSettings { min_pool_size: 3, max_db_connections: 4, ..settings(5) };
    let mut setup = Setup::new(fill);
    let key = setup.key("app", "web");
    assert_eq!(setup.pools.due(setup.now).open, []);
    let token = setup.open(key, A);
    let mut filled = token;
    for _ in 0..2 {
        let (passed, due) = setup.next();
        assert_eq!((passed, due.open.len(), due.next), (Duration::ZERO, 1, None), "one at a time");
        assert_eq!(setup.pools.due(setup.now).open, []);
        for (place, of) in due.open {
            assert_eq!((place.server(), of), (A, key));
            filled = setup.opened(1, place);
            setup.idle(filled, state(0));
        }
    }
    assert_eq!(setup.next().1.open, [], "there are as many as are asked for");
    // A connection that ends is replaced, even the last one.
    for token in [token, filled] {
        assert!(setup.pools.closed(token).is_empty());
        let due = setup.pools.due(setup.now);
        assert_eq!(due.open.len(), 1);
        for (place, _) in due.open {
            assert!(setup.pools.unused(place).is_empty());
        }
    }
}

#[test]
fn a_pool_that_could_not_be_filled_is_tried_again_after_a_while() {
    let mut setup = Setup::new(PoolSettings { min_pool_size: 2, ..settings(5) });
    let key = setup.key("app", "web");
    let _held = setup.open(key, A);
    for _ in 0..2 {
        for (place, _) in setup.next().1.open {
            assert!(setup.pools.open_failed(place, setup.now).is_empty());
        }
        assert_eq!(setup.next().1.open, []);
        assert_eq!(setup.pools.next_due(setup.now), Some(setup.now + FILL_RETRY));
    }
    let (passed, due) = setup.next();
    assert_eq!((passed, due.open.len()), (FILL_RETRY, 1));
}

#[test]
fn who_waits_and_for_what_is_told_with_all_that_share_the_size() {
    let mut setup = Setup::new(settings(2));
    let keys = [&b"one"[..], b"two"].map(|name| setup.key_of(PoolBound::Sized, name));
    let [one, two] = keys;
    let _held: [_; 2] = setup.open_all(one, A);
    assert_eq!(setup.pools.crowd_of(two), crate::PoolCrowd::default());
    setup.wait(one, &[A]);
    setup.pass(1);
    setup.wait(two, &[A]);
    setup.wait(two, &[A]);
    for key in keys {
        assert_eq!(setup.pools.crowd_of(key), crate::PoolCrowd { waiting: 3, connections: 2 });
    }
    setup.pass(1);
    let waits =
        |than| setup.pools.longest_waits(seconds(than), setup.now).map(|wait| (wait.waiting, wait.maxwait));
    assert_eq!(waits(1).collect::<Vec<_>>(), [(1, seconds(2))]);
    assert_eq!(waits(0).count(), 2);
    assert_eq!(waits(2).count(), 0);
}

#[test]
fn no_limit_is_exceeded_and_nobody_evicted_to_fill_a_pool() {
    let fill = PoolSettings { min_pool_size: 2, max_db_connections: 2, ..settings(5) };
    let mut setup = Setup::new(fill);
    let [web, batch] = ["web", "batch"].map(|user| setup.key("app", user));
    for key in [web, batch] {
        let token = setup.open(key, A);
        setup.idle(token, state(0));
    }
    let due = setup.pools.due(setup.now);
    assert_eq!((due.open, due.effects, due.next), (Vec::new(), Effects::default(), None));
}

#[test]
fn a_retired_server_is_not_filled() {
    let mut setup = Setup::new(PoolSettings { min_pool_size: 1, ..settings(5) });
    let [key, other] = ["web", "batch"].map(|user| setup.key("app", user));
    let token = setup.open(key, A);
    setup.idle(token, state(0));
    let late = setup.place(other, A);
    assert_eq!(setup.pools.retire(A).close.len(), 1);
    assert_eq!(setup.pools.due(setup.now).open, []);
    // Nor by what was under way.
    let late = setup.opened(0, late);
    assert_eq!(setup.back(late, state(0)).fate, CheckedIn::Close(CloseReason::Retired));
    assert_eq!(setup.pools.due(setup.now).open, []);
    assert_eq!(setup.counts(Some(A)), crate::PoolCounts::default());
}
