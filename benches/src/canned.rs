//! A PostgreSQL of canned answers: any login succeeds, every statement has the same rows.
//!
//! It answers the health probe as a primary, so that Trunkline finds it UP, and what is asked of it before sessions may
//! share its connections. A statement may ask for another answer by its text: `/* rows=100000 bytes=1024 */`.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio_rustls::TlsAcceptor;
use trunkline_codec::backend::TransactionStatus;
use trunkline_codec::frontend::{Describe, FrontendTag, Target};
use trunkline_codec::ids::{ProcessId, SecretKey};
use trunkline_codec::scan::{Piece, ScanPhase, Scanner};
use trunkline_codec::startup::{FirstPacket, decode_first};
use trunkline_codec::write::{self, EncodeError};

use self::asked::{Table, defaults_answer, health_answer};

mod asked;

/// What a server of PostgreSQL 15 says of itself after a login.
const PARAMETERS: [(&str, &str); 13] = [
    ("application_name", ""),
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("default_transaction_read_only", "off"),
    ("in_hot_standby", "off"),
    ("integer_datetimes", "on"),
    ("IntervalStyle", "postgres"),
    ("is_superuser", "on"),
    ("server_encoding", "UTF8"),
    ("server_version", "15.0"),
    ("session_authorization", "bench"),
    ("standard_conforming_strings", "on"),
    ("TimeZone", "UTC"),
];

/// Bytes of an SSLRequest; a startup packet has no fewer.
const FIRST_BYTES: usize = 8;

/// What begins a handshake. Source: RFC 8446, 5.1.
const TLS_HANDSHAKE: u8 = 0x16;

/// Bytes of rows written at once: a longer answer repeats them.
const BATCH_BYTES: usize = 64 * 1024;

/// What a statement is answered with.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Rows.
    pub rows: usize,
    /// Bytes of the one value in each.
    pub row_bytes: usize,
}

/// How the server behaves.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The answer to a statement that does not say.
    pub shape: Shape,
    /// How long each answer takes. Rounded up to milliseconds by the timer; zero answers at once.
    pub delay: Duration,
    /// Answers are written in pieces of so many bytes; zero writes them whole.
    pub piece_bytes: usize,
}

/// Serves every connection of `listener`, for ever. Clients may have TLS if there is `tls`.
///
/// # Errors
/// When no connection can be accepted any more.
pub async fn serve(listener: TcpListener, settings: Settings, tls: Option<TlsAcceptor>) -> io::Result<()> {
    for process_id in 1.. {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        match tls.clone() {
            None => begin(stream, settings, process_id),
            Some(tls) => begin_asked(stream, settings, process_id, tls),
        }
    }
    Ok(())
}

/// The same over a Unix socket.
///
/// # Errors
/// When no connection can be accepted any more.
pub async fn serve_socket(listener: UnixListener, settings: Settings) -> io::Result<()> {
    for process_id in 1.. {
        let (stream, _) = listener.accept().await?;
        begin(stream, settings, process_id);
    }
    Ok(())
}

fn begin(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, settings: Settings, process_id: i32) {
    tokio::spawn(async move {
        // A client that goes away is how every session ends.
        let _gone = Connection::new(stream, settings).run(process_id).await;
    });
}

/// As the client wants it: TLS at once, after an SSLRequest, or none.
fn begin_asked(mut stream: TcpStream, settings: Settings, process_id: i32, tls: TlsAcceptor) {
    tokio::spawn(async move {
        let mut first = [0; FIRST_BYTES];
        stream.peek(&mut first[..1]).await?;
        if first[0] != TLS_HANDSHAKE {
            stream.read_exact(&mut first).await?;
            if !matches!(decode_first(&first), Ok(Some((FirstPacket::SslRequest, _)))) {
                let mut connection = Connection::new(stream, settings);
                connection.input.extend_from_slice(&first);
                return connection.run(process_id).await;
            }
            stream.write_all(b"S").await?;
        }
        let stream = tls.accept(stream).await?;
        Connection::new(stream, settings).run(process_id).await
    });
}

struct Connection<S> {
    stream: S,
    settings: Settings,
    input: BytesMut,
    output: BytesMut,
    /// The statement parsed last, for the Execute behind it.
    prepared: Shape,
    /// What it is answered with instead, if it asks for defaults.
    asked: Option<Table>,
    answer: Answer,
}

/// The answer given last: nearly always the next one, too.
struct Answer {
    rows: usize,
    row_bytes: usize,
    /// RowDescription.
    head: BytesMut,
    /// As many rows as fit [`BATCH_BYTES`], at least one.
    batch: BytesMut,
    batch_rows: usize,
    row_length: usize,
    /// CommandComplete.
    complete: BytesMut,
}

impl Answer {
    fn of(shape: Shape) -> Self {
        let mut head = BytesMut::new();
        write::row_description(&mut head, [&b"?column?"[..]]).expect("one short name");
        let value = vec![b'1'; shape.row_bytes];
        let mut batch = BytesMut::new();
        write::data_row(&mut batch, [Some(&value[..])]).expect("within a message's limit");
        let row_length = batch.len();
        let row = batch.clone();
        let batch_rows = (BATCH_BYTES / row_length).clamp(1, shape.rows.max(1));
        (1..batch_rows).for_each(|_| batch.extend_from_slice(&row));
        let mut complete = BytesMut::new();
        write::command_complete(&mut complete, format!("SELECT {}", shape.rows).as_bytes())
            .expect("a short tag");
        Answer { rows: shape.rows, row_bytes: shape.row_bytes, head, batch, batch_rows, row_length, complete }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    fn new(stream: S, settings: Settings) -> Self {
        Connection {
            stream,
            settings,
            input: BytesMut::with_capacity(8 * 1024),
            output: BytesMut::with_capacity(8 * 1024),
            prepared: settings.shape,
            asked: None,
            answer: Answer::of(settings.shape),
        }
    }

    async fn run(mut self, process_id: i32) -> io::Result<()> {
        if !self.log_in(process_id).await? {
            return Ok(());
        }
        let mut scanner = Scanner::frontend();
        scanner.set_phase(ScanPhase::Normal);
        loop {
            let input = self.input.split();
            let mut at = 0;
            while let Some(piece) = scanner.next(&input, &mut at).map_err(io::Error::other)? {
                let (tag, body) = match piece {
                    Piece::Message { tag, body } | Piece::Start { tag, body, .. } => (tag, body),
                    Piece::More { .. } => continue,
                };
                if !self.answer_message(FrontendTag::from_byte(tag), body).await? {
                    return Ok(());
                }
            }
            self.input = input;
            let _consumed = self.input.split_to(at);
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Ok(());
            }
        }
    }

    /// Whether the client is logged in now.
    async fn log_in(&mut self, process_id: i32) -> io::Result<bool> {
        loop {
            match decode_first(&self.input).map_err(io::Error::other)? {
                None => {
                    if self.stream.read_buf(&mut self.input).await? == 0 {
                        return Ok(false);
                    }
                }
                Some((FirstPacket::SslRequest | FirstPacket::GssEncRequest, length)) => {
                    let _consumed = self.input.split_to(length);
                    self.stream.write_all(b"N").await?;
                }
                Some((FirstPacket::Cancel(_), _)) => return Ok(false),
                Some((FirstPacket::Startup(_), length)) => {
                    let _consumed = self.input.split_to(length);
                    self.welcome(process_id);
                    self.flush().await?;
                    return Ok(true);
                }
            }
        }
    }

    fn welcome(&mut self, process_id: i32) {
        let out = &mut self.output;
        write::authentication_ok(out);
        for (name, value) in PARAMETERS {
            write::parameter_status(out, name.as_bytes(), value.as_bytes()).expect("short and without NUL");
        }
        let key = SecretKey::new(&process_id.to_be_bytes()).expect("four bytes are enough");
        write::backend_key_data(out, ProcessId(process_id), &key);
        write::ready_for_query(out, TransactionStatus::Idle);
    }

    /// Answers one message; whether the session goes on.
    async fn answer_message(&mut self, tag: FrontendTag, body: &[u8]) -> io::Result<bool> {
        match tag {
            FrontendTag::Query => {
                self.query(body).await?;
                self.ready().await?;
            }
            FrontendTag::Parse => {
                self.prepared = shape_asked(body).unwrap_or(self.settings.shape);
                let may_ask = body.contains(&b'_');
                self.asked = may_ask.then(|| defaults_answer(&String::from_utf8_lossy(body))).flatten();
                self.empty(b'1');
            }
            FrontendTag::Bind => self.empty(b'2'),
            FrontendTag::Close => self.empty(b'3'),
            FrontendTag::Describe => {
                let describe = Describe::parse(body).map_err(io::Error::other)?;
                if describe.kind == Target::Statement {
                    self.output.extend_from_slice(b"t\0\0\0\x06\0\0");
                }
                match self.asked {
                    Some((names, _)) => self.columns(names).map_err(io::Error::other)?,
                    None => self.output.extend_from_slice(&self.answer.head),
                }
            }
            FrontendTag::Execute => match self.asked {
                Some((_, rows)) => self.all(rows).map_err(io::Error::other)?,
                None => self.rows(self.prepared).await?,
            },
            FrontendTag::Sync => self.ready().await?,
            FrontendTag::Flush => self.flush().await?,
            FrontendTag::Terminate => return Ok(false),
            FrontendTag::FunctionCall
            | FrontendTag::CopyData
            | FrontendTag::CopyDone
            | FrontendTag::CopyFail
            | FrontendTag::Password
            | FrontendTag::Unknown(_) => {}
        }
        Ok(true)
    }

    async fn query(&mut self, body: &[u8]) -> io::Result<()> {
        let sql = String::from_utf8_lossy(body.strip_suffix(b"\0").unwrap_or(body));
        // The cheap test first, as everywhere here.
        let asked =
            if sql.contains("pg_") { health_answer(&sql).or_else(|| defaults_answer(&sql)) } else { None };
        if let Some(table) = asked {
            return self.table(table).map_err(io::Error::other);
        }
        let verb = sql.split_ascii_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        if verb.is_empty() {
            write::empty_query_response(&mut self.output);
            return Ok(());
        }
        if verb != "SELECT" {
            return write::command_complete(&mut self.output, verb.as_bytes()).map_err(io::Error::other);
        }
        let shape = shape_asked(body).unwrap_or(self.settings.shape);
        self.use_answer(shape);
        self.output.extend_from_slice(&self.answer.head);
        self.rows(shape).await
    }

    fn table(&mut self, (names, rows): Table) -> Result<(), EncodeError> {
        self.columns(names)?;
        self.all(rows)
    }

    fn columns(&mut self, names: &[&str]) -> Result<(), EncodeError> {
        write::row_description(&mut self.output, names.iter().map(|name| name.as_bytes()))
    }

    fn all(&mut self, rows: &[&[&str]]) -> Result<(), EncodeError> {
        for row in rows {
            write::data_row(&mut self.output, row.iter().map(|value| Some(value.as_bytes())))?;
        }
        write::command_complete(&mut self.output, format!("SELECT {}", rows.len()).as_bytes())
    }

    fn use_answer(&mut self, shape: Shape) {
        if (self.answer.rows, self.answer.row_bytes) != (shape.rows, shape.row_bytes) {
            self.answer = Answer::of(shape);
        }
    }

    async fn rows(&mut self, shape: Shape) -> io::Result<()> {
        self.use_answer(shape);
        let mut left = shape.rows;
        while left > 0 {
            let rows = left.min(self.answer.batch_rows);
            self.output.extend_from_slice(&self.answer.batch[..rows * self.answer.row_length]);
            left -= rows;
            if self.output.len() >= BATCH_BYTES {
                self.flush().await?;
            }
        }
        self.output.extend_from_slice(&self.answer.complete);
        Ok(())
    }

    fn empty(&mut self, tag: u8) {
        self.output.extend_from_slice(&[tag, 0, 0, 0, 4]);
    }

    async fn ready(&mut self) -> io::Result<()> {
        write::ready_for_query(&mut self.output, TransactionStatus::Idle);
        if !self.settings.delay.is_zero() {
            tokio::time::sleep(self.settings.delay).await;
        }
        self.flush().await
    }

    async fn flush(&mut self) -> io::Result<()> {
        let whole = self.output.len().max(1);
        let piece = if self.settings.piece_bytes == 0 { whole } else { self.settings.piece_bytes };
        for bytes in self.output.chunks(piece) {
            self.stream.write_all(bytes).await?;
        }
        self.stream.flush().await?;
        self.output.clear();
        Ok(())
    }
}

/// `/* rows=N bytes=M */` in a statement.
fn shape_asked(body: &[u8]) -> Option<Shape> {
    // Looked for at every statement: the cheap test first.
    body.contains(&b'*').then_some(())?;
    let text = String::from_utf8_lossy(body);
    let number = |key: &str| {
        let rest = text.split_once(key)?.1;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    Some(Shape { rows: number("rows=")?, row_bytes: number("bytes=")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_may_ask_for_its_answer() {
        let shape = shape_asked(b"SELECT 1 /* rows=100 bytes=1024 */\0").expect("it asks");
        assert_eq!((shape.rows, shape.row_bytes), (100, 1024));
        assert!(shape_asked(b"SELECT 1\0").is_none());
        assert!(shape_asked(b"SELECT * FROM t\0").is_none());
    }
}
