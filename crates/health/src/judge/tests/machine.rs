//! Fall, rise, damping, slow start, operators' wishes, refused logins.

use std::path::Path;

use super::*;

#[test]
fn nothing_is_healthy_before_every_server_was_looked_at() {
    let mut stage = Stage::new();
    stage.expect(R1, State::Unknown, "not probed yet");
    stage.ask(PRIMARY);
    stage.ask(R1);
    stage.expect(R1, State::Unknown, "every server");
    assert_eq!(stage.server(R1).lag, None);
    stage.ask(R2);
    for id in [PRIMARY, R1, R2] {
        stage.expect(id, State::Up, "");
    }
    assert_eq!(stage.lag(R1).lo, Duration::ZERO);
}

#[test]
fn hard_signals_act_at_once() {
    let socket = |trouble| ProbeFailure::Socket { path: Path::new("/run/.s.PGSQL.5432").into(), trouble };
    let sockets = [SocketTrouble::Missing, SocketTrouble::Abandoned].map(socket);
    let all = [ProbeFailure::Refused, refusal("57P01"), refusal("57P02"), refusal("57P03")];
    for failure in all.into_iter().chain(sockets) {
        let mut stage = Stage::started();
        stage.observe(R1, Finding::ConnectFailed(failure));
        stage.expect(R1, State::Down, "");
    }
}

#[test]
fn a_server_that_does_not_answer_reports_neither_lag_nor_sync() {
    let reports = |stage: &Stage| {
        let server = stage.server(R1);
        (server.lag.is_some(), server.lag_bytes.is_some(), server.in_sync, server.receiver)
    };
    let (all, nothing) = ((true, true, Some(true), Some(true)), (false, false, None, None));
    let mut stage = Stage::started();
    assert_eq!(reports(&stage), all);
    stage.observe(R1, Finding::ConnectFailed(ProbeFailure::Refused));
    assert_eq!(reports(&stage), nothing, "DOWN");
    stage.judge.set_admin(R1, AdminState::Maint, stage.now);
    assert_eq!(reports(&stage), nothing, "in maintenance, and silent");
    stage.judge.set_admin(R1, AdminState::Ready, stage.now);
    stage.rounds(4);
    assert_eq!(reports(&stage), all, "it is back");
    stage.now += Duration::from_secs(4);
    stage.judge.tick(stage.now);
    stage.expect(R1, State::Unknown, "no probe was answered");
    assert_eq!(reports(&stage), nothing, "its last answer is too old");
}

#[test]
fn soft_failures_count_to_fall() {
    for failure in [timeout(), ProbeFailure::Lost("eof".to_owned()), refusal("57014")] {
        let mut stage = Stage::started();
        stage.observe(R1, Finding::ProbeFailed(failure.clone()));
        stage.expect(R1, State::Up, "");
        stage.observe(R1, Finding::ProbeFailed(failure));
        stage.expect(R1, State::Down, "");
    }
}

#[test]
fn a_hung_postmaster_is_down_though_old_connections_answer() {
    let mut stage = Stage::started();
    let facts = stage.judge.servers[1].answer.clone().expect("it answered").facts;
    let answered = || Finding::Answered(Box::new(facts.clone()));
    for _ in 0..2 {
        stage.observe(R1, Finding::ConnectFailed(timeout()));
        stage.observe(R1, answered());
    }
    for _ in 0..5 {
        stage.observe(R1, answered());
    }
    stage.expect(R1, State::Down, "new logins fail");
    stage.observe(R1, Finding::Connected);
    stage.round();
    stage.expect(R1, State::Up, "");
}

#[test]
fn a_server_is_silent_when_it_is_down_and_says_nothing() {
    let silent = |stage: &Stage| stage.server(R1).silent;
    let mut stage = Stage::started();
    stage.observe(R1, Finding::ProbeFailed(timeout()));
    assert!(!silent(&stage), "one time-out is no verdict");
    stage.observe(R1, Finding::ProbeFailed(timeout()));
    assert!(silent(&stage));
    stage.ask(R1);
    assert!(!silent(&stage), "it answers again, though it is still DOWN");
    stage.observe(R1, Finding::ConnectFailed(refusal("57P03")));
    stage.expect(R1, State::Down, "57P03");
    assert!(!silent(&stage), "it says that it shuts down");
}

#[test]
fn a_return_takes_rise_good_probes_and_then_ramps_up() {
    let mut stage = Stage::started();
    stage.observe(R1, Finding::ConnectFailed(ProbeFailure::Refused));
    stage.ask(R1);
    stage.expect(R1, State::Down, "1 of 2");
    stage.ask(R1);
    stage.expect(R1, State::Up, "in sync");
    assert!(stage.server(R1).slow_start < 0.1);
    stage.rounds(10);
    assert!((0.4..0.6).contains(&stage.server(R1).slow_start));
    stage.rounds(12);
    assert!((stage.server(R1).slow_start - 1.0).abs() < f32::EPSILON);
}

#[test]
fn a_standby_returns_with_one_good_probe_while_no_other_serves() {
    let mut stage = Stage::started();
    for id in [R1, R2] {
        stage.observe(id, Finding::ConnectFailed(ProbeFailure::Refused));
    }
    stage.ask(R1);
    stage.expect(R1, State::Up, "in sync");
    stage.ask(R2);
    stage.expect(R2, State::Down, "1 of 2");
    stage.ask(R2);
    stage.expect(R2, State::Up, "in sync");
}

#[test]
fn repeated_deaths_make_each_return_slower() {
    let mut stage = Stage::started();
    let mut waits = Vec::new();
    for _ in 0..4 {
        stage.observe(R1, Finding::ConnectFailed(ProbeFailure::Refused));
        let from = stage.now;
        while stage.server(R1).state != State::Up {
            stage.round();
        }
        waits.push(stage.now - from);
    }
    assert!(waits[0] <= TICK * 2, "{waits:?}");
    assert!(waits.is_sorted() && waits[3] >= Duration::from_secs(8), "{waits:?}");
}

/// A restart that `id` is back from at once.
fn restart(stage: &mut Stage, id: ServerId) {
    stage.observe(id, Finding::ConnectFailed(ProbeFailure::Refused));
    stage.expect(id, State::Down, "refused");
    stage.rounds(2);
}

#[test]
fn a_hold_is_said_in_the_reason_and_once_in_the_log() {
    let mut stage = Stage::started();
    restart(&mut stage, R1);
    stage.expect(R1, State::Up, "in sync");
    restart(&mut stage, R1);
    stage.expect(R1, State::Down, "held back for 1.50 s");
    let held = std::iter::from_fn(|| stage.judge.poll_notice()).last().expect("it is held back");
    let NoticeKind::HeldBack { hold, failures, .. } = held.kind else { panic!("{held:?}") };
    assert_eq!((&*held.name, failures), ("replica1", 2));
    assert!(hold > TICK * 2 && hold < TICK * 4, "{hold:?}");
    stage.rounds(3);
    stage.expect(R1, State::Up, "in sync");
    assert_eq!(stage.judge.poll_notice(), None);
}

#[test]
fn a_primary_restarted_again_and_again_serves_at_once() {
    let mut stage = Stage::started();
    for _ in 0..7 {
        restart(&mut stage, PRIMARY);
        stage.expect(PRIMARY, State::Up, "primary");
    }
    assert_eq!(stage.judge.poll_notice(), None);
}

#[test]
fn standbys_restarted_in_turn_are_never_down_together() {
    let mut stage = Stage::started();
    for _ in 0..5 {
        for (restarted, other) in [(R1, R2), (R2, R1)] {
            restart(&mut stage, restarted);
            let states = [restarted, other].map(|id| stage.server(id).state);
            assert!(states.contains(&State::Up), "{states:?}");
        }
    }
}

#[test]
fn a_standby_that_is_held_back_returns_when_the_last_other_leaves() {
    type Leaving = fn(&mut Stage);
    let ways: [Leaving; 4] = [
        |stage| stage.observe(R2, Finding::ConnectFailed(ProbeFailure::Refused)),
        |stage| stage.observe(R2, Finding::ConnectFailed(refusal("53300"))),
        |stage| stage.judge.set_admin(R2, AdminState::Drain, stage.now),
        |stage| {
            (stage.answers[0], stage.answers[1]) = (Ok(primary(2000, 1)), Ok(standby(2000, 1)));
            stage.rounds(8);
            stage.expect(R2, State::Lagging, "");
        },
    ];
    for (index, leave) in ways.iter().enumerate() {
        let mut stage = Stage::started();
        for _ in 0..5 {
            restart(&mut stage, R1);
        }
        stage.expect(R1, State::Down, "held back");
        leave(&mut stage);
        stage.expect(R1, State::Up, "");
        assert!(!stage.server(R2).is_eligible(), "way {index}");
    }
}

#[test]
fn damping_can_be_switched_off() {
    let mut stage = Stage::with(|settings| settings.damping_max = Duration::ZERO);
    stage.round();
    for _ in 0..5 {
        restart(&mut stage, R1);
        stage.expect(R1, State::Up, "in sync");
    }
}

#[test]
fn the_operator_decides_drain_and_maintenance() {
    let mut stage = Stage::started();
    stage.judge.set_admin(R1, AdminState::Drain, stage.now);
    stage.expect(R1, State::Drain, "operator");
    stage.observe(R1, Finding::ConnectFailed(ProbeFailure::Refused));
    stage.expect(R1, State::Down, "refused");
    stage.judge.set_admin(R1, AdminState::Maint, stage.now);
    stage.expect(R1, State::Maint, "operator");
}

#[test]
fn a_full_server_is_saturated_not_down() {
    let mut stage = Stage::started();
    stage.observe(R1, Finding::ConnectFailed(refusal("53300")));
    stage.expect(R1, State::Up, "");
    assert!(stage.server(R1).saturated && !stage.server(R1).is_eligible());
    stage.observe(R1, Finding::Connected);
    assert!(stage.server(R1).is_eligible());
}

/// What there is to log of the monitoring role, and of which server.
fn refusals(stage: &mut Stage) -> Vec<(String, NoticeKind)> {
    std::iter::from_fn(|| stage.judge.poll_notice()).map(|n| (n.name.to_string(), n.kind)).collect()
}

fn refused(name: &str, code: &str) -> (String, NoticeKind) {
    (name.to_owned(), NoticeKind::MonitorRefused(refusal(code).to_string()))
}

#[test]
fn a_refused_monitoring_role_is_unknown_and_said_aloud() {
    for code in ["28P01", "28000", "3D000", "42501"] {
        let mut stage = Stage::new();
        stage.answers[1] = Err(refusal(code));
        stage.rounds(3);
        stage.expect(R1, State::Unknown, "monitoring role is refused");
        stage.expect(R2, State::Up, "");
        assert_eq!(refusals(&mut stage), [refused("replica1", code)], "said once");
    }
}

#[test]
fn a_monitoring_role_refused_by_a_server_that_serves_is_said_until_a_login_succeeds() {
    for (id, name) in [(PRIMARY, "primary"), (R1, "replica1")] {
        let mut stage = Stage::started();
        for _ in 0..3 {
            stage.observe(id, Finding::ConnectFailed(refusal("28P01")));
            stage.round();
        }
        stage.expect(id, State::Up, "the monitoring role is refused");
        assert_eq!(stage.server(id).monitor_refused.as_deref(), Some("no (28P01)"));
        assert_eq!(refusals(&mut stage), [refused(name, "28P01")]);
        stage.observe(id, Finding::Connected);
        assert_eq!(stage.server(id).monitor_refused, None);
        assert_eq!(refusals(&mut stage), [(name.to_owned(), NoticeKind::MonitorAccepted)]);
        assert!(!stage.server(id).reason.contains("refused"));
    }
}

#[test]
fn a_right_that_the_monitoring_role_lacks_is_not_proven_by_a_login() {
    let mut stage = Stage::started();
    for _ in 0..3 {
        stage.observe(R1, Finding::ProbeFailed(refusal("42501")));
        stage.observe(R1, Finding::Connected);
    }
    assert_eq!(refusals(&mut stage), [refused("replica1", "42501")]);
    stage.round();
    assert_eq!(refusals(&mut stage), [("replica1".to_owned(), NoticeKind::MonitorAccepted)]);
}

#[test]
fn a_probe_that_lacked_resources_takes_back_no_refusal() {
    let starved = || ProbeFailure::NoResources("too many open files".to_owned());
    for refused_by in [Finding::ConnectFailed, Finding::ProbeFailed] {
        let mut stage = Stage::started();
        stage.observe(R1, refused_by(refusal("42501")));
        stage.observe(R1, Finding::ConnectFailed(starved()));
        stage.observe(R1, Finding::ProbeFailed(starved()));
        assert_eq!(refusals(&mut stage), [refused("replica1", "42501")]);
        assert_eq!(stage.server(R1).monitor_refused.as_deref(), Some("no (42501)"));
    }
}

#[test]
fn the_newest_failure_is_the_reason() {
    let mut stage = Stage::started();
    stage.observe(R1, Finding::ConnectFailed(refusal("57P03")));
    stage.expect(R1, State::Down, "57P03");
    // It is back, with another password for the monitoring role.
    stage.observe(R1, Finding::ConnectFailed(refusal("28P01")));
    stage.expect(R1, State::Down, "the monitoring role is refused, check its login and rights: no (28P01)");
    assert_eq!(refusals(&mut stage), [refused("replica1", "28P01")]);
    stage.observe(R1, Finding::ConnectFailed(refusal("53300")));
    stage.expect(R1, State::Down, "53300");
    stage.observe(R1, Finding::ConnectFailed(ProbeFailure::Refused));
    stage.expect(R1, State::Down, "connection refused");
}

#[test]
fn a_full_server_that_returns_is_not_kept_down_for_being_full() {
    let mut stage = Stage::started();
    stage.observe(R1, Finding::ConnectFailed(ProbeFailure::Refused));
    stage.ask(R1);
    stage.observe(R1, Finding::ConnectFailed(refusal("53300")));
    let facts = stage.judge.servers[1].answer.clone().expect("it answered").facts;
    stage.observe(R1, Finding::Answered(Box::new(facts)));
    stage.expect(R1, State::Up, "");
    assert!(stage.server(R1).saturated);
}

#[test]
fn a_server_that_answers_no_probe_is_not_judged_by_old_answers() {
    let mut stage = Stage::started();
    stage.now += Duration::from_secs(4);
    stage.judge.tick(stage.now);
    stage.expect(R1, State::Unknown, "no probe was answered");
    assert!(stage.judge.snapshot(stage.now).is_stale(stage.now));
    stage.round();
    stage.round();
    stage.expect(R1, State::Up, "");
    assert!(!stage.judge.snapshot(stage.now).is_stale(stage.now));
}

#[test]
fn every_change_is_one_transition() {
    let mut stage = Stage::started();
    while stage.judge.poll_transition().is_some() {}
    let generation = stage.judge.generation();
    stage.rounds(10);
    assert!(stage.judge.poll_transition().is_none());
    assert_eq!(stage.judge.generation(), generation);
    stage.observe(R1, Finding::ConnectFailed(ProbeFailure::Refused));
    let transition = stage.judge.poll_transition().expect("it went down");
    assert_eq!((transition.from, transition.to), (State::Up, State::Down));
    assert!(stage.judge.poll_transition().is_none());
    assert!(stage.judge.generation() > generation);
}
