//! `[auth]`, checked.

use std::path::PathBuf;

use trunkline_proxy::settings::{AuthSettings, SecretSource};

use crate::config::raw::SecretsSection;
use crate::config::{Problem, Problems};

/// Where secrets come from.
pub(super) fn source(
    auth: &SecretsSection,
    settings: &AuthSettings,
    problems: &mut Problems,
) -> SecretSource {
    let Some(file) = &auth.users_file.value else {
        return SecretSource::Query(auth.query.clone());
    };
    let source = &auth.users_file.source;
    if auth.query.is_some() {
        problems.push(
            Problem::new(source, "auth.users_file", "is set together with auth.query")
                .hint("Secrets come from one of them: delete the other."),
        );
    }
    if settings.may_read_secrets()
        && let Err(error) = open(file)
    {
        problems.push(
            Problem::new(source, "auth.users_file", format!("could not open {file}: {error}"))
                .hint("Lines are \"user\" \"secret\", as in PgBouncer's userlist.txt."),
        );
    }
    SecretSource::File(PathBuf::from(file))
}

/// Opens the file to see that it can be. Only a plain one: opening a pipe would wait for its other end.
fn open(file: &str) -> std::io::Result<()> {
    if !std::fs::metadata(file)?.is_file() {
        return Err(std::io::Error::other("it is not a plain file"));
    }
    std::fs::File::open(file).map(drop)
}
