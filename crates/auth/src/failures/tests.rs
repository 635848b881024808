//! Doors that close and open again, by a clock that a test moves.

use super::*;

const LIMITS: FailureLimits =
    FailureLimits { max: 4, window: Duration::from_secs(60), pause: Duration::from_secs(30) };

/// A guard, and the time.
struct Test {
    guard: FailureGuard,
    now: Instant,
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

impl Test {
    fn new() -> Self {
        Test { guard: FailureGuard::default(), now: Instant::now() }
    }

    fn look(&self, from: u8, user: &str) -> Door {
        self.guard.look(&LIMITS, Knock { address: address(from), user: user.as_bytes() }, self.now)
    }

    fn fail(&self, from: u8, user: &str) -> Option<ClosedTo> {
        self.guard.failed(&LIMITS, Knock { address: address(from), user: user.as_bytes() }, self.now)
    }

    fn let_in(&self, from: u8, user: &str) {
        self.guard.let_in(&LIMITS, Knock { address: address(from), user: user.as_bytes() }, self.now);
    }

    fn fail_times(&self, times: u32, from: u8, user: &str) -> Vec<Option<ClosedTo>> {
        (0..times).map(|_| self.fail(from, user)).collect()
    }
}

fn millis(number: u64) -> Duration {
    Duration::from_millis(number)
}

#[test]
fn failures_slow_down_and_then_close_the_door_for_a_while() {
    let mut test = Test::new();
    assert_eq!(test.look(1, "app"), Door::Open);
    for pause in [100, 200, 400] {
        assert_eq!(test.fail(1, "app"), None);
        assert_eq!(test.look(1, "app"), Door::Slow(millis(pause)));
    }
    assert_eq!(test.fail(1, "app"), Some(ClosedTo::User));
    assert_eq!(test.look(1, "app"), Door::Closed(LIMITS.pause));
    test.now += LIMITS.pause - millis(1);
    assert_eq!(test.look(1, "app"), Door::Closed(millis(1)));
    test.now += millis(1);
    assert_eq!(test.look(1, "app"), Door::Slow(SLOW_PAUSE_MAX), "it was tried too often of late");
    assert_eq!(test.fail(1, "app"), None, "it begins anew");
    test.now += LIMITS.window;
    assert_eq!(test.look(1, "app"), Door::Open);
}

#[test]
fn failures_count_for_a_window() {
    let mut test = Test::new();
    test.fail_times(3, 1, "app");
    test.now += LIMITS.window - millis(1);
    assert!(matches!(test.look(1, "app"), Door::Slow(_)));
    test.now += millis(1);
    assert_eq!(test.look(1, "app"), Door::Open);
    assert_eq!(test.fail(1, "app"), None);
}

#[test]
fn a_user_is_not_locked_out_by_the_name() {
    let test = Test::new();
    for from in 10..60 {
        test.fail_times(4, from, "app");
        assert!(matches!(test.look(from, "app"), Door::Closed(_)), "{from}");
    }
    assert_eq!(test.look(1, "app"), Door::Open, "from elsewhere");
    assert_eq!(test.look(10, "other"), Door::Open, "another from there");
    test.fail(1, "other");
    assert_eq!(test.look(1, "app"), Door::Slow(SLOW_PAUSE_MAX), "a user who is tried everywhere");
    assert_eq!(test.look(2, "app"), Door::Open);
}

#[test]
fn many_names_from_one_address_close_it_to_those_who_were_not_let_in_before() {
    let test = Test::new();
    test.let_in(1, "early");
    let mut closed = Vec::new();
    for number in 0..20 {
        if number == 7 {
            test.let_in(1, "app");
        }
        closed.push(test.fail(1, &format!("user{number}")));
    }
    assert_eq!(closed.iter().filter(|closed| closed.is_some()).count(), 1);
    assert_eq!(closed.last(), Some(&Some(ClosedTo::Address)));
    assert!(matches!(test.look(1, "stranger"), Door::Closed(_)));
    assert!(matches!(test.look(1, "early"), Door::Closed(_)), "before the failures nothing was noted");
    assert_eq!(test.look(1, "app"), Door::Open);
    assert_eq!(test.look(2, "stranger"), Door::Open);
    test.fail_times(4, 1, "app");
    assert!(matches!(test.look(1, "app"), Door::Closed(_)), "known, and guessed at from the same address");
}

#[test]
fn who_was_let_in_is_slowed_down_by_own_failures_alone() {
    let test = Test::new();
    test.fail(1, "user0");
    test.let_in(1, "app");
    for number in 1..16 {
        assert_eq!(test.look(1, "new") == Door::Open, number <= 10, "{number}");
        test.fail(1, &format!("user{number}"));
    }
    assert_eq!(test.look(1, "new"), Door::Slow(SLOW_PAUSE_MAX));
    for from in 2..9 {
        test.fail(from, "app");
    }
    assert_eq!(test.look(1, "app"), Door::Open);
    test.fail(1, "app");
    assert_eq!(test.look(1, "app"), Door::Slow(SLOW_PAUSE));
}

#[test]
fn one_user_alone_does_not_close_an_address_however_often_it_fails() {
    let mut test = Test::new();
    for _ in 0..100 {
        if !matches!(test.look(1, "broken"), Door::Closed(_)) {
            test.fail(1, "broken");
        }
        assert!(!matches!(test.look(1, "app"), Door::Closed(_)));
        test.now += millis(1000);
    }
}

#[test]
fn an_address_of_ipv6_stands_for_its_network() {
    let guard = FailureGuard::default();
    let now = Instant::now();
    let knock = |address: &str| Knock { address: address.parse().expect("an address"), user: b"app" };
    for last in 1..5 {
        guard.failed(&LIMITS, knock(&format!("2001:db8:0:1::{last}")), now);
    }
    assert!(matches!(guard.look(&LIMITS, knock("2001:db8:0:1::99"), now), Door::Closed(_)));
    assert_eq!(guard.look(&LIMITS, knock("2001:db8:0:2::1"), now), Door::Open);
    guard.failed(&LIMITS, knock("::ffff:192.0.2.1"), now);
    assert!(matches!(guard.look(&LIMITS, knock("192.0.2.1"), now), Door::Slow(_)), "the same address");
    assert_eq!(guard.look(&LIMITS, knock("::ffff:192.0.2.2"), now), Door::Open);
}

#[test]
fn without_a_limit_nothing_is_noted() {
    let guard = FailureGuard::default();
    let none = FailureLimits { max: 0, ..LIMITS };
    let knock = Knock { address: address(1), user: b"app" };
    for _ in 0..100 {
        assert_eq!(guard.failed(&none, knock, Instant::now()), None);
    }
    assert_eq!(guard.look(&none, knock, Instant::now()), Door::Open);
    assert_eq!(guard.look(&LIMITS, knock, Instant::now()), Door::Open);
}

#[test]
fn what_is_remembered_is_bounded_and_a_closed_door_is_forgotten_last() {
    let mut test = Test::new();
    test.fail_times(4, 1, "app");
    for number in 0..FAILURES_TRACKED_MAX {
        test.fail(2, &format!("user{number}"));
    }
    let records = || test.guard.table.lock().expect("no panic").records.len();
    assert_eq!(records(), FAILURES_TRACKED_MAX);
    assert!(matches!(test.look(1, "app"), Door::Closed(_)));
    test.now += LIMITS.window + LIMITS.pause;
    test.fail(3, "app");
    assert_eq!(test.guard.tracked.load(Relaxed), 3, "the others are void");
    let long = "u".repeat(USER_BYTES_MAX);
    test.fail_times(4, 4, &long);
    assert!(matches!(test.look(4, &format!("{long}v")), Door::Closed(_)), "the servers cut it, too");
}

#[test]
fn so_many_are_slowed_down_at_a_time() {
    let guard = FailureGuard::default();
    let mut permits: Vec<_> = (0..SLOWED_MAX).map(|_| guard.slow_down().expect("there is room")).collect();
    assert!(guard.slow_down().is_none());
    permits.pop();
    assert!(guard.slow_down().is_some());
}

#[test]
fn logins_under_way_are_told_of_a_door_that_is_closed() {
    let test = Test::new();
    let closings = test.guard.closings();
    test.fail_times(LIMITS.max - 1, 1, "app");
    assert!(!closings.has_changed().expect("the guard is there"), "the door is open yet");
    test.fail(1, "app");
    assert!(closings.has_changed().expect("the guard is there"));
    assert!(matches!(test.look(1, "app"), Door::Closed(_)), "before they are told");
}
