//! The client is told up to where it has written, before a ReadyForQuery: `trunkline.report_lsn`.

use trunkline_session::{ClientThen, LossPlan, Mobility, ServerRole, SessionSettings, UnitEffect};

use crate::talk::*;

/// A session on a primary whose client wants positions from its startup packet on, or not.
fn talk(is_wanted: bool) -> Talk {
    let settings = SessionSettings { role: ServerRole::Primary, ..Talk::settings(Mobility::Movable) };
    let mut talk = Talk::of(settings, std::time::Instant::now());
    talk.session.report_positions(is_wanted);
    talk
}

/// The answers to the question, up to its Sync.
fn told(row: &[u8]) -> Vec<Vec<u8>> {
    vec![m('3'), m('1'), m('2'), row.to_owned(), complete("SELECT 1"), m('3'), m('3')]
}

fn position() -> Vec<u8> {
    row(&[Some("0000000A"), Some("16/B374D848")])
}

fn ready_with(value: &str) -> Vec<u8> {
    [status("trunkline.lsn", value), ready('I')].concat()
}

impl Talk {
    /// The server is ready, and asked where it writes before the client hears of that.
    #[track_caller]
    fn withholds(&mut self) -> &mut Self {
        self.swallows(&[ready('I')]).is_asked()
    }

    #[track_caller]
    fn is_asked(&mut self) -> &mut Self {
        assert!(self.session.is_paused() && self.session.has_questions() && !self.session.is_idle());
        let asked = self.session.questions().expect("it is asked");
        let sql = b"SELECT pg_catalog.substr(pg_catalog.pg_walfile_name(w.lsn), 1, 8), w.lsn \
            FROM (SELECT pg_catalog.pg_current_wal_insert_lsn()) AS w (lsn)\0";
        assert!(asked.windows(sql.len()).any(|part| part == sql), "{}", printable(&asked));
        assert!(self.session.is_paused() && !self.session.has_questions() && !self.session.is_idle());
        self
    }

    /// The server is ready behind the question, and the client gets this in its place.
    #[track_caller]
    fn is_ready_with(&mut self, value: &str) -> &mut Self {
        let ready = ready('I');
        let step = self.server_step(&ready);
        assert_eq!((step.forward, step.dropped), (0, ready.len()));
        assert_eq!(printable(&step.inject.expect("it is ready")), printable(&ready_with(value)));
        assert!(!self.session.is_paused() && !self.session.has_questions());
        self.is_idle()
    }

    /// All of a report.
    #[track_caller]
    fn reports(&mut self) -> &mut Self {
        self.withholds().swallows(&told(&position())).is_ready_with("10/16/B374D848")
    }
}

#[test]
fn a_position_comes_before_the_ready_for_query_of_what_may_have_written() {
    let mut talk = talk(true);
    talk.client(&[query("insert")]).server(&[complete("INSERT 0 1")]).reports();
    let series = [parse("", "insert"), bind(""), execute(), sync()];
    talk.client(&series).server(&[m('1'), m('2'), complete("INSERT 0 1")]).reports();
    // One that has failed may have committed a part.
    talk.client(&[query("insert; commit; oops")]).server(&[complete("INSERT 0 1"), error()]).reports();
    talk.client(&series).server(&[error()]).reports();
    assert_eq!(talk.ends(), ["INSERT 0 1", "INSERT 0 1", "failed 22012", "failed 22012"]);
}

#[test]
fn what_the_proxy_knows_to_read_and_what_is_in_a_transaction_tells_no_position() {
    let mut talk = talk(true);
    talk.session.unit_does(UnitEffect::OnlyReads);
    talk.client(&[query("select 1")]).server(&[complete("SELECT 1"), ready('I')]).is_idle();
    talk.client(&[query("select writes()")]).server(&[complete("SELECT 1")]).reports();
    talk.client(&[query("begin")]).server(&[complete("BEGIN"), ready('T')]);
    talk.client(&[query("insert")]).server(&[complete("INSERT 0 1"), ready('T')]);
    talk.client(&[query("commit")]).server(&[complete("COMMIT")]).reports();
}

#[test]
fn a_standby_tells_no_position() {
    let mut talk = Talk::new();
    talk.session.report_positions(true);
    talk.client(&[query("select 1")]).server(&[complete("SELECT 1"), ready('I')]).is_idle();
}

#[test]
fn settings_say_whether_positions_are_told() {
    let set = |talk: &mut Talk, sql: &str, tag: &str| {
        talk.client(&[query(sql)]).server(&[complete(tag)]);
    };
    let is_silent = |talk: &mut Talk| {
        talk.client(&[query("insert")]).server(&[complete("INSERT 0 1"), ready('I')]).is_idle();
    };
    let mut talk = talk(false);
    is_silent(&mut talk);
    set(&mut talk, "SET trunkline.report_lsn = on", "SET");
    talk.reports();
    talk.client(&[query("insert")]).server(&[complete("INSERT 0 1")]).reports();
    set(&mut talk, "SET trunkline.report_lsn TO 'Off'", "SET");
    talk.server(&[ready('I')]);
    is_silent(&mut talk);
    set(&mut talk, "RESET trunkline.report_lsn", "RESET");
    talk.server(&[ready('I')]);
    is_silent(&mut talk);
    // Of one transaction, whether its client or the session wants it otherwise.
    talk.client(&[query("begin")]).server(&[complete("BEGIN"), ready('T')]);
    set(&mut talk, "SET LOCAL trunkline.report_lsn = on", "SET");
    talk.server(&[ready('T')]);
    talk.client(&[query("commit")]).server(&[complete("COMMIT")]).reports();
    is_silent(&mut talk);
}

#[test]
fn positions_that_are_wanted_from_the_startup_packet_on_are_left_out_where_a_setting_says_so() {
    let mut talk = talk(true);
    talk.client(&[query("SET trunkline.report_lsn = off")]).server(&[complete("SET"), ready('I')]).is_idle();
    talk.client(&[query("RESET trunkline.report_lsn")]).server(&[complete("RESET")]).reports();
    talk.client(&[query("begin")]).server(&[complete("BEGIN"), ready('T')]);
    // It may not last until the end of its transaction.
    talk.client(&[query("SET LOCAL trunkline.report_lsn = off")]).server(&[complete("SET"), ready('T')]);
    talk.client(&[query("commit")]).server(&[complete("COMMIT")]).reports();
    talk.client(&[query("insert")]).server(&[complete("INSERT 0 1")]).reports();
}

#[test]
fn a_pipeline_goes_unit_by_unit_and_each_has_its_position() {
    let mut talk = talk(true);
    let series = [parse("", "insert"), bind(""), execute(), sync()].concat();
    let all = [query("insert"), series.clone(), query("insert")].concat();
    let first = query("insert").len();
    let step = talk.client_step(&all);
    assert!(matches!(step.then, ClientThen::Pause), "{:?}", step.then);
    assert_eq!(step.forward, first);
    assert!(talk.session.is_paused());
    talk.server(&[complete("INSERT 0 1")]).withholds().swallows(&told(&position()));
    let step = talk.server_step(&ready('I'));
    assert_eq!(step.inject.as_deref(), Some(&*ready_with("10/16/B374D848")));
    let step = talk.client_step(&all[first..]);
    assert_eq!(step.forward, series.len());
    talk.server(&[m('1'), m('2'), complete("INSERT 0 1")]).withholds().swallows(&told(&position()));
    assert!(talk.server_step(&ready('I')).inject.is_some());
    talk.client(&[query("insert")]).server(&[complete("INSERT 0 1")]).reports();
}

#[test]
fn a_copy_is_not_interrupted() {
    let mut talk = talk(true);
    talk.client(&[query("copy t from stdin")]).server(&[m('G')]);
    talk.client(&[m('d'), m('c')]).server(&[complete("COPY 1")]).reports();
    // With data that does not wait for the server.
    talk.client(&[query("copy t from stdin"), m('d'), m('c')]);
    talk.server(&[m('G'), complete("COPY 1")]).reports();
    // What comes behind it waits.
    talk.client(&[query("copy t from stdin")]).server(&[m('G')]).client(&[m('d'), m('c')]);
    let step = talk.client_step(&query("insert"));
    assert!(matches!(step.then, ClientThen::Pause) && step.forward == 0 && talk.session.is_paused());
    talk.server(&[complete("COPY 1")]).withholds().swallows(&told(&position()));
    assert!(talk.server_step(&ready('I')).inject.is_some());
    talk.client(&[query("insert")]).server(&[complete("INSERT 0 1")]).reports();
    // By the extended protocol, as libpq sends it: the server reads the first Sync as a part of the COPY.
    talk.client(&[parse("", "copy t from stdin"), bind(""), execute(), sync()]);
    talk.server(&[m('1'), m('2'), m('G')]).client(&[m('d'), m('c'), sync()]);
    talk.server(&[complete("COPY 1")]).reports();
    // The same in one flight, which waits for no answer.
    talk.client(&[parse("", "copy t from stdin"), bind(""), execute(), sync(), m('d'), m('c'), sync()]);
    talk.server(&[m('1'), m('2'), m('G'), complete("COPY 1")]).reports();
    // What is no data ends it.
    talk.client(&[query("copy t from stdin")]).server(&[m('G')]).client(&[query("insert")]);
}

#[test]
fn a_server_that_does_not_answer_is_asked_once_more_and_its_position_is_unknown_then() {
    let mut talk = talk(true);
    talk.client(&[query("insert")]).server(&[complete("INSERT 0 1")]).withholds();
    talk.swallows(&[m('3'), m('1'), m('2'), error(), ready('I')]).is_asked();
    talk.swallows(&told(&position())).is_ready_with("10/16/B374D848");
    for wrong in [row(&[None, None]), row(&[Some("1"), Some("soon")]), row(&[Some("x"), Some("0/1")])] {
        talk.client(&[query("insert")]).server(&[complete("INSERT 0 1")]).withholds();
        talk.swallows(&told(&wrong)).swallows(&[ready('I')]).is_asked();
        talk.swallows(&told(&wrong)).is_ready_with("0/FFFFFFFF/FFFFFFFF");
    }
    talk.client(&[query("insert")]).server(&[complete("INSERT 0 1")]).reports();
}

#[test]
fn a_client_whose_server_is_lost_before_it_has_told_is_ready_all_the_same() {
    for is_asked in [false, true] {
        let mut talk = talk(true);
        talk.client(&[query("insert")]).server(&[complete("INSERT 0 1")]).swallows(&[ready('I')]);
        if is_asked {
            talk.is_asked().swallows(&[m('3'), m('1')]);
        }
        let LossPlan::Fail { answer, .. } = talk.lost(b"", MOVE) else { panic!("it goes on") };
        assert_eq!(printable(&answer), printable(&ready_with("0/FFFFFFFF/FFFFFFFF")));
        talk.taken();
        assert!(!talk.session.is_paused() && !talk.session.has_questions());
        talk.is_idle().client(&[query("select 1")]).server(&[complete("SELECT 1"), ready('I')]).is_idle();
    }
}

#[test]
fn a_client_that_leaves_is_told_no_position() {
    let mut talk = talk(true);
    talk.client(&[query("insert"), message(b'X', b"")]).server(&[complete("INSERT 0 1"), ready('I')]);
    assert!(talk.session.is_over());
}
