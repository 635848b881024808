//! The last words to a client, and closing so that it hears them.

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
    /// Both sides know, or there is nobody left to tell.
    Silent,
    /// These bytes, ending with an ErrorResponse, then the end.
    Say(Vec<u8>),
    /// These bytes, which end inside a message.
    Cut(Vec<u8>),
}

/// The session is to end: no other server will do.
const NOWHERE: RecoveryOptions = RecoveryOptions { can_move: false, can_repeat: false };

impl Relay {
    /// Ends the session with an ErrorResponse, behind what the client has yet to take.
    pub(super) fn say(&mut self, last_words: &[u8]) -> Ending {
        let mut bytes = self.to_client.take_pending();
        bytes.extend_from_slice(last_words);
        if bytes.is_empty() { Ending::Silent } else { Ending::Say(bytes) }
    }

    /// Ends the session behind the last words that are already on their way: the client is given the time to read them.
    pub(super) fn say_no_more(&mut self) -> Ending {
        Ending::Say(self.to_client.take_pending())
    }

    /// Ends an idle session for the proxy's own reason.
    pub(super) fn refuse(&mut self, refusal: &Refusal) -> Ending {
        let info = &self.context.info;
        tracing::info!(session.id = info.id.0, client.addr = %info.client, "session is ended: {refusal}");
        self.worker.metrics.sessions_refused.one(refusal.reason());
        let mut out = BytesMut::new();
        refusal.write(&mut out);
        self.say(&out)
    }

    /// Ends the session wherever it stands.
    pub(super) fn kill(&mut self) -> Ending {
        if !matches!(self.server, Attachment::Attached { .. }) {
            return self.refuse(&Refusal::ShuttingDown);
        }
        let held = self.to_client.take_held();
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

/// Writes the last words and closes.
pub(crate) async fn close(client: Transport, ending: Ending) {
    match ending {
        Ending::Silent => {}
        Ending::Say(bytes) | Ending::Cut(bytes) => client.close_with(&bytes).await,
    }
}
