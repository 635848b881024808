use super::*;
use crate::sql::plainness::NotPlainByName;

fn names<T: FromIterator<Box<[u8]>>>(names: &[&str]) -> T {
    names.iter().map(|name| name.as_bytes().into()).collect()
}

fn not_plain(names: &[&str]) -> NotPlainByName {
    names.iter().map(|name| (name.as_bytes().into(), format!("what {name} is").into())).collect()
}

/// `swallows`, `seq`, `remote` and the like are not plain.
fn catalog() -> PlainnessCatalog {
    let plain = ["f"];
    let built_in =
        ["count", "now", "lower", "generate_series", "unnest", "current_setting", "extract", "swallows"];
    let bad = ["swallows", "pg_is_in_recovery", "Set It"];
    let functions = plain
        .iter()
        .map(|name| (name.as_bytes().into(), None))
        .chain(not_plain(&bad).into_iter().map(|(name, cause)| (name, Some(cause))));
    PlainnessCatalog {
        built_in: Arc::new(names(&built_in)),
        functions: functions.collect(),
        relations: names(&["t", "u", "Mixed", "remote", "seq", "pg_class", "a_view"]),
        words: not_plain(&["remote", "seq", "a_view", "dom"]),
        operators: not_plain(&["<~>"]),
        types: [(20_000, "type dom".into())].into(),
        ..PlainnessCatalog::default()
    }
}

fn judged(sql: &str) -> Plainness {
    judge(sql.as_bytes(), &[], &catalog())
}

#[track_caller]
fn assert_cause(sql: &str, cause: &str) {
    assert_eq!(judged(sql), Plainness::NotPlain(cause.into()), "{sql}");
}

#[track_caller]
fn assert_unknown(sql: &str, why: NotJudged) {
    assert_eq!(judged(sql), Plainness::Unknown(why), "{sql}");
}

#[test]
fn what_runs_functions_of_users_is_told_from_what_reads_tables_alone() {
    let catalog = PlainnessCatalog { indirect: names(&["v", "Attr"]), ..catalog() };
    let reads_tables_alone = |sql: &str| reads_tables_alone(sql.as_bytes(), &catalog);
    for sql in ["select 1", "table t", "select count(*), lower('v') from t join u using (a) where b = 1"] {
        assert!(reads_tables_alone(sql), "{sql}");
    }
    for sql in [
        "select f(1)",
        "select new_one(1)",
        "table V",
        "select * from t, \"v\"",
        "select t.\"Attr\" from t",
        "select 'x",
    ] {
        assert!(!reads_tables_alone(sql), "{sql}");
    }
}

#[test]
fn reads_of_known_names_are_plain() {
    for sql in [
        "select 1",
        "",
        "select count(*), lower(a), now() from public.t x join u on x.a = u.a, \"Mixed\" m where b in (1, 2)",
        "select a, b from t tablesample system (10), only (u) order by a, b",
        "with q as (select 1), r (a, b) as materialized (select 2) select * from q, r, t",
        "with recursive q(n) as (values (1) union all select n + 1 from q) select n from q",
        "values (1, 2), (3, 4)",
        "table t",
        "select * from (values (1, a), (2, b)) v (x, y), (t cross join u) where x = array[y, z]",
        "select * from t join u on t.a = array[b, c] where extract(year from d) is distinct from e",
        "select * from (with q as (select 1) select * from q) s, lateral (select * from u, t) z",
        "select * from unnest(array[1]) with ordinality as n (i, o), rows from (f(1), generate_series(1, 2)) z",
        "select a::numeric(10, 2), cast(b as varchar(10)), trim(both from c), substring(a from 2 for 3) from t",
        "select swallows, \"count\" from t where a = 'swallows(1)' and seq_nr = 'pg_is_in_recovery()' -- seq",
        "select e'\\'seq', $$ remote $$, current_setting('app.tenant') from pg_catalog.pg_class",
        "copy t (a, b) to stdout",
        "copy (select a from t) to stdout with csv",
        "select default_transaction_read_only, a <~ b, 'transaction_read_only_x' from t",
        "select (select max from u where u.a = t.a) from t, u as other (a, b) where a in (select b from u)",
    ] {
        assert_eq!(judged(sql), Plainness::Plain, "{sql}");
    }
}

#[test]
fn what_is_not_plain_is_named_however_it_is_written() {
    for sql in ["select swallows(1)", "select public.SWALLOWS (1)", "select * from \"swallows\"/* */(1)"] {
        assert_cause(sql, "what swallows is");
    }
    assert_cause("select \"Set It\"(1)", "what Set It is");
    assert_cause("select 1 where not Pg_Catalog.pg_is_in_recovery()", "what pg_is_in_recovery is");
    assert_cause("select last_value from seq", "what seq is");
    assert_cause("select 1 from t where exists (table public.remote)", "what remote is");
    assert_cause("copy a_view to stdout", "what a_view is");
    assert_cause("select '1'::dom", "what dom is");
    assert_cause("select 1 <~> 2", "what <~> is");
    assert_cause("select 1 operator(public.<~>) 2", "what <~> is");
    assert_cause("select -1 from t where a <~>-1", "what <~> is");
    assert_cause("select new_one(1), swallows(1)", "what swallows is");
}

#[test]
fn what_tells_the_server_is_not_plain() {
    assert_cause("show transaction_read_only", "transaction_read_only");
    assert_cause("select current_setting('In_Hot_Standby')", "in_hot_standby");
    assert_cause("copy t to '/tmp/t'", "COPY");
    assert_cause("copy (select 1) to program 'cat'", "COPY");
}

#[test]
fn parameters_are_judged_by_their_types() {
    let types = [25_u32.to_be_bytes(), 20_000_u32.to_be_bytes()].concat();
    assert_eq!(judge(b"select $1", &types, &catalog()), Plainness::NotPlain("type dom".into()));
    assert_eq!(judge(b"select $1", &types[..4], &catalog()), Plainness::Plain);
}

#[test]
fn what_needs_no_name_counts_for_all() {
    let catalog = PlainnessCatalog { everything: Some("function c".into()), ..catalog() };
    assert_eq!(judge(b"select 1", &[], &catalog), Plainness::NotPlain("function c".into()));
}

#[test]
fn names_that_the_catalog_has_not_are_unknown() {
    for sql in [
        "select new_one(1)",
        "select * from made_now",
        "select * from t, public.made_now",
        "select * from t join made_now using (a)",
        "select * from (t cross join made_now)",
        "select * from only made_now",
        "table \"T\"",
        "copy made_now to stdout",
        "with q as (select * from made_now) select * from q",
        "select 1 from t where exists (select from made_now)",
        "select * from new_one(1) n (a)",
    ] {
        assert_unknown(sql, NotJudged::NoSuchName);
    }
}

#[test]
fn text_that_is_not_understood_is_unknown() {
    for sql in ["select 'never ends", "select /* 1", "select U&\"\\0073wallows\"(1)", "select $a$ 1"] {
        assert_unknown(sql, NotJudged::Unscannable);
    }
    assert_eq!(judge(b"select \"\xe9\"", &[], &catalog()), Plainness::Unknown(NotJudged::Unscannable));
    assert_eq!(judged("select U&'x', e'\"', $$\"$$ from t where a = 'é'"), Plainness::Plain);
}

#[test]
fn longer_text_than_the_limit_is_unknown() {
    let of_length = |length: usize| format!("select 1{}", " ".repeat(length - 8));
    assert_eq!(judged(&of_length(PLAINNESS_SQL_MAX)), Plainness::Plain);
    assert_unknown(&of_length(PLAINNESS_SQL_MAX + 1), NotJudged::Unscannable);
}

/// Every string of a hostile alphabet, up to a length: no panic, and no relation that is not known is overlooked.
#[test]
fn nothing_panics_and_no_new_name_is_plain() {
    let words = [
        "(", ")", "[", "]", ",", ".", ";", "\"", "'", "a", "$1", "from", "with", "as", "rows", "values",
        "distinct", "f",
    ];
    let catalog = catalog();
    for length in 0..=4_u32 {
        for number in 0..words.len().pow(length) {
            let mut n = number;
            let mut sql = String::new();
            for _ in 0..length {
                sql.push_str(words[n % words.len()]);
                sql.push(' ');
                n /= words.len();
            }
            let begins = format!("select * from {sql}");
            let _verdict = judge(begins.as_bytes(), &[], &catalog);
            let ends = format!("{sql}; select * from made_now");
            assert_ne!(judge(ends.as_bytes(), &[], &catalog), Plainness::Plain, "{ends}");
        }
    }
}
