//! Clients that go in the middle of something, and server connections that do.

use crate::flight::{bind, copy_data, execute, flush, parse, query, sync, unnamed};
use crate::scenario::{Act, Player, Scenario, Until};

pub(crate) fn cases() -> Vec<Scenario> {
    let mut cases = clients();
    cases.extend(farewells());
    cases.extend(servers());
    cases
}

/// Afterwards, a client who was there and one who comes work as if nothing had been.
fn after(scenario: Scenario) -> Scenario {
    scenario
        .b("SELECT 'stranger'")
        .shows("D(stranger)")
        .bx("SELECT 'stranger again'")
        .shows("D(stranger again)")
        .ask(Player::C, "BEGIN")
        .shows("Z(T)")
        .ask(Player::C, "SELECT 'newcomer'")
        .shows("D(newcomer)")
        .ask(Player::C, "COMMIT")
        .shows("C(COMMIT)")
}

fn start(key: &str, about: &str) -> Scenario {
    Scenario::new(format!("vanish-{key}"), format!("a client vanishes {about}"))
        .table("vanished", "x int", "")
        .b("SELECT 'before'")
        .a("SELECT 'there'")
        .shows("D(there)")
}

fn gone(scenario: Scenario) -> Scenario {
    after(scenario.step(Player::A, Act::Vanish))
}

/// Nothing of what it was at is there.
fn nothing_done(scenario: Scenario) -> Scenario {
    let count = Act::AskUntil(query("SELECT count(*) FROM torture.vanished"), "D(0)".to_owned());
    scenario.step(Player::B, count).shows("D(0)")
}

fn clients() -> Vec<Scenario> {
    vec![
        nothing_done(gone(
            start("transaction", "in a transaction").a("BEGIN").a("INSERT INTO torture.vanished VALUES (1)"),
        )),
        nothing_done(gone(
            start("failed", "in a failed transaction")
                .a("BEGIN; INSERT INTO torture.vanished VALUES (1); SELECT 1 / 0"),
        )),
        nothing_done(gone(
            start("series", "in a series without Sync")
                .send(Player::A, &[unnamed("INSERT INTO torture.vanished VALUES (1)")]),
        )),
        nothing_done(gone(
            start("flushed", "in a series with Flush and no Sync")
                .send(Player::A, &[unnamed("INSERT INTO torture.vanished VALUES (1)"), flush()])
                .read(Player::A, Until::Tag(b'C')),
        )),
        nothing_done(gone(
            start("series-error", "in a series that has failed")
                .send(Player::A, &[unnamed("SELECT 1 / 0"), flush()])
                .read(Player::A, Until::Tag(b'E')),
        )),
        gone(start("header", "in the header of a message").send(Player::A, &[query("SELECT 1").cut(3)])),
        gone(start("body", "in the text of a Query").send(Player::A, &[query("SELECT 'never'").cut(12)])),
        gone(
            start("large", "in a message of 1 MB")
                .send(Player::A, &[query(&format!("SELECT '{}'", "x".repeat(1_000_000))).cut(500_000)]),
        ),
        nothing_done(gone(
            start("copy-part", "in a CopyData")
                .send(Player::A, &[query("COPY torture.vanished FROM STDIN")])
                .read(Player::A, Until::Tag(b'G'))
                .send(Player::A, &[copy_data("1\n"), copy_data("2\n2\n2\n").cut(7)]),
        )),
        gone(
            start("parse", "after Parse, before Bind")
                .send(Player::A, &[parse("s", "SELECT 1"), flush()])
                .read(Player::A, Until::Tag(b'1')),
        ),
        gone(
            start("portal", "with a suspended portal")
                .send(
                    Player::A,
                    &[parse("", "SELECT generate_series(1, 9)"), bind("", &[]), execute("", 2), flush()],
                )
                .read(Player::A, Until::Tag(b's')),
        ),
        gone(
            start("unread", "with an answer it has not read")
                .send(Player::A, &[query("SELECT repeat('x', 1000) FROM generate_series(1, 20000)")]),
        ),
        gone(
            start("pipelined", "with ten answers outstanding")
                .send(Player::A, &(0..10).map(|_| query("SELECT pg_sleep(0.01)")).collect::<Vec<_>>()),
        ),
        gone(
            start("running", "while its statement runs")
                .send(Player::A, &[query("SELECT 'vanish running' FROM pg_sleep(0.4)")])
                .step(Player::A, Act::AwaitActive("vanish running".to_owned())),
        ),
    ]
}

/// Those that say that they go, and those that go with nothing but messages between series outstanding.
fn farewells() -> Vec<Scenario> {
    vec![
        after(
            start("terminate-behind", "by Terminate right behind a Query")
                .send(Player::A, &[query("INSERT INTO torture.vanished VALUES (1)")])
                .step(Player::A, Act::Terminate),
        ),
        after(
            start("terminate-transaction", "by Terminate in a transaction")
                .a("BEGIN")
                .a("INSERT INTO torture.vanished VALUES (1)")
                .step(Player::A, Act::Terminate),
        ),
        after(
            start("terminate-series", "by Terminate in a series without Sync")
                .send(Player::A, &[unnamed("INSERT INTO torture.vanished VALUES (1)")])
                .step(Player::A, Act::Terminate),
        ),
        gone(
            start("syncless-query", "after a series without Sync and a Query behind it")
                .flight(Player::A, &[unnamed("SELECT 1"), query("SELECT 2")])
                .shows("D(2)"),
        ),
        gone(start("syncs", "with three Syncs outstanding").send(Player::A, &[sync(), sync(), sync()])),
    ]
}

/// All server processes of the user but the one that asks.
const END_ALL: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
                       AND usename = session_user AND pid <> pg_backend_pid() AND state = 'idle'";

fn servers() -> Vec<Scenario> {
    vec![
        Scenario::new("server-idle-gone", "a server connection that was ended while idle is given to nobody who comes")
            .a("SELECT 'before'")
            .shows("D(before)")
            .step(Player::A, Act::Terminate)
            .beside(END_ALL)
            .b("SELECT 'newcomer'")
            .shows("D(newcomer)")
            .ask(Player::C, "SELECT 'another'")
            .shows("D(another)"),
        Scenario::new("server-own-end", "a session ends its own process: it alone hears of it")
            .b("SELECT 'before'")
            .send(Player::A, &[query("SELECT pg_terminate_backend(pg_backend_pid())")])
            .read(Player::A, Until::Tag(b'E'))
            .shows("57P01")
            .b("SELECT 'stranger'")
            .hides("57P01")
            .shows("D(stranger)")
            .ask(Player::C, "SELECT 'newcomer'")
            .shows("D(newcomer)"),
        Scenario::new("server-ended-in-transaction", "a process is ended within a transaction: its client alone hears of it")
            .b("SELECT 'before'")
            .a("BEGIN")
            .a("SELECT 'within'")
            .shows("D(within)")
            .b("SELECT count(*) > 0, bool_and(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() \
                AND state = 'idle in transaction' AND pid <> pg_backend_pid()")
            .shows("D(t|t)")
            .read(Player::A, Until::Tag(b'E'))
            .shows("57P01")
            .b("SELECT 'stranger'")
            .shows("D(stranger)")
            .hides("57P01"),
    ]
}
