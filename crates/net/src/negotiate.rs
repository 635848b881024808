//! Asking a server for TLS.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use trunkline_tls::Records;

use crate::Transport;

/// SSLRequest. Source: PostgreSQL, protocol-message-formats.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// What a server says to the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsAnswer {
    /// It speaks TLS from now on.
    Tls,
    /// It does not, and goes on without.
    Plain,
}

/// Asks for TLS, and begins it if the server agrees.
///
/// One byte is read and no more: what a stranger adds to the answer is read as TLS, and fails there.
///
/// # Errors
/// What the kernel says, an end, an answer that is none, or why the handshake failed (`InvalidData`).
pub async fn ask_for_tls(stream: &mut Transport, records: Records) -> io::Result<TlsAnswer> {
    stream.write_all(&SSL_REQUEST).await?;
    match stream.read_u8().await? {
        b'S' => stream.begin_tls(records, b"").await.map(|()| TlsAnswer::Tls),
        b'N' => Ok(TlsAnswer::Plain),
        // Of a server that is no PostgreSQL, or has no room for the connection.
        other => {
            Err(io::Error::other(format!("the server answers {:?} to a request for TLS", char::from(other))))
        }
    }
}
