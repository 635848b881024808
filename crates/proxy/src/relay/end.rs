//! How a session ends: the last messages to its client, and a close that does not discard them.

use std::time::Instant;

use bytes::BytesMut;
use trunkline_net::Transport;
use trunkline_session::{LossPlan, RecoveryOptions, ServerLoss};

use super::Relay;
use super::attach::Attachment;
use crate::errors::Refusal;
use trunkline_telemetry::metrics::LossCause;

/// How a session ends.
#[derive(Debug)]
pub(crate) enum Ending {
    /// Without a message: the client knows, or has left.
    Silent,
    /// With these bytes, the last of which are an ErrorResponse.
    Say(Vec<u8>),
    /// With these bytes, which end inside a message.
    Cut(Vec<u8>),
}

/// For a session that must end: no other server is taken.
const NOWHERE: RecoveryOptions = RecoveryOptions { can_move: false, can_repeat: false };

impl Relay {
    /// Ends the session with these messages, after the bytes that the client has not taken yet.
    pub(super) fn say(&mut self, last_words: &[u8]) -> Ending {
        let mut bytes = self.to_client.take_pending();
        bytes.extend_from_slice(last_words);
        if bytes.is_empty() { Ending::Silent } else { Ending::Say(bytes) }
    }

    /// Ends the session after the bytes that are already on their way, and gives the client the time to read them.
    pub(super) fn say_no_more(&mut self) -> Ending {
        Ending::Say(self.to_client.take_pending())
    }

    /// Ends an idle session for a reason of the proxy.
    pub(super) fn refuse(&mut self, refusal: &Refusal) -> Ending {
        let info = &self.context.info;
        tracing::info!(
            session.id = info.id.0, client.addr = %info.client, listener = %info.names.listener, db.user = %info.names.user,
            db.name = %info.names.database, reason = %refusal, "proxy ends the session"
        );
        self.worker.metrics.sessions_refused.one(refusal.reason());
        let mut out = BytesMut::new();
        refusal.write(&mut out);
        self.say(&out)
    }

    /// What is said to a client that has not left: where TLS with it has failed, there is an alert to send, and somebody to
    /// tell.
    pub(super) fn unless_tls_failed(&self, ending: Ending) -> Ending {
        match (ending, self.client.tls_failure()) {
            (Ending::Silent, Some(error)) => {
                let info = &self.context.info;
                tracing::warn!(
                    session.id = info.id.0, client.addr = %info.client, listener = %info.names.listener,
                    db.user = %info.names.user, db.name = %info.names.database, %error,
                    "TLS with the client failed, the session ends"
                );
                Ending::Cut(Vec::new())
            }
            (ending, _) => ending,
        }
    }

    /// Ends the session in whatever state it is.
    pub(super) fn kill(&mut self) -> Ending {
        if !matches!(self.server, Attachment::Attached(_)) {
            return self.refuse(&Refusal::ShuttingDown);
        }
        let held = self.to_client.input.take_held();
        let plan = self.record(|session, recorder| {
            session.handle_server_lost(ServerLoss::GivenUp, &held, NOWHERE, Instant::now(), recorder)
        });
        match plan {
            LossPlan::Move | LossPlan::Repeat | LossPlan::Fail { .. } | LossPlan::Report(_) => {
                self.refuse(&Refusal::ShuttingDown)
            }
            LossPlan::AlreadyReported(_) => self.say_no_more(),
            LossPlan::Close => self.say(&[]),
            LossPlan::Cut => {
                self.count_loss(LossCause::GivenUp);
                Ending::Cut(self.to_client.take_pending())
            }
        }
    }
}

/// Writes the last messages and closes.
pub(crate) async fn close(client: Transport, ending: Ending) {
    match ending {
        Ending::Silent => {}
        Ending::Say(bytes) | Ending::Cut(bytes) => client.close_with(&bytes).await,
    }
}
