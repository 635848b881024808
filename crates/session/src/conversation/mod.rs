//! The conversation with one server: requests in flight and the state of the protocol.
//!
//! - [`outstanding`]: the requests without an answer yet, in order.
//! - `in_flight`: what is in flight, and what the client has seen of it.
//! - [`state`]: the states of the protocol.
//! - [`own`]: the proxy's own requests.
//! - [`farewell`]: whether a FATAL error ends the server or the session.
//! - [`refusal`]: what a standby leaves to the primary.

pub(crate) mod farewell;
mod in_flight;
pub(crate) mod outstanding;
pub(crate) mod own;
pub(crate) mod refusal;
pub(crate) mod state;
use trunkline_codec::backend::TransactionStatus;
use trunkline_codec::scan::{ScanPhase, Scanner};

use self::outstanding::Outstanding;
use self::own::OwnRequests;
use self::state::{
    AnswerProgress, CopyState, Farewell, Joined, ObjectsMade, Pipeline, Tail, TransactionEffect, UnitReport,
};
use crate::settings::{ServerName, ServerRole};

/// The conversation with the server that the session is on, or was on last.
#[derive(Debug)]
pub(crate) struct Conversation {
    pub(crate) server_name: ServerName,
    pub(crate) role: ServerRole,
    pub(crate) scanner: Scanner,
    pub(crate) tail: Tail,
    pub(crate) outstanding: Outstanding,
    pub(crate) status: TransactionStatus,
    pub(crate) pipeline: Pipeline,
    pub(crate) joined: Joined,
    pub(crate) progress: AnswerProgress,
    pub(crate) copy: CopyState,
    pub(crate) transaction_effect: TransactionEffect,
    pub(crate) objects: ObjectsMade,
    pub(crate) farewell: Farewell,
    /// The proxy's own requests in flight.
    pub(crate) own: Option<Box<OwnRequests>>,
    /// The server is sending a long answer to one of them.
    pub(crate) is_inside_own: bool,
    /// A Query or Parse of the transaction at hand names the function that exports its snapshot.
    pub(crate) exports_snapshot: bool,
    pub(crate) unit: UnitReport,
}

impl Conversation {
    /// With a server that the session has just logged in to.
    pub(crate) fn new(server_name: ServerName, role: ServerRole) -> Self {
        Conversation {
            server_name,
            role,
            scanner: scanner_of_a_server(),
            tail: Tail::Empty,
            outstanding: Outstanding::new(),
            status: TransactionStatus::Idle,
            pipeline: Pipeline::Synced,
            joined: Joined::Nothing,
            progress: AnswerProgress::Untouched,
            copy: CopyState::None,
            transaction_effect: TransactionEffect::Unchanged,
            objects: ObjectsMade::None,
            farewell: Farewell::Staying,
            own: None,
            is_inside_own: false,
            exports_snapshot: false,
            unit: UnitReport::default(),
        }
    }

    /// Whether the client waits for a ReadyForQuery that has arrived.
    #[inline]
    pub(crate) fn is_ready_withheld(&self) -> bool {
        matches!(self.unit, UnitReport::Withheld(_))
    }

    /// The server is lost: nothing is in flight any more. The transaction status is the one that the client has.
    pub(crate) fn server_lost(&mut self) {
        self.server_taken(ServerName::clone(&self.server_name), self.role);
    }

    /// Another connection takes the place of one with which nothing was in progress.
    #[inline]
    pub(crate) fn connection_taken(&mut self, server_name: ServerName, role: ServerRole) {
        self.server_name = server_name;
        self.role = role;
        self.exports_snapshot = false;
    }

    /// Another server takes its place, with nothing in flight. The transaction status is the one that the client has.
    pub(crate) fn server_taken(&mut self, server_name: ServerName, role: ServerRole) {
        *self = Conversation { status: self.status, ..Conversation::new(server_name, role) };
    }
}

pub(crate) fn scanner_of_a_server() -> Scanner {
    let mut scanner = Scanner::backend();
    scanner.set_phase(ScanPhase::Normal);
    scanner
}
