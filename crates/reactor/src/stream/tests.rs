use std::cell::Cell;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::executor::tests::pass;
use crate::timer::{sleep, timeout};
use crate::{block_on, spawn};

fn listen() -> (Listener, SocketAddr) {
    let socket = net::TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    socket.set_nonblocking(true).expect("it is a socket");
    let address = socket.local_addr().expect("it is bound");
    (Listener::from_std(socket).expect("it can be watched"), address)
}

/// Two ends of a connection, the first of them accepted.
async fn pair() -> (Stream, Stream) {
    let (listener, address) = listen();
    let near = Stream::connect_tcp(address).await.expect("it listens");
    let (accepted, peer) = listener.accept().await.expect("it connects");
    assert!(peer.is_some_and(|peer| peer.ip().is_loopback()));
    (Stream::of(accepted).expect("it can be watched"), near)
}

fn here_on<F: Future>(main: F) -> F::Output {
    let limit = Duration::from_secs(60);
    block_on(timeout(limit, main)).expect("a thread of its own").expect("nobody waits for ever")
}

#[test]
fn what_comes_in_pieces_is_read_and_then_the_end() {
    here_on(async {
        let (mut a, mut b) = pair().await;
        spawn(async move {
            for piece in [&b"one"[..], b"two"] {
                b.write_all(piece).await.expect("the reader is there");
                sleep(Duration::from_millis(5)).await;
            }
        });
        let mut all = Vec::new();
        a.read_to_end(&mut all).await.expect("it closes in order");
        assert_eq!(all, b"onetwo");
    });
}

#[test]
fn the_end_behind_bytes_that_came_with_it_is_read_without_a_further_event() {
    here_on(async {
        let (mut a, mut b) = pair().await;
        b.write_all(b"bye").await.expect("the reader is there");
        drop(b);
        // Both are there, and told of by one event.
        sleep(Duration::from_millis(5)).await;
        let mut space = [0; 64];
        assert_eq!(a.read(&mut space).await.expect("it closes in order"), 3);
        assert_eq!(a.read(&mut space).await.expect("it closes in order"), 0);
    });
}

#[test]
fn a_peer_that_leaves_behind_unread_bytes_is_noticed() {
    here_on(async {
        let (a, mut b) = pair().await;
        b.write_all(b"a request").await.expect("the reader is there");
        let mut byte = [0];
        assert_eq!(a.peek(&mut byte).await.expect("it is open"), 1);
        let is_gone = |a: &Stream| {
            let noop = std::task::Waker::noop();
            a.poll_read_closed(&Context::from_waker(noop)).is_ready()
        };
        assert!(!is_gone(&a));
        drop(b);
        std::future::poll_fn(|cx| a.poll_read_closed(cx)).await;
        assert!(is_gone(&a));
    });
}

#[test]
fn a_writer_without_room_goes_on_when_there_is_and_nothing_is_lost() {
    const ALL: usize = 20 * 1024 * 1024;
    here_on(async {
        let (mut a, mut b) = pair().await;
        spawn(async move {
            let chunk: Vec<u8> = (0..=255).cycle().take(64 * 1024).collect();
            for _ in 0..ALL / chunk.len() {
                b.write_all(&chunk).await.expect("the reader is there");
            }
        });
        let mut space = vec![0; 100_000];
        let mut read = 0;
        loop {
            let n = a.read(&mut space).await.expect("it closes in order");
            if n == 0 {
                break;
            }
            assert!(space[..n].iter().enumerate().all(|(i, byte)| usize::from(*byte) == (read + i) % 256));
            read += n;
        }
        assert_eq!(read, ALL);
    });
}

#[test]
fn all_who_wait_to_be_accepted_are() {
    here_on(async {
        let (listener, address) = listen();
        let waiting: Vec<_> = (0..20).map(|_| net::TcpStream::connect(address)).collect();
        assert!(waiting.iter().all(Result::is_ok));
        for _ in 0..20 {
            listener.accept().await.expect("it waits");
        }
        assert!(timeout(Duration::from_millis(5), listener.accept()).await.is_err());
    });
}

#[test]
fn who_accepts_a_flood_lets_others_run_meanwhile() {
    const FLOOD: usize = 100;
    here_on(async {
        let (listener, address) = listen();
        // They are in the queue of the kernel: nobody need accept them for that.
        let flood: Vec<_> = (0..FLOOD).map(|_| net::TcpStream::connect(address)).collect();
        assert!(flood.iter().all(Result::is_ok));
        let accepted = Rc::new(Cell::new(0));
        let counts = Rc::clone(&accepted);
        spawn(async move {
            loop {
                let _connection = listener.accept().await.expect("it listens");
                counts.set(counts.get() + 1);
            }
        });
        let mut seen = 0;
        while seen < FLOOD {
            pass().await;
            let new = accepted.get() - seen;
            assert!(new <= 2, "{new} without a turn for others");
            seen += new;
        }
    });
}

#[test]
fn without_a_waker_a_full_socket_says_so() {
    here_on(async {
        let (a, _b) = pair().await;
        let chunk = [0; 64 * 1024];
        let full = loop {
            match a.try_write(&chunk) {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
    });
}

#[test]
fn the_last_bytes_arrive_also_over_what_nobody_has_read() {
    here_on(async {
        for is_unread in [false, true] {
            let (a, mut b) = pair().await;
            let mut space = [0; 16];
            b.write_all(b"told").await.expect("the reader is there");
            assert_eq!(a.peek(&mut space).await.expect("it is open"), 4);
            if !is_unread {
                let read = std::future::poll_fn(|cx| a.poll_recv(cx, &mut space)).await;
                assert_eq!(read.expect("it is open"), 4);
            }
            assert_eq!(a.try_write_last(b"bye").expect("there is room"), 3);
            drop(a);
            let read = b.read(&mut space).await.expect("words come before the end");
            assert_eq!(&space[..read], b"bye");
        }
    });
}

#[test]
fn a_reader_that_is_changed_tries_again_and_is_the_one_woken() {
    here_on(async {
        let (a, mut b) = pair().await;
        let noop = std::task::Waker::noop();
        let mut space = [0; 8];
        assert!(a.poll_recv(&Context::from_waker(noop), &mut space).is_pending());
        assert!(!a.may_read());
        a.change_reader();
        assert!(a.may_read());
        spawn(async move {
            sleep(Duration::from_millis(5)).await;
            b.write_all(b"x").await.expect("the reader is there");
        });
        let read = std::future::poll_fn(|cx| a.poll_recv(cx, &mut space)).await;
        assert_eq!(read.expect("it is open"), 1);
    });
}

#[test]
fn where_nobody_listens_is_told() {
    here_on(async {
        let port = {
            let socket = net::TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
            socket.local_addr().expect("it is bound")
        };
        let error = Stream::connect_tcp(port).await.expect_err("nobody listens");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let error = Stream::connect_unix(Path::new("/nowhere/.s.PGSQL.5432")).expect_err("no such path");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    });
}

#[test]
fn without_the_reactor_there_are_no_sockets() {
    let socket = net::TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    assert!(Listener::from_std(socket).is_err());
}
