use super::*;
use crate::names::Name;
use crate::sql::effect::Change;

fn effects(sql: &str) -> Vec<Effect> {
    let reading = read(sql.as_bytes());
    assert!(reading.pins.is_empty(), "{sql}: {:?}", reading.pins);
    reading.effects
}

fn pins(sql: &str) -> Pins {
    read(sql.as_bytes()).pins
}

fn effect(sql: &str) -> Effect {
    let mut effects = effects(sql);
    assert_eq!(effects.len(), 1, "{sql}: {effects:?}");
    effects.remove(0)
}

fn set(key: &str, sql: &str) -> Change {
    Change::Set { key: key.into(), sql: sql.as_bytes().into() }
}

fn reset(key: &str, sql: &str) -> Change {
    Change::Reset { key: key.into(), sql: sql.as_bytes().into() }
}

#[test]
fn a_statement_that_returns_the_rows_of_another_is_known_by_its_first_word() {
    for sql in ["FETCH 1 FROM c", " /* a */ execute p(1)", "Execute p"] {
        assert!(passes_on(sql.as_bytes()), "{sql}");
    }
    for sql in ["select 1", "explain execute p", "show x", "(select 1)", "call fetch()", ""] {
        assert!(!passes_on(sql.as_bytes()), "{sql}");
    }
}

#[test]
fn reading_and_writing_rows_is_plain() {
    for sql in [
        "select 1",
        "  (SELECT 1);",
        "(values (1))",
        "table t;",
        "show all",
        "begin",
        "START TRANSACTION READ ONLY",
        "fetch all from c",
        "",
        ";",
        " -- nothing\n ; /* at all */",
        "/* hint */ select 1",
        "select 1; select 2; show x",
        "with x as (select 1) select * from x",
        "select 'a;b', $$;$$",
        "explain analyze select 1",
        "select into_it from t",
    ] {
        assert!(read(sql.as_bytes()).is_plain(), "{sql}: {:?}", read(sql.as_bytes()));
    }
}

#[test]
fn what_ends_a_transaction_is_known() {
    for sql in [
        "commit",
        "END;",
        " commit work -- so be it",
        "commit transaction and no chain",
        "abort",
        "/**/ rollback",
    ] {
        assert!(read(sql.as_bytes()).class.ends(), "{sql}");
    }
    for sql in ["begin", "select 1", "commit; select 1", "begin; commit", "rollback to s", "select 'commit'"]
    {
        assert!(!read(sql.as_bytes()).class.ends(), "{sql}");
    }
    for (sql, end) in [
        ("rollback", Some(TransactionEnd::Rollback)),
        ("ABORT;", Some(TransactionEnd::Rollback)),
        (" rollback work -- so be it", Some(TransactionEnd::Rollback)),
        ("rollback transaction and no chain", Some(TransactionEnd::Rollback)),
        ("commit and no chain", Some(TransactionEnd::Commit)),
        ("end transaction", Some(TransactionEnd::Commit)),
        ("rollback to s", None),
        ("rollback and chain", None),
        ("commit and chain", None),
        ("rollback prepared 'x'", None),
        ("commit prepared 'x'", None),
        ("rollback; select 1", None),
        ("rollback 'oops", None),
        ("", None),
    ] {
        assert_eq!(transaction_end(sql.as_bytes()), end, "{sql}");
    }
}

#[test]
fn what_may_run_once_only_is_not_repeatable() {
    for sql in [
        "insert into t values (1)",
        "delete from t",
        "copy t to stdout",
        "select pg_sleep(1)",
        "select * from dblink('x', 'y')",
        "select pg_terminate_backend(1)",
        "select pg_wal_replay_pause()",
        "select lo_export(1, '/x')",
        "with x as (delete from t returning 1) select * from x",
        "explain analyze delete from t",
        "begin; select 1; commit",
        "select 1; insert into t values (1)",
        "execute p",
        "select pg_advisory_xact_lock(1)",
        "select pg_advisory_unlock(1)",
        "select pg_export_snapshot()",
        "notify x",
    ] {
        let reading = read(sql.as_bytes());
        assert!(!reading.class.is_repeatable(), "{sql}");
        assert!(reading.pins.is_empty(), "{sql}: {:?}", reading.pins);
    }
}

#[test]
fn the_forms_of_set_are_followed_by_their_setting() {
    for (sql, key) in [
        ("SET search_path TO a, \"B\", 'c'", "search_path"),
        ("set Search_Path = a", "search_path"),
        ("set session work_mem = '1MB'", "work_mem"),
        ("set work_mem to -1", "work_mem"),
        ("set sort_mem = 100", "work_mem"),
        ("set /* x */ \"TimeZone\" to 'UTC' -- y", "timezone"),
        ("set time zone 'UTC'", "timezone"),
        ("set time zone -3", "timezone"),
        ("set time zone interval '1' hour", "timezone"),
        ("set names 'utf8'", "client_encoding"),
        ("set schema 'x'", "search_path"),
        ("set role bob", "role"),
        ("set session role \"Bob\"", "role"),
        ("set role to bob", "role"),
        ("set role none", "role"),
        ("set session authorization bob", "session_authorization"),
        ("set session session authorization 'bob'", "session_authorization"),
        ("set app.user_id = 5", "app.user_id"),
        ("set xml option document", "xmloption"),
        ("set standard_conforming_strings = on", "standard_conforming_strings"),
        ("set x = E'a\\'b'", "x"),
    ] {
        let kept = sql.trim_end_matches(" -- y");
        assert_eq!(effect(sql), Effect::Change(vec![set(key, kept)]), "{sql}");
    }
}

#[test]
fn reset_undoes_by_setting() {
    for (sql, key) in [
        ("reset work_mem", "work_mem"),
        ("set work_mem to default", "work_mem"),
        ("set time zone local", "timezone"),
        ("reset time zone", "timezone"),
        ("reset role", "role"),
        ("reset session authorization", "session_authorization"),
        ("set session authorization default", "session_authorization"),
        ("reset app.user_id", "app.user_id"),
    ] {
        assert_eq!(effect(sql), Effect::Change(vec![reset(key, sql)]), "{sql}");
    }
    assert_eq!(effect("RESET ALL;"), Effect::Change(vec![Change::ResetAll]));
    assert_eq!(effect("discard all"), Effect::DiscardAll);
}

#[test]
fn what_ends_with_its_transaction_is_not_kept() {
    for sql in [
        "set local work_mem = 1",
        "set transaction isolation level serializable",
        "set transaction_read_only = on",
        "set constraints all deferred",
        "set local role bob",
        "select set_config('work_mem', '1MB', true)",
    ] {
        assert_eq!(read(sql.as_bytes()).effects, [Effect::Local], "{sql}");
    }
    assert_eq!(
        effect("set local app.x = 1"),
        Effect::Change(vec![Change::Local { key: "app.x".into(), sql: (*b"set local app.x = 1").into() }])
    );
}

#[test]
fn session_characteristics_are_settings() {
    let sql = "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY NOT DEFERRABLE";
    let expected = [("isolation", "repeatable read"), ("read_only", "on"), ("deferrable", "off")];
    let change = |(name, value): (&str, &str)| {
        let key = format!("default_transaction_{name}");
        set(&key, &format!("SET {key} TO '{value}'"))
    };
    assert_eq!(effect(sql), Effect::Change(expected.map(change).to_vec()));
}

#[test]
fn set_config_of_constants_is_followed_and_any_other_pins() {
    let sql =
        "SELECT pg_catalog.set_config('search_path', '', false) as x, set_config('App.U', 'it''s', false)";
    let told = |key, value: &str| set(key, &format!("SELECT pg_catalog.set_config({value}, false)"));
    let expected = vec![told("search_path", "'search_path', ''"), told("app.u", "'App.U', 'it''s'")];
    let reading = read(sql.as_bytes());
    assert_eq!((reading.pins, reading.effects), (Pins::default(), vec![Effect::Change(expected)]));
    for sql in [
        "select set_config('a', $1::char(2), false)",
        "select set_config('a', '7'::int, false)",
        "select set_config('a', 'abc'::varchar(2), false)",
        "select set_config('a', $1, $2)",
        "select set_config('a', 'b', x)",
        "select set_config(name, 'b', false) from t",
        "select set_config('a', 'b', false) from t",
        "select set_config('a', 'b', false), 1",
        "select set_config('a', 'b', false) where false",
        "with x as (select set_config('a', 'b', false)) select 1",
        "insert into t select set_config('a', 'b', false)",
        "select 'set_config'",
    ] {
        assert!(pins(sql).contains(PinReason::UnknownSetting), "{sql}");
    }
}

#[test]
fn a_setting_shown_beside_set_config_changes_nothing() {
    let told = set("jit", "SELECT pg_catalog.set_config('jit', 'off', false)");
    for sql in [
        "SELECT current_setting('jit') AS cur, set_config('jit', 'off', false) AS new",
        "select set_config('jit', 'off', false), pg_catalog.current_setting('app.a', true)",
    ] {
        let reading = read(sql.as_bytes());
        let expected = (Pins::default(), vec![Effect::Change(vec![told.clone()])]);
        assert_eq!((reading.pins, reading.effects), expected, "{sql}");
    }
    for sql in [
        "select current_setting('a' || b), set_config('jit', 'off', false)",
        "select current_setting('a') || 'b', set_config('jit', 'off', false)",
        "select current_setting('a', f()), set_config('jit', 'off', false)",
    ] {
        assert!(pins(sql).contains(PinReason::UnknownSetting), "{sql}");
    }
}

#[test]
fn set_that_is_not_understood_pins() {
    for sql in [
        "set work_mem",
        "set work_mem = ",
        "set work_mem = 1 2",
        "set work_mem = f(1)",
        "set a = b,",
        "set = 1",
        "set a..b = 1",
        "set \"a b\" = 1",
        "set x from current",
        "set catalog 'x'",
        "set standard_conforming_strings = off",
        "set standard_conforming_strings to default",
        "reset standard_conforming_strings",
        "reset",
        "reset a b",
        "set session characteristics as transaction snapshot 'x'",
        "set time zone interval(3) '1'",
    ] {
        assert_eq!(effect(sql), Effect::Pin(PinReason::UnknownSetting), "{sql}");
    }
    assert_eq!(effect("set seed = 0.5"), Effect::Pin(PinReason::SideEffects("setseed")));
}

#[test]
fn statements_cursors_and_savepoints_are_followed_by_name() {
    let name = |name: &str| Name::from(name.as_bytes());
    assert_eq!(effect("deallocate Foo"), Effect::Deallocate(name("foo")));
    assert_eq!(effect("deallocate prepare \"F\"\"o\""), Effect::Deallocate(name("F\"o")));
    assert_eq!(effect("deallocate prepare"), Effect::Deallocate(name("prepare")));
    assert_eq!(effect("DEALLOCATE ALL"), Effect::DeallocateAll);
    assert_eq!(effect("close c"), Effect::CloseCursor(name("c")));
    assert_eq!(effect("close all"), Effect::CloseAllCursors);
    assert_eq!(effect("declare c cursor with hold for select 1"), Effect::DeclareHold(name("c")));
    assert!(effects("declare c no scroll cursor without hold for select 'with hold'").is_empty());
    assert_eq!(effect("savepoint S"), Effect::Savepoint(name("s")));
    assert_eq!(effect("release savepoint s"), Effect::Release(name("s")));
    assert_eq!(effect("release s"), Effect::Release(name("s")));
    assert_eq!(effect("ROLLBACK WORK TO SAVEPOINT s"), Effect::RollbackTo(name("s")));
    assert!(effects("rollback").is_empty() && effects("abort transaction and chain").is_empty());
    let sql = "prepare p (int) as select $1";
    assert_eq!(effect(sql), Effect::Prepare { name: name("p"), sql: sql.as_bytes().into() });
    assert_eq!(effect("execute P (1)"), Effect::Execute(name("p")));
    assert_eq!(effect("explain (analyze, format json) execute p"), Effect::Explained(name("p")));
    assert_eq!(effect("listen C"), Effect::Listen(name("c")));
    assert_eq!(effect("unlisten c"), Effect::Unlisten(name("c")));
    assert_eq!(effect("unlisten *"), Effect::UnlistenAll);
    assert_eq!(effect("select pg_catalog.pg_advisory_unlock_all()"), Effect::MayUnlock);
}

#[test]
fn what_leaves_something_behind_pins_by_its_name() {
    use PinReason::*;
    for (sql, reason) in [
        ("create temp table t (a int)", TemporaryObject),
        ("create or replace local temporary view v as select 1", TemporaryObject),
        ("create function f() returns int return 1", UnknownStatement("CREATE")),
        ("select 1 into temp t", TemporaryObject),
        ("select 1 into /* x */ local temporary t", TemporaryObject),
        ("listen caf\u{e9}", Listen),
        ("explain analyze create temp table t as select 1", TemporaryObject),
        ("explain (analyze) select 1 into temporary t", TemporaryObject),
        ("create table t as execute p", SideEffects("EXECUTE")),
        ("create extension dblink", Load),
        ("load 'x'", Load),
        ("alter system set a = 1", UnknownStatement("ALTER")),
        ("frobnicate", UnknownStatement("another statement")),
        ("prepare transaction 'x'", UnknownStatement("PREPARE")),
        ("prepare p as frobnicate", UnknownStatement("PREPARE")),
        ("rollback prepared 'x'", UnknownSavepoint),
        ("savepoint caf\u{e9}", UnknownSavepoint),
    ] {
        assert_eq!(effect(sql), Effect::Pin(reason), "{sql}");
    }
    for (sql, reason) in [
        ("do $$begin end$$", UnknownStatement("DO")),
        ("do $$begin execute 'select dblink_' || 'connect()'; end$$", SideEffects("DO")),
        ("do language plperl 'x'", SideEffects("DO")),
        ("call p()", UnknownStatement("CALL")),
        ("update pg_settings set setting = '1MB' where name = 'work_mem'", UnknownSetting),
        ("update pg_catalog.\"pg_settings\" set setting = 'x'", UnknownSetting),
        ("with x as (update pg_settings set setting = 'x') select 1", UnknownSetting),
        ("explain analyze update pg_settings set setting = 'x'", UnknownSetting),
        ("prepare p as update pg_settings set setting = 'x'", UnknownSetting),
        ("merge into pg_settings using t on true when matched then update set setting = 'x'", UnknownSetting),
        ("execute p(set_config('a', 'b', false))", UnknownSetting),
        ("copy (select set_config('a', 'b', false)) to stdout", UnknownSetting),
        ("select case when set_config/**/('a', 'b', false) = '' then 1 end", UnknownSetting),
        ("select \"set_config\"('a', 'b', false) from t", UnknownSetting),
        ("declare c cursor for select pg_advisory_lock(1)", AdvisoryLock),
        ("select pg_advisory_lock(1)", AdvisoryLock),
        ("select setseed(0.5)", SideEffects("setseed")),
        ("select * from pg_temp.t", TemporaryObject),
        ("select U&\"pg\\005fsleep\"(1)", SideEffects("U&\"\"")),
    ] {
        assert!(pins(sql).contains(reason), "{sql}: {:?}", pins(sql));
    }
}

#[test]
fn every_reason_in_a_text_counts() {
    use PinReason::*;
    for sql in [
        "select pg_advisory_lock(1), dblink_connect('a', 'b'), set_config('a', 'b', false)",
        "select pg_advisory_lock(1); select dblink_connect('a', 'b'); update pg_settings set setting = 'x'",
        "do $$begin perform pg_advisory_lock(1), dblink_connect('a', 'b'); perform set_config('a', 'b', false); end$$",
    ] {
        let found = pins(sql);
        assert!(found.contains(AdvisoryLock) && found.contains(SideEffects("dblink_connect")), "{sql}");
        assert_eq!(found.first(), Some(SideEffects("dblink_connect")), "{sql}: what lasts is told");
    }
    assert!(pins("select 1; select pg_advisory_lock(1); call p()").contains(UnknownStatement("CALL")));
    let each = effects("select 1; select set_config('a', 'b', false); set c = d");
    assert!(matches!(each[..], [Effect::None, Effect::Change(_), Effect::Change(_)]), "{each:?}");
}

#[test]
fn a_name_that_changes_nothing_does_not_pin() {
    for sql in [
        "select * from pg_settings",
        "select name from pg_catalog.pg_settings for update",
        "insert into t select setting from pg_settings",
        "select pg_advisory_unlock(1), pg_advisory_unlock_all()",
        "listen x",
        "explain analyze create table t as select 1",
    ] {
        assert!(pins(sql).is_empty(), "{sql}: {:?}", pins(sql));
    }
}

#[test]
fn sql_that_does_not_end_is_left_to_its_tag() {
    for sql in ["select 'a; set b", "set a = 'x", "/* select 1", "select 1; \"x"] {
        assert_eq!(effects(sql), [Effect::Unread], "{sql}");
    }
    let many = "select 1;".repeat(QUERY_STATEMENTS_MAX + 2);
    assert_eq!(effects(&many), [Effect::Unread]);
    for (last, reason) in [
        ("select set_config('a', 'b', false)", PinReason::UnknownSetting),
        ("update pg_settings set setting = ''", PinReason::UnknownSetting),
        ("select 1 into temp t", PinReason::TemporaryObject),
        ("execute p", PinReason::UnknownStatement("EXECUTE")),
    ] {
        assert!(pins(&format!("{many}{last}")).contains(reason), "{last}");
    }
    let most = format!("{}set a = 1", "select 1;".repeat(QUERY_STATEMENTS_MAX - 1));
    assert_eq!(effects(&most).len(), QUERY_STATEMENTS_MAX);
}

/// Sentences of hostile words: nothing panics, and what changes a setting is what says so.
#[test]
fn any_words_are_read() {
    let words = [
        "set",
        "reset",
        "session",
        "local",
        "authorization",
        "role",
        "time",
        "zone",
        "to",
        "=",
        "default",
        "all",
        "'x'",
        "\"y\"",
        ".",
        ",",
        ";",
        "(",
        ")",
        "interval",
        "select",
        "set_config",
        "false",
        "-",
        "$1",
        "as",
        "'",
    ];
    let mut state = 1_u64;
    for _ in 0..100_000 {
        let mut sql = String::new();
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let mut n = state >> 8;
        for _ in 0..=(state >> 60) {
            sql.push_str(words[(n % words.len() as u64) as usize]);
            sql.push(' ');
            n = n.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23);
        }
        let reading = read(sql.as_bytes());
        let changes = reading.effects.iter().any(|effect| matches!(effect, Effect::Change(_)));
        assert!(!changes || sql.contains("set"), "{sql}");
    }
}
