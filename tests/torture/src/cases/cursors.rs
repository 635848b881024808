//! Cursors that outlive their transaction, and those that do not.

use crate::flight::{bind, describe_portal, execute, sync};
use crate::scenario::{Act, Player, Scenario};

const DECLARE: &str = "DECLARE held CURSOR WITH HOLD FOR SELECT 'row ' || x FROM generate_series(1, 5) x";

pub(crate) fn cases() -> Vec<Scenario> {
    let mut cases = ways();
    cases.extend(ends());
    cases
}

/// The cursor is A's in later transactions, and nobody else's.
fn ways() -> Vec<Scenario> {
    let follow = |name: &str, about: &str, scenario: Scenario| {
        let steps = scenario
            .b("FETCH held")
            .hides("D(row")
            .a("FETCH held")
            .shows("D(row 1)")
            .b("SELECT count(*) FROM pg_cursors")
            .shows("D(0)")
            .a("FETCH 2 FROM held")
            .shows("D(row 3)")
            .a("CLOSE held")
            .a("FETCH held")
            .shows("34000");
        Scenario { name: name.to_owned(), about: about.to_owned(), ..steps }
    };
    let new = || Scenario::new("", "");
    vec![
        follow("cursor-hold", "DECLARE WITH HOLD", new().a(DECLARE)),
        follow("cursor-hold-extended", "DECLARE WITH HOLD by the extended protocol", new().ax(DECLARE)),
        follow(
            "cursor-hold-transaction",
            "DECLARE WITH HOLD in a transaction",
            new().a("BEGIN").a(DECLARE).a("COMMIT"),
        ),
        follow(
            "cursor-hold-query",
            "DECLARE WITH HOLD in one Query with more",
            new().a(format!("SELECT 1; {DECLARE}; SELECT 2")),
        ),
        follow(
            "cursor-hold-hidden",
            "DECLARE WITH HOLD in a DO block",
            new().a(format!("DO $$ BEGIN EXECUTE $q${DECLARE}$q$; END $$")),
        ),
        follow(
            "cursor-hold-scroll",
            "DECLARE SCROLL CURSOR WITH HOLD, binary no",
            new().a(DECLARE.replace("CURSOR", "INSENSITIVE SCROLL CURSOR")),
        ),
    ]
}

fn ends() -> Vec<Scenario> {
    vec![
        Scenario::new("cursor-both", "two clients' held cursors of one name")
            .a(DECLARE)
            .b("DECLARE held CURSOR WITH HOLD FOR SELECT 'stranger'")
            .a("FETCH held")
            .shows("D(row 1)")
            .b("FETCH held")
            .shows("D(stranger)"),
        Scenario::new("cursor-rollback", "a held cursor of a transaction that rolls back is gone")
            .a("BEGIN")
            .a(DECLARE)
            .a("FETCH held")
            .shows("D(row 1)")
            .a("ROLLBACK")
            .b("SELECT 'stranger'")
            .a("FETCH held")
            .shows("34000"),
        Scenario::new("cursor-transaction", "a cursor without HOLD ends with its transaction")
            .a("BEGIN")
            .a("DECLARE c CURSOR FOR SELECT 'row ' || x FROM generate_series(1, 5) x")
            .a("FETCH c")
            .shows("D(row 1)")
            .b("FETCH c")
            .hides("D(row")
            .a("MOVE 2 FROM c")
            .a("FETCH c")
            .shows("D(row 4)")
            .a("COMMIT")
            .a("FETCH c")
            .shows("34000"),
        Scenario::new("cursor-session", "a later session does not find an earlier one's cursor")
            .a(DECLARE)
            .a("FETCH held")
            .shows("D(row 1)")
            .step(Player::A, Act::Terminate)
            .b("FETCH held")
            .hides("D(row")
            .b("SELECT count(*) FROM pg_cursors")
            .shows("D(0)"),
        Scenario::new("cursor-protocol", "Execute of a held cursor as a portal")
            .a(DECLARE)
            .b("SELECT 'stranger'")
            .flight(Player::A, &[describe_portal("held"), execute("held", 2), sync()])
            .shows("D(row 2)"),
        Scenario::new("cursor-close-all", "CLOSE ALL of one leaves the other's")
            .a(DECLARE)
            .b("CLOSE ALL")
            .a("FETCH held")
            .shows("D(row 1)")
            .a("CLOSE ALL")
            .a("FETCH held")
            .shows("34000"),
        Scenario::new("cursor-refcursor", "a cursor that a function opened, within its transaction")
            .setup(
                "CREATE OR REPLACE FUNCTION torture.opened() RETURNS refcursor LANGUAGE plpgsql AS \
                 $$ DECLARE c refcursor := 'opened'; BEGIN OPEN c FOR SELECT 'row'; RETURN c; END $$",
            )
            .a("BEGIN")
            .a("SELECT torture.opened()")
            .shows("D(opened)")
            .b("FETCH opened")
            .hides("D(row)")
            .a("FETCH opened")
            .shows("D(row)")
            .a("COMMIT"),
        Scenario::new("cursor-bound-name", "Bind of a portal with a held cursor's name")
            .a(DECLARE)
            .b("SELECT 'stranger'")
            .flight(
                Player::A,
                &[crate::flight::parse("", "SELECT 1"), crate::flight::bind_portal("held", "", &[]), sync()],
            )
            .shows("42P03")
            .flight(Player::A, &[crate::flight::parse("", "SELECT 2"), bind("", &[]), execute("", 0), sync()])
            .shows("D(2)"),
    ]
}
