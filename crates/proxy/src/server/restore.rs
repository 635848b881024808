//! Logs a moving session in to another server, with the default settings of its first login.
//!
//! The proxy knows which defaults a server gives to new logins from the last time it read them, which may be older
//! than the login. So after each login it asks the server whether they have changed since, and logs in again if
//! so.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use trunkline_codec::backend::{BackendTag, DataRow, ErrorFields};
use trunkline_codec::scan::{Piece, ScanPhase, Scanner};
use trunkline_codec::sqlstate::SqlState;
use trunkline_codec::startup::StartupMessage;
use trunkline_codec::write;
use trunkline_codec::write::ErrorReport;
use trunkline_reactor::timer;
use trunkline_tls::connect::Encryption;

use super::login::{self, LoginError, LoginReply};
use super::refused::is_servers_own_trouble;
use crate::client::messages::ReadError;
use crate::defaults::startup::StartupSetting;
use crate::defaults::{DefaultsVersion, RequestedSettings, RestoringLogin};
use crate::limits::{DEFAULTS_NEWS_PATIENCE, LOGIN_REPLY_BYTES_MAX, RESTORING_LOGINS_MAX};
use crate::net::Connector;
use crate::pool::connection::ServerConnection;
use trunkline_auth::credentials::ServerCredentials;

/// Bytes asked of the socket at once.
const READ_BYTES: usize = 1024;

/// The user and the settings of a login to a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoginAs<'a> {
    pub(crate) startup: &'a StartupMessage,
    pub(crate) credentials: &'a ServerCredentials,
    /// The defaults of the session's first login; `None` for the first login itself.
    pub(crate) restoring: Option<&'a RestoringLogin<'a>>,
}

impl LoginAs<'_> {
    /// Whether the login brings a statement_timeout, of its startup packet or of defaults.
    pub(super) fn has_login_timeout(&self) -> bool {
        let has_timeout = |restoring: &RestoringLogin<'_>| restoring.own.has_statement_timeout(self.startup);
        self.restoring.is_some_and(has_timeout)
    }
}

/// Logs in as the session's user. A session that moves asks for the defaults of its first login. It logs in again
/// if the server's ParameterStatus messages show that some still differ, if the server's own defaults have
/// changed, or if it refuses a setting.
pub(super) async fn log_in(
    connector: &Connector,
    server: &mut ServerConnection,
    who: LoginAs<'_>,
    timeout: Duration,
) -> Result<LoginReply, LoginError> {
    let LoginAs { startup, credentials, restoring } = who;
    let Some(restoring) = restoring else {
        return as_user(server, startup, credentials).await;
    };
    let id = server.lease.server();
    let mut refused = Vec::new();
    let mut asking = restoring.asking(id, startup);
    for _ in 1..RESTORING_LOGINS_MAX {
        let asked = RestoringLogin::startup(&asking, startup);
        match as_user(server, &asked, credentials).await {
            Ok(mut login_reply) => {
                let wrong = restoring.corrected(&login_reply.messages, startup, &asked);
                if !wrong.is_empty() {
                    asking.settings.retain(|setting| wrong.iter().all(|other| other.name != setting.name));
                    asking.settings.extend(wrong);
                } else {
                    match looked_at(server, &mut login_reply, &asking).await? {
                        LoginLook::AsRead => return Ok(login_reply),
                        LoginLook::OfAnother => return Err(of_another(server)),
                        LoginLook::Changed => {}
                    }
                    let looked = timer::timeout(DEFAULTS_NEWS_PATIENCE, restoring.next_look(id)).await;
                    if looked.is_err() {
                        tracing::warn!(server.name = %server.name, "could not read the server's defaults in time, a moved session may have different ones");
                        return Ok(login_reply);
                    }
                    asking = restoring.asking(id, startup);
                }
            }
            Err(error) => {
                let LoginError::Refused { code, message } = &error else { return Err(error) };
                if asking.settings.is_empty() || code.is_some_and(is_servers_own_trouble) {
                    return Err(error);
                }
                refused.extend(named_by(message, &asking.settings));
                tracing::warn!(
                    server.name = %server.name, %error, settings = ?refused,
                    "server refuses default settings of a moved session, its own are used"
                );
            }
        }
        asking.settings.retain(|setting| !refused.contains(&setting.name));
        connect_again(connector, server, timeout).await?;
    }
    as_user(server, startup, credentials).await
}

async fn as_user(
    server: &mut ServerConnection,
    startup: &StartupMessage,
    credentials: &ServerCredentials,
) -> Result<LoginReply, LoginError> {
    let leg = server.leg();
    login::log_in(&mut server.stream, startup, credentials, leg).await
}

/// Closes the connection, and connects to the server again.
async fn connect_again(
    connector: &Connector,
    server: &mut ServerConnection,
    timeout: Duration,
) -> Result<(), LoginError> {
    server.terminate();
    // By TLS or without, as the server has agreed to before.
    let kind = if server.stream.is_encrypted() { Encryption::Tls } else { Encryption::Plain };
    server.stream = connector.connect_as(kind, server.place(), timeout).await?;
    Ok(())
}

/// The settings that an ErrorResponse mentions: by name, or `role` by its value. All of them if it mentions none.
fn named_by(refusal: &Bytes, settings: &[StartupSetting]) -> Vec<Box<str>> {
    // The body follows the type byte and the length word.
    let body = refusal.get(5..).unwrap_or_default();
    let words = ErrorFields::new(body).message().unwrap_or_default().to_ascii_lowercase();
    let speaks_of = |name: &[u8]| {
        let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'$');
        let is_edge = |byte: Option<&u8>| !byte.is_some_and(is_of_name);
        let mut places = words.windows(name.len().max(1)).enumerate().filter(|(_, word)| *word == name);
        places.any(|(at, _)| {
            is_edge(at.checked_sub(1).and_then(|at| words.get(at))) && is_edge(words.get(at + name.len()))
        })
    };
    let is_meant = |setting: &&StartupSetting| {
        let role = setting.value.to_ascii_lowercase();
        speaks_of(setting.name.as_bytes()) || (*setting.name == *"role" && speaks_of(&role))
    };
    let named: Vec<Box<str>> = settings.iter().filter(is_meant).map(|setting| setting.name.clone()).collect();
    if named.is_empty() { settings.iter().map(|setting| setting.name.clone()).collect() } else { named }
}

/// What a server says of a login that was to restore the defaults of the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LoginLook {
    /// Its defaults are those that were last read.
    AsRead,
    /// They have changed since.
    Changed,
    /// The role or database is not the session's, but another that has got the name.
    OfAnother,
}

impl LoginLook {
    fn of(version: &DefaultsVersion, asking: &RequestedSettings) -> Self {
        match (asking.is_of_another(version), asking.fits(version)) {
            (true, _) => Self::OfAnother,
            (false, true) => Self::AsRead,
            (false, false) => Self::Changed,
        }
    }
}

/// The session cannot go on as whom its role or database is not any more.
fn of_another(server: &ServerConnection) -> LoginError {
    tracing::warn!(server.name = %server.name, "the name of a session's role or database has been given to another, the session does not go on");
    let words = "the role or database of this session has lost its name to another";
    let code = SqlState::UNDEFINED_OBJECT;
    let mut message = BytesMut::new();
    write::error_response(&mut message, &ErrorReport::fatal(code, words));
    LoginError::Refused { code: Some(code), message: message.freeze() }
}

/// Asks the server whether its defaults are still those that were last read. If it refuses to answer, they are
/// assumed to be.
async fn looked_at(
    server: &mut ServerConnection,
    login_reply: &mut LoginReply,
    asking: &RequestedSettings,
) -> Result<LoginLook, ReadError> {
    if !asking.is_of_a_look() {
        return Ok(LoginLook::AsRead);
    }
    let mut question = BytesMut::new();
    if write::query(&mut question, DefaultsVersion::question().as_bytes()).is_err() {
        return Ok(LoginLook::AsRead);
    }
    server.stream.write_all(&question).await?;
    let mut scanner = Scanner::backend();
    scanner.set_phase(ScanPhase::Normal);
    let mut buffer = std::mem::take(&mut login_reply.read_ahead);
    let mut version = None;
    loop {
        let mut at = 0;
        while let Some(piece) = scanner.next(&buffer, &mut at)? {
            let Piece::Message { tag, body } = piece else { continue };
            match BackendTag::from_byte(tag) {
                BackendTag::DataRow => {
                    version =
                        DataRow::parse(body).ok().and_then(|row| DefaultsVersion::of_values(row.values()));
                }
                BackendTag::ParameterStatus => {
                    let start = at - body.len() - 5;
                    if login_reply.messages.len() + body.len() <= LOGIN_REPLY_BYTES_MAX {
                        login_reply.take_in(&buffer[start..at]);
                    }
                }
                BackendTag::ReadyForQuery => {
                    login_reply.read_ahead = buffer.split_off(at);
                    return Ok(version.map_or(LoginLook::AsRead, |version| LoginLook::of(&version, asking)));
                }
                _notice_or_refusal => {}
            }
        }
        let _dealt_with = buffer.split_to(at);
        buffer.reserve(READ_BYTES);
        if server.stream.read_buf(&mut buffer).await? == 0 {
            return Err(ReadError::Closed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dropped(words: &str) -> Vec<String> {
        let settings = [("app.tenant", "a"), ("datestyle", "x"), ("role", "Clerk"), ("work_mem", "1")]
            .map(|(name, value)| StartupSetting { name: name.into(), value: value.as_bytes().into() });
        let mut message = BytesMut::new();
        write::error_response(&mut message, &ErrorReport::fatal(SqlState::FEATURE_NOT_SUPPORTED, words));
        named_by(&message.freeze(), &settings).into_iter().map(String::from).collect()
    }

    #[test]
    fn only_the_setting_that_a_server_refuses_is_dropped() {
        assert_eq!(dropped("invalid value for parameter \"DateStyle\": \"x\""), ["datestyle"]);
        assert_eq!(dropped("permission denied to set parameter \"work_mem\""), ["work_mem"]);
        assert_eq!(dropped("ungültiger Wert für Parameter »app.tenant«: »a«"), ["app.tenant"]);
        assert_eq!(dropped("role \"clerk\" does not exist"), ["role"]);
        let all = ["app.tenant", "datestyle", "role", "work_mem"];
        assert_eq!(
            dropped("unrecognized configuration parameter \"work_mem_limit\""),
            all,
            "of none of them"
        );
        assert_eq!(dropped("permission denied"), all);
    }
}
