//! A server that lets everybody in and does nothing, so that thousands of sessions cost no PostgreSQL processes.

use std::thread::JoinHandle;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use trunkline_cluster::{MONITOR_ROLE, PortLease};
use trunkline_codec::backend::TransactionStatus;
use trunkline_codec::ids::{ProcessId, SecretKey};
use trunkline_codec::startup::{FirstPacket, decode_first};
use trunkline_codec::write;

/// Listens on a port of its own: probes are carried to a real server, all other clients are logged in at once
/// and then ignored until they leave. Ends when dropped.
#[derive(Debug)]
pub struct Impostor {
    lease: PortLease,
    /// Closed to end it.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Impostor {
    /// An impostor of the server on port `real`.
    ///
    /// # Panics
    /// When no port is free.
    #[must_use]
    pub fn of(real: u16) -> Self {
        let lease = PortLease::take().expect("a port is free");
        let listener = std::net::TcpListener::bind(("127.0.0.1", lease.port())).expect("the port is leased");
        listener.set_nonblocking(true).expect("it is a socket");
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime starts").block_on(async {
                tokio::select! { () = accept(listener, real) => {}, _ = stopped => {} }
            });
        });
        Self { lease, stop: Some(stop), thread: Some(thread) }
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.lease.port()
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

async fn accept(listener: std::net::TcpListener, real: u16) {
    let listener = TcpListener::from_std(listener).expect("it does not block");
    while let Ok((client, _)) = listener.accept().await {
        // A client that leaves in the middle is no concern of an impostor.
        tokio::spawn(async move { drop(receive(client, real).await) });
    }
}

async fn receive(mut client: TcpStream, real: u16) -> std::io::Result<()> {
    let mut received = BytesMut::with_capacity(1024);
    loop {
        match decode_first(&received) {
            Ok(Some((FirstPacket::Startup(startup), _))) => {
                let is_probe = startup.user() == MONITOR_ROLE.as_bytes();
                return if is_probe { carry(client, real, &received).await } else { welcome(client).await };
            }
            Ok(Some((FirstPacket::SslRequest | FirstPacket::GssEncRequest, length))) => {
                let _answered = received.split_to(length);
                client.write_all(b"N").await?;
            }
            Ok(Some((FirstPacket::Cancel(_), _))) | Err(_) => return Ok(()),
            Ok(None) => {
                if client.read_buf(&mut received).await? == 0 {
                    return Ok(());
                }
            }
        }
    }
}

async fn carry(mut client: TcpStream, real: u16, received: &[u8]) -> std::io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", real)).await?;
    server.write_all(received).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
}

async fn welcome(mut client: TcpStream) -> std::io::Result<()> {
    let mut out = BytesMut::new();
    write::authentication_ok(&mut out);
    for (name, value) in [("server_version", "15.0"), ("in_hot_standby", "on"), ("client_encoding", "UTF8")] {
        write::parameter_status(&mut out, name.as_bytes(), value.as_bytes()).expect("it is short");
    }
    let key = SecretKey::new(&[7; 4]).expect("4 bytes are valid");
    write::backend_key_data(&mut out, ProcessId(1), &key);
    write::ready_for_query(&mut out, TransactionStatus::Idle);
    client.write_all(&out).await?;
    drop(out);
    let mut ignored = [0; 64];
    while client.read(&mut ignored).await? > 0 {}
    Ok(())
}
