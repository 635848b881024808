//! Why a function in SQL or PL/pgSQL must not run on a standby, by its own source.

use super::{FunctionSource, SourceText};
use crate::sql::lexer::Token;
use crate::sql::reader::unquote;
use crate::sql::suspicious_names::has_word;

/// Settings that tell a standby from the primary.
const OF_STANDBY: [&str; 2] = ["in_hot_standby", "transaction_read_only"];

/// Conditions whose handlers catch what only a standby refuses. A condition ending in 000 stands for its class.
/// Source: PostgreSQL 18, src/pl/plpgsql/src/pl_comp.c, `plpgsql_parse_err_condition`, and pl_exec.c,
/// `exception_matches_conditions`; src/backend/utils/errcodes.txt.
const CATCHING: [&str; 6] = [
    "others",
    "read_only_sql_transaction",
    "invalid_transaction_state",
    "feature_not_supported",
    "object_not_in_prerequisite_state",
    "internal_error",
];

/// The same by their codes.
const CAUGHT: [&[u8]; 5] = [b"25006", b"25000", b"0A000", b"55000", b"XX000"];

/// Statements that a standby runs, and whose effect belongs to the primary, or to a file of the server.
const ELSEWHERE: [(&[u8], &str); 6] = [
    (b"copy", "COPY"),
    (b"lock", "LOCK"),
    (b"checkpoint", "CHECKPOINT"),
    (b"load", "LOAD"),
    (b"unlisten", "UNLISTEN"),
    (b"discard", "DISCARD"),
];

/// The setting in this text that tells a standby from the primary.
pub(crate) fn tells_standby(text: &[u8]) -> Option<&'static str> {
    OF_STANDBY.into_iter().find(|setting| has_word(text, setting.as_bytes()))
}

impl FunctionSource {
    /// Looks for reasons in one text of it.
    pub(super) fn judge(&mut self, text: &SourceText<'_>) {
        if self.not_plain.is_none() {
            self.not_plain = reason(text);
        }
    }
}

fn reason(text: &SourceText<'_>) -> Option<&'static str> {
    let places = 0..text.tokens.len();
    let has_handler =
        places.clone().any(|at| text.is_word(at, &["exception"]) && text.is_word(at + 1, &["when"]));
    if has_handler && places.clone().any(|at| catches(text, at)) {
        return Some("exception handler");
    }
    let statement = |at: usize| {
        let Some(Token::Word(word)) = text.token(at) else { return None };
        let known = ELSEWHERE.iter().find(|(known, _)| word.eq_ignore_ascii_case(known))?;
        text.begins_statement(at).then_some(known.1)
    };
    places.clone().find_map(statement).or_else(|| places.clone().find_map(|at| tells_standby(text.raw(at))))
}

/// Whether the token names a condition of [`CATCHING`], or begins SQLSTATE with one.
fn catches(text: &SourceText<'_>, at: usize) -> bool {
    match text.token(at) {
        Some(Token::Word(word)) if word.eq_ignore_ascii_case(b"sqlstate") => match text.token(at + 1) {
            Some(Token::String(code)) => CAUGHT.contains(&code),
            // It may be any.
            Some(Token::OtherString) => true,
            _variable => false,
        },
        Some(Token::Word(_)) => text.is_word(at, &CATCHING),
        Some(Token::Quoted(quoted)) => CATCHING.iter().any(|name| *name.as_bytes() == *unquote(quoted)),
        _other => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(source: &str) -> Option<&'static str> {
        FunctionSource::read(source.as_bytes()).not_plain
    }

    #[test]
    fn handlers_that_catch_a_refusal_are_not_plain() {
        for caught in [
            "others",
            "unique_violation or OTHERS",
            "read_only_sql_transaction",
            "invalid_transaction_state",
            "\"others\"",
            "sqlstate '25006'",
            "division_by_zero then null; when sqlstate e'2500\\x36'",
            "division_by_zero then return 1; when feature_not_supported",
        ] {
            let source =
                format!("begin insert into t values (1); exception when {caught} then return 1; end");
            assert_eq!(why(&source), Some("exception handler"), "{source}");
        }
    }

    #[test]
    fn other_handlers_and_errors_are_plain() {
        for source in [
            "begin insert into t values (1); exception when unique_violation then return 1; end",
            "begin return 1; exception when sqlstate '23505' or foreign_key_violation then return sqlstate; end",
            "begin raise exception 'no others'; end",
            "begin if others then return 1; end if; raise exception using errcode = '25006'; end",
            "select others, internal_error from t",
        ] {
            assert_eq!(why(source), None, "{source}");
        }
    }

    #[test]
    fn statements_whose_effect_is_elsewhere_are_not_plain() {
        assert_eq!(why("begin copy t to program 'cat'; end"), Some("COPY"));
        assert_eq!(why("begin execute 'copy t to ''/tmp/t'''; end"), Some("COPY"));
        assert_eq!(why("begin if a then lock table t in share mode; end if; end"), Some("LOCK"));
        assert_eq!(why("begin discard all; end"), Some("DISCARD"));
        assert_eq!(why("select copy, lock from load where discard"), None);
    }

    #[test]
    fn settings_that_tell_a_standby_are_not_plain() {
        assert_eq!(why("select current_setting('transaction_read_only')"), Some("transaction_read_only"));
        assert_eq!(why("begin show In_Hot_Standby; end"), Some("in_hot_standby"));
        assert_eq!(why("select current_setting('default_transaction_read_only')"), None);
    }
}
