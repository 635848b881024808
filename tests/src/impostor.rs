//! A server that lets everybody in and does nothing, so that thousands of sessions cost no PostgreSQL processes.

use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::BytesMut;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use trunkline_cluster::{MONITOR_ROLE, PortLease};
use trunkline_codec::backend::TransactionStatus;
use trunkline_codec::ids::{ProcessId, SecretKey};
use trunkline_codec::startup::{FirstPacket, decode_first};
use trunkline_codec::write;

use crate::{Certificates, tls_is_on};

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
        let tls = tls_is_on().then(acceptor);
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime starts").block_on(async {
                tokio::select! { () = accept(listener, real, tls) => {}, _ = stopped => {} }
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

/// What a server of the suites presents.
fn acceptor() -> TlsAcceptor {
    let [certificate, key] = Certificates::shared().server();
    let certificate = CertificateDer::from_pem_file(certificate).expect("it was written");
    let key = PrivateKeyDer::from_pem_file(key).expect("it was written");
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key);
    TlsAcceptor::from(Arc::new(config.expect("they belong together")))
}

async fn accept(listener: std::net::TcpListener, real: u16, tls: Option<TlsAcceptor>) {
    let listener = TcpListener::from_std(listener).expect("it does not block");
    while let Ok((client, _)) = listener.accept().await {
        let tls = tls.clone();
        // A client that leaves in the middle is no concern of an impostor.
        tokio::spawn(async move { drop(begin(client, real, tls).await) });
    }
}

/// Answers requests for encryption until TLS or the startup packet begins.
async fn begin(mut client: TcpStream, real: u16, tls: Option<TlsAcceptor>) -> std::io::Result<()> {
    let mut received = BytesMut::with_capacity(1024);
    loop {
        let Some((packet, length)) = first(&mut client, &mut received).await? else { return Ok(()) };
        match (packet, &tls) {
            (FirstPacket::SslRequest, Some(tls)) => {
                client.write_all(b"S").await?;
                received.clear();
                let mut client = tls.accept(client).await?;
                let Some((packet, _)) = first(&mut client, &mut received).await? else { return Ok(()) };
                return serve(client, real, packet, &received).await;
            }
            (FirstPacket::SslRequest | FirstPacket::GssEncRequest, _) => {
                let _answered = received.split_to(length);
                client.write_all(b"N").await?;
            }
            (packet, _) => return serve(client, real, packet, &received).await,
        }
    }
}

/// The client's next packet before a session, which stays in `received`, with its length. `None` when it leaves.
async fn first(
    client: &mut (impl AsyncRead + Unpin),
    received: &mut BytesMut,
) -> std::io::Result<Option<(FirstPacket, usize)>> {
    loop {
        match decode_first(received) {
            Ok(Some(packet)) => return Ok(Some(packet)),
            Ok(None) if client.read_buf(received).await? > 0 => {}
            Ok(None) | Err(_) => return Ok(None),
        }
    }
}

async fn serve(
    client: impl AsyncRead + AsyncWrite + Unpin,
    real: u16,
    packet: FirstPacket,
    received: &[u8],
) -> std::io::Result<()> {
    match packet {
        FirstPacket::Startup(startup) if startup.user() == MONITOR_ROLE.as_bytes() => {
            carry(client, real, received).await
        }
        FirstPacket::Startup(_) => welcome(client).await,
        FirstPacket::Cancel(_) | FirstPacket::SslRequest | FirstPacket::GssEncRequest => Ok(()),
    }
}

async fn carry(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    real: u16,
    received: &[u8],
) -> std::io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", real)).await?;
    server.write_all(received).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
}

async fn welcome(mut client: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
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
