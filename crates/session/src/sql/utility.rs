//! Statements that leave nothing in their session but what functions do that they run: those of event triggers, and of the
//! relations that they name.
//!
//! Expressions of indexes, extended statistics and materialized views run as the owner of their relation, in a
//! security-restricted operation that undoes settings and makes no temporary objects; triggers, and what a procedure runs,
//! do not.
//! Source: PostgreSQL 18, src/backend/commands/vacuum.c, indexcmds.c, matview.c; "Event Trigger Firing Matrix" of its manual.

use super::lexer::Token;
use super::reader::{Reader, is_word};
use super::suspicious_names::SuspiciousNames;
use crate::pin::PinReason;

/// Why a statement pins that begins with `word`, one of a closed list; `reader` is behind that.
pub(super) fn utility(word: &'static str, reader: &mut Reader<'_>) -> PinReason {
    let told = match word {
        "COMMENT" | "GRANT" | "REVOKE" => return PinReason::UnknownStatement(word),
        // CASCADE empties tables that are not named.
        "TRUNCATE" if !has_word_ahead(reader, "cascade") => "TRUNCATE TABLE",
        "ANALYZE" if names_relation(reader) => "ANALYZE of a table",
        "VACUUM" if names_relation(reader) => "VACUUM of a table",
        "CLUSTER" if names_relation(reader) => "CLUSTER of a table",
        "REINDEX" if is_of_table(reader) => "REINDEX TABLE",
        "REFRESH" => "REFRESH MATERIALIZED VIEW",
        _more => return PinReason::UnknownStatement(word),
    };
    PinReason::UnknownStatement(told)
}

/// What follows CREATE, where it makes something of a kind that runs nothing by itself. `reader` is behind CREATE.
pub(super) fn created(mut reader: Reader<'_>, found: &SuspiciousNames) -> Option<PinReason> {
    if runs_something(found) {
        return None;
    }
    if reader.eat("or") {
        reader.eat("replace");
    }
    let _of_a_kind = ["unique", "unlogged", "recursive"].iter().any(|word| reader.eat(word));
    let of_relations = PinReason::OF_RELATIONS.iter().map(|(told, _)| *told);
    let mut kinds =
        of_relations.chain(PinReason::OF_EVENT_TRIGGERS).filter(|told| told.starts_with("CREATE "));
    kinds.find(|told| is_ahead(&reader, told)).map(PinReason::UnknownStatement)
}

/// What follows DROP, where it is of a kind that a session has nothing of.
pub(super) fn dropped(reader: &Reader<'_>) -> PinReason {
    let mut kinds = PinReason::OF_EVENT_TRIGGERS.into_iter().filter(|words| words.starts_with("DROP "));
    PinReason::UnknownStatement(kinds.find(|words| is_ahead(reader, words)).unwrap_or("DROP"))
}

/// Why a CALL pins. Its procedure counts as a function.
pub(super) fn called(found: &SuspiciousNames) -> PinReason {
    if sets_something(found) { PinReason::SideEffects("CALL") } else { PinReason::UnknownStatement("CALL") }
}

/// Whether it may set something by a function or the view of settings.
fn sets_something(found: &SuspiciousNames) -> bool {
    found.has_set_config || found.has_settings_view
}

/// Whether it calls or names something with an effect.
pub(super) fn runs_something(found: &SuspiciousNames) -> bool {
    sets_something(found) || !found.pins.is_empty()
}

/// Whether the words but for the first, the verb, are next.
fn is_ahead(reader: &Reader<'_>, words: &str) -> bool {
    let mut reader = reader.clone();
    words.split(' ').skip(1).all(|word| reader.eat(word))
}

fn has_word_ahead(reader: &Reader<'_>, word: &str) -> bool {
    let mut reader = reader.clone();
    while let Some(token) = reader.bump() {
        if is_word(token, word) {
            return true;
        }
    }
    false
}

/// Whether something is named behind the options; without that it is of all tables.
fn names_relation(reader: &mut Reader<'_>) -> bool {
    skip_options(reader);
    while ["full", "freeze", "verbose", "analyze", "analyse"].iter().any(|word| reader.eat(word)) {}
    !reader.is_at_end()
}

fn is_of_table(reader: &mut Reader<'_>) -> bool {
    skip_options(reader);
    reader.eat("table")
}

/// Skips options in parentheses.
fn skip_options(reader: &mut Reader<'_>) {
    let mut depth = 0_usize;
    while depth > 0 || reader.peek() == Some(Token::Symbol(b'(')) {
        match reader.bump() {
            Some(Token::Symbol(b'(')) => depth += 1,
            Some(Token::Symbol(b')')) => depth = depth.saturating_sub(1),
            Some(_) => {}
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::effect::Effect;
    use super::super::read::read;
    use super::*;

    /// The words of its reason, which counts from when it is sent.
    fn words(sql: &str) -> &'static str {
        let reading = read(sql.as_bytes());
        let [Effect::Pin(PinReason::UnknownStatement(words))] = reading.effects[..] else {
            panic!("{sql}: {reading:?}")
        };
        assert!(!reading.class.is_repeatable(), "{sql}");
        assert_eq!(
            reading.pins.contains(PinReason::UnknownStatement(words)),
            PinReason::UnknownStatement(words).is_told_by_server(),
            "{sql}"
        );
        words
    }

    #[test]
    fn what_names_its_relations_is_told_from_what_may_run_anything() {
        for (sql, expected) in [
            ("truncate t", "TRUNCATE TABLE"),
            ("TRUNCATE TABLE only t, \"cascade\" RESTART IDENTITY", "TRUNCATE TABLE"),
            ("truncate t /* x */ Cascade", "TRUNCATE"),
            ("analyze t (a)", "ANALYZE of a table"),
            ("analyze (verbose true) t", "ANALYZE of a table"),
            ("analyze verbose", "ANALYZE"),
            ("analyze (verbose, buffer_usage_limit '1MB')", "ANALYZE"),
            ("vacuum full freeze verbose analyze t", "VACUUM of a table"),
            ("vacuum (analyze)", "VACUUM"),
            ("cluster t using i", "CLUSTER of a table"),
            ("cluster verbose", "CLUSTER"),
            ("reindex (verbose) table concurrently t", "REINDEX TABLE"),
            ("reindex index i", "REINDEX"),
            ("reindex database d", "REINDEX"),
            ("refresh materialized view concurrently v", "REFRESH MATERIALIZED VIEW"),
            ("comment on table t is 'x'", "COMMENT"),
            ("grant all on t to u", "GRANT"),
            ("revoke all on t from u", "REVOKE"),
            ("create table if not exists t (a int default 1)", "CREATE TABLE"),
            ("create unlogged table t as select 1", "CREATE TABLE"),
            ("create unique index concurrently on t (lower(a))", "CREATE INDEX"),
            ("create or replace recursive view v (a) as select 1", "CREATE VIEW"),
            ("create materialized view v as select 1", "CREATE MATERIALIZED VIEW"),
            ("create sequence s", "CREATE SEQUENCE"),
            ("create function f() returns int language sql as 'select 1'", "CREATE"),
            ("create \"table\" t ()", "CREATE"),
            ("create schema s", "CREATE"),
            ("create table t as select set_config('a', 'b', false)", "CREATE"),
            ("create view v as select pg_advisory_lock(1)", "CREATE"),
            ("drop materialized view v", "DROP MATERIALIZED VIEW"),
            ("drop schema s cascade", "DROP SCHEMA"),
            ("drop owned by x", "DROP"),
            ("call p(1)", "CALL"),
        ] {
            assert_eq!(words(sql), expected, "{sql}");
        }
    }

    #[test]
    fn a_call_that_sets_something_itself_pins_for_good() {
        for sql in ["call p(set_config('a', 'b', false))", "call p((select setting from pg_settings))"] {
            assert!(read(sql.as_bytes()).pins.contains(PinReason::SideEffects("CALL")), "{sql}");
        }
    }

    #[test]
    fn without_the_functions_of_relations_it_pins_as_what_is_not_known() {
        for (told, unknown) in PinReason::OF_RELATIONS {
            let reason = PinReason::UnknownStatement(told);
            assert!(reason.is_told_by_server() && reason.runs_relations(), "{told}");
            let unknown = PinReason::UnknownStatement(unknown);
            assert_eq!(reason.of_unknown_relations(), unknown, "{told}");
            assert!(!unknown.is_told_by_server(), "{told}");
        }
        let reading = read(b"grant a to b; truncate t; call p()").of_unknown_relations();
        for words in ["GRANT", "TRUNCATE", "CALL"] {
            let reason = PinReason::UnknownStatement(words);
            assert!(
                reading.effects.contains(&Effect::Pin(reason)) && reading.pins.contains(reason),
                "{words}"
            );
        }
        assert!(!reading.pins.contains(PinReason::UnknownStatement("TRUNCATE TABLE")));
        let lasting = ["CREATE", "TRUNCATE", "DROP"].map(PinReason::UnknownStatement);
        assert!(lasting.iter().all(|reason| !reason.is_told_by_server() && !reason.runs_relations()));
    }

    #[test]
    fn checkpoint_leaves_nothing() {
        let reading = read(b"checkpoint");
        assert!(reading.effects.is_empty() && reading.pins.is_empty() && !reading.class.is_repeatable());
    }
}
