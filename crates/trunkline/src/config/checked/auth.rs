//! `[auth]`, checked.

use std::path::PathBuf;

use trunkline_proxy::settings::{AuthMode, AuthSettings, ClientMethod, MockNonce, SecretSource};

use crate::config::raw::{AuthModeWord, AuthSection, ClientMethodWord};
use crate::config::{Problem, Problems};

/// Who authenticates clients.
pub(super) fn auth(auth: &AuthSection, problems: &mut Problems) -> AuthSettings {
    let mode = match auth.mode.value {
        AuthModeWord::Relay => AuthMode::Relay,
        AuthModeWord::Verify => AuthMode::Verify,
    };
    let client_method = match auth.client_method.value {
        ClientMethodWord::Auto => ClientMethod::Auto,
        ClientMethodWord::Password => ClientMethod::Password,
        ClientMethodWord::Trust => ClientMethod::Trust,
    };
    AuthSettings {
        mode,
        source: source(auth, mode, problems),
        client_method,
        cache_ttl: auth.cache_ttl.value,
        mock_nonce: auth.mock_nonce.value.as_deref().map(MockNonce::new),
        check_user: auth.check_user.value.clone(),
    }
}

fn source(auth: &AuthSection, mode: AuthMode, problems: &mut Problems) -> SecretSource {
    let Some(file) = &auth.users_file.value else {
        return SecretSource::Query(auth.query.value.clone());
    };
    let source = &auth.users_file.source;
    if auth.query.value.is_some() {
        problems.push(
            Problem::new(source, "auth.users_file", "is set together with auth.query")
                .hint("Secrets come from one of them: delete the other."),
        );
    }
    if mode == AuthMode::Verify
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
