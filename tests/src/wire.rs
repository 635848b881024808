//! A client that sees every byte.
//!
//! It frames messages by itself, on purpose: the proxy's scanner is what it checks.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::time::Duration;

use bytes::BytesMut;
use trunkline_codec::auth::Authentication;
use trunkline_codec::backend::{DataRow, ErrorFields};
use trunkline_codec::ids::{ProcessId, SecretKey};
use trunkline_codec::scram::{ChannelBinding, ClientExchange, Credentials};
use trunkline_codec::startup::CancelRequest;
use trunkline_codec::{auth, write};

use crate::{ClientStream, Login};

/// Longest wait for the next byte.
const READ_TIMEOUT: Duration = Duration::from_secs(90);

/// One message of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its type byte.
    pub tag: u8,
    /// All behind its length word.
    pub body: Vec<u8>,
}

/// An ErrorResponse, or the end of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerError {
    /// `FATAL`, `ERROR`; `EOF` when the connection was refused or ended without a word.
    pub severity: String,
    /// The SQLSTATE, empty at EOF.
    pub code: String,
    /// Message, detail and hint, on a line each.
    pub text: String,
}

/// What a request was answered with, up to ReadyForQuery.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// All messages, ReadyForQuery included.
    pub messages: Vec<Message>,
    /// Values of all DataRows; NULL is `None`.
    pub rows: Vec<Vec<Option<String>>>,
    /// The first error.
    pub error: Option<ServerError>,
}

impl Answer {
    /// The type bytes in order.
    #[must_use]
    pub fn tags(&self) -> String {
        self.messages.iter().map(|message| char::from(message.tag)).collect()
    }

    /// The first column of the first row.
    ///
    /// # Panics
    /// When there is none, with the error if there was one.
    #[track_caller]
    #[must_use]
    pub fn value(&self) -> &str {
        let value = self.rows.first().and_then(|row| row.first()).and_then(Option::as_deref);
        value.unwrap_or_else(|| panic!("no value in {}: {:?}", self.tags(), self.error))
    }
}

/// A connection and what the server told it at login.
#[derive(Debug)]
pub struct Wire {
    /// The connection itself, for half-close and timeouts.
    pub stream: ClientStream,
    /// ParameterStatus, the last value of each.
    pub parameters: BTreeMap<String, String>,
    /// The body of BackendKeyData: process id and key.
    pub key_data: Option<Vec<u8>>,
}

impl Wire {
    /// As [`Wire::connect`], without TLS whatever the suite uses: for bytes that come before it.
    ///
    /// # Panics
    /// When nobody listens there.
    #[track_caller]
    #[must_use]
    pub fn connect_plain(port: u16) -> Self {
        let stream = ClientStream::plain(port, READ_TIMEOUT).expect("something listens on the port");
        Self { stream, parameters: BTreeMap::new(), key_data: None }
    }

    /// As [`Wire::connect`], by TLS whatever the suite uses.
    ///
    /// # Panics
    /// When nobody listens there, or speaks no TLS.
    #[track_caller]
    #[must_use]
    pub fn connect_sealed(port: u16) -> Self {
        let stream = ClientStream::asking(port, READ_TIMEOUT).expect("something listens on the port");
        assert!(stream.is_sealed(), "no TLS is spoken on the port");
        Self::over(stream)
    }

    /// Connects to 127.0.0.1, by TLS where the suite uses it, and sends nothing more.
    ///
    /// # Panics
    /// When nobody listens there.
    #[track_caller]
    #[must_use]
    pub fn connect(port: u16) -> Self {
        Self::try_connect(port).expect("something listens on the port")
    }

    /// Over a connection that is there, with nothing sent.
    #[must_use]
    pub fn over(stream: ClientStream) -> Self {
        Self { stream, parameters: BTreeMap::new(), key_data: None }
    }

    /// As [`Wire::connect`], where it may be that nobody listens.
    pub(crate) fn try_connect(port: u16) -> io::Result<Self> {
        let stream = ClientStream::connect(port, READ_TIMEOUT)?;
        Ok(Self { stream, parameters: BTreeMap::new(), key_data: None })
    }

    /// A session as the superuser.
    #[track_caller]
    #[must_use]
    pub fn login(port: u16) -> Self {
        Login::default().connect(port)
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    /// When the peer is gone.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the peer reads");
    }

    /// Sends what `encode` writes, such as several messages in one segment.
    #[track_caller]
    pub fn send_with(&mut self, encode: impl FnOnce(&mut BytesMut)) {
        let mut out = BytesMut::new();
        encode(&mut out);
        self.send(&out);
    }

    /// Sends a Query.
    #[track_caller]
    pub fn send_query(&mut self, sql: &str) {
        self.send_with(|out| write::query(out, sql.as_bytes()).expect("the SQL has no NUL"));
    }

    /// The next message.
    ///
    /// # Errors
    /// The end of the connection, or half a minute of silence.
    pub fn read_message(&mut self) -> io::Result<Message> {
        let (tag, length) = self.read_header()?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(Message { tag, body })
    }

    /// The next message's type and the length of its body, which is still to be read.
    ///
    /// # Errors
    /// As [`Wire::read_message`].
    pub fn read_header(&mut self) -> io::Result<(u8, usize)> {
        let mut header = [0; 5];
        self.stream.read_exact(&mut header)?;
        let [tag, length @ ..] = header;
        let length = u32::from_be_bytes(length);
        let length = usize::try_from(length).expect("usize holds 32 bits");
        length.checked_sub(4).map(|length| (tag, length)).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// The messages up to ReadyForQuery or the end of the connection.
    #[must_use]
    pub fn read_answer(&mut self) -> Answer {
        let mut answer = Answer::default();
        loop {
            let message = match self.read_message() {
                Ok(message) => message,
                Err(error) => {
                    answer.error.get_or_insert(ServerError::ended(&error));
                    return answer;
                }
            };
            match message.tag {
                b'D' => answer.rows.push(values(&message.body)),
                b'E' => {
                    answer.error.get_or_insert(ServerError::parse(&message.body));
                }
                b'S' => self.note_parameter(&message.body),
                _ => {}
            }
            let is_ready = message.tag == b'Z';
            answer.messages.push(message);
            if is_ready {
                return answer;
            }
        }
    }

    /// Runs one simple query.
    pub fn query(&mut self, sql: &str) -> Answer {
        self.send_query(sql);
        self.read_answer()
    }

    /// Runs one simple query whose first value is wanted.
    #[track_caller]
    pub fn value(&mut self, sql: &str) -> String {
        self.query(sql).value().to_owned()
    }

    /// Reads up to ReadyForQuery, answering what authentication asks.
    ///
    /// # Errors
    /// What the server said, or how the connection ended.
    pub fn finish_login(&mut self, login: &Login) -> Result<(), ServerError> {
        let mut scram = None;
        loop {
            let message = self.read_message().map_err(|error| ServerError::ended(&error))?;
            match message.tag {
                b'R' => self.answer_challenge(&message.body, login, &mut scram),
                b'E' => return Err(ServerError::parse(&message.body)),
                b'S' => self.note_parameter(&message.body),
                b'K' => self.key_data = Some(message.body),
                b'Z' => return Ok(()),
                _ => {}
            }
        }
    }

    /// Logs in and gives what was seen: type bytes, with the code of each authentication request.
    #[must_use]
    pub fn trace_login(&mut self, login: &Login) -> String {
        self.send(&login.packet());
        let mut trace = String::new();
        let mut scram = None;
        while let Ok(message) = self.read_message() {
            trace.push(char::from(message.tag));
            match message.tag {
                b'R' => {
                    trace.push_str(&message.body.get(3).map(u8::to_string).unwrap_or_default());
                    self.answer_challenge(&message.body, login, &mut scram);
                }
                b'E' => {
                    let error = ServerError::parse(&message.body);
                    trace.push_str(&format!("({} {})", error.severity, error.code));
                }
                b'Z' => break,
                _ => {}
            }
        }
        trace
    }

    /// The salt that a SCRAM exchange offers for this user.
    ///
    /// # Panics
    /// When there is no SCRAM exchange.
    #[must_use]
    pub fn scram_salt(&mut self, login: &Login) -> String {
        self.send(&login.packet());
        let mut scram = None;
        loop {
            let message = self.read_message().expect("the exchange goes on");
            assert_eq!(message.tag, b'R', "{message:?}");
            if let Ok(Authentication::SaslContinue(data)) = Authentication::parse(&message.body) {
                let text = String::from_utf8_lossy(data).into_owned();
                return text
                    .split(',')
                    .find(|part| part.starts_with("s="))
                    .expect("it has a salt")
                    .to_owned();
            }
            self.answer_challenge(&message.body, login, &mut scram);
        }
    }

    fn answer_challenge(&mut self, body: &[u8], login: &Login, scram: &mut Option<ClientExchange>) {
        let password = login.password.as_bytes();
        match Authentication::parse(body).expect("the server's message is valid") {
            Authentication::CleartextPassword => {
                self.send_with(|out| write::password(out, password).expect("no NUL"));
            }
            Authentication::Md5Password { salt } => {
                let answer = auth::md5_password(login.user.as_bytes(), password, salt);
                self.send_with(|out| write::password(out, answer.as_bytes()).expect("no NUL"));
            }
            Authentication::Sasl(_) => {
                let credentials = Credentials::Password(login.password.clone().into_bytes().into());
                let nonce = format!("nonce{:?}", std::time::Instant::now()).replace([',', ' '], "");
                let exchange =
                    scram.insert(ClientExchange::new(credentials, &nonce, ChannelBinding::Unsupported));
                let first = exchange.client_first().expect("it is the first");
                self.send_with(|out| {
                    write::sasl_initial_response(out, b"SCRAM-SHA-256", Some(&first)).expect("it is short");
                });
            }
            Authentication::SaslContinue(data) => {
                let exchange = scram.as_mut().expect("the exchange has begun");
                let last = exchange.handle_server_first(data).expect("the server's message is valid");
                self.send_with(|out| write::sasl_response(out, &last).expect("it is short"));
            }
            Authentication::SaslFinal(data) => {
                let exchange = scram.as_mut().expect("the exchange has begun");
                exchange.handle_server_final(data).expect("the server proves that it knows the verifier");
            }
            Authentication::Ok => {}
            other => panic!("authentication that no test uses: {other:?}"),
        }
    }

    fn note_parameter(&mut self, body: &[u8]) {
        let text = String::from_utf8_lossy(body);
        let mut parts = text.split('\0');
        if let (Some(name), Some(value)) = (parts.next(), parts.next()) {
            self.parameters.insert(name.to_owned(), value.to_owned());
        }
    }

    /// The packet that cancels this session's query.
    ///
    /// # Panics
    /// When the server gave no key.
    #[must_use]
    pub fn cancel_packet(&self) -> BytesMut {
        let body = self.key_data.as_ref().expect("the server gave a key");
        let (process_id, key) = body.split_first_chunk().expect("a key follows the process id");
        let mut packet = BytesMut::new();
        let process_id = ProcessId(i32::from_be_bytes(*process_id));
        let secret_key = SecretKey::new(key).expect("the key has a valid length");
        CancelRequest { process_id, secret_key }.encode(&mut packet);
        packet
    }

    /// Sends this session's CancelRequest to `port` and waits until that connection is closed.
    pub fn cancel(&self, port: u16) {
        send_cancel(port, &self.cancel_packet());
    }

    /// Everything until the connection ends; `None` when it does not within half a minute.
    #[must_use]
    pub fn read_to_end(&mut self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Ok(_) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Some(bytes),
            Err(_) => None,
        }
    }
}

/// Sends a CancelRequest and waits until the connection is closed.
fn send_cancel(port: u16, packet: &[u8]) {
    let mut wire = Wire::connect(port);
    wire.send(packet);
    assert_eq!(wire.read_to_end().as_deref(), Some(&[][..]), "a CancelRequest is answered by closing");
}

fn values(body: &[u8]) -> Vec<Option<String>> {
    let row = DataRow::parse(body).expect("the server's message is valid");
    row.values().map(|value| value.map(|bytes| String::from_utf8_lossy(bytes).into_owned())).collect()
}

impl ServerError {
    /// The fields of an ErrorResponse.
    #[must_use]
    pub fn parse(body: &[u8]) -> Self {
        let fields = ErrorFields::new(body);
        let text = |value: Option<&[u8]>| value.map(|value| String::from_utf8_lossy(value).into_owned());
        let lines = [fields.message(), fields.detail(), fields.hint()];
        Self {
            severity: text(fields.severity()).unwrap_or_default(),
            code: fields.sqlstate().map(|code| code.as_str().to_owned()).unwrap_or_default(),
            text: lines.into_iter().filter_map(text).collect::<Vec<_>>().join("\n"),
        }
    }

    pub(crate) fn ended(error: &io::Error) -> Self {
        Self { severity: "EOF".to_owned(), code: String::new(), text: error.to_string() }
    }
}
