//! A planned move: a session changes servers only once the new one has let it in completely.
//!
//! The session keeps its server while it searches. Nothing of the client is read meanwhile, so what the search restores
//! on the new server is what the session is. Where no server takes it, the session stays, and each server that has
//! refused it is left alone for a while.
//!
//! ```text
//!                          another server has taken the session
//!                       .----------------------------------------> Attached, to that one
//! Attached ---> Moving -|
//!    ^                  |  all have refused it, the server or the client has something else to say
//!    '------------------'
//! ```

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;
use trunkline_telemetry::metrics::{Label, MoveCause, MoveRefusal};
use trunkline_topology::ServerId;

use super::watch::Pause;
use super::{Next, Relay};
use crate::defaults::SessionDefaults;
use crate::limits::{LOOK_INTERVAL, MOVE_RETRY_PAUSE, MOVE_RETRY_PAUSE_MAX, TICK};
use crate::pool::connection::ServerConnection;
use crate::server::connection::ReadyServer;
use crate::server::refused::{RefusedBy, in_words};
use crate::server::take::Move;

/// The search for another server.
pub(super) struct PlannedSearch {
    search: Pin<Box<dyn Future<Output = Result<ReadyServer, Vec<RefusedBy>>>>>,
    cause: MoveCause,
    /// The defaults that the search restores. They are the session's own once it has moved.
    own: Arc<SessionDefaults>,
    /// When the client was first seen to wait for the end of the search.
    awaited_since: Option<Instant>,
    _second_connection: OwnedSemaphorePermit,
}

impl PlannedSearch {
    pub(super) fn cause(&self) -> MoveCause {
        self.cause
    }
}

impl fmt::Debug for PlannedSearch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlannedSearch").field("cause", &self.cause).finish_non_exhaustive()
    }
}

/// Servers that have refused a session since it came to the one that it is on. At most one entry for each server.
#[derive(Debug, Default)]
pub(super) struct Refusals(Vec<ServerRefused>);

#[derive(Debug)]
struct ServerRefused {
    by: RefusedBy,
    times: u32,
    /// Not asked again before.
    until: Instant,
}

impl Refusals {
    /// Of a session that no server has refused.
    pub(super) const NONE: Refusals = Refusals(Vec::new());

    fn note(&mut self, by: RefusedBy, now: Instant) {
        let before = self.0.iter().position(|refusal| refusal.by.server == by.server);
        let times = before.map_or(0, |at| self.0.swap_remove(at).times);
        let pause = MOVE_RETRY_PAUSE * 2_u32.saturating_pow(times.min(16));
        let until = now + pause.min(MOVE_RETRY_PAUSE_MAX);
        self.0.push(ServerRefused { by, times: times + 1, until });
    }

    fn current(&self, now: Instant) -> impl Iterator<Item = &ServerRefused> {
        self.0.iter().filter(move |refusal| refusal.until > now)
    }

    /// The servers that are not asked now.
    pub(super) fn skipped(&self, now: Instant) -> Vec<ServerId> {
        self.current(now).map(|refusal| refusal.by.server).collect()
    }

    /// Those of them that would say the same if they were asked.
    pub(super) fn lasting(&self, now: Instant) -> Vec<ServerId> {
        let lasting = self.current(now).filter(|refusal| refusal.by.is_lasting());
        lasting.map(|refusal| refusal.by.server).collect()
    }

    /// Why the session stays where it is, for as long as that is so.
    pub(super) fn reason(&self, now: Instant) -> Option<MoveRefusal> {
        self.current(now).last().map(|refusal| refusal.by.reason)
    }
}

impl Relay {
    /// Begins to search for another server, if there is room for one more connection.
    pub(super) fn plan_move(&mut self, cause: MoveCause) {
        let Some(ServerConnection { lease, .. }) = self.server.connection() else { return };
        let from = lease.server();
        let now = Instant::now();
        let Some(permit) = self.worker.shared.pace.second_connection() else {
            self.slot.due_by(now + TICK);
            return;
        };
        let Some(next) = self.next_login() else { return };
        let moving = Move::from(&self.worker.shared.health, from, self.answered_at);
        let own = Arc::clone(next.own());
        let search = Box::pin(next.take_planned(moving, self.watch.rare().refusals.skipped(now)));
        let planned = PlannedSearch { search, cause, own, awaited_since: None, _second_connection: permit };
        self.watch.pause(Pause::Moving(planned));
        // Nobody has polled it yet.
        self.slot.wake();
    }

    /// Goes on with the search, unless the server or the client has something to say.
    pub(super) fn poll_planned_search(&mut self, cx: &mut Context<'_>) -> Next {
        let answered_at = self.answered_at;
        if self.has_news_for_client() {
            match self.pump_server(cx) {
                Next::Wait => {}
                done @ (Next::Again | Next::Lost(_) | Next::End(_)) => return done,
            }
        }
        // What it said may change what the search is to restore, or be its end.
        let has_spoken = self.answered_at != answered_at;
        let waits = self.client_waits(cx);
        let Some(Pause::Moving(planned)) = self.watch.paused() else { return Next::Again };
        if has_spoken || waits == ClientWaits::ToLeave {
            return self.break_off();
        }
        if waits == ClientWaits::ForAnswer {
            self.idle_since = None;
            planned.awaited_since.get_or_insert_with(Instant::now);
        }
        match planned.search.as_mut().poll(cx) {
            Poll::Pending => Next::Wait,
            Poll::Ready(Ok(taken)) => self.change_servers(cx, taken),
            Poll::Ready(Err(refused)) => self.stays_with(&refused),
        }
    }

    /// What the client wants that is not read now.
    fn client_waits(&mut self, cx: &mut Context<'_>) -> ClientWaits {
        if self.has_client_left(cx) {
            return ClientWaits::ToLeave;
        }
        if self.to_server.input.has_read_ahead() {
            return ClientWaits::ForAnswer;
        }
        let mut byte = [0_u8; 1];
        match self.client.poll_peek(cx, &mut byte) {
            Poll::Pending => ClientWaits::ForNothing,
            // Terminate, or the end.
            Poll::Ready(Ok(1)) if byte[0] != b'X' => ClientWaits::ForAnswer,
            Poll::Ready(_) => ClientWaits::ToLeave,
        }
    }

    /// Another server has taken the session, which leaves its own.
    fn change_servers(&mut self, cx: &mut Context<'_>, taken: ReadyServer) -> Next {
        let Some(planned) = self.watch.end_search() else { return Next::Again };
        let is_still_free = self.is_idle() && self.can_leave();
        if !is_still_free {
            taken.server.terminate();
            self.note_wait_of(&planned);
            return Next::Again;
        }
        self.leaves_for(planned.cause);
        self.context.own = planned.own;
        if let Some(left) = self.release() {
            left.terminate();
        }
        let awaited_since = planned.awaited_since.unwrap_or_else(Instant::now);
        self.attach(taken, self.waited(awaited_since));
        self.watch.must_look();
        self.look(cx).map_or(Next::Again, Next::End)
    }

    /// No server takes the session, which stays where it is served.
    fn stays_with(&mut self, refused: &[RefusedBy]) -> Next {
        let Some(planned) = self.watch.end_search() else { return Next::Again };
        self.note_wait_of(&planned);
        let now = Instant::now();
        for by in refused {
            self.watch.rare_mut().refusals.note(*by, now);
            self.worker.metrics.server(by.server).moves_refused.one(by.reason);
            self.log_refusal(*by, planned.cause, now);
        }
        // Those that refused are skipped by then.
        let pause = if refused.is_empty() { LOOK_INTERVAL } else { TICK };
        self.watch.rare_mut().next_search = Some(now + pause);
        Next::Again
    }

    /// Ends the search before its time; the session looks again soon whether it has to leave.
    pub(super) fn break_off(&mut self) -> Next {
        if let Some(planned) = self.watch.end_search() {
            self.note_wait_of(&planned);
            self.watch.rare_mut().next_search = Some(Instant::now() + TICK);
        }
        Next::Again
    }

    /// A client that waited for a search which came to nothing has waited for the proxy.
    fn note_wait_of(&mut self, planned: &PlannedSearch) {
        if let Some(since) = planned.awaited_since {
            self.session.note_wait(since.elapsed());
        }
    }

    fn log_refusal(&self, by: RefusedBy, cause: MoveCause, now: Instant) {
        let Some(ServerConnection { name, .. }) = self.server.connection() else { return };
        let snapshot = self.worker.shared.health.load();
        let refusing = snapshot.server(by.server).map(|status| &status.name);
        let (id, reason, cause) = (self.context.info.id.0, in_words(by.reason), cause.word());
        if self.worker.shared.pace.may_log_refusal(by.server, now) {
            tracing::warn!(
                session.id = id, server.name = %name, refused_by = refusing.map(tracing::field::display), reason, cause,
                "session stays on its server because another refuses it; the proxy tries again later"
            );
        } else {
            tracing::debug!(
                session.id = id, server.name = %name, refused_by = refusing.map(tracing::field::display), reason, cause,
                "session stays on its server because another refuses it"
            );
        }
    }
}

/// What a client waits for while its session searches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientWaits {
    ForNothing,
    ForAnswer,
    /// It has said goodbye, or closed.
    ToLeave,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn server_that_refuses_again_is_asked_half_as_often_up_to_a_limit() {
        let (server, mut now) = (ServerId(1), Instant::now());
        let by = RefusedBy { server, reason: MoveRefusal::TooManyConnections };
        let mut refusals = Refusals::default();
        let mut pauses = Vec::new();
        for _ in 0..20 {
            refusals.note(by, now);
            let until = refusals.0[0].until;
            assert_eq!(refusals.skipped(until - Duration::from_nanos(1)), [server]);
            assert_eq!(refusals.skipped(until), [], "its time is over");
            assert_eq!((refusals.0.len(), refusals.lasting(now).len()), (1, 0));
            pauses.push(until - now);
            now = until;
        }
        assert_eq!(pauses[..4], [1, 2, 4, 8].map(|times| MOVE_RETRY_PAUSE * times));
        assert_eq!(pauses[19], MOVE_RETRY_PAUSE_MAX);
        refusals.note(RefusedBy { server, reason: MoveRefusal::Authentication }, now);
        assert_eq!(refusals.lasting(now), [server]);
        assert_eq!(refusals.reason(now), Some(MoveRefusal::Authentication), "the newest");
    }
}
