//! Connections for probes: they notice a dead peer by themselves, and none can hang.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::{Client, Config};

use super::host::{Lookup, NAME_ADDRESSES_MAX, ServerHost};
use super::{FailedAttempt, failure};
use crate::judge::{AskedFact, JudgeSettings, ProbeFailure, ProbePhase, RefusedFact};
use crate::login::{Dial, LoginDriver, LoginLeg, MonitorLogin, log_in};
use crate::net::ServerStream;
use trunkline_topology::Address;

/// Keepalive: seconds of silence before the first one, and between them.
const KEEPALIVE_PERIOD: Duration = Duration::from_secs(1);
/// Unanswered keepalives before the kernel closes the connection.
const KEEPALIVE_RETRIES: u32 = 2;
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;
/// Most that `statement_timeout` may be. Source: PostgreSQL 18, src/backend/utils/misc/guc_tables.c, INT_MAX.
const STATEMENT_TIMEOUT_MAX_MS: u128 = i32::MAX as u128;
/// Makes the probe's operators PostgreSQL's own, whatever operators of the same name users have created.
const SEARCH_PATH: &str = "SET search_path = pg_catalog";
/// The application_name of the probe's connections in pg_stat_activity.
const APPLICATION_NAME: &str = "trunkline_health";

/// A connection that is logged in.
pub(super) struct Link {
    pub(super) client: Client,
    pub(super) connection: LoginDriver,
    pub(super) address: Address,
}

/// Resolves, connects and logs in, all within `connect_timeout`.
pub(super) async fn open(
    server: &ServerHost,
    login: &MonitorLogin,
    settings: &JudgeSettings,
) -> Result<Link, FailedAttempt> {
    let after = settings.connect_timeout;
    let deadline = Instant::now() + after;
    let timed_out = ProbeFailure::TimedOut { phase: ProbePhase::Login, after };
    let at = |address, failure| FailedAttempt { address, phase: ProbePhase::Login, failure };

    let (stream, address) = match Address::of_directory(server.host(), server.port()) {
        Some(socket) => match timeout_at(deadline, ServerStream::connect(&socket)).await {
            Err(_) => return Err(at(Some(socket), timed_out)),
            Ok(Err(error)) => {
                let failure = failure::classify_connect(&error, &socket);
                return Err(at(Some(socket), failure));
            }
            Ok(Ok(stream)) => (stream, socket),
        },
        None => over_tcp(server, deadline, settings).await?,
    };
    let mut config = login.config.clone();
    config.application_name(APPLICATION_NAME);
    let mut dialer = Redial { first: Some(stream), address: &address, tick: settings.tick };
    let tls = login.tls.of(server.host(), server.port());
    let (host, named_by) = (server.host(), server.named_by());
    let leg = LoginLeg { host, tls, trusts_any: login.trusts_any_server, named_by };
    match timeout_at(deadline, log_in(&config, leg, &mut dialer)).await {
        Err(_) => Err(at(Some(address), timed_out)),
        Ok(Err(failure)) => {
            let failure = failure::classify_login(&failure, &address);
            Err(at(Some(address), failure))
        }
        Ok(Ok((client, connection))) => Ok(Link { client, connection, address }),
    }
}

/// The connection that is there, then others to the same address.
struct Redial<'a> {
    first: Option<ServerStream>,
    address: &'a Address,
    tick: Duration,
}

impl Dial for Redial<'_> {
    async fn dial(&mut self) -> std::io::Result<ServerStream> {
        match (self.first.take(), self.address) {
            (Some(stream), _) => Ok(stream),
            (None, Address::Tcp(address)) => connect(*address, self.tick).await.map(ServerStream::Tcp),
            (None, socket @ Address::Unix(_)) => ServerStream::connect(socket).await,
        }
    }
}

async fn over_tcp(
    server: &ServerHost,
    deadline: Instant,
    settings: &JudgeSettings,
) -> Result<(ServerStream, Address), FailedAttempt> {
    let Lookup { addresses, failure } = look_up(server, deadline, settings).await?;
    let (stream, address) = match (first_answering(&addresses, deadline, settings).await, failure) {
        (Ok(answering), _) => answering,
        // Whether the server has moved or is gone cannot be told.
        (Err(attempt), Some(failure)) => return Err(FailedAttempt { failure, ..attempt }),
        (Err(attempt), None) => return Err(attempt),
    };
    Ok((ServerStream::Tcp(stream), Address::Tcp(address)))
}

/// Looks a server's name up. A resolver that does not answer gets half of the time, where there are addresses to fall
/// back on.
async fn look_up(
    server: &ServerHost,
    deadline: Instant,
    settings: &JudgeSettings,
) -> Result<Lookup, FailedAttempt> {
    let left = deadline.saturating_duration_since(Instant::now());
    let patience = if server.is_known() { left / 2 } else { left };
    let found = match timeout(patience, lookup_host((server.host(), server.port()))).await {
        Ok(Ok(addresses)) => Ok(addresses.take(NAME_ADDRESSES_MAX).collect()),
        Ok(Err(error)) => Err(ProbeFailure::Unresolved(error.to_string())),
        Err(_) => Err(ProbeFailure::TimedOut { phase: ProbePhase::Login, after: settings.connect_timeout }),
    };
    server.note_lookup(found).map_err(|failure| FailedAttempt {
        address: None,
        phase: ProbePhase::Login,
        failure,
    })
}

/// The first address that accepts, as `localhost` often names two; each gets its share of the time left.
async fn first_answering(
    addresses: &[SocketAddr],
    deadline: Instant,
    settings: &JudgeSettings,
) -> Result<(TcpStream, SocketAddr), FailedAttempt> {
    let nothing = ProbeFailure::Unresolved("the name has no address".to_owned());
    let mut attempt = FailedAttempt { address: None, phase: ProbePhase::Login, failure: nothing };
    let addresses = &addresses[..addresses.len().min(ADDRESSES_MAX)];
    for (index, &address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(Instant::now()) / left;
        let failure = match timeout(share, connect(address, settings.tick)).await {
            Ok(Ok(stream)) => return Ok((stream, address)),
            Ok(Err(error)) => failure::classify_connect(&error, &Address::Tcp(address)),
            Err(_) => ProbeFailure::TimedOut { phase: ProbePhase::Login, after: settings.connect_timeout },
        };
        attempt.address = Some(Address::Tcp(address));
        attempt.failure = failure;
    }
    Err(attempt)
}

async fn connect(address: SocketAddr, tick: Duration) -> std::io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    let options = SockRef::from(&socket);
    options.set_tcp_nodelay(true)?;
    // Both are needed: keepalives notice a dead peer on an idle socket only, the user timeout on a busy one only.
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_PERIOD).with_interval(KEEPALIVE_PERIOD);
    #[cfg(any(target_os = "linux", target_os = "macos", target_os = "freebsd"))]
    let keepalive = keepalive.with_retries(KEEPALIVE_RETRIES);
    options.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    options.set_tcp_user_timeout(Some(tick * 2))?;
    let _ = tick;
    socket.connect(address).await
}

/// What a probe's connection sets for itself once it is logged in: many poolers refuse a startup packet with `options`.
///
/// The server gives up a little before we do, so that no backend is left at work. The operator's own `options` come first.
pub(super) fn own_settings(login: &Config, probe_timeout: Duration) -> Vec<String> {
    let statement_timeout_ms = (probe_timeout * 9 / 10).as_millis().clamp(1, STATEMENT_TIMEOUT_MAX_MS);
    let has_own = login.get_options().is_some_and(|options| options.contains("statement_timeout"));
    let timeout = (!has_own).then(|| format!("SET statement_timeout = {statement_timeout_ms}"));
    timeout.into_iter().chain([SEARCH_PATH.to_owned()]).collect()
}

/// Runs `statements`, each apart, in one round trip, and returns what the server refuses: the probe does without, as it
/// waits for no answer longer than it is told to and names every function in full.
pub(super) async fn set(
    client: &Client,
    statements: &[String],
    patience: Duration,
) -> Result<Vec<RefusedFact>, ProbeFailure> {
    let all = join_all(statements.iter().map(|statement| client.batch_execute(statement)));
    let after = patience;
    let answers = timeout(patience, all)
        .await
        .map_err(|_| ProbeFailure::TimedOut { phase: ProbePhase::Query, after })?;
    let mut refused = Vec::new();
    for answer in answers {
        match answer.map_err(|error| failure::classify(&error)) {
            Ok(()) => {}
            Err(ProbeFailure::Refusal { code, .. }) if !failure::ends_connection(code) => {
                refused.push(RefusedFact { fact: AskedFact::Settings, code });
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_own_timeout_stays_and_the_search_path_does_not() {
        let mut login = Config::new();
        let second = Duration::from_secs(1);
        assert_eq!(own_settings(&login, second), ["SET statement_timeout = 900", SEARCH_PATH]);
        login.options("-c work_mem=8MB");
        assert_eq!(own_settings(&login, second), ["SET statement_timeout = 900", SEARCH_PATH]);
        login.options("-c statement_timeout=5s -c search_path=public");
        assert_eq!(own_settings(&login, second), [SEARCH_PATH]);
    }
}
