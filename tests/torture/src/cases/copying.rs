//! COPY in both directions, with ends of all kinds.

use crate::flight::{Flight, copy_data, copy_done, copy_fail, query, sync, unnamed};
use crate::scenario::{Act, Player, Scenario, Until};

const COPY_IN: &str = "COPY torture.copied FROM STDIN";

pub(crate) fn cases() -> Vec<Scenario> {
    let mut cases: Vec<Scenario> =
        ENDS.iter().flat_map(|&(key, about, end)| ended(key, about, end)).collect();
    cases.extend(others());
    cases.extend(outward());
    cases
}

#[derive(Clone, Copy)]
enum CopyEnd {
    Done,
    Fail,
    Malformed,
    Query,
    Sync,
}

const ENDS: &[(&str, &str, CopyEnd)] = &[
    ("done", "CopyDone", CopyEnd::Done),
    ("fail", "CopyFail", CopyEnd::Fail),
    ("malformed", "a malformed row, more data behind it", CopyEnd::Malformed),
    ("query", "a Query in the middle", CopyEnd::Query),
    ("sync", "a Sync in the middle, then CopyDone", CopyEnd::Sync),
];

impl CopyEnd {
    fn parts(self) -> Vec<Flight> {
        let row = || copy_data("1\tone\n");
        match self {
            Self::Done => vec![row(), copy_done()],
            Self::Fail => vec![row(), copy_fail("enough")],
            Self::Malformed => vec![copy_data("x\ty\n"), row(), row(), copy_done()],
            // It ends the COPY with an error, and is itself not run.
            Self::Query => vec![row(), Flight { readies: 0, ..query("SELECT 'not run'") }],
            Self::Sync => vec![row(), Flight { readies: 0, ..sync() }, row(), copy_done()],
        }
    }

    /// What a direct connection shows.
    fn shown(self) -> &'static str {
        match self {
            Self::Done => "COPY 1",
            Self::Fail => "57014",
            Self::Malformed => "22P02",
            Self::Query => "08P01",
            Self::Sync => "COPY 2",
        }
    }
}

/// By both protocols, at once and with another client between the request and the data.
fn ended(key: &str, about: &str, end: CopyEnd) -> Vec<Scenario> {
    let start = |by: &str| {
        Scenario::new(format!("copy-in-{key}-{by}"), format!("COPY FROM STDIN, {about}, {by}")).table(
            "copied",
            "n int, t text",
            "",
        )
    };
    let check = |scenario: Scenario| {
        scenario
            .b("SELECT 'stranger'")
            .shows("D(stranger)")
            .a("SELECT 'well', count(*) FROM torture.copied")
            .shows("D(well|")
    };
    let simple = [vec![query(COPY_IN)], end.parts()].concat();
    if matches!(end, CopyEnd::Query) {
        // The server cannot tell where the next message begins.
        let fatal = start("simple").send(Player::A, &simple).read(Player::A, Until::End).shows(end.shown());
        return vec![check(fatal.step(Player::A, Act::Vanish))];
    }
    let turns = start("turns")
        .send(Player::A, &[query(COPY_IN)])
        .read(Player::A, Until::Tag(b'G'))
        .b("SELECT 'stranger'")
        .shows("D(stranger)")
        .send(Player::A, &end.parts())
        .read(Player::A, Until::Ready(1))
        .shows(end.shown());
    let extended = [vec![unnamed(COPY_IN)], end.parts(), vec![sync()]].concat();
    let by_both =
        [start("simple").flight(Player::A, &simple), start("extended").flight(Player::A, &extended)];
    let mut cases = by_both.map(|scenario| check(scenario.shows(end.shown()))).to_vec();
    cases.push(check(turns));
    cases
}

fn others() -> Vec<Scenario> {
    vec![
        Scenario::new("copy-in-transaction", "COPY in a transaction that rolls back")
            .table("copied", "n int, t text", "")
            .a("BEGIN")
            .flight(Player::A, &[query(COPY_IN), copy_data("1\tone\n"), copy_done()])
            .shows("COPY 1")
            .b("SELECT count(*) FROM torture.copied")
            .shows("D(0)")
            .a("ROLLBACK")
            .a("SELECT count(*) FROM torture.copied")
            .shows("D(0)"),
        Scenario::new("copy-in-refused", "COPY into a table that is not there, with data already sent")
            .flight(
                Player::A,
                &[query("COPY torture.nowhere FROM STDIN"), copy_data("1\tone\n"), copy_done()],
            )
            .shows("42P01")
            .b("SELECT 'stranger'")
            .a("SELECT 'well'")
            .shows("D(well)"),
        Scenario::new("copy-in-two", "two COPYs in one Query")
            .table("copied", "n int, t text", "")
            .flight(
                Player::A,
                &[
                    query("COPY torture.copied FROM STDIN; COPY torture.copied FROM STDIN"),
                    copy_data("1\tone\n"),
                    copy_done(),
                    copy_data("2\ttwo\n"),
                    copy_done(),
                ],
            )
            .shows("COPY 1")
            .b("SELECT count(*) FROM torture.copied")
            .shows("D(2)"),
    ]
}

/// COPY to the client, and clients that vanish in either direction.
fn outward() -> Vec<Scenario> {
    vec![
        Scenario::new("copy-out", "COPY TO STDOUT, another client between")
            .a("COPY (SELECT x FROM generate_series(1, 3) x) TO STDOUT")
            .shows("d(3)")
            .b("SELECT 'stranger'")
            .hides("d(3)")
            .ax("COPY (SELECT x FROM generate_series(1, 3) x) TO STDOUT")
            .shows("COPY 3"),
        Scenario::new("copy-out-error", "COPY TO STDOUT that fails after some rows")
            .a("COPY (SELECT 10 / (3 - x) FROM generate_series(1, 5) x) TO STDOUT")
            .shows("22012")
            .b("SELECT 'stranger'")
            .hides("d(")
            .a("SELECT 'well'")
            .shows("D(well)"),
        Scenario::new("copy-out-pipe", "COPY TO STDOUT and more in one write")
            .flight(
                Player::A,
                &[
                    query("COPY (SELECT 1) TO STDOUT"),
                    unnamed("COPY (SELECT 2) TO STDOUT"),
                    unnamed("SELECT 3"),
                    sync(),
                ],
            )
            .shows("D(3)")
            .b("SELECT 'stranger'"),
        Scenario::new("copy-in-vanish", "the client vanishes within COPY FROM STDIN")
            .table("copied", "n int, t text", "")
            .b("SELECT 'before'")
            .send(Player::A, &[query(COPY_IN)])
            .read(Player::A, Until::Tag(b'G'))
            .send(Player::A, &[copy_data("1\tone\n")])
            .step(Player::A, Act::Vanish)
            .b("SELECT 'stranger'")
            .shows("D(stranger)")
            .ask(Player::C, "SELECT 'newcomer'")
            .shows("D(newcomer)")
            .step(
                Player::B,
                Act::AskUntil(
                    query("SELECT count(*), pg_try_advisory_xact_lock(1) FROM torture.copied"),
                    "D(0|".to_owned(),
                ),
            )
            .shows("D(0|"),
        Scenario::new("copy-out-vanish", "the client vanishes within COPY TO STDOUT")
            .send(
                Player::A,
                &[query("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 20000)) TO STDOUT")],
            )
            .read(Player::A, Until::Tag(b'H'))
            .shows("H")
            .step(Player::A, Act::Vanish)
            .b("SELECT 'stranger'")
            .hides("d(")
            .shows("D(stranger)")
            .ask(Player::C, "SELECT 'newcomer'")
            .shows("D(newcomer)"),
    ]
}
