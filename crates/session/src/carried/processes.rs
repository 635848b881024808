//! The process ID in a NotificationResponse, as the client knows it.
//!
//! A client knows the process ID of the server process that it logged in on, and takes a notification with that ID as
//! its own. On another server the session has another process, and the ID that the client knows may belong to an
//! unrelated process there. So the proxy exchanges the two: a notification from the session's own process gets the ID
//! that the client knows, and one from the unrelated process gets the session's real ID. Any other is unchanged.
//!
//! Source: PostgreSQL 18, src/backend/commands/async.c, `NotifyMyFrontEnd`.

use trunkline_codec::ids::ProcessId;

/// The session's process ID as the client knows it, and as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Processes {
    /// `None` if the client received none.
    pub(crate) told: Option<ProcessId>,
    /// `None` on a server that did not send it.
    pub(crate) own: Option<ProcessId>,
}

impl Processes {
    /// The ID that the client gets in place of `process`; `None` when that is unchanged.
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
