//! User-defined functions, whose effects become known later, and values that are read back.

use std::sync::Arc;

use super::Session;
use crate::carried::login_values::{LoginValue, is_plain};
use crate::carried::unsettled::Unsettled;
use crate::limits::READ_BACK_MAX;
use crate::pin::PinReason;
use crate::settings::Mobility;
use crate::sql::functions::Functions;

impl Session {
    /// The values of settings have come, in this row; `None` when they could not be read.
    #[cold]
    pub(crate) fn values_read(&mut self, row: Option<&[u8]>) {
        if let Some(followed) = &mut self.carried.followed {
            followed.values_read(row, &self.carried.parameters);
            self.follow_transaction_ended();
        }
    }

    /// All of the answer has come: it had no row if the values are still due.
    pub(crate) fn values_settled(&mut self) {
        if self
            .carried
            .followed
            .as_ref()
            .is_some_and(|followed| followed.pins.contains(PinReason::ReadingBack))
        {
            self.values_read(None);
        }
    }
}

impl Session {
    /// The session with the functions of its database, before anything was sent.
    #[must_use]
    pub fn with_functions(mut self, functions: Option<Arc<Functions>>) -> Self {
        if let Some(followed) = &mut self.carried.followed {
            followed.unsettled = Unsettled::new(functions.clone());
        }
        self.carried.functions = functions;
        self
    }

    /// Settles calls of functions that are known by now. Returns whether none is left; else call this again.
    #[inline]
    pub fn settle_calls(&mut self) -> bool {
        let Some(followed) = &mut self.carried.followed else { return true };
        if followed.unsettled.is_settled() {
            return true;
        }
        followed.settle_calls();
        followed.unsettled.is_settled()
    }

    /// The same for a session that is about to leave a server that still serves: also what its prepared statements
    /// have called until now is waited for.
    pub fn settle_calls_before_leaving(&mut self) -> bool {
        let must_look =
            self.carried.followed.as_mut().is_some_and(|f| f.unsettled.must_look_before_leaving());
        self.settle_calls() && !must_look
    }
}

impl Session {
    /// Has the values of these settings read that the login gave, at the next idle point. The session is pinned until
    /// then. Those that it has set itself, and that the server cannot tell any more, are left out, and so are names that
    /// no ordinary setting has.
    pub fn ask_login_values<'a>(&mut self, keys: impl IntoIterator<Item = &'a str>) {
        if self.mobility == Mobility::Fixed {
            return;
        }
        let followed = self.followed();
        let can_be_told = |key: &&str| is_plain(key) && !followed.hides_login_value(key);
        let keys: Vec<Box<str>> =
            keys.into_iter().filter(can_be_told).take(READ_BACK_MAX).map(Box::from).collect();
        if !keys.is_empty() {
            followed.login_values.keys = keys;
            followed.pin(PinReason::ReadingBack);
        }
    }

    /// What was read, once.
    pub fn take_login_values(&mut self) -> Option<Vec<LoginValue>> {
        self.carried.followed.as_mut()?.login_values.read.take()
    }
}
