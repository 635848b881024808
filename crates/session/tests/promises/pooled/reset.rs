//! Connections that are kept after `DISCARD ALL`.

use super::*;

/// What is left, as the caller sees it, once the connection was reset.
fn reset(talk: &Talk, reported: &[u8]) -> Option<ConnectionState> {
    assert_eq!(sent(&ConnectionState::reset().messages), ["DISCARD ALL"]);
    let mut state = talk.session.connection_state().after_discard_all()?;
    state.reported(reported);
    Some(state)
}

#[test]
fn a_reset_undoes_settings_statements_and_most_of_what_pins() {
    let mut talk = Talk::on_primary();
    talk.ran_with("set timezone = 'CET'", "SET", &[status("TimeZone", "CET")]);
    talk.prepared("s", "select 1", &["a"]).ran("select pg_advisory_lock(1)", &["SELECT 1"]);
    talk.ran("listen c", &["LISTEN"]);
    talk.ran("select nextval('s')", &["SELECT 1"]);
    assert_eq!(talk.session.connection_state().tainted(), Some(PinReason::AdvisoryLock));
    let left = reset(&talk, &status("TimeZone", "UTC")).expect("all is undone");
    let mut next = Talk::on_primary();
    assert_eq!((left.tainted(), left.fingerprint()), (None, next.session.state().fingerprint()));
    assert!(next.session.differences_on(&left, b"").is_empty());
    assert!(next.checks_out(&left).is_empty());
}

#[test]
fn what_a_reset_does_not_undo_ends_the_connection() {
    let lasting: [(&str, &str); 6] = [
        ("create temp table t (a int)", "CREATE TABLE"),
        ("load 'x'", "LOAD"),
        ("select setseed(0.1)", "SELECT 1"),
        ("set app.user = 1", "SET"),
        ("do $$ begin perform f(); end $$", "DO"),
        ("select set_config(a, b, false) from t", "SELECT 1"),
    ];
    for (sql, tag) in lasting {
        let mut talk = Talk::new();
        talk.ran(sql, &[tag]);
        assert!(reset(&talk, b"").is_none(), "{sql}");
        talk.ran("discard all", &["DISCARD ALL"]);
        assert!(reset(&talk, b"").is_none(), "{sql}, discarded by the client");
    }
    let mut talk = Talk::new();
    talk.ran_to("begin", &["BEGIN"], 'T');
    assert!(reset(&talk, b"").is_none(), "in a transaction");
}

#[test]
fn a_setting_that_may_exist_unseen_outlives_a_discard_of_the_client() {
    let mut talk = Talk::new();
    talk.ran("select set_config(a, b, false) from t", &["SELECT 1"]).stays_with(PinReason::UnknownSetting);
    talk.ran("discard all", &["DISCARD ALL"]).is_movable().stays_with(PinReason::UnknownSetting);
    talk.checks_out(&ConnectionState::default());
    talk.checks_in();
}
