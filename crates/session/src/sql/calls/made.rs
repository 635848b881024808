//! `SELECT ... INTO`, which makes a table without a verb that says so, where event triggers run for that.

use super::{PlacedToken, is_one_of};
use crate::sql::functions::{EventTriggers, FunctionCatalog};

/// Whether SQL may have one, for which event triggers run.
pub(super) fn may_be_made_by_select(sql: &[u8], catalog: &FunctionCatalog) -> bool {
    catalog.event_triggers == EventTriggers::Enabled
        && sql.windows(4).any(|window| window.eq_ignore_ascii_case(b"into"))
}

/// Whether the token `at` is the INTO of one.
pub(super) fn is_made_by_select(tokens: &[PlacedToken<'_>], at: usize, catalog: &FunctionCatalog) -> bool {
    let is_of_write =
        || at.checked_sub(1).is_some_and(|before| is_one_of(tokens[before].token, &["insert", "merge"]));
    catalog.event_triggers == EventTriggers::Enabled
        && is_one_of(tokens[at].token, &["into"])
        && !is_of_write()
}
