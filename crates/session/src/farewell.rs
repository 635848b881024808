//! How a server takes its leave, and whether the server ends or only the session.
//!
//! A fast shutdown and `pg_terminate_backend` send the same bytes, FATAL 57P01. They are held back until the caller
//! knows which of the two it was: [`crate::ServerThen::Terminated`].

use trunkline_codec::backend::{BackendTag, ErrorFields};
use trunkline_codec::scan::Piece;
use trunkline_codec::sqlstate::SqlState;

use crate::attempt::{is_of_server, says_of_server};
use crate::pin::NotRepeatable;
use crate::session::Session;
use crate::settings::Mobility;
use crate::state::{ClientEnd, Farewell, Mode};

/// The FATAL error that the client was told, and whose end it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastWord {
    /// The server's: it shuts down, crashed, or canceled the session for recovery.
    OfServer(SqlState),
    /// The session's own, such as that of one of its time-outs. The code is `None` if the error has none.
    OfSession(Option<SqlState>),
}

impl LastWord {
    pub(crate) fn of(code: Option<SqlState>) -> Self {
        match code {
            Some(code) if is_of_server(code) => Self::OfServer(code),
            Some(_) | None => Self::OfSession(code),
        }
    }
}

/// What a farewell that is held back can mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goodbye {
    /// The server ends.
    OfServer,
    /// The server ends, or this session alone.
    OfEither,
}

impl Session {
    /// The farewell held back is the session's own end: present the chunk again, all of it goes to the client. After
    /// [`crate::ServerThen::Terminated`], and [`crate::ServerThen::Conflict`] with 57P01.
    pub fn accept_farewell(&mut self) {
        self.farewell = Farewell::Meant;
        self.close_attempt(NotRepeatable::Answered);
    }

    /// What the farewell means that begins `rest`; `None` if the client gets it as it comes: it is the session's own,
    /// it ends the session in any case, or something follows it. A client that closed its side gets everything.
    #[cold]
    pub(crate) fn goodbye(&self, tag: BackendTag, body: &[u8], rest: &[u8]) -> Option<Goodbye> {
        if self.client_end != ClientEnd::Open || self.farewell == Farewell::Meant {
            return None;
        }
        let goodbye = match tag {
            BackendTag::ErrorResponse => self.fatal_goodbye(says_of_server(body)?)?,
            _notice => {
                let is_unasked = self.owes_only_us() && self.is_keepable();
                (self.is_quiet() || is_unasked).then_some(Goodbye::OfServer)?
            }
        };
        self.is_all_farewell(rest).then_some(goodbye)
    }

    fn fatal_goodbye(&self, code: SqlState) -> Option<Goodbye> {
        let is_followed = self.mode == Mode::Tracked && self.mobility == Mobility::Movable;
        if code == SqlState::ADMIN_SHUTDOWN && is_followed {
            return Some(Goodbye::OfEither);
        }
        (self.is_quiet() || self.is_keepable()).then_some(Goodbye::OfServer)
    }

    fn is_all_farewell(&self, rest: &[u8]) -> bool {
        let mut scanner = self.server.clone();
        let mut at = 0;
        while at < rest.len() {
            match scanner.next(rest, &mut at) {
                Ok(Some(Piece::Message { tag, body })) if is_farewell(BackendTag::from_byte(tag), body) => {}
                Ok(_) | Err(_) => return false,
            }
        }
        true
    }
}

/// The code of a notice that announces the end of the connection.
pub(crate) fn shutdown_notice(body: &[u8]) -> Option<SqlState> {
    let code = ErrorFields::new(body).sqlstate()?;
    (code == SqlState::ADMIN_SHUTDOWN || code == SqlState::CRASH_SHUTDOWN).then_some(code)
}

/// Whether a message is a farewell: a FATAL error, or the notice of an immediate shutdown.
#[inline]
pub(crate) fn is_farewell(tag: BackendTag, body: &[u8]) -> bool {
    if tag == BackendTag::ErrorResponse {
        return ErrorFields::new(body).is_fatal();
    }
    tag == BackendTag::NoticeResponse && shutdown_notice(body).is_some()
}
