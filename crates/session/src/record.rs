//! What is known of a statement once it is complete.

use std::time::Duration;

use trunkline_codec::backend::TransactionStatus;
use trunkline_codec::sqlstate::SqlState;

use crate::conversation::outstanding::Request;
use crate::settings::ServerName;
use crate::sql::fingerprint::Fingerprint;

/// Takes the statements of a session as they complete.
pub trait Sink {
    /// One statement is complete. Called on the path of the answer: it must be short.
    fn statement(&mut self, record: &StatementRecord<'_>);
}

/// Drops every record.
impl Sink for () {
    fn statement(&mut self, _: &StatementRecord<'_>) {}
}

/// One statement: a Query (all of its SQL statements together), each Execute of an extended query,
/// a FunctionCall, or another extended message that failed.
#[derive(Clone, Debug)]
pub struct StatementRecord<'a> {
    /// What was sent.
    pub kind: StatementKind,
    /// Its SQL, as much of it as `sql_bytes_max` allows. `None` when it is not kept or not known.
    pub sql: Option<&'a [u8]>,
    /// How it ended.
    pub completion: Completion<'a>,
    /// The transaction status the server reported last: for a Query, with its own ReadyForQuery;
    /// for an Execute, with the one before its pipeline.
    pub transaction: TransactionStatus,
    /// How long it took.
    pub timing: Timing,
    /// Number of DataRow messages.
    pub rows: u64,
    /// Bytes of its answer.
    pub bytes: u64,
    /// How often it was sent again to another server.
    pub retries: u32,
    /// The server that answered.
    pub server: &'a ServerName,
    /// Its fingerprint, if it is one of those that are drawn to compare servers by: by number, so that long ones are as
    /// likely as short ones; all of a session that runs few. Of a prepared statement only where its SQL is kept.
    pub sampled: Option<Fingerprint>,
}

/// What was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StatementKind {
    /// A simple query.
    Query,
    /// An Execute.
    Execute,
    /// A FunctionCall.
    FunctionCall,
    /// A Parse; recorded only when it failed.
    Parse,
    /// A Bind; recorded only when it failed.
    Bind,
    /// A Describe; recorded only when it failed.
    Describe,
    /// A Close; recorded only when it failed.
    Close,
}

impl StatementKind {
    /// `None` of what is never recorded.
    pub(crate) fn of(request: Request) -> Option<Self> {
        match request {
            Request::Query => Some(Self::Query),
            Request::Execute => Some(Self::Execute),
            Request::FunctionCall => Some(Self::FunctionCall),
            Request::Parse => Some(Self::Parse),
            Request::Bind => Some(Self::Bind),
            Request::DescribeStatement | Request::DescribePortal => Some(Self::Describe),
            Request::Close => Some(Self::Close),
            Request::BrokenFlush | Request::Sync | Request::CopyEnd => None,
        }
    }
}

/// How a statement ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion<'a> {
    /// With this command tag, such as `SELECT 1`; the last one of a Query. Empty for a
    /// FunctionCall.
    Complete(&'a [u8]),
    /// There was nothing in it to do.
    Empty,
    /// It reached its row limit and may go on with another Execute.
    Suspended,
    /// With an error; `None` when the server sent no code.
    Failed(Option<SqlState>),
    /// The server connection ended first.
    Lost,
}

/// How long a statement took, by phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// Until a server was ready for it.
    pub wait: Duration,
    /// From when it was sent, or the statement before it was complete if that is later, to the
    /// first byte of its answer. Equal to `server_total` when there was none.
    pub server_first: Duration,
    /// From the same start to its completion.
    pub server_total: Duration,
    /// Of that, how long the client did not take the answer.
    pub client: Duration,
}
