//! Clients that prepare statements under the same few names, on servers that keep these as PostgreSQL does: pipelines of several
//! series, Parses of names that are taken, errors between them, SQL that names statements, other settings and paths. What a statement
//! runs tells its SQL, types and surroundings, so that one that is mistaken for another shows.

use trunkline_model::{Rng, wire};
use trunkline_session::StatementNames;

use super::each_seed_of;
use super::flights::{Flight, Look, query, sync};
use super::pooled::{Client, Pool, Servers};

const NAMES: [&str; 3] = ["s0", "s1", "s2"];

const SQL: [&str; 8] = [
    "select x from p",
    "select x from p",
    "select y from p",
    "select x from q",
    "select $1 from p",
    "show a",
    "set a to 3",
    "bad",
];

const OUTSIDE: [&str; 18] = [
    "select 1",
    "select error",
    "set a to 1",
    "reset a",
    "set search_path to one",
    "set search_path to two",
    "reset search_path",
    "begin; set search_path to one; rollback",
    "deallocate all",
    "discard all",
    "deallocate s0",
    "execute s0",
    "execute s1",
    "prepare s1 as select x from q",
    "deallocate s1",
    "begin; set a to 6; commit",
    "select 2",
    "select 1; select error",
];

const WITHIN: [&str; 13] = [
    "select 1",
    "select error",
    "set local a to 2",
    "set search_path to two",
    "set local search_path to one",
    "savepoint s",
    "savepoint s",
    "rollback to s",
    "release s",
    "execute s1",
    "deallocate s0",
    "deallocate all",
    "show a",
];

fn parse(rng: &mut Rng, name: &str, out: &mut Vec<u8>) {
    let sql = rng.pick(&SQL);
    let mut body = format!("{name}\0{sql}\0").into_bytes();
    match rng.below(if sql.contains("$1") { 3 } else { 1 }) {
        1 => body.extend([0, 1, 0, 0, 0, 23]),
        2 => body.extend([0, 1, 0, 0, 0, 25]),
        _none => body.extend([0, 0]),
    }
    out.extend(wire::message(b'P', &body));
}

fn bind(rng: &mut Rng, portal: &str, name: &str, out: &mut Vec<u8>) {
    let mut body = format!("{portal}\0{name}\0\0\0").into_bytes();
    body.extend(if rng.one_in(4) { &[0, 1, 0, 0, 0, 1, b'v', 0, 0][..] } else { &[0, 0, 0, 0] });
    out.extend(wire::message(b'B', &body));
}

/// One message, or a few that belong together.
fn unit(rng: &mut Rng, out: &mut Vec<u8>) {
    let name = rng.pick(&NAMES);
    match rng.below(12) {
        0..=2 => {
            if rng.one_in(2) {
                out.extend(wire::message(b'C', format!("S{name}\0").as_bytes()));
            }
            parse(rng, name, out);
        }
        3 => out.extend(wire::message(b'C', format!("S{name}\0").as_bytes())),
        4..=5 => out.extend(wire::message(b'D', format!("S{name}\0").as_bytes())),
        6 => {
            parse(rng, "", out);
            bind(rng, "", "", out);
            out.extend(wire::message(b'E', b"\0\0\0\0\0"));
        }
        7 => {
            let portal = rng.pick(&["c", "d"]);
            match rng.below(4) {
                0 => bind(rng, portal, name, out),
                1 => out.extend(wire::message(b'D', format!("P{portal}\0").as_bytes())),
                2 => out.extend(wire::message(b'E', format!("{portal}\0\0\0\0\0").as_bytes())),
                _close => out.extend(wire::message(b'C', format!("P{portal}\0").as_bytes())),
            }
        }
        _run => {
            bind(rng, "", name, out);
            if rng.one_in(4) {
                out.extend(wire::message(b'D', b"P\0"));
            }
            if !rng.one_in(6) {
                out.extend(wire::message(b'E', b"\0\0\0\0\0"));
            }
        }
    }
}

fn series(rng: &mut Rng, queries: &[&str], out: &mut Vec<u8>) {
    if rng.one_in(4) {
        return out.extend(query(rng.pick(queries)));
    }
    for _ in 0..1 + rng.below(5) {
        unit(rng, out);
        if rng.one_in(12) {
            out.extend(wire::message(b'H', b""));
        }
    }
    // A Query may end a series, too.
    if rng.one_in(12) { out.extend(query(rng.pick(queries))) } else { out.extend(sync()) }
}

fn strict(bytes: Vec<u8>) -> Flight {
    Flight { bytes, look: Look::Strict }
}

/// Units of one client: each flight ends behind a Sync or Query.
pub(crate) fn flights(rng: &mut Rng) -> Vec<Flight> {
    let mut flights = Vec::new();
    if rng.one_in(4) {
        flights.push(strict(query("set b to 1")));
    }
    for _ in 0..4 + rng.below(12) {
        let is_transaction = rng.one_in(4);
        if is_transaction {
            flights.push(strict(query("begin")));
        }
        for _ in 0..1 + rng.below(if is_transaction { 5 } else { 1 }) {
            let mut out = Vec::new();
            for _ in 0..1 + rng.below(3) {
                series(rng, if is_transaction { &WITHIN } else { &OUTSIDE }, &mut out);
            }
            flights.push(strict(out));
        }
        if is_transaction {
            flights.push(strict(query(rng.pick(&["commit", "rollback"]))));
        }
    }
    flights
}

#[test]
fn statements_that_clients_share_are_never_mistaken() {
    let (mut opened, mut reused, mut pinned, mut over) = (0, 0, 0, 0);
    each_seed_of(400, |rng| {
        let statements_max = rng.pick(&[1, 2, 100]);
        let names = StatementNames::OfContent { statements_max };
        let mut pool = Pool::new(names, Servers::Strict);
        let count = 2 + rng.below(3);
        let mut clients: Vec<Client> = (0..count)
            .map(|_| {
                let flights = flights(rng);
                Client::new(rng, flights, &pool)
            })
            .collect();
        for _ in 0..40 {
            let number = rng.below(count);
            clients[number].fly(rng, &mut pool);
            if pool.is_over {
                over += 1;
                break;
            }
        }
        opened += pool.opened;
        reused += pool.reused;
        pinned += pool.pinned;
    });
    println!("{opened} opened, {reused} reused, {pinned} check-ins pinned, {over} over early");
    assert!(reused > opened && pinned < reused, "too few schedules say anything");
}
