//! Series of messages, several in one write, portals, and prepared statements.

use super::{ROWS, port};
use crate::flight::{self, Flight, bind, execute, flush, parse, query, run_prepared, sync, unnamed};
use crate::scenario::{Act, Player, Scenario, Until};

pub(super) fn cases() -> Vec<Scenario> {
    [series(), ended(), portals(), prepared()].concat()
}

fn insert() -> Flight {
    unnamed("INSERT INTO torture.ported VALUES (2, 'two')")
}

fn rows() -> Flight {
    unnamed(ROWS)
}

/// These in one write, what they show, and how many rows there are then.
fn of(key: &str, about: &str, parts: &[Flight], shows: &str, rows: usize) -> Scenario {
    let scenario = port(&format!("series-{key}"), about);
    scenario.a(ROWS).flight(Player::A, parts).shows(shows).a(ROWS).shows(format!("D(rows|{rows})"))
}

/// Several series in one write, and several statements in one series.
fn series() -> Vec<Scenario> {
    vec![
        of(
            "write-read",
            "a write and a read, a Sync each",
            &[insert(), sync(), rows(), sync()],
            "D(rows|2)",
            2,
        ),
        of(
            "read-write",
            "a read and a write, a Sync each",
            &[rows(), sync(), insert(), sync()],
            "D(rows|1)",
            2,
        ),
        of(
            "mixed",
            "reads and writes in turn",
            &[rows(), sync(), insert(), sync(), rows(), sync(), insert(), sync(), rows(), sync()],
            "D(rows|3)",
            3,
        ),
        of(
            "simple",
            "simple queries in turn",
            &[query(ROWS), query("SELECT torture.port_add()"), query(ROWS)],
            "D(rows|2)",
            2,
        ),
        of("one", "a read and a write with one Sync", &[rows(), insert(), sync()], "D(rows|1)", 2),
        of(
            "one-write-first",
            "a write and a read with one Sync",
            &[insert(), rows(), sync()],
            "D(rows|2)",
            2,
        ),
        of(
            "function",
            "a function behind a read",
            &[rows(), unnamed("SELECT torture.port_add()"), sync()],
            "D(4711)",
            2,
        ),
        of(
            "swallowed",
            "a refusal that nobody sees, behind a read",
            &[rows(), unnamed("SELECT torture.port_swallow()"), sync()],
            "D(written)",
            2,
        ),
    ]
}

/// What ends a series, and what begins in one and ends in another.
fn ended() -> Vec<Scenario> {
    vec![
        of(
            "fails",
            "a series that fails undoes its write",
            &[insert(), unnamed("SELECT 1 / 0"), sync()],
            "22012",
            1,
        ),
        of(
            "read-fails",
            "what follows an error is skipped",
            &[unnamed("SELECT 1 / 0"), insert(), sync()],
            "22012",
            1,
        ),
        of(
            "next-after-failure",
            "the series after one that fails",
            &[unnamed("SELECT 1 / 0"), sync(), insert(), sync()],
            "22012",
            2,
        ),
        of(
            "flush",
            "Flush behind a read, then a write",
            &[rows(), flush(), insert(), sync()],
            "D(rows|1)",
            2,
        ),
        of(
            "begin",
            "BEGIN and what follows in one series",
            &[unnamed("BEGIN"), insert(), unnamed("COMMIT"), rows(), sync()],
            "D(rows|2)",
            2,
        ),
        of(
            "begin-read-only",
            "BEGIN READ ONLY in the series before",
            &[
                unnamed("BEGIN READ ONLY"),
                sync(),
                rows(),
                sync(),
                unnamed("COMMIT"),
                sync(),
                insert(),
                sync(),
            ],
            "D(rows|1)",
            2,
        ),
        of(
            "parse-only",
            "a write that is parsed only",
            &[parse("", "INSERT INTO torture.ported VALUES (2)"), sync()],
            "1 · ",
            1,
        ),
        of("sync-only", "a Sync alone", &[sync(), sync()], "Z(I)", 1),
        port("series-two-writes", "a series in two writes")
            .a(ROWS)
            .send(Player::A, &[rows()])
            .send(Player::A, &[insert(), sync()])
            .read(Player::A, Until::Ready(1))
            .a(ROWS)
            .shows("D(rows|2)"),
        port("series-flushed", "a read whose answer is read, then a write in the same series")
            .a(ROWS)
            .step(Player::A, Act::Ask(Flight::joined(&[rows(), flush()]), Until::Tag(b'C')))
            .shows("D(rows|1)")
            .flight(Player::A, &[insert(), sync()])
            .a(ROWS)
            .shows("D(rows|2)"),
    ]
}

/// Portals of which some rows are taken.
fn portals() -> Vec<Scenario> {
    let three = "SELECT i FROM generate_series(1, 3) i";
    let step = |flight: &[Flight], tag: u8| Act::Ask(Flight::joined(flight), Until::Tag(tag));
    vec![
        port("portal", "rows in turns")
            .step(Player::A, step(&[parse("", three), bind("", &[]), execute("", 1), flush()], b's'))
            .shows("D(1)")
            .flight(Player::A, &[execute("", 0), sync()])
            .shows("D(3)"),
        port("portal-closed", "rows that are not taken")
            .flight(
                Player::A,
                &[parse("", three), bind("", &[]), execute("", 1), flight::close_portal(""), sync()],
            )
            .shows("D(1)")
            .a(ROWS)
            .shows("D(rows|1)"),
        port("portal-late", "it writes behind the rows that are taken")
            .flight(
                Player::A,
                &[
                    parse("", "SELECT torture.port_late()"),
                    bind("", &[]),
                    execute("", 2),
                    execute("", 0),
                    sync(),
                ],
            )
            .shows("D(3)")
            .a(ROWS)
            .shows("D(rows|2)"),
        port("portal-transaction", "a portal of a transaction")
            .a("BEGIN")
            .flight(
                Player::A,
                &[parse("", three), flight::bind_portal("p", "", &[]), execute("p", 1), sync()],
            )
            .shows("D(1)")
            .a("INSERT INTO torture.ported VALUES (2)")
            .flight(Player::A, &[execute("p", 1), sync()])
            .shows("D(2)")
            .a("COMMIT"),
    ]
}

fn prepared() -> Vec<Scenario> {
    let prepare = |name: &str, sql: &str| [parse(name, sql), sync()];
    vec![
        port("prepared-read", "a read, then in a transaction that has written")
            .flight(Player::A, &prepare("rows", ROWS))
            .flight(Player::A, &[run_prepared("rows", &[]), sync()])
            .shows("D(rows|1)")
            .a("BEGIN; INSERT INTO torture.ported VALUES (2)")
            .flight(Player::A, &[run_prepared("rows", &[]), sync()])
            .shows("D(rows|2)")
            .a("ROLLBACK")
            .flight(Player::A, &[run_prepared("rows", &[]), sync()])
            .shows("D(rows|1)"),
        port("prepared-write", "a write, and the read behind it")
            .flight(Player::A, &prepare("add", "INSERT INTO torture.ported VALUES ($1::int, 'p')"))
            .flight(Player::A, &prepare("rows", ROWS))
            .flight(Player::A, &[run_prepared("add", &[Some("2")]), sync()])
            .flight(Player::A, &[run_prepared("rows", &[]), sync()])
            .shows("D(rows|2)"),
        port("prepared-function", "a function that writes")
            .flight(Player::A, &prepare("add", "SELECT torture.port_add($1::int)"))
            .flight(Player::A, &[run_prepared("add", &[Some("2")]), sync()])
            .flight(Player::A, &[run_prepared("add", &[Some("3")]), sync()])
            .a(ROWS)
            .shows("D(rows|3)"),
        port("prepared-sometimes", "its parameter decides whether it writes")
            .flight(Player::A, &prepare("maybe", "SELECT torture.port_maybe($1::bool)"))
            .flight(Player::A, &[run_prepared("maybe", &[Some("f")]), sync()])
            .shows("D(read)")
            .flight(Player::A, &[run_prepared("maybe", &[Some("t")]), sync()])
            .shows("D(written)")
            .flight(Player::A, &[run_prepared("maybe", &[Some("f")]), sync()])
            .a(ROWS)
            .shows("D(rows|2)"),
        port("prepared-sql", "PREPARE of a write, EXECUTE")
            .a("PREPARE add AS INSERT INTO torture.ported VALUES ($1, 'p')")
            .a("EXECUTE add(2)")
            .ax("EXECUTE add(3)")
            .a(ROWS)
            .shows("D(rows|3)"),
        port("prepared-sql-read", "PREPARE of a read, EXECUTE behind a write")
            .a(format!("PREPARE rows AS {ROWS}"))
            .a("EXECUTE rows")
            .shows("D(rows|1)")
            .a("INSERT INTO torture.ported VALUES (2)")
            .a("EXECUTE rows")
            .shows("D(rows|2)")
            .ax("EXPLAIN (COSTS off) EXECUTE rows")
            .a("DEALLOCATE rows"),
        port("prepared-described", "a statement that is described, and run in the next series")
            .flight(
                Player::A,
                &[
                    parse("s", "SELECT v, id FROM torture.ported WHERE id = $1"),
                    flight::describe_statement("s"),
                    sync(),
                ],
            )
            .shows("t(")
            .flight(Player::A, &[run_prepared("s", &[Some("1")]), sync()])
            .shows("D(one|1)"),
        port("prepared-again", "a name that is taken: what follows in the series is skipped")
            .flight(Player::A, &prepare("s", "UPDATE torture.ported SET v = 'changed'"))
            .a(ROWS)
            .flight(Player::A, &[parse("s", "SELECT 5"), run_prepared("s", &[]), sync()])
            .shows("42P05")
            .a("SELECT v FROM torture.ported")
            .shows("D(one)"),
        port("prepared-unnamed", "the unnamed statement, bound in later series")
            .flight(Player::A, &[parse("", ROWS), sync()])
            .flight(Player::A, &[run_prepared("", &[]), sync()])
            .shows("D(rows|1)")
            .flight(Player::A, &[run_prepared("", &[]), sync()])
            .shows("D(rows|1)"),
    ]
}
