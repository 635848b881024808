//! The defaults of the session's first login: confirmed before the session leaves its first server.

use std::sync::Arc;
use std::time::Instant;

use super::attach::Attachment;
use super::{Relay, SessionContext};
use crate::defaults::ReportedDefaults;
use crate::limits::TICK;

impl Relay {
    /// Compares the defaults read before and after the first login. For those that differ the session's server is
    /// queried, and the session is pinned until it has answered.
    pub(super) fn confirm_defaults(&mut self) {
        let is_on_one = matches!(self.server, Attachment::Attached(_));
        if !self.context.own.is_unconfirmed() || !is_on_one || self.context.relogin.is_none() {
            return;
        }
        let defaults = &self.worker.shared.defaults;
        // This is called after each request, so it may return early.
        if !self.context.own.is_looked_at(defaults) {
            return;
        }
        let told = ReportedDefaults::of(self.session.defaults());
        let SessionContext { info, own, .. } = &mut *self.context;
        let keys = Arc::make_mut(own).confirm(defaults, info.names.of_login(), &told);
        if !keys.is_empty() {
            tracing::debug!(
                session.id = info.id.0, settings = ?keys,
                "default settings changed around the login, the session's own are queried"
            );
            self.session.ask_login_values(keys.iter().map(|key| &**key));
        }
        self.heed_login_path();
    }

    /// Pins the session if its login has given it a `search_path` in which tables are temporary without saying so.
    pub(super) fn heed_login_path(&mut self) {
        let SessionContext { own, relogin, .. } = &*self.context;
        if relogin.as_ref().is_some_and(|relogin| own.has_temporary_path(&relogin.login.startup)) {
            self.session.pin_temporary_path();
        }
    }

    /// Wakes the session when the defaults may have been read since its first login. Returns whether to wait for
    /// that.
    pub(super) fn await_confirmation(&mut self) -> bool {
        let now = Instant::now();
        let is_due = self.context.own.is_confirmed_soon(now) && self.context.relogin.is_some();
        if is_due {
            self.slot.due_by(now + TICK);
        }
        is_due
    }

    /// Takes the values that the session's server has returned.
    pub(super) fn take_defaults(&mut self) {
        if let Some(values) = self.session.take_login_values() {
            Arc::make_mut(&mut self.context.own).told(values);
            self.heed_login_path();
        }
    }
}
