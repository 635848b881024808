//! A server that says what a test wants: it lets everybody in and answers SQL by what is in it.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use trunkline_cluster::PortLease;
use trunkline_codec::backend::TransactionStatus;
use trunkline_codec::ids::{ProcessId, SecretKey};
use trunkline_codec::sqlstate::SqlState;
use trunkline_codec::startup::{FirstPacket, StartupMessage, decode_first};
use trunkline_codec::write::{self, ErrorReport};

/// A row of an answer: columns and their values, `None` is NULL.
pub type FakeRow = Vec<(String, Option<String>)>;

/// What one thing in a statement comes to.
#[derive(Clone, Debug)]
pub enum FakeSays {
    /// These columns; all that a statement comes to are put beside each other.
    Rows(Vec<FakeRow>),
    /// An error with this SQLSTATE.
    Refuses(&'static str),
}

/// What a fake does.
#[derive(Clone, Debug, Default)]
pub struct FakeScript {
    /// What it knows, by what is found in a statement. A function of which nothing here is a part does not exist.
    pub says: Vec<(String, FakeSays)>,
    /// Whether it refuses a startup packet with `options`, as many poolers do.
    pub options: FakeOptions,
}

/// What a fake does with a startup packet that has `options`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FakeOptions {
    /// It lets it in.
    #[default]
    Accepted,
    /// It refuses it.
    Refused,
}

impl FakeScript {
    /// What every server has: a version, a clock, a role.
    #[must_use]
    pub fn server(is_standby: bool) -> Self {
        let rec = if is_standby { "t" } else { "f" };
        let none: [(&str, &str); 0] = [];
        Self::default()
            .says("server_version_num", [("version", "150004")])
            .says("clock_timestamp(", [("now_us", "1700000000000000")])
            .says("pg_is_in_recovery(", [("rec", rec)])
            .says("pg_postmaster_start_time(", [("started_us", "1690000000000000")])
            .says("pg_has_role(", [("can_see_all", "t")])
            .says("pg_settings", [("has_rds_tools", "f")])
            .says("current_setting('recovery_min_apply_delay", [("apply_delay", "0")])
            .says("substr(", none)
            .says("string_agg(", none)
    }

    /// Adds what it says to what is found in a statement, in the place of what it said to that.
    #[must_use]
    pub fn says<const N: usize>(self, needle: &str, columns: [(&str, &str); N]) -> Self {
        let row = columns.map(|(name, value)| (name.to_owned(), Some(value.to_owned()))).to_vec();
        self.with(needle, FakeSays::Rows(vec![row]))
    }

    /// Adds an error.
    #[must_use]
    pub fn refuses(self, needle: &str, code: &'static str) -> Self {
        self.with(needle, FakeSays::Refuses(code))
    }

    /// Adds anything.
    #[must_use]
    pub fn with(mut self, needle: &str, says: FakeSays) -> Self {
        self.says.retain(|(known, _)| known != needle);
        self.says.push((needle.to_owned(), says));
        self
    }

    fn answer(&self, sql: &str, out: &mut BytesMut) {
        let asked = || self.says.iter().filter(|(needle, _)| sql.contains(needle.as_str()));
        let refused = asked().find_map(|(_, says)| match says {
            FakeSays::Refuses(code) => Some(*code),
            FakeSays::Rows(_) => None,
        });
        if let Some(code) = refused {
            return error(code, "it is refused", out);
        }
        if let Some(unknown) = functions(sql).find(|name| !self.knows(name)) {
            return error("42883", &format!("function {unknown}) does not exist"), out);
        }
        if sql.starts_with("SET ") {
            return write::command_complete(out, b"SET").expect("it is short");
        }
        let mut rows: Vec<FakeRow> = vec![Vec::new()];
        for (_, says) in asked() {
            let FakeSays::Rows(more) = says else { continue };
            let beside = |row: &FakeRow| -> Vec<FakeRow> {
                more.iter().map(|columns| [row.clone(), columns.clone()].concat()).collect()
            };
            rows = rows.iter().flat_map(beside).collect();
        }
        let Some(first) = rows.first() else { return };
        let names: Vec<&[u8]> = first.iter().map(|(name, _)| name.as_bytes()).collect();
        write::row_description(out, names).expect("a few columns");
        for row in &rows {
            let values: Vec<_> = row.iter().map(|(_, value)| value.as_deref().map(str::as_bytes)).collect();
            write::data_row(out, values).expect("short values");
        }
        write::command_complete(out, format!("SELECT {}", rows.len()).as_bytes()).expect("it is short");
    }

    fn knows(&self, function: &str) -> bool {
        self.says.iter().any(|(needle, _)| needle.contains(function) || function.contains(needle.as_str()))
    }
}

/// The functions that a statement calls by their full name, as `name(`.
fn functions(sql: &str) -> impl Iterator<Item = &str> {
    let after = ["pg_catalog.", "rds_tools."].map(|schema| sql.split(schema).skip(1));
    after.into_iter().flatten().filter_map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
        rest[end..].starts_with('(').then(|| &rest[..=end])
    })
}

fn error(code: &str, message: &str, out: &mut BytesMut) {
    let code = SqlState::parse(code.as_bytes()).expect("a code of five characters");
    write::error_response(out, &ErrorReport::error(code, message));
}

/// A fake on a port of its own. Ends when dropped.
#[derive(Debug)]
pub struct FakeServer {
    lease: PortLease,
    script: Arc<Mutex<FakeScript>>,
    served: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl FakeServer {
    /// Starts one.
    ///
    /// # Panics
    /// When no port is free.
    #[must_use]
    pub fn start(script: FakeScript) -> Self {
        let lease = PortLease::take().expect("a port is free");
        let mut fake = Self { lease, script: Arc::new(Mutex::new(script)), served: None };
        fake.listen();
        fake
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.lease.port()
    }

    /// From now on it answers by `script`, on the connections that it has, too.
    pub fn set(&self, script: FakeScript) {
        *self.script.lock().unwrap_or_else(PoisonError::into_inner) = script;
    }

    /// Crashes: every connection ends, and nothing listens.
    pub fn crash(&mut self) {
        if let Some((stop, thread)) = self.served.take() {
            drop(stop);
            let _ended = thread.join();
        }
    }

    /// Listens, after a crash.
    ///
    /// # Panics
    /// When its port is taken.
    pub fn listen(&mut self) {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("it is a socket");
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], self.port()));
        socket.bind(&address.into()).expect("the port is leased");
        socket.listen(128).expect("it is bound");
        socket.set_nonblocking(true).expect("it is a socket");
        let (stop, stopped) = oneshot::channel();
        let script = Arc::clone(&self.script);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime starts").block_on(async {
                tokio::select! { () = accept(socket.into(), script) => {}, _ = stopped => {} }
            });
        });
        self.served = Some((stop, thread));
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.crash();
    }
}

async fn accept(listener: std::net::TcpListener, script: Arc<Mutex<FakeScript>>) {
    let listener = TcpListener::from_std(listener).expect("it does not block");
    while let Ok((client, _)) = listener.accept().await {
        let script = Arc::clone(&script);
        // A client that leaves in the middle is no concern of a fake.
        tokio::spawn(async move { drop(receive(client, &script).await) });
    }
}

async fn receive(mut client: TcpStream, script: &Mutex<FakeScript>) -> std::io::Result<()> {
    let mut received = BytesMut::with_capacity(1024);
    loop {
        match decode_first(&received) {
            Ok(Some((FirstPacket::Startup(startup), length))) => {
                if !welcome(&mut client, &startup, script).await? {
                    return Ok(());
                }
                received.advance(length);
                return talk(client, received, script).await;
            }
            Ok(Some((FirstPacket::SslRequest | FirstPacket::GssEncRequest, length))) => {
                received.advance(length);
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

/// Whether the client is in.
async fn welcome(
    client: &mut TcpStream,
    startup: &StartupMessage,
    script: &Mutex<FakeScript>,
) -> std::io::Result<bool> {
    let mut out = BytesMut::new();
    let options = script.lock().unwrap_or_else(PoisonError::into_inner).options;
    if options == FakeOptions::Refused && startup.get("options").is_some() {
        let code = SqlState::parse(b"08P01").expect("a code of five characters");
        let report = ErrorReport::fatal(code, "unsupported startup parameter: options");
        write::error_response(&mut out, &report);
        client.write_all(&out).await?;
        return Ok(false);
    }
    write::authentication_ok(&mut out);
    for (name, value) in [("server_version", "15.4"), ("client_encoding", "UTF8")] {
        write::parameter_status(&mut out, name.as_bytes(), value.as_bytes()).expect("it is short");
    }
    let key = SecretKey::new(&[7; 4]).expect("4 bytes are valid");
    write::backend_key_data(&mut out, ProcessId(1), &key);
    write::ready_for_query(&mut out, TransactionStatus::Idle);
    client.write_all(&out).await?;
    Ok(true)
}

async fn talk(
    mut client: TcpStream,
    mut received: BytesMut,
    script: &Mutex<FakeScript>,
) -> std::io::Result<()> {
    loop {
        while let Some(&[tag, a, b, c, d]) = received.first_chunk() {
            let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
            if received.len() <= length {
                break;
            }
            let message = received.split_to(length + 1);
            let sql = String::from_utf8_lossy(&message[5..]);
            let sql = sql.trim_end_matches('\0');
            if tag == b'X' {
                return Ok(());
            }
            if tag == b'Q' {
                let mut out = BytesMut::new();
                script.lock().unwrap_or_else(PoisonError::into_inner).answer(sql, &mut out);
                write::ready_for_query(&mut out, TransactionStatus::Idle);
                client.write_all(&out).await?;
            }
        }
        if client.read_buf(&mut received).await? == 0 {
            return Ok(());
        }
    }
}
