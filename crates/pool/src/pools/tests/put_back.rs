//! Connections that come back as they were given.

use super::*;
use crate::{CheckFirst, CloseReason};

impl Setup {
    fn untouched(&mut self, token: ConnectionToken) -> CheckedIn {
        let back = self.pools.put_back(token, self.now);
        assert!(back.effects.is_empty());
        back.fate
    }
}

#[test]
fn an_untouched_connection_has_been_idle_since_before_and_is_checked_again() {
    let mut setup = Setup::new(settings(1));
    let key = setup.key("app", "web");
    let token = setup.open(key, A);
    setup.idle(token, state(5));
    setup.pass(20);
    assert_eq!(setup.given(key, &[A], state(5)).check, CheckFirst::Unneeded);
    assert_eq!(setup.untouched(token), CheckedIn::Idle);
    setup.pass(10);
    for _ in 0..2 {
        let given = setup.given(key, &[A], state(0));
        assert_eq!((given.check, given.state), (CheckFirst::Needed, state(5)));
        assert_eq!(setup.untouched(token), CheckedIn::Idle);
        assert_eq!((setup.counts(Some(A)).sv_used, setup.counts(Some(A)).sv_tested), (1, 0));
    }
    assert_eq!(setup.untouched(token), CheckedIn::Idle, "nobody has it");
}

#[test]
fn an_untouched_connection_goes_to_its_old_place_among_the_idle_ones_and_is_closed_in_time() {
    let timeout = Duration::from_secs(60);
    let mut setup = Setup::new(PoolSettings { server_idle_timeout: timeout, ..settings(2) });
    let key = setup.key("app", "web");
    let [old, new] = setup.open_all(key, A);
    setup.idle(old, state(1));
    setup.pass(10);
    setup.idle(new, state(2));
    assert_eq!(setup.given(key, &[A], state(1)).token, old);
    // The look at that time finds it in use.
    setup.pass(49);
    assert!(setup.pools.due(setup.now).effects.is_empty());
    assert_eq!(setup.untouched(old), CheckedIn::Idle);
    assert_eq!(setup.pools.next_due(setup.now), Some(setup.now + Duration::from_secs(1)));
    assert_eq!(setup.given(key, &[A], state(0)).token, new, "the one used last");
}

#[test]
fn an_untouched_connection_serves_those_who_have_waited() {
    let mut setup = Setup::new(settings(1));
    let key = setup.key("app", "web");
    let token = setup.open(key, A);
    setup.idle(token, state(0));
    setup.pass(30);
    assert_eq!(setup.given(key, &[A], state(0)).token, token);
    let tickets: [_; 2] = std::array::from_fn(|_| setup.wait(key, &[A]));
    assert!(matches!(setup.untouched(token), CheckedIn::GivenTo(grant) if grant.ticket == tickets[0]));
    let Some(Taken::Idle(given)) = setup.take(tickets[0]) else { panic!("not granted") };
    assert_eq!(given.check, CheckFirst::Needed);
    assert!(matches!(setup.untouched(token), CheckedIn::GivenTo(grant) if grant.ticket == tickets[1]));
    let Some(Taken::Idle(given)) = setup.take(tickets[1]) else { panic!("not granted") };
    assert_eq!(given.check, CheckFirst::Needed);
}

#[test]
fn an_untouched_connection_that_must_go_is_closed() {
    let mut setup = Setup::new(settings(1));
    let key = setup.key("app", "web");
    let token = setup.open(key, A);
    assert!(setup.pools.retire(A).is_empty());
    assert_eq!(setup.untouched(token), CheckedIn::Close(CloseReason::Retired));
    assert_eq!(setup.untouched(token), CheckedIn::Close(CloseReason::Unknown));
}
