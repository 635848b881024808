//! Ways for a setting to end or to stay: commit, rollback, savepoints, errors, disconnects, RESET.

use super::script::{COMPOSITE, CUSTOM, Knob, PLAIN, Protocol, REPORTED, scripted};
use crate::scenario::Scenario;

pub(crate) fn cases() -> Vec<Scenario> {
    let simple = [PLAIN, REPORTED, CUSTOM, COMPOSITE].map(|knob| (Protocol::Simple, knob));
    let extended = [PLAIN, REPORTED].map(|knob| (Protocol::Extended, knob));
    let combinations: Vec<(Protocol, Knob)> = simple.into_iter().chain(extended).collect();
    let of_end = |&(key, about, script): &(&str, &str, &str)| {
        let name = |protocol: Protocol, knob: &Knob| format!("end-{key}-{}-{}", knob.key, protocol.key());
        let of_combination = |(protocol, knob): &(Protocol, Knob)| {
            let scenario = Scenario::new(name(*protocol, knob), format!("{}: {about}", knob.name));
            scripted(scenario, script, knob, *protocol)
        };
        combinations.iter().map(of_combination).collect::<Vec<_>>()
    };
    ENDS.iter().flat_map(of_end).collect()
}

const ENDS: &[(&str, &str, &str)] = &[
    (
        "commit",
        "set in a transaction that commits",
        "
        B not 1
        A: BEGIN
        A: SET {n} = '{1}'
        A sees 1
        A: COMMIT
        B not 1
        A sees 1",
    ),
    (
        "rollback",
        "set in a transaction that rolls back",
        "
        A: BEGIN
        A: SET {n} = '{1}'
        A sees 1
        A: ROLLBACK
        B not 1
        A not 1",
    ),
    (
        "rollback-to-old",
        "an older value is back after a rollback",
        "
        A: SET {n} = '{1}'
        B not 1
        A: BEGIN
        A: SET {n} = '{2}'
        A sees 2
        A: ROLLBACK
        B not 1
        B not 2
        A sees 1",
    ),
    (
        "savepoint",
        "ROLLBACK TO a savepoint brings the value from before it",
        "
        A: BEGIN
        A: SET {n} = '{1}'
        A: SAVEPOINT s
        A: SET {n} = '{2}'
        A sees 2
        A: ROLLBACK TO s
        A sees 1
        A: COMMIT
        B not 1
        A sees 1",
    ),
    (
        "release",
        "RELEASE of a savepoint keeps the value",
        "
        A: BEGIN
        A: SET {n} = '{1}'
        A: SAVEPOINT s
        A: SET {n} = '{2}'
        A: RELEASE s
        A: COMMIT
        B not 2
        A sees 2",
    ),
    (
        "savepoint-twice",
        "two savepoints of one name",
        "
        A: BEGIN
        A: SAVEPOINT s
        A: SET {n} = '{1}'
        A: SAVEPOINT s
        A: SET {n} = '{2}'
        A: ROLLBACK TO s
        A: RELEASE s
        A: ROLLBACK TO s
        A not 1
        A: SET {n} = '{2}'
        A: COMMIT
        B not 2
        A sees 2",
    ),
    (
        "local",
        "SET LOCAL ends with its transaction",
        "
        A: BEGIN
        A: SET LOCAL {n} = '{1}'
        A sees 1
        A: COMMIT
        B not 1
        A not 1",
    ),
    (
        "local-over-session",
        "SET LOCAL above SET: the latter stays",
        "
        A: BEGIN
        A: SET {n} = '{1}'
        A: SET LOCAL {n} = '{2}'
        A sees 2
        A: COMMIT
        B not 1
        B not 2
        A sees 1",
    ),
    (
        "session-over-local",
        "SET after SET LOCAL stays",
        "
        A: BEGIN
        A: SET LOCAL {n} = '{1}'
        A: SET {n} = '{2}'
        A: COMMIT
        B not 2
        A sees 2",
    ),
    (
        "failed-commit",
        "COMMIT of a failed transaction",
        "
        A: SET {n} = '{1}'
        A: BEGIN
        A: SET {n} = '{2}'
        A: SELECT 1 / 0
        A: COMMIT
        B not 2
        B not 1
        A sees 1",
    ),
    (
        "failed-savepoint",
        "an error behind a savepoint, then ROLLBACK TO it",
        "
        A: BEGIN
        A: SET {n} = '{1}'
        A: SAVEPOINT s
        A: SET {n} = '{2}'
        A: SELECT 1 / 0
        A: ROLLBACK TO s
        A sees 1
        A: COMMIT
        B not 1
        A sees 1",
    ),
    (
        "pipe",
        "set in a series with more behind it",
        "
        B not 1
        A pipes: SELECT 1; SET {n} = '{1}'; SELECT 2
        B not 1
        A sees 1",
    ),
    (
        "pipe-error",
        "set in a series that fails behind it",
        "
        A: SET {n} = '{1}'
        A pipes: SET {n} = '{2}'; SELECT 1 / 0; SELECT 1
        B not 2
        A sees 1",
    ),
    (
        "pipe-transaction",
        "a whole transaction in one series",
        "
        A pipes: BEGIN; SET {n} = '{1}'; COMMIT; BEGIN; SET {n} = '{2}'; ROLLBACK
        B not 1
        A sees 1",
    ),
    (
        "vanish",
        "the client vanishes in its transaction",
        "
        A: BEGIN
        A: SET {n} = '{1}'
        A sees 1
        A vanishes
        B not 1
        C not 1",
    ),
    (
        "terminate",
        "the client terminates in its transaction",
        "
        A: BEGIN
        A: SET {n} = '{1}'
        A sees 1
        A terminates
        B not 1
        C not 1",
    ),
    (
        "leave",
        "the client sets and terminates, another one comes",
        "
        A: SET {n} = '{1}'
        A sees 1
        A terminates
        B not 1
        A enters
        A not 1",
    ),
    (
        "vanish-idle",
        "the client sets and vanishes, another one comes",
        "
        B enters
        A: SET {n} = '{1}'
        A sees 1
        A vanishes
        B not 1
        C not 1",
    ),
    (
        "chain",
        "COMMIT AND CHAIN",
        "
        A: BEGIN
        A: SET {n} = '{1}'
        A: COMMIT AND CHAIN
        A: SET {n} = '{2}'
        A: ROLLBACK AND CHAIN
        A sees 1
        A: COMMIT
        B not 1
        A sees 1",
    ),
    (
        "reset",
        "RESET brings the default",
        "
        A: SET {n} = '{1}'
        B not 1
        A sees 1
        A: RESET {n}
        B not 1
        A not 1",
    ),
    (
        "reset-in-transaction",
        "RESET is rolled back",
        "
        A: SET {n} = '{1}'
        A: BEGIN
        A: RESET {n}
        A not 1
        A: ROLLBACK
        B not 1
        A sees 1",
    ),
    (
        "reset-all",
        "RESET ALL",
        "
        A: SET {n} = '{1}'
        A sees 1
        B: SET {n} = '{2}'
        A: RESET ALL
        A not 1
        B sees 2
        A not 2",
    ),
    (
        "default",
        "SET TO DEFAULT",
        "
        A: SET {n} = '{1}'
        B not 1
        A sees 1
        A: SET {n} TO DEFAULT
        B not 1
        A not 1",
    ),
    (
        "discard-all",
        "DISCARD ALL of one client leaves the other's",
        "
        A: SET {n} = '{1}'
        B: SET {n} = '{2}'
        A sees 1
        A: DISCARD ALL
        A not 1
        B sees 2
        A not 2",
    ),
    (
        "both",
        "two clients set different values, turn by turn",
        "
        A: SET {n} = '{1}'
        B: SET {n} = '{2}'
        A sees 1
        B sees 2
        C not 1
        C not 2
        A sees 1
        B sees 2",
    ),
];
