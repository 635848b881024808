//! What a random client sends.

use crate::rng::Rng;
use crate::wire::message;

const SQL: [&str; 30] = [
    "select 1",
    "select 1",
    "select 3",
    "select 0",
    "",
    "select error",
    "set a to 1",
    "set timezone to 2",
    "set local timezone to 3",
    "reset a",
    "show a",
    "show timezone",
    "savepoint s",
    "rollback to s",
    "release s",
    "discard all",
    "set a to 4; select error",
    "begin; set a to 5; commit",
    "select notice",
    "begin",
    "commit",
    "rollback",
    "begin; select 2; commit",
    "select 1; select error; select 1",
    "select 2; set a to 6; select 1",
    "copy out 2",
    "copy in",
    "copy in 2",
    "copy in; select 1; copy in",
    "deallocate all",
];

/// One statement each, since a name always stands for the same.
const PREPARED: [(&str, &str); 10] = [
    ("s0", "select 2"),
    ("s1", "select 0"),
    ("s2", "set timezone to 7"),
    ("s3", "copy in"),
    ("s4", "select error"),
    ("s5", "select notice"),
    ("s6", "bad"),
    ("s7", "begin"),
    ("s8", "show timezone"),
    ("s9", "insert defer"),
];

/// The bytes of a whole conversation.
pub fn script(rng: &mut Rng) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..rng.below(10) {
        unit(rng, &mut out);
    }
    match rng.below(4) {
        0 => out.extend(message(b'X', b"")),
        _stays => {}
    }
    out
}

/// What may stand in a transaction.
const WITHIN: [&str; 12] = [
    "select 1",
    "show a",
    "show timezone",
    "set a to 1",
    "set timezone to 2",
    "set local timezone to 3",
    "set local a to 4",
    "savepoint s",
    "savepoint s",
    "rollback to s",
    "release s",
    "select error",
];

/// What stands in one that goes back to a savepoint.
const SAVED: [&str; 6] =
    ["set a to 1", "savepoint s", "set timezone to 2", "select error", "rollback to s", "show a"];

/// A transaction, one request for each of its statements, and a look at what it has left.
#[must_use]
pub fn transaction(rng: &mut Rng) -> Vec<Vec<u8>> {
    let mut statements = vec!["begin"];
    if rng.one_in(2) {
        statements.extend(SAVED.iter().filter(|_| !rng.one_in(4)));
    } else {
        statements.extend((0..1 + rng.below(6)).map(|_| rng.pick(&WITHIN)));
    }
    statements.push(rng.pick(&["commit", "rollback"]));
    statements.extend(["show a", "show timezone"]);
    let queries = statements.iter().map(|sql| message(b'Q', format!("{sql}\0").as_bytes()));
    // Not joined to a series before it that has no Sync.
    std::iter::once(message(b'S', b"")).chain(queries).collect()
}

/// Appends one request, or a few that belong together.
pub fn unit(rng: &mut Rng, out: &mut Vec<u8>) {
    match rng.below(12) {
        0..=3 => query(rng, out),
        4..=7 => pipeline(rng, out),
        8 => {
            let arguments: &[u8] = if rng.one_in(3) { b"" } else { b"\0\0\0\0" };
            out.extend(message(b'F', arguments));
        }
        9 => copy_data(rng, out),
        _chaos => {
            let tag = rng.pick(b"PBDECHSQFdcf");
            any(rng, tag, out);
        }
    }
}

fn query(rng: &mut Rng, out: &mut Vec<u8>) {
    let sql = if rng.one_in(60) { "values 50000" } else { rng.pick(&SQL) };
    // The proxy forwards a long message in parts.
    let padding = if sql == "select 1" && rng.one_in(10) { " ".repeat(40_000) } else { String::new() };
    out.extend(message(b'Q', format!("{sql}{padding}\0").as_bytes()));
    if sql.contains("copy in") && !rng.one_in(6) {
        (0..sql.matches("copy in").count()).for_each(|_| copy_data(rng, out));
    }
}

fn copy_data(rng: &mut Rng, out: &mut Vec<u8>) {
    for _ in 0..rng.below(4) {
        out.extend(message(b'd', b"data"));
    }
    if rng.one_in(60) {
        out.extend(message(b'd', &vec![b'x'; 40_000]));
    }
    if rng.one_in(8) {
        out.extend(message(rng.pick(b"SH"), b""));
    }
    match rng.below(8) {
        0 => {}
        1 => out.extend(message(b'f', b"no\0")),
        _most => out.extend(message(b'c', b"")),
    }
}

fn pipeline(rng: &mut Rng, out: &mut Vec<u8>) {
    for _ in 0..1 + rng.below(4) {
        let portal = if rng.one_in(4) { "p" } else { "" };
        let (mut name, sql) = rng.pick(&PREPARED);
        if rng.one_in(2) {
            name = "";
        }
        if name.is_empty() || rng.one_in(2) {
            parse(name, sql, out);
        }
        if rng.one_in(4) {
            out.extend(message(b'D', format!("S{name}\0").as_bytes()));
        }
        bind(portal, name, out);
        if rng.one_in(2) {
            out.extend(message(b'D', format!("P{portal}\0").as_bytes()));
        }
        execute(rng, portal, out);
        if sql == "copy in" && !rng.one_in(4) {
            copy_data(rng, out);
        }
        if rng.one_in(6) {
            any(rng, b'C', out);
        }
        if rng.one_in(6) {
            out.extend(message(b'H', b""));
        }
        if rng.one_in(3) {
            out.extend(message(b'S', b""));
        }
    }
    if !rng.one_in(6) {
        out.extend(message(b'S', b""));
    }
}

fn parse(name: &str, sql: &str, out: &mut Vec<u8>) {
    out.extend(message(b'P', format!("{name}\0{sql}\0\0\0").as_bytes()));
}

fn bind(portal: &str, name: &str, out: &mut Vec<u8>) {
    out.extend(message(b'B', format!("{portal}\0{name}\0\0\0\0\0\0\0").as_bytes()));
}

fn execute(rng: &mut Rng, portal: &str, out: &mut Vec<u8>) {
    let rows = rng.pick(&[0, 0, 0, 1, 2, 5]);
    out.extend(message(b'E', format!("{portal}\0\0\0\0{}", char::from(rows)).as_bytes()));
}

fn any(rng: &mut Rng, tag: u8, out: &mut Vec<u8>) {
    let (name, sql) = rng.pick(&PREPARED);
    match tag {
        b'Q' => query(rng, out),
        b'P' => parse(name, sql, out),
        b'B' => bind("", name, out),
        b'E' => execute(rng, "", out),
        b'D' => out.extend(message(b'D', format!("{}{name}\0", rng.pick(&['S', 'P', '?'])).as_bytes())),
        b'C' => out.extend(message(b'C', format!("{}{name}\0", rng.pick(&['S', 'S', 'P', '?'])).as_bytes())),
        b'H' => out.extend(message(b'H', if rng.one_in(3) { b"x" } else { b"" })),
        b'F' => out.extend(message(b'F', b"")),
        b'd' => out.extend(message(b'd', b"data")),
        b'f' => out.extend(message(b'f', b"no\0")),
        empty => out.extend(message(empty, b"")),
    }
}
