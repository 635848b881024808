//! CancelRequests reach the statement they are for, and no other.

use crate::flight::{query, sync, unnamed};
use crate::scenario::{Act, Player, Scenario, Until};

pub(crate) fn cases() -> Vec<Scenario> {
    vec![
        Scenario::new("cancel-own", "a cancel of a running statement")
            .a("SELECT 'first'")
            .b("SELECT 'before'")
            .send(Player::A, &[query("SELECT 'cancel own' FROM pg_sleep(20)")])
            .step(Player::A, Act::AwaitActive("cancel own".to_owned()))
            .step(Player::A, Act::Cancel)
            .read(Player::A, Until::Ready(1))
            .shows("57014")
            .a("SELECT 'well'")
            .shows("D(well)")
            .b("SELECT 'stranger'")
            .shows("D(stranger)")
            .hides("57014"),
        Scenario::new("cancel-extended", "a cancel of a statement of a series")
            .send(
                Player::A,
                &[unnamed("SELECT 'cancel series' FROM pg_sleep(20)"), unnamed("SELECT 'skipped'"), sync()],
            )
            .step(Player::A, Act::AwaitActive("cancel series".to_owned()))
            .step(Player::A, Act::Cancel)
            .read(Player::A, Until::Ready(1))
            .shows("57014")
            .hides("D(skipped)")
            .b("SELECT 'stranger'")
            .shows("D(stranger)"),
        Scenario::new("cancel-transaction", "a cancel within a transaction fails it")
            .a("BEGIN")
            .send(Player::A, &[query("SELECT 'cancel within' FROM pg_sleep(20)")])
            .step(Player::A, Act::AwaitActive("cancel within".to_owned()))
            .step(Player::A, Act::Cancel)
            .read(Player::A, Until::Ready(1))
            .shows("57014")
            .b("SELECT 'stranger'")
            .shows("D(stranger)")
            .a("SELECT 1")
            .shows("25P02")
            .a("ROLLBACK"),
        Scenario::new("cancel-idle", "a cancel of an idle client does not reach another's statement")
            .a("SELECT 'first'")
            .send(Player::B, &[query("SELECT 'not canceled' FROM pg_sleep(0.3)")])
            .step(Player::B, Act::AwaitActive("not canceled".to_owned()))
            .step(Player::A, Act::Cancel)
            .read(Player::B, Until::Ready(1))
            .shows("D(not canceled)")
            .hides("57014"),
        Scenario::new("cancel-late", "a cancel that comes too late does nothing to the next statement")
            .a("SELECT 'first'")
            .step(Player::A, Act::Cancel)
            .b("SELECT 'stranger'")
            .hides("57014")
            .shows("D(stranger)")
            .b("SELECT 'again'")
            .hides("57014"),
        Scenario::new("cancel-waiting", "a cancel of a client that waits for a lock")
            .table("awaited", "x int", "VALUES (1)")
            .b("BEGIN")
            .b("UPDATE torture.awaited SET x = 2")
            .send(Player::A, &[query("UPDATE torture.awaited SET x = 3 /* cancel waiting */")])
            .step(Player::A, Act::AwaitActive("cancel waiting".to_owned()))
            .step(Player::A, Act::Cancel)
            .read(Player::A, Until::Ready(1))
            .shows("57014")
            .b("COMMIT")
            .shows("C(COMMIT)")
            .a("SELECT x FROM torture.awaited")
            .shows("D(2)"),
    ]
}
