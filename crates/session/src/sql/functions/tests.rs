use std::collections::HashSet;

use std::sync::atomic::AtomicUsize;
use std::task::{Wake, Waker};

use super::*;
use crate::limits::{READ_BACK_MAX, SETTING_NAME_MAX};
use crate::pin::PinReason;

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn the_reader_wakes_for_a_session_that_waits_and_if_it_rests_for_a_call() {
    let functions = Functions::new(FunctionCatalog::unread(Arc::default(), UnlistedFunctions::Unread));
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let is_wanted = |if_used| functions.poll_wanted(&mut Context::from_waker(&waker), if_used).is_ready();
    assert!(!is_wanted(true));
    drop(functions.load());
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    assert!(is_wanted(true) && !is_wanted(false));
    functions.next_look();
    assert_eq!(woken.0.load(Ordering::Relaxed), 2);
    assert!(is_wanted(false));
    functions.next_look();
    assert_eq!(woken.0.load(Ordering::Relaxed), 2, "it is awake");
    assert!(functions.take_use());
    functions.look_begins();
    assert!(!is_wanted(true));
}

#[test]
fn deeds_add_up_and_end_at_the_limit() {
    let mut effect = FunctionEffect::default();
    assert!(effect.add(&FunctionEffect::sets("b.b")) && effect.add(&FunctionEffect::sets("a.a")));
    assert!(!effect.add(&FunctionEffect::sets("a.a")), "nothing new");
    assert_eq!(effect.sets, ["a.a".into(), "b.b".into()]);
    for n in effect.sets.len()..READ_BACK_MAX {
        effect.add(&FunctionEffect::sets(&format!("n.n{n:03}")));
    }
    assert_eq!((effect.sets.len(), effect.pins.first()), (READ_BACK_MAX, None));
    effect.add(&FunctionEffect::sets("one.more"));
    assert_eq!((effect.sets.len(), effect.pins.first()), (READ_BACK_MAX, Some(PinReason::UnknownSetting)));
}

#[test]
fn a_setting_with_a_long_name_pins() {
    let longest = "a".repeat(SETTING_NAME_MAX);
    assert_eq!(FunctionEffect::sets(&longest).sets, [longest.as_str().into()]);
    assert_eq!(FunctionEffect::sets(&format!("{longest}a")), FunctionEffect::pins(PinReason::UnknownSetting));
}

#[test]
fn what_a_session_has_made_is_known_after_a_look_that_began_behind_it() {
    let functions = Functions::new(FunctionCatalog::unread(Arc::default(), UnlistedFunctions::Unread));
    assert!(!functions.is_current(), "nobody has looked");
    let under_way = functions.look_begins();
    functions.are_changed(&Made::Anything);
    functions.look_ended(under_way, None);
    assert!(!functions.is_current() && functions.is_awaited());
    let next = functions.look_begins();
    functions.look_ended(next, None);
    assert!(functions.is_current());
}

#[test]
fn a_call_is_known_after_a_look_that_began_behind_it() {
    let functions = Functions::new(FunctionCatalog::unread(Arc::default(), UnlistedFunctions::Unread));
    let under_way = functions.look_begins();
    let number = functions.next_look();
    functions.look_ended(under_way, None);
    assert!(!functions.has_looked(number), "it may have looked too early");
    assert!(functions.is_awaited());
    let next = functions.look_begins();
    functions.look_ended(next, None);
    assert!(functions.has_looked(number) && !functions.is_awaited());
}

#[test]
fn what_runs_sql_of_a_value_pins_also_where_functions_are_not_read() {
    let built_in: HashSet<Box<[u8]>> = [&b"query_to_xml"[..], b"now"].map(Box::from).into();
    let catalog = FunctionCatalog::unread(Arc::new(built_in), UnlistedFunctions::Pins);
    let expected = FunctionEffect::pins(PinReason::SideEffects("query_to_xml"));
    assert_eq!(catalog.called(b"query_to_xml"), Called::UserDefined(&expected));
    assert_eq!(catalog.called(b"now"), Called::BuiltIn);
    assert_eq!(catalog.called(b"ts_stat"), Called::Unknown);
}

/// All of pg_proc that runs SQL, a relation or an index which it is given as a value.
#[test]
fn functions_that_run_what_they_are_given_pin() {
    for name in ["query_to_xml", "table_to_xml", "schema_to_xml", "database_to_xml"] {
        for name in [name.to_owned(), format!("{name}_and_xmlschema")] {
            let effect = FunctionEffect::of_name(name.as_bytes());
            assert!(matches!(effect.pins.first(), Some(PinReason::SideEffects(_))), "{name}");
        }
    }
    for name in
        ["query_to_xmlschema", "ts_stat", "ts_rewrite", "brin_summarize_new_values", "brin_summarize_range"]
    {
        assert!(!FunctionEffect::of_name(name.as_bytes()).pins.is_empty(), "{name}");
    }
    for name in ["table_to_xmlschema", "schema_to_xmlschema", "cursor_to_xml", "brin_desummarize_range"] {
        assert!(FunctionEffect::of_name(name.as_bytes()).pins.is_empty(), "{name} runs nothing of a user");
    }
}

#[test]
fn what_may_have_been_made_is_waited_for_by_those_who_name_it() {
    let functions = Functions::new(FunctionCatalog::unread(Arc::default(), UnlistedFunctions::Unread));
    let look = || {
        let number = functions.look_begins();
        functions.look_ended(number, None);
    };
    look();
    functions.may_be_changed(&Made::Names(vec![1]));
    assert!(functions.is_current() && functions.is_change_ahead() && functions.is_awaited());
    look();
    assert!(!functions.is_change_ahead());
    functions.may_be_changed(&Made::Anything);
    assert!(!functions.is_current() && functions.is_awaited(), "it may be anything");
    look();
    functions.are_changed(&Made::Names(vec![1]));
    assert!(!functions.is_current() && functions.is_change_ahead());
}

#[test]
fn what_runs_without_a_name_may_be_run_by_all() {
    let unread = || FunctionCatalog::unread(Arc::default(), UnlistedFunctions::Unread);
    let effect = || Arc::new(FunctionEffect::sets("a.a"));
    let by_operator = FunctionCatalog { operators: [((*b"@@").into(), effect())].into(), ..unread() };
    let by_cast = FunctionCatalog { everything: Some(effect()), ..unread() };
    let by_word = FunctionCatalog { words: [((*b"t").into(), effect())].into(), ..unread() };
    for (catalog, by_another) in [(by_operator, true), (by_cast, true), (by_word, false)] {
        let functions = Functions::new(unread());
        for catalog in [None, Some(catalog)] {
            let number = functions.look_begins();
            functions.look_ended(number, catalog);
        }
        let changes = functions.changes();
        let may_be_run = |name: &[u8]| changes.iter().any(|change| change.may_be_run_by(hash_of(name)));
        assert_eq!([may_be_run(b"t"), may_be_run(b"u")], [true, by_another]);
    }
    let functions = Functions::new(unread());
    let first = functions.look_begins();
    functions.look_ended(first, Some(FunctionCatalog { everything: Some(effect()), ..unread() }));
    assert!(functions.changes().is_empty(), "it was there before");
}
