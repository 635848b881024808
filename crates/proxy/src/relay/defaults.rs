//! What the session's first login gave: it is certain before the session leaves that server.

use std::sync::Arc;
use std::time::Instant;

use super::Relay;
use super::attach::Attachment;
use crate::defaults::ReportedDefaults;
use crate::limits::TICK;

impl Relay {
    /// Takes in what looks from before and after the first login have found. Where they differ the server is asked, and
    /// the session is pinned until it has answered.
    pub(super) fn confirm_defaults(&mut self) {
        let is_on_one = matches!(self.server, Attachment::Attached { .. });
        if !self.context.own.is_unconfirmed() || !is_on_one || self.context.relogin.is_none() {
            return;
        }
        let defaults = &self.worker.shared.defaults;
        // Asked after each request until then.
        if !self.context.own.is_looked_at(defaults) {
            return;
        }
        let told = ReportedDefaults::of(self.session.defaults());
        let info = Arc::clone(&self.context.info);
        let keys = self.context.own.confirm(defaults, [&info.user, &info.database], &told);
        if !keys.is_empty() {
            tracing::debug!(
                session.id = info.id.0, settings = ?keys,
                "defaults changed around the login, the server is asked which the session has"
            );
            self.session.ask_login_values(keys.iter().map(|key| &**key));
        }
    }

    /// Has the session woken when a look from behind its first login may have ended; whether it is worth waiting for.
    pub(super) fn await_confirmation(&mut self) -> bool {
        let now = Instant::now();
        let is_due = self.context.own.is_confirmed_soon(now) && self.context.relogin.is_some();
        if is_due {
            self.slot.due_by(now + TICK);
        }
        is_due
    }

    /// Takes what the server has told.
    pub(super) fn take_defaults(&mut self) {
        if let Some(values) = self.session.take_login_values() {
            self.context.own.told(values);
        }
    }
}
