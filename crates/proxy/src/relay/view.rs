//! What the admin socket and the HTTP server show of a session.

use std::sync::Arc;

use trunkline_codec::backend::TransactionStatus;

use super::Relay;
use super::attach::Attachment;
use trunkline_telemetry::sessions::{Activity, SessionRow};

impl Relay {
    /// Answers the worker's query for this session, if there is one.
    pub(super) fn answer_question(&self) {
        if self.slot.is_asked() {
            self.slot.answer(self.view());
        }
    }

    fn view(&self) -> SessionRow {
        let server = match &self.server {
            Attachment::Attached { name, .. } => Some(Arc::clone(name)),
            Attachment::Detached | Attachment::Taking(_) => None,
        };
        // A reason that lasts is shown before one that ends with the transaction.
        let pinned =
            self.session.movability().err().or(self.session.pinned()).or_else(|| self.session.stays_for());
        SessionRow { info: Arc::clone(&self.context.info), server, activity: self.activity(), pinned }
    }

    fn activity(&self) -> Activity {
        match &self.server {
            Attachment::Taking(_) => Activity::TakingServer,
            Attachment::Detached => Activity::WithoutServer,
            Attachment::Attached { .. } if self.session.outstanding() > 0 => Activity::Active,
            Attachment::Attached { .. } => match self.session.transaction_status() {
                TransactionStatus::Idle => Activity::Idle,
                TransactionStatus::InTransaction | TransactionStatus::Failed => Activity::InTransaction,
            },
        }
    }
}
