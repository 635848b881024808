//! Servers that do not take a session: why, and what the search makes of it.

use std::io::ErrorKind;
use std::time::Instant;

use trunkline_codec::sqlstate::SqlState;
use trunkline_health::PassiveFailure;
use trunkline_routing::TargetSessionAttrs;
use trunkline_routing::eligible::may_stay;
use trunkline_session::SessionState;
use trunkline_telemetry::metrics::{FailoverCause, MoveRefusal};
use trunkline_topology::{ServerId, ServerStatus, Snapshot, State};

use super::connection::{ReadyServer, check_out};
use super::login::{LoginError, LoginReply};
use super::restore::LoginAs;
use super::take::{Move, Search, ServerCriteria, TakeError};
use crate::client::messages::ReadError;
use crate::context::Worker;
use crate::errors::{Refusal, ServerKind};
use crate::limits::{PLANNED_MOVE_TIMEOUT, SERVER_LIMIT_PATIENCE};
use crate::pool::connection::ServerConnection;
use trunkline_reactor::timer;

/// Logs what came of one attempt. A session that has a server already may try again for as long as it lives, and has a
/// line of its own for what came of all its attempts.
macro_rules! log_attempt {
    ($search:expr, $level:ident, $($fields:tt)*) => {
        if $search.is_planned { tracing::debug!($($fields)*) } else { tracing::$level!($($fields)*) }
    };
}
pub(super) use log_attempt;

/// A server that did not take a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RefusedBy {
    pub(crate) server: ServerId,
    pub(crate) reason: MoveRefusal,
}

impl RefusedBy {
    /// Whether the server would say the same if it was asked again at once.
    pub(crate) fn is_lasting(&self) -> bool {
        match self.reason {
            MoveRefusal::Authentication
            | MoveRefusal::Permission
            | MoveRefusal::Database
            | MoveRefusal::State
            | MoveRefusal::Other => true,
            MoveRefusal::TooManyConnections
            | MoveRefusal::NotAccepting
            | MoveRefusal::Behind
            | MoveRefusal::Role
            | MoveRefusal::Lost
            | MoveRefusal::Timeout => false,
        }
    }
}

/// The reason in words for operators.
pub(crate) fn in_words(reason: MoveRefusal) -> &'static str {
    match reason {
        MoveRefusal::Authentication => "authentication failed",
        MoveRefusal::Permission => "permission denied",
        MoveRefusal::Database => "the database does not exist",
        MoveRefusal::TooManyConnections => "too many connections",
        MoveRefusal::NotAccepting => "it does not accept connections now",
        MoveRefusal::State => "settings or prepared statements were refused",
        MoveRefusal::Behind => "it is behind what the session has seen",
        MoveRefusal::Role => "it has another role now",
        MoveRefusal::Lost => "the connection failed",
        MoveRefusal::Timeout => "it did not answer in time",
        MoveRefusal::Other => "the login was refused",
    }
}

/// Why a server refuses a login with this code.
fn reason_of(code: Option<SqlState>) -> MoveRefusal {
    match code {
        Some(SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION) => MoveRefusal::Authentication,
        Some(SqlState::INSUFFICIENT_PRIVILEGE) => MoveRefusal::Permission,
        Some(SqlState::INVALID_CATALOG_NAME) => MoveRefusal::Database,
        Some(SqlState::TOO_MANY_CONNECTIONS) => MoveRefusal::TooManyConnections,
        Some(SqlState::CANNOT_CONNECT_NOW | SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN) => {
            MoveRefusal::NotAccepting
        }
        Some(_) | None => MoveRefusal::Other,
    }
}

/// Whether the refusal is about this server now, and not about the user, the database or the request.
pub(crate) fn is_servers_own_trouble(code: SqlState) -> bool {
    matches!(reason_of(Some(code)), MoveRefusal::NotAccepting | MoveRefusal::TooManyConnections)
}

/// Takes another server for a session that still has its own: each server that it may move to is asked once, and the
/// session stays where it is if none takes it. The error says which were asked.
pub(crate) async fn take_planned(
    mut search: Search<'_>,
    who: LoginAs<'_>,
    wanted: &SessionState,
) -> Result<ReadyServer, Vec<RefusedBy>> {
    let deadline = search.deadline;
    match timer::timeout_at(deadline, check_out(&mut search, who, wanted, None)).await {
        Ok(Ok(taken)) => return Ok(taken),
        Ok(Err(TakeError::NoServer(_) | TakeError::Refused(_))) => {}
        Err(_elapsed) => {
            if let Some(server) = search.asked {
                search.refused(server, MoveRefusal::Timeout);
            }
        }
    }
    Err(search.refused_by)
}

impl<'a> Search<'a> {
    /// For a session whose request is sent again, and which keeps its server meanwhile. No server is waited for.
    pub(crate) fn for_repeat(worker: &'a Worker, criteria: ServerCriteria, moving: Move) -> Self {
        let mut search = Search::for_move(worker, criteria, moving);
        search.keeps_server = true;
        search.deadline = Instant::now() + PLANNED_MOVE_TIMEOUT;
        search
    }

    /// For a session that leaves its server only once another has taken it. The servers to skip have refused it lately.
    pub(crate) fn for_planned_move(
        worker: &'a Worker,
        criteria: ServerCriteria,
        moving: Move,
        skip: Vec<ServerId>,
    ) -> Self {
        let mut search = Search::for_move(worker, criteria, moving);
        moving.ask_what_was_seen(&worker.shared.health);
        search.excluded.extend(skip);
        (search.is_planned, search.keeps_server) = (true, true);
        search.deadline = Instant::now() + PLANNED_MOVE_TIMEOUT;
        search
    }

    /// For a connection that no client waits for: one server is asked, once.
    pub(super) fn for_fill(worker: &'a Worker, criteria: ServerCriteria) -> Self {
        let mut search = Search::new(worker, criteria);
        (search.is_planned, search.keeps_server) = (true, true);
        search
    }

    /// Gives up soon: what the servers have said is not for the proxy to change.
    pub(super) fn hurry(&mut self) {
        self.deadline = self.deadline.min(Instant::now() + SERVER_LIMIT_PATIENCE);
    }

    /// Notes that `server` does not take the session.
    pub(super) fn refused(&mut self, server: ServerId, reason: MoveRefusal) {
        self.refused_by.retain(|refused| refused.server != server);
        self.refused_by.push(RefusedBy { server, reason });
    }

    /// Whether `server` is not to be asked again by this search.
    pub(super) fn has_refused(&self, server: ServerId) -> bool {
        self.refused_by.iter().any(|refused| refused.server == server && refused.is_lasting())
    }

    /// Whether nothing is gained by a wait: every server that could be asked has been.
    pub(super) fn is_exhausted(&self) -> bool {
        self.keeps_server
            || (self.may_ask_the_primary_last() && self.excluded.is_empty() && !self.may_one_return())
    }

    /// Whether a server that is down now, and has not refused the session for good, would do once it is back. For a login
    /// the primary's refusal is the last.
    fn may_one_return(&self) -> bool {
        let snapshot = self.worker.shared.health.load();
        if self.moving.is_none() && snapshot.primary.is_some_and(|primary| self.has_refused(primary)) {
            return false;
        }
        let mut returned = Snapshot::clone(&snapshot);
        let down = returned.servers.iter_mut().filter(|server| server.state == State::Down);
        down.for_each(|server| server.state = State::Up);
        let rules = self.criteria.rules(&self.worker.shared.live());
        let would_do = |server: &ServerStatus| {
            server.state == State::Down
                && server.weight > 0
                && self.criteria.only.is_none_or(|wanted| wanted == server.id)
                && self.can_be_asked(&snapshot, server.id)
                && may_stay(&rules, &returned, server.id)
        };
        snapshot.servers.iter().any(would_do)
    }

    /// Whether the primary may take the session in a standby's place, because every standby has refused it.
    pub(super) fn may_ask_the_primary_last(&self) -> bool {
        !self.is_planned && self.refused_by.iter().any(RefusedBy::is_lasting)
    }

    /// Notes that `server` failed: not chosen again before there is news of it.
    pub(super) fn failed(
        &mut self,
        server: ServerId,
        failure: PassiveFailure,
        cause: FailoverCause,
        reason: MoveRefusal,
    ) {
        self.excluded.push(server);
        self.refused(server, reason);
        self.worker.shared.health.suspect(server, failure);
        self.count_failover(server, cause);
    }

    fn count_failover(&self, server: ServerId, cause: FailoverCause) {
        if !self.is_planned {
            self.worker.metrics.server(server).failovers.one(cause);
        }
    }

    /// Judges a failed login: `Ok` when another server should be tried.
    pub(crate) fn login_failed(
        &mut self,
        server: &ServerConnection,
        error: LoginError,
    ) -> Result<(), TakeError> {
        let id = server.lease.server();
        log_attempt!(self, info, server.name = %server.name, server.addr = %server.address, %error, "login to the server failed");
        match error {
            LoginError::Refused { code: Some(code), message } if is_servers_own_trouble(code) => {
                self.last_words = Some(TakeError::Refused(message));
                let cause = match code {
                    SqlState::TOO_MANY_CONNECTIONS => FailoverCause::TooManyConnections,
                    _ => FailoverCause::NotAccepting,
                };
                self.failed(id, PassiveFailure::SqlState(code), cause, reason_of(Some(code)));
                Ok(())
            }
            LoginError::Refused { message, .. } if !self.may_ask_another() => {
                Err(TakeError::Refused(message))
            }
            LoginError::Refused { code, message } => {
                self.refuses_the_login(id, reason_of(code), TakeError::Refused(message));
                Ok(())
            }
            LoginError::Lost(error) => {
                let is_late = matches!(&error, ReadError::Io(error) if error.kind() == ErrorKind::TimedOut);
                let reason = if is_late { MoveRefusal::Timeout } else { MoveRefusal::Lost };
                self.failed(id, PassiveFailure::ServerLost, FailoverCause::LostInLogin, reason);
                Ok(())
            }
            // The same server lets others in.
            LoginError::Exchange(_) => {
                let refusal = Refusal::NoMeans { wanted: "another proof of the password" };
                self.refuses_the_login(id, MoveRefusal::Authentication, TakeError::NoServer(refusal));
                Ok(())
            }
            LoginError::Exposed => {
                log_attempt!(self, warn, server.name = %server.name, "the server asks for the password itself, which goes to it only by TLS with sslmode verify-ca or verify-full, or over a Unix socket; or let its pg_hba.conf ask for scram-sha-256");
                let refusal = TakeError::NoServer(Refusal::PasswordWithheld);
                if !self.may_ask_another() {
                    return Err(refusal);
                }
                self.refuses_the_login(id, MoveRefusal::Authentication, refusal);
                Ok(())
            }
            LoginError::NoMeans { wanted } => {
                log_attempt!(self, warn, server.name = %server.name, wanted, "the server's pg_hba.conf asks the proxy for a proof it cannot give");
                let refusal = TakeError::NoServer(Refusal::NoMeans { wanted });
                if !self.may_ask_another() {
                    return Err(refusal);
                }
                self.refuses_the_login(id, MoveRefusal::Authentication, refusal);
                Ok(())
            }
        }
    }

    /// Whether another server is asked for a session that one has refused.
    ///
    /// A session that has had a server before asks the next one in any case: one that was let in elsewhere knows the
    /// password, and a standby that crashed lets clients in before it has replayed their roles. A client that logs in does
    /// so once the proxy has authenticated it: the refusal may be that of a standby which has yet to replay a role, a privilege or a
    /// database, or that is set up otherwise. Where its server authenticates it (`relay`, `login`), the refusal stands.
    fn may_ask_another(&self) -> bool {
        self.moving.is_some() || self.is_vouched_for
    }

    /// Notes that `server` does not let the session in, whose client is told so if no other does.
    fn refuses_the_login(&mut self, server: ServerId, reason: MoveRefusal, error: TakeError) {
        self.last_words = Some(error);
        self.count_failover(server, FailoverCause::Refused);
        self.refused(server, reason);
    }

    /// Whether the server still is what it was chosen for, as it says itself: its role may have changed since health
    /// asked last.
    pub(super) fn is_as_wanted(&mut self, server: &ServerConnection, login_reply: &LoginReply) -> bool {
        let is_standby = login_reply.is_standby;
        let is_wanted = match self.criteria.attrs {
            TargetSessionAttrs::ReadWrite | TargetSessionAttrs::Primary => is_standby != Some(true),
            TargetSessionAttrs::Standby => is_standby != Some(false),
            TargetSessionAttrs::Any | TargetSessionAttrs::ReadOnly | TargetSessionAttrs::PreferStandby => {
                true
            }
        };
        if !is_wanted {
            log_attempt!(self, info, server.name = %server.name, is_standby, "the server has another role now, trying another");
            let (failure, cause) = (PassiveFailure::ServerLost, FailoverCause::NotAccepting);
            self.failed(server.lease.server(), failure, cause, MoveRefusal::Role);
        }
        is_wanted
    }

    /// Why the search ends with nothing.
    pub(super) fn give_up(&mut self) -> TakeError {
        if self.moving.is_some() && !self.refused_by.is_empty() {
            return TakeError::NoServer(Refusal::NotReplaced { tried: self.tried() });
        }
        if let Some(error) = self.last_words.take() {
            return error;
        }
        let wanted = ServerKind::of(self.criteria.attrs);
        TakeError::NoServer(Refusal::NoServer { wanted, detail: self.describe() })
    }

    /// The servers that did not take the session, in a sentence without hosts.
    fn tried(&self) -> String {
        let snapshot = self.worker.shared.health.load();
        let name = |id| snapshot.server(id).map_or("?", |status| &*status.name);
        let tried = self.refused_by.iter();
        let tried: Vec<String> =
            tried.map(|r| format!("\"{}\": {}", name(r.server), in_words(r.reason))).collect();
        format!("Tried {}.", tried.join(", "))
    }

    /// The state of the servers in a sentence without hosts.
    fn describe(&self) -> String {
        let snapshot = self.worker.shared.health.load();
        let waited = self.worker.shared.live().timeouts.wait_for_server(self.criteria.attrs);
        let states: Vec<String> =
            snapshot.servers.iter().map(|n| format!("{} is {}", n.name, n.state)).collect();
        let waited = match waited.subsec_millis() {
            0 => format!("{} s", waited.as_secs()),
            _ => format!("{} ms", waited.as_millis()),
        };
        format!("None became eligible within {waited}: {}.", states.join(", "))
    }
}
