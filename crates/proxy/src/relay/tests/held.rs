//! On a listener that chooses a server for each request: transactions that only read, and that no server takes.

use trunkline_pool::{PoolMode, PoolSettings};
use trunkline_routing::TargetSessionAttrs;

use super::logins::proves_itself;
use super::pools::{await_waiting, waits, with_password};
use super::*;
use crate::settings::{RouteBy, UserFunctions};
use crate::worker::read_mail;

struct Stage {
    stage: TestWorker,
    /// By which the second client's requests are canceled.
    key: Vec<u8>,
}

impl Stage {
    async fn cancels(&self) {
        let mut peer = TestPeer::connect(&self.stage);
        let code = 80_877_102_u32.to_be_bytes();
        peer.say(
            &[&[0, 0, 0, 8 + u8::try_from(self.key.len()).expect("short")], &code[..], &self.key].concat(),
        )
        .await;
        peer.closes().await;
    }
}

/// Has two clients share a connection to the primary, which the first one keeps. There is a replica, which refuses everybody.
fn share_primary(limit: Duration, then: impl AsyncFnOnce(&Stage, [TestPeer; 2], TestPeer)) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "\"app\" \"secret\"\n").expect("it can be written");
    let mut settings = settings();
    settings.auth.mode = AuthMode::Verify;
    settings.auth.client_method = ClientMethod::Password;
    settings.auth.source = SecretSource::File(file.path().to_owned());
    settings.auth.cache_ttl = PATIENCE;
    settings.session.functions = UserFunctions::Read;
    let options = &mut settings.listeners[0].options;
    (options.target_session_attrs, options.route) = (TargetSessionAttrs::ReadWrite, RouteBy::Statement);
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
        stage.publish(|snapshot| {
            snapshot.servers[0].role = Role::Primary;
            (snapshot.primary, snapshot.primary_lost_at) = (Some(ServerId(0)), None);
        });
        let mut first = with_password(&stage).await;
        let (id, mut server) = TestPeer::server(&stage).await;
        assert_eq!(id, ServerId(0));
        proves_itself(&mut server).await;
        server.say(&greeting()).await;
        first.hear_up_to(b'Z').await;
        let mut second = with_password(&stage).await;
        let told = second.hear_up_to(b'Z').await;
        let key = told.into_iter().find(|(tag, _)| *tag == b'K').expect("a key").1;
        first.query("BEGIN").await;
        assert_eq!(server.hear().await.0, b'Q');
        server.say(&begun("BEGIN")).await;
        first.hear_up_to(b'Z').await;
        then(&Stage { stage, key }, [first, second], server).await;
    });
}

/// What a primary says to who is in.
fn greeting() -> Vec<u8> {
    let reported = |text: &[u8]| wire::message(b'S', text);
    let key = wire::message(b'K', b"\0\0\0\x07\0\0\0\x07");
    [
        wire::message(b'R', b"\0\0\0\0"),
        reported(b"standard_conforming_strings\0on\0"),
        reported(b"in_hot_standby\0off\0"),
        key,
        wire::message(b'Z', b"I"),
    ]
    .concat()
}

fn begun(tag: &str) -> Vec<u8> {
    [wire::message(b'C', format!("{tag}\0").as_bytes()), wire::message(b'Z', b"T")].concat()
}

/// What a client is told, and the status behind it.
async fn hears(client: &mut TestPeer) -> (String, u8) {
    let heard = client.hear_up_to(b'Z').await;
    (tags(&heard), heard[heard.len() - 1].1[0])
}

async fn begins(client: &mut TestPeer) {
    client.query("BEGIN READ ONLY").await;
    assert_eq!(hears(client).await, ("CZ".to_owned(), b'T'));
}

/// The request fails with this, and so does its transaction, which goes on and ends without a server.
async fn fails(client: &mut TestPeer, code: &str) {
    for (sql, code) in [(None, code), (Some("select 1"), "25P02"), (Some("begin"), "25P02")] {
        if let Some(sql) = sql {
            client.query(sql).await;
        }
        let heard = client.hear_up_to(b'Z').await;
        assert!(has_code(&heard[0], "ERROR", code), "{sql:?}: {heard:?}");
        assert_eq!((heard.len(), &*heard[1].1), (2, &b"E"[..]), "{sql:?}");
    }
    client.query("COMMIT").await;
    assert_eq!(client.hear_up_to(b'Z').await, [(b'C', b"ROLLBACK\0".to_vec()), (b'Z', b"I".to_vec())]);
}

/// The first client leaves the connection to the second, which runs its transaction on it.
async fn goes_on(mut first: TestPeer, mut second: TestPeer, mut server: TestPeer) {
    first.query("COMMIT").await;
    assert_eq!(server.hear().await.0, b'Q');
    server.say(&[wire::message(b'C', b"COMMIT\0"), wire::message(b'Z', b"I")].concat()).await;
    assert_eq!(hears(&mut first).await, ("CZ".to_owned(), b'I'));
    begins(&mut second).await;
    second.query("listen a").await;
    let mut heard = server.hear().await;
    while String::from_utf8_lossy(&heard.1).contains("pg_current_wal_insert_lsn") {
        // The first client has perhaps written.
        server.say(&position("0/5000")).await;
        heard = server.hear().await;
    }
    assert_eq!(heard, (b'Q', b"BEGIN READ ONLY\0".to_vec()));
    server.say(&begun("BEGIN")).await;
    assert_eq!(server.hear().await, (b'Q', b"listen a\0".to_vec()));
    server.say(&begun("LISTEN")).await;
    assert_eq!(hears(&mut second).await, ("CZ".to_owned(), b'T'));
}

#[test]
fn statement_that_waits_too_long_for_a_connection_fails_in_its_transaction() {
    share_primary(Duration::from_millis(300), async |Stage { stage, .. }, [first, mut second], server| {
        for _ in 0..2 {
            begins(&mut second).await;
            second.query("listen a").await;
            fails(&mut second, "53300").await;
        }
        assert_eq!(stage.worker.shared.pools.lock().totals().expired, 2);
        goes_on(first, second, server).await;
    });
}

#[test]
fn statement_that_waits_for_a_connection_can_be_canceled_in_its_transaction() {
    share_primary(Duration::ZERO, async |stage, [first, mut second], server| {
        begins(&mut second).await;
        waits(&stage.stage, &mut second, "listen a", 1).await;
        stage.cancels().await;
        fails(&mut second, "57014").await;
        goes_on(first, second, server).await;
    });
}

#[test]
fn client_that_has_asked_for_nothing_in_its_transaction_loses_nothing() {
    share_primary(Duration::from_millis(300), async |stage, [first, mut second], server| {
        begins(&mut second).await;
        // The primary is to begin it after a while.
        for _ in 0..2 {
            await_waiting(&stage.stage, 1).await;
            stage.cancels().await;
            await_waiting(&stage.stage, 0).await;
        }
        second.query("COMMIT").await;
        assert_eq!(hears(&mut second).await, ("CZ".to_owned(), b'I'));
        goes_on(first, second, server).await;
    });
}
