//! Connections that are opened ahead of their clients, for `min_pool_size`.

use std::sync::Arc;
use std::time::Instant;

use trunkline_pool::{PoolId, PoolKey};
use trunkline_reactor::timer;
use trunkline_session::{ConnectionState, SessionState, diff};
use trunkline_topology::ServerId;

use super::connection::{ReadyServer, log_in_either_way};
use super::login::{LoginError, LoginReply};
use super::means::LoginMeans;
use super::patience::answered;
use super::restore::LoginAs;
use super::take::{Search, ServerCriteria, TakeError, UnitLeg};
use crate::context::{FillFault, FillLogin, FillNews, UserLogin, Worker};
use crate::defaults::{ReportedDefaults, SessionDefaults};
use crate::limits::DEFAULTS_NEWS_PATIENCE;
use crate::pool::connection::ServerConnection;
use crate::pool::member::{OpenPlace, PoolMember};

/// Why a connection was not opened ahead of clients.
#[derive(Debug, thiserror::Error)]
enum FillError {
    #[error("the server was not reached, or is not to have sessions")]
    NotReached,
    #[error("the server takes only a few connections in the place of standbys")]
    StandsIn,
    #[error(transparent)]
    Login(#[from] LoginError),
    #[error("the defaults of its login could not be read in time")]
    Defaults,
    #[error("it is not as a new client would find it")]
    NotClean,
}

impl FillError {
    fn fault(&self) -> FillFault {
        match self {
            Self::Login(LoginError::Refused { .. } | LoginError::NoMeans { .. }) => FillFault::Refused,
            Self::Login(LoginError::Lost(_) | LoginError::Exposed | LoginError::Exchange(_))
            | Self::NotReached
            | Self::StandsIn
            | Self::Defaults
            | Self::NotClean => FillFault::Other,
        }
    }
}

/// Opens a connection for this place, and gives it to whoever asks next. Where that fails, its pool is tried again after a
/// while; the log is told once.
pub(crate) async fn open_ahead(worker: &Worker, place: OpenPlace, key: PoolId) {
    let (pool, server) = (worker.shared.pools.lock().key_of(key).cloned(), place.server());
    let fills = &worker.shared.fills;
    // Its place is given back as one that failed: none is tried at once again.
    let (Some(pool), Some(login)) = (pool, fills.next(key, server)) else { return };
    let names = [pool.user(), pool.database()];
    match logged_in(worker, &place, &login, names).await {
        Ok((mut server, own)) => {
            if fills.succeeded(key, place.server()) == FillNews::News {
                tracing::info!(
                    server.name = %server.name, db.user = pool.user(), db.name = pool.database(),
                    "server connections are opened ahead of clients again (min_pool_size)"
                );
            }
            let (state, defaults) = (std::mem::take(&mut *server.state), own.digest());
            server.own = Some(Arc::new(own));
            server.member = PoolMember::opened(place, worker.shelf.name(worker.index));
            worker.check_in(server, state, defaults, Instant::now());
        }
        Err(error) => {
            if fills.failed(key, server, error.fault(), &error.to_string()) == FillNews::News {
                log_failed(worker, server, &pool, &error);
            }
        }
    }
}

fn log_failed(worker: &Worker, server: ServerId, pool: &PoolKey, error: &FillError) {
    let snapshot = worker.shared.health.load();
    let name = snapshot.server(server).map(|status| &*status.name);
    tracing::info!(
        server.name = name, db.user = pool.user(), db.name = pool.database(), %error,
        "could not open a server connection ahead of clients (min_pool_size), trying again from time to time"
    );
}

/// A connection as one that a new client has been logged in to, and its defaults.
async fn logged_in(
    worker: &Worker,
    place: &OpenPlace,
    login: &FillLogin,
    names: [&str; 2],
) -> Result<(Box<ServerConnection>, SessionDefaults), FillError> {
    let FillLogin { login, listener, attrs } = login;
    let UserLogin { startup, credentials } = &**login;
    let listener = Arc::clone(listener);
    let mut search =
        Search::for_fill(worker, ServerCriteria { listener, attrs: *attrs, only: None, leg: UnitLeg::Any });
    let who = LoginAs { startup, credentials, restoring: None };
    let mut means = LoginMeans::new(worker, who).await;
    let (server, reply) = loop {
        let mut server = match search.connect_to(place.server()).await {
            Ok(Some(server)) => server,
            Ok(None) | Err(TakeError::NoServer(_) | TakeError::Refused(_)) => {
                return Err(FillError::NotReached);
            }
        };
        if server.lease.stands_in() {
            return Err(FillError::StandsIn);
        }
        let (health, timeout) = (&worker.shared.health, worker.shared.live().timeouts.connect);
        let answer = log_in_either_way(&worker.connector, &mut server, means.who(), timeout);
        match answered(health, place.server(), timeout, answer).await {
            Ok(Ok(reply)) => break (server, reply),
            Ok(Err(error)) if means.has_other(&error).await => {}
            Ok(Err(error)) => return Err(error.into()),
            Err(error) => return Err(LoginError::from(error).into()),
        }
    };
    as_new(worker, (server, reply), who, names).await
}

/// The connection, once it is certain what its login has given it.
async fn as_new(
    worker: &Worker,
    (server, reply): (Box<ServerConnection>, LoginReply),
    who: LoginAs<'_>,
    names: [&str; 2],
) -> Result<(Box<ServerConnection>, SessionDefaults), FillError> {
    let defaults = &worker.shared.defaults;
    let parameters = worker.shared_parameters(&reply.messages);
    let mut own = SessionDefaults::at_login(defaults, server.lease.server(), server.since, names);
    let has_timeout = who.has_login_timeout() || own.has_statement_timeout(who.startup);
    let state = ConnectionState::logged_in(has_timeout, Arc::clone(&parameters));
    if !reply.read_ahead.is_empty() || !diff(&state, &SessionState::new()).is_empty() {
        return Err(FillError::NotClean);
    }
    let looked = async {
        while own.is_unconfirmed() && !own.is_looked_at(defaults) {
            defaults.next_look(server.lease.server()).await;
        }
    };
    let _elapsed = timer::timeout(DEFAULTS_NEWS_PATIENCE, looked).await;
    let told = ReportedDefaults::of(parameters.iter());
    if !own.confirm(defaults, names, &told).is_empty() || own.is_unconfirmed() {
        return Err(FillError::Defaults);
    }
    let mut server = ReadyServer::new(server, reply).server;
    *server.state = state;
    Ok((server, own))
}
