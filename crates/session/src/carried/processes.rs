//! Who has notified: the process id in a NotificationResponse, as the client knows it.
//!
//! A client was told the process id of the server it logged in on, and takes a notification that bears it for its own.
//! On another server the session is another process, and the number that the client knows may be a stranger's there.
//! So the two are exchanged: what the session's own process sent is told under the number that the client knows, and
//! what a stranger of that number sent under the number of the session's own. Any other stays as it is.
//!
//! Source: PostgreSQL 18, src/backend/commands/async.c, `NotifyMyFrontEnd`.

use trunkline_codec::ids::ProcessId;

/// The session's process as the client was told, and as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Processes {
    /// `None` for a client that was told none.
    pub(crate) told: Option<ProcessId>,
    /// `None` on a server that did not say.
    pub(crate) own: Option<ProcessId>,
}

impl Processes {
    /// What the client is told in the place of `process`; `None` when that stays.
    pub(crate) fn exchanged(self, process: ProcessId) -> Option<ProcessId> {
        let (told, own) = (self.told?, self.own?);
        match process {
            _ if told == own => None,
            _ if process == own => Some(told),
            _ if process == told => Some(own),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn exchanged(told: i32, own: i32, process: i32) -> Option<i32> {
        let processes = Processes { told: Some(ProcessId(told)), own: Some(ProcessId(own)) };
        processes.exchanged(ProcessId(process)).map(|id| id.0)
    }

    #[test]
    fn own_and_known_are_exchanged_and_nothing_else() {
        assert_eq!([7, 8, 9].map(|from| exchanged(7, 8, from)), [Some(8), Some(7), None]);
        assert_eq!([7, 8].map(|from| exchanged(7, 7, from)), [None, None]);
        let untold = Processes { told: None, own: Some(ProcessId(8)) };
        assert_eq!(untold.exchanged(ProcessId(8)), None);
    }
}
