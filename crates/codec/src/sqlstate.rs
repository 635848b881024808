//! The five-character codes that classify errors.

use std::fmt;

/// A SQLSTATE: five characters out of `0-9A-Z`, the first two name the class.
/// Source: PostgreSQL manual, appendix A; src/backend/utils/errcodes.txt.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SqlState([u8; 5]);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        impl SqlState {
            $($(#[$doc])* pub const $name: Self = Self(*$code);)*
        }
    };
}

codes! {
    /// 00000 `successful_completion`.
    SUCCESSFUL_COMPLETION = b"00000";
    /// 01000 `warning`.
    WARNING = b"01000";
    /// 01P01 `deprecated_feature`.
    DEPRECATED_FEATURE = b"01P01";
    /// 08000 `connection_exception`.
    CONNECTION_EXCEPTION = b"08000";
    /// 08001 `sqlclient_unable_to_establish_sqlconnection`.
    SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION = b"08001";
    /// 08003 `connection_does_not_exist`.
    CONNECTION_DOES_NOT_EXIST = b"08003";
    /// 08004 `sqlserver_rejected_establishment_of_sqlconnection`.
    SQLSERVER_REJECTED_ESTABLISHMENT_OF_SQLCONNECTION = b"08004";
    /// 08006 `connection_failure`.
    CONNECTION_FAILURE = b"08006";
    /// 08007 `transaction_resolution_unknown`.
    TRANSACTION_RESOLUTION_UNKNOWN = b"08007";
    /// 08P01 `protocol_violation`.
    PROTOCOL_VIOLATION = b"08P01";
    /// 0A000 `feature_not_supported`.
    FEATURE_NOT_SUPPORTED = b"0A000";
    /// 22023 `invalid_parameter_value`.
    INVALID_PARAMETER_VALUE = b"22023";
    /// 22P02 `invalid_text_representation`.
    INVALID_TEXT_REPRESENTATION = b"22P02";
    /// 25001 `active_sql_transaction`.
    ACTIVE_SQL_TRANSACTION = b"25001";
    /// 25006 `read_only_sql_transaction`.
    READ_ONLY_SQL_TRANSACTION = b"25006";
    /// 25P02 `in_failed_sql_transaction`.
    IN_FAILED_SQL_TRANSACTION = b"25P02";
    /// 25P03 `idle_in_transaction_session_timeout`.
    IDLE_IN_TRANSACTION_SESSION_TIMEOUT = b"25P03";
    /// 25P04 `transaction_timeout`.
    TRANSACTION_TIMEOUT = b"25P04";
    /// 26000 `invalid_sql_statement_name`.
    INVALID_SQL_STATEMENT_NAME = b"26000";
    /// 28000 `invalid_authorization_specification`.
    INVALID_AUTHORIZATION_SPECIFICATION = b"28000";
    /// 28000 under its short name.
    INVALID_AUTHORIZATION = b"28000";
    /// 28P01 `invalid_password`.
    INVALID_PASSWORD = b"28P01";
    /// 34000 `invalid_cursor_name`.
    INVALID_CURSOR_NAME = b"34000";
    /// 3D000 `invalid_catalog_name`.
    INVALID_CATALOG_NAME = b"3D000";
    /// 3F000 `invalid_schema_name`.
    INVALID_SCHEMA_NAME = b"3F000";
    /// 40001 `serialization_failure`; also a conflict with recovery on a standby.
    SERIALIZATION_FAILURE = b"40001";
    /// 40P01 `deadlock_detected`.
    DEADLOCK_DETECTED = b"40P01";
    /// 42501 `insufficient_privilege`.
    INSUFFICIENT_PRIVILEGE = b"42501";
    /// 42601 `syntax_error`.
    SYNTAX_ERROR = b"42601";
    /// 42P05 `duplicate_prepared_statement`.
    DUPLICATE_PSTATEMENT = b"42P05";
    /// 42704 `undefined_object`.
    UNDEFINED_OBJECT = b"42704";
    /// 53000 `insufficient_resources`.
    INSUFFICIENT_RESOURCES = b"53000";
    /// 53300 `too_many_connections`.
    TOO_MANY_CONNECTIONS = b"53300";
    /// 53400 `configuration_limit_exceeded`.
    CONFIGURATION_LIMIT_EXCEEDED = b"53400";
    /// 54000 `program_limit_exceeded`.
    PROGRAM_LIMIT_EXCEEDED = b"54000";
    /// 55000 `object_not_in_prerequisite_state`.
    OBJECT_NOT_IN_PREREQUISITE_STATE = b"55000";
    /// 57000 `operator_intervention`.
    OPERATOR_INTERVENTION = b"57000";
    /// 57014 `query_canceled`.
    QUERY_CANCELED = b"57014";
    /// 57P01 `admin_shutdown`.
    ADMIN_SHUTDOWN = b"57P01";
    /// 57P02 `crash_shutdown`.
    CRASH_SHUTDOWN = b"57P02";
    /// 57P03 `cannot_connect_now`.
    CANNOT_CONNECT_NOW = b"57P03";
    /// 57P04 `database_dropped`.
    DATABASE_DROPPED = b"57P04";
    /// 57P05 `idle_session_timeout`.
    IDLE_SESSION_TIMEOUT = b"57P05";
    /// 58000 `system_error`.
    SYSTEM_ERROR = b"58000";
    /// XX000 `internal_error`.
    INTERNAL_ERROR = b"XX000";
}

impl SqlState {
    /// The code in `text`, or `None` when it is not five characters out of `0-9A-Z`.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let code: [u8; 5] = text.try_into().ok()?;
        let is_legal = |b: &u8| b.is_ascii_digit() || b.is_ascii_uppercase();
        code.iter().all(is_legal).then_some(Self(code))
    }

    /// The five characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked by SqlState::parse: ASCII only")
    }

    /// The two characters that name the class, such as `08` for connection exceptions.
    #[must_use]
    pub fn class(&self) -> &str {
        &self.as_str()[..2]
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SqlState({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_read_back_as_written() {
        let code = SqlState::parse(b"57P01").expect("a legal code");
        assert_eq!(code, SqlState::ADMIN_SHUTDOWN);
        assert_eq!(code.to_string(), "57P01");
        assert_eq!(code.class(), "57");
        assert_eq!(format!("{code:?}"), "SqlState(57P01)");
    }

    #[test]
    fn text_that_is_no_code_is_refused() {
        for text in [&b""[..], b"5700", b"570000", b"57p01", b"57 01", b"57P0\xFF", b"57P0\0"] {
            assert_eq!(SqlState::parse(text), None, "{text:?}");
        }
    }
}
