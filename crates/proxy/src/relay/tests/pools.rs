//! Clients that share a server connection, of a pool of one.

use trunkline_pool::{PoolMode, PoolSettings};

use super::logins::proves_itself;
use super::*;
use crate::worker::read_mail;

/// Has clients share a connection. All servers but the first are left alone.
pub(super) fn share(limit: Duration, then: impl AsyncFnOnce(&TestWorker)) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "\"app\" \"secret\"\n").expect("it can be written");
    let mut settings = settings();
    settings.auth.mode = AuthMode::Verify;
    settings.auth.client_method = ClientMethod::Password;
    settings.auth.source = SecretSource::File(file.path().to_owned());
    settings.auth.cache_ttl = PATIENCE;
    settings.pool = PoolSettings {
        mode: PoolMode::Transaction,
        pool_size: 1,
        query_wait_timeout: limit,
        server_check_delay: PATIENCE,
        ..PoolSettings::default()
    };
    play(settings, async |stage| {
        let mail = stage.pool_mail.take().expect("nobody has taken it");
        spawn(read_mail(Rc::clone(&stage.worker), mail));
        stage.set_state(ServerId(1), State::Maint);
        stage.set_state(ServerId(2), State::Maint);
        then(&stage).await;
    });
}

/// A client that has sent its password.
pub(super) async fn with_password(stage: &TestWorker) -> TestPeer {
    let mut client = TestPeer::client(stage).await;
    assert_eq!(client.hear().await, (b'R', vec![0, 0, 0, 3]));
    client.say(&wire::message(b'p', b"secret\0")).await;
    client
}

/// The next login on a server, which is let in.
pub(super) async fn logs_in(stage: &TestWorker) -> (ServerId, TestPeer) {
    let (id, mut server) = TestPeer::server(stage).await;
    proves_itself(&mut server).await;
    server.let_in().await;
    (id, server)
}

/// Clients that have been let in, and the connection that they share.
pub(super) async fn clients<const N: usize>(stage: &TestWorker) -> ([TestPeer; N], TestPeer) {
    let mut first = with_password(stage).await;
    let (_, server) = logs_in(stage).await;
    first.hear_up_to(b'Z').await;
    let mut all = vec![first];
    while all.len() < N {
        let mut next = with_password(stage).await;
        next.hear_up_to(b'Z').await;
        all.push(next);
    }
    (all.try_into().ok().expect("as many"), server)
}

/// Asks, and returns once this many wait.
pub(super) async fn waits(stage: &TestWorker, client: &mut TestPeer, sql: &str, waiting: u64) {
    client.query(sql).await;
    await_waiting(stage, waiting).await;
}

pub(super) async fn await_waiting(stage: &TestWorker, waiting: u64) {
    let now = || -> u64 {
        let pools = stage.worker.shared.pools.lock();
        let all = pools.counts(Instant::now());
        all.filter(|(server, ..)| server.is_none()).map(|(_, _, counts)| counts.cl_waiting).sum()
    };
    while now() != waiting {
        timer::sleep(Duration::from_millis(1)).await;
    }
}

/// The server hears this, and answers it.
pub(super) async fn answers(server: &mut TestPeer, sql: &str) {
    assert_eq!(server.hear().await, (b'Q', format!("{sql}\0").into_bytes()));
    server.say(&answer()).await;
}

pub(super) async fn is_answered(client: &mut TestPeer) {
    assert_eq!(tags(&client.hear_up_to(b'Z').await), "TDCZ");
}

#[test]
fn clients_that_wait_are_served_in_their_order_by_one_connection() {
    share(Duration::ZERO, async |stage| {
        let ([mut first, mut second, mut third], mut server) = clients(stage).await;
        first.query("select 1").await;
        assert_eq!(server.hear().await.0, b'Q');
        waits(stage, &mut second, "select 2", 1).await;
        waits(stage, &mut third, "select 3", 2).await;
        server.say(&answer()).await;
        is_answered(&mut first).await;
        first.query("select 4").await;
        for (client, sql) in [(&mut second, "select 2"), (&mut third, "select 3"), (&mut first, "select 4")] {
            answers(&mut server, sql).await;
            is_answered(client).await;
        }
    });
}

#[test]
fn client_that_leaves_while_it_waits_leaves_its_turn_to_the_next() {
    share(Duration::ZERO, async |stage| {
        let ([mut first, mut second, mut third], mut server) = clients(stage).await;
        first.query("select 1").await;
        assert_eq!(server.hear().await.0, b'Q');
        waits(stage, &mut second, "select 2", 1).await;
        waits(stage, &mut third, "select 3", 2).await;
        drop(second);
        await_waiting(stage, 1).await;
        server.say(&answer()).await;
        is_answered(&mut first).await;
        answers(&mut server, "select 3").await;
        is_answered(&mut third).await;
    });
}

#[test]
fn client_that_says_goodbye_takes_no_connection() {
    share(Duration::ZERO, async |stage| {
        let ([mut first, mut second], mut server) = clients(stage).await;
        let taken = || stage.worker.shared.pools.lock().totals().reused;
        let before = taken();
        second.say(b"X\0\0\0\x04").await;
        drop(second);
        while stage.worker.shared.admission.sessions() > 1 {
            timer::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(taken(), before);
        first.query("select 1").await;
        answers(&mut server, "select 1").await;
        is_answered(&mut first).await;
        assert_eq!(taken(), before + 1);
    });
}

#[test]
fn client_that_leaves_while_its_login_waits_is_noticed() {
    share(Duration::ZERO, async |stage| {
        let ([mut first, mut second], mut server) = clients(stage).await;
        first.query("select 1").await;
        assert_eq!(server.hear().await.0, b'Q');
        let new = with_password(stage).await;
        await_waiting(stage, 1).await;
        waits(stage, &mut second, "select 2", 2).await;
        drop(new);
        await_waiting(stage, 1).await;
        server.say(&answer()).await;
        is_answered(&mut first).await;
        answers(&mut server, "select 2").await;
        is_answered(&mut second).await;
    });
}

#[test]
fn client_that_waits_too_long_has_an_error_and_goes_on() {
    share(Duration::from_millis(300), async |stage| {
        let ([mut first, mut second], mut server) = clients(stage).await;
        first.query("select 1").await;
        assert_eq!(server.hear().await.0, b'Q');
        second.query("select 2").await;
        let refused = second.hear_up_to(b'Z').await;
        assert_eq!(tags(&refused), "EZ");
        assert!(has_code(&refused[0], "ERROR", "53300"), "{refused:?}");
        await_waiting(stage, 0).await;
        waits(stage, &mut second, "select 3", 1).await;
        server.say(&answer()).await;
        is_answered(&mut first).await;
        answers(&mut server, "select 3").await;
        is_answered(&mut second).await;
    });
}

#[test]
fn client_that_waits_for_a_server_that_may_not_serve_it_any_more_goes_to_another() {
    share(Duration::ZERO, async |stage| {
        let ([mut first, mut second], mut server) = clients(stage).await;
        first.query("select 1").await;
        assert_eq!(server.hear().await.0, b'Q');
        waits(stage, &mut second, "select 1", 1).await;
        stage.set_state(ServerId(0), State::Lagging);
        stage.set_state(ServerId(1), State::Up);
        let (id, mut next) = logs_in(stage).await;
        assert_eq!(id, ServerId(1));
        assert_eq!(next.hear().await.0, b'Q', "how far it has replayed");
        next.say(&position("0/5000")).await;
        answers(&mut next, "select 1").await;
        is_answered(&mut second).await;
        server.say(&answer()).await;
        is_answered(&mut first).await;
    });
}

#[test]
fn client_whose_turn_comes_on_a_server_that_may_not_serve_it_any_more_goes_to_another() {
    share(Duration::ZERO, async |stage| {
        let ([mut first, mut second], mut server) = clients(stage).await;
        first.query("select 1").await;
        assert_eq!(server.hear().await.0, b'Q');
        waits(stage, &mut second, "select 1", 1).await;
        // No session has been told to look yet.
        stage.verdicts.publish(|snapshot| {
            snapshot.servers[0].state = State::Lagging;
            snapshot.servers[1].state = State::Up;
        });
        server.say(&answer()).await;
        is_answered(&mut first).await;
        let (id, mut next) = logs_in(stage).await;
        assert_eq!(id, ServerId(1));
        assert_eq!(next.hear().await.0, b'Q', "how far it has replayed");
        next.say(&position("0/5000")).await;
        answers(&mut next, "select 1").await;
        is_answered(&mut second).await;
    });
}

#[test]
fn client_whose_turn_comes_while_no_server_may_serve_it_waits_for_one_that_may() {
    share(Duration::ZERO, async |stage| {
        let ([mut first, mut second], mut server) = clients(stage).await;
        first.query("select 1").await;
        assert_eq!(server.hear().await.0, b'Q');
        waits(stage, &mut second, "select 1", 1).await;
        stage.set_state(ServerId(0), State::Drain);
        server.say(&answer()).await;
        is_answered(&mut first).await;
        // The connection was the second's, which has put it back.
        await_waiting(stage, 0).await;
        stage.set_state(ServerId(1), State::Up);
        let (id, mut next) = logs_in(stage).await;
        assert_eq!(id, ServerId(1));
        assert_eq!(next.hear().await.0, b'Q', "how far it has replayed");
        next.say(&position("0/5000")).await;
        answers(&mut next, "select 1").await;
        is_answered(&mut second).await;
    });
}

/// Time passes for the pools, not for their clients: they end all waits, as by a `query_wait_timeout` that is longer by now.
fn end_waits(stage: &TestWorker) {
    let due = stage.worker.shared.pools.lock().due(Instant::now() + PATIENCE);
    assert_eq!(due.expired.len(), 1);
    stage.worker.shared.pools.deliver(due.effects);
}

#[test]
fn client_whose_wait_the_pools_have_ended_too_early_waits_anew() {
    share(PATIENCE, async |stage| {
        let ([mut first, mut second], mut server) = clients(stage).await;
        first.query("select 1").await;
        assert_eq!(server.hear().await.0, b'Q');
        waits(stage, &mut second, "select 2", 1).await;
        // First in its session's slot, then in a search.
        for _ in 0..2 {
            end_waits(stage);
            await_waiting(stage, 0).await;
            await_waiting(stage, 1).await;
        }
        server.say(&answer()).await;
        is_answered(&mut first).await;
        answers(&mut server, "select 2").await;
        is_answered(&mut second).await;
    });
}

#[test]
fn who_has_waited_too_long_is_counted_once() {
    share(Duration::from_millis(300), async |stage| {
        let ([mut first, mut second], mut server) = clients(stage).await;
        let expired = || stage.worker.shared.pools.lock().totals().expired;
        first.query("select 1").await;
        assert_eq!(server.hear().await.0, b'Q');
        // The client has looked first.
        second.query("select 2").await;
        assert!(has_code(&second.hear_up_to(b'Z').await[0], "ERROR", "53300"));
        assert_eq!(expired(), 1);
        // The pools have.
        waits(stage, &mut second, "select 3", 1).await;
        end_waits(stage);
        assert!(has_code(&second.hear_up_to(b'Z').await[0], "ERROR", "53300"));
        assert_eq!(expired(), 2);
    });
}

#[test]
fn client_whose_server_is_busy_goes_to_one_that_is_not() {
    share(Duration::ZERO, async |stage| {
        let ([mut first, mut second], mut server) = clients(stage).await;
        stage.set_state(ServerId(1), State::Up);
        first.query("select 1").await;
        assert_eq!(server.hear().await.0, b'Q');
        second.query("select 1").await;
        let (id, mut next) = logs_in(stage).await;
        assert_eq!(id, ServerId(1));
        assert_eq!(next.hear().await.0, b'Q', "how far it has replayed");
        next.say(&position("0/5000")).await;
        answers(&mut next, "select 1").await;
        is_answered(&mut second).await;
        server.say(&answer()).await;
        is_answered(&mut first).await;
    });
}
