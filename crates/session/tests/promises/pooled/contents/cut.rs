//! Renaming does not depend on where chunks end.

use super::*;

#[test]
fn messages_are_renamed_wherever_chunks_end() {
    let flight = [
        parse("a", "select 1"),
        describe("a"),
        bind("a"),
        execute(),
        close("a"),
        parse("a", "select 22"),
        bind_to("a", &[Some("value")]),
        execute(),
        sync(),
    ];
    let bytes = flight.concat();
    let mut whole = sharing();
    whole.client(&flight);
    let expected = whole.got.clone();
    assert_eq!(shown(&expected).len(), flight.len());
    let answer = [
        m('1'),
        takes(&[]),
        returns(&["a"]),
        m('2'),
        complete("SELECT 1"),
        m('3'),
        m('1'),
        m('2'),
        complete("SELECT 1"),
        ready('I'),
    ];
    for cut in 1..bytes.len() {
        let mut talk = sharing();
        let step = talk.client_step(&bytes[..cut]);
        let mut got = talk.got.clone();
        talk.client_step(&bytes[step.forward..]);
        got.extend_from_slice(&talk.got);
        assert_eq!(printable(&got), printable(&expected), "cut at {cut}");
        talk.server(&answer);
    }
}

#[test]
fn a_long_bind_is_renamed_at_its_head() {
    let mut one = sharing();
    one.makes("s", "select 1", &["a"]);
    let value = "x".repeat(200_000);
    let bytes = [bind_to("s", &[Some(&value)]), execute(), sync()].concat();
    for cut in [1, 4, 5, 9, 1000, 1029, 2000, 150_000, bytes.len() - 1] {
        let mut got = Vec::new();
        let (mut start, mut end) = (0, cut);
        while start < bytes.len() {
            let step = one.client_step(&bytes[start..end]);
            got.extend_from_slice(&one.got);
            start += step.forward;
            end = bytes.len();
        }
        let messages = shown(&got);
        assert!(messages[0].starts_with("B:@0:"), "cut at {cut}");
        assert_eq!((messages.len(), got.len()), (3, bytes.len() + LENGTH - 1));
        one.server(&[m('2'), complete("SELECT 1"), ready('I')]);
    }
}
