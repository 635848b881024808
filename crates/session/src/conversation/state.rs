//! The states of a session, each independent of the others.

use trunkline_codec::sqlstate::SqlState;

use crate::pin::PinReason;

/// Whether the session tracks the conversation.
///
/// ```text
///  Tracked ──(a server message the model does not explain)──> Untracked
///  Opaque (replication sessions, from the start)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Tracked,
    Untracked(PinReason),
    Opaque,
}

/// Where the extended query protocol is between two Syncs.
///
/// ```text
///            reply to an extended message          ErrorResponse to one, and
///  Synced ─────────────────────────────> Unsynced ──── its Sync not sent yet ────> Skipping
///    ^                                      │  │ its Sync is sent                     │
///    ├───────────── ReadyForQuery ──────────┘  └────────> Failed <── the client sends Sync
///    └──────────────────── ReadyForQuery ────────────────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pipeline {
    Synced,
    Unsynced,
    /// The server discards what the client sends until its next Sync.
    Skipping,
    /// An extended message failed, and the Sync after it is sent.
    Failed,
}

/// Whether the last Query followed extended messages without a Sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joined {
    Nothing,
    /// Its transaction may be the implicit one of the series, which the next Sync ends.
    Series,
}

/// How much of the answer to the oldest outstanding request has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerProgress {
    /// Nothing.
    Untouched,
    /// Some of it.
    Underway,
    /// All but the ReadyForQuery.
    Settled,
}

/// The COPY in progress, if any.
///
/// ```text
///         CopyInResponse            CopyDone, CopyFail of the client
///  None ───────────────────> In ─────────────────────> InEnded
///    ^  CopyOutResponse         CommandComplete or ErrorResponse │
///    ├───────────────────> Out ── CopyDone or ErrorResponse ──> None
///    └──(CopyBothResponse)─> Both ── CopyDone of the server ──> None
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CopyState {
    None,
    /// The server reads COPY data; Sync and Flush are ignored by it.
    In(Syncs),
    /// The client has sent all of its COPY data, or something that is none.
    InEnded(Syncs),
    Out,
    Both,
}

/// Whether the COPY in progress has swallowed a Sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Syncs {
    NoneLost,
    Lost,
}

/// How far the server has ended the connection.
///
/// ```text
///         the server's farewell       more than the farewell follows
///  Staying ────────────────> Held ─────────────────────────────────┐
///    ^  │                     │ │ end of the connection             │
///    │  │ shutdown notice     │ └──> handle_server_lost decides     │
///    │  └──────────────> Announced <───── (it was a notice) ────────┤
///    └──── ReadyForQuery ───┘ │ the session alone was ended         │
///                             └─> Accepted ┐                        │
///       FATAL ────────────────────────────┴> Forwarded <── (FATAL) ─┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Farewell {
    Staying,
    /// A shutdown notice with this code was forwarded.
    Announced(SqlState),
    /// The bytes not forwarded are the farewell.
    Held,
    /// The bytes not forwarded end this session alone, and may be forwarded.
    Accepted,
    /// A FATAL error with this code was forwarded: nothing may follow it.
    Forwarded(Option<SqlState>),
}

impl Farewell {
    /// The code of the notice that was forwarded.
    pub(crate) fn announced(self) -> Option<SqlState> {
        match self {
            Self::Announced(code) => Some(code),
            Self::Staying | Self::Held | Self::Accepted | Self::Forwarded(_) => None,
        }
    }

    /// Whether a FATAL error was forwarded.
    #[inline]
    pub(crate) fn is_forwarded(self) -> bool {
        match self {
            Self::Forwarded(_) => true,
            Self::Staying | Self::Announced(_) | Self::Held | Self::Accepted => false,
        }
    }
}

/// What the client can still send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientEnd {
    Open,
    HalfClosed,
    Terminated,
    /// It sent a message of an unknown type, for which the server will close the connection.
    Refused,
}

/// Whether the client may send more requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Open,
    /// Once half of the outstanding requests are answered.
    Full,
    /// Once all of them are: the next request needs something before it that does not go between requests.
    Waiting,
}

/// The long message that the client is sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LongMessage {
    /// A Query of a session that may move.
    Query,
    /// A Parse of a session that may move.
    Parse,
    /// None, or one whose contents do not matter.
    Other,
}

/// Whether a direction has bytes that were passed in and not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    Empty,
    Held,
}

impl Tail {
    #[inline]
    pub(crate) fn of(chunk: &[u8], forward: usize) -> Self {
        if forward < chunk.len() { Self::Held } else { Self::Empty }
    }
}

/// Whether the transaction at hand may have made tables and the like, which nobody else has or may come to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ObjectsMade {
    None,
    Possible,
}

impl ObjectsMade {
    /// A statement is complete that does more than read: what has this command tag changes rows, or what ends with the
    /// transaction. Queries may make tables, or call what does.
    #[cold]
    pub(crate) fn completed(&mut self, tag: &[u8]) {
        let command = tag.split(|byte| *byte == b' ' || *byte == 0).next().unwrap_or_default();
        let makes_none = match command {
            b"INSERT" | b"UPDATE" | b"DELETE" | b"MERGE" | b"COPY" | b"FETCH" | b"MOVE" | b"SHOW" => true,
            b"BEGIN" | b"START" | b"COMMIT" | b"ROLLBACK" | b"SAVEPOINT" | b"RELEASE" => true,
            b"SET" | b"RESET" | b"DECLARE" | b"CLOSE" | b"LOCK" | b"NOTIFY" | b"LISTEN" | b"UNLISTEN" => true,
            b"PREPARE" | b"DEALLOCATE" | b"DISCARD" => true,
            _other => false,
        };
        if !makes_none {
            *self = Self::Possible;
        }
    }
}

/// What the request in flight has done to the transaction, as far as the client has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransactionEffect {
    /// As it was before.
    Unchanged,
    /// It was begun.
    Begun,
    /// It was ended, by the last statement that the client has seen complete.
    JustEnded,
    /// It was ended, and another statement has completed since.
    Ended,
}

impl TransactionEffect {
    /// A statement is complete.
    #[inline]
    pub(crate) fn completed(&mut self, is_end: bool, tag: &[u8]) {
        match *self {
            _ if is_end => *self = Self::JustEnded,
            _ if matches!(tag, b"BEGIN" | b"START TRANSACTION") => *self = Self::Begun,
            Self::JustEnded => *self = Self::Ended,
            Self::Unchanged | Self::Begun | Self::Ended => {}
        }
    }
}

/// Whether the client is told up to where it has written with the unit at hand.
///
/// ```text
///                       ReadyForQuery                 asked              no answer, asked
///  Running(MayWrite) ------------------> NotYet -----------------> Once ------------------> Again
///    ^                                                               | the answer             | the answer, or none
///    '---------------------------------------------------------------'------------------------'
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnitReport {
    /// It is not ready, and does this.
    Running(UnitEffect),
    /// Its ReadyForQuery is withheld until the server has told.
    Withheld(PositionAsked),
}

impl Default for UnitReport {
    fn default() -> Self {
        Self::Running(UnitEffect::default())
    }
}

/// What the unit at hand does, as far as the caller knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnitEffect {
    /// It may write.
    #[default]
    MayWrite,
    /// It only reads.
    OnlyReads,
}

/// How often the server was asked for a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PositionAsked {
    NotYet,
    Once,
    Again,
}
