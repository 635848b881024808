//! A client that sees every message, and waits for none of them for ever.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use trunkline_codec::ids::{ProcessId, SecretKey};
use trunkline_codec::startup::CancelRequest;

use crate::dsn::{Dsn, Place};
use crate::login::{LoginExchange, startup_packet};
use crate::scenario::Until;
use crate::seen::{self, Seen, SeenEnd};

/// Longest message that is taken, in bytes: cases ask for far less.
const MESSAGE_LENGTH_MAX: usize = 16 * 1024 * 1024;
/// Longest wait until a connection is made or a write is taken.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Notifications kept; what comes behind them is a fault that the first ones show, too.
const NOTIFICATIONS_MAX: usize = 100;

#[derive(Debug)]
enum Transport {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A logged-in client.
#[derive(Debug)]
pub struct TortureClient {
    transport: Transport,
    dsn: Dsn,
    at_login: BTreeMap<String, String>,
    parameters: BTreeMap<String, String>,
    key_data: Vec<u8>,
    /// Channel and payload of all notifications, in order.
    pub notifications: Vec<String>,
    unread: Vec<u8>,
}

/// Why there is no client.
#[derive(Debug)]
pub enum LoginFailure {
    /// The server's or the pooler's error, in words.
    Refused(String),
    /// The connection could not be made, ended, or fell silent.
    Broken(io::Error),
}

impl TortureClient {
    /// Logs in.
    ///
    /// # Errors
    /// See [`LoginFailure`].
    pub fn connect(dsn: &Dsn, parameters: &[(String, String)], wait: Duration) -> Result<Self, LoginFailure> {
        let mut client = Self {
            transport: Transport::open(&dsn.place).map_err(LoginFailure::Broken)?,
            dsn: dsn.clone(),
            at_login: BTreeMap::new(),
            parameters: BTreeMap::new(),
            key_data: Vec::new(),
            notifications: Vec::new(),
            unread: Vec::new(),
        };
        let packet = startup_packet(dsn, parameters).map_err(LoginFailure::Broken)?;
        client.send(&packet).map_err(LoginFailure::Broken)?;
        client.finish_login(Instant::now() + wait)?;
        client.at_login = client.parameters.clone();
        Ok(client)
    }

    fn finish_login(&mut self, deadline: Instant) -> Result<(), LoginFailure> {
        let mut exchange = LoginExchange::default();
        loop {
            let (tag, body) = self.next_message(deadline).map_err(LoginFailure::Broken)?;
            match tag {
                b'R' => {
                    let answer = exchange.answer(&body, &self.dsn).map_err(LoginFailure::Broken)?;
                    self.send(&answer).map_err(LoginFailure::Broken)?;
                }
                b'E' => return Err(LoginFailure::Refused(seen::words(tag, &body))),
                b'K' => self.key_data = body,
                b'Z' => return Ok(()),
                _ => {
                    self.take_asynchronous(tag, &body);
                }
            }
        }
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The peer is gone, or takes nothing.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.transport {
            Transport::Tcp(stream) => stream.write_all(bytes),
            Transport::Unix(stream) => stream.write_all(bytes),
        }
    }

    /// Reads on until what is waited for has come, the connection ends, or `deadline`; `seen` has what came before.
    pub fn read(&mut self, seen: &mut Seen, until: Until, deadline: Instant) {
        seen.end = SeenEnd::Complete;
        while !seen.has(until) {
            match self.next_message(deadline) {
                Ok((tag, body)) => {
                    if !self.take_asynchronous(tag, &body) {
                        seen.push(tag, &body);
                    }
                }
                Err(error) if is_silence(&error) => {
                    seen.end = SeenEnd::Silent;
                    break;
                }
                Err(_) if until == Until::End => {
                    seen.lines.push("the connection ends".to_owned());
                    break;
                }
                Err(_) => {
                    seen.end = SeenEnd::Closed;
                    break;
                }
            }
        }
        seen.parameters = self.changed_parameters();
    }

    /// Reads until there is a notification that no step has waited for yet, `known` being those that were.
    pub fn await_notification(&mut self, known: usize, deadline: Instant) -> Seen {
        let mut seen = Seen::nothing();
        while self.notifications.len() <= known {
            match self.next_message(deadline) {
                Ok((tag, body)) => {
                    if !self.take_asynchronous(tag, &body) {
                        seen.push(tag, &body);
                    }
                }
                Err(error) => {
                    seen.end = if is_silence(&error) { SeenEnd::Silent } else { SeenEnd::Closed };
                    return seen;
                }
            }
        }
        seen.lines.extend(self.notifications.get(known).map(|text| format!("A({text})")));
        seen
    }

    /// What ParameterStatus says now that it did not at the login.
    fn changed_parameters(&self) -> BTreeMap<String, String> {
        let changed = self.parameters.iter().filter(|(name, value)| self.at_login.get(*name) != Some(value));
        changed.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// Takes a message that may come at any time; says whether it was one.
    fn take_asynchronous(&mut self, tag: u8, body: &[u8]) -> bool {
        match tag {
            b'S' => self.parameters.extend(seen::parameter(body)),
            b'A' if self.notifications.len() < NOTIFICATIONS_MAX => {
                self.notifications.push(seen::notification(body));
            }
            b'A' => {}
            _ => return false,
        }
        true
    }

    /// Sends this client's CancelRequest, and waits until that connection is closed.
    ///
    /// # Errors
    /// It has no key, or the request could not be sent.
    pub fn cancel(&self) -> io::Result<()> {
        let no_key = || io::Error::other("the login gave no valid cancel key");
        let (process_id, key) = self.key_data.split_first_chunk().ok_or_else(no_key)?;
        let process_id = ProcessId(i32::from_be_bytes(*process_id));
        let secret_key = SecretKey::new(key).map_err(|_| no_key())?;
        let mut packet = BytesMut::new();
        CancelRequest { process_id, secret_key }.encode(&mut packet);
        let mut transport = Transport::open(&self.dsn.place)?;
        transport.set_read_timeout(CONNECT_TIMEOUT)?;
        let mut rest = [0; 16];
        match &mut transport {
            Transport::Tcp(stream) => stream.write_all(&packet).and_then(|()| stream.read(&mut rest))?,
            Transport::Unix(stream) => stream.write_all(&packet).and_then(|()| stream.read(&mut rest))?,
        };
        Ok(())
    }

    fn next_message(&mut self, deadline: Instant) -> io::Result<(u8, Vec<u8>)> {
        loop {
            if let Some((&[tag, a, b, c, d], _)) = self.unread.split_first_chunk() {
                let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
                if !(4..=MESSAGE_LENGTH_MAX).contains(&length) {
                    return Err(io::Error::other("a message with an impossible length"));
                }
                if self.unread.len() > length {
                    let rest = self.unread.split_off(length + 1);
                    let message = std::mem::replace(&mut self.unread, rest);
                    return Ok((tag, message.get(5..).unwrap_or_default().to_vec()));
                }
            }
            self.read_more(deadline)?;
        }
    }

    fn read_more(&mut self, deadline: Instant) -> io::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.transport.set_read_timeout(left)?;
        let mut chunk = [0; 8192];
        let count = match &mut self.transport {
            Transport::Tcp(stream) => stream.read(&mut chunk)?,
            Transport::Unix(stream) => stream.read(&mut chunk)?,
        };
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.unread.extend(chunk.iter().take(count));
        Ok(())
    }
}

impl Transport {
    fn open(place: &Place) -> io::Result<Self> {
        match place {
            Place::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_write_timeout(Some(CONNECT_TIMEOUT))?;
                Ok(Self::Unix(stream))
            }
            Place::Tcp(host, port) => {
                let mut failure = io::Error::other("the host has no address");
                for address in (host.as_str(), *port).to_socket_addrs()? {
                    match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                        Ok(stream) => {
                            stream.set_nodelay(true)?;
                            stream.set_write_timeout(Some(CONNECT_TIMEOUT))?;
                            return Ok(Self::Tcp(stream));
                        }
                        Err(error) => failure = error,
                    }
                }
                Err(failure)
            }
        }
    }

    fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(Some(timeout)),
            Self::Unix(stream) => stream.set_read_timeout(Some(timeout)),
        }
    }
}

/// Whether nothing came in time, rather than an end.
#[must_use]
pub fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
