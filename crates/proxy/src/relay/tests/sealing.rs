//! A connection whose keys have sealed as many records as they may.

use std::rc::Rc;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use trunkline_model::wire;
use trunkline_net::Transport;
use trunkline_net::memory::{self, MemoryStream};
use trunkline_reactor::spawn;
use trunkline_tls::{Records, testing};

use super::{answer, next_answers, play, session, tags};
use crate::testing::{CLIENT, TestPeer, TestWorker, settings};
use crate::worker;

#[test]
fn server_that_nothing_more_can_be_sealed_for_is_lost() {
    play(settings(), async |stage| {
        // The end of the handshake, the startup packet and a request.
        stage.network.seal(Some(3));
        let (mut client, first, mut server) = session(&stage).await;
        stage.network.seal(None);
        client.query("select 1").await;
        assert_eq!(server.hear().await.0, b'Q');
        server.say(&answer()).await;
        assert_eq!(tags(&client.hear_up_to(b'Z').await), "TDCZ");
        client.query("select 1").await;
        let (second, _next) = next_answers(&stage).await;
        assert_ne!(first, second);
        assert_eq!(tags(&client.hear_up_to(b'Z').await), "TDCZ");
        server.closes().await;
    });
}

/// A client that opens records itself, so that it sees how the connection ends.
struct SealedClient {
    end: MemoryStream,
    records: Records,
    plain: Vec<u8>,
    may_speak: bool,
    is_closed: bool,
}

impl SealedClient {
    /// Reads once; `false` at the end of the connection.
    async fn read(&mut self) -> bool {
        let mut sealed = vec![0; 64 * 1024];
        let count = self.end.read(&mut sealed).await.expect("it closes in order");
        let (plain, mut out) = (&mut self.plain, Vec::new());
        let opened = self.records.open(&mut sealed[..count], |some| plain.extend_from_slice(some), &mut out);
        let opened = opened.expect("it keeps to the protocol");
        self.may_speak |= opened.may_seal;
        self.is_closed |= opened.is_closed;
        self.end.write_all(&out).await.expect("the proxy is there");
        count > 0
    }

    async fn say(&mut self, plain: &[u8]) {
        let mut space = vec![0; Records::room_for(plain.len())];
        let length = self.records.seal(plain, &mut space).expect("it has keys");
        self.end.write_all(&space[..length]).await.expect("the proxy is there");
    }

    /// Reads up to the end of an answer; `false` if the connection ends before.
    async fn hears_answer(&mut self) -> bool {
        while !self.plain.ends_with(&wire::message(b'Z', b"I")) {
            if !self.read().await {
                return false;
            }
        }
        self.plain.clear();
        true
    }
}

/// A client of a proxy whose keys seal so many records.
async fn sealed_client(stage: &TestWorker, records_max: u64) -> SealedClient {
    let (end, own) = memory::pair(64 * 1024);
    let (of_proxy, records) = testing::records_for(records_max, u64::MAX);
    let worker = Rc::clone(&stage.worker);
    let listener = Arc::clone(&worker.shared.listeners.load()[0]);
    spawn(async move {
        let mut own = Transport::Memory(own);
        own.begin_tls(of_proxy, b"").await.expect("they agree");
        worker::serve(worker, own, CLIENT, listener, ()).await;
    });
    let mut client = SealedClient { end, records, plain: Vec::new(), may_speak: false, is_closed: false };
    let mut hello = Vec::new();
    client.records.open(&mut [], |_| {}, &mut hello).expect("it begins");
    client.end.write_all(&hello).await.expect("the proxy is there");
    while !client.may_speak {
        assert!(client.read().await, "it is refused");
    }
    client
}

#[test]
fn client_that_nothing_more_can_be_sealed_for_is_told_by_tls() {
    play(settings(), async |stage| {
        let mut client = sealed_client(&stage, 8).await;
        client.say(b"\0\0\0\x1f\0\x03\0\0user\0app\0database\0app\0\0").await;
        let (_, mut server) = TestPeer::server_in(&stage).await;
        assert!(client.hears_answer().await, "it is let in");
        let mut answers = 0;
        loop {
            client.say(&wire::message(b'Q', b"select 1\0")).await;
            assert_eq!(server.hear().await.0, b'Q');
            server.say(&answer()).await;
            if !client.hears_answer().await {
                break;
            }
            answers += 1;
        }
        assert!((1..8).contains(&answers), "{answers}");
        assert!(client.is_closed, "the proxy says goodbye");
        server.closes().await;
    });
}
