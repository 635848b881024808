//! The first packets of a connection: encryption requests, a cancel request, or the startup packet.

use std::io::ErrorKind;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use trunkline_codec::startup::{CancelRequest, FirstPacket, StartupError, StartupMessage, decode_first};
use trunkline_net::Transport;
use trunkline_telemetry::metrics::{HandshakeResult, ThreadMetrics, TlsLeg};
use trunkline_tls::accept::{ALPN, Acceptor};

use crate::errors::Refusal;

/// Bytes read from the socket at once: a startup packet is rarely longer.
const READ_BYTES: usize = 1024;

/// The answers to SSLRequest and GSSENCRequest.
const ENCRYPTION: &[u8] = b"S";
const NO_ENCRYPTION: &[u8] = b"N";

/// The first byte of a TLS handshake. Source: RFC 8446, 5.1.
const TLS_HANDSHAKE: u8 = 0x16;

/// What the first packets of a client ask for.
#[derive(Debug)]
pub(crate) enum StartupOutcome {
    /// A session. `read_ahead` are bytes after the startup packet.
    Startup { startup: StartupMessage, read_ahead: BytesMut },
    /// The cancellation of another session's query.
    Cancel(CancelRequest),
    /// Nothing: it connected and closed, as a port check does.
    NoBytes,
    /// It closed, or the connection broke, after its first bytes.
    ClientGone,
    /// Something that PostgreSQL closes without a message.
    CloseSilently,
    /// Something that is refused with an error.
    Refused(Refusal),
    /// The TLS handshake failed, for this reason.
    TlsFailed(String),
}

/// The encryption requests that have come. Each is answered once; PostgreSQL takes a second one for a protocol
/// version, and so does the proxy.
#[derive(Debug, Default, PartialEq, Eq)]
struct EncryptionRequests {
    ssl: bool,
    gssenc: bool,
}

/// Reads up to the startup packet of at most `packet_bytes_max` bytes and answers what comes before it.
pub(crate) async fn read_startup(
    stream: &mut Transport,
    packet_bytes_max: usize,
    tls: Option<&Acceptor>,
    metrics: &ThreadMetrics,
) -> StartupOutcome {
    let mut buffer = BytesMut::new();
    let mut asked = EncryptionRequests::default();
    loop {
        if buffer.first() == Some(&TLS_HANDSHAKE) && asked == EncryptionRequests::default() {
            // TLS without a request, as of PostgreSQL 17.
            let Some(tls) = tls else { return StartupOutcome::CloseSilently };
            if let Err(failure) = begin_tls(stream, tls, &buffer, metrics).await {
                return failure;
            }
            if !stream.names_protocol(ALPN) {
                let reason = "direct TLS without the application protocol \"postgresql\" (ALPN)";
                return StartupOutcome::TlsFailed(reason.to_owned());
            }
            buffer.clear();
            asked = EncryptionRequests { ssl: true, gssenc: true };
        }
        let (packet, consumed) = match decode_first(&buffer) {
            Ok(Some(decoded)) => decoded,
            Ok(None) if announced_length(&buffer) > packet_bytes_max => return StartupOutcome::CloseSilently,
            Ok(None) => match read_more(stream, &mut buffer).await {
                0 if buffer.is_empty() && asked == EncryptionRequests::default() => {
                    return StartupOutcome::NoBytes;
                }
                0 => return StartupOutcome::ClientGone,
                _ => continue,
            },
            Err(error) => return refuse(&error),
        };
        buffer.advance(consumed);
        let (was_asked, name, code) = match packet {
            FirstPacket::Startup(startup) => return StartupOutcome::Startup { startup, read_ahead: buffer },
            FirstPacket::Cancel(request) => return StartupOutcome::Cancel(request),
            FirstPacket::SslRequest => (&mut asked.ssl, "SSL", 5679),
            FirstPacket::GssEncRequest => (&mut asked.gssenc, "GSSAPI encryption", 5680),
        };
        if std::mem::replace(was_asked, true) {
            let message = format!("unsupported frontend protocol 1234.{code}: server supports 3.0 to 3.2");
            return StartupOutcome::Refused(Refusal::Unsupported { message });
        }
        // Unencrypted bytes after the request could be an injected startup packet (CVE-2021-23214).
        if !buffer.is_empty() {
            let message = format!("received unencrypted data after {name} request");
            return StartupOutcome::Refused(Refusal::Protocol { message });
        }
        let offered = tls.filter(|_| name == "SSL");
        let answer = if offered.is_some() { ENCRYPTION } else { NO_ENCRYPTION };
        if stream.write_all(answer).await.is_err() {
            return StartupOutcome::ClientGone;
        }
        if let Some(tls) = offered {
            if let Err(failure) = begin_tls(stream, tls, b"", metrics).await {
                return failure;
            }
            asked = EncryptionRequests { ssl: true, gssenc: true };
        }
    }
}

async fn begin_tls(
    stream: &mut Transport,
    tls: &Acceptor,
    came: &[u8],
    metrics: &ThreadMetrics,
) -> Result<(), StartupOutcome> {
    let mut handshake = CountedHandshake { metrics, result: HandshakeResult::Abandoned };
    let began = match tls.accept() {
        Ok(records) => stream.begin_tls(records, came).await,
        Err(error) => Err(std::io::Error::new(ErrorKind::InvalidData, error.to_string())),
    };
    match began {
        Ok(()) => {
            handshake.result = HandshakeResult::Completed;
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            handshake.result = HandshakeResult::Failed;
            Err(StartupOutcome::TlsFailed(error.to_string()))
        }
        Err(_broken) => Err(StartupOutcome::ClientGone),
    }
}

/// A handshake with a client, counted when dropped: the login that it is part of may end before it does.
struct CountedHandshake<'a> {
    metrics: &'a ThreadMetrics,
    result: HandshakeResult,
}

impl Drop for CountedHandshake<'_> {
    fn drop(&mut self) {
        self.metrics.handshake_ended(TlsLeg::Client, self.result);
    }
}

/// The length word, once it has arrived.
fn announced_length(buffer: &[u8]) -> usize {
    buffer.first_chunk::<4>().map_or(0, |word| u32::from_be_bytes(*word) as usize)
}

/// The number of bytes read; 0 at the end of the stream and for an error.
async fn read_more(stream: &mut Transport, buffer: &mut BytesMut) -> usize {
    buffer.reserve(READ_BYTES);
    stream.read_buf(buffer).await.unwrap_or_else(|error| {
        tracing::debug!(%error, "connection broke before its startup packet");
        0
    })
}

fn refuse(error: &StartupError) -> StartupOutcome {
    match error.refusal() {
        trunkline_codec::refusal::ConnectionRefusal::Silent => StartupOutcome::CloseSilently,
        said => StartupOutcome::Refused(Refusal::Startup(said)),
    }
}

#[cfg(test)]
mod tests;
