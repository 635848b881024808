use super::*;

fn effect(source: &str) -> FunctionEffect {
    FunctionSource::read(source.as_bytes()).effect
}

#[track_caller]
fn assert_pins(source: &str, reason: PinReason) {
    assert_eq!(effect(source).pins.first(), Some(reason), "{source}");
}

#[track_caller]
fn assert_sets(source: &str, keys: &[&str]) {
    let effect = effect(source);
    assert_eq!(effect.pins.first(), None, "{source}");
    assert_eq!(effect.sets.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), keys, "{source}");
}

#[test]
fn settings_with_a_constant_name_are_named() {
    assert_sets("begin perform set_config('app.tenant', t, false); end", &["app.tenant"]);
    assert_sets("SELECT pg_catalog.SET_CONFIG('App.Tenant', $1, FALSE)", &["app.tenant"]);
    assert_sets(" RETURN set_config('app.tenant'::text, t, false)", &["app.tenant"]);
    assert_sets(
        "select set_config('app.a', f(x, y), is_local), set_config('b.b', '', false)",
        &["app.a", "b.b"],
    );
    assert_sets(
        "begin set app.tenant = 'x'; set session work_mem to '1MB'; end",
        &["app.tenant", "work_mem"],
    );
    assert_sets("begin if a then reset app.tenant; else set role app; end if; end", &["app.tenant", "role"]);
    assert_sets("begin execute 'set app.tenant = ''x'''; end", &["app.tenant"]);
    assert_sets("begin return query execute 'select set_config(''a.b'', $1, false)' using x; end", &["a.b"]);
    assert_sets("begin x := set_config('a.b', x, is_local => false); end", &["a.b"]);
}

#[test]
fn what_lasts_no_longer_than_its_transaction_only_makes_a_custom_setting_known() {
    assert_sets("select set_config('work_mem', '1MB', true)", &[]);
    assert_sets("begin set local work_mem = '1MB'; set transaction read only; end", &[]);
    assert_sets("select set_config('app.tenant', $1, true)", &["app.tenant"]);
    assert_sets("select set_config('work_mem', '1MB', is_local => true)", &[]);
    assert_sets("select set_config('work_mem', '1MB', not true)", &["work_mem"]);
    assert_sets("select set_config('work_mem', '1MB', false>true)", &["work_mem"]);
    assert_sets("select set_config('work_mem', '1MB', x => true)", &["work_mem"]);
}

#[test]
fn what_is_prepared_in_the_transaction_keeps_its_settings() {
    assert_sets("select set_config('DateStyle', 'ISO, DMY', true)", &["datestyle"]);
    assert_sets("begin set local time zone 'UTC'; end", &["timezone"]);
    assert_sets("select set_config('search_path', '', true)", &["search_path"]);
}

#[test]
fn the_seed_lasts_however_it_is_set() {
    let reason = PinReason::SideEffects("setseed");
    for source in [
        "select set_config('seed', '0.5', true)",
        "begin perform \"set_config\"('Seed', x, false); end",
        "begin set local seed = 0.5; end",
    ] {
        assert_pins(source, reason);
    }
}

#[test]
fn what_cannot_be_read_back_pins() {
    assert_pins("select set_config(n, v, false)", PinReason::UnknownSetting);
    assert_pins("select set_config('app.' || n, v, false)", PinReason::UnknownSetting);
    assert_pins("begin reset all; end", PinReason::UnknownSetting);
    assert_pins("begin set session authorization app; end", PinReason::UnknownSetting);
    assert_pins("begin execute format('select %I()', x); end", PinReason::SideEffects("EXECUTE"));
    assert_pins("begin execute 'set x.y = ' || v; end", PinReason::SideEffects("EXECUTE"));
    assert_pins("begin create temp table t (a int); end", PinReason::TemporaryObject);
    assert_pins("begin execute 'create temporary table t (a int)'; end", PinReason::TemporaryObject);
    assert_pins("begin perform pg_advisory_lock(1); end", PinReason::AdvisoryLock);
    assert_pins("begin listen a; end", PinReason::Listen);
    assert_pins("begin load 'x'; end", PinReason::Load);
    assert_pins("select setseed(0.5)", PinReason::SideEffects("setseed"));
    assert_pins("begin perform dblink_connect('x'); end", PinReason::SideEffects("dblink_connect"));
    assert_pins("select 'never ends", PinReason::OpaqueFunction);
}

#[test]
fn temporary_objects_and_what_is_made_for_them_pin_until_they_are_gone() {
    for source in [
        "begin create temp table t (a int) on commit drop; create index on t (a); end",
        "begin create or replace local temporary view v as select 1; alter table t add b int; end",
    ] {
        let effect = effect(source);
        assert!(effect.pins.contains(PinReason::TemporaryObject), "{source}");
        assert!(effect.pins.iter().all(PinReason::is_told_by_server), "{source}: {:?}", effect.pins);
    }
    let sets = "begin create temp table t (); perform set_config('app.tenant', 'a', false); end";
    assert_eq!(effect(sets).pins.iter().collect::<Vec<_>>(), [PinReason::TemporaryObject]);
}

#[test]
fn statements_for_which_event_triggers_run_pin_until_the_server_has_told_of_those() {
    for source in [
        "begin drop table if exists t; end",
        "begin if a then comment on table t is 'x'; end if; end",
        "begin grant execute on function f() to b; end",
        "begin create table t (a int); drop table t; end",
        "begin alter table t add b int; end",
        "begin refresh materialized view v; end",
        "begin execute 'revoke all on t from b'; end",
    ] {
        let effect = effect(source);
        assert!(!effect.pins.is_empty(), "{source}");
        assert!(effect.pins.iter().all(PinReason::is_told_by_server), "{source}: {:?}", effect.pins);
    }
}

#[test]
fn execute_is_of_a_trigger_or_a_right_only_where_a_function_is_named() {
    for source in [
        "begin execute procedure; end",
        "begin execute function into x; end",
        "begin execute function using (1); end",
        "begin for r in execute procedure loop perform 1; end loop; end",
    ] {
        assert_pins(source, PinReason::SideEffects("EXECUTE"));
    }
    for source in [
        "begin create trigger t before insert on a execute function f(); end",
        "begin create trigger t before insert on a execute procedure s.f(1); end",
        "begin grant execute on function f() to b; end",
    ] {
        assert!(!effect(source).pins.contains(PinReason::SideEffects("EXECUTE")), "{source}");
    }
}

#[test]
fn a_setting_is_set_by_a_name_in_quotes_and_by_the_view() {
    assert_sets("select \"set_config\"('app.tenant', 'a', false)", &["app.tenant"]);
    assert_sets(
        "begin execute 'select pg_catalog.\"set_config\"(''app.tenant'', ''a'', false)'; end",
        &["app.tenant"],
    );
    assert_pins("select \"set_config\"($1, 'a', false)", PinReason::UnknownSetting);
    assert_pins("begin update pg_settings set setting = 'a' where name = n; end", PinReason::UnknownSetting);
    assert_pins("select f('update \"pg_settings\" set x = 1', a, b, c)", PinReason::UnknownSetting);
    assert_pins("select query_to_xml($1, a, b, c)", PinReason::SideEffects("query_to_xml"));
    assert!(effect("select setting from pg_settings where name = 'port'").is_harmless());
    assert!(effect("select \"SET_CONFIG\"('app.tenant', 'a', false)").sets.is_empty(), "it is another one");
}

#[test]
fn plain_functions_are_harmless() {
    for source in [
        "select current_setting('app.tenant', true)",
        "begin new.updated_at := now(); return new; end",
        "begin update t set a = 1, b = 2 where c = 3; return found; end",
        "insert into t values (1) on conflict (a) do update set b = 2",
        "-- no temp table, no set_config(x, y, false)\nselect count(*) from t /* listen */",
        "begin raise notice 'set % load', x; if a then return 1; end if; end",
        "select temp, temporary from measures where hold",
    ] {
        assert!(effect(source).is_harmless(), "{source}: {:?}", effect(source));
    }
}

#[test]
fn what_reaches_beyond_the_session_is_run_once() {
    let effect = effect("select pg_notify('a', 'b')");
    assert_eq!((effect.pins.first(), effect.is_once), (None, true));
}

#[test]
fn names_and_operators_are_those_of_the_server() {
    let source = FunctionSource::read(
        b"select Other(1) <=> \"Set It\"(2) from v -- hidden()\n where 'q(1)' = $$ w $$",
    );
    for name in ["other", "Set It", "q"] {
        assert!(source.calls(name.as_bytes()), "{name}");
    }
    for name in ["v", "w"] {
        assert!(source.mentions(name.as_bytes()) && !source.calls(name.as_bytes()), "{name}");
    }
    assert!(!source.mentions(b"hidden"));
    assert!(source.operates(b"<=>") && source.operates(b"<=") && !source.operates(b"+"));
}

#[test]
fn what_is_too_long_or_too_deep_pins() {
    let long = |length: usize| "x".repeat(length);
    assert!(effect(&long(FUNCTION_SOURCE_MAX)).is_harmless());
    assert_pins(&long(FUNCTION_SOURCE_MAX + 1), PinReason::OpaqueFunction);
    let nested = |depth: usize| {
        (0..depth).fold("select 1".to_owned(), |sql, _| format!("execute '{}'", sql.replace('\'', "''")))
    };
    assert!(effect(&nested(SOURCE_DEPTH_MAX)).is_harmless());
    assert_pins(&nested(SOURCE_DEPTH_MAX + 1), PinReason::OpaqueFunction);
}
