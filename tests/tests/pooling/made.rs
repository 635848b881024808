//! What a client makes that runs a function is known before the connection of one who uses it goes to another, whatever the
//! SQL of both tells.

use trunkline_codec::write;

use super::effects::beside;
use super::*;

/// More than the proxy reads of one text.
const LONG: usize = 40_000;

/// How a client makes something.
type Way = (&'static str, fn(&mut Wire, &str));

const WAYS: [Way; 5] = [
    ("by a query", |wire, makes| run(wire, makes)),
    ("in a long text", |wire, makes| run(wire, &format!("{makes} -- {}", "x".repeat(LONG)))),
    ("by SQL that a DO makes up", |wire, makes| {
        let (begin, end) = makes.split_at(9);
        run(wire, &format!("DO $do$ BEGIN EXECUTE '{begin}' || '{end}'; END $do$"));
    }),
    ("by a statement prepared before", |wire, makes| {
        wire.prepare("makes", makes);
        run(wire, "SELECT 1");
        runs(wire, &["makes"]);
    }),
    ("by a pipeline", |wire, makes| {
        wire.prepare("makes", makes);
        wire.prepare("other", "CREATE SCHEMA IF NOT EXISTS of_triggers");
        runs(wire, &["other", "makes", "other"]);
    }),
];

/// Runs prepared statements, each in a transaction of its own.
#[track_caller]
fn runs(wire: &mut Wire, names: &[&str]) {
    wire.send_with(|out| {
        for name in names {
            write::bind(out, b"", name.as_bytes(), std::iter::empty()).unwrap();
            write::execute(out, b"", 0).unwrap();
            write::sync(out);
        }
    });
    for name in names {
        assert_eq!(wire.read_answer().error, None, "{name}");
    }
}

#[test]
fn what_a_trigger_sets_that_was_just_made_leaks_nothing_of_statements_prepared_before() {
    let role = role("of_triggers");
    beside(
        "GRANT CREATE ON DATABASE appdb TO of_triggers;
         CREATE FUNCTION sets_for_triggers() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             PERFORM set_config('maintenance_work_mem', '9999kB', false); RETURN NEW; END $$;",
    );
    let pool = pool(1, 1);
    for (at, (way, make)) in WAYS.iter().enumerate() {
        let all = [("view", "by_protocol"), ("table", "by_protocol"), ("table", "by_sql")];
        for (by, uses) in all.into_iter().take(if at == 0 { 3 } else { 1 }) {
            let name = format!("triggered_{at}_{by}_{uses}");
            beside(&format!(
                "CREATE TABLE {name} (a int); CREATE VIEW {name}_view AS SELECT a FROM {name};
                 ALTER TABLE {name} OWNER TO of_triggers; ALTER VIEW {name}_view OWNER TO of_triggers;"
            ));
            let [mut maker, mut user, mut other] = [(), (), ()].map(|()| role.connect(pool.writes()));
            let value = "SHOW maintenance_work_mem";
            let usual = other.value(value);
            let into = if by == "view" { format!("{name}_view") } else { name.clone() };
            let insert = format!("INSERT INTO {into} VALUES (1)");
            if uses == "by_sql" {
                run(&mut user, &format!("PREPARE uses AS {insert}"));
            } else {
                assert_eq!(user.prepare("uses", &insert).error, None);
            }
            make(
                &mut maker,
                &format!("CREATE TRIGGER sets BEFORE INSERT ON {name} EXECUTE FUNCTION sets_for_triggers()"),
            );
            // What keeps its connection ends with it.
            drop(maker);
            if uses == "by_sql" {
                run(&mut user, "EXECUTE uses")
            } else {
                runs(&mut user, &["uses"])
            }
            assert_eq!(other.value(value), usual, "{way}, {name}");
            assert_eq!(user.value(value), "9999kB", "{way}, {name}");
        }
    }
}
