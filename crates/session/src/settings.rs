//! The settings of a session, fixed at its start.

use std::sync::Arc;

use crate::carried::parameters::LoginParameters;

/// Name of the server a session is on, as in the configuration; clients see it in error details.
pub type ServerName = Arc<str>;

/// The settings of a session, fixed at its start.
#[derive(Clone, Debug)]
pub struct SessionSettings {
    /// Longest SQL kept of one statement, in bytes; longer SQL is cut. Zero keeps none.
    pub sql_bytes_max: usize,
    /// Whether the client gets the times of its statements.
    pub report_timing: ReportTiming,
    /// The server the session logged in on.
    pub server: ServerName,
    /// Whether the session tracks the conversation.
    pub tracking: Tracking,
    /// Whether the session can leave its server.
    pub mobility: Mobility,
    /// What that server is.
    pub role: ServerRole,
    /// Under which names its prepared statements stand on servers.
    pub statement_names: StatementNames,
    /// The server's parameters as the client received them at its login. Sessions may share them. A
    /// [`Mobility::Fixed`] session needs none.
    pub parameters: Arc<LoginParameters>,
}

/// Whether a session can leave its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mobility {
    /// It stays: its authentication was relayed, or it is a replication session. No state is kept.
    Fixed,
    /// It can move. Its settings and prepared statements are kept for another server.
    Movable,
}

/// Under which names the prepared statements of a session's client stand on its server connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatementNames {
    /// Under those that the client gives them.
    OfClient,
    /// Where it can be, under names made from their content: for sessions that take turns on connections, which share
    /// them then. Such a session is passed chunks by [`crate::Session::handle_client_renaming`] and
    /// [`crate::Session::handle_server_renaming`].
    OfContent {
        /// Statements kept on a connection under such names: those that were not used for longest are closed where the
        /// next session finds more.
        statements_max: u32,
    },
}

/// Who gets the server connections that a session takes turns on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ConnectionHeirs {
    /// Others, too: they find nothing of what it leaves there.
    #[default]
    Anyone,
    /// It alone: it finds there what its sequences have given.
    Itself,
}

/// What a server is, as PostgreSQL reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerRole {
    /// It takes writes: no request may be sent to it twice.
    Primary,
    /// It is in recovery, so it cannot write.
    Standby,
}

/// Whether the client gets the times of its statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportTiming {
    /// It is not.
    Off,
    /// A NoticeResponse precedes each ReadyForQuery that ends a statement.
    Notice,
}

/// Whether the session tracks the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracking {
    /// Every request and answer is: the session knows when it is idle.
    Full,
    /// Only message boundaries are: a replication session, which never leaves its server.
    Opaque,
}
