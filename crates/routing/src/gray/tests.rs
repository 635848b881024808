use super::*;

const SERVERS: [ServerId; 3] = [ServerId(1), ServerId(2), ServerId(3)];
const MS: Duration = Duration::from_millis(1);

/// One window in which each server answers statements of so many sessions, as fast as `took` says.
fn window(judge: &mut SlowJudge, servers: &[ServerId], took: impl Fn(ServerId, u64, u64) -> Duration) {
    for &server in servers {
        for session in 0..8 {
            for key in 0..3 {
                let first = took(server, session, key);
                for _ in 0..10 {
                    judge.take(SpeedSample { server, key, fingerprint: key, session, first });
                }
            }
        }
    }
    judge.close_window(servers, |_| true);
}

fn speeds(judge: &SlowJudge) -> Vec<f32> {
    SERVERS.iter().map(|id| judge.speed(*id)).collect()
}

#[test]
fn a_slow_server_goes_down_by_halves_to_the_floor_and_comes_back() {
    let mut judge = SlowJudge::default();
    let slow = |server, _, _| if server == ServerId(2) { MS * 50 } else { MS };
    let steps: Vec<f32> = (0..8)
        .map(|_| {
            window(&mut judge, &SERVERS, slow);
            judge.speed(ServerId(2))
        })
        .collect();
    assert_eq!(steps, [1.0, 1.0, 0.5, 0.25, 0.125, FLOOR, FLOOR, FLOOR]);
    assert_eq!(speeds(&judge), [1.0, FLOOR, 1.0]);
    let finding = judge.findings().find(|finding| finding.server == ServerId(2)).expect("it was judged");
    assert_eq!((finding.verdict, finding.cells, finding.slow_cells), (Some(SpeedVerdict::Slow), 24, 24));
    assert_eq!((finding.statements[0].own, finding.statements[0].peers), (MS * 50, MS));
    for _ in 0..4 * RUN_FINE {
        window(&mut judge, &SERVERS, |_, _, _| MS);
    }
    assert_eq!(speeds(&judge), [1.0; 3]);
}

#[test]
fn what_differs_by_little_or_in_few_sessions_or_statements_is_not_slow() {
    let second = ServerId(2);
    let assert_fine = |why: &str, took: &dyn Fn(ServerId, u64, u64) -> Duration| {
        let mut judge = SlowJudge::default();
        for _ in 0..60 {
            window(&mut judge, &SERVERS, took);
            assert_eq!(speeds(&judge), [1.0; 3], "{why}");
        }
    };
    assert_fine("little", &|server, _, _| MS * if server == second { 2 } else { 1 });
    assert_fine("sessions", &|server, session, _| MS * if server == second && session < 6 { 90 } else { 1 });
    assert_fine("statements", &|server, _, key| MS * if server == second && key < 2 { 90 } else { 1 });
    assert_fine("all", &|_, _, _| MS * 90);
}

#[test]
fn a_short_time_alone_takes_nothing() {
    let mut judge = SlowJudge::default();
    for round in 0..200 {
        let slow = round % 30 < 2;
        window(&mut judge, &SERVERS, |server, _, _| MS * if slow && server == ServerId(1) { 900 } else { 1 });
        assert_eq!(speeds(&judge), [1.0; 3], "window {round}");
    }
}

#[test]
fn servers_are_compared_by_what_their_peers_do_too() {
    let mut judge = SlowJudge::default();
    for _ in 0..30 {
        for (key, server) in (0..).zip(SERVERS) {
            for session in 0..200 {
                judge.take(SpeedSample {
                    server,
                    key,
                    fingerprint: key,
                    session,
                    first: MS * if key == 1 { 90 } else { 1 },
                });
            }
        }
        judge.close_window(&SERVERS, |_| true);
        assert_eq!(speeds(&judge), [1.0; 3]);
        assert!(judge.findings().all(|finding| finding.verdict.is_none()));
    }
}

#[test]
fn a_minority_at_most_has_lost_weight() {
    let five: Vec<ServerId> = (1..=5).map(ServerId).collect();
    for (servers, slow, most) in
        [(&five[..2], 1, 1), (&five[..3], 1, 1), (&five[..4], 2, 1), (&five, 2, 2), (&five, 3, 2)]
    {
        let mut judge = SlowJudge::default();
        for _ in 0..30 {
            window(&mut judge, servers, |server, _, _| MS * if server.0 <= slow { 50 } else { 1 });
            let lost = servers.iter().filter(|id| judge.speed(**id) < 1.0).count();
            assert!(lost <= most && lost < servers.len(), "{lost} of {}", servers.len());
        }
    }
}

#[test]
fn when_the_fast_ones_go_the_slow_one_gets_its_weight_back() {
    let mut judge = SlowJudge::default();
    for _ in 0..10 {
        window(&mut judge, &SERVERS, |server, _, _| MS * if server == ServerId(1) { 50 } else { 1 });
    }
    assert_eq!(judge.speed(ServerId(1)), FLOOR);
    let changed = judge.close_window(&SERVERS[..1], |_| true);
    assert_eq!(changed, [(ServerId(1), 1.0)]);
}

#[test]
fn a_server_without_statements_is_tried_again_unless_its_probes_are_slow() {
    let mut judge = SlowJudge::default();
    for _ in 0..10 {
        window(&mut judge, &SERVERS, |server, _, _| MS * if server == ServerId(1) { 50 } else { 1 });
    }
    let mut idle = |probe: Duration, windows: u32| {
        for _ in 0..windows {
            for server in SERVERS {
                judge.probed(server, if server == ServerId(1) { probe } else { MS });
            }
            judge.close_window(&SERVERS, |_| true);
        }
        judge.speed(ServerId(1))
    };
    assert_eq!(idle(MS * 50, 200), FLOOR);
    let patience = QUIET_WINDOWS * 2;
    assert_eq!(idle(MS, patience), FLOOR * 2.0);
    assert_eq!(idle(MS, 3 * patience), 1.0);
}

#[test]
fn slow_probes_and_few_slow_statements_are_enough_either_alone_is_not() {
    let first = ServerId(1);
    for (probe, statement, lost) in [(50, 50, true), (1, 50, false), (50, 1, false)] {
        let mut judge = SlowJudge::default();
        for _ in 0..30 {
            for server in SERVERS {
                let at = |slow: u32| MS * if server == first { slow } else { 1 };
                judge.probed(server, at(probe));
                for sample in 0..20 {
                    let session = sample % 2;
                    judge.take(SpeedSample { server, key: 1, fingerprint: 1, session, first: at(statement) });
                }
            }
            judge.close_window(&SERVERS, |_| true);
        }
        assert_eq!(judge.speed(first) < 1.0, lost, "probe {probe} ms, statement {statement} ms");
    }
}

#[test]
fn few_statements_are_judged_over_several_windows() {
    let mut judge = SlowJudge::default();
    for _ in 0..90 {
        for server in SERVERS {
            for session in 0..8 {
                let first = MS * if server == ServerId(3) { 50 } else { 1 };
                judge.take(SpeedSample { server, key: 1, fingerprint: 1, session, first });
                judge.take(SpeedSample { server, key: 2, fingerprint: 2, session, first });
            }
        }
        judge.close_window(&SERVERS, |_| true);
    }
    assert_eq!(speeds(&judge), [1.0, 1.0, FLOOR]);
}

#[test]
fn a_server_that_is_gone_is_forgotten_and_tables_are_bounded() {
    let mut judge = SlowJudge::default();
    let mut key = 0;
    for generation in 0..20 {
        let servers = [ServerId::new(1, generation), ServerId::new(2, generation)];
        for server in servers {
            judge.probed(server, MS);
            for _ in 0..5000 {
                key += 1;
                judge.take(SpeedSample { server, key, fingerprint: key, session: key, first: MS });
            }
        }
        judge.close_window(&servers, |id| servers.contains(&id));
        assert_eq!(judge.findings().count(), 2);
        assert!(judge.evidence.rows() <= 2 * evidence::FOLLOWED_MAX * evidence::WINDOWS_MAX);
        assert_eq!(judge.probes.servers(), 2);
    }
}

#[test]
fn a_slow_server_that_becomes_the_primary_is_not_slow_for_ever() {
    let mut judge = SlowJudge::default();
    for _ in 0..10 {
        window(&mut judge, &SERVERS, |server, _, _| MS * if server == ServerId(1) { 50 } else { 1 });
    }
    assert_eq!(judge.speed(ServerId(1)), FLOOR);
    for _ in 0..10 * QUIET_WINDOWS {
        window(&mut judge, &SERVERS[1..], |_, _, _| MS);
    }
    assert_eq!(judge.speed(ServerId(1)), 1.0);
}
