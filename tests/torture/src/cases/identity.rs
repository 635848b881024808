//! Who a session is: role and session authorization.

use crate::run::OTHER_ROLE;
use crate::scenario::{Act, Need, Player, Scenario};

const WHO: &str = "SELECT current_user, session_user";

pub(crate) fn cases() -> Vec<Scenario> {
    let mut cases: Vec<Scenario> = WAYS.iter().map(|&(key, sql)| becoming(key, sql)).collect();
    cases.extend(ended());
    cases.extend(rights());
    cases.into_iter().map(|scenario| scenario.needs(Need::Superuser)).collect()
}

const WAYS: &[(&str, &str)] = &[
    ("role", "SET ROLE torture_other"),
    ("session-role", "SET SESSION ROLE 'torture_other'"),
    ("role-equals", "SET role = 'torture_other'"),
    ("role-config", "SELECT set_config('role', 'torture_other', false)"),
    ("role-plpgsql", "SELECT torture.set_it('role', 'torture_other')"),
    ("role-do", "DO $$ BEGIN SET ROLE torture_other; END $$"),
    ("role-transaction", "BEGIN; SET ROLE torture_other; COMMIT"),
    ("authorization", "SET SESSION AUTHORIZATION torture_other"),
    ("authorization-quoted", "SET SESSION AUTHORIZATION 'torture_other'"),
    ("authorization-config", "SELECT set_config('session_authorization', 'torture_other', false)"),
    ("authorization-plpgsql", "SELECT torture.set_it('session_authorization', 'torture_other')"),
    ("authorization-role", "SET SESSION AUTHORIZATION torture_other; SET ROLE NONE"),
];

fn becoming(key: &str, sql: &str) -> Scenario {
    let back = if key.starts_with("role") || key == "session-role" {
        "RESET ROLE"
    } else {
        "RESET SESSION AUTHORIZATION"
    };
    Scenario::new(format!("become-{key}"), sql.replace("; ", ", then "))
        .b(WHO)
        .hides(OTHER_ROLE)
        .a(sql)
        .b(WHO)
        .hides(OTHER_ROLE)
        .a(WHO)
        .shows(OTHER_ROLE)
        .ax(WHO)
        .shows(OTHER_ROLE)
        .ask(Player::C, WHO)
        .hides(OTHER_ROLE)
        .a(back)
        .b(WHO)
        .hides(OTHER_ROLE)
        .a(WHO)
        .hides(OTHER_ROLE)
}

fn ended() -> Vec<Scenario> {
    let role = format!("SET ROLE {OTHER_ROLE}");
    vec![
        Scenario::new("become-rollback", "SET ROLE in a transaction that rolls back")
            .a("BEGIN")
            .a(&role)
            .a(WHO)
            .shows(OTHER_ROLE)
            .a("ROLLBACK")
            .b(WHO)
            .hides(OTHER_ROLE)
            .a(WHO)
            .hides(OTHER_ROLE),
        Scenario::new("become-local", "SET LOCAL ROLE ends with its transaction")
            .a("BEGIN")
            .a(format!("SET LOCAL ROLE {OTHER_ROLE}"))
            .a(WHO)
            .shows(OTHER_ROLE)
            .a("COMMIT")
            .b(WHO)
            .hides(OTHER_ROLE)
            .a(WHO)
            .hides(OTHER_ROLE),
        Scenario::new("become-vanish", "one who has become another vanishes")
            .a(&role)
            .a(WHO)
            .shows(OTHER_ROLE)
            .step(Player::A, Act::Vanish)
            .b(WHO)
            .hides(OTHER_ROLE)
            .ask(Player::C, WHO)
            .hides(OTHER_ROLE),
        Scenario::new("become-discard", "DISCARD ALL of one leaves the other what it has become")
            .a(&role)
            .b(&role)
            .a("DISCARD ALL")
            .a(WHO)
            .hides(OTHER_ROLE)
            .b(WHO)
            .shows(OTHER_ROLE),
        Scenario::new("become-order", "a setting before SET ROLE, one behind it")
            .a("SET work_mem = '7777kB'")
            .a(&role)
            .a("SET lock_timeout = '77777ms'")
            .b("SELECT current_user, current_setting('work_mem'), current_setting('lock_timeout')")
            .hides("7777")
            .a("SELECT current_user, current_setting('work_mem'), current_setting('lock_timeout')")
            .shows("D(torture_other|7777kB|77777ms)"),
    ]
}

fn rights() -> Vec<Scenario> {
    let role = format!("SET ROLE {OTHER_ROLE}");
    vec![
        Scenario::new("become-rights", "the rights of a role, for it alone")
            .table("secret", "x text", "VALUES ('secret')")
            .setup(format!("REVOKE ALL ON torture.secret FROM {OTHER_ROLE}, PUBLIC"))
            .a(&role)
            .b("SELECT x FROM torture.secret")
            .shows("D(secret)")
            .a("SELECT x FROM torture.secret")
            .shows("42501"),
        Scenario::new("become-prepared", "one prepared text under two roles")
            .table("secret", "x text", "VALUES ('secret')")
            .setup(format!("REVOKE ALL ON torture.secret FROM {OTHER_ROLE}, PUBLIC"))
            .b("PREPARE p AS SELECT x FROM torture.secret")
            .a(&role)
            .a("PREPARE p AS SELECT x FROM torture.secret")
            .b("EXECUTE p")
            .shows("D(secret)")
            .a("EXECUTE p")
            .shows("42501"),
        Scenario::new("become-owner", "what is made belongs to the one who made it")
            .setup(format!("GRANT CREATE ON SCHEMA torture TO {OTHER_ROLE}; DROP TABLE IF EXISTS torture.mine, torture.yours"))
            .a(&role)
            .b("CREATE TABLE torture.yours (x int)")
            .a("CREATE TABLE torture.mine (x int)")
            .b("SELECT tableowner FROM pg_tables WHERE tablename = 'yours'")
            .hides(OTHER_ROLE)
            .b("SELECT tableowner FROM pg_tables WHERE tablename = 'mine'")
            .shows(OTHER_ROLE)
            .b("DROP TABLE torture.mine, torture.yours"),
    ]
}
