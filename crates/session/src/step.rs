//! What the caller does with a chunk that it passed to the session.

use bytes::Bytes;
use trunkline_codec::scan::FrameError;
use trunkline_codec::sqlstate::SqlState;

use crate::limits::PARAMETERS_MAX;

/// What to do with a chunk from the client.
#[derive(Debug)]
pub struct ClientStep {
    /// The number of bytes from the front that go to the server now. The rest is kept and passed in again,
    /// followed by what the client sent since.
    pub forward: usize,
    /// What to do after that.
    pub then: ClientThen,
}

/// What to do after forwarding client bytes.
#[derive(Debug)]
pub enum ClientThen {
    /// Read more from the client.
    ReadOn,
    /// Read no more from the client until [`crate::Session::is_paused`] is false; then pass the
    /// rest in again, even if nothing was added to it.
    Pause,
    /// Write these bytes, requests of the proxy itself, to the server after the forwarded ones; then do as
    /// for [`Self::Pause`].
    Ask(Bytes),
    /// The client sent Terminate, which is forwarded: nothing after it goes to the server.
    Terminate,
    /// The request is answered with the client's deferred error; it goes to no server.
    Refuse(Box<Refused>),
    /// The client sent a message of a type that does not exist, whose type byte is the last that is forwarded.
    /// The server answers what is due, refuses the rest and closes: nothing more of the client goes to it.
    Unknown(FrameError),
    /// The client broke the framing: the session ends.
    Violation(Box<Violation>),
}

/// A request answered in the server's place.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// The number of bytes after the forwarded ones that are dropped. The rest is passed in again at once.
    pub dropped: usize,
    /// To be written to the client; empty when its request has yet to end.
    pub answer: Bytes,
    /// Whether the answer ends the transaction. A server that was put into a failed transaction is then of no use.
    pub is_end: bool,
}

/// What to do with a chunk from the server.
#[derive(Debug)]
pub struct ServerStep {
    /// The number of bytes from the front that go to the client now. The rest is kept and passed in again,
    /// followed by what the server sent since.
    pub forward: usize,
    /// The number of bytes after them that do not go to the client. If it is not zero, the rest of the chunk is
    /// passed in again at once, without waiting for the server.
    pub dropped: usize,
    /// Messages of the proxy itself that go to the client next. Then the rest of the chunk is passed
    /// in again at once, without waiting for the server.
    pub inject: Option<Bytes>,
    /// What to do after that.
    pub then: ServerThen,
}

/// What to do after forwarding server bytes.
#[derive(Debug)]
pub enum ServerThen {
    /// Read more from the server.
    ReadOn,
    /// The server ended an idle session with a FATAL error. That is the rest of the chunk, and held
    /// back. Read more from the server; a client message meanwhile is not forwarded. When the
    /// server closes, or has not closed soon, [`crate::Session::handle_server_lost`] decides.
    Farewell,
    /// The same, but all the server said is that an administrator's command ended the connection (FATAL 57P01): that of a
    /// server that shuts down, or of an operator who ended this session alone. Either take it for the server's end, as for
    /// [`Self::Farewell`], without waiting for it to close, or for the session's: call
    /// [`crate::Session::accept_farewell`] and pass the chunk in again.
    Terminated,
    /// The server, a standby, ended a request that may be repeated: with this code it was canceled
    /// for recovery, or the server is shutting down. The error is the rest of the chunk, held back.
    /// Either leave this server, call [`crate::Session::rewind`] and go on as for
    /// [`crate::LossPlan::Repeat`], or call [`crate::Session::accept_answer`] and pass the chunk in
    /// again. With 57P01 it may also be the session's own end, as for [`Self::Terminated`].
    Conflict(SqlState),
    /// The server, a standby that was to be [asked first](crate::Session::ask_standby_first), leaves the request to the primary.
    /// Nothing of it was done, and nothing was forwarded: what the server has said so far is the rest of the chunk. Either leave
    /// this server, call [`crate::Session::rewind`] and pass the request in again with the primary, or call
    /// [`crate::Session::accept_answer`] and pass the chunk in again.
    Refused(StandbyRefusal),
    /// The server broke the framing, or reports too much to be followed: the session ends.
    Violation(Box<Violation>),
}

/// Why the primary is to run a request that a standby has refused. Nothing of it was done there: its transaction has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandbyRefusal {
    /// It is not possible during recovery.
    Recovery,
    /// The session's transactions are serializable, which no standby's are.
    Serializable,
    /// An object is not there or not as expected: it may have been made a moment ago.
    Catalog,
}

/// A peer sent what ends the session.
#[derive(Debug)]
pub struct Violation {
    /// The peer.
    pub by: Peer,
    /// What it sent; for the log.
    pub error: ViolationError,
    /// An ErrorResponse to write to the client after the bytes already forwarded to it. `None`
    /// while the client is inside a message: it would take the error for data.
    pub report: Option<Bytes>,
}

/// Why the messages of a peer are followed no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ViolationError {
    /// It broke the framing, so they can no longer be told apart.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The server reported more parameters since the login than a session follows.
    #[error("ParameterStatus for more than {PARAMETERS_MAX} parameters since the login")]
    TooManyParameters,
}

/// A side of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The application.
    Client,
    /// PostgreSQL.
    Server,
}
