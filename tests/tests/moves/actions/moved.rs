//! A prepared statement, a move, and what then decides how the statement is read.

use super::settings::SET_CONFIG;
use super::statements::{run, run_once};
use super::{Action, STATEMENTS};
use crate::generator::Draft;
use crate::script::{Step, Target};

pub(super) const ACTIONS: &[Action] = &[
    Action { weight: 4, write: read_before_a_setting },
    Action { weight: 3, write: run_under_its_path },
    Action { weight: 2, write: reset_by_a_pool },
];

fn prepare(draft: &mut Draft, name: &'static str, sql: &str) {
    draft.push(Step::Close(Target::Statement, name.to_owned()));
    draft.arguments.insert(name, Vec::new());
    draft.push(Step::Parse { name: name.to_owned(), types: Vec::new(), sql: sql.to_owned() });
    if draft.random.chance(30) {
        draft.push(Step::Describe(Target::Statement, name.to_owned()));
    }
    draft.push(Step::Sync);
}

/// Constants are read when a statement is prepared, whatever is set between a move and its next use.
fn read_before_a_setting(draft: &mut Draft) {
    let name = draft.random.pick(STATEMENTS);
    let sql = draft.random.one(&[
        "SELECT '03/04/2020'::date",
        "SELECT timestamptz '2020-01-01 12:00'",
        "SELECT 'é', length('é')",
        "SELECT '{NULL}'::text[]",
    ]);
    prepare(draft, name, sql);
    draft.make_move();
    match draft.random.below(4) {
        0 => draft.push(Step::Call {
            function: SET_CONFIG,
            arguments: ["DateStyle", "ISO, DMY", "f"].map(str::to_owned).to_vec(),
        }),
        1 => {
            let sql = draft.random.one(&["SELECT use_zone()", "SET NAMES 'LATIN1'", "SET array_nulls = off"]);
            draft.query(sql);
        }
        2 => {
            draft.push_alone(Step::UnreadQuery("SELECT 1".to_owned()));
            draft.query("SET DateStyle = 'ISO, DMY'");
        }
        _bound => run_once(draft, "SELECT set_config($1, $2, false)", &["TimeZone", "Asia/Tokyo"]),
    }
    run(draft, "", name);
    draft.sync();
}

/// One Query sets the path and runs what needs it.
fn run_under_its_path(draft: &mut Draft) {
    draft.query("SET search_path = two");
    prepare(draft, "s2", "SELECT v FROM orders ORDER BY v");
    draft.query("RESET search_path");
    draft.make_move();
    let sql = draft.random.one(&[
        "SET search_path = two; EXECUTE s2",
        "BEGIN; SET LOCAL search_path = two, public; EXECUTE s2; COMMIT",
        "SELECT set_config('search_path', 'two', false); EXECUTE s2",
    ]);
    draft.query(sql);
}

/// What drivers send when a session goes back to their pool.
fn reset_by_a_pool(draft: &mut Draft) {
    let sql = draft.random.one(&[
        "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;",
        "CLOSE ALL; RESET SESSION AUTHORIZATION; RESET ALL; UNLISTEN *; SELECT pg_advisory_unlock_all(); DISCARD SEQUENCES; DISCARD TEMP",
        "DISCARD ALL",
        "RESET ALL",
    ]);
    draft.query(sql);
    draft.make_move();
}
