//! What a session is told at its start.

use std::sync::Arc;

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
