//! What becomes of the connection of such a session once its request is answered.

use std::task::Context;
use std::time::Instant;

use bytes::BytesMut;
use trunkline_codec::sqlstate::SqlState;
use trunkline_codec::write::{ErrorReport, error_response};
use trunkline_session::PinReason;
use trunkline_telemetry::metrics::RepeatCause;

use super::decision::Decision;
use super::state::{UnitPlace, Within, WithinOn};
use crate::relay::attachment::Attachment;
use crate::relay::{Ending, Relay};

impl Relay {
    /// The session is idle, and has perhaps given its connection back: sees to it that its client is read again. `Some` if it cannot
    /// go on.
    pub(in crate::relay) fn split_rests(&mut self, cx: &mut Context<'_>) -> Option<Ending> {
        self.context.split.as_ref()?;
        self.rests_within(cx);
        let split = self.context.split.as_mut()?;
        if split.place == UnitPlace::OnPrimary
            && matches!(self.server, Attachment::Attached(_))
            && self.session.is_idle()
            && !self.to_server.input.has_read_ahead()
        {
            // What comes next goes where the session is.
            split.decision = Decision::none();
        }
        if !self.client.may_read() && split.behind.is_empty() {
            return None;
        }
        match (&self.server, split.place) {
            // What it has sent meanwhile was not looked at.
            (Attachment::Detached, _) => cx.waker().wake_by_ref(),
            (
                Attachment::Attached(_),
                UnitPlace::ReadOnPrimary(_) | UnitPlace::Within(Within { on: WithinOn::Primary, .. }),
            ) if self.session.is_idle() => {
                // It keeps its connection, and all that it does goes there.
                split.place = UnitPlace::OnPrimary;
                split.decision = Decision::none();
                self.read_behind();
                cx.waker().wake_by_ref();
            }
            (
                Attachment::Attached(_),
                UnitPlace::OnStandby(_) | UnitPlace::Within(Within { on: WithinOn::Standby, .. }),
            ) if self.session.is_idle() => {
                return self.leaves_standby(cx);
            }
            (Attachment::Attached(_) | Attachment::Queued(_) | Attachment::Taking(_), _) => {}
        }
        None
    }

    /// What comes next may be the primary's: the standby's connection is given up if it could not be given back.
    fn leaves_standby(&mut self, cx: &mut Context<'_>) -> Option<Ending> {
        let is_waiting = self.session.has_questions()
            || self.context.own.is_asked()
            || self.context.own.is_unconfirmed()
            || !self.to_server.is_flushed();
        if is_waiting {
            return None;
        }
        match self.session.movability() {
            Ok(()) => {
                self.let_go(cx);
                None
            }
            // Known in a moment.
            Err(PinReason::UnreadFunction | PinReason::ReadingBack) => None,
            Err(reason) => {
                tracing::warn!(
                    session.id = self.context.info.id.0, reason = %reason,
                    "session ends because it cannot leave the standby that its last request has run on"
                );
                let mut error = BytesMut::new();
                let message = "the session cannot leave the server that its last request has run on";
                error_response(&mut error, &ErrorReport::fatal(SqlState::PROGRAM_LIMIT_EXCEEDED, message));
                Some(self.say(&error))
            }
        }
    }

    /// The unit is sent again to a server of the same side that is there already.
    pub(in crate::relay) fn repeat_in_place(&mut self, cause: RepeatCause, since: Instant) {
        let place = self.context.split.as_ref().map(|split| split.place);
        self.repeat_since(cause, since);
        if let (Some(split), Some(place)) = (&mut self.context.split, place) {
            split.place = place;
        }
    }
}
