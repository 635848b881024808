//! A client that gets an error for a lost server and goes on. One test for each rule.

use trunkline_session::{
    ClientThen, LossPlan, Mobility, ReportTiming, ServerRole, ServerThen, Tracking, TransactionStatus,
};

use crate::talk::*;

/// The answer of a plan that keeps the connection: messages by type, with their text.
#[track_caller]
fn answer(plan: LossPlan) -> String {
    let LossPlan::Fail { answer, .. } = plan else { panic!("{plan:?}") };
    told(&answer)
}

fn told(mut bytes: &[u8]) -> String {
    let mut out = Vec::new();
    while let [tag, a, b, c, d, after @ ..] = bytes {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize - 4;
        let body = String::from_utf8_lossy(&after[..length]).into_owned();
        let field = |kind| body.split('\0').find_map(|field| field.strip_prefix(kind)).unwrap_or("");
        out.push(match tag {
            b'E' => format!("{} {}", field('V'), field('C')),
            _other => format!("{}{body}", char::from(*tag)),
        });
        bytes = &after[length..];
    }
    out.join(", ")
}

type Messages<'a> = &'a [Vec<u8>];

fn in_transaction() -> Talk {
    let mut talk = Talk::new();
    talk.client(&[query("begin")]).server(&[complete("BEGIN"), ready('T')]);
    talk
}

/// The server was lost while the client was idle inside a transaction, and another was taken.
fn with_deferred_error() -> Talk {
    let mut talk = in_transaction();
    assert_eq!(answer(talk.lost(b"", MOVE)), "");
    talk.taken();
    talk
}

/// Sends client bytes that are refused: the number of bytes dropped, and the answer.
#[track_caller]
fn refused(talk: &mut Talk, bytes: &[u8]) -> (usize, String) {
    let step = talk.client_step(bytes);
    assert_eq!(step.forward, 0);
    let ClientThen::Refuse(refused) = step.then else { panic!("{step:?}") };
    (refused.dropped, told(&refused.answer))
}

#[test]
fn a_request_in_flight_fails_once_and_the_session_is_idle() {
    let extended = [parse("", "insert into t values (1)"), bind(""), execute(), sync()];
    let requests: [(Messages, Messages); 6] = [
        (&[query("insert into t values (1)")], &[]),
        (&[query("select 1")], &[m('T'), m('D')]),
        (&[query("copy t to stdout")], &[m('H'), m('d')]),
        (&extended, &[]),
        (&extended, &[m('1'), m('2'), complete("INSERT 0 1")]),
        (&[parse("", "select 1"), bind(""), flush(), execute(), sync()], &[m('1')]),
    ];
    for (request, answered) in requests {
        let mut talk = Talk::new();
        talk.client(request).server(answered);
        assert_eq!(answer(talk.lost(b"", MOVE)), "ERROR 08006, ZI");
        talk.is_idle().taken().client(&[query("")]).server(&[m('I'), ready('I')]).is_idle();
    }
    let mut talk = Talk::new();
    talk.client(&[query("select 1")]).server(&[m('D')]).lost(b"", MOVE);
    assert_eq!(talk.ends(), ["lost"]);
}

#[test]
fn the_timing_is_reported_of_a_failed_request_too() {
    let mut talk = Talk::with(ReportTiming::Notice, Tracking::Full);
    talk.client(&[query("select 1")]).wait(5).server(&[m('T'), m('D')]).wait(7);
    let told = answer(talk.lost(b"", MOVE));
    assert!(told.starts_with("ERROR 08006, NSNOTICE") && told.contains("total_us=12000"), "{told}");
    assert!(told.ends_with(", ZI"), "{told}");
    talk.taken().client(&[query("select 2")]);
    let step = talk.server_step(&[m('I'), ready('I')].concat());
    let notice = String::from_utf8_lossy(step.inject.as_deref().unwrap_or_default()).into_owned();
    assert!(notice.contains("server=replica2") && notice.contains("total_us=0"), "{notice}");
}

#[test]
fn a_failure_that_the_client_has_seen_is_not_reported_again() {
    for (request, answers, status) in [
        (query("oops"), vec![error()], 'I'),
        (query("begin; oops"), vec![error()], 'I'),
        (query("begin; select 1/0"), vec![complete("BEGIN"), error()], 'E'),
    ] {
        let mut talk = Talk::new();
        talk.client(&[request]).server(&answers);
        assert_eq!(answer(talk.lost(b"", MOVE)), format!("Z{status}"));
    }
    for (request, answers) in [
        (vec![parse("", "oops"), bind(""), sync()], vec![error()]),
        (
            vec![parse("", "select 1"), bind(""), execute(), sync()],
            vec![m('1'), m('2'), complete("SELECT 0"), error()],
        ),
    ] {
        let mut talk = Talk::new();
        talk.client(&request).server(&answers);
        assert_eq!(answer(talk.lost(b"", MOVE)), "ZI");
    }
    let mut later = Talk::new();
    later.client(&[parse("", "oops")]).server(&[error()]).client(&[sync()]);
    assert_eq!(answer(later.lost(b"", MOVE)), "ZI");
}

#[test]
fn a_transaction_that_was_open_or_may_be_has_failed() {
    let mut open = in_transaction();
    open.client(&[query("select 1")]);
    assert_eq!(answer(open.lost(b"", MOVE)), "ERROR 08006, ZE");
    // A BEGIN that fails begins nothing.
    for request in [vec![query("begin")], vec![parse("", "begin"), bind(""), execute(), sync()]] {
        let mut begun = Talk::new();
        begun.client(&request);
        assert_eq!(answer(begun.lost(b"", MOVE)), "ERROR 08006, ZI");
        assert_eq!(begun.session.transaction_status(), TransactionStatus::Idle);
    }
    let mut several = Talk::new();
    several.client(&[query("begin; select 1")]).server(&[complete("BEGIN")]);
    assert_eq!(answer(several.lost(b"", MOVE)), "ERROR 08006, ZE");
    let mut answered = Talk::new();
    answered.client(&[parse("a", "start transaction"), sync()]).server(&[m('1'), ready('I')]);
    answered.client(&[bind("a"), execute(), bind("b"), execute(), sync()]);
    answered.server(&[m('2'), complete("START TRANSACTION")]);
    assert_eq!(answer(answered.lost(b"", MOVE)), "ERROR 08006, ZE");
    // COMMIT and ROLLBACK end the transaction, one way or the other.
    for end in ["commit", "end", "rollback"] {
        for request in [vec![query(end)], vec![parse("", end), bind(""), execute(), sync()]] {
            let mut ended = in_transaction();
            ended.client(&request);
            assert_eq!(answer(ended.lost(b"", MOVE)), "ERROR 08006, ZI", "{end}");
            assert!(ended.alignment().is_empty());
        }
        let mut told = in_transaction();
        told.client(&[query(end)]).server(&[complete("COMMIT")]);
        assert_eq!(answer(told.lost(b"", MOVE)), "ZI", "{end} is done, and the client knows");
    }
    let mut chained = in_transaction();
    chained.client(&[parse("", "insert into t values (1)"), bind(""), execute()]);
    chained.client(&[parse("", "commit"), bind(""), execute(), sync()]);
    assert_eq!(answer(chained.lost(b"", MOVE)), "ERROR 08006, ZE", "the COMMIT was skipped");
    let mut more = in_transaction();
    more.client(&[parse("", "commit"), bind(""), execute(), bind("a"), execute(), sync()]);
    more.server(&[m('1'), m('2'), complete("COMMIT"), m('2'), complete("SELECT 1")]);
    assert_eq!(answer(more.lost(b"", MOVE)), "ERROR 08006, ZI", "what came after it is not certain");
    // One that was begun and ended before has nothing to do with it.
    let mut after = in_transaction();
    after.client(&[query("commit")]).server(&[complete("COMMIT"), ready('I')]).client(&[query("select 1")]);
    assert_eq!(answer(after.lost(b"", MOVE)), "ERROR 08006, ZI");
}

#[test]
fn the_next_server_gets_the_settings_and_then_a_failed_transaction() {
    let mut talk = Talk::new();
    talk.client(&[query("set a = 1")]).server(&[complete("SET"), ready('I')]);
    talk.client(&[query("begin")]).server(&[complete("BEGIN"), ready('T')]);
    talk.client(&[query("set a = 2")]).server(&[complete("SET"), ready('T')]);
    talk.client(&[query("select 1")]).lost(b"", MOVE);
    let alignment = talk.alignment();
    let sent = String::from_utf8_lossy(&alignment.messages).into_owned();
    assert!(sent.contains("set a = 1") && !sent.contains("set a = 2") && sent.contains("BEGIN"));
    let set = [m('1'), m('2'), complete("SET"), m('3'), ready('I')].concat();
    let begun =
        [m('1'), m('2'), complete("BEGIN"), m('3'), report('E', "ERROR", "34000"), ready('E')].concat();
    let answers = [set.clone(), begun].concat();
    let mut reader = alignment.reader();
    for at in 0..answers.len() {
        assert!(!alignment.reader().handle(&answers[..at]).expect("sound").done, "{at}");
    }
    let step = reader.handle(&[&answers[..], b"rest"].concat()).expect("sound");
    assert_eq!((step.consumed, step.done), (answers.len(), true));
    let unsound = [
        [set.clone(), m('1'), m('2'), complete("BEGIN"), m('3'), ready('T')].concat(),
        [set.clone(), m('1'), m('2'), complete("BEGIN"), m('3'), error()].concat(),
        [set.clone(), report('E', "ERROR", "34000")].concat(),
        [m('1'), m('2'), report('E', "ERROR", "34000")].concat(),
    ];
    for answers in unsound {
        assert!(alignment.reader().handle(&answers).is_err());
    }
    talk.taken().client(&[query("rollback")]).server(&[complete("ROLLBACK"), ready('I')]).is_idle();
    assert!(!String::from_utf8_lossy(&talk.alignment().messages).contains("set a = 2"));
}

#[test]
fn a_silent_client_gets_the_error_with_its_next_request_and_no_server_sees_that() {
    for (request, expected) in [
        (query("select 1"), "ERROR 08006, ZE"),
        (query("rollback to s"), "ERROR 08006, ZE"),
        (query("rollback; select 1"), "ERROR 08006, ZE"),
        (query("rollback and chain"), "ERROR 08006, ZE"),
        (sync(), "ERROR 08006, ZE"),
    ] {
        let mut talk = with_deferred_error();
        let next = query("rollback");
        let both = [&request[..], &next].concat();
        assert_eq!(refused(&mut talk, &both), (request.len(), expected.to_owned()));
        talk.client(&[next]).server(&[complete("ROLLBACK"), ready('I')]).is_idle();
    }
}

#[test]
fn a_commit_that_is_refused_ends_the_transaction() {
    for request in [query("commit"), [parse("", "end"), bind(""), execute(), sync()].concat()] {
        let mut talk = with_deferred_error();
        let step = talk.client_step(&request);
        let ClientThen::Refuse(refused) = step.then else { panic!("{step:?}") };
        assert_eq!((told(&refused.answer), refused.is_end), ("ERROR 08006, ZI".to_owned(), true));
        assert!(talk.alignment().is_empty(), "the next server is as after a login");
        talk.taken();
        assert_eq!(talk.session.movability(), Ok(()));
        talk.client(&[query("select 1")]).server(&[complete("SELECT 1"), ready('I')]);
    }
    let mut talk = with_deferred_error();
    let skipped =
        [parse("", "select 1"), bind(""), execute(), parse("", "commit"), bind(""), execute(), sync()];
    assert_eq!(refused(&mut talk, &skipped.concat()).1, "ERROR 08006, ZE", "it is skipped");
}

#[test]
fn the_first_message_gets_the_error_and_all_is_skipped_up_to_the_sync() {
    let mut talk = with_deferred_error();
    assert_eq!(refused(&mut talk, &flush()), (5, String::new()), "a Flush is not answered");
    let begun = [parse("a", "select 1"), flush()].concat();
    assert_eq!(refused(&mut talk, &begun), (begun.len(), "ERROR 08006".to_owned()));
    assert_eq!(refused(&mut talk, &query("select 1")).1, "", "skipped as any server does");
    // The loss of the new server changes nothing.
    assert_eq!(talk.lost(b"", MOVE), LossPlan::Move);
    talk.taken();
    assert_eq!(refused(&mut talk, &sync()), (5, "ZE".to_owned()));
    talk.client(&[query("rollback")]);
}

#[test]
fn a_long_request_is_refused_at_its_end() {
    let long = query(&format!("select '{}'", "x".repeat(100_000)));
    let mut talk = with_deferred_error();
    assert_eq!(refused(&mut talk, &long[..40_000]), (40_000, String::new()));
    let rest = [&long[40_000..], &query("rollback")].concat();
    assert_eq!(refused(&mut talk, &rest), (long.len() - 40_000, "ERROR 08006, ZE".to_owned()));
    let parsed = [parse("", &format!("rollback -- {}", "x".repeat(100_000))), sync()].concat();
    let mut talk = with_deferred_error();
    assert_eq!(refused(&mut talk, &parsed).1, "ERROR 08006, ZE", "what is not seen whole is refused");
}

#[test]
fn a_rollback_or_terminate_needs_no_error() {
    let prepared = |talk: &mut Talk| {
        talk.client(&[parse("r", "ROLLBACK"), sync()]).server(&[m('1'), ready('I')]);
        talk.asks(&["r"], &[], &[]).client(&[query("begin")]).server(&[complete("BEGIN"), ready('T')]);
    };
    for request in [query("ROLLBACK;"), [parse("", "abort"), bind(""), execute(), sync()].concat()] {
        let mut talk = Talk::new();
        prepared(&mut talk);
        assert_eq!(answer(talk.lost(b"", MOVE)), "");
        talk.taken();
        assert_eq!(talk.client_step(&request).forward, request.len());
    }
    let mut talk = Talk::new();
    prepared(&mut talk);
    assert_eq!(answer(talk.lost(b"", MOVE)), "");
    let request = [bind("r"), execute(), sync()];
    talk.taken().needs(&request, &[parse("r", "ROLLBACK"), describe("r"), flush()]);
    talk.swallows(&[m('1'), takes(&[]), returns(&[])]).client(&request);
    let mut talk = with_deferred_error();
    assert!(matches!(talk.client_step(&message(b'X', b"")).then, ClientThen::Terminate));
}

#[test]
fn only_a_rollback_that_is_run_needs_no_error() {
    let end = [execute(), sync()].concat();
    for series in [
        [parse("r", "rollback"), parse("c", "commit"), bind("c")].concat(),
        [parse("r", "rollback"), bind("c")].concat(),
        [parse("r", "rollback"), bind("r"), execute(), parse("", "commit"), bind("")].concat(),
        [bind("r"), execute(), bind("c")].concat(),
        parse("r", "rollback"),
        [parse("r", "rollback"), flush()].concat(),
        [parse("r", &format!("rollback -- {}", "x".repeat(2000))), bind("r")].concat(),
    ] {
        let mut talk = Talk::new();
        talk.client(&[parse("r", "ROLLBACK"), parse("c", "COMMIT"), sync()]).server(&[
            m('1'),
            m('1'),
            ready('I'),
        ]);
        talk.client(&[query("begin")]).server(&[complete("BEGIN"), ready('T')]);
        assert_eq!(answer(talk.lost(b"", MOVE)), "");
        talk.taken();
        let series = [series, end.clone()].concat();
        assert_eq!(refused(&mut talk, &series), (series.len(), "ERROR 08006, ZE".to_owned()));
    }
}

#[test]
fn a_series_that_may_roll_back_is_waited_for() {
    let series = [parse("", "abort"), bind(""), execute(), sync()].concat();
    for cut in 1..series.len() {
        let mut talk = with_deferred_error();
        let step = talk.client_step(&series[..cut]);
        assert!(step.forward == 0 && matches!(step.then, ClientThen::ReadOn), "{cut}: {step:?}");
        assert_eq!(talk.client_step(&series).forward, series.len());
    }
}

#[test]
fn a_failed_transaction_is_moved_without_a_word() {
    let mut talk = in_transaction();
    talk.client(&[query("oops")]).server(&[error(), ready('E')]);
    assert_eq!(talk.lost(b"", MOVE), LossPlan::Move);
    assert!(!talk.alignment().is_empty());
    talk.taken().client(&[query("commit")]).server(&[complete("ROLLBACK"), ready('I')]).is_idle();
}

/// Whether it is held back, and what it can be about.
fn is_farewell(then: &ServerThen, code: &str) -> bool {
    let may_be_of_session = code == "57P01";
    matches!(then, ServerThen::Terminated if may_be_of_session)
        || matches!(then, ServerThen::Farewell if !may_be_of_session)
}

#[test]
fn the_loss_of_a_failed_transaction_with_a_savepoint_is_reported() {
    let mut talk = in_transaction();
    talk.client(&[query("savepoint s")]).server(&[complete("SAVEPOINT"), ready('T')]);
    talk.client(&[query("oops")]).server(&[error(), ready('E')]);
    assert_eq!(answer(talk.lost(b"", MOVE)), "");
    talk.taken();
    assert_eq!(refused(&mut talk, &query("rollback to s")).1, "ERROR 08006, ZE");
    talk.client(&[query("rollback")]).server(&[complete("ROLLBACK"), ready('I')]).is_idle();
}

#[test]
fn a_farewell_is_not_forwarded_when_the_client_goes_on() {
    for (severity, code) in [("FATAL", "57P01"), ("FATAL", "57P02"), ("FATAL", "40001")] {
        let farewell = report('E', severity, code);
        let mut busy = Talk::new();
        busy.client(&[query("select 1")]).server(&[m('T'), m('D')]);
        let step = busy.server_step(&farewell);
        assert!(step.forward == 0 && is_farewell(&step.then, code));
        assert_eq!(answer(busy.lost(&farewell, MOVE)), format!("ERROR {code}, ZI"));
        let mut silent = in_transaction();
        assert!(is_farewell(&silent.server_step(&farewell).then, code));
        assert_eq!(answer(silent.lost(&farewell, MOVE)), "");
        silent.taken();
        assert_eq!(refused(&mut silent, &query("select 1")).1, format!("ERROR {code}, ZE"));
        // Without another server it is forwarded.
        let mut last = in_transaction();
        last.server_step(&farewell);
        assert_eq!(last.lost(&farewell, STAY), LossPlan::Report(farewell.into()));
    }
    let of_the_session = report('E', "FATAL", "25P03");
    in_transaction().server(&[of_the_session]);
}

#[test]
fn the_error_says_what_is_not_known() {
    let said = |mut talk: Talk| {
        let LossPlan::Fail { answer, .. } = talk.lost(b"", MOVE) else { panic!("it goes on") };
        String::from_utf8_lossy(&answer).into_owned()
    };
    let mut write = Talk::new();
    write.session.server_taken("primary".into(), ServerRole::Primary, bytes::Bytes::new());
    write.client(&[query("insert into t values (1)")]);
    let text = said(write);
    assert!(text.contains("may or may not have taken effect") && text.contains("\"primary\""), "{text}");
    let mut read = Talk::new();
    read.client(&[query("select 1")]).server(&[m('D')]);
    assert!(said(read).contains("inside its answer"));
    let mut transaction = in_transaction();
    transaction.client(&[query("commit")]);
    assert!(said(transaction).contains("COMMIT was already sent"));
}

#[test]
fn what_is_lost_with_the_server_or_not_in_step_ends_the_session() {
    let ends = |talk: &mut Talk| assert!(matches!(talk.lost(b"", MOVE), LossPlan::Report(_)));
    let units: [Messages; 5] = [
        &[query("select 1"), query("select 2")],
        &[parse("", "select 1"), bind("")],
        &[parse("", "select 1"), sync(), sync()],
        &[message(b'F', b"\0\0\0\x01\0\0\0\0\0\0")],
        &[query("copy t from stdin"), message(b'c', b"")],
    ];
    for unit in units {
        ends(Talk::new().client(unit));
    }
    ends(Talk::new().client(&[query("copy t from stdin")]).server(&[m('G')]));
    ends(Talk::new().client(&[parse("", "oops")]).server(&[error()]));
    let made = [complete("CREATE TABLE"), ready('T')];
    ends(in_transaction().client(&[query("create temp table t (i int)")]).server(&made));
    ends(in_transaction().client(&[query("select pg_advisory_lock(1)")]));
    ends(Talk::of(Talk::settings(Mobility::Fixed), std::time::Instant::now()).client(&[query("select 1")]));
    let mut begun = Talk::new();
    let long = query(&"x".repeat(100_000));
    assert_eq!(begun.client_step(&long[..50_000]).forward, 50_000);
    ends(&mut begun);
    let mut stays = Talk::new();
    stays.client(&[query("select 1")]).server(&[m('D')]);
    assert!(matches!(stays.lost(b"", STAY), LossPlan::Report(_)));
}

#[test]
fn a_lost_request_leaves_nothing_behind() {
    let mut talk = Talk::new();
    talk.client(&[parse("", "select 1"), sync()]).server(&[m('1'), ready('I')]).asks(&[""], &[], &["a"]);
    talk.client(&[parse("b", "select 2"), flush(), parse("c", "select 3"), sync()]).server(&[m('1')]);
    talk.lost(b"", MOVE);
    let kept = |talk: &Talk| {
        let mut names: Vec<_> = talk.session.prepared_statements().map(|(name, _)| name.to_vec()).collect();
        names.sort();
        names
    };
    assert_eq!(kept(&talk), [&b""[..], b"b"], "what was confirmed is there");
    let set = [query("set x = 1; select 1")];
    talk.taken().needs(&set, &[parse("b", "select 2"), describe("b"), sync()]);
    talk.swallows(&[m('1'), takes(&[]), returns(&["a"]), ready('I')]);
    talk.client(&set).server(&[complete("SET"), m('D')]).lost(b"", MOVE);
    assert_eq!(kept(&talk), [b"b"], "a query drops the unnamed one");
    assert!(talk.alignment().is_empty(), "and nothing was set");
}
