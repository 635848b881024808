//! What a client asks for at its login, and what the server has for it: startup parameters, defaults of roles and databases.

use crate::run::OTHER_ROLE;
use crate::scenario::{Need, Player, Scenario};

pub(crate) fn cases() -> Vec<Scenario> {
    let mut cases: Vec<Scenario> = PARAMETERS
        .iter()
        .flat_map(|&(name, value, shown)| [asked(name, value, shown), reset(name, value, shown)])
        .collect();
    cases.extend(OPTIONS.iter().map(|&(key, options, name, shown)| options_case(key, options, name, shown)));
    cases.extend(defaults());
    cases
}

const PARAMETERS: &[(&str, &str, &str)] = &[
    ("application_name", "torture login", "torture login"),
    ("DateStyle", "German, DMY", "German, DMY"),
    ("TimeZone", "Asia/Tokyo", "Asia/Tokyo"),
    ("client_encoding", "LATIN1", "LATIN1"),
    ("search_path", "torture", "torture"),
    ("extra_float_digits", "-7", "-7"),
    ("work_mem", "7777kB", "7777kB"),
    ("default_transaction_read_only", "on", "D(on)"),
    ("torture.token", "seven", "seven"),
];

const OPTIONS: &[(&str, &str, &str, &str)] = &[
    ("c", "-c work_mem=7777kB", "work_mem", "7777kB"),
    ("dashes", "--work_mem=7777kB", "work_mem", "7777kB"),
    ("two", "-c enable_seqscan=off -c work_mem=7777kB", "work_mem", "7777kB"),
    ("escaped", "-c application_name=torture\\ login", "application_name", "torture login"),
    ("custom", "-c torture.token=seven", "torture.token", "seven"),
];

fn asked(name: &str, value: &str, shown: &str) -> Scenario {
    let read = format!("SELECT current_setting('{name}', true)");
    let key = name.replace(['_', '.'], "-");
    Scenario::new(format!("startup-{key}"), format!("{name} in the startup packet"))
        .connect(Player::B, &[])
        .b(&read)
        .hides(shown)
        .connect(Player::A, &[(name, value)])
        .a(&read)
        .shows(shown)
        .b(&read)
        .hides(shown)
        .a(&read)
        .shows(shown)
        .ask(Player::C, &read)
        .hides(shown)
}

/// RESET brings back the value of the startup packet, not the server's.
fn reset(name: &str, value: &str, shown: &str) -> Scenario {
    let read = format!("SELECT current_setting('{name}', true)");
    let key = name.replace(['_', '.'], "-");
    Scenario::new(format!("startup-reset-{key}"), format!("RESET {name} brings the startup packet's value"))
        .connect(Player::A, &[(name, value)])
        .a(format!("SET {name} TO DEFAULT"))
        .b(&read)
        .hides(shown)
        .a(&read)
        .shows(shown)
        .a("RESET ALL")
        .b(&read)
        .hides(shown)
        .a(&read)
        .shows(shown)
        .a("DISCARD ALL")
        .a(&read)
        .shows(shown)
}

fn options_case(key: &str, options: &str, name: &str, shown: &str) -> Scenario {
    let read = format!("SELECT current_setting('{name}', true)");
    Scenario::new(format!("options-{key}"), format!("startup options {options}"))
        .connect(Player::A, &[("options", options)])
        .a(&read)
        .shows(shown)
        .b(&read)
        .hides(shown)
        .a("RESET ALL")
        .b(&read)
        .hides(shown)
        .a(&read)
        .shows(shown)
}

fn defaults() -> Vec<Scenario> {
    let read = "SELECT current_setting('work_mem')";
    let in_database = |what: &str| {
        format!("DO $$ BEGIN EXECUTE format('ALTER {what} %I {{}}', current_database()); END $$")
    };
    let alter = |action: &str| in_database("DATABASE").replace("{}", action);
    let role = |action: &str| in_database("ROLE CURRENT_USER IN DATABASE").replace("{}", action);
    let of = |name: &str, about: &str, set: String, reset: String| {
        Scenario::new(name, about)
            .cleanup(reset.clone())
            .b(read)
            .hides("7777kB")
            .a(set)
            .b(read)
            .hides("7777kB")
            .connect(Player::C, &[])
            .ask(Player::C, read)
            .shows("7777kB")
            .b(read)
            .hides("7777kB")
            .a(reset)
            .ask(Player::C, read)
            .shows("7777kB")
            .connect(Player::D, &[])
            .ask(Player::D, read)
            .hides("7777kB")
    };
    vec![
        of(
            "default-of-database",
            "ALTER DATABASE SET: sessions from then on have it",
            alter("SET work_mem = ''7777kB''"),
            alter("RESET work_mem"),
        ),
        of(
            "default-of-role",
            "ALTER ROLE IN DATABASE SET: sessions from then on have it",
            role("SET work_mem = ''7777kB''"),
            role("RESET work_mem"),
        ),
        Scenario::new("default-reset", "RESET brings the role's default, of the one who has it")
            .setup(role("SET work_mem = ''8888kB''"))
            .connect(Player::A, &[])
            .a("SET work_mem = '7777kB'")
            .b(read)
            .shows("8888kB")
            .a("RESET work_mem")
            .a(read)
            .shows("8888kB")
            .cleanup(role("RESET work_mem")),
        Scenario::new("default-other-role", "SET ROLE brings no defaults of the role")
            .setup(format!("ALTER ROLE {OTHER_ROLE} SET work_mem = '7777kB'"))
            .needs(Need::Superuser)
            .a(format!("SET ROLE {OTHER_ROLE}"))
            .a("SELECT current_user, current_setting('work_mem')")
            .shows(OTHER_ROLE)
            .hides("7777kB")
            .b("SELECT current_user, current_setting('work_mem')")
            .hides(OTHER_ROLE)
            .cleanup(format!("ALTER ROLE {OTHER_ROLE} RESET ALL")),
    ]
}
