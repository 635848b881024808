//! Transactions that only read, which may run on one standby as a whole.

use super::{ROWS, port};
use crate::flight::{Flight, bind_portal, describe_portal, execute, flush, parse, query, sync, unnamed};
use crate::scenario::{Player, Scenario};

const INSERT: &str = "INSERT INTO torture.ported VALUES (2, 'two')";

pub(super) fn cases() -> Vec<Scenario> {
    [ways_to_begin(), inside(), series()].concat()
}

/// Another transaction writes behind it.
fn then_writes(scenario: Scenario) -> Scenario {
    scenario.a(INSERT).a(ROWS).shows("D(rows|2)")
}

fn ways_to_begin() -> Vec<Scenario> {
    let begins = |key: &str, begin: &str| {
        let about = "a transaction that only reads begins, reads and ends";
        then_writes(
            port(&format!("begin-{key}"), about).a(begin).a(ROWS).shows("D(rows|1)").a(ROWS).a("COMMIT"),
        )
    };
    vec![
        begins("short", "BEGIN READ ONLY"),
        begins("start", "START TRANSACTION READ ONLY;"),
        begins("work", "begin work read only, isolation level read committed"),
        begins("repeatable", "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY DEFERRABLE"),
        begins("uncommitted", "START TRANSACTION ISOLATION LEVEL READ UNCOMMITTED, READ ONLY"),
        begins("serializable", "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY"),
        begins("noted", "/* of a driver */ BEGIN READ ONLY -- now"),
        then_writes(
            port("begin-twice", "BEGIN in a transaction").a("BEGIN READ ONLY").a("BEGIN").a(ROWS).a("COMMIT"),
        ),
        then_writes(port("begin-ended", "nothing but its end").a("BEGIN READ ONLY").a("COMMIT")),
        then_writes(
            port("begin-undone", "nothing but ROLLBACK").a("BEGIN READ ONLY").a("ROLLBACK").a("ROLLBACK"),
        ),
        then_writes(
            port("begin-empty", "an empty query is the first").a("BEGIN READ ONLY").a("").a("COMMIT"),
        ),
        then_writes(
            port("begin-failing", "its first statement fails")
                .a("BEGIN READ ONLY")
                .a("SELECT 1 / 0")
                .shows("22012")
                .a(ROWS)
                .shows("25P02")
                .a("COMMIT"),
        ),
        then_writes(
            port("begin-missing", "its first statement names what is not there")
                .a("BEGIN READ ONLY")
                .a("SELECT 'missing' FROM torture.port_missing")
                .shows("42P01")
                .a("ROLLBACK"),
        ),
        then_writes(
            port("begin-misspelt", "a BEGIN that is refused")
                .a("BEGIN READ ONLY READ")
                .shows("42601")
                .a(ROWS),
        ),
        then_writes(
            port("begin-adding", "a function that writes is the first")
                .a("BEGIN READ ONLY")
                .a("SELECT torture.port_add()")
                .shows("25006")
                .a("ROLLBACK"),
        ),
    ]
}

fn inside() -> Vec<Scenario> {
    let reads = |key: &str, about: &str| port(&format!("inside-{key}"), about).a("BEGIN READ ONLY").a(ROWS);
    vec![
        then_writes(
            reads("cursor", "a cursor")
                .a("DECLARE c CURSOR FOR SELECT v FROM torture.ported")
                .a("FETCH c")
                .shows("D(one)")
                .a("MOVE BACKWARD ALL IN c")
                .a("CLOSE c")
                .a("COMMIT"),
        ),
        then_writes(
            reads("savepoint", "a savepoint that is rolled back to")
                .a("SAVEPOINT s")
                .a("SELECT 1 / 0")
                .shows("22012")
                .a("ROLLBACK TO SAVEPOINT s")
                .a(ROWS)
                .shows("D(rows|1)")
                .a("RELEASE s")
                .a("COMMIT"),
        ),
        then_writes(
            reads("local", "a setting of the transaction")
                .a("SET LOCAL work_mem = '7MB'")
                .a("SHOW work_mem")
                .shows("D(7MB)")
                .a("COMMIT")
                .a("SELECT 'is', current_setting('work_mem') <> '7MB'")
                .shows("D(is|t)"),
        ),
        then_writes(
            reads("failed", "COMMIT of a transaction that has failed")
                .a("SELECT 1 / 0")
                .shows("22012")
                .a("COMMIT")
                .shows("C(ROLLBACK)"),
        ),
        then_writes(
            reads("writes", "writes of each kind are refused")
                .a("SAVEPOINT s")
                .a("UPDATE torture.ported SET v = 'changed'")
                .shows("25006")
                .a("ROLLBACK TO s")
                .a("DELETE FROM torture.ported")
                .shows("25006")
                .a("ROLLBACK"),
        ),
        then_writes(reads("undone", "ROLLBACK AND CHAIN").a("ROLLBACK AND CHAIN").a(ROWS).a("COMMIT")),
        then_writes(
            reads("read-write", "SHOW of what it is")
                .a("SHOW transaction_read_only")
                .shows("D(on)")
                .a("COMMIT"),
        ),
        then_writes(
            port("inside-extended", "the same by the extended protocol")
                .ax("BEGIN READ ONLY")
                .ax(ROWS)
                .ax("SAVEPOINT s")
                .ax("SELECT 1 / 0")
                .shows("22012")
                .ax("ROLLBACK TO s")
                .ax(ROWS)
                .ax("COMMIT"),
        ),
    ]
}

/// Series inside, one Sync or several.
fn series() -> Vec<Scenario> {
    let rows = || unnamed(ROWS);
    let case = |key: &str, about: &str, parts: &[Flight], then: &[&[Flight]]| {
        let scenario = port(&format!("read-only-series-{key}"), about).a(ROWS).flight(Player::A, parts);
        then_writes(then.iter().fold(scenario, |scenario, parts| scenario.flight(Player::A, parts)))
    };
    let begin = || unnamed("BEGIN READ ONLY");
    let commit = || [unnamed("COMMIT"), sync()];
    vec![
        case(
            "begin",
            "BEGIN and a read with one Sync",
            &[begin(), rows(), sync()],
            &[&[rows(), sync()], &commit()],
        ),
        case("whole", "all of it with one Sync", &[begin(), rows(), unnamed("COMMIT"), sync()], &[]),
        case("syncs", "a Sync each", &[begin(), sync(), rows(), sync(), unnamed("COMMIT"), sync()], &[]),
        case(
            "portal",
            "a portal read two rows at a time",
            &[
                begin(),
                parse("", "SELECT i FROM generate_series(1, 5) AS i"),
                bind_portal("p", "", &[]),
                describe_portal("p"),
                execute("p", 2),
                sync(),
            ],
            &[&[execute("p", 2), sync()], &[execute("p", 2), sync()], &commit()],
        ),
        case(
            "named",
            "a named statement, asked for before it is run",
            &[begin(), rows(), sync()],
            &[
                &[parse("port_named", ROWS), flush(), sync()],
                &[crate::flight::run_prepared("port_named", &[]), sync()],
                &commit(),
                &[query("DEALLOCATE port_named")],
            ],
        ),
        case(
            "fails",
            "a series that fails, and what follows it in one write",
            &[begin(), rows(), sync()],
            &[&[unnamed("SELECT 1 / 0"), rows(), sync(), rows(), sync()], &commit()],
        ),
        case(
            "behind",
            "what follows the end in one write",
            &[begin(), rows(), sync()],
            &[&[rows(), sync(), unnamed("COMMIT"), sync(), rows(), sync(), query(ROWS)]],
        ),
    ]
}
