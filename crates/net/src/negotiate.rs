//! Asking a server for TLS.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use trunkline_tls::connect::{Negotiation, StartTlsError, begun_unasked, no_protocol, wrong_answer};
use trunkline_tls::{ALPN, Records, SSL_REQUEST};

use crate::Transport;

/// What a server says to the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsAnswer {
    /// It speaks TLS from now on.
    Tls,
    /// It does not, and goes on without.
    Plain,
}

/// Begins TLS, after asking for it unless `negotiation` says otherwise.
///
/// One byte is read and no more: what a stranger adds to the answer is read as TLS, and fails there.
///
/// # Errors
/// What the kernel says, an end or an answer that is none; or why the handshake failed.
pub async fn negotiate_tls(
    stream: &mut Transport,
    records: Records,
    negotiation: Negotiation,
) -> Result<TlsAnswer, StartTlsError> {
    if negotiation == Negotiation::Direct {
        stream.begin_tls(records, b"").await.map_err(begun_unasked)?;
        return match stream.names_protocol(ALPN) {
            true => Ok(TlsAnswer::Tls),
            false => Err(StartTlsError::Handshake(no_protocol())),
        };
    }
    stream.write_all(&SSL_REQUEST).await.map_err(StartTlsError::Unanswered)?;
    match stream.read_u8().await.map_err(StartTlsError::Unanswered)? {
        b'S' => {
            stream.begin_tls(records, b"").await.map_err(StartTlsError::Handshake)?;
            Ok(TlsAnswer::Tls)
        }
        b'N' => Ok(TlsAnswer::Plain),
        other => Err(StartTlsError::Unanswered(wrong_answer(other))),
    }
}
