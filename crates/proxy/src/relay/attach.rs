//! A session's server: being on one, losing it, taking another.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use trunkline_codec::backend::ParameterStatus;
use trunkline_codec::scan::{Piece, Scanner};
use trunkline_codec::write;
use trunkline_health::{PassiveFailure, Role};
use trunkline_session::{LossPlan, Retake, ServerLoss, Session};

use super::{ClientIs, Ending, Next, Relay};
use crate::cancel::ServerKey;
use crate::metrics::{FailoverCause, LossCause};
use crate::route::Lease;
use crate::server::take::{Connected, TakeError, Taken, take};

/// Where a session stands with its server.
pub(super) enum Server {
    /// On one.
    Attached { stream: TcpStream, lease: Lease, name: Arc<str> },
    /// On none, and in need of none until the client speaks.
    Detached,
    /// On its way to one.
    Taking(Taking),
}

/// The search for a server, with the time it began.
pub(super) struct Taking {
    search: Pin<Box<dyn Future<Output = Result<Taken, TakeError>>>>,
    since: Instant,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Server::Attached { name, .. } => f.debug_tuple("Attached").field(name).finish(),
            Server::Detached => f.write_str("Detached"),
            Server::Taking(taking) => f.debug_tuple("Taking").field(&taking.since).finish(),
        }
    }
}

impl Server {
    pub(super) fn attached(server: Connected) -> Self {
        let Connected { stream, lease, name, .. } = server;
        Server::Attached { stream, lease, name }
    }
}

impl Relay {
    /// Without a server: nothing to do until the client wants one.
    pub(super) fn wait_for_client(&mut self, cx: &mut Context<'_>) -> Next {
        if !self.to_server.has_ahead() {
            let mut byte = [0_u8; 1];
            // Only looked at: what the client says is read when there is somebody to tell.
            match self.client.poll_peek(cx, &mut ReadBuf::new(&mut byte)) {
                Poll::Pending => return Next::Wait,
                Poll::Ready(Ok(0) | Err(_)) => return Next::End(Ending::Silent),
                // Terminate: not worth a server.
                Poll::Ready(Ok(_)) if byte[0] == b'X' => return Next::End(Ending::Silent),
                Poll::Ready(Ok(_)) => {}
            }
        }
        let Some(relogin) = self.about.relogin.clone() else { return Next::End(Ending::Silent) };
        let (worker, want) = (Rc::clone(&self.worker), self.about.want);
        let search =
            Box::pin(async move { take(&worker, want, &relogin.startup, &relogin.credentials).await });
        self.server = Server::Taking(Taking { search, since: Instant::now() });
        Next::Again
    }

    pub(super) fn poll_taking(&mut self, cx: &mut Context<'_>) -> Next {
        let Server::Taking(taking) = &mut self.server else { return Next::Again };
        let Poll::Ready(outcome) = taking.search.as_mut().poll(cx) else { return Next::Wait };
        let since = taking.since;
        match outcome {
            Ok(taken) => {
                self.attach(taken, since);
                Next::Again
            }
            Err(error) => {
                self.server = Server::Detached;
                match error {
                    TakeError::NoServer(refusal) => Next::End(self.refuse(&refusal)),
                    TakeError::Refused(message) => Next::End(self.say(&message)),
                }
            }
        }
    }

    fn attach(&mut self, taken: Taken, since: Instant) {
        let Taken { server, greeting } = taken;
        let now = Instant::now();
        let announce = differences(&self.about.parameters, &greeting.messages);
        self.session.server_taken(Arc::clone(&server.name), announce, now);
        self.session.note_wait(now.saturating_duration_since(since));
        let address = server.address;
        let key = greeting.key.map(|(process_id, key)| ServerKey { address, process_id, key });
        self.about.cancel.set_server(key);
        self.about.parameters = greeting.messages.freeze();
        self.to_client.restart(&greeting.ahead);
        self.worker.metrics.node(server.lease.node()).sessions_active.up();
        self.watch.attached();
        tracing::info!(
            session.id = self.about.info.id.0, node = %server.name,
            took_us = u64::try_from((now - since).as_micros()).unwrap_or(u64::MAX),
            "session continues on another server"
        );
        self.server = Server::attached(server);
    }

    /// Lets go of the server, if there is one.
    pub(super) fn detach(&mut self) {
        if let Server::Attached { lease, .. } = std::mem::replace(&mut self.server, Server::Detached) {
            self.worker.metrics.node(lease.node()).sessions_active.down();
        }
        self.about.cancel.set_server(None);
        self.to_server.drop_pending();
    }

    /// Leaves a server that is well but no longer eligible, with a goodbye.
    pub(super) fn leave(&mut self, cx: &mut Context<'_>) {
        if let Server::Attached { stream, .. } = &mut self.server {
            let mut goodbye = BytesMut::new();
            write::terminate(&mut goodbye);
            // If the socket does not take five bytes, its end will have to do.
            let _ = Pin::new(stream).poll_write(cx, &goodbye);
        }
        self.detach();
    }

    /// Decides what the loss of the server means; `None` when the session goes on.
    pub(super) fn server_lost(&mut self, loss: ServerLoss) -> Option<Ending> {
        let Server::Attached { lease, name, .. } = &self.server else { return None };
        let (node, name) = (lease.node(), Arc::clone(name));
        let is_expected = matches!(self.client_is, ClientIs::Done { .. });
        if !is_expected {
            self.worker.shared.health.suspect(node, PassiveFailure::ServerLost);
            if let Some(request) = self.request_to_repeat() {
                self.repeat_first_request(request, loss, &name);
                return None;
            }
        }
        let can_retake = self.about.relogin.is_some() && !is_expected;
        let retake = if can_retake { Retake::Possible } else { Retake::Impossible };
        let tail = self.to_client.take_tail();
        let now = Instant::now();
        let plan =
            self.record(|session, recorder| session.handle_server_lost(loss, &tail, retake, now, recorder));
        let info = &self.about.info;
        match plan {
            LossPlan::Retake => {
                tracing::info!(
                    session.id = info.id.0, node = %name, ?loss,
                    "server was lost before the session's first query, another will be taken"
                );
                self.count_failover();
                self.detach();
                self.watch.attached();
                None
            }
            LossPlan::Report(report) => {
                tracing::warn!(
                    session.id = info.id.0, client.addr = %info.client, node = %name, ?loss,
                    "session ends because its server was lost"
                );
                self.count_loss(loss_cause(loss));
                Some(self.say(&report))
            }
            LossPlan::Cut => {
                tracing::warn!(
                    session.id = info.id.0, client.addr = %info.client, node = %name, ?loss,
                    "session is cut because its server was lost inside a message"
                );
                self.count_loss(loss_cause(loss));
                Some(Ending::Cut(self.to_client.take_pending()))
            }
            LossPlan::Close => Some(Ending::Silent),
        }
    }

    /// The session's first request, if nothing of its answer has been seen and a standby was to answer it.
    fn request_to_repeat(&mut self) -> Option<Vec<u8>> {
        if self.session.is_pristine() || self.about.relogin.is_none() {
            return None;
        }
        let Server::Attached { lease, .. } = &self.server else { return None };
        let snapshot = self.worker.shared.health.load();
        // What it is configured as or was yesterday does not count: a standby cannot have written.
        let was_standby = snapshot.node(lease.node()).is_some_and(|node| node.role == Role::Standby);
        if was_standby && was_in_recovery(&self.about.parameters) { self.journal.take() } else { None }
    }

    /// Starts over as if the client had not said anything yet, and then lets it say it again.
    fn repeat_first_request(&mut self, request: Vec<u8>, loss: ServerLoss, name: &str) {
        tracing::info!(
            session.id = self.about.info.id.0,
            node = name,
            ?loss,
            "server was lost before it answered the session's first request, sending it to another"
        );
        self.count_failover();
        self.detach();
        self.to_client.restart(&[]);
        self.to_server.present_again(request);
        self.session = Session::new(self.about.settings.clone(), Instant::now());
        self.journal = super::Journal::open();
        self.watch.attached();
    }

    fn count_failover(&self) {
        if let Server::Attached { lease, .. } = &self.server {
            self.worker.metrics.node(lease.node()).failovers.one(FailoverCause::LostBeforeQuery);
        }
    }

    pub(super) fn count_loss(&self, cause: LossCause) {
        if let Server::Attached { lease, .. } = &self.server {
            self.worker.metrics.node(lease.node()).sessions_lost.one(cause);
        }
    }
}

fn loss_cause(loss: ServerLoss) -> LossCause {
    match loss {
        ServerLoss::Eof => LossCause::Closed,
        ServerLoss::Reset => LossCause::Reset,
        ServerLoss::TimedOut => LossCause::TimedOut,
        ServerLoss::GivenUp => LossCause::GivenUp,
    }
}

/// Whether the server said at the login that it was a standby. Servers before 14 do not say.
fn was_in_recovery(parameters: &Bytes) -> bool {
    statuses(parameters).find(|(name, _)| *name == b"in_hot_standby").is_none_or(|(_, value)| value == b"on")
}

/// ParameterStatus messages for what `now` has otherwise than `told`.
fn differences(told: &[u8], now: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    for (name, value) in statuses(now) {
        let is_told = statuses(told).any(|(n, v)| n == name && v == value);
        if !is_told && let Err(error) = write::parameter_status(&mut out, name, value) {
            tracing::warn!(%error, "could not pass on a changed parameter");
        }
    }
    out.freeze()
}

/// Names and values of the ParameterStatus messages in a greeting.
fn statuses(messages: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut scanner = Scanner::backend();
    let mut at = 0;
    std::iter::from_fn(move || scanner.next(messages, &mut at).ok().flatten()).filter_map(|piece| match piece
    {
        Piece::Message { tag: b'S', body } => ParameterStatus::parse(body).ok().map(|s| (s.name, s.value)),
        Piece::Message { .. } | Piece::Start { .. } | Piece::More { .. } => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(statuses: &[(&str, &str)]) -> BytesMut {
        let mut out = BytesMut::new();
        for (name, value) in statuses {
            write::parameter_status(&mut out, name.as_bytes(), value.as_bytes()).expect("short");
        }
        out
    }

    #[test]
    fn only_what_differs_is_told_again() {
        let told = messages(&[("in_hot_standby", "on"), ("TimeZone", "UTC")]);
        let now = messages(&[("TimeZone", "UTC"), ("in_hot_standby", "off")]);
        assert_eq!(differences(&told, &now), messages(&[("in_hot_standby", "off")]).freeze());
        assert!(differences(&told, &told).is_empty());
    }

    #[test]
    fn a_server_that_said_it_was_no_standby_is_none() {
        assert!(was_in_recovery(&messages(&[("in_hot_standby", "on")]).freeze()));
        assert!(!was_in_recovery(&messages(&[("in_hot_standby", "off")]).freeze()));
        assert!(was_in_recovery(&messages(&[("TimeZone", "UTC")]).freeze()));
    }
}
