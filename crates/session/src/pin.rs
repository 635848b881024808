//! Why a session cannot leave its server, or a request cannot be sent again.

use std::fmt;

/// Why a session cannot leave its server. Its text is for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PinReason {
    /// It is a replication session.
    Replication,
    /// It cannot log in elsewhere: its authentication was relayed, or what other logins are given cannot be asked for.
    Fixed,
    /// It is in a transaction.
    Transaction,
    /// A COPY is in progress.
    Copy,
    /// The server sent a message of this type where the model of the conversation has none. The
    /// session is relayed, but it is not known any more when it is idle.
    UnexpectedMessage(u8),
    /// A COPY that failed may or may not have swallowed a Sync, so it is not known how many
    /// ReadyForQuery messages are still to come.
    SyncInFailedCopy,
    /// It has a cursor WITH HOLD.
    HoldCursor,
    /// It took, or may have taken, an advisory lock that outlives its transaction.
    AdvisoryLock,
    /// It loaded a library.
    Load,
    /// It listens for notifications.
    Listen,
    /// It created a temporary table, view or sequence.
    TemporaryObject,
    /// What it creates may be temporary without saying so: the `search_path` of its login names `pg_temp`.
    TemporaryPath,
    /// It changed a setting in a way that the proxy does not follow.
    UnknownSetting,
    /// It logged in with `standard_conforming_strings` off, so its SQL is not read as the server reads it.
    StringsAtLogin,
    /// It changed a setting that decides how SQL is read while it had prepared statements: they
    /// would be read differently on another server.
    SettingAfterStatements,
    /// It ran a statement with this tag or first word, whose lasting effects are not known.
    UnknownStatement(&'static str),
    /// It called a function with this in its name, which changes the session, or ran a statement with this
    /// first word that may have changed it in a way that `DISCARD ALL` does not undo.
    SideEffects(&'static str),
    /// Its prepared statements are too many or too long to be kept.
    StatementsTooLarge,
    /// The server has refused to describe a prepared statement whose types and columns are not known.
    StatementNotDescribed,
    /// Its settings are too many or too long to be kept.
    SettingsTooLarge,
    /// It rolled back to a savepoint that was not followed.
    UnknownSavepoint,
    /// It called a function that was created or changed a moment ago, and that the proxy has not read yet.
    UnreadFunction,
    /// It called a user-defined function, and the proxy does not read those.
    UserFunction,
    /// It ran a function in a language or library that may change the session.
    OpaqueFunction,
    /// A function that it called may have changed settings, or settings of its login are not known; their values have
    /// not been read yet.
    ReadingBack,
    /// Another server did not take it, for this reason, and its own still serves it.
    RefusedElsewhere(&'static str),
}

impl PinReason {
    /// It named `nextval` or `setval`, so that it may ask for `currval` or `lastval`. A session in transaction mode keeps
    /// its connection for that, where clients of its user and database ask; it may go on elsewhere all the same.
    pub const SEQUENCE: Self = Self::SideEffects("nextval");

    /// A session in transaction mode keeps its connection for a moment after it has added rows: it may ask `currval` or
    /// `lastval` next.
    pub const INSERT: Self = Self::SideEffects("INSERT");

    /// Statements that leave nothing in a session, unless an event trigger runs a function, or the procedure of a CALL does
    /// what is told of besides.
    pub(crate) const OF_EVENT_TRIGGERS: [&str; 18] = [
        "DROP TABLE",
        "DROP VIEW",
        "DROP SEQUENCE",
        "DROP INDEX",
        "DROP MATERIALIZED VIEW",
        "DROP SCHEMA",
        "DROP FUNCTION",
        "DROP PROCEDURE",
        "DROP TYPE",
        "DROP DOMAIN",
        "DROP TRIGGER",
        "DROP POLICY",
        "COMMENT",
        "GRANT",
        "REVOKE",
        "CREATE SEQUENCE",
        "SELECT INTO",
        "CALL",
    ];

    /// The same of statements that run functions of the relations which they name, too. Where those are not known, each is
    /// told of by the word beside it.
    pub(crate) const OF_RELATIONS: [(&str, &str); 10] = [
        ("TRUNCATE TABLE", "TRUNCATE"),
        ("ANALYZE of a table", "ANALYZE"),
        ("VACUUM of a table", "VACUUM"),
        ("CLUSTER of a table", "CLUSTER"),
        ("REINDEX TABLE", "REINDEX"),
        ("REFRESH MATERIALIZED VIEW", "REFRESH"),
        ("CREATE TABLE", "CREATE"),
        ("CREATE INDEX", "CREATE"),
        ("CREATE VIEW", "CREATE"),
        ("CREATE MATERIALIZED VIEW", "CREATE"),
    ];

    /// Those of them for which no event trigger runs.
    const WITHOUT_EVENT: [&str; 4] =
        ["TRUNCATE TABLE", "ANALYZE of a table", "VACUUM of a table", "CLUSTER of a table"];

    /// Whether it asked for what sequences have given on its connection.
    pub(crate) fn asks_for_sequences(self) -> bool {
        matches!(self, Self::SideEffects("currval" | "lastval"))
    }

    /// Whether it may have created a custom setting that the proxy does not know of: such a setting exists until its
    /// connection ends.
    pub(crate) fn may_hide_setting(self) -> bool {
        if self == Self::SEQUENCE {
            return false;
        }
        match self {
            Self::UnknownSetting
            | Self::UnknownStatement(_)
            | Self::SettingsTooLarge
            | Self::UnknownSavepoint
            | Self::UnreadFunction
            | Self::UserFunction
            | Self::OpaqueFunction
            | Self::ReadingBack
            | Self::Load
            | Self::SideEffects(_) => true,
            Self::Replication
            | Self::Fixed
            | Self::Transaction
            | Self::Copy
            | Self::UnexpectedMessage(_)
            | Self::SyncInFailedCopy
            | Self::HoldCursor
            | Self::AdvisoryLock
            | Self::Listen
            | Self::TemporaryObject
            | Self::TemporaryPath
            | Self::StringsAtLogin
            | Self::SettingAfterStatements
            | Self::StatementsTooLarge
            | Self::StatementNotDescribed
            | Self::RefusedElsewhere(_) => false,
        }
    }

    /// Whether it is told of what a statement did to objects of the database: the server knows whether anything is left of
    /// that for the session.
    pub(crate) fn is_of_objects(self) -> bool {
        match self {
            Self::TemporaryObject => true,
            Self::UnknownStatement(words) => {
                Self::OF_EVENT_TRIGGERS.contains(&words) || self.runs_relations()
            }
            _others => false,
        }
    }

    /// Whether it is told of a statement that runs functions of the relations which it names, and these are known.
    pub(crate) fn runs_relations(self) -> bool {
        matches!(self, Self::UnknownStatement(words) if Self::OF_RELATIONS.iter().any(|(told, _)| *told == words))
    }

    /// The reason where the functions of relations are not known.
    pub(crate) fn of_unknown_relations(self) -> Self {
        let Self::UnknownStatement(words) = self else { return self };
        let unknown = Self::OF_RELATIONS.iter().find(|(told, _)| *told == words);
        unknown.map_or(self, |(_, unknown)| Self::UnknownStatement(unknown))
    }

    /// Whether event triggers may run for what it is told of.
    pub(crate) fn has_event(self) -> bool {
        !matches!(self, Self::UnknownStatement(words) if Self::WITHOUT_EVENT.contains(&words))
    }

    /// Whether it is told of a statement that creates or changes objects, or may.
    pub(crate) fn makes_objects(self) -> bool {
        match self {
            Self::UnknownStatement(words) | Self::SideEffects(words) => {
                ["CREATE", "ALTER", "DO"].iter().any(|verb| words.starts_with(verb))
            }
            Self::TemporaryObject | Self::Load => true,
            _others => false,
        }
    }

    /// Whether what it is told of may have created or changed objects that run functions when they are used, as its SQL says.
    /// What runs SQL that it makes up does so too often to be looked after each time.
    pub(crate) fn may_define(self) -> bool {
        matches!(self, Self::UnknownStatement("CREATE" | "DO") | Self::SideEffects("DO"))
    }

    /// Whether the server can tell that it has ended.
    pub(crate) fn is_told_by_server(self) -> bool {
        matches!(self, Self::AdvisoryLock | Self::Listen) || self.is_of_objects()
    }

    /// Whether it ends while the client is idle, once the proxy has read what it waits for.
    pub(crate) fn ends_by_itself(self) -> bool {
        matches!(self, Self::ReadingBack | Self::UnreadFunction)
    }

    /// Whether `DISCARD ALL` undoes it.
    pub(crate) fn ends_with_discard_all(self) -> bool {
        if self == Self::SEQUENCE {
            return true;
        }
        match self {
            Self::HoldCursor
            | Self::AdvisoryLock
            | Self::Listen
            | Self::TemporaryObject
            | Self::UnknownSetting
            | Self::SettingAfterStatements
            | Self::UnknownStatement(_)
            | Self::SettingsTooLarge
            | Self::UnknownSavepoint
            | Self::UnreadFunction
            | Self::UserFunction => true,
            Self::Replication
            | Self::Fixed
            | Self::Transaction
            | Self::Copy
            | Self::UnexpectedMessage(_)
            | Self::SyncInFailedCopy
            | Self::Load
            | Self::TemporaryPath
            | Self::StringsAtLogin
            | Self::StatementsTooLarge
            | Self::StatementNotDescribed
            | Self::OpaqueFunction
            | Self::ReadingBack
            | Self::RefusedElsewhere(_)
            | Self::SideEffects(_) => false,
        }
    }
}

impl fmt::Display for PinReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self {
            Self::Replication => "replication session",
            Self::Fixed => "authentication was relayed",
            Self::Transaction => "in a transaction",
            Self::Copy => "COPY in progress",
            Self::UnexpectedMessage(tag) => {
                return write!(f, "unexpected message {:?} of the server", char::from(*tag));
            }
            Self::SyncInFailedCopy => "Sync inside a COPY that failed",
            Self::HoldCursor => "cursor WITH HOLD",
            Self::AdvisoryLock => "advisory lock",
            Self::Load => "LOAD",
            Self::Listen => "LISTEN",
            Self::TemporaryObject => "temporary object",
            Self::TemporaryPath => "search_path of the login with pg_temp",
            Self::UnknownSetting => "setting that could not be followed",
            Self::StringsAtLogin => "standard_conforming_strings was off at login",
            Self::SettingAfterStatements => "setting changed after statements were prepared",
            Self::UnknownStatement(word) => return write!(f, "effects of {word} are not known"),
            Self::SideEffects(word) => return write!(f, "side effects of {word}"),
            Self::StatementsTooLarge => "prepared statements exceed what is kept",
            Self::StatementNotDescribed => "prepared statement that the server does not describe now",
            Self::SettingsTooLarge => "settings exceed what is kept",
            Self::UnknownSavepoint => "savepoint that could not be followed",
            Self::UnreadFunction => "function that is yet to be read",
            Self::UserFunction => "user-defined function",
            Self::OpaqueFunction => "function of a language or library that is not known",
            Self::ReadingBack => "values of settings are being read",
            Self::RefusedElsewhere(reason) => return write!(f, "refused by another server: {reason}"),
        };
        f.write_str(words)
    }
}

/// Why the request in flight may not be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotRepeatable {
    /// No request is in flight.
    Nothing,
    /// The session was not idle when it began, or cannot leave its server.
    Pinned,
    /// Something of its answer has been forwarded, or was accepted.
    Answered,
    /// It does more than read, or something that the proxy cannot judge.
    SideEffects,
    /// It is not one unit: one Query, or extended messages up to one Sync.
    SeveralUnits,
    /// It is a FunctionCall.
    FunctionCall,
    /// The client has closed its sending side.
    ClientLeft,
}

impl fmt::Display for NotRepeatable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "no request is in flight",
            Self::Pinned => "session was pinned",
            Self::Answered => "answer was begun",
            Self::SideEffects => "request may have side effects",
            Self::SeveralUnits => "several requests are in flight",
            Self::FunctionCall => "FunctionCall",
            Self::ClientLeft => "client closed its side",
        })
    }
}
