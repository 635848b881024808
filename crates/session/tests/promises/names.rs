//! Names of over 63 bytes are those that the server cuts them to.

use trunkline_session::{LossPlan, PinReason};

use crate::talk::*;

/// What the server keeps of [`long`] names.
fn cut() -> String {
    "n".repeat(63)
}

fn long(end: &str) -> String {
    cut() + end
}

#[test]
fn a_statement_is_found_by_every_name_that_the_server_cuts_alike() {
    let mut talk = Talk::new();
    talk.client(&[parse(&long("a"), "select $1 a"), sync()]).server(&[m('1'), ready('I')]);
    talk.asks(&[&cut()], &[23], &["a"]);
    talk.client(&[parse(&long("b"), "select 2"), sync()]).server(&[error(), ready('I')]);
    for message in [query(&format!("execute {}", long("b"))), bind(&long("b")), describe(&cut())] {
        assert_eq!(talk.lost(b"", MOVE), LossPlan::Move);
        let step = talk.taken().client_step(&[message, sync()].concat());
        assert_eq!(step.forward, 0, "{step:?}");
        let trunkline_session::ClientThen::Ask(own) = step.then else { panic!("{step:?}") };
        let made_again = [parse_of(&cut(), "select $1 a", &[23]), describe(&cut())].concat();
        assert!(own.windows(made_again.len()).any(|part| part == made_again), "{own:?}");
        talk.server(&[]);
        assert_eq!(talk.lost(b"", MOVE), LossPlan::Move);
    }
    talk.taken().client(&[close(&long("c")), sync()]).server(&[m('3'), ready('I')]);
    talk.client(&[query(&format!("execute {}", cut()))]).server(&[error(), ready('I')]);
}

#[test]
fn a_name_that_is_cut_inside_of_a_character_keeps_the_session() {
    let mut talk = Talk::new();
    let broken = "n".repeat(62) + "\u{e9}";
    talk.client(&[parse(&broken, "select 1"), sync()]).server(&[m('1'), ready('I')]);
    assert_eq!(talk.session.movability(), Err(PinReason::StatementsTooLarge));
    talk.client(&[close(&broken), sync()]).server(&[m('3'), ready('I')]);
    assert_eq!(talk.session.movability(), Ok(()));
}

#[test]
fn a_long_name_ends_by_another_with_the_same_truncation() {
    for (make, end) in [("listen", "unlisten"), ("declare", "close")] {
        let mut talk = Talk::new();
        let rest = if make == "declare" { " cursor with hold for select 1" } else { "" };
        let tag = if make == "declare" { ["DECLARE CURSOR", "CLOSE CURSOR"] } else { ["LISTEN", "UNLISTEN"] };
        talk.ran(&format!("{make} {}{rest}", long("a")), &tag[..1]);
        assert!(talk.session.movability().is_err(), "{make}");
        talk.ran(&format!("{end} {}", long("b")), &tag[1..]);
        assert_eq!(talk.session.movability(), Ok(()), "{make}");
    }
    let mut talk = Talk::new();
    talk.ran_to("begin", &["BEGIN"], 'T').ran(&format!("savepoint {}", long("a")), &["SAVEPOINT"]);
    talk.ran("set a = 1", &["SET"]).ran(&format!("rollback to {}", long("b")), &["ROLLBACK"]);
    talk.ran_to("commit", &["COMMIT"], 'I');
    assert_eq!((talk.session.movability(), talk.told()), (Ok(()), Vec::new()));
}

#[test]
fn a_setting_goes_by_the_name_it_is_cut_to() {
    let mut talk = Talk::new();
    talk.ran(&format!("set app.{} = 'x'", long("a")), &["SET"]);
    talk.ran(&format!("reset app.{}", long("b")), &["RESET"]);
    assert!(talk.told().iter().all(|told| !told.contains("'x'")), "{:?}", talk.told());
}
