//! LISTEN and NOTIFY.

use crate::scenario::{Act, Player, Scenario};

const CHANNELS: &str = "SELECT count(*) FROM pg_listening_channels()";

pub(crate) fn cases() -> Vec<Scenario> {
    let mut cases: Vec<Scenario> = WAYS.iter().map(|&(key, sql)| heard(key, sql)).collect();
    cases.extend(others());
    cases.extend(moments());
    cases
}

const WAYS: &[(&str, &str)] = &[
    ("plain", "LISTEN torture_hidden"),
    ("quoted", "LISTEN \"torture_hidden\""),
    ("transaction", "BEGIN; LISTEN torture_hidden; COMMIT"),
    ("function", "SELECT torture.listen_it()"),
    ("do", "DO $$ BEGIN LISTEN torture_hidden; END $$"),
    ("several", "SELECT 1; LISTEN torture_hidden; SELECT 2"),
];

/// A listens and idles, B notifies: A hears it, at once and once, and B does not.
fn heard(key: &str, sql: &str) -> Scenario {
    Scenario::new(format!("listen-{key}"), format!("{sql}; another client notifies"))
        .b("SELECT 'before'")
        .a(sql)
        .b("NOTIFY torture_hidden, 'one'")
        .step(Player::A, Act::AwaitNotification)
        .shows("A(torture_hidden=one)")
        .b(CHANNELS)
        .shows("D(0)")
        .b("SELECT pg_notify('torture_hidden', 'two')")
        .step(Player::A, Act::AwaitNotification)
        .shows("A(torture_hidden=two)")
        .a(CHANNELS)
        .shows("D(1)")
        .b("SELECT 'after'")
}

fn others() -> Vec<Scenario> {
    vec![
        Scenario::new("listen-extended", "LISTEN by the extended protocol")
            .ax("LISTEN torture_hidden")
            .b("NOTIFY torture_hidden, 'one'")
            .step(Player::A, Act::AwaitNotification)
            .shows("A(torture_hidden=one)"),
        Scenario::new("listen-unlisten", "UNLISTEN *: nothing more is heard")
            .a("LISTEN torture_hidden")
            .b("NOTIFY torture_hidden, 'one'")
            .step(Player::A, Act::AwaitNotification)
            .shows("A(torture_hidden=one)")
            .a("UNLISTEN *")
            .b("NOTIFY torture_hidden, 'two'")
            .a(CHANNELS)
            .shows("D(0)")
            .b(CHANNELS)
            .shows("D(0)"),
        Scenario::new("listen-rollback", "LISTEN in a transaction that rolls back")
            .a("BEGIN")
            .a("LISTEN torture_hidden")
            .a("ROLLBACK")
            .b("NOTIFY torture_hidden, 'one'")
            .a(CHANNELS)
            .shows("D(0)")
            .b(CHANNELS)
            .shows("D(0)"),
        Scenario::new("listen-two", "two listen to different channels, each hears its own")
            .a("LISTEN torture_a")
            .b("LISTEN torture_b")
            .ask(Player::C, "NOTIFY torture_a, 'for a'")
            .ask(Player::C, "NOTIFY torture_b, 'for b'")
            .step(Player::A, Act::AwaitNotification)
            .shows("A(torture_a=for a)")
            .step(Player::B, Act::AwaitNotification)
            .shows("A(torture_b=for b)")
            .hides("torture_a"),
        Scenario::new("listen-both", "two listen to one channel, both hear it")
            .a("LISTEN torture_a")
            .b("LISTEN torture_a")
            .ask(Player::C, "NOTIFY torture_a, 'for both'")
            .step(Player::A, Act::AwaitNotification)
            .shows("A(torture_a=for both)")
            .step(Player::B, Act::AwaitNotification)
            .shows("A(torture_a=for both)"),
    ]
}

/// When a notification comes, and to whom no more.
fn moments() -> Vec<Scenario> {
    vec![
        Scenario::new("listen-own", "one's own notification")
            .a("LISTEN torture_a")
            .b("SELECT 'between'")
            .a("NOTIFY torture_a, 'own'")
            .step(Player::A, Act::AwaitNotification)
            .shows("A(torture_a=own)"),
        Scenario::new("listen-in-transaction", "a notification comes after the transaction of its listener")
            .a("LISTEN torture_a")
            .a("BEGIN")
            .b("NOTIFY torture_a, 'waits'")
            .a("SELECT 'within'")
            .a("COMMIT")
            .step(Player::A, Act::AwaitNotification)
            .shows("A(torture_a=waits)"),
        Scenario::new("listen-session", "a later session does not hear for an earlier one")
            .a("LISTEN torture_a")
            .a(CHANNELS)
            .shows("D(1)")
            .step(Player::A, Act::Terminate)
            .b(CHANNELS)
            .shows("D(0)")
            .hides("D(1)")
            .ask(Player::C, "NOTIFY torture_a, 'for nobody'")
            .b("SELECT 'still'"),
        Scenario::new("listen-order", "three notifications in their order")
            .a("LISTEN torture_a")
            .b("BEGIN; NOTIFY torture_a, '1'; NOTIFY torture_a, '2'; NOTIFY torture_a, '2'; COMMIT; NOTIFY torture_a, '3'")
            .step(Player::A, Act::AwaitNotification)
            .shows("A(torture_a=1)")
            .step(Player::A, Act::AwaitNotification)
            .shows("A(torture_a=2)")
            .step(Player::A, Act::AwaitNotification)
            .shows("A(torture_a=3)"),
        Scenario::new("listen-discard", "DISCARD ALL of another client leaves it")
            .a("LISTEN torture_a")
            .b("DISCARD ALL")
            .b("NOTIFY torture_a, 'heard'")
            .step(Player::A, Act::AwaitNotification)
            .shows("A(torture_a=heard)"),
    ]
}
