//! Functions that write: what a standby refuses, and what it runs otherwise than the primary.

use super::{ROWS, both, port};
use crate::run::OTHER_ROLE;
use crate::scenario::Scenario;

pub(super) fn cases() -> Vec<Scenario> {
    [functions(), swallowed()].concat()
}

/// What a standby refuses once it runs it.
fn functions() -> Vec<Scenario> {
    let mut cases = [
        both("function", "a function that adds a row", "SELECT torture.port_add()", "D(4711)", 2),
        both("overload", "another of the same name", "SELECT torture.port_add(7)", "D(7)", 2),
        both("view-adding", "a view over it", "SELECT v FROM torture.port_adding", "D(4711)", 2),
        both("quoted", "its name in quotes", "SELECT \"torture\" . \"port_add\" ()", "D(4711)", 2),
        both("unicode", "its name with an escape", "SELECT torture.U&\"port\\005fadd\"()", "D(4711)", 2),
        both("from", "in FROM", "SELECT * FROM torture.port_add() AS f(x)", "D(4711)", 2),
        both("limit", "in LIMIT", "SELECT 'limited' LIMIT torture.port_add()", "D(limited)", 2),
        both("order", "in ORDER BY", "SELECT 'ordered' ORDER BY torture.port_add()", "D(ordered)", 2),
        both("where", "in WHERE", "SELECT 'found' WHERE torture.port_add() > 0", "D(found)", 2),
        both("lateral", "twice", "SELECT count(torture.port_add(i)) FROM generate_series(1, 2) i", "D(2)", 3),
        both("notice", "it says NOTICE before it writes: once", "SELECT torture.port_notice()", "D(4)", 2),
        both("late", "rows come before it writes", "SELECT count(*) FROM torture.port_late()", "D(3)", 2),
        both("table-form", "rows of a set", "SELECT torture.port_late()", "D(3)", 2),
        both("sometimes-not", "it reads this time", "SELECT torture.port_maybe(false)", "D(read)", 1),
        both("sometimes", "it writes this time", "SELECT torture.port_maybe(true)", "D(written)", 2),
        both("values", "in VALUES", "VALUES (torture.port_add())", "D(4711)", 2),
        both("explained", "EXPLAIN runs nothing", "EXPLAIN SELECT torture.port_add()", "C(EXPLAIN)", 1),
    ]
    .concat();
    cases.push(
        port("function-thrice", "the same text again: one row each time")
            .a("SELECT torture.port_add()")
            .ax("SELECT torture.port_add()")
            .a("SELECT torture.port_add()")
            .a(ROWS)
            .shows("D(rows|4)"),
    );
    cases.push(
        port("function-by-path", "its name without a schema")
            .a("SET search_path = torture, public")
            .a("SELECT port_add()")
            .ax("SELECT port_add()")
            .a(ROWS)
            .shows("D(rows|3)"),
    );
    cases
}

/// What a standby runs, and otherwise than the primary.
fn swallowed() -> Vec<Scenario> {
    let rows = [
        ("others", "WHEN OTHERS", "SELECT torture.port_swallow()"),
        ("by-name", "the refusal by name", "SELECT torture.port_swallow_by_name()"),
        ("by-class", "its class", "SELECT torture.port_swallow_by_class()"),
        ("deep", "a function calls it", "SELECT torture.port_deep()"),
        ("dynamic", "a name that is made", "SELECT torture.port_dynamic()"),
        ("recovery", "pg_is_in_recovery()", "SELECT torture.port_recovery()"),
        ("setting", "transaction_read_only", "SELECT torture.port_setting()"),
        ("view", "a view", "SELECT v FROM torture.port_view"),
        ("view-of-view", "a view of a view", "TABLE torture.port_outer"),
        ("operator", "an operator", "SELECT 1 OPERATOR(torture.<+>) 2"),
        ("aggregate", "an aggregate", "SELECT torture.port_all(i) FROM (VALUES (1)) AS f(i)"),
        ("cast", "a cast", "SELECT CAST(ROW(1, 2)::torture.port_pair AS text)"),
        ("do", "an anonymous block of a function", "SELECT max(torture.port_deep())"),
    ];
    let swallowed = rows.map(|(key, about, sql)| {
        both(
            &format!("swallowed-{key}"),
            &format!("a refusal that nobody sees: {about}"),
            sql,
            "D(written)",
            2,
        )
    });
    let mut cases = swallowed.concat();
    cases.extend(both(
        "swallowed-domain",
        "a refusal that nobody sees: a domain",
        "SELECT 'checked'::torture.port_domain",
        "D(checked)",
        2,
    ));
    let guarded =
        format!("SET ROLE {OTHER_ROLE}; SELECT 'guarded', count(*) FROM torture.port_guarded; RESET ROLE");
    cases.push(
        port("swallowed-policy", "a refusal that nobody sees: a policy")
            .a(guarded)
            .shows("D(guarded|1)")
            .a(ROWS)
            .shows("D(rows|2)"),
    );
    cases.push(
        port("swallowed-policy-later", "the same, the role set before")
            .a(format!("SET ROLE {OTHER_ROLE}"))
            .a("SELECT 'guarded', count(*) FROM torture.port_guarded")
            .shows("D(guarded|1)")
            .a("RESET ROLE")
            .a(ROWS)
            .shows("D(rows|2)"),
    );
    cases.push(
        port("swallowed-field", "a function as a column")
            .a("SET search_path = torture, public")
            .a("SELECT p.port_field FROM ported p WHERE id = 1")
            .shows("D(written)")
            .ax("SELECT (p).port_field FROM ported p WHERE id = 1")
            .shows("D(written)")
            .a(ROWS)
            .shows("D(rows|3)"),
    );
    cases.push(
        port("swallowed-operator-by-path", "an operator without its schema")
            .a("SET search_path = torture, public")
            .a("SELECT 1 <+> 2")
            .shows("D(written)")
            .ax("SELECT 1<+>2")
            .shows("D(written)")
            .a(ROWS)
            .shows("D(rows|3)"),
    );
    cases
}
