//! What servers send: tags, and readers for the messages that carry state.

mod error_fields;
mod rows;

pub use error_fields::{ErrorFields, OldStyleError};
pub use rows::{Column, Columns, DataRow, RowDescription, Values};

use crate::body::{Body, BodyError};
use crate::frontend::tags;
use crate::ids::{ProcessId, SecretKey};
use crate::version::ProtocolVersion;

tags! {
    /// The type of a backend message.
    pub enum BackendTag {
        /// A step of the login.
        Authentication = b'R',
        /// What a cancel request must name.
        BackendKeyData = b'K',
        /// A variable's value, at login and whenever it changes.
        ParameterStatus = b'S',
        /// The server awaits a request.
        ReadyForQuery = b'Z',
        /// A statement ended.
        CommandComplete = b'C',
        /// An empty statement ended.
        EmptyQueryResponse = b'I',
        /// The columns of the rows that follow.
        RowDescription = b'T',
        /// A row.
        DataRow = b'D',
        /// An error.
        ErrorResponse = b'E',
        /// A message to the user; may come at any time.
        NoticeResponse = b'N',
        /// Answers Parse.
        ParseComplete = b'1',
        /// Answers Bind.
        BindComplete = b'2',
        /// Answers Close.
        CloseComplete = b'3',
        /// Answers Describe of what returns no rows.
        NoData = b'n',
        /// An Execute reached its row limit.
        PortalSuspended = b's',
        /// The parameters of a statement.
        ParameterDescription = b't',
        /// A NOTIFY; may come at any time.
        NotificationResponse = b'A',
        /// The server awaits COPY data.
        CopyInResponse = b'G',
        /// COPY data follows.
        CopyOutResponse = b'H',
        /// COPY data flows both ways (replication).
        CopyBothResponse = b'W',
        /// A piece of COPY data.
        CopyData = b'd',
        /// Ends COPY data.
        CopyDone = b'c',
        /// A function's result.
        FunctionCallResponse = b'V',
        /// What of the protocol asked for the server does not know.
        NegotiateProtocolVersion = b'v',
    }
}

/// Where a session is with regard to transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransactionStatus {
    /// In none.
    Idle,
    /// In one.
    InTransaction,
    /// In one that failed: all is refused until it ends.
    Failed,
}

impl TransactionStatus {
    /// Its byte on the wire.
    #[must_use]
    pub fn byte(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::InTransaction => b'T',
            Self::Failed => b'E',
        }
    }
}

/// The server awaits a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadyForQuery {
    /// Where the session is with regard to transactions.
    pub status: TransactionStatus,
}

impl ReadyForQuery {
    /// # Errors
    /// When the body is not exactly one of the three status bytes.
    #[inline]
    pub fn parse(body: &[u8]) -> Result<Self, BodyError> {
        let status = match body {
            b"I" => TransactionStatus::Idle,
            b"T" => TransactionStatus::InTransaction,
            b"E" => TransactionStatus::Failed,
            [] => return Err(BodyError::Truncated),
            [other] => return Err(BodyError::UnknownKind(*other)),
            [_, _, ..] => return Err(BodyError::TrailingBytes),
        };
        Ok(Self { status })
    }
}

/// A variable's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterStatus<'a> {
    /// Name of the variable.
    pub name: &'a [u8],
    /// Its value now.
    pub value: &'a [u8],
}

impl<'a> ParameterStatus<'a> {
    /// # Errors
    /// When the body is not exactly two strings.
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut body = Body::new(body);
        let name = body.take_cstr()?;
        let value = body.take_cstr()?;
        body.finish()?;
        Ok(Self { name, value })
    }
}

/// What a request to cancel this session's queries must name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendKeyData {
    /// The server process.
    pub process_id: ProcessId,
    /// The secret: 4 bytes in protocol 3.0, up to 256 in 3.2.
    pub secret_key: SecretKey,
}

impl BackendKeyData {
    /// # Errors
    /// When the body is not a number and a key of a legal length.
    pub fn parse(body: &[u8]) -> Result<Self, BodyError> {
        let mut body = Body::new(body);
        let process_id = ProcessId(body.take_i32()?);
        let key = body.rest();
        let secret_key = SecretKey::new(key).map_err(|_| BodyError::FieldLength(key.len()))?;
        Ok(Self { process_id, secret_key })
    }
}

/// A statement ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandComplete<'a> {
    /// What it did, such as `SELECT 5` or `INSERT 0 1`.
    pub tag: &'a [u8],
}

impl<'a> CommandComplete<'a> {
    /// # Errors
    /// When the body is not exactly one string.
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut body = Body::new(body);
        let tag = body.take_cstr()?;
        body.finish()?;
        Ok(Self { tag })
    }

    /// Rows the statement returned or changed: the number that ends the tag, if one does.
    #[must_use]
    pub fn rows(&self) -> Option<u64> {
        let (_, digits) = self.command_and_digits();
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// The tag without its numbers, such as `SELECT`, `INSERT` or `CREATE TABLE`.
    #[must_use]
    pub fn command(&self) -> &'a [u8] {
        let (mut command, digits) = self.command_and_digits();
        if digits.is_empty() {
            return command;
        }
        // INSERT has two numbers; the first was an OID once.
        while let [head @ .., last] = command
            && (*last == b' ' || last.is_ascii_digit())
        {
            command = head;
        }
        command
    }

    /// The tag, and the digits at its end when a space precedes them.
    fn command_and_digits(&self) -> (&'a [u8], &'a [u8]) {
        match self.tag.iter().rposition(|b| !b.is_ascii_digit()) {
            Some(space) if self.tag[space] == b' ' => (&self.tag[..space], &self.tag[space + 1..]),
            Some(_) | None => (self.tag, &[]),
        }
    }
}

/// The server knows less of the protocol than the client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NegotiateProtocolVersion<'a> {
    /// The newest version it knows.
    pub version: ProtocolVersion,
    /// The `_pq_.` options it does not know, as strings each ended by NUL.
    options: &'a [u8],
}

impl<'a> NegotiateProtocolVersion<'a> {
    /// # Errors
    /// When the body is not a version, a count and as many strings.
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut body = Body::new(body);
        let version = ProtocolVersion::from_code(body.take_u32()?);
        let count = body.take_i32()?;
        if count < 0 {
            return Err(BodyError::NegativeCount);
        }
        let options = body.rest();
        // Each string takes a byte at least, so a huge count ends early.
        for _ in 0..count {
            body.take_cstr()?;
        }
        body.finish()?;
        Ok(Self { version, options })
    }

    /// The `_pq_.` options the server does not know.
    pub fn options(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut rest = Body::new(self.options);
        std::iter::from_fn(move || rest.take_cstr().ok())
    }
}
