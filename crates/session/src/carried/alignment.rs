//! What is sent to a server after the login, so that the session finds the state that it had on its last server.

use bytes::{Bytes, BytesMut};
use trunkline_codec::backend::{BackendTag, ErrorFields, ReadyForQuery, TransactionStatus};
use trunkline_codec::frontend::Target;
use trunkline_codec::scan::{FrameError, Piece, ScanPhase, Scanner};
use trunkline_codec::sqlstate::SqlState;
use trunkline_codec::write;

use crate::limits::{ALIGNMENT_PARAMETERS_MAX, ALIGNMENT_ROW_MAX, PARAMETERS_MAX};

/// Answers that an alignment still waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Owed {
    parsed: usize,
    bound: usize,
    executed: usize,
    closed: usize,
}

/// Settings as messages for a server, and the transaction that the session is in when that has failed or nothing was done in it. Prepared statements are
/// prepared there when they are next used.
#[derive(Clone, Debug, Default)]
pub struct Alignment {
    /// Sent in one write. Empty when the login alone gives the session its state: then there is no
    /// answer to read.
    pub messages: Bytes,
    owed: Owed,
    stage: AlignmentStage,
    then: AlignmentStage,
}

/// Which part of an alignment the server is answering.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum AlignmentStage {
    /// Settings.
    State,
    /// A transaction that the client has begun.
    Begun,
    /// A transaction that fails on purpose.
    Beginning,
    /// It has failed.
    Failed,
    #[default]
    Done,
}

/// The statement that begins the transaction that fails on purpose. It is closed at once.
const BEGINS: &[u8] = b"trunkline: transaction lost with its server";

/// A portal that does not exist. An Execute of it is the shortest way to fail a transaction.
const FAILS: &[u8] = b"trunkline: server lost";

/// The answer to the client's BEGIN.
const OWED_BY_BEGIN: Owed = Owed { parsed: 0, bound: 0, executed: 1, closed: 0 };

/// The answers to the transaction that fails on purpose, except the error at its end.
const OWED_BY_FAILURE: Owed = Owed { parsed: 1, bound: 1, executed: 1, closed: 1 };

impl Alignment {
    /// Whether the login alone gives the session its state.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Whether the server's position has to be queried before this is sent: in a failed transaction it would refuse, and the client's
    /// is to have no snapshot.
    #[must_use]
    pub fn needs_position_first(&self) -> bool {
        self.then != AlignmentStage::Done
    }

    /// Reads the answers.
    #[must_use]
    pub fn reader(&self) -> AlignmentReader {
        let mut scanner = Scanner::backend();
        scanner.set_phase(ScanPhase::Normal);
        let Self { owed, stage, then, .. } = *self;
        AlignmentReader { scanner, owed, stage, then, parameters: BytesMut::new(), reported: 0, row: None }
    }
}

/// Makes an [`Alignment`].
#[derive(Debug, Default)]
pub(crate) struct Writer {
    out: BytesMut,
    owed: Owed,
}

impl Writer {
    /// Runs a statement. Everything kept is far below the longest message, so nothing is left out.
    pub(crate) fn run(&mut self, sql: &[u8]) {
        let start = self.out.len();
        let written = write::parse(&mut self.out, b"", sql, &[])
            .and_then(|()| write::bind(&mut self.out, b"", b"", std::iter::empty()))
            .and_then(|()| write::execute(&mut self.out, b"", 0));
        debug_assert!(written.is_ok(), "kept SQL is short and has no NUL");
        match written {
            Ok(()) => {
                self.owed.parsed += 1;
                self.owed.bound += 1;
                self.owed.executed += 1;
            }
            Err(_too_long) => self.out.truncate(start),
        }
    }

    /// Drops a prepared statement, if there is one of this name.
    pub(crate) fn close(&mut self, name: &[u8]) {
        let written = write::close(&mut self.out, Target::Statement, name);
        debug_assert!(written.is_ok(), "it was read from a message, so it has no NUL");
        self.owed.closed += usize::from(written.is_ok());
    }

    pub(crate) fn finish(mut self) -> Alignment {
        if self.out.is_empty() {
            return Alignment::default();
        }
        self.sync();
        let Self { out, owed } = self;
        Alignment { messages: out.freeze(), owed, stage: AlignmentStage::State, then: AlignmentStage::Done }
    }

    /// The same, followed by a transaction that has failed. The settings before it are committed first.
    pub(crate) fn finish_failed(mut self) -> Alignment {
        let (mut stage, mut owed) = (AlignmentStage::Beginning, OWED_BY_FAILURE);
        if !self.out.is_empty() {
            self.sync();
            (stage, owed) = (AlignmentStage::State, self.owed);
        }
        let written = write::parse(&mut self.out, BEGINS, b"BEGIN", &[])
            .and_then(|()| write::bind(&mut self.out, b"", BEGINS, std::iter::empty()))
            .and_then(|()| write::execute(&mut self.out, b"", 0))
            .and_then(|()| write::close(&mut self.out, Target::Statement, BEGINS))
            .and_then(|()| write::execute(&mut self.out, FAILS, 0));
        debug_assert!(written.is_ok(), "constants without a NUL");
        write::sync(&mut self.out);
        Alignment { messages: self.out.freeze(), owed, stage, then: AlignmentStage::Beginning }
    }

    /// The same, followed by the client's BEGIN.
    pub(crate) fn finish_begun(mut self, begin: &[u8]) -> Alignment {
        let (mut stage, mut owed) = (AlignmentStage::Begun, OWED_BY_BEGIN);
        if !self.out.is_empty() {
            self.sync();
            (stage, owed) = (AlignmentStage::State, self.owed);
        }
        let written = write::query(&mut self.out, begin);
        debug_assert!(written.is_ok(), "it was read from a short message");
        Alignment { messages: self.out.freeze(), owed, stage, then: AlignmentStage::Begun }
    }

    fn sync(&mut self) {
        // The client did not prepare the last statement of the alignment.
        if self.owed.parsed > 0 && write::close(&mut self.out, Target::Statement, b"").is_ok() {
            self.owed.closed += 1;
        }
        write::sync(&mut self.out);
    }
}

/// The result of reading a chunk from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlignmentStep {
    /// The number of bytes read from the front. The rest is kept and passed in again, followed by
    /// what the server sent since; once `done`, the rest belongs to the client.
    pub consumed: usize,
    /// Whether the server is aligned.
    pub done: bool,
}

/// Why a server could not be aligned: it must not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AlignmentError {
    /// The server refused a setting, or ended the session.
    #[error("server refused the state of the session: {message}")]
    Refused {
        /// Its code, if it sent one.
        code: Option<SqlState>,
        /// Its message; for the log.
        message: String,
    },
    /// The server sent something that answers no alignment.
    #[error("server sent an unexpected message {0:#04x}")]
    Unexpected(u8),
    /// The server reported more parameters, at its login or since, than a session follows.
    #[error("server reported too many parameters")]
    TooManyParameters,
    /// The server broke the framing.
    #[error("server sent a {0}")]
    Frame(#[from] FrameError),
}

/// Reads and drops the answers to an [`Alignment`].
#[derive(Debug)]
pub struct AlignmentReader {
    scanner: Scanner,
    owed: Owed,
    stage: AlignmentStage,
    /// What follows [`AlignmentStage::State`].
    then: AlignmentStage,
    parameters: BytesMut,
    /// How many messages these are.
    reported: usize,
    /// The last row that came, if it is short.
    row: Option<Bytes>,
}

impl AlignmentReader {
    /// Takes what the server sent: the rest of the last chunk, and what came since.
    ///
    /// # Errors
    /// When the server refuses, or sends an unexpected answer.
    pub fn handle(&mut self, chunk: &[u8]) -> Result<AlignmentStep, AlignmentError> {
        let mut at = 0;
        while self.stage != AlignmentStage::Done {
            let before = at;
            let (tag, body) = match self.scanner.next(chunk, &mut at)? {
                None => break,
                Some(Piece::Message { tag, body } | Piece::Start { tag, body, .. }) => (tag, body),
                Some(Piece::More { .. }) => continue,
            };
            self.answered(BackendTag::from_byte(tag), body, &chunk[before..at])?;
        }
        Ok(AlignmentStep { consumed: at, done: self.stage == AlignmentStage::Done })
    }

    fn answered(&mut self, tag: BackendTag, body: &[u8], message: &[u8]) -> Result<(), AlignmentError> {
        let owed = match tag {
            BackendTag::ParseComplete => &mut self.owed.parsed,
            BackendTag::BindComplete => &mut self.owed.bound,
            BackendTag::CommandComplete => &mut self.owed.executed,
            BackendTag::CloseComplete => &mut self.owed.closed,
            BackendTag::NoticeResponse | BackendTag::NotificationResponse => return Ok(()),
            // The columns of what SELECT set_config returns are not asked for; its row comes.
            BackendTag::DataRow if self.owed.executed > 0 => {
                self.row = (body.len() <= ALIGNMENT_ROW_MAX).then(|| Bytes::copy_from_slice(body));
                return Ok(());
            }
            BackendTag::ParameterStatus => {
                self.reported += 1;
                let length = self.parameters.len() + message.len();
                if length > ALIGNMENT_PARAMETERS_MAX || self.reported > PARAMETERS_MAX {
                    return Err(AlignmentError::TooManyParameters);
                }
                self.parameters.extend_from_slice(message);
                return Ok(());
            }
            BackendTag::ErrorResponse => {
                let fields = ErrorFields::new(body);
                let is_wanted = self.stage == AlignmentStage::Beginning && self.owed == Owed::default();
                if is_wanted && fields.sqlstate() == Some(SqlState::INVALID_CURSOR_NAME) {
                    self.stage = AlignmentStage::Failed;
                    return Ok(());
                }
                let message = String::from_utf8_lossy(fields.message().unwrap_or_default()).into_owned();
                return Err(AlignmentError::Refused { code: fields.sqlstate(), message });
            }
            BackendTag::ReadyForQuery => return self.ready(body),
            other => return Err(AlignmentError::Unexpected(other.byte())),
        };
        *owed = owed.checked_sub(1).ok_or(AlignmentError::Unexpected(tag.byte()))?;
        Ok(())
    }

    fn ready(&mut self, body: &[u8]) -> Result<(), AlignmentError> {
        let status = ReadyForQuery::parse(body).map(|ready| ready.status);
        let is_complete = self.owed == Owed::default();
        (self.stage, self.owed) = match (self.stage, status) {
            (AlignmentStage::State, Ok(TransactionStatus::Idle)) if is_complete => {
                let owed = match self.then {
                    AlignmentStage::Begun => OWED_BY_BEGIN,
                    AlignmentStage::Beginning => OWED_BY_FAILURE,
                    AlignmentStage::State | AlignmentStage::Failed | AlignmentStage::Done => Owed::default(),
                };
                (self.then, owed)
            }
            (AlignmentStage::Begun, Ok(TransactionStatus::InTransaction)) if is_complete => {
                (AlignmentStage::Done, Owed::default())
            }
            (AlignmentStage::Failed, Ok(TransactionStatus::Failed)) => {
                (AlignmentStage::Done, Owed::default())
            }
            _unexpected => return Err(AlignmentError::Unexpected(BackendTag::ReadyForQuery.byte())),
        };
        Ok(())
    }

    /// The last row that the server sent, unless it was long.
    #[must_use]
    pub fn row(&self) -> Option<&[u8]> {
        self.row.as_deref()
    }

    /// The ParameterStatus messages that the server sent.
    #[must_use]
    pub fn parameters(&self) -> &[u8] {
        &self.parameters
    }
}
