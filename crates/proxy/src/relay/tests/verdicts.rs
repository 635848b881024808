//! What the verdicts of health change for a session that is on a server.

use std::cell::{Cell, RefCell};

use trunkline_topology::{Role, State};

use super::*;
use crate::limits::FRESHNESS_HOLD;

/// Servers that let everybody in, and what each has replayed and answers.
#[derive(Clone)]
struct Servers {
    replayed: Rc<Cell<[&'static str; 3]>>,
    /// Those that cancel every query for a conflict with recovery.
    in_conflict: Rc<Cell<[bool; 3]>>,
    /// Which have been asked the client's query, in this order.
    asked: Rc<RefCell<Vec<u32>>>,
}

impl Servers {
    /// Servers that are reached from now on.
    fn start(stage: &Rc<TestWorker>) -> Self {
        let servers = Servers {
            replayed: Rc::new(Cell::new(["0/5000"; 3])),
            in_conflict: Rc::default(),
            asked: Rc::default(),
        };
        let (stage, all) = (Rc::clone(stage), servers.clone());
        spawn(async move {
            loop {
                let (id, server) = TestPeer::server_in(&stage).await;
                spawn(all.clone().serve(id, server));
            }
        });
        servers
    }

    async fn serve(self, id: ServerId, mut server: TestPeer) {
        while let Some((tag, body)) = server.try_hear().await {
            if tag != b'Q' {
                return;
            }
            let answer = if body != b"select 1\0" {
                position(self.replayed.get()[id.index()])
            } else {
                self.asked.borrow_mut().push(id.0);
                if self.in_conflict.get()[id.index()] {
                    [wire::report(b'E', "ERROR", "40001"), wire::message(b'Z', b"I")].concat()
                } else {
                    answer()
                }
            };
            server.say(&answer).await;
        }
    }

    fn asked_last(&self) -> Option<u32> {
        self.asked.borrow().last().copied()
    }
}

/// The primary's WAL ended at 0/5000, also after all that is asked in a test.
fn know_the_wal(stage: &TestWorker) {
    let at = Instant::now() + PATIENCE;
    stage.publish(|snapshot| snapshot.written = [FlushedWal { at, lsn: Lsn(0x5000) }].into());
}

fn silence(stage: &TestWorker, id: ServerId, is_silent: bool) {
    stage.publish(|snapshot| {
        let server = &mut snapshot.servers[id.index()];
        (server.state, server.silent) = (State::Down, is_silent);
    });
}

#[test]
fn request_to_a_server_that_health_finds_silent_goes_elsewhere_at_once() {
    play(settings(), async |stage| {
        let (mut client, first, mut server) = session(&stage).await;
        client.query("select 1").await;
        server.hear().await;
        // `server_stall` is longer than the test.
        silence(&stage, first, true);
        let (second, _next) = next_answers(&stage).await;
        assert_ne!(first, second);
        assert_eq!(tags(&client.hear_up_to(b'Z').await), "TDCZ");
    });
}

#[test]
fn login_on_a_server_that_health_finds_silent_goes_elsewhere_at_once() {
    play(settings(), async |stage| {
        let mut client = TestPeer::client(&stage).await;
        // `connect` is longer than the test.
        let (first, _hung) = TestPeer::server(&stage).await;
        silence(&stage, first, true);
        let (second, _server) = TestPeer::server_in(&stage).await;
        assert_ne!(first, second);
        client.hear_up_to(b'Z').await;
    });
}

#[test]
fn move_to_a_server_that_health_finds_silent_goes_elsewhere_at_once() {
    play(settings(), async |stage| {
        let (mut client, first, server) = session(&stage).await;
        drop(server);
        client.query("select 1").await;
        let (hung, _hung) = TestPeer::server_in(&stage).await;
        silence(&stage, hung, true);
        let (third, _next) = next_answers(&stage).await;
        assert!(third != hung && third != first, "{third:?}");
        client.hear_up_to(b'Z').await;
    });
}

#[test]
fn request_to_a_server_that_is_down_and_says_so_may_still_be_answered() {
    play(settings(), async |stage| {
        let (mut client, first, mut server) = session(&stage).await;
        client.query("select 1").await;
        server.hear().await;
        silence(&stage, first, false);
        server.say(&answer()).await;
        assert_eq!(tags(&client.hear_up_to(b'Z').await), "TDCZ");
        assert!(stage.network.try_accept().is_none());
    });
}

#[test]
fn session_held_for_freshness_leaves_a_server_that_lags() {
    play(settings(), async |stage| {
        know_the_wal(&stage);
        let (mut client, _, server) = session(&stage).await;
        drop(server);
        let stage = Rc::new(stage);
        let servers = Servers::start(&stage);
        servers.replayed.set(["0/3000", "0/4000", "0/3000"]);
        client.query("select 1").await;
        client.hear_up_to(b'Z').await;
        assert_eq!(servers.asked_last(), Some(1), "the least behind of all");
        let began = Instant::now();
        servers.replayed.set(["0/5000"; 3]);
        stage.set_state(ServerId(1), State::Lagging);
        while servers.asked_last() == Some(1) {
            client.query("select 1").await;
            client.hear_up_to(b'Z').await;
        }
        assert!(began.elapsed() < FRESHNESS_HOLD / 2, "{:?}", began.elapsed());
    });
}

#[test]
fn last_attempt_after_conflicts_with_recovery_goes_to_the_primary() {
    play(settings(), async |stage| {
        know_the_wal(&stage);
        stage.publish(|snapshot| {
            (snapshot.primary, snapshot.primary_lost_at) = (Some(ServerId(2)), None);
            snapshot.servers[2].role = Role::Primary;
        });
        let stage = Rc::new(stage);
        let servers = Servers::start(&stage);
        servers.in_conflict.set([true, true, false]);
        let mut client = TestPeer::client(&stage).await;
        client.hear_up_to(b'Z').await;
        client.query("select 1").await;
        assert_eq!(tags(&client.hear_up_to(b'Z').await), "TDCZ");
        let asked = servers.asked.borrow().clone();
        assert!(asked == [0, 1, 2] || asked == [1, 0, 2], "{asked:?}");
    });
}
