//! What a random client sends.

use crate::rng::Rng;
use crate::wire::message;

const SQL: [&str; 20] = [
    "rows 1",
    "rows 1",
    "rows 3",
    "rows 0",
    "",
    "error",
    "set",
    "notice",
    "begin",
    "commit",
    "rollback",
    "begin; rows 2; commit",
    "rows 1; error; rows 1",
    "rows 2; set; rows 1",
    "copyout 2",
    "copyin",
    "copyin 2",
    "copyin 0",
    "copyin; rows 1; copyin",
    "deallocate all",
];

/// One statement each, since a name always stands for the same.
const PREPARED: [(&str, &str); 8] = [
    ("s0", "rows 2"),
    ("s1", "rows 0"),
    ("s2", "set"),
    ("s3", "copyin"),
    ("s4", "error"),
    ("s5", "notice"),
    ("s6", "bad"),
    ("s7", "begin"),
];

/// The bytes of a whole conversation.
pub(crate) fn script(rng: &mut Rng) -> Vec<u8> {
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

fn unit(rng: &mut Rng, out: &mut Vec<u8>) {
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
    let sql = if rng.one_in(60) { "big 50000" } else { rng.pick(&SQL) };
    out.extend(message(b'Q', format!("{sql}\0").as_bytes()));
    if sql.contains("copyin") && !rng.one_in(6) {
        (0..sql.matches("copyin").count()).for_each(|_| copy_data(rng, out));
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
        if sql == "copyin" && !rng.one_in(4) {
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
