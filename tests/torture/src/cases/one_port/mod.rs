//! One port for reads and writes: what is executed where must not be told.

mod fixture;
mod functions;
mod read_only;
mod series;
mod sessions;
mod statements;
mod transactions;

use super::script::Protocol;
use crate::scenario::{Player, Scenario};

pub(super) use fixture::FIXTURE;

const ROWS: &str = "SELECT 'rows', count(*) FROM torture.ported";
pub(super) fn cases() -> Vec<Scenario> {
    [
        functions::cases(),
        statements::cases(),
        transactions::cases(),
        read_only::cases(),
        series::cases(),
        sessions::cases(),
    ]
    .concat()
}

/// There is one row.
fn port(key: &str, about: &str) -> Scenario {
    Scenario::new(format!("port-{key}"), about)
        .setup("TRUNCATE torture.ported; INSERT INTO torture.ported VALUES (1, 'one')")
}

/// The same by both protocols: `sql`, what it shows, and how many rows there are then.
fn both(key: &str, about: &str, sql: &str, shows: &str, rows: usize) -> Vec<Scenario> {
    let by = |protocol: Protocol| {
        let scenario = port(&format!("{key}-{}", protocol.key()), about);
        let scenario = scenario.a(ROWS).flight(Player::A, &[protocol.run(sql)]).shows(shows);
        scenario.flight(Player::A, &[protocol.run(ROWS)]).shows(format!("D(rows|{rows})"))
    };
    vec![by(Protocol::Simple), by(Protocol::Extended)]
}
