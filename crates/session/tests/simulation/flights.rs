//! What the clients of the pooled simulation send, a flight at a time, and which answers they may get.

use trunkline_model::{Rng, wire};

/// Requests sent at once.
pub(crate) struct Flight {
    pub(crate) bytes: Vec<u8>,
    pub(crate) look: Look,
}

/// Which answers a flight may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Those of a connection of its own.
    Any,
    /// Also an error: it binds the unnamed statement of an earlier flight, which is gone on another connection where its
    /// client may have been told its columns.
    Unnamed,
    /// Also nothing: it asks for the last number that a sequence gave.
    Last,
    /// Those of a connection of its own, but for the codes of errors in a transaction that has failed.
    Strict,
}

impl Flight {
    #[track_caller]
    pub(crate) fn check(&self, expected: &[u8], received: &[u8]) -> Checked {
        if expected == received {
            return Checked::Same;
        }
        let (messages, rest) = wire::all(received);
        assert_eq!(rest, 0, "a message is cut");
        if has_failed(&messages) && has_failed(&wire::all(expected).0) {
            return Checked::Same;
        }
        if self.look == Look::Strict && may_differ(&wire::all(expected).0, &messages) {
            return Checked::Other;
        }
        let is_allowed = match self.look {
            Look::Any => false,
            Look::Strict => is_same_but_for_errors(&wire::all(expected).0, &messages),
            Look::Unnamed => match &messages[..] {
                [(b'E', error), (b'Z', b"I")] => error.windows(7).any(|it| it == b"C0A000\0"),
                _other => false,
            },
            Look::Last => matches!(&messages[..], [(b'T', _), (b'D', b""), (b'C', _), (b'Z', b"I")]),
        };
        let story = super::world::story;
        assert!(is_allowed, "{:?}: expected {}, received {}", self.look, story(expected), story(received));
        Checked::Same
    }
}

/// What became of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    Same,
    /// The answers are others, as they may be: what follows cannot be compared any more.
    Other,
}

/// Whether messages differ in a transaction that has failed: the proxy can prepare nothing there.
fn may_differ(expected: &[(u8, &[u8])], received: &[(u8, &[u8])]) -> bool {
    let is_in_failed =
        |messages: &[(u8, &[u8])]| messages.iter().any(|(tag, body)| *tag == b'Z' && *body == b"E");
    !is_same_but_for_errors(expected, received) && is_in_failed(expected) && is_in_failed(received)
}

/// Whether answers are the same but for errors that may be others.
fn is_same_but_for_errors(expected: &[(u8, &[u8])], received: &[(u8, &[u8])]) -> bool {
    let is_in_failed = |at: usize| {
        let next = expected[at..].iter().find(|(tag, _)| *tag == b'Z');
        next.is_none_or(|(_, status)| *status == b"E")
    };
    expected.len() == received.len()
        && expected
            .iter()
            .zip(received)
            .enumerate()
            .all(|(at, (one, other))| one == other || (one.0 == b'E' && other.0 == b'E' && is_in_failed(at)))
}

/// Whether a flight in a transaction that has failed was refused. PostgreSQL refuses each message there, the model not
/// before the Execute, so that it may be another.
fn has_failed(messages: &[(u8, &[u8])]) -> bool {
    let is_silent = |tag: u8| b"123tTn".contains(&tag);
    let told: Vec<_> = messages.iter().filter(|(tag, _)| !is_silent(*tag)).collect();
    matches!(told[..], [(b'E', _), (b'Z', b"E")])
}

const OUTSIDE: [&str; 24] = [
    "select 1",
    "show a",
    "show a",
    "show timezone",
    "show app.x",
    "set a to 1",
    "set a to 2",
    "set timezone to 3",
    "set timezone to 4",
    "set app.x to 5",
    "reset a",
    "reset timezone",
    "begin; set a to 6; commit",
    "begin; set timezone to 6; rollback",
    "begin; set app.x to 7; rollback",
    "begin; set local a to 8; commit",
    "set a to 9; select error",
    "select error",
    "deallocate all",
    "discard all",
    "deallocate s0",
    "execute s1",
    "execute s2",
    "prepare s2 as show a",
];

const WITHIN: [&str; 12] = [
    "select 1",
    "show a",
    "set a to 1",
    "set local a to 2",
    "set timezone to 2",
    "set local timezone to 3",
    "savepoint s",
    "savepoint s",
    "rollback to s",
    "release s",
    "select error",
    "execute s1",
];

pub(crate) fn query(sql: &str) -> Vec<u8> {
    wire::message(b'Q', format!("{sql}\0").as_bytes())
}

fn parse(name: &str, sql: &str) -> Vec<u8> {
    wire::message(b'P', format!("{name}\0{sql}\0\0\0").as_bytes())
}

fn run(name: &str) -> Vec<u8> {
    let bind = wire::message(b'B', format!("\0{name}\0\0\0\0\0\0\0").as_bytes());
    [bind, wire::message(b'E', b"\0\0\0\0\0")].concat()
}

pub(crate) fn sync() -> Vec<u8> {
    wire::message(b'S', b"")
}

/// The SQL of a named statement: that of some clients is the same.
fn sql_of(number: usize, name: usize) -> &'static str {
    const SQL: [[&str; 2]; 4] = [
        ["select 2", "select 3"],
        ["show a", "show timezone"],
        ["show a", "show a"],
        ["set a to 11", "select 0"],
    ];
    SQL[name][number % 2]
}

/// The flights of the client of this number.
pub(crate) fn flights(rng: &mut Rng, number: usize) -> Vec<Flight> {
    let mut flights = Vec::new();
    for _ in 0..4 + rng.below(12) {
        match rng.below(12) {
            0..=3 => flights.push(any(query(rng.pick(&OUTSIDE)))),
            4..=6 => flights.push(any(named(rng, number))),
            7 => flights.push(any(unnamed(rng, number))),
            8 => flights.push(Flight { bytes: [run(""), sync()].concat(), look: Look::Unnamed }),
            9 => {
                let bytes =
                    if rng.one_in(2) { query(&format!("insert {number}")) } else { query("show last") };
                let look = if bytes.ends_with(b"last\0") { Look::Last } else { Look::Any };
                flights.push(Flight { bytes, look });
            }
            10 => {
                let two = [named(rng, number), query(rng.pick(&OUTSIDE)), unnamed(rng, number)];
                flights.push(any(two.concat()));
            }
            _transaction => transaction(rng, number, &mut flights),
        }
    }
    flights
}

fn any(bytes: Vec<u8>) -> Flight {
    Flight { bytes, look: Look::Any }
}

/// A series with a named statement.
fn named(rng: &mut Rng, number: usize) -> Vec<u8> {
    let at = rng.below(4);
    let name = format!("s{at}");
    let mut out = Vec::new();
    if rng.one_in(2) {
        if rng.one_in(2) {
            out.extend(wire::message(b'C', format!("S{name}\0").as_bytes()));
        }
        out.extend(parse(&name, sql_of(number, at)));
    }
    if rng.one_in(4) {
        out.extend(wire::message(b'D', format!("S{name}\0").as_bytes()));
    }
    if !rng.one_in(4) {
        out.extend(run(&name));
    }
    out.extend(sync());
    out
}

/// A series with the unnamed statement, whose rows tell its client.
fn unnamed(rng: &mut Rng, number: usize) -> Vec<u8> {
    let mut out = Vec::new();
    if rng.one_in(6) {
        // What follows is skipped.
        out.extend(run("none"));
    }
    out.extend(parse("", &format!("select {}", 10 + number)));
    if rng.one_in(3) {
        out.extend(wire::message(b'D', b"S\0"));
    }
    if !rng.one_in(3) {
        out.extend(run(""));
    }
    out.extend(sync());
    out
}

/// A transaction, a flight for each of its statements.
fn transaction(rng: &mut Rng, number: usize, flights: &mut Vec<Flight>) {
    flights.push(any(query("begin")));
    for _ in 0..rng.below(6) {
        let bytes = if rng.one_in(4) { named(rng, number) } else { query(rng.pick(&WITHIN)) };
        flights.push(any(bytes));
    }
    flights.push(any(query(rng.pick(&["commit", "rollback"]))));
}
