//! A session that is to leave a server which still serves it: it does when another has let it in, and not before.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use trunkline_codec::ids::Lsn;
use trunkline_model::wire;
use trunkline_reactor::{spawn, timer};
use trunkline_routing::Candidate;
use trunkline_telemetry::metrics::FailoverCause;
use trunkline_telemetry::sessions::SessionFilter;
use trunkline_topology::{FlushedWal, Role, ServerId, State};

use super::{PATIENCE, answer, has_code, next_answers, play, position, session, tags};
use crate::limits::{MOVE_RETRY_PAUSE, PLANNED_MOVE_TIMEOUT, PLANNED_MOVES_MAX, TICK};
use crate::settings::OnLagging;
use crate::snapshots::ClientGroup;
use crate::testing::{CLIENT, TestPeer, TestWorker, settings};

/// What the session's row says of its server, and of why it cannot leave it.
async fn row(stage: &TestWorker) -> (String, String) {
    let sessions = stage.worker.slots.ask_all(SessionFilter::All(1)).await;
    let listing = sessions.listing(Instant::now(), 1);
    let text = |field: &str| listing["sessions"][0][field].as_str().unwrap_or_default().to_owned();
    (text("server"), text("pinned"))
}

fn name(id: ServerId) -> String {
    format!("replica{}", id.0 + 1)
}

/// The client asks, and the server that the session has answers.
async fn served_by(client: &mut TestPeer, server: &mut TestPeer) {
    client.query("select 1").await;
    assert_eq!(server.hear().await, (b'Q', b"select 1\0".to_vec()));
    server.say(&answer()).await;
    assert_eq!(tags(&client.hear_up_to(b'Z').await), "TDCZ");
}

#[test]
fn session_has_its_server_until_another_has_let_it_in() {
    play(settings(), async |stage| {
        let (mut client, first, mut server) = session(&stage).await;
        stage.set_state(first, State::Drain);
        let (second, mut next) = TestPeer::server(&stage).await;
        assert_ne!(first, second);
        assert_eq!(row(&stage).await.0, name(first));
        client.query("select 1").await;
        next.let_in().await;
        assert_eq!(next.hear().await.0, b'Q', "how far it has replayed");
        assert_eq!(row(&stage).await.0, name(first));
        next.say(&position("0/5000")).await;
        assert_eq!(next.hear().await, (b'Q', b"select 1\0".to_vec()));
        assert_eq!(server.try_hear().await.map(|(tag, _)| tag), Some(b'X'), "nothing else was said to it");
        assert_eq!(server.try_hear().await, None);
        next.say(&answer()).await;
        assert_eq!(tags(&client.hear_up_to(b'Z').await), "TDCZ");
        assert_eq!(row(&stage).await.0, name(second));
    });
}

#[test]
fn session_that_all_others_refuse_stays_where_it_is_served() {
    for code in ["28P01", "28000", "42501", "3D000", "53300", "57P03", "22023"] {
        play(settings(), async |stage| {
            let (mut client, first, mut server) = session(&stage).await;
            stage.set_state(first, State::Drain);
            for _ in 0..2 {
                let (id, mut other) = TestPeer::server(&stage).await;
                assert_ne!(id, first);
                other.say(&wire::report(b'E', "FATAL", code)).await;
                other.closes().await;
            }
            served_by(&mut client, &mut server).await;
            let (on, pinned) = row(&stage).await;
            assert_eq!(on, name(first));
            assert!(pinned.starts_with("refused by another server: "), "{pinned}");
            for cause in
                [FailoverCause::Refused, FailoverCause::TooManyConnections, FailoverCause::NotAccepting]
            {
                let metrics = &stage.worker.metrics;
                let failovers = (0..3).map(|id| metrics.server(ServerId(id)).failovers.of(cause).value());
                assert_eq!(failovers.sum::<u64>(), 0, "a planned move is none");
            }
            stage.set_state(first, State::Up);
            served_by(&mut client, &mut server).await;
            assert_eq!(row(&stage).await.1, "", "nothing wants it to leave any more");
        });
    }
}

#[test]
fn session_says_that_the_others_are_full_and_leaves_once_one_has_room() {
    play(settings(), async |stage| {
        let (mut client, first, mut server) = session(&stage).await;
        stage.publish(|snapshot| {
            snapshot.servers.iter_mut().for_each(|status| status.saturated = status.id != first);
            snapshot.servers[first.index()].state = State::Drain;
        });
        served_by(&mut client, &mut server).await;
        let why = "refused by another server: too many connections";
        assert_eq!(row(&stage).await, (name(first), why.to_owned()));
        stage.publish(|snapshot| snapshot.servers.iter_mut().for_each(|status| status.saturated = false));
        let (second, mut next) = TestPeer::server_in(&stage).await;
        assert_eq!(next.hear().await.0, b'Q', "how far it has replayed");
        next.say(&position("0/5000")).await;
        assert_eq!(server.try_hear().await.map(|(tag, _)| tag), Some(b'X'));
        assert_eq!(row(&stage).await, (name(second), String::new()));
    });
}

#[test]
fn session_does_not_leave_for_a_server_that_may_show_less() {
    play(settings(), async |stage| {
        stage.publish(|snapshot| snapshot.servers.iter_mut().for_each(|server| server.asked_at = None));
        let (mut client, first, mut server) = session(&stage).await;
        stage.set_state(first, State::Drain);
        for _ in 0..2 {
            let (_, mut other) = TestPeer::server_in(&stage).await;
            while let Some((tag, _)) = other.try_hear().await.filter(|(tag, _)| *tag == b'Q') {
                assert_eq!(tag, b'Q');
                other.say(&position("0/5000")).await;
            }
        }
        served_by(&mut client, &mut server).await;
        let pinned = row(&stage).await.1;
        assert!(pinned.ends_with("it is behind what the session has seen"), "{pinned}");
    });
}

#[test]
fn exported_snapshot_is_known_to_others_until_its_transaction_ends() {
    play(settings(), async |stage| {
        let (mut client, first, mut server) = session(&stage).await;
        let group = ClientGroup::of(CLIENT.ip(), b"app", b"");
        let sql = "begin; select pg_export_snapshot()";
        client.query(sql).await;
        server.hear().await;
        assert_eq!(stage.worker.shared.snapshots.server_for(group), Some(first));
        server.say(&[wire::message(b'C', b"BEGIN\0"), wire::message(b'Z', b"T")].concat()).await;
        client.hear_up_to(b'Z').await;
        assert_eq!(stage.worker.shared.snapshots.server_for(group), Some(first));
        client.query("commit").await;
        server.hear().await;
        server.say(&[wire::message(b'C', b"COMMIT\0"), wire::message(b'Z', b"I")].concat()).await;
        client.hear_up_to(b'Z').await;
        assert_eq!(stage.worker.shared.snapshots.server_for(group), None);
    });
}

#[test]
fn servers_that_refuse_are_left_alone_for_a_while() {
    play(settings(), async |stage| {
        let (_client, first, _server) = session(&stage).await;
        let began = Instant::now();
        stage.set_state(first, State::Drain);
        for _ in 0..2 {
            let (_, mut other) = TestPeer::server(&stage).await;
            other.say(&wire::report(b'E', "FATAL", "53300")).await;
        }
        TestPeer::server(&stage).await;
        assert!(began.elapsed() >= MOVE_RETRY_PAUSE, "{:?}", began.elapsed());
    });
}

#[test]
fn server_that_has_just_refused_is_not_asked_by_the_next_search() {
    play(settings(), async |stage| {
        let (_client, first, _server) = session(&stage).await;
        let third = ServerId(if first == ServerId(2) { 1 } else { 2 });
        // The balance prefers the one that refuses.
        let listener = std::sync::Arc::clone(&stage.worker.shared.listeners.load()[0]);
        let balancer = &listener.balancer;
        let _lease = balancer.choose(&[Candidate { id: third, weight: 1.0 }], &[]);
        stage.set_state(third, State::Drain);
        stage.set_state(first, State::Drain);
        let (second, mut full) = TestPeer::server(&stage).await;
        full.say(&wire::report(b'E', "FATAL", "53300")).await;
        full.closes().await;
        stage.set_state(third, State::Up);
        let (next, _) = TestPeer::server(&stage).await;
        assert!(second != third && next == third, "{next:?}");
    });
}

#[test]
fn session_that_is_drained_because_of_lag_ends_if_it_is_refused_for_good() {
    for (code, is_for_good) in [("28P01", true), ("3D000", true), ("53300", false), ("57P03", false)] {
        let mut settings = settings();
        settings.session.on_lagging = OnLagging::Drain;
        play(settings, async |stage| {
            let (mut client, first, mut server) = session(&stage).await;
            stage.set_state(first, State::Lagging);
            for _ in 0..2 {
                let (_, mut other) = TestPeer::server(&stage).await;
                other.say(&wire::report(b'E', "FATAL", code)).await;
                other.closes().await;
            }
            if is_for_good {
                assert!(has_code(&client.hear().await, "FATAL", "57P01"));
                client.closes().await;
            } else {
                served_by(&mut client, &mut server).await;
            }
        });
    }
}

#[test]
fn server_that_refuses_is_passed_over_for_one_that_does_not() {
    play(settings(), async |stage| {
        let (mut client, first, _server) = session(&stage).await;
        stage.set_state(first, State::Maint);
        let (second, mut full) = TestPeer::server(&stage).await;
        full.say(&wire::report(b'E', "FATAL", "28P01")).await;
        let (third, mut next) = TestPeer::server_in(&stage).await;
        assert!(second != third && third != first);
        next.hear().await;
        next.say(&position("0/5000")).await;
        served_by(&mut client, &mut next).await;
    });
}

#[test]
fn session_whose_settings_are_refused_elsewhere_stays() {
    play(settings(), async |stage| {
        let (mut client, first, mut server) = session(&stage).await;
        client.query("set work_mem to '1MB'").await;
        server.hear().await;
        server.say(&[wire::message(b'C', b"SET\0"), wire::message(b'Z', b"I")].concat()).await;
        client.hear_up_to(b'Z').await;
        stage.set_state(first, State::Lagging);
        for _ in 0..2 {
            let (_, mut other) = TestPeer::server_in(&stage).await;
            other.hear().await;
            other.say(&position("0/5000")).await;
            other.hear().await;
            other.say(&[wire::report(b'E', "ERROR", "42501"), wire::message(b'Z', b"I")].concat()).await;
            other.closes().await;
        }
        served_by(&mut client, &mut server).await;
    });
}

#[test]
fn server_that_does_not_answer_keeps_the_client_waiting_for_a_bounded_time() {
    play(settings(), async |stage| {
        let (mut client, first, mut server) = session(&stage).await;
        stage.set_state(first, State::Drain);
        let (_, _silent) = TestPeer::server(&stage).await;
        let began = Instant::now();
        served_by(&mut client, &mut server).await;
        assert!(began.elapsed() < PLANNED_MOVE_TIMEOUT * 2, "{:?}", began.elapsed());
    });
}

#[test]
fn client_that_waits_for_the_search_is_not_idle() {
    let mut settings = settings();
    settings.timeouts.idle_session = TICK;
    play(settings, async |stage| {
        let (mut client, first, _server) = session(&stage).await;
        stage.set_state(first, State::Drain);
        let (_, mut next) = TestPeer::server(&stage).await;
        client.query("select 1").await;
        timer::sleep(TICK * 2).await;
        stage.publish(|_| {});
        next.let_in().await;
        next.hear().await;
        next.say(&position("0/5000")).await;
        assert_eq!(next.hear().await, (b'Q', b"select 1\0".to_vec()));
        next.say(&answer()).await;
        assert_eq!(tags(&client.hear_up_to(b'Z').await), "TDCZ");
    });
}

#[test]
fn server_that_is_of_no_use_any_more_does_not_get_the_request_that_waits_for_the_search() {
    for state in [State::Down, State::Fenced] {
        play(settings(), async |stage| {
            let (mut client, first, mut server) = session(&stage).await;
            stage.set_state(first, State::Drain);
            let (_, abandoned) = TestPeer::server(&stage).await;
            client.query("select 1").await;
            stage.set_state(first, state);
            abandoned.closes().await;
            assert_eq!(server.try_hear().await.map(|(tag, _)| tag), Some(b'X'));
            next_answers(&stage).await;
            assert_eq!(tags(&client.hear_up_to(b'Z').await), "TDCZ");
        });
    }
}

#[test]
fn server_that_is_lost_during_the_search_is_replaced_as_any_other() {
    play(settings(), async |stage| {
        let (mut client, first, server) = session(&stage).await;
        stage.set_state(first, State::Drain);
        let (_, abandoned) = TestPeer::server(&stage).await;
        server.reset();
        abandoned.closes().await;
        client.query("select 1").await;
        next_answers(&stage).await;
        assert_eq!(tags(&client.hear_up_to(b'Z').await), "TDCZ");
    });
}

#[test]
fn goodbye_during_the_search_goes_to_the_server_that_the_session_has() {
    play(settings(), async |stage| {
        let (mut client, first, mut server) = session(&stage).await;
        stage.set_state(first, State::Drain);
        let (_, abandoned) = TestPeer::server(&stage).await;
        client.say(&wire::message(b'X', b"")).await;
        assert_eq!(server.hear().await.0, b'X');
        abandoned.closes().await;
        client.closes().await;
    });
}

#[test]
fn server_that_is_ready_again_keeps_a_session_that_nobody_took() {
    play(settings(), async |stage| {
        let (mut client, first, mut server) = session(&stage).await;
        stage.set_state(first, State::Drain);
        let (_, mut silent) = TestPeer::server(&stage).await;
        stage.set_state(first, State::Up);
        assert_eq!(silent.try_hear().await, None, "the search is over");
        served_by(&mut client, &mut server).await;
    });
}

#[test]
fn session_waits_where_it_is_while_others_have_all_second_connections() {
    play(settings(), async |stage| {
        let (mut client, first, mut server) = session(&stage).await;
        let taken: Vec<_> =
            (0..PLANNED_MOVES_MAX).map(|_| stage.worker.shared.pace.second_connection()).collect();
        assert!(taken.iter().all(Option::is_some));
        stage.set_state(first, State::Drain);
        served_by(&mut client, &mut server).await;
        assert!(stage.network.try_accept().is_none());
        drop(taken);
        stage.set_state(first, State::Drain);
        let (_, mut next) = TestPeer::server_in(&stage).await;
        next.hear().await;
        next.say(&position("0/5000")).await;
        served_by(&mut client, &mut next).await;
    });
}

#[test]
fn session_whose_lost_server_nobody_replaces_learns_what_was_tried() {
    for code in ["28P01", "28000", "3D000"] {
        play(settings(), async |stage| {
            let (mut client, first, server) = session(&stage).await;
            server.reset();
            client.query("select 1").await;
            // The one that was lost is asked last.
            for _ in 0..3 {
                let (_, mut other) = TestPeer::server(&stage).await;
                other.say(&wire::report(b'E', "FATAL", code)).await;
            }
            let told = client.hear().await;
            assert!(has_code(&told, "FATAL", "08006"), "{told:?}");
            let text = String::from_utf8_lossy(&told.1).into_owned();
            assert!(text.contains(&name(first)), "{text}");
            client.closes().await;
        });
    }
}

#[test]
fn primary_that_refuses_a_session_is_asked_once() {
    play(settings(), async |stage| {
        let at = Instant::now() + PATIENCE;
        stage.publish(|snapshot| {
            snapshot.written = [FlushedWal { at, lsn: Lsn(0x5000) }].into();
            (snapshot.primary, snapshot.primary_lost_at) = (Some(ServerId(2)), None);
            snapshot.servers[2].role = Role::Primary;
        });
        let (mut client, _, server) = session(&stage).await;
        drop(server);
        client.query("select 1").await;
        let (stage, asked) = (Rc::new(stage), Rc::new(Cell::new(0)));
        let standbys_are_behind = async |mut server: TestPeer| {
            while let Some((_, body)) = server.try_hear().await {
                let is_the_clients = body == b"select 1\0";
                server.say(&if is_the_clients { answer() } else { position("0/4000") }).await;
            }
        };
        let servers = async {
            loop {
                let (id, mut server) = TestPeer::server(&stage).await;
                if id == ServerId(2) {
                    asked.set(asked.get() + 1);
                    server.say(&wire::report(b'E', "FATAL", "28000")).await;
                } else {
                    server.let_in().await;
                    spawn(standbys_are_behind(server));
                }
            }
        };
        tokio::select! {
            told = client.hear_up_to(b'Z') => assert_eq!(tags(&told), "TDCZ"),
            () = servers => unreachable!("it goes on for ever"),
        }
        assert_eq!(asked.get(), 1);
    });
}
