//! One client.

use std::io;

use bytes::BytesMut;
use trunkline_codec::backend::{BackendTag, ErrorFields};
use trunkline_codec::frontend::Target;
use trunkline_codec::scan::{Piece, ScanPhase, Scanner};
use trunkline_codec::startup::{ProtocolVersion, StartupMessage};
use trunkline_codec::write;

use super::Endpoint;
use super::endpoint::Stream;

/// Bytes read at once: as many as a large answer needs to come quickly.
const READ_BYTES: usize = 256 * 1024;

/// How a statement is sent, in pgbench's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Query.
    Simple,
    /// Parse, Bind, Describe, Execute, Sync.
    Extended,
    /// Bind, Describe, Execute, Sync of a statement parsed once.
    Prepared,
}

/// A session that is logged in. It logs in where nothing is asked for (`trust`).
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    scanner: Scanner,
    request: BytesMut,
    /// Room for one read; small while the answers are.
    buffer: Vec<u8>,
    kept: usize,
}

impl Client {
    /// Connects, logs in and, for [`Mode::Prepared`], parses `sql`.
    ///
    /// # Errors
    /// When the server refuses, or hangs up.
    pub async fn connect(endpoint: &Endpoint, mode: Mode, sql: &str) -> io::Result<Self> {
        let mut client = Client {
            stream: endpoint.connect().await?,
            scanner: Scanner::backend(),
            request: request(mode, sql)?,
            buffer: vec![0; 1024],
            kept: 0,
        };
        let parameters = [(&b"user"[..], &b"bench"[..]), (b"database", b"bench")];
        let startup = StartupMessage::new(ProtocolVersion::V3_0, parameters).map_err(io::Error::other)?;
        let mut out = BytesMut::new();
        startup.encode(&mut out);
        client.stream.write_all(&out).await?;
        client.answer().await?;
        client.scanner.set_phase(ScanPhase::Normal);
        if mode == Mode::Prepared {
            out.clear();
            write::parse(&mut out, b"s1", sql.as_bytes(), &[]).map_err(io::Error::other)?;
            write::sync(&mut out);
            client.stream.write_all(&out).await?;
            client.answer().await?;
        }
        Ok(client)
    }

    /// Sends the statement and awaits its answer, of so many bytes.
    ///
    /// # Errors
    /// When the server answers with an error, or hangs up.
    pub async fn query(&mut self) -> io::Result<u64> {
        self.stream.write_all(&self.request).await?;
        self.answer().await
    }

    /// Says goodbye.
    ///
    /// # Errors
    /// When the server has hung up before.
    pub async fn terminate(mut self) -> io::Result<()> {
        let mut out = BytesMut::new();
        write::terminate(&mut out);
        self.stream.write_all(&out).await
    }

    /// Reads up to the next ReadyForQuery.
    async fn answer(&mut self) -> io::Result<u64> {
        let mut total = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[self.kept..]).await?;
            if read == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server hung up"));
            }
            total += read as u64;
            let filled = self.kept + read;
            let mut at = 0;
            let mut is_ready = false;
            while let Some(piece) =
                self.scanner.next(&self.buffer[..filled], &mut at).map_err(io::Error::other)?
            {
                let Piece::Message { tag, body } = piece else { continue };
                match BackendTag::from_byte(tag) {
                    BackendTag::ReadyForQuery => is_ready = true,
                    BackendTag::ErrorResponse => {
                        let message = ErrorFields::new(body).message().unwrap_or_default();
                        return Err(io::Error::other(String::from_utf8_lossy(message).into_owned()));
                    }
                    _of_no_interest => {}
                }
            }
            self.buffer.copy_within(at..filled, 0);
            self.kept = filled - at;
            if is_ready {
                return Ok(total);
            }
            if filled == self.buffer.len() && filled < READ_BYTES {
                self.buffer.resize(READ_BYTES, 0);
            }
        }
    }
}

/// The messages of one statement.
///
/// # Errors
/// When it holds a NUL.
pub fn request(mode: Mode, sql: &str) -> io::Result<BytesMut> {
    let mut out = BytesMut::new();
    let name: &[u8] = if mode == Mode::Prepared { b"s1" } else { b"" };
    match mode {
        Mode::Simple => {
            write::query(&mut out, sql.as_bytes()).map_err(io::Error::other)?;
            return Ok(out);
        }
        Mode::Extended => write::parse(&mut out, name, sql.as_bytes(), &[]).map_err(io::Error::other)?,
        Mode::Prepared => {}
    }
    write::bind(&mut out, b"", name, []).map_err(io::Error::other)?;
    write::describe(&mut out, Target::Portal, b"").map_err(io::Error::other)?;
    write::execute(&mut out, b"", 0).map_err(io::Error::other)?;
    write::sync(&mut out);
    Ok(out)
}
