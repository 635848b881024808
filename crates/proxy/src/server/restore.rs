//! Logging a session in once more, with the settings that its first login gave.

use std::time::Duration;

use bytes::BytesMut;
use trunkline_codec::startup::StartupMessage;
use trunkline_codec::write;

use super::login::{self, Greeting, LoginError};
use super::take::{Connected, is_servers_own_trouble};
use crate::defaults::Restoring;
use crate::net;
use trunkline_auth::credentials::Credentials;

/// As whom a server is logged in to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoginAs<'a> {
    pub(crate) startup: &'a StartupMessage,
    pub(crate) credentials: &'a Credentials,
    /// What the session was given by its first login; `None` for that one.
    pub(crate) restoring: Option<&'a Restoring<'a>>,
}

/// Logs in as the session's user. A session that moves asks for what its first login gave, and once more where the
/// greeting shows that this was not enough, or the server refuses it.
pub(super) async fn log_in(
    server: &mut Connected,
    who: LoginAs<'_>,
    timeout: Duration,
) -> Result<Greeting, LoginError> {
    let LoginAs { startup, credentials, restoring } = who;
    let Some(restoring) = restoring else {
        return login::log_in(&mut server.stream, startup, credentials).await;
    };
    let asked = restoring.startup(server.lease.server(), startup);
    let next = match login::log_in(&mut server.stream, &asked, credentials).await {
        Ok(greeting) => match restoring.corrected(&greeting.messages, startup, &asked) {
            Some(corrected) => corrected,
            None => return Ok(greeting),
        },
        Err(error) if is_of_settings(&error, startup, &asked) => {
            tracing::warn!(
                server.name = %server.name, %error,
                "the server refuses the settings that a session had elsewhere, it is given the server's own"
            );
            startup.clone()
        }
        Err(error) => return Err(error),
    };
    let mut goodbye = BytesMut::new();
    write::terminate(&mut goodbye);
    // If the socket does not take five bytes, its end will have to do.
    let _ = server.stream.try_write_last(&goodbye);
    server.stream = net::connect(&server.address, timeout).await?;
    login::log_in(&mut server.stream, &next, credentials).await
}

/// Whether a login was refused that may be granted without the settings it asked for.
fn is_of_settings(error: &LoginError, startup: &StartupMessage, asked: &StartupMessage) -> bool {
    match error {
        LoginError::Refused { code, .. } => asked != startup && !code.is_some_and(is_servers_own_trouble),
        LoginError::Lost(_) | LoginError::NoMeans { .. } | LoginError::Exchange(_) => false,
    }
}
