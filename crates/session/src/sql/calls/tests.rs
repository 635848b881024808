use std::sync::Arc;

use super::*;
use crate::sql::functions::{EffectsByName, EventTriggers};

fn catalog() -> FunctionCatalog {
    let built_in = ["count", "now", "lower", "max", "generate_series", "current_setting", "unnest"];
    let built_in = Arc::new(built_in.iter().map(|name| name.as_bytes().into()).collect());
    let effect = |effect: FunctionEffect| Arc::new(effect);
    let mut catalog = FunctionCatalog::unread(built_in, UnlistedFunctions::Unread);
    catalog.functions = [
        (&b"set_tenant"[..], effect(FunctionEffect::sets("app.tenant"))),
        (b"Set It", effect(FunctionEffect::sets("app.it"))),
        (b"lock_it", effect(FunctionEffect::pins(PinReason::AdvisoryLock))),
        (b"plain", effect(FunctionEffect::default())),
        (b"max", effect(FunctionEffect::pins(PinReason::OpaqueFunction))),
    ]
    .into_iter()
    .map(|(name, effect)| (name.into(), effect))
    .collect();
    catalog
}

fn seen(catalog: FunctionCatalog, sql: &str) -> Calls {
    seen_bytes(catalog, sql.as_bytes())
}

fn seen_bytes(catalog: FunctionCatalog, sql: &[u8]) -> Calls {
    let functions = Functions::new(catalog);
    let look = functions.look_begins();
    functions.look_ended(look, None);
    calls(sql, &functions, &mut CalledNames::default()).map(|calls| *calls).unwrap_or_default()
}

fn sets(sql: &str) -> Vec<String> {
    seen(catalog(), sql).effect.sets.iter().map(|key| key.to_string()).collect()
}

fn unread(sql: &str) -> Vec<String> {
    let name = |name: &Name| String::from_utf8_lossy(name).into_owned();
    seen(catalog(), sql).unread.iter().map(name).collect()
}

#[test]
fn what_a_select_makes_counts_where_event_triggers_run() {
    let made = |sql: &str, event_triggers| {
        let pins = seen(FunctionCatalog { event_triggers, ..catalog() }, sql).effect.pins;
        pins.contains(PinReason::UnknownStatement("SELECT INTO"))
    };
    for sql in [
        "select 1 into t",
        "WITH a AS (SELECT 1) SELECT * INTO/**/UNLOGGED t FROM a",
        "table u;select 1 Into t",
    ] {
        assert!(made(sql, EventTriggers::Enabled) && !made(sql, EventTriggers::None), "{sql}");
    }
    for sql in
        ["insert into t values (1)", "merge /* x */ INTO t", "select 'into', \"into\" from t", "select 1"]
    {
        assert!(!made(sql, EventTriggers::Enabled), "{sql}");
    }
    let reason = PinReason::UnknownStatement("SELECT INTO");
    assert!(reason.is_of_objects() && reason.has_event() && reason.is_told_by_server());
}

#[test]
fn a_call_is_seen_however_it_is_written() {
    for sql in [
        "select set_tenant('a')",
        "SELECT Set_Tenant ('a')",
        "select public.set_tenant\n('a')",
        "select set_tenant\x0b('a')",
        "select set_tenant \x0c\x0b\t('a')",
        "select query_to_xml('select set_tenant\x0b(''a'')', true, true, '')",
        "select set_tenant -- now\n('a')",
        "select set_tenant/* now() */('a')",
        "select \"set_tenant\"('a')",
        "select 1 where set_tenant('a') is null",
        "select count(*), (select set_tenant($1))",
        "with x as (select set_tenant('a')) select * from x",
        "copy (select set_tenant('a')) to stdout",
        "select query_to_xml('select set_tenant(''a'')', true, true, '')",
        "select 1 operator(pg_catalog.+) set_tenant('a')",
        "insert into t (a) values (set_tenant('a')) returning b",
        "select * from set_tenant('a') t (x)",
    ] {
        assert_eq!(sets(sql), ["app.tenant"], "{sql}");
    }
    assert_eq!(sets("select \"Set It\"(1)"), ["app.it"]);
    assert_eq!(sets("select \"Set_Tenant\"(1), 'set_tenant', set_tenant"), [""; 0]);
}

#[test]
fn all_that_is_called_adds_up() {
    let calls = seen(catalog(), "select set_tenant('a'), lock_it(1), \"Set It\"(2), new_one(3), plain(4)");
    assert_eq!(calls.effect.pins.first(), Some(PinReason::AdvisoryLock));
    assert_eq!(calls.effect.sets, ["app.it".into(), "app.tenant".into()]);
    assert_eq!(calls.unread, [b"new_one"[..].into()]);
}

#[test]
fn a_function_of_the_users_own_counts_before_one_of_the_same_name_that_is_built_in() {
    assert_eq!(seen(catalog(), "select max(1)").effect.pins.first(), Some(PinReason::OpaqueFunction));
}

#[test]
fn what_nobody_knows_waits_to_be_read() {
    for sql in [
        "select new_one()",
        "select a, new_one(b) from t",
        "select * from t join new_one(1) on true where 'x(y)' = now()",
        "select * from t order by new_one(a)",
        "update t set a = new_one(1)",
        "select public . new_one ( 1 )",
        "select a from t, new_one(1) as (b int)",
        "values (new_one(1))",
        "select not new_one(1)",
        "select case when new_one(1) then 1 else new_one(2) end",
    ] {
        assert_eq!(unread(sql), ["new_one"], "{sql}");
    }
    let long = "n".repeat(70);
    assert_eq!(unread(&format!("select {long}(1)")), [long[..63].to_owned()], "as the server cuts it");
}

#[test]
fn the_everyday_sql_of_applications_calls_nothing() {
    for sql in [
        "insert into orders (id, name) values ($1, $2) on conflict (id) do update set name = excluded.name",
        "insert into public.orders(id) values (1), (2) returning (id)",
        "insert into \"Orders\" (id) select (1)",
        "with recent (a, b) as (select 1, 2), older(c) as materialized (select 3) select * from recent, older",
        "with recursive t(n) as (values (1) union all select n + 1 from t where (n) < 100) select count(n) from t",
        "select cast(a as numeric(10, 2)), b::varchar(10), c::character varying (3) from t where a in (1, 2)",
        "select a from t as x (a, b) join (values (1)) y (c) on (x.a = y.c) where exists (select 1)",
        "select row_number from (select 1) as s(row_number) group by (1) having (true)",
        "select count(*) filter (where (a)) over (partition by b order by (c)) from t window w as (order by d)",
        "select array(select 1), row(1, 2), coalesce(a, b), nullif(a, b), greatest(1, 2), extract(year from now())",
        "select * from t where a = any (array[1]) and b like all (select 'x (y)') and not (c)",
        "update t set (a, b) = (1, 2) where (a, b) = ($1, $2)",
        "copy orders (a, b) from stdin with (format csv)",
        "select trim(both 'x' from a), substring(a from 1), position('a' in b), overlay(a placing b from 1) from t",
        "select 'it (is) what' || \"it (is)\" from t -- or (not)\nwhere (true)",
        "select * from unnest($1::int[], $2::text[]) as u(a, b), lateral (select 1) l(c)",
        "explain (analyze, buffers) select lower(a), current_setting('app.tenant') from t limit (1) offset (2)",
        "select * from t tablesample bernoulli (10) repeatable (1), generate_series(1, 2) g(i)",
        "select plain(1), \"plain\" (2)",
        "select grouping(a) from t group by grouping sets ((a), rollup (b), cube (c))",
        "select json_object('a' value 1), xmlelement(name a, xmlattributes(1 as b)), interval(3) '1 s'",
        "create unique index concurrently i on only public.t using gin (a, (lower(b)) desc) where (c)",
        "merge into t (a) using (select 1) s (b) on (a = b) when matched then delete",
    ] {
        let calls = seen(catalog(), sql);
        assert!(calls.is_empty(), "{sql}: {calls:?}");
    }
}

#[test]
fn the_columns_of_an_index_may_call() {
    assert_eq!(unread("create index on t (nobody(a), b) where known_to(b)"), ["nobody", "known_to"]);
    assert_eq!(unread("create index on t (a); select 1 from a join b on nobody (1)"), ["nobody"]);
    assert_eq!(unread("create view t as select 1 from a join b on nobody (1)"), ["nobody"]);
}

#[test]
fn relations_and_operators_are_looked_for_where_some_of_them_count() {
    let mut catalog = catalog();
    let effect = Arc::new(FunctionEffect::sets("app.tenant"));
    catalog.words = [(b"tenant_view"[..].into(), Arc::clone(&effect))].into_iter().collect::<EffectsByName>();
    catalog.operators = [(b"<~>"[..].into(), effect)].into_iter().collect::<EffectsByName>();
    let functions = Functions::new(catalog);
    let look = functions.look_begins();
    functions.look_ended(look, None);
    let is_seen = |sql: &str| calls(sql.as_bytes(), &functions, &mut CalledNames::default()).is_some();
    for sql in
        ["table Tenant_View", "select * from \"tenant_view\"", "select 'table tenant_view'", "select 1<~>2"]
    {
        assert!(is_seen(sql), "{sql}");
    }
    assert!(is_seen("select 1 -<~> 2"), "where an operator ends is not read");
    for sql in ["select 1 < ~ 2", "select '<~>' -- <~>", "table tenant_view2"] {
        assert!(!is_seen(sql), "{sql}");
    }
}

#[test]
fn where_functions_are_not_read_every_unknown_one_pins() {
    let mut catalog = catalog();
    catalog.unlisted = UnlistedFunctions::Pins;
    assert_eq!(seen(catalog, "select new_one()").effect.pins.first(), Some(PinReason::UserFunction));
}

#[test]
fn what_is_known_of_old_is_read_again() {
    let functions = Functions::new(catalog());
    let call = calls(b"select plain(1), now()", &functions, &mut CalledNames::default())
        .expect("nobody has looked yet");
    assert_eq!(call.unread, [b"plain"[..].into()]);
    let look = functions.look_begins();
    functions.look_ended(look, None);
    assert_eq!(calls(b"select plain(1), now()", &functions, &mut CalledNames::default()), None);
    functions.is_not_watched();
    assert!(calls(b"select plain(1)", &functions, &mut CalledNames::default()).is_some());
}

/// Every string of a hostile alphabet, up to a length.
#[test]
fn nothing_panics() {
    let functions = Functions::new(catalog());
    let alphabet = b"a(),.'\"$-/*\n \x80<";
    for length in 0..=5_u32 {
        for number in 0..alphabet.len().pow(length) {
            let mut n = number;
            let mut sql = Vec::new();
            for _ in 0..length {
                sql.push(alphabet[n % alphabet.len()]);
                n /= alphabet.len();
            }
            drop(calls(&sql, &functions, &mut CalledNames::default()));
            drop(calls_in_part(&sql, &functions));
        }
    }
}

#[test]
fn names_that_are_not_utf8_may_be_any_beyond_ascii() {
    let with = |name: &str| {
        let mut catalog = catalog();
        catalog.words =
            EffectsByName::from([(name.as_bytes().into(), Arc::new(FunctionEffect::sets("app.tenant")))]);
        catalog
    };
    let sets = |catalog: FunctionCatalog, sql: &[u8]| {
        let functions = Functions::new(catalog);
        let look = functions.look_begins();
        functions.look_ended(look, None);
        let in_part = calls_in_part(sql, &functions).is_some();
        let is_seen = calls(sql, &functions, &mut CalledNames::default()).is_some();
        assert_eq!(in_part, is_seen);
        is_seen
    };
    assert!(sets(with("größe"), b"select * from gr\xf6\xdfe"));
    assert!(sets(with("größe"), "select * from größe".as_bytes()));
    assert!(!sets(with("größe"), "select * from maß".as_bytes()));
    assert!(!sets(with("groesse"), b"select * from gr\xf6\xdfe"));
    assert_eq!(
        seen_bytes(with("café"), b"table caf\xe9").effect,
        FunctionEffect::sets("app.tenant"),
        "not the begin of a character that was cut"
    );
}

#[test]
fn a_part_of_utf8_may_be_cut_within_a_character() {
    let text = "größe €".as_bytes();
    for (start, end) in [(0, text.len()), (0, 3), (3, 8), (4, 9), (10, text.len())] {
        assert!(may_be_in_utf8(&text[start..end]), "{start} to {end}");
    }
    assert!(!may_be_in_utf8(b"gr\xf6\xdfe") && !may_be_in_utf8(b"a \xe4 b"));
}

#[test]
fn what_has_no_name_is_in_a_part_of_long_sql_too() {
    let mut everything = catalog();
    everything.everything = Some(Arc::new(FunctionEffect::sets("app.tenant")));
    let mut operators = catalog();
    operators.operators =
        EffectsByName::from([(b"<=>"[..].into(), Arc::new(FunctionEffect::sets("app.tenant")))]);
    for catalog in [everything, operators] {
        assert!(calls_in_part(b"select 1 <=> 2", &Functions::new(catalog)).is_some());
    }
}
