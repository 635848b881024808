//! What is counted of statements.

use super::label::{Label, labels};

labels! {
    /// Parts of a statement's time.
    StatementPhase {
        /// Until a server was ready for it.
        Wait = "wait",
        /// From the server's receipt to the first byte of its answer.
        ServerFirst = "server_first",
        /// From the server's receipt to the end of its answer.
        ServerTotal = "server_total",
    }
}

labels! {
    /// What was sent.
    StatementKind {
        /// A simple query.
        Query = "query",
        /// An Execute of an extended query.
        Execute = "execute",
        /// A FunctionCall.
        FunctionCall = "function_call",
        /// A Parse that failed.
        Parse = "parse",
        /// A Bind that failed.
        Bind = "bind",
        /// A Describe that failed.
        Describe = "describe",
        /// A Close that failed.
        Close = "close",
    }
}

impl From<trunkline_session::StatementKind> for StatementKind {
    fn from(kind: trunkline_session::StatementKind) -> Self {
        use trunkline_session::StatementKind as Sent;
        match kind {
            Sent::Query => StatementKind::Query,
            Sent::Execute => StatementKind::Execute,
            Sent::FunctionCall => StatementKind::FunctionCall,
            Sent::Parse => StatementKind::Parse,
            Sent::Bind => StatementKind::Bind,
            Sent::Describe => StatementKind::Describe,
            Sent::Close => StatementKind::Close,
        }
    }
}
