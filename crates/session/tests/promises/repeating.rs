//! When a request in flight may be sent again. One test for each rule.

use std::time::Duration;

use trunkline_session::limits::HELD_BYTES_MAX;
use trunkline_session::{LossPlan, Mobility, NotRepeatable, ServerRole, ServerThen, StandbyRefusal};

use crate::talk::*;

const UNIT: [fn() -> Vec<u8>; 4] = [|| parse("", "select 1"), || bind(""), execute, sync];

fn unit() -> Vec<Vec<u8>> {
    UNIT.iter().map(|message| message()).collect()
}

#[track_caller]
fn is_not_repeatable(talk: &mut Talk, why: NotRepeatable) {
    assert_eq!(talk.session.repeatable(), Err(why));
    assert_ne!(talk.lost(b"", REPEAT), LossPlan::Repeat);
}

#[test]
fn a_read_without_an_answer_is_repeated_and_recorded_once() {
    for request in [vec![query("select 1")], unit(), vec![query("begin")], vec![query("set a = 1")]] {
        let mut talk = Talk::new();
        talk.client(&request).wait(5);
        assert_eq!(talk.lost(b"", REPEAT), LossPlan::Repeat);
        talk.session.rewind(talk.now);
        talk.is_idle().taken().client(&request).wait(2);
        let head = if request.len() == 1 { vec![] } else { [m('1'), m('2')].concat() };
        talk.server(&[head, complete("SELECT 0"), ready('I')]);
        let [record] = &talk.records.0[..] else { panic!("{:?}", talk.records.0) };
        assert_eq!((record.end.as_str(), record.retries), ("SELECT 0", 1));
        assert_eq!(
            (record.timing.wait, record.timing.server_total),
            (Duration::from_millis(5), Duration::from_millis(2))
        );
    }
}

#[test]
fn nothing_is_repeated_without_the_callers_leave() {
    let mut talk = Talk::new();
    talk.client(&[query("select 1")]);
    assert_ne!(talk.lost(b"", MOVE), LossPlan::Repeat);
    let mut fixed = Talk::of(Talk::settings(Mobility::Fixed), talk.now);
    fixed.client(&[query("select 1")]);
    is_not_repeatable(&mut fixed, NotRepeatable::Pinned);
}

#[test]
fn nothing_is_repeated_once_a_byte_of_its_answer_was_forwarded() {
    for first in [m('D'), report('N', "NOTICE", "00000"), status("a", "b"), m('A'), m('I'), m('H')] {
        let mut talk = Talk::new();
        talk.client(&[query("select 1")]).server(std::slice::from_ref(&first));
        is_not_repeatable(&mut talk, NotRepeatable::Answered);
    }
}

#[test]
fn what_carries_no_row_is_held_until_it_is_known_what_follows() {
    let head = [m('1'), m('2'), m('T')].concat();
    let unit = || [parse("", "select 1"), bind(""), message(b'D', b"P\0"), execute(), sync()];
    let mut talk = Talk::new();
    talk.client(&unit());
    for size in 1..=head.len() {
        assert_eq!(talk.server_step(&head[..size]).forward, 0);
    }
    assert_eq!(talk.session.repeatable(), Ok(()));
    let whole = [&head[..], &m('D')].concat();
    assert_eq!(talk.server_step(&whole).forward, whole.len());
    is_not_repeatable(&mut talk, NotRepeatable::Answered);

    let mut talk = Talk::new();
    talk.client(&unit());
    assert_eq!(talk.server_step(&head).forward, 0);
    assert_eq!(talk.lost(&head, REPEAT), LossPlan::Repeat);
}

#[test]
fn nothing_is_held_from_a_client_that_waits_for_it() {
    let begun = [parse("", "select 1"), message(b'D', b"S\0")];
    let head = [m('1'), m('t'), m('T')];
    for ask in [vec![flush()], vec![], vec![flush(), sync()]] {
        let mut talk = Talk::new();
        talk.client(&begun).client(&ask).server(&head);
    }
    let mut talk = Talk::new();
    talk.client(&begun).client(&[sync()]).server(&[head.concat(), ready('I')]).is_idle();
}

#[test]
fn no_more_is_held_than_its_limit() {
    let of = |length: usize| message(b'T', &vec![0; length - 5]);
    let mut talk = Talk::new();
    talk.client(&[query("select 1")]);
    assert_eq!(talk.server_step(&of(HELD_BYTES_MAX)).forward, 0);
    talk.server(&[of(HELD_BYTES_MAX + 1)]);
}

#[test]
fn one_unit_is_repeated_and_no_second_after_it() {
    for second in [query("select 2"), sync(), parse("", "select 2")] {
        let mut talk = Talk::new();
        talk.client(&[query("select 1"), second]);
        is_not_repeatable(&mut talk, NotRepeatable::SeveralUnits);
    }
    let mut talk = Talk::new();
    talk.client(&[bind("a"), query("select 1")]);
    is_not_repeatable(&mut talk, NotRepeatable::SeveralUnits);
    let mut after_an_answer = Talk::new();
    after_an_answer
        .client(&[query("select 1"), query("select 2")])
        .server(&[complete("SELECT 0"), ready('I')]);
    is_not_repeatable(&mut after_an_answer, NotRepeatable::SeveralUnits);
}

#[test]
fn nothing_is_repeated_in_a_transaction() {
    let mut talk = Talk::new();
    talk.client(&[query("begin")]).server(&[complete("BEGIN"), ready('T')]).client(&[query("select 1")]);
    assert!(talk.session.repeatable().is_err());
    let mut implicit = Talk::new();
    implicit.client(&[parse("", "select 1"), flush()]).server(&[m('1')]).client(&[
        bind(""),
        execute(),
        sync(),
    ]);
    is_not_repeatable(&mut implicit, NotRepeatable::Answered);
}

#[test]
fn nothing_is_repeated_that_does_more_than_read() {
    for sql in [
        "insert into t values (1)",
        "copy t from stdin",
        "select pg_sleep(1)",
        "select 1; set a = 1",
        "do 'x'",
    ] {
        let mut talk = Talk::new();
        talk.client(&[query(sql)]);
        is_not_repeatable(&mut talk, NotRepeatable::SideEffects);
        let mut prepared = Talk::new();
        prepared.client(&[parse("a", sql), sync()]).server(&[m('1'), ready('I')]);
        prepared.client(&[bind("a"), sync()]).server(&[m('2'), ready('I')]);
        prepared.client(&[bind("a"), execute(), sync()]);
        is_not_repeatable(&mut prepared, NotRepeatable::SideEffects);
    }
    let mut talk = Talk::new();
    talk.client(&[message(b'F', b"\0\0\0\x01\0\0\0\0\0\0")]);
    is_not_repeatable(&mut talk, NotRepeatable::FunctionCall);
}

#[test]
fn a_long_read_is_repeated_unless_any_part_of_it_may_do_more() {
    let padding = "x".repeat(50_000);
    let parts = |sql: &str| {
        let mut talk = Talk::new();
        let long = query(sql);
        let (first, rest) = long.split_at(40_000);
        assert_eq!(talk.client_step(first).forward, first.len());
        assert_eq!(talk.client_step(rest).forward, rest.len());
        (talk, long)
    };
    for sql in [format!("select '{padding}'"), format!(" /* x */ (SELECT '{padding}');")] {
        let (mut talk, long) = parts(&sql);
        assert_eq!(talk.lost(b"", REPEAT), LossPlan::Repeat, "{}", &sql[..9]);
        talk.session.rewind(talk.now);
        talk.taken();
        assert_eq!(talk.client_step(&long).forward, long.len());
        talk.server(&[complete("SELECT 1"), ready('I')]).is_idle();
        assert_eq!(talk.session.movability(), Ok(()));
    }
    for sql in [
        format!("select '{padding}', pg_sleep(1)"),
        format!("select pg_sleep(1), '{padding}'"),
        format!("select '{}', pg_sleep(1)", &padding[..39_980]),
        format!("select '{padding}'; insert into t values (1)"),
        format!("select 1; select '{padding}'"),
        format!("with x as (delete from t) select '{padding}'"),
        format!("insert into t values ('{padding}')"),
    ] {
        let (mut talk, _) = parts(&sql);
        is_not_repeatable(&mut talk, NotRepeatable::SideEffects);
    }
}

#[test]
fn nothing_is_repeated_for_a_pinned_session_or_a_client_that_left() {
    let mut talk = Talk::new();
    talk.client(&[query("listen x")]).server(&[complete("LISTEN"), ready('I')]).client(&[query("select 1")]);
    is_not_repeatable(&mut talk, NotRepeatable::Pinned);
    let mut talk = Talk::new();
    talk.client(&[query("select 1")]).session.handle_client_eof();
    is_not_repeatable(&mut talk, NotRepeatable::ClientLeft);
}

#[test]
fn a_request_that_was_not_answered_leaves_nothing_behind() {
    let mut talk = Talk::new();
    let request = [parse("a", "set x = 1"), bind("a"), execute(), message(b'C', b"Sa\0"), sync()];
    talk.client(&request);
    talk.session.rewind(talk.now);
    assert!(talk.alignment().is_empty());
    talk.taken().client(&request).server(&[m('1'), m('2'), complete("SET"), m('3'), ready('I')]).is_idle();
    assert!(talk.alignment().messages.windows(9).any(|w| w == b"set x = 1"));
}

#[test]
fn part_of_a_request_is_repeated_whole() {
    let mut talk = Talk::new();
    let long = [b"P".to_vec(), 100_000_u32.to_be_bytes().to_vec(), b"\0select ".to_vec(), vec![b'x'; 40_000]]
        .concat();
    assert_eq!(talk.client_step(&[bind("a"), long].concat()).forward, bind("a").len() + 40_013);
    assert_eq!(talk.session.repeatable(), Err(NotRepeatable::SideEffects), "a long statement is not known");
    let mut talk = Talk::new();
    let values = message(b'B', &[&b"\0a\0\0\0\0\x01\0\0\xea\x60"[..], &vec![0; 60_000], b"\0\0"].concat());
    assert_eq!(talk.client_step(&values[..40_000]).forward, 40_000);
    assert_eq!(talk.lost(b"", REPEAT), LossPlan::Repeat);
    talk.session.rewind(talk.now);
    talk.taken()
        .client(&[values, execute(), sync()])
        .server(&[m('2'), complete("SELECT 0"), ready('I')])
        .is_idle();
}

#[test]
fn a_conflict_is_offered_while_nothing_was_forwarded() {
    let offered = [
        ("ERROR", "40001"),
        ("FATAL", "40001"),
        ("ERROR", "40P01"),
        ("FATAL", "57P01"),
        ("FATAL", "57P02"),
        ("FATAL", "57P03"),
    ];
    for (severity, code) in offered {
        for head in [vec![], vec![m('1'), m('2')], vec![m('1'), m('2'), m('D'), m('D')]] {
            let mut talk = Talk::new();
            talk.client(&unit());
            let answer = [head.concat(), report('E', severity, code)].concat();
            let step = talk.server_step(&answer);
            assert_eq!(step.forward, 0);
            assert!(matches!(step.then, ServerThen::Conflict(seen) if seen.as_str() == code));
            talk.session.accept_answer();
            if severity == "ERROR" {
                talk.server(&[answer]);
            } else {
                let then = talk.server_step(&answer).then;
                assert!(matches!(then, ServerThen::Farewell | ServerThen::Terminated), "{then:?}");
            }
        }
    }
}

#[test]
fn a_whole_answer_is_not_asked_for_again_though_a_farewell_came_with_it() {
    let mut talk = Talk::new();
    let answer = [m('T'), m('D'), complete("SELECT 1"), ready('I')].concat();
    let step = talk
        .client(&[query("select 1")])
        .server_step(&[&answer[..], &report('E', "FATAL", "57P01")].concat());
    assert_eq!(step.forward, answer.len());
    assert!(matches!(step.then, ServerThen::Terminated));
}

#[test]
fn other_errors_are_the_clients() {
    for (severity, code) in
        [("ERROR", "57014"), ("FATAL", "57014"), ("ERROR", "22012"), ("ERROR", "57P01"), ("FATAL", "57P05")]
    {
        let mut talk = Talk::new();
        talk.client(&[query("select 1")]).server(&[report('E', severity, code)]);
    }
    let conflict = report('E', "ERROR", "40001");
    let mut begun = Talk::new();
    begun
        .client(&[query("select 1")])
        .server(&[m('T'), m('D')].concat().chunks(1000).map(<[u8]>::to_vec).collect::<Vec<_>>());
    begun.server(std::slice::from_ref(&conflict));
    let mut promoted = Talk::new();
    promoted
        .server(&[status("in_hot_standby", "off")])
        .client(&[query("select 1")])
        .server(std::slice::from_ref(&conflict));
    assert_eq!(promoted.session.server_role(), ServerRole::Primary);
    let mut primary = Talk::new();
    primary.session.server_taken("primary".into(), ServerRole::Primary, bytes::Bytes::new());
    primary.client(&[query("select 1")]).server(&[conflict]);
}

#[test]
fn a_shutdown_notice_before_the_answer_is_held_until_the_end_follows() {
    for code in ["57P01", "57P02"] {
        let notice = report('N', "WARNING", code);
        let mut talk = Talk::new();
        talk.client(&[query("select 1")]);
        assert_eq!(talk.server_step(&notice).forward, 0);
        assert_eq!(talk.lost(&notice, REPEAT), LossPlan::Repeat);
    }
}

#[test]
fn a_refusal_of_a_standby_that_is_asked_first_is_offered_until_something_is_forwarded() {
    let refusal = [report('E', "ERROR", "25006"), ready('I')].concat();
    let notice = report('N', "NOTICE", "00000");
    for request in [vec![query("select 1")], unit()] {
        for head in [vec![], vec![notice.clone()], vec![m('1'), m('2'), notice.clone(), m('D')]] {
            let answer = [head.concat(), refusal.clone()].concat();
            let mut talk = Talk::new();
            talk.session.ask_standby_first(true);
            talk.client(&request);
            let step = talk.server_step(&answer);
            assert!(step.forward == 0 && matches!(step.then, ServerThen::Refused(StandbyRefusal::Recovery)));
            talk.session.rewind(talk.now);
            talk.is_idle().taken().session.ask_standby_first(false);
            talk.client(&request).server(&[answer]);
        }
        let mut begun = Talk::new();
        begun.session.ask_standby_first(true);
        begun.client(&request).server(&[m('D')]);
        begun.server(std::slice::from_ref(&refusal));
    }
    let mut noticed = Talk::new();
    noticed.session.ask_standby_first(true);
    noticed.client(&[query("select 1")]);
    assert_eq!(noticed.server_step(&notice).forward, 0, "the primary will send it");
}
