//! Settings are laid on another server by the values the server reports, and as they were sent.

use std::sync::Arc;

use trunkline_session::{ConnectionState, LossPlan, PinReason, diff};

use crate::talk::*;

/// The SQL that sets `name` to a reported value.
fn value(name: &str, value: &str) -> String {
    format!("SELECT pg_catalog.set_config('{name}', '{value}', false)")
}

/// A session whose client has `client_encoding`.
fn encoded(encoding: &str) -> Talk {
    let mut talk = Talk::new();
    talk.server(&[status("client_encoding", encoding)]);
    talk
}

impl Talk {
    /// Runs a SET after which the server reports.
    fn set(&mut self, sql: &str, name: &str, value: &str) -> &mut Self {
        self.client(&[query(sql)]).server(&[complete("SET"), status(name, value), ready('I')])
    }

    /// Everything sent to another server, without the Closes.
    fn laid_on(&self) -> Vec<String> {
        let mut told = self.told();
        told.retain(|sql| sql != "C" && sql != "S");
        told
    }

    /// Sends a Query that is no UTF-8.
    fn ran_bytes(&mut self, sql: &[u8]) -> &mut Self {
        self.client(&[message(b'Q', &[sql, b"\0"].concat())]).server(&[complete("SET"), ready('I')])
    }
}

#[test]
fn a_setting_with_several_parts_is_applied_as_the_server_reports_it() {
    let mut talk = Talk::new();
    talk.set("set datestyle = 'SQL'", "DateStyle", "SQL, MDY");
    talk.set("set datestyle = 'DMY'", "DateStyle", "SQL, DMY");
    assert_eq!(talk.laid_on(), [value("datestyle", "SQL, DMY")]);
    talk.ran("reset datestyle", &["RESET"]);
    assert!(talk.alignment().is_empty());
    talk.set("set application_name = 'it''s'", "application_name", "it's");
    assert_eq!(talk.laid_on(), [value("application_name", "it''s")]);
}

#[test]
fn what_was_reported_inside_a_transaction_counts_once_it_is_committed() {
    let mut talk = Talk::new();
    talk.set("set datestyle = 'SQL, DMY'", "DateStyle", "SQL, DMY").ran_to("begin", &["BEGIN"], 'T');
    talk.ran_to("set datestyle = 'SQL'", &["SET"], 'T').ran_to("commit", &["COMMIT"], 'I');
    assert_eq!(
        talk.laid_on(),
        [value("datestyle", "SQL, DMY")],
        "it set half of what it was, so nothing is reported"
    );

    let mut talk = Talk::new();
    talk.set("set datestyle = 'SQL'", "DateStyle", "SQL, MDY").ran_to("begin", &["BEGIN"], 'T');
    talk.client(&[query("set datestyle = 'DMY'")]);
    talk.server(&[complete("SET"), status("DateStyle", "SQL, DMY"), ready('T')]);
    assert!(matches!(talk.lost(b"", MOVE), LossPlan::Fail { .. }));
    assert_eq!(talk.laid_on()[0], value("datestyle", "SQL, MDY"), "the transaction is lost");

    let mut talk = Talk::new();
    talk.set("set datestyle = 'SQL'", "DateStyle", "SQL, MDY").ran_to("begin", &["BEGIN"], 'T');
    talk.client(&[query("set local datestyle = 'DMY'")]);
    talk.server(&[complete("SET"), status("DateStyle", "SQL, DMY"), ready('T')]);
    talk.client(&[query("commit")]).server(&[
        complete("COMMIT"),
        status("DateStyle", "SQL, MDY"),
        ready('I'),
    ]);
    assert_eq!(talk.laid_on(), [value("datestyle", "SQL, MDY")], "it was local");
}

#[test]
fn a_text_is_laid_on_under_the_encoding_it_was_sent_under() {
    let mut talk = encoded("LATIN1");
    talk.ran_bytes(b"set app.city = 'Z\xfcrich'").ran("set app.land = 'ch'", &["SET"]);
    assert_eq!(
        talk.laid_on(),
        [
            value("client_encoding", "LATIN1").as_str(),
            "set app.city = 'Z\u{fffd}rich'",
            "set app.land = 'ch'",
            "RESET client_encoding"
        ],
        "the login's own in the end"
    );
    talk.set("set client_encoding = 'utf8'", "client_encoding", "UTF8")
        .ran("set app.lake = 'Zürich'", &["SET"]);
    assert_eq!(
        talk.laid_on(),
        [
            value("client_encoding", "LATIN1").as_str(),
            "set app.city = 'Z\u{fffd}rich'",
            "set app.land = 'ch'",
            &value("client_encoding", "UTF8"),
            "set app.lake = 'Zürich'",
            &value("client_encoding", "UTF8"),
        ]
    );
    talk.is_movable();
}

#[test]
fn a_text_of_an_encoding_that_is_not_known_pins() {
    let mut talk = encoded("UTF8");
    talk.client(&[query("set client_encoding = 'latin1'"), message(b'Q', b"set app.city = '\xfc'\0")]);
    talk.server(&[complete("SET"), status("client_encoding", "LATIN1"), ready('I')]);
    talk.server(&[complete("SET"), ready('I')]).is_pinned(PinReason::UnknownSetting);

    let mut talk = encoded("UTF8");
    talk.ran("set client_encoding = 'latin1'; set app.city = 'ü'", &["SET", "SET"]);
    talk.is_pinned(PinReason::UnknownSetting);
}

#[test]
fn time_outs_are_applied_last_and_statement_timeout_after_them() {
    let mut talk = Talk::new();
    for key in ["statement_timeout", "transaction_timeout", "lock_timeout", "work_mem"] {
        talk.ran(&format!("set {key} = 1"), &["SET"]);
    }
    assert_eq!(
        talk.laid_on(),
        [
            "set work_mem = 1",
            "set lock_timeout = 1",
            "set transaction_timeout = 1",
            "set statement_timeout = 1"
        ]
    );
}

#[test]
fn the_logins_statement_timeout_is_off_while_settings_are_laid_on() {
    let has_timeout = ConnectionState::logged_in(true, Arc::default());
    let runs = |talk: &Talk, sql: &str| {
        let messages = diff(&has_timeout, &talk.session.state()).messages;
        messages.windows(sql.len()).position(|window| window == sql.as_bytes())
    };
    let mut talk = Talk::new();
    talk.ran("set work_mem = 1", &["SET"]);
    assert_eq!(talk.laid_on(), ["set work_mem = 1"], "it has none");
    let [off, set, on] = ["SET statement_timeout = 0", "set work_mem = 1", "RESET statement_timeout"]
        .map(|sql| runs(&talk, sql).expect("told"));
    assert!(off < set && set < on);
    talk.ran("set statement_timeout = 5", &["SET"]);
    assert_eq!(runs(&talk, "RESET statement_timeout"), None, "the session has its own");
    let mut talk = Talk::new();
    talk.ran("set statement_timeout = 5", &["SET"]);
    assert_eq!(runs(&talk, "SET statement_timeout = 0"), None, "it is all there is");
}

#[test]
fn a_parameter_whose_type_changes_the_value_is_not_followed() {
    let set = |oid: u32, formats: &[u8]| {
        let mut talk = Talk::new();
        let types = [&1_u16.to_be_bytes()[..], &oid.to_be_bytes()].concat();
        let sql = b"a\0select set_config('app.tenant', $1, false)\0";
        talk.client(&[message(b'P', &[&sql[..], &types].concat()), sync()]).server(&[m('1'), ready('I')]);
        let bind = [b"\0a\0", formats, b"\0\x01\0\0\0\x02ab\0\0"].concat();
        talk.client(&[message(b'B', &bind), execute(), sync()]);
        talk.server(&[m('2'), complete("SELECT 1"), ready('I')]);
        talk
    };
    for oid in [0, 25, 705, 1043] {
        for formats in [&b"\0\0"[..], b"\0\x01\0\x01"] {
            let mut talk = set(oid, formats);
            assert_eq!(talk.laid_on()[0], value("app.tenant", "ab"), "{oid} {formats:?}");
            talk.is_movable();
        }
    }
    for oid in [18, 19, 23, 1042] {
        set(oid, b"\0\0").is_pinned(PinReason::UnknownSetting);
    }
}

#[test]
fn a_cast_to_text_leaves_a_value_as_it_is() {
    let mut talk = Talk::new();
    talk.prepare("a", "select set_config('app.tenant'::text, $1::varchar, false)");
    talk.client(&[bind_to("a", &[Some("007")]), execute(), sync()]);
    talk.server(&[m('2'), complete("SELECT 1"), ready('I')]);
    assert_eq!(talk.laid_on()[0], value("app.tenant", "007"));
    talk.ran("select set_config('app.tenant', '007'::int::text, false)", &["SELECT 1"]);
    talk.is_pinned(PinReason::UnknownSetting);
}

#[test]
fn a_sessions_defaults_are_those_of_its_login_or_of_a_reload_since() {
    let zone = |talk: &Talk| {
        let found = talk.session.defaults().find(|(name, _)| *name == b"TimeZone");
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).expect("told at the login")
    };
    let mut talk = Talk::new();
    assert_eq!(zone(&talk), "UTC");
    talk.set("set timezone = 'Asia/Tokyo'", "TimeZone", "Asia/Tokyo");
    assert_eq!(zone(&talk), "UTC", "the session's own is no default");
    talk.client(&[query("reset timezone")]);
    talk.server(&[complete("RESET"), status("TimeZone", "UTC"), ready('I')]);
    talk.client(&[query("select 1")]);
    talk.server(&[status("TimeZone", "Europe/Rome"), complete("SELECT 1"), ready('I')]);
    assert_eq!(zone(&talk), "Europe/Rome", "the configuration was loaded again");
    talk.ran_to("begin", &["BEGIN"], 'T').client(&[query("set timezone = 'Asia/Tokyo'")]);
    talk.server(&[complete("SET"), status("TimeZone", "Asia/Tokyo"), ready('T')]);
    assert!(matches!(talk.lost(b"", MOVE), LossPlan::Fail { .. }));
    assert_eq!(zone(&talk), "Europe/Rome", "what a lost transaction has set is nothing");
}

#[test]
fn a_bound_seed_pins_even_for_a_transaction() {
    let run = |values: [&str; 2]| {
        let mut talk = Talk::new();
        talk.prepare("s", "select set_config($1, $2, true)");
        talk.client(&[bind_to("s", &values.map(Some)), execute(), sync()]);
        talk.server(&[m('2'), complete("SELECT 1"), ready('I')]);
        talk
    };
    run(["work_mem", "1MB"]).is_movable();
    run(["Seed", "0.5"]).is_pinned(PinReason::UnknownSetting);
    run(["standard_conforming_strings", "on"]).is_movable();
    run(["standard_conforming_strings", "off"]).is_pinned(PinReason::UnknownSetting);
}
