//! What the log says of a server beside the changes of its state.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use trunkline_codec::ids::SystemIdentifier;

use crate::SERVERS_MAX;

/// Notices kept for [`super::Judge::poll_notice`]; the oldest go first.
const NOTICES_MAX: usize = 4 * SERVERS_MAX;

/// Something that an operator wants to know of a server, and that changes no state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The server's configured name.
    pub name: Arc<str>,
    /// What it is.
    pub kind: NoticeKind,
}

/// What there is to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    /// It answers again, but has failed too often of late to return at once.
    HeldBack {
        /// For how long yet, unless no other standby serves.
        hold: Duration,
        /// How often it has failed,
        failures: usize,
        /// within this time.
        within: Duration,
    },
    /// It refuses the monitoring role, for this reason.
    MonitorRefused(String),
    /// With every other server that answers it belongs to another cluster, which is the one that is watched now.
    Adopted {
        /// The number of that cluster,
        system: SystemIdentifier,
        /// and of the one before.
        was: Option<SystemIdentifier>,
    },
    /// It refuses the monitoring role no longer.
    MonitorAccepted,
}

/// The notices that nobody has read yet.
#[derive(Debug, Default)]
pub(super) struct Notices(VecDeque<Notice>);

impl Notices {
    pub(super) fn push(&mut self, notice: Notice) {
        if self.0.len() >= NOTICES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(notice);
    }

    pub(super) fn pop(&mut self) -> Option<Notice> {
        self.0.pop_front()
    }
}
