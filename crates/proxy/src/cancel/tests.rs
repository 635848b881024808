use super::random::KEY_BYTES;
use trunkline_net::{Listener, Transport};
use trunkline_reactor::block_on;

use super::*;

fn listen() -> (Listener, Address) {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    socket.set_nonblocking(true).expect("it is a socket");
    let address = Address::Tcp(socket.local_addr().expect("bound"));
    (Listener::from_std(socket).expect("it can be watched"), address)
}

/// Process 42 of a server.
fn process(address: Address) -> ServerCancelKey {
    ServerCancelKey {
        tls: None,
        address,
        process_id: ProcessId(42),
        key: SecretKey::new(&[7; 4]).expect("four bytes"),
    }
}

fn nowhere() -> Address {
    Address::Tcp(([127, 0, 0, 1], 1).into())
}

fn register(registry: &Arc<CancelRegistry>, version: ProtocolVersion, address: Address) -> CancelHandle {
    let shown = ShownProcess::Servers;
    registry.register(version, Arc::new(process(address)), shown).expect("random bytes")
}

fn request_of(handle: &CancelHandle) -> CancelRequest {
    let (process_id, key) = handle.key().expect("the server gave one");
    CancelRequest { process_id, secret_key: key.clone() }
}

#[tokio::test]
async fn a_key_that_differs_in_one_bit_reaches_nobody() {
    let registry = Arc::new(CancelRegistry::default());
    let handle = register(&registry, ProtocolVersion::V3_0, nowhere());
    let mut request = request_of(&handle);
    let mut forged = request.secret_key.as_bytes().to_vec();
    forged[3] ^= 1;
    request.secret_key = SecretKey::new(&forged).expect("four bytes");
    assert_eq!(registry.deliver(&Connector::Network, &request).await, CancelResult::Unknown);
}

#[test]
fn sessions_of_one_process_id_are_told_apart_by_their_secrets() {
    block_on(async {
        let registry = Arc::new(CancelRegistry::default());
        let mut sessions: Vec<_> = (0..100)
            .map(|_| {
                let (server, address) = listen();
                (server, register(&registry, ProtocolVersion::V3_0, address))
            })
            .collect();
        let (server, meant) = sessions.swap_remove(50);
        assert_eq!(meant.key().map(|(process_id, _)| process_id), Some(ProcessId(42)));
        let request = request_of(&meant);
        let accept = async { drop(server.accept().await.expect("a connection")) };
        let (outcome, ()) = tokio::join!(registry.deliver(&Connector::Network, &request), accept);
        assert_ne!(outcome, CancelResult::Unknown);
        drop(meant);
        assert_eq!(
            registry.deliver(&Connector::Network, &request).await,
            CancelResult::Unknown,
            "the others keep theirs"
        );
        assert_eq!(registry.sessions.len(), 99);
    })
    .expect("a thread of its own");
}

#[test]
fn a_session_without_a_key_is_in_no_table() {
    let registry = Arc::new(CancelRegistry::default());
    let handle = registry.without_key();
    assert!(handle.key().is_none() && registry.sessions.is_empty());
    handle.set_server(Some(Arc::new(process(nowhere()))));
}

#[test]
fn the_server_meant_gets_its_own_key_and_the_session_is_free_after() {
    block_on(deliver_and_look()).expect("a thread of its own");
}

async fn deliver_and_look() {
    let (server, address) = listen();
    let registry = Arc::new(CancelRegistry::default());
    let handle = register(&registry, ProtocolVersion::V3_2, nowhere());
    assert_eq!(handle.key().map(|(_, key)| key.as_bytes().len()), Some(KEY_BYTES));
    handle.set_server(Some(Arc::new(process(address))));
    let request = request_of(&handle);
    let accept = async {
        let (peer, _) = server.accept().await.expect("a connection");
        let mut peer = Transport::of(peer).expect("it can be watched");
        let mut packet = Vec::new();
        let mut chunk = [0_u8; 64];
        while packet.len() < 16 {
            let n = peer.read(&mut chunk).await.expect("a packet");
            packet.extend_from_slice(&chunk[..n]);
        }
        assert!(handle.is_delivering());
        packet
    };
    let (outcome, packet) = tokio::join!(registry.deliver(&Connector::Network, &request), accept);
    assert_eq!(outcome, CancelResult::Delivered);
    assert_eq!(packet[8..], [0, 0, 0, 42, 7, 7, 7, 7]);
    assert!(!handle.is_delivering());
}

#[test]
fn a_delivery_that_is_broken_off_leaves_the_session_free() {
    block_on(deliver_and_break_off()).expect("a thread of its own");
}

async fn deliver_and_break_off() {
    let (_server, address) = listen();
    let registry = Arc::new(CancelRegistry::default());
    let handle = register(&registry, ProtocolVersion::V3_0, address);
    let request = request_of(&handle);
    {
        let mut delivery = std::pin::pin!(registry.deliver(&Connector::Network, &request));
        tokio::select! {
            biased;
            _ = &mut delivery => panic!("nobody answers"),
            () = tokio::task::yield_now() => assert!(handle.is_delivering()),
        }
    }
    assert!(!handle.is_delivering());
    assert_eq!(registry.under_way.load(Relaxed), 0);
}

#[tokio::test]
async fn a_closed_session_can_no_longer_be_cancelled() {
    let registry = Arc::new(CancelRegistry::default());
    let handle = register(&registry, ProtocolVersion::V3_0, nowhere());
    let request = request_of(&handle);
    drop(handle);
    assert_eq!(registry.deliver(&Connector::Network, &request).await, CancelResult::Unknown);
}
