//! The unnamed statement, bound in a later transaction than its Parse, when its client may be on another server connection.

use crate::flight::{
    Flight, bind, bind_portal, close_portal, close_statement, describe_portal, describe_statement, execute,
    flush, parse, query, run_prepared, sync,
};
use crate::scenario::{Player, Scenario};

pub(crate) fn cases() -> Vec<Scenario> {
    let mut cases = parameters();
    cases.extend(told());
    cases.extend(failures());
    cases.extend(among_others());
    cases
}

/// Parse and Describe in one series, as drivers that prepare send them.
fn prepared(about: &str, key: &str, sql: &str) -> Scenario {
    Scenario::new(format!("unnamed-{key}"), about)
        .flight(Player::A, &[parse("", sql), describe_statement(""), sync()])
        .bx("SELECT 'stranger'")
}

/// Bind and Execute, and the end of the series.
fn runs(values: &[Option<&str>]) -> Vec<Flight> {
    vec![bind("", values), execute("", 0), sync()]
}

fn parameters() -> Vec<Scenario> {
    vec![
        prepared("run twice with other parameters", "twice", "SELECT $1::int + $2::int")
            .flight(Player::A, &runs(&[Some("40"), Some("2")]))
            .shows("D(42)")
            .bx("SELECT 'stranger'")
            .flight(Player::A, &runs(&[Some("7"), Some("-7")]))
            .shows("D(0)")
            .flight(Player::A, &runs(&[None, Some("1")])),
        Scenario::new("unnamed-chosen", "the server chooses the type of its parameter")
            .table("chosen", "x bigint", "VALUES (11), (12)")
            .flight(Player::A, &[parse("", "SELECT x FROM torture.chosen WHERE x = $1"), sync()])
            .bx("SELECT 'stranger'")
            .flight(Player::A, &[describe_statement(""), sync()])
            .shows("t(20)")
            .bx("SELECT 'stranger'")
            .flight(Player::A, &runs(&[Some("12")]))
            .shows("D(12)"),
        prepared("a row limit, and the rest of the rows", "limited", "SELECT generate_series(1, $1::int)")
            .flight(Player::A, &[bind("", &[Some("3")]), execute("", 2), flush()])
            .flight(Player::A, &[execute("", 0), sync()])
            .shows("D(3)")
            .bx("SELECT 'stranger'")
            .flight(Player::A, &runs(&[Some("1")])),
        prepared("without rows", "write", "INSERT INTO torture.written VALUES ($1)")
            .setup("DROP TABLE IF EXISTS torture.written; CREATE TABLE torture.written (x int)")
            .flight(Player::A, &runs(&[Some("5")]))
            .bx("SELECT 'stranger'")
            .flight(Player::A, &runs(&[Some("6")]))
            .b("SELECT sum(x) FROM torture.written")
            .shows("D(11)"),
    ]
}

/// How its client knows its columns, and that they change.
fn told() -> Vec<Scenario> {
    let portal =
        |values: &[Option<&str>]| vec![bind("", values), describe_portal(""), execute("", 0), sync()];
    let libpq = Scenario::new("unnamed-portal", "portals are described, each time anew, as libpq does")
        .flight(
            Player::A,
            &[&[parse("", "SELECT 'portal ' || $1::text")], &portal(&[Some("one")])[..]].concat(),
        )
        .shows("D(portal one)");
    let libpq =
        libpq.bx("SELECT 'stranger'").flight(Player::A, &portal(&[Some("two")])).shows("D(portal two)");
    vec![
        libpq.bx("SELECT 'stranger'").flight(Player::A, &portal(&[Some("three")])).shows("D(portal three)"),
        Scenario::new("unnamed-portal-named", "the same through a portal with a name")
            .flight(Player::A, &[parse("", "SELECT 'named'"), bind_portal("p", "", &[])])
            .flight(Player::A, &[describe_portal("p"), execute("p", 0), close_portal("p"), sync()])
            .shows("D(named)")
            .bx("SELECT 'stranger'")
            .flight(Player::A, &[bind_portal("p", "", &[]), describe_portal("p"), execute("p", 0), sync()])
            .shows("D(named)"),
        Scenario::new("unnamed-untold", "nothing is described")
            .flight(Player::A, &[&[parse("", "SELECT 'untold'")], &runs(&[])[..]].concat())
            .bx("SELECT 'stranger'")
            .flight(Player::A, &runs(&[]))
            .shows("D(untold)"),
        Scenario::new("unnamed-told-twice", "its portal is described, and then the statement")
            .flight(
                Player::A,
                &[parse("", "SELECT 'told'"), bind("", &[]), describe_portal(""), execute("", 0), sync()],
            )
            .bx("SELECT 'stranger'")
            .flight(Player::A, &[describe_statement(""), sync()])
            .flight(Player::A, &runs(&[]))
            .shows("D(told)"),
        Scenario::new("unnamed-altered", "its table gets another column, and it is parsed anew")
            .table("altered", "x int", "VALUES (1)")
            .flight(Player::A, &[parse("", "SELECT * FROM torture.altered"), describe_statement(""), sync()])
            .b("ALTER TABLE torture.altered ADD y int DEFAULT 2")
            .flight(Player::A, &runs(&[]))
            .shows("0A000")
            .flight(Player::A, &[parse("", "SELECT * FROM torture.altered"), describe_statement(""), sync()])
            .bx("SELECT 'stranger'")
            .flight(Player::A, &runs(&[]))
            .shows("D(1|2)"),
    ]
}

fn failures() -> Vec<Scenario> {
    let divides = "SELECT 12 / $1::int";
    vec![
        prepared("it fails, and works with other parameters", "fails", divides)
            .flight(Player::A, &runs(&[Some("0")]))
            .shows("22012")
            .bx("SELECT 'stranger'")
            .flight(Player::A, &runs(&[Some("4")]))
            .shows("D(3)"),
        prepared("a parameter that is none, then one that is", "refused", divides)
            .flight(Player::A, &runs(&[Some("four")]))
            .shows("22P02")
            .flight(Player::A, &runs(&[Some("6")]))
            .shows("D(2)"),
        prepared("too few parameters", "too-few", divides)
            .flight(Player::A, &runs(&[]))
            .shows("08P01")
            .flight(Player::A, &runs(&[Some("2")]))
            .shows("D(6)"),
        prepared("a Parse of another that is skipped leaves it", "skipped", divides)
            .flight(Player::A, &[bind("none", &[]), parse("", "SELECT 'skipped'"), sync()])
            .shows("26000")
            .bx("SELECT 'stranger'")
            .flight(Player::A, &runs(&[Some("3")]))
            .shows("D(4)"),
        prepared("a Parse that fails drops it", "parse-fails", divides)
            .flight(Player::A, &[parse("", "SELEC"), sync()])
            .shows("42601")
            .bx("SELECT 'stranger'")
            .flight(Player::A, &runs(&[Some("3")]))
            .shows("26000"),
        prepared("its own simple Query drops it", "own-query", divides)
            .a("SELECT 'drops'")
            .bx("SELECT 'stranger'")
            .flight(Player::A, &runs(&[Some("3")]))
            .shows("26000"),
        prepared("an empty Query drops it", "empty-query", divides)
            .flight(Player::A, &[query("")])
            .flight(Player::A, &runs(&[Some("3")]))
            .shows("26000"),
        prepared("Close drops it, on whatever connection", "close", divides)
            .flight(Player::A, &[close_statement(""), sync()])
            .bx("SELECT 'stranger'")
            .flight(Player::A, &runs(&[Some("3")]))
            .shows("26000"),
        prepared("a Close of a portal does not", "close-portal", divides)
            .flight(Player::A, &[close_portal(""), sync()])
            .bx("SELECT 'stranger'")
            .flight(Player::A, &runs(&[Some("3")]))
            .shows("D(4)"),
    ]
}

/// Beside statements with names, settings and transactions of its client.
fn among_others() -> Vec<Scenario> {
    let named = |name: &str, sql: &str| [parse(name, sql), sync()];
    vec![
        prepared("beside a statement with a name", "beside", "SELECT 'unnamed ' || $1::text")
            .flight(Player::A, &[parse("s", "SELECT 'named'"), run_prepared("s", &[]), sync()])
            .bx("SELECT 'stranger'")
            .flight(Player::A, &[bind("", &[Some("too")]), execute("", 0), run_prepared("s", &[]), sync()])
            .shows("D(unnamed too)"),
        Scenario::new("unnamed-transaction", "in a transaction that statements with names begin and end")
            .flight(Player::A, &named("begin", "BEGIN"))
            .flight(Player::A, &named("commit", "COMMIT"))
            .flight(Player::A, &[parse("", "SELECT 'within ' || $1::text"), describe_statement(""), sync()])
            .bx("SELECT 'stranger'")
            .flight(Player::A, &[run_prepared("begin", &[]), sync()])
            .flight(Player::A, &runs(&[Some("one")]))
            .shows("D(within one)")
            .flight(Player::A, &[run_prepared("commit", &[]), sync()])
            .bx("SELECT 'stranger'")
            .flight(Player::A, &runs(&[Some("none")]))
            .shows("D(within none)"),
        Scenario::new("unnamed-setting", "run under a setting that a statement with a name has made")
            .flight(Player::A, &named("set", "SET work_mem = '4242kB'"))
            .flight(
                Player::A,
                &[parse("", "SELECT current_setting('work_mem')"), describe_statement(""), sync()],
            )
            .bx("SELECT 'stranger'")
            .flight(Player::A, &[run_prepared("set", &[]), sync()])
            .bx("SELECT current_setting('work_mem')")
            .hides("D(4242kB)")
            .flight(Player::A, &runs(&[]))
            .shows("D(4242kB)"),
        Scenario::new("unnamed-path", "analysed again under another search_path")
            .table("pathed", "x text", "VALUES ('of torture')")
            .flight(Player::A, &named("set", "SET search_path = torture"))
            .flight(Player::A, &[run_prepared("set", &[]), sync()])
            .flight(Player::A, &[parse("", "SELECT x FROM pathed"), describe_statement(""), sync()])
            .bx("SELECT 'stranger'")
            .flight(Player::A, &runs(&[]))
            .shows("D(of torture)")
            .flight(Player::B, &[parse("", "SELECT x FROM pathed"), sync()])
            .hides("D(of torture)"),
        prepared("a stranger's is never bound", "strangers", "SELECT 'mine'")
            .flight(Player::B, &[parse("", "SELECT 'stranger'"), describe_statement(""), sync()])
            .flight(Player::A, &runs(&[]))
            .shows("D(mine)")
            .hides("D(stranger)")
            .flight(Player::B, &runs(&[]))
            .shows("D(stranger)"),
    ]
}
