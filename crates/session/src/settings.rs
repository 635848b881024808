//! What a session is told at its start.

use std::sync::Arc;

use crate::carried::parameters::LoginParameters;

/// Name of the server a session is on, as operators know it; told to clients in error details.
pub type ServerName = Arc<str>;

/// What a session is told at its start.
#[derive(Clone, Debug)]
pub struct SessionSettings {
    /// Longest SQL kept of one statement, in bytes; longer SQL is cut. Zero keeps none.
    pub sql_bytes_max: usize,
    /// Whether the client is told how long its statements took.
    pub report_timing: ReportTiming,
    /// The server the session logged in on.
    pub server: ServerName,
    /// Whether the conversation is followed.
    pub tracking: Tracking,
    /// Whether the session may ever leave its server.
    pub mobility: Mobility,
    /// What that server is.
    pub role: ServerRole,
    /// What the client was told at its login of the server's parameters. Sessions may share it. A
    /// [`Mobility::Fixed`] session needs none.
    pub parameters: Arc<LoginParameters>,
}

/// Whether a session may ever leave its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mobility {
    /// It stays: its authentication was relayed, or it is a replication session. No state is kept.
    Fixed,
    /// It may move. Its settings and prepared statements are kept, to be told to another server.
    Movable,
}

/// What a server is, as PostgreSQL reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerRole {
    /// It takes writes: no request may be sent to it twice.
    Primary,
    /// It is in recovery, so it cannot write.
    Standby,
}

/// Whether the client is told how long its statements took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportTiming {
    /// It is not.
    Off,
    /// A NoticeResponse precedes each ReadyForQuery that ends a statement.
    Notice,
}

/// Whether the conversation is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracking {
    /// Every request and answer is: the session knows when it is idle.
    Full,
    /// Only message boundaries are: a replication session, which never leaves its server.
    Opaque,
}
