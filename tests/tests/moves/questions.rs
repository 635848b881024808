//! What shows a session's state.
//!
//! `pg_prepared_statements` is not asked: after a move it has only what was used since.

use super::actions::{STATEMENTS, bind};
use super::generator::Draft;
use super::script::{Step, Target};

/// Asked one after the other. A setting of one's own that was reset is empty where it was set, and NULL elsewhere. Left
/// out are settings that name the server, those of PL/pgSQL, which are there once a function has loaded it, and those
/// for superusers where the session is none: docs/moving.md, "What still differs from one server".
const QUESTIONS: &[&str] = &[
    "SELECT name, setting, reset_val FROM pg_settings WHERE (context = 'user' OR context = 'superuser' AND (SELECT rolsuper FROM pg_roles WHERE rolname = session_user)) AND name NOT LIKE 'plpgsql.%' ORDER BY name",
    "SELECT current_user, session_user, current_setting('role'), current_schemas(true)::text",
    "SELECT n, coalesce(current_setting(n, true), '') FROM unnest('{app.tenant,app.note,app.told,app.signed,app.summed,app.watched,app.x}'::text[]) n",
    "SELECT locktype, classid, objid, objsubid, mode FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory' ORDER BY 2, 3, 4, 5",
    "SELECT name, statement, is_holdable, is_binary, is_scrollable FROM pg_cursors ORDER BY name",
    "SELECT v FROM public.tenants ORDER BY v",
    "SELECT v FROM orders",
    "SELECT day, at, '03/04/2020'::date, interval '1 day 02:03', 1.5::float8, '\\x00ff'::bytea, price FROM public.items ORDER BY id",
    "SELECT pg_listening_channels()",
    "FETCH ALL FROM held",
    "EXECUTE p1",
    "EXECUTE p2",
];

/// All questions, in a transaction of their own where one is open.
pub(crate) fn ask(draft: &mut Draft) {
    draft.push(Step::Query("ROLLBACK".to_owned()));
    draft.make_move();
    for question in QUESTIONS {
        draft.push(Step::Query((*question).to_owned()));
    }
    for name in STATEMENTS {
        if draft.random.chance(50) {
            draft.push(Step::Describe(Target::Statement, (*name).to_owned()));
            draft.push(Step::Sync);
        }
        execute(draft, name);
    }
    draft.push(Step::Query("RESET ALL".to_owned()));
    draft.push(Step::Query(QUESTIONS[0].to_owned()));
}

fn execute(draft: &mut Draft, name: &str) {
    bind(draft, "", name);
    draft.push(Step::Describe(Target::Portal, String::new()));
    draft.push(Step::Execute { portal: String::new(), rows: 0 });
    draft.push(Step::Sync);
}
