use std::future::poll_fn;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use trunkline_reactor::block_on;
use trunkline_tls::testing;

use super::*;
use crate::memory;

/// Two ends that have shaken hands, over pipes of so many bytes, of which one read brings so many.
async fn pair(capacity: usize, read_max: usize) -> (Transport, Transport) {
    pair_of(testing::records(), capacity, read_max).await
}

async fn pair_of(
    (of_server, of_client): (Records, Records),
    capacity: usize,
    read_max: usize,
) -> (Transport, Transport) {
    let (server, client) = memory::pair(capacity);
    server.set_read_max(read_max);
    client.set_read_max(read_max);
    let (server, client) = tokio::join!(
        TlsStream::shake_hands(Transport::Memory(server), of_server, b""),
        TlsStream::shake_hands(Transport::Memory(client), of_client, b""),
    );
    let over = |stream: Result<TlsStream, _>| Transport::Tls(Box::new(stream.expect("they agree")));
    (over(server), over(client))
}

fn run(test: impl Future<Output = ()>) {
    block_on(test).expect("a thread of its own");
}

#[test]
fn what_one_end_writes_the_other_reads_through_the_narrowest_pipe() {
    let sent: Vec<u8> = (0..200_000_u32).flat_map(u32::to_be_bytes).collect();
    for (capacity, read_max) in [(1 << 20, usize::MAX), (5000, 701), (64, 7)] {
        run(async {
            let (mut server, mut client) = pair(capacity, read_max).await;
            let sent = if capacity < 1000 { &sent[..40_000] } else { &sent[..] };
            let write = async {
                server.write_all(sent).await.expect("it reads");
                server.flush().await.expect("it reads");
                server.shutdown().await.expect("it reads");
            };
            let read = async {
                let mut came = Vec::new();
                client.read_to_end(&mut came).await.expect("it closes in order");
                came
            };
            let ((), came) = tokio::join!(write, read);
            assert!(came == sent, "{capacity}: {} of {} bytes", came.len(), sent.len());
        });
    }
}

#[test]
fn a_write_is_done_when_its_last_byte_is_with_the_socket() {
    run(async {
        let (server, mut client) = pair(3000, usize::MAX).await;
        let message = [b'm'; 10_000];
        let mut written = server.try_write(&message).expect("some fits");
        assert_eq!(written, message.len() - 1, "all is sealed, and not all is sent");
        let refused = server.try_write(&message[written..]).expect_err("it is full");
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        let mut came = vec![0; message.len()];
        let read = async { client.read_exact(&mut came).await.expect("all comes") };
        let write = async {
            while written < message.len() {
                written += poll_fn(|cx| server.poll_send(cx, &message[written..])).await.expect("it reads");
            }
        };
        let (_read, ()) = tokio::join!(read, write);
        assert!(came == message);
        assert_eq!(server.try_write(b"n").expect("there is room"), 1);
        assert_eq!(client.read_u8().await.expect("it comes"), b'n');
    });
}

#[test]
fn a_byte_that_was_sealed_and_not_sent_is_not_sealed_again() {
    run(async {
        let (mut server, mut client) = pair(3000, usize::MAX).await;
        let mut written = 0;
        while let Ok(count) = server.try_write(&[b'f'; 500]) {
            written += count;
        }
        assert_eq!(written % 500, 499, "the last one is sealed, and not all sent");
        assert_eq!(server.try_write(b"f").expect_err("it is full").kind(), io::ErrorKind::WouldBlock);
        let write = async {
            written += poll_fn(|cx| server.poll_send(cx, b"f")).await.expect("it reads");
            server.shutdown().await.expect("it reads");
        };
        let mut came = Vec::new();
        let ((), read) = tokio::join!(write, client.read_to_end(&mut came));
        read.expect("it closes in order");
        assert_eq!((came.len(), came.len() % 500), (written, 0));
    });
}

#[test]
fn what_is_sent_whole_needs_no_further_call() {
    run(async {
        let (mut server, mut client) = pair(3000, usize::MAX).await;
        let message = [b'm'; 10_000];
        let mut came = vec![0; message.len()];
        let both = async { tokio::join!(server.send_all(&message), client.read_exact(&mut came)) };
        let (sent, read) =
            trunkline_reactor::timer::timeout(crate::limits::LINGER, both).await.expect("it comes");
        sent.expect("it reads");
        read.expect("all comes");
        assert!(came == message);
    });
}

#[test]
fn records_that_bring_nothing_do_not_keep_the_thread() {
    run(async {
        let (mut server, mut client) = pair(1 << 20, 1).await;
        server.write_all(&[b'x'; 10_000]).await.expect("there is room");
        let mut polls = 0;
        let mut space = [0; 10_000];
        let count = poll_fn(|cx| {
            polls += 1;
            client.poll_recv(cx, &mut space)
        });
        assert_eq!(count.await.expect("it came"), 10_000);
        assert!(polls >= 10_000 / ROUNDS_MAX, "others had {polls} turns");
        server.write_all(b"more").await.expect("there is room");
        assert_eq!(client.read(&mut space).await.expect("it came"), 4);
    });
}

#[test]
fn a_peer_that_reads_nothing_does_not_keep_a_connection_that_closes() {
    run(async {
        let (mut server, client) = pair(3000, usize::MAX).await;
        server.write_all(&[b'x'; 4000]).await.expect("it is sealed");
        let closed = trunkline_reactor::timer::timeout(crate::limits::LINGER * 10, server.linger()).await;
        assert!(closed.is_ok(), "it is still open");
        drop(client);
    });
}

#[test]
fn plaintext_that_was_not_read_is_there_without_the_socket() {
    run(async {
        let (mut server, mut client) = pair(1 << 20, usize::MAX).await;
        server.write_all(b"hello, world").await.expect("there is room");
        let mut first = [0; 5];
        assert_eq!(poll_fn(|cx| client.poll_peek(cx, &mut first)).await.expect("it came"), 5);
        assert_eq!(client.read(&mut first).await.expect("it came"), 5);
        assert_eq!(&first, b"hello");
        assert!(client.may_read());
        let mut rest = [0; 100];
        let count = client.read(&mut rest).await.expect("it came");
        assert_eq!(&rest[..count], b", world");
        drop(server);
        assert_eq!(client.read(&mut rest).await.expect("an end without a goodbye is one"), 0);
    });
}

#[test]
fn the_last_words_arrive_with_a_goodbye() {
    run(async {
        let (server, mut client) = pair(1 << 20, usize::MAX).await;
        assert_eq!(server.try_write_last(b"bye").expect("there is room"), 3);
        let mut came = Vec::new();
        client.read_to_end(&mut came).await.expect("a goodbye is the end");
        assert_eq!(came, b"bye");
        drop(server);
    });
}

#[test]
fn a_peer_that_speaks_no_tls_is_told_by_an_alert() {
    run(async {
        let (server, mut client) = memory::pair(1000);
        let (records, _) = testing::records();
        client.write_all(b"\0\0\0\x08\x04\xd2\x16\x2f").await.expect("there is room");
        let refused = TlsStream::shake_hands(Transport::Memory(server), records, b"").await;
        let (error, socket) = refused.expect_err("it is no TLS");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        drop(socket);
        let mut alert = Vec::new();
        client.read_to_end(&mut alert).await.expect("it closes in order");
        // Source: RFC 8446, 6: alert, fatal.
        assert_eq!((alert[0], alert[5]), (21, 2), "{alert:?}");
    });
}

/// A record of data whose seal is not that of any key.
const BAD_RECORD: &[u8] = b"\x17\x03\x03\0\x20................................";

/// Puts a bad record behind what `end` has sent.
fn spoil(end: &Transport) {
    let Transport::Tls(stream) = end else { panic!("it speaks TLS") };
    assert_eq!(stream.socket().try_write(BAD_RECORD).expect("there is room"), BAD_RECORD.len());
}

/// The client of a server that has sent `done` and, in the same bytes, what breaks the connection.
async fn broken_behind_plaintext(spoils: impl AsyncFnOnce(&mut Transport, &mut Transport)) -> Transport {
    let (mut server, mut client) = pair(1 << 20, usize::MAX).await;
    server.write_all(b"done").await.expect("there is room");
    spoils(&mut server, &mut client).await;
    client
}

#[test]
fn what_came_before_a_bad_record_or_an_alert_is_read_before_the_error() {
    run(async {
        let by_record = broken_behind_plaintext(async |server, _| spoil(server)).await;
        let by_alert = broken_behind_plaintext(async |server, client| {
            spoil(client);
            server.read(&mut [0; 100]).await.expect_err("it answers with an alert");
        });
        for mut client in [by_record, by_alert.await] {
            let mut space = [0; 100];
            assert_eq!(poll_fn(|cx| client.poll_peek(cx, &mut space)).await.expect("it came"), 4);
            let mut first = [0; 2];
            assert_eq!(client.read(&mut first).await.expect("it came"), 2);
            assert_eq!(client.read(&mut space).await.expect("it came"), 2);
            assert_eq!([first, [space[0], space[1]]].concat(), b"done");
            assert!(client.may_read() && client.has_news());
            let error = client.read(&mut space).await.expect_err("it is broken");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
        let client = broken_behind_plaintext(async |server, _| spoil(server));
        let mut whole = [0; 4];
        assert_eq!(client.await.read(&mut whole).await.expect("it came"), 4);
        assert_eq!(&whole, b"done");
    });
}

#[test]
fn an_end_whose_keys_are_used_up_waits_for_nothing_more() {
    run(async {
        let (mut server, _client) = pair_of(testing::records_for(2, u64::MAX), 1 << 20, usize::MAX).await;
        server.write_all(b"hello").await.expect("there is room");
        let refused = server.try_write(b"more").expect_err("it has no key for it");
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
        assert!(server.may_read() && server.has_news() && server.tls_failure().is_some());
        let mut space = [0; 100];
        let read = trunkline_reactor::timer::timeout(crate::limits::LINGER, server.read(&mut space)).await;
        assert!(read.expect("it waits for nothing").is_err());
    });
}

#[test]
fn many_peers_share_the_space_of_a_thread() {
    run(async {
        let (mut server, mut client) = pair(1 << 20, usize::MAX).await;
        let (mut other, mut its_client) = pair(1 << 20, usize::MAX).await;
        server.write_all(&[b'1'; 9000]).await.expect("there is room");
        other.write_all(&[b'2'; 9000]).await.expect("there is room");
        let mut came = [0; 9000];
        its_client.read_exact(&mut came).await.expect("it came");
        assert!(came.iter().all(|byte| *byte == b'2'));
        client.read_exact(&mut came).await.expect("it came");
        assert!(came.iter().all(|byte| *byte == b'1'));
    });
}
