//! Who is served when.

use super::*;
use crate::CloseReason;
use crate::limits::{NEAR_PASSES, NEAR_WAIT};

#[test]
fn who_has_waited_longest_is_served_first() {
    let mut setup = Setup::new(settings(1));
    let key = setup.key("app", "web");
    let token = setup.open(key, A);
    let tickets: [_; 3] = std::array::from_fn(|_| setup.wait(key, &[A]));
    for ticket in tickets {
        let CheckedIn::GivenTo(grant) = setup.back(token, state(0)).fate else { panic!("nobody got it") };
        assert_eq!((grant.ticket, grant.client), (ticket, 7));
        assert!(matches!(setup.take(ticket), Some(Taken::Idle(given)) if given.token == token));
    }
    setup.idle(token, state(0));
    assert_eq!((setup.pools.totals().waited, setup.pools.totals().granted), (3, 3));
}

/// Who gets the connection that comes back, and takes it.
fn served(setup: &mut Setup, token: ConnectionToken) -> Ticket {
    let CheckedIn::GivenTo(grant) = setup.back(token, state(0)).fate else { panic!("nobody got it") };
    assert!(matches!(setup.take(grant.ticket), Some(Taken::Idle(given)) if given.token == token));
    grant.ticket
}

#[test]
fn clients_of_the_connections_worker_pass_another_so_often() {
    let mut setup = Setup::new(settings(1));
    let key = setup.key("app", "web");
    let token = setup.open(key, A);
    let far = setup.wait_on(1, key, &[A]);
    setup.now += NEAR_WAIT;
    let near: Vec<Ticket> = (0..=NEAR_PASSES).map(|_| setup.wait(key, &[A])).collect();
    let (last, passing) = near.split_last().expect("one more than may pass");
    for ticket in passing {
        assert_eq!(served(&mut setup, token), *ticket);
    }
    assert_eq!([served(&mut setup, token), served(&mut setup, token)], [far, *last]);
}

#[test]
fn who_came_too_late_passes_nobody() {
    let mut setup = Setup::new(settings(1));
    let key = setup.key("app", "web");
    let token = setup.open(key, A);
    let far = setup.wait_on(1, key, &[A]);
    setup.now += NEAR_WAIT + Duration::from_nanos(1);
    let near = setup.wait(key, &[A]);
    assert_eq!([served(&mut setup, token), served(&mut setup, token)], [far, near]);
}

#[test]
fn only_those_are_served_whose_candidate_the_server_is() {
    let mut setup = Setup::new(settings(1));
    let key = setup.key("app", "web");
    let [on_a, on_b] = [A, B].map(|server| setup.open(key, server));
    let first = setup.wait(key, &[A]);
    let second = setup.wait(key, &[A, B]);
    let CheckedIn::GivenTo(grant) = setup.back(on_b, state(0)).fate else { panic!("nobody got it") };
    assert_eq!(grant.ticket, second);
    let CheckedIn::GivenTo(grant) = setup.back(on_a, state(0)).fate else { panic!("nobody got it") };
    assert_eq!(grant.ticket, first);
}

#[test]
fn a_connection_that_does_not_fit_the_first_is_closed_for_it() {
    let mut setup = Setup::new(settings(1));
    let key = setup.key("app", "web");
    let token = setup.open(key, A);
    let ticket = setup.wait(key, &[A]);
    let back = setup.back(token, marked(1));
    assert_eq!(back.fate, CheckedIn::Close(CloseReason::Evicted));
    assert_eq!(granted(&back.effects.grants), [(ticket, GrantKind::Open(A))]);
    assert!(back.effects.close.is_empty());
    assert!(matches!(setup.take(ticket), Some(Taken::Open(place)) if place.server() == A));
}

#[test]
fn a_place_that_was_not_used_goes_to_the_next() {
    let mut setup = Setup::new(settings(1));
    let key = setup.key("app", "web");
    let place = setup.place(key, A);
    let ticket = setup.wait(key, &[A]);
    let effects = setup.pools.open_failed(place, setup.now);
    assert_eq!(granted(&effects.grants), [(ticket, GrantKind::Open(A))]);
    let Some(Taken::Open(place)) = setup.take(ticket) else { panic!("no place") };
    let token = setup.opened(0, place);
    let next = setup.wait(key, &[A]);
    assert_eq!(granted(&setup.pools.closed(token).grants), [(next, GrantKind::Open(A))]);
    assert_eq!(setup.pools.totals().open_failed, 1);
}

#[test]
fn pools_that_share_a_limit_take_turns() {
    let mut setup = Setup::new(PoolSettings { max_db_connections: 1, ..settings(5) });
    let [busy, quiet] = ["busy", "quiet"].map(|user| setup.key("app", user));
    let mut token = setup.open(busy, A);
    let crowd: Vec<Ticket> = (0..6).map(|_| setup.wait(busy, &[A])).collect();
    let few: Vec<Ticket> = (0..2).map(|_| setup.wait(quiet, &[A])).collect();
    let mut order = Vec::new();
    for _ in 0..8 {
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
    assert_eq!(order[..4], [crowd[0], few[0], crowd[1], few[1]]);
    assert_eq!(order[4..], crowd[2..]);
}

#[test]
fn new_keys_do_not_overtake_those_that_wait() {
    let mut setup = Setup::new(PoolSettings { max_user_connections: 1, ..settings(5) });
    let key = setup.key("app", "web");
    let token = setup.open(key, A);
    let patient: [_; 3] = std::array::from_fn(|_| setup.wait(key, &[A]));
    // Its pool has had its turn, that of the strangers has not.
    assert!(
        matches!(setup.back(token, state(0)).fate, CheckedIn::GivenTo(grant) if grant.ticket == patient[0])
    );
    assert!(setup.take(patient[0]).is_some());
    let stranger =
        setup.pools.join(&PoolKey::new("app", "web", PoolBound::Sized, 1, b"own")).expect("few keys");
    let turn = setup.wait(stranger, &[A]);
    assert!(
        matches!(setup.back(token, state(0)).fate, CheckedIn::GivenTo(grant) if grant.ticket == patient[1])
    );
    assert!(setup.take(patient[1]).is_some());
    // And now it is theirs.
    let back = setup.back(token, state(0));
    assert_eq!(granted(&back.effects.grants), [(turn, GrantKind::Open(A))]);
}

#[test]
fn a_grant_that_is_lost_leaves_the_client_its_place_in_the_queue() {
    let mut setup = Setup::new(settings(2));
    let key = setup.key("app", "web");
    let [lost, other] = setup.open_all(key, A);
    let [first, second] = std::array::from_fn(|_| setup.wait(key, &[A]));
    assert!(matches!(setup.back(lost, state(0)).fate, CheckedIn::GivenTo(grant) if grant.ticket == first));
    // Its place is free by that, for the same client.
    assert_eq!(granted(&setup.pools.closed(lost).grants), [(first, GrantKind::Open(A))]);
    assert!(matches!(setup.take(first), Some(Taken::Open(_))));
    assert!(matches!(setup.back(other, state(0)).fate, CheckedIn::GivenTo(grant) if grant.ticket == second));
}

#[test]
fn a_lost_grant_with_nothing_in_its_place_is_waited_for_again() {
    let mut setup = Setup::new(settings(1));
    let key = setup.key("app", "web");
    let token = setup.open(key, A);
    let ticket = setup.wait(key, &[A]);
    assert!(matches!(setup.back(token, state(0)).fate, CheckedIn::GivenTo(_)));
    assert!(setup.pools.reconfigure(settings(0)).is_empty());
    assert!(setup.pools.closed(token).is_empty());
    assert_eq!(setup.wait_state(ticket), WaitState::Waiting);
    let effects = setup.pools.reconfigure(settings(1));
    assert_eq!(granted(&effects.grants), [(ticket, GrantKind::Open(A))]);
}

#[test]
fn a_client_that_vanishes_gives_back_what_it_was_granted() {
    let mut setup = Setup::new(settings(1));
    let key = setup.key("app", "web");
    let token = setup.open(key, A);
    let [first, second, third] = std::array::from_fn(|_| setup.wait(key, &[A]));
    assert!(matches!(setup.back(token, state(0)).fate, CheckedIn::GivenTo(grant) if grant.ticket == first));
    assert!(setup.pools.cancel(second, setup.now).is_empty());
    let effects = setup.pools.cancel(first, setup.now);
    assert_eq!(granted(&effects.grants), [(third, GrantKind::Idle(token))]);
    assert!(setup.pools.cancel(third, setup.now).is_empty());
    assert_eq!(setup.given(key, &[A], state(0)).token, token);
}

#[test]
fn other_candidates_may_end_a_wait_at_once() {
    let mut setup = Setup::new(settings(1));
    let key = setup.key("app", "web");
    let _held = setup.open(key, A);
    let ticket = setup.wait(key, &[A]);
    let none = setup.wait(key, &[]);
    assert!(setup.pools.set_candidates(ticket, &[A]).is_empty());
    let effects = setup.pools.set_candidates(ticket, &[A, B]);
    assert_eq!(granted(&effects.grants), [(ticket, GrantKind::Open(B))]);
    // It is for the first who wants it, not for whom it was said first.
    assert!(setup.pools.set_candidates(none, &[B]).is_empty());
}

#[test]
fn other_candidates_are_those_that_count_and_the_place_in_the_queue_stays() {
    let mut setup = Setup::new(settings(1));
    let key = setup.key("app", "web");
    let [on_a, on_b] = [A, B].map(|server| setup.open(key, server));
    let [first, second] = std::array::from_fn(|_| setup.wait(key, &[A]));
    assert!(setup.pools.set_candidates(second, &[A, B]).is_empty());
    assert!(setup.pools.set_candidates(first, &[B]).is_empty());
    assert!(setup.pools.set_candidates(first, &[B, A]).is_empty());
    assert!(setup.pools.set_candidates(second, &[B]).is_empty());
    let CheckedIn::GivenTo(grant) = setup.back(on_b, state(0)).fate else { panic!("nobody got it") };
    assert_eq!(grant.ticket, first);
    // Nobody has it for a candidate now.
    setup.idle(on_a, state(0));
}

#[test]
fn a_wait_that_has_ended_is_over() {
    let mut setup = Setup::new(settings(1));
    let key = setup.key("app", "web");
    let token = setup.open(key, A);
    let [taken, cancelled] = std::array::from_fn(|_| setup.wait(key, &[A]));
    assert_eq!(setup.wait_state(taken), WaitState::Waiting);
    assert!(matches!(setup.back(token, state(0)).fate, CheckedIn::GivenTo(_)));
    assert!(matches!(setup.wait_state(taken), WaitState::Ready(Taken::Idle(_))));
    assert!(setup.pools.cancel(cancelled, setup.now).is_empty());
    assert_eq!([taken, cancelled].map(|ticket| setup.wait_state(ticket)), [WaitState::Over, WaitState::Over]);
}

#[test]
fn what_is_evicted_for_one_may_free_another_limit_for_the_next() {
    let limits = PoolSettings { max_db_connections: 1, max_user_connections: 1, ..settings(1) };
    let mut setup = Setup::new(limits);
    let first = setup.key("app", "web");
    let [same_database, same_user] = [setup.key("app", "batch"), setup.key("logs", "web")];
    let token = setup.open(first, A);
    let tickets = [setup.wait(same_database, &[A]), setup.wait(same_user, &[A])];
    let back = setup.back(token, state(0));
    assert_eq!(back.fate, CheckedIn::Close(CloseReason::Evicted));
    let grants = granted(&back.effects.grants);
    assert_eq!(grants, tickets.map(|ticket| (ticket, GrantKind::Open(A))));
}
