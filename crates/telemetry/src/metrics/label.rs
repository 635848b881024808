//! The closed sets that label values come from: never a user's text.

use trunkline_codec::sqlstate::SqlState;
use trunkline_session::{PinReason, ServerLoss};

/// A closed set of label values.
pub trait Label: Copy + 'static {
    /// How many values there are.
    const COUNT: usize;
    /// All of them, in the order of [`Label::index`].
    const ALL: &'static [Self];
    /// The word in the metrics.
    fn word(self) -> &'static str;
    /// Its place in [`Label::ALL`].
    fn index(self) -> usize;
}

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl Label for $name {
            const ALL: &'static [Self] = &[$($name::$variant,)+];
            const COUNT: usize = Self::ALL.len();

            fn word(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

pub(super) use labels;

labels! {
    /// What a session does.
    ActivityLabel {
        /// A request is being answered.
        Active = "active",
        /// It is its client's turn, outside a transaction.
        Idle = "idle",
        /// It is its client's turn, inside a transaction.
        InTransaction = "in_transaction",
        /// It is being given a server.
        Waiting = "waiting",
    }
}

labels! {
    /// Why a connection did not become a session, or was ended by the proxy.
    RefusalReason {
        /// No eligible server within the time allowed.
        NoServer = "no_server",
        /// A limit on the number of sessions.
        TooMany = "too_many",
        /// Too many wrong proofs from the same address.
        TooManyFailures = "too_many_failures",
        /// Wrong proof, unknown user, or one that may not log in.
        Authentication = "authentication",
        /// The store of secrets could not answer.
        SecretsUnavailable = "secrets_unavailable",
        /// The client broke the protocol.
        Protocol = "protocol",
        /// Something the proxy does not speak.
        Unsupported = "unsupported",
        /// The server was lost when another could no longer be taken.
        ServerLost = "server_lost",
        /// The server's own refusal, passed on.
        Server = "server",
        /// The login took too long.
        LoginTimeout = "login_timeout",
        /// The client left before it was logged in.
        ClientGone = "client_gone",
        /// The proxy is being shut down.
        ShuttingDown = "shutting_down",
        /// The proxy has not what it takes: no random bytes, no thread to check a password on.
        Proxy = "proxy",
        /// Idle for too long.
        Idle = "idle",
        /// Its server lagged, and it could not move.
        Lagging = "lagging",
    }
}

labels! {
    /// Why another server was taken while the client had not yet sent a query.
    FailoverCause {
        /// The server refused the connection or could not be reached.
        ConnectFailed = "connect_failed",
        /// The connection did not come about in time.
        ConnectTimeout = "connect_timeout",
        /// The server said it cannot accept connections now (57P03).
        NotAccepting = "not_accepting",
        /// The server has no connection left (53300).
        TooManyConnections = "too_many_connections",
        /// The server refused the user, the database or a setting that another server may know already.
        Refused = "refused",
        /// The server was lost during its login.
        LostInLogin = "lost_in_login",
        /// The server was lost after its login, before the first query.
        LostBeforeQuery = "lost_before_query",
    }
}

labels! {
    /// Why a session left its server for another, while it was idle.
    MoveCause {
        /// The server was lost.
        ServerLost = "server_lost",
        /// The server is no longer eligible: it lags, drains, is down or has another role.
        Ineligible = "ineligible",
        /// Sessions were unevenly spread.
        Rebalance = "rebalance",
    }
}

labels! {
    /// Why a request in flight was sent again to another server.
    RepeatCause {
        /// The server was lost before it answered.
        ServerLost = "server_lost",
        /// The server was silent, and health had found it down.
        Stalled = "stalled",
        /// The server canceled it for a conflict with recovery.
        RecoveryConflict = "recovery_conflict",
        /// The server said that it was shutting down.
        Shutdown = "shutdown",
    }
}

impl RepeatCause {
    /// By how the server was lost.
    #[must_use]
    pub fn of(loss: ServerLoss) -> Self {
        match loss {
            ServerLoss::Eof | ServerLoss::Reset => RepeatCause::ServerLost,
            ServerLoss::TimedOut | ServerLoss::GivenUp => RepeatCause::Stalled,
        }
    }

    /// By what the server said.
    #[must_use]
    pub fn of_code(code: SqlState) -> Self {
        let is_conflict = [SqlState::SERIALIZATION_FAILURE, SqlState::DEADLOCK_DETECTED].contains(&code);
        if is_conflict { RepeatCause::RecoveryConflict } else { RepeatCause::Shutdown }
    }
}

labels! {
    /// Where a request went that a server was chosen for by what it does, and why.
    RouteReason {
        /// To a standby: all that it does is read.
        Proven = "proven",
        /// To a standby: its words only read, and the client says that a standby answers as the primary does.
        Trusted = "trusted",
        /// To the primary: it writes, or what it does is not known.
        Unknown = "unknown",
        /// To the primary: it begins a transaction.
        Transaction = "transaction",
        /// To the primary: the session has settings or the like that only that goes on with.
        Session = "session",
        /// To the primary: it reads, and the client wants that to be done there.
        Hint = "hint",
        /// To the primary: no standby is known to show what the session has written.
        Floor = "floor",
        /// To the primary: a standby has refused such a request.
        Learned = "learned",
        /// To the primary: a standby has refused it.
        Refused = "refused",
        /// To the primary: no standby is up.
        NoStandby = "no_standby",
        /// Nowhere: a transaction that only reads has failed, since only the primary may run what comes next in it.
        GivenUp = "given_up",
    }
}

labels! {
    /// What a session was given another server for.
    MoveKind {
        /// It had left its own at an idle point.
        Move = "move",
        /// Its request was sent again.
        Repeat = "repeat",
    }
}

labels! {
    /// How the search for another server ended.
    MoveOutcome {
        /// The session continues there.
        Taken = "taken",
        /// No other server was available, and the session ended.
        Failed = "failed",
    }
}

labels! {
    /// Why a server did not take a session that was to move there.
    MoveRefusal {
        /// It refused the user's proof or name (SQLSTATE class 28), or asked for a proof that the proxy does not have.
        Authentication = "authentication",
        /// The user may not connect to the database, or lacks another privilege.
        Permission = "permission",
        /// It does not have the database.
        Database = "database",
        /// It has no connection left, for this user or at all.
        TooManyConnections = "too_many_connections",
        /// It starts, stops or recovers.
        NotAccepting = "not_accepting",
        /// It refused a setting or a prepared statement of the session.
        State = "state",
        /// It shows less than the session has seen.
        Behind = "behind",
        /// It has another role now.
        Role = "role",
        /// It could not be reached, or was lost during the login.
        Lost = "lost",
        /// It took too long.
        Timeout = "timeout",
        /// It gave another reason.
        Other = "other",
    }
}

labels! {
    /// Why a session cannot leave its server.
    PinnedBy {
        /// It is a replication session.
        Replication = "replication",
        /// Its authentication was relayed.
        RelayedAuthentication = "relayed_authentication",
        /// It is in a transaction.
        Transaction = "transaction",
        /// A COPY is in progress.
        Copy = "copy",
        /// The conversation could not be followed.
        NotFollowed = "not_followed",
        /// A cursor WITH HOLD.
        HoldCursor = "hold_cursor",
        /// An advisory lock.
        AdvisoryLock = "advisory_lock",
        /// It loaded a library.
        Load = "load",
        /// It listens for notifications.
        Listen = "listen",
        /// A temporary table, view or sequence.
        TemporaryObject = "temporary_object",
        /// A setting that could not be followed.
        Setting = "setting",
        /// A statement or function whose effects are not known.
        UnknownEffects = "unknown_effects",
        /// It has more settings or prepared statements than are kept.
        TooLarge = "too_large",
        /// A function of the user's own that was not read, or in a language that is not.
        Function = "function",
        /// Settings changed by a function are yet to be read.
        ReadingBack = "reading_back",
        /// A prepared statement that its server refuses to describe.
        Statement = "statement",
        /// Another server refused the session, and its own still serves it.
        RefusedElsewhere = "refused_elsewhere",
    }
}

impl From<PinReason> for PinnedBy {
    fn from(reason: PinReason) -> Self {
        match reason {
            PinReason::Replication => PinnedBy::Replication,
            PinReason::Fixed => PinnedBy::RelayedAuthentication,
            PinReason::Transaction => PinnedBy::Transaction,
            PinReason::Copy => PinnedBy::Copy,
            PinReason::UnexpectedMessage(_) | PinReason::SyncInFailedCopy | PinReason::UnknownSavepoint => {
                PinnedBy::NotFollowed
            }
            PinReason::HoldCursor => PinnedBy::HoldCursor,
            PinReason::AdvisoryLock => PinnedBy::AdvisoryLock,
            PinReason::Load => PinnedBy::Load,
            PinReason::Listen => PinnedBy::Listen,
            PinReason::TemporaryObject | PinReason::TemporaryPath => PinnedBy::TemporaryObject,
            PinReason::UnknownSetting | PinReason::SettingAfterStatements | PinReason::StringsAtLogin => {
                PinnedBy::Setting
            }
            PinReason::UnknownStatement(_) | PinReason::SideEffects(_) => PinnedBy::UnknownEffects,
            PinReason::StatementNotDescribed => PinnedBy::Statement,
            PinReason::StatementsTooLarge | PinReason::SettingsTooLarge => PinnedBy::TooLarge,
            PinReason::UnreadFunction | PinReason::UserFunction | PinReason::OpaqueFunction => {
                PinnedBy::Function
            }
            PinReason::ReadingBack => PinnedBy::ReadingBack,
            PinReason::RefusedElsewhere(_) => PinnedBy::RefusedElsewhere,
        }
    }
}

labels! {
    /// How a session lost its server where the client got an error.
    LossCause {
        /// The server closed the connection without a word.
        Closed = "closed",
        /// The connection was reset.
        Reset = "reset",
        /// The server stopped answering.
        TimedOut = "timed_out",
        /// The proxy gave it up: hung, fenced or drained.
        GivenUp = "given_up",
        /// The server shut down, or the backend was terminated (57P01).
        AdminShutdown = "admin_shutdown",
        /// Another process of the server crashed (57P02).
        CrashShutdown = "crash_shutdown",
        /// Another FATAL error of the server's.
        Fatal = "fatal",
        /// The server broke the protocol.
        Protocol = "protocol",
        /// It was left or lost, and no other was to be had, or none took the session.
        NotReplaced = "not_replaced",
    }
}

labels! {
    /// Why a server ended a session and serves on.
    TerminationCause {
        /// An operator's `pg_terminate_backend` (57P01).
        Operator = "operator",
        /// `idle_session_timeout` (57P05).
        IdleSession = "idle_session_timeout",
        /// `idle_in_transaction_session_timeout` (25P03).
        IdleInTransaction = "idle_in_transaction_session_timeout",
        /// `transaction_timeout` (25P04).
        Transaction = "transaction_timeout",
        /// Another FATAL error of its own.
        Other = "other",
    }
}

impl TerminationCause {
    /// By the SQLSTATE that the server ended the session with.
    #[must_use]
    pub fn of(code: Option<SqlState>) -> Self {
        match code.as_ref().map(SqlState::as_str) {
            Some("57P01") => TerminationCause::Operator,
            Some("57P05") => TerminationCause::IdleSession,
            Some("25P03") => TerminationCause::IdleInTransaction,
            Some("25P04") => TerminationCause::Transaction,
            Some(_) | None => TerminationCause::Other,
        }
    }
}

labels! {
    /// The state that made a live session's server ineligible.
    IneligibleState {
        /// Proven to be behind by more than the limit.
        Lagging = "lagging",
        /// Drained by an operator.
        Drain = "drain",
        /// In maintenance.
        Maint = "maint",
        /// Not answering.
        Down = "down",
        /// Not safe to read from.
        Fenced = "fenced",
        /// Of the wrong role for the listener.
        Role = "role",
    }
}

labels! {
    /// What became of a CancelRequest.
    CancelResult {
        /// The server has read it.
        Delivered = "delivered",
        /// No session has this key, or it has no server now.
        Unknown = "unknown",
        /// One was already on its way, or too many in all.
        Coalesced = "coalesced",
        /// The server could not be reached in time.
        Failed = "failed",
    }
}

labels! {
    /// How a login ended.
    LoginResult {
        /// With a session, the user verified by the proxy.
        Verified = "verified",
        /// With a session, the user verified by the server.
        Relayed = "relayed",
        /// With a session, the user verified by the server, by the password that the client gave to the proxy.
        LoggedIn = "logged_in",
        /// With a wrong proof, or for a user that does not exist or may not log in.
        Rejected = "rejected",
        /// Without an answer about the user's secret.
        Unavailable = "unavailable",
        /// With another refusal by the server.
        ServerRefused = "server_refused",
        /// With a refusal by the proxy: a bad startup packet, a limit, no eligible server, its shutdown.
        ProxyRefused = "proxy_refused",
        /// Not within the time allowed, or by the client's leaving.
        Abandoned = "abandoned",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{CheckoutResult, PoolCloseReason, StatementKind, StatementPhase};

    fn check<L: Label + std::fmt::Debug>() {
        for (index, label) in L::ALL.iter().enumerate() {
            assert_eq!(label.index(), index);
            assert!(label.word().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{label:?}");
        }
        let words: std::collections::HashSet<_> = L::ALL.iter().map(|l| l.word()).collect();
        assert_eq!(words.len(), L::COUNT);
    }

    #[test]
    fn words_are_distinct_and_plain() {
        macro_rules! check_all {
            ($($label:ty)+) => { $(check::<$label>();)+ };
        }
        check_all! {
            StatementPhase StatementKind ActivityLabel RefusalReason FailoverCause MoveCause
            MoveKind MoveOutcome MoveRefusal PinnedBy RepeatCause RouteReason LossCause
            TerminationCause IneligibleState CancelResult LoginResult CheckoutResult PoolCloseReason
        }
    }
}
