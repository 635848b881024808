//! The session machine. This slice relays whole messages; the model of the conversation follows.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use trunkline_codec::backend::TransactionStatus;
use trunkline_codec::scan::{Phase, Scanner};

use crate::loss::{LossPhase, LossPlan, Retake, ServerLoss, write_report};
use crate::record::Sink;
use crate::settings::{ServerName, SessionSettings};
use crate::step::{ClientStep, ClientThen, Peer, ServerStep, ServerThen, Violation};

/// Why a session cannot leave its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PinReason {
    /// A replication session.
    Replication,
    /// The server sent what the model of the conversation does not explain.
    Untracked,
}

/// One client's life after its login.
#[derive(Debug)]
pub struct Session {
    client: Scanner,
    server: Scanner,
    settings: SessionSettings,
    is_pristine: bool,
}

impl Session {
    /// A session whose login is complete: the client has its first ReadyForQuery.
    #[must_use]
    pub fn new(settings: SessionSettings, _now: Instant) -> Self {
        let mut client = Scanner::frontend();
        client.set_phase(Phase::Normal);
        let mut server = Scanner::backend();
        server.set_phase(Phase::Normal);
        Self { client, server, settings, is_pristine: true }
    }

    /// Takes what the client sent: the unforwarded rest of the last chunk, and what came since.
    pub fn handle_client(&mut self, chunk: &[u8], _now: Instant, _out: &mut impl Sink) -> ClientStep {
        let mut at = 0;
        loop {
            match self.client.next(chunk, &mut at) {
                Ok(Some(_)) => self.is_pristine = false,
                Ok(None) => return ClientStep { forward: at, then: ClientThen::ReadOn },
                Err(error) => {
                    let violation = Violation { by: Peer::Client, error, report: None };
                    return ClientStep { forward: at, then: ClientThen::Violation(Box::new(violation)) };
                }
            }
        }
    }

    /// Takes what the server sent: the unforwarded rest of the last chunk, and what came since.
    pub fn handle_server(&mut self, chunk: &[u8], _now: Instant, _out: &mut impl Sink) -> ServerStep {
        let mut at = 0;
        loop {
            match self.server.next(chunk, &mut at) {
                Ok(Some(_)) => {}
                Ok(None) => return ServerStep { forward: at, inject: None, then: ServerThen::ReadOn },
                Err(error) => {
                    let violation = Violation { by: Peer::Server, error, report: None };
                    let then = ServerThen::Violation(Box::new(violation));
                    return ServerStep { forward: at, inject: None, then };
                }
            }
        }
    }

    /// The server connection ended. `tail` is what of the server's bytes was not forwarded.
    pub fn handle_server_lost(
        &mut self,
        loss: ServerLoss,
        _tail: &[u8],
        retake: Retake,
        _now: Instant,
        _out: &mut impl Sink,
    ) -> LossPlan {
        if !self.server.is_at_boundary() {
            return LossPlan::Cut;
        }
        if self.is_pristine && retake == Retake::Possible {
            return LossPlan::Retake;
        }
        let mut report = BytesMut::new();
        write_report(&mut report, loss, None, &self.settings.server, LossPhase::Unknown);
        LossPlan::Report(report.freeze())
    }

    /// Another server was taken after [`LossPlan::Retake`]. `announce` (ParameterStatus messages
    /// for what differs from what the client was told) goes to the client before its next
    /// ReadyForQuery; empty when nothing differs.
    pub fn server_taken(&mut self, server: ServerName, _announce: Bytes, _now: Instant) {
        self.settings.server = server;
        self.server = Scanner::backend();
        self.server.set_phase(Phase::Normal);
    }

    /// The client closed its sending side (half-close): the server's EOF, once it has answered
    /// everything, is the regular end.
    pub fn handle_client_eof(&mut self) {}

    /// The session ends, for whatever reason: records the statements that are still in flight as
    /// lost.
    pub fn finish(&mut self, _now: Instant, _out: &mut impl Sink) {}

    /// How long the next statement waited for a server.
    pub fn note_wait(&mut self, _waited: Duration) {}

    /// How long the client did not take the bytes of the answer in progress.
    pub fn note_client_blocked(&mut self, _blocked: Duration) {}

    /// Whether nothing is in progress: the server connection could be exchanged for another.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        false
    }

    /// Whether the client has sent nothing yet.
    #[must_use]
    pub fn is_pristine(&self) -> bool {
        self.is_pristine
    }

    /// Whether the client must not be read.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        false
    }

    /// The transaction status of the last ReadyForQuery.
    #[must_use]
    pub fn transaction_status(&self) -> TransactionStatus {
        TransactionStatus::Idle
    }

    /// Why the session cannot leave its server even while it is idle, if so.
    #[must_use]
    pub fn pinned(&self) -> Option<PinReason> {
        None
    }
}
