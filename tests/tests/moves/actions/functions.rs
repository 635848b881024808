//! Functions of the database's own that change the session's state, and what reaches them.

use super::Action;
use crate::generator::Draft;
use crate::script::Step;

pub(super) const ACTIONS: &[Action] = &[
    Action { weight: 6, write: call },
    Action { weight: 3, write: behind },
    Action { weight: 2, write: by_bind },
    Action { weight: 2, write: new },
];

fn call(draft: &mut Draft) {
    let sql = draft.random.one(&[
        "SELECT set_tenant('a')",
        "SELECT set_tenant('b')",
        "SELECT become('c')",
        "SELECT become_here('c')",
        "SELECT log_in('a')",
        "SELECT public.set_tenant('a')",
        "SELECT use_schema('two')",
        "SELECT use_zone()",
        "SELECT set_any('app.note', 'any')",
        "SELECT set_any('work_mem', '23MB')",
        "SELECT take_lock(14)",
        "SELECT take_role('{member}')",
        "SELECT prepare_it()",
        "SELECT plain(1), fx()",
        "SELECT * FROM rows_of()",
    ]);
    draft.query(sql);
    if draft.random.chance(50) {
        draft.query("SELECT v FROM public.tenants ORDER BY v");
    }
}

/// Views, operators, casts, aggregates, policies and other functions.
fn behind(draft: &mut Draft) {
    let sql = draft.random.one(&[
        "SELECT * FROM entered",
        "SELECT * FROM entered_twice",
        "SELECT 'a' <<<>>> 'b'",
        "SELECT 'x' OPERATOR(public.<<<>>>) 'y'",
        "SELECT ('casted'::text)::told",
        "SELECT CAST('cast'::text AS told)",
        "SELECT remember(name ORDER BY id) FROM items",
        "SELECT v FROM watched",
        "SELECT 1 FROM items WHERE set_tenant('c') = 'c' LIMIT 1",
        "DO $$ BEGIN PERFORM set_tenant('b'); END $$",
        "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT set_tenant('a')",
        "COPY (SELECT set_tenant('b')) TO STDOUT",
        "DECLARE held CURSOR WITH HOLD FOR SELECT set_tenant('c')",
    ]);
    draft.query(sql);
}

fn by_bind(draft: &mut Draft) {
    let sql = draft.random.one(&["SELECT set_tenant($1)", "SELECT become($1)", "SELECT log_in($1)"]);
    let value = draft.random.one(&["a", "b"]).to_owned();
    let name = draft.random.one(&["", "s2"]);
    draft.arguments.insert(if name.is_empty() { "" } else { "s2" }, vec!["a"]);
    draft.push(Step::Parse { name: name.to_owned(), types: Vec::new(), sql: sql.to_owned() });
    draft.push(Step::Bind {
        portal: String::new(),
        statement: name.to_owned(),
        formats: Vec::new(),
        parameters: vec![Some(value)],
        results: Vec::new(),
    });
    draft.push(Step::Execute { portal: String::new(), rows: 0 });
    draft.sync();
}

/// Numbers of functions made while a session runs: the proxy has seen none of the same name before.
const NUMBERS: usize = 1_000_000_000;

/// Made while the session runs, and used at once.
fn new(draft: &mut Draft) {
    let body = draft.random.one(&[
        "SELECT set_config('app.tenant', 'b', false)",
        "SELECT set_tenant('a')",
        "SELECT 'nothing'",
        "SELECT pg_advisory_lock(15)::text",
    ]);
    let name = format!("late_{}", draft.random.below(NUMBERS));
    draft.push(Step::Ddl(format!("CREATE FUNCTION {name}() RETURNS text LANGUAGE sql AS $$ {body} $$")));
    draft.query(format!("SELECT {name}()"));
}
