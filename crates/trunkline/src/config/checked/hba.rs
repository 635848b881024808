//! `[auth] hba_file` and `ident_file`, checked.

use std::sync::Arc;

use trunkline_hba::{FileProblem, FileProblems};
use trunkline_proxy::Access;
use trunkline_proxy::settings::{AuthSettings, ListenerSettings};

use crate::config::{Problem, Problems, Source};

/// What to do about a line without a hint of its own.
const HINT: &str =
    "Lines are as in PostgreSQL's pg_hba.conf and pg_ident.conf; docs/authentication.md says what is not.";

/// Reads the files as the proxy will.
pub(super) fn check(auth: &AuthSettings, listeners: &[ListenerSettings], problems: &mut Problems) {
    if auth.hba_file.is_none() && auth.ident_file.is_some() {
        let problem = Problem::new(&Source::Default, "auth.ident_file", "is set without auth.hba_file");
        problems.push(problem.hint("Maps are for the rules of hba_file: set that, or delete this."));
    }
    let Err(FileProblems { problems: found, more }) = Access::load(auth, listeners) else { return };
    found.into_iter().map(of_line).for_each(|problem| problems.push(problem));
    if more > 0 {
        problems.push(Problem::new(
            &Source::Default,
            "auth.hba_file",
            format!("has {more} further problems"),
        ));
    }
}

fn of_line(found: FileProblem) -> Problem {
    let FileProblem { place, message, hint } = found;
    let (source, key) = match place {
        Some(place) => (Source::File { path: Arc::clone(&place.file), line: place.line }, ""),
        None => (Source::Default, "auth.hba_file"),
    };
    Problem::new(&source, key, message).hint(hint.unwrap_or_else(|| HINT.to_owned()))
}
