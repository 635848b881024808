//! Settings of the startup packet that the server was not logged in with: RESET, RESET ALL and DISCARD ALL take them from it,
//! and before the next message that may show it they are given back.

use std::sync::Arc;

use super::staged::Staged;
use super::{Followed, QueuedRequest};
use crate::carried::gucs::Gucs;
use crate::sql::effect::{Change, Effect};

/// Whether the server has those settings, or what the session has set in their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartupLeft {
    All,
    /// Perhaps not all: something was sent that takes them away.
    Perhaps,
}

/// Whether a change takes settings of a startup packet away.
pub(super) fn undoes(change: &Change) -> bool {
    match change {
        Change::Reset { .. } | Change::ResetAll => true,
        Change::Set { .. } | Change::Local { .. } => false,
    }
}

fn may_undo(effect: &Effect) -> bool {
    match effect {
        Effect::Change(changes) => changes.iter().any(undoes),
        // Its value may be NULL.
        Effect::DiscardAll | Effect::SetConfig(_) => true,
        _other => false,
    }
}

impl Followed {
    /// Settings that a connection had are shared with the session, if they are its own.
    #[inline]
    pub(crate) fn share_settings(&mut self, had: Option<&Arc<Gucs>>) {
        if let (Some(own), Some(had)) = (&mut self.gucs, had)
            && !Arc::ptr_eq(own, had)
            && own == had
        {
            Arc::clone_from(own, had);
        }
    }

    /// The session has these from its login on.
    pub(crate) fn begin_with(&mut self, startup: Option<Arc<Gucs>>) {
        self.gucs.clone_from(&startup);
        self.startup = startup;
    }

    /// The settings that the session wants of its next connection.
    pub(crate) fn settings_wanted(&self) -> Option<Arc<Gucs>> {
        match (&self.startup, self.startup_left) {
            (None, _) | (Some(_), StartupLeft::All) => self.gucs.clone(),
            (Some(startup), StartupLeft::Perhaps) => match &self.gucs {
                None => Some(Arc::clone(startup)),
                Some(own) => Some(own.with_startup(startup).map_or_else(|| Arc::clone(own), Arc::new)),
            },
        }
    }

    /// The session has no connection, or one that was brought to what it wants.
    pub(crate) fn startup_restored(&mut self) {
        if self.startup_left == StartupLeft::Perhaps {
            let wanted = self.settings_wanted();
            self.has_new_settings |= self.gucs != wanted;
            self.gucs = wanted;
            self.startup_left = StartupLeft::All;
        }
    }

    pub(super) fn startup_undone(&mut self) {
        if self.startup.is_some() {
            self.startup_left = StartupLeft::Perhaps;
        }
    }

    /// A request goes to the server.
    #[inline]
    pub(crate) fn queue(&mut self, request: QueuedRequest) {
        if self.startup.is_some() && may_undo_startup(&request) {
            self.startup_left = StartupLeft::Perhaps;
        }
        self.queue.push_back(request);
    }

    /// Whether settings may have to be given back before the next message.
    #[inline]
    pub(crate) fn may_lack_startup(&self) -> bool {
        self.startup_left == StartupLeft::Perhaps
    }

    /// Whether a request in flight may take some away.
    pub(crate) fn is_undoing_startup(&self) -> bool {
        self.queue.iter().any(may_undo_startup)
    }

    /// The settings to be given back, with their SQL, as far as what was sent is answered.
    pub(crate) fn startup_lacking(&mut self) -> Vec<(Box<str>, Vec<u8>)> {
        let Some(startup) = self.startup.clone() else { return Vec::new() };
        let lacking = startup.keys().filter(|key| !self.has_here(key));
        let lacking: Vec<_> =
            lacking.filter_map(|key| Some((Box::from(key), startup.startup_sql(key)?))).collect();
        if lacking.is_empty() && self.staged.is_empty() && !self.is_undoing_startup() {
            self.startup_left = StartupLeft::All;
        }
        lacking
    }

    /// Whether the server has a value of the session, in the open transaction.
    fn has_here(&self, key: &str) -> bool {
        let decided = self.staged.iter().rev().find_map(|staged| match staged {
            Staged::Change(Change::Set { key: of, .. }, _) if **of == *key => Some(true),
            Staged::Change(Change::Reset { key: of, .. }, _) if **of == *key => Some(false),
            Staged::Change(Change::ResetAll, _) => Some(false),
            Staged::Startup(of) if **of == *key => Some(true),
            Staged::Change(..) | Staged::Startup(_) | Staged::Savepoint(_) | Staged::Kept(_) => None,
        });
        decided.unwrap_or_else(|| self.has_set(key.as_bytes()))
    }

    /// The server has a setting again, as long as the open transaction is not undone.
    pub(crate) fn startup_staged(&mut self, key: Box<str>) {
        self.stage(Staged::Startup(key));
    }

    /// The server has a setting again.
    pub(crate) fn startup_settled(&mut self, key: &str) {
        if let Some(startup) = self.startup.clone() {
            self.change_settings(|gucs| {
                gucs.take_back(&startup, key);
                Ok(())
            });
        }
    }
}

fn may_undo_startup(request: &QueuedRequest) -> bool {
    match request {
        QueuedRequest::Query { effects, .. } => effects.iter().any(may_undo),
        QueuedRequest::Execute(lasting) => may_undo(&lasting.effect),
    }
}
