//! `[auth] hba_file` and `ident_file`, checked.

use std::sync::Arc;

use trunkline_hba::{FileProblem, FileProblems, LinePlace};
use trunkline_proxy::Access;
use trunkline_proxy::settings::{AuthSettings, ListenerSettings};

use crate::config::{Problem, Problems, Source};

/// What to do about a line without a hint of its own.
const HINT: &str =
    "Lines are as in PostgreSQL's pg_hba.conf and pg_ident.conf; docs/authentication.md says what is not.";

/// Reads the files as the proxy will.
pub(super) fn check(
    auth: &AuthSettings,
    listeners: &[ListenerSettings],
    problems: &mut Problems,
    warnings: &mut Problems,
) {
    if auth.hba_file.is_none() && auth.ident_file.is_some() {
        let problem = Problem::new(&Source::Default, "auth.ident_file", "is set without auth.hba_file");
        problems.push(problem.hint("Maps are for the rules of hba_file: set that, or delete this."));
    }
    let FileProblems { problems: found, more } = match Access::load(auth, listeners) {
        Ok(access) => {
            let idle = access.iter().flat_map(|access| access.without_clients(listeners));
            idle.map(without_tls).for_each(|warning| warnings.push(warning));
            return;
        }
        Err(problems) => problems,
    };
    found.into_iter().map(of_line).for_each(|problem| problems.push(problem));
    if more > 0 {
        problems.push(Problem::new(
            &Source::Default,
            "auth.hba_file",
            format!("has {more} further problems"),
        ));
    }
}

fn without_tls(place: &LinePlace) -> Problem {
    let source = Source::File { path: Arc::clone(&place.file), line: place.line };
    Problem::new(&source, "", "the rule is for no client: no listener has TLS")
        .hint("Set [client_tls] cert_file, or write host.")
}

fn of_line(found: FileProblem) -> Problem {
    let FileProblem { place, message, hint } = found;
    let (source, key) = match place {
        Some(place) => (Source::File { path: Arc::clone(&place.file), line: place.line }, ""),
        None => (Source::Default, "auth.hba_file"),
    };
    Problem::new(&source, key, message).hint(hint.unwrap_or_else(|| HINT.to_owned()))
}
