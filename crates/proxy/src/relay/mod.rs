//! The relay: one future per session, two pumps around the machine of `trunkline-session`.
//!
//! Each pump reads into the worker's shared buffer, asks the session how many bytes to forward, and writes them at
//! once. Bytes that the peer does not take are kept (`buffer`), and the source is not read until the peer has
//! taken them. That is all there is to back-pressure. Nothing here allocates while peers keep up.
//!
//! ```text
//!            client speaks                  server lost, nothing owed
//! Detached ----------------> Taking     .------------------------------.
//!    ^                         | taken  |                              |
//!    |                         v        |   server lost, client owed   v
//!    '------------------- Attached -----+-----------------------> end: error
//!                          |     ^
//!     has to leave a server|     | another server has taken the session, or none will
//!     that still serves    '-----'
//! ```

mod attach;
mod attachment;
mod buffer;
mod busy;
mod defaults;
mod departure;
mod end;
mod inquiry;
mod left;
mod lost;
mod planned;
mod pooled;
mod pump;
mod queued;
mod record;
mod repeat;
#[cfg(test)]
mod simulation;
mod split;
mod staying;
#[cfg(test)]
mod tests;
mod vanished;
mod view;
mod watch;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use trunkline_net::Transport;
use trunkline_pool::CarriedState;
use trunkline_session::{Journal, ServerRole, Session};
use trunkline_topology::ServerId;

use self::attach::{Attachment, MoveReason, count_arrival};
use self::buffer::RelayBuffer;
use self::busy::Business;
pub(crate) use self::end::{Ending, close};
use self::pooled::{Staying, WorkLeft};
pub(crate) use self::split::Explainer;
use self::split::Split;
use self::staying::SequenceStay;
use self::watch::Pause;
use crate::admission::SessionPermit;
use crate::cancel::CancelHandle;
use crate::context::{FillOffer, Live, SlotGuard, Slots, Worker, log_connection};
use crate::defaults::SessionDefaults;
use crate::login::{NewSession, Relogin};
use crate::pool::connection::ServerConnection;
use crate::pool::seat::{ClientSeat, SeatMode};
use crate::server::take::{Move, ServerCriteria};
use crate::settings::Retry;
use crate::snapshots::{ClientGroup, ExportedSnapshot};
use trunkline_telemetry::sessions::SessionInfo;

/// A session between its login and its end.
#[derive(Debug)]
pub(crate) struct Relay {
    worker: Rc<Worker>,
    slot: SlotGuard,
    /// The settings in force; refreshed when they change.
    live: Arc<Live>,
    client: Transport,
    server: Attachment,
    session: Session,
    to_server: RelayBuffer,
    to_client: RelayBuffer,
    /// The request in flight, while it may be sent again.
    journal: Journal,
    /// Whether requests of this session may be sent again at all.
    retry: Retry,
    /// How often the request in flight has been sent again.
    repeats: u32,
    client_state: ClientState,
    /// When the server last sent something.
    answered_at: Instant,
    /// Since when the session has been waiting for the client's next request, for the idle limits.
    idle_since: Option<Instant>,
    watch: watch::Watch,
    context: Box<SessionContext>,
}

/// Whether the client may still send requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientState {
    Speaking,
    /// It closed its sending side or sent Terminate. Answers may still be outstanding.
    Done {
        told_server: bool,
    },
    /// It sent a message of unknown type, which the server is about to refuse. Nothing more is read from the
    /// client.
    Refused,
}

/// What a session needs for listings, cancel requests and moves. Boxed because it is rarely used.
#[derive(Debug)]
struct SessionContext {
    info: SessionInfo,
    cancel: CancelHandle,
    criteria: ServerCriteria,
    relogin: Option<Relogin>,
    /// Its place among the clients of its pools.
    seat: Option<ClientSeat>,
    /// The server on which it last gave a connection back to the pools.
    last: Option<ServerId>,
    /// What the next connection from the pools is to be like.
    carried: CarriedState,
    /// When it came to the server that it is on.
    chosen_at: Instant,
    /// Where it may go on, by the verdicts of which it was told last.
    staying: Staying,
    /// It is woken once the defaults of its login have been read.
    awaits_look: bool,
    /// The client knows that its request waits for a server connection.
    is_told_to_wait: bool,
    /// Whether it keeps its connection for a question about sequences.
    sequences: SequenceStay,
    /// How busy it is.
    business: Business,
    /// The defaults of its first login.
    own: Arc<SessionDefaults>,
    /// The server that the session was on, while it has none.
    left: Option<Box<Move>>,
    /// Why it left that server.
    moving: Option<Box<MoveReason>>,
    /// The sessions that may want its exported snapshots.
    group: ClientGroup,
    /// Where its requests go, if a server is chosen for each of them.
    split: Option<Box<Split>>,
    /// Its exported snapshot, for them to be found.
    exported: Option<Box<ExportedSnapshot>>,
    _permit: SessionPermit,
}

/// What happens after a pump has run.
#[derive(Debug)]
enum Next {
    /// Run the pumps again.
    Again,
    /// Nothing more can be done until a peer moves.
    Wait,
    /// The server was lost, in this way.
    Lost(trunkline_session::ServerLoss),
    /// The session is over.
    End(Ending),
}

/// What the client's session is on its first server.
fn begun(worker: &Worker, live: &Live, new_session: &NewSession, now: Instant) -> Session {
    let ServerConnection { lease, name, state, member, .. } = &*new_session.server;
    let role = attach::role_of(worker, lease.server(), new_session.is_standby);
    let mut session = Session::new(record::session_settings(live, new_session, role), now)
        .with_functions(new_session.functions.clone());
    if new_session.seat.as_ref().is_some_and(|seat| seat.mode() == SeatMode::Own) {
        session = session.with_own_connections();
    }
    session.process_at_login(new_session.info.process_id);
    if !worker.first_statements.borrow_mut().draws(now) {
        session.leave_out_first_sample();
    }
    if member.is_some() {
        session.connection_taken(Arc::clone(name), role, Bytes::new(), state);
    }
    session
}

impl Relay {
    pub(crate) fn new(worker: Rc<Worker>, client: Transport, new_session: Box<NewSession>) -> Self {
        let now = Instant::now();
        let slot = Slots::enter(&worker);
        let live = worker.shared.live();
        let session = begun(&worker, &live, &new_session, now);
        let is_replication = new_session.is_replication;
        let NewSession {
            permit,
            info,
            cancel,
            criteria,
            server,
            server_read_ahead,
            client_read_ahead,
            relogin,
            seat,
            retry,
            hints,
            group,
            ..
        } = *new_session;
        // A replication connection cannot move: its position in the WAL is that of its server.
        let relogin = relogin.filter(|_| !is_replication);
        let id = server.lease.server();
        count_arrival(&worker, id);
        client.change_reader();
        slot.set_place(relogin.as_ref().and_then(|_| criteria.place_on(id)));
        let own = server.own.clone().unwrap_or_else(|| {
            let (defaults, names) = (&worker.shared.defaults, info.names.of_login());
            Arc::new(SessionDefaults::at_login(defaults, id, server.since, names))
        });
        let context = SessionContext {
            info,
            cancel,
            criteria,
            relogin,
            seat,
            last: None,
            carried: CarriedState::default(),
            chosen_at: now,
            staying: Staying::Unknown,
            awaits_look: false,
            is_told_to_wait: false,
            sequences: SequenceStay::default(),
            business: Business::default(),
            own,
            left: None,
            moving: None,
            group,
            split: None,
            exported: None,
            _permit: permit,
        };
        let mut relay = Relay {
            worker,
            slot,
            live,
            client,
            server: Attachment::attached(server),
            session,
            to_server: RelayBuffer::with_read_ahead(&client_read_ahead),
            to_client: RelayBuffer::with_read_ahead(&server_read_ahead),
            journal: Journal::default(),
            retry,
            repeats: 0,
            client_state: ClientState::Speaking,
            answered_at: now,
            idle_since: Some(now),
            watch: watch::Watch::new(),
            context: Box::new(context),
        };
        relay.begin_split(hints);
        relay.heed_login_path();
        relay.offer_login(FillOffer::NewClient);
        relay
    }

    /// The client's socket, to send the last messages on.
    pub(crate) fn into_client(self) -> Transport {
        let Relay { client, .. } = self;
        client
    }

    /// Runs until it would block, or the session ends.
    fn advance(&mut self, cx: &mut Context<'_>) -> Next {
        loop {
            let next = match &self.server {
                Attachment::Attached(_) => match self.watch.paused() {
                    None => self.relay(cx),
                    Some(Pause::Inquiry(_)) => self.poll_inquiry(cx),
                    Some(Pause::Moving(_)) => self.poll_planned_search(cx),
                    Some(Pause::Repeating(_)) => self.poll_repeat_search(cx),
                },
                Attachment::Detached | Attachment::Queued(_) | Attachment::Taking(_) => {
                    self.without_server(cx)
                }
            };
            match next {
                Next::Again => {}
                Next::Wait | Next::End(_) => return next,
                Next::Lost(loss) => {
                    if let Some(ending) = self.server_lost(loss) {
                        return Next::End(ending);
                    }
                }
            }
        }
    }

    fn without_server(&mut self, cx: &mut Context<'_>) -> Next {
        // The client may not have taken all of its last server's answers.
        if let Poll::Ready(Err(_broken)) = self.to_client.poll_flush(cx, &mut self.client) {
            return Next::End(Ending::Silent);
        }
        if matches!(self.server, Attachment::Taking(_)) && self.reconsiders() {
            self.server = Attachment::Detached;
        }
        match &self.server {
            Attachment::Taking(_) => self.poll_taking(cx),
            Attachment::Queued(_) => self.poll_queued(cx),
            Attachment::Attached(_) | Attachment::Detached => self.wait_for_client(cx),
        }
    }

    /// Runs the pumps that have something to do, again while one makes work for the other.
    fn relay(&mut self, cx: &mut Context<'_>) -> Next {
        if let Some(next) = self.chooses_first(cx) {
            return next;
        }
        if self.context.sequences.is_kept()
            && self.client.may_read()
            && let Some(next) = self.lets_others_first(cx)
        {
            return next;
        }
        // Read from a primary first: if it has closed the connection, it must not get another request, which could
        // not be sent again.
        if self.session.server_role() == ServerRole::Primary
            && self.session.is_idle()
            && self.has_news_for_client()
        {
            match self.pump_server(cx) {
                Next::Wait => {}
                done @ (Next::Again | Next::Lost(_) | Next::End(_)) => return done,
            }
        }
        loop {
            if self.has_news_for_server() {
                match self.pump_client(cx) {
                    Next::Wait => {}
                    done @ (Next::Again | Next::Lost(_) | Next::End(_)) => return done,
                }
            }
            if !self.has_news_for_client() {
                return Next::Wait;
            }
            let was_held = self.is_client_held();
            match self.pump_server(cx) {
                Next::Wait => {}
                done @ (Next::Again | Next::Lost(_) | Next::End(_)) => return done,
            }
            if !was_held || self.is_client_held() {
                return Next::Wait;
            }
            // Answers have made room for requests that were held back. Nothing else wakes the client's pump for
            // them.
        }
    }

    /// Whether there is something to read from the client or to write to the server.
    #[inline]
    fn has_news_for_server(&self) -> bool {
        self.client.may_read()
            || self.to_server.has_work()
            || self.client_state == (ClientState::Done { told_server: false })
    }

    /// Whether there is something to read from the server or to write to the client.
    #[inline]
    fn has_news_for_client(&self) -> bool {
        let may_read =
            matches!(self.server.connection(), Some(ServerConnection { stream, .. }) if stream.may_read());
        may_read || self.to_client.has_work()
    }

    /// Completes the records of the session, and gives its resources back.
    fn finish(&mut self) {
        let left = self.state_left();
        let work = if self.session.outstanding() > 0 { WorkLeft::Some } else { WorkLeft::None };
        self.record(|session, recorder| session.finish(Instant::now(), recorder));
        self.journal.close(&mut self.worker.journals.borrow_mut());
        self.give_back(left, work);
        let info = &self.context.info;
        log_connection!(
            self.live.session.logs_disconnections,
            session.id = info.id.0, client.addr = %info.client, db.user = %info.names.user, db.name = %info.names.database,
            listener = %info.names.listener, session.seconds = info.since.elapsed().as_secs_f64(), "disconnection"
        );
    }
}

impl Future for Relay {
    type Output = Ending;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ending> {
        let this = self.get_mut();
        this.worker.clock.moves();
        this.slot.set_waker(cx.waker());
        this.answer_question();
        let ending = match this.heed_orders(cx) {
            Some(ending) => ending,
            None => match this.advance(cx) {
                Next::End(ending) => ending,
                Next::Again | Next::Wait | Next::Lost(_) => match this.at_rest(cx) {
                    Some(ending) => ending,
                    None => return Poll::Pending,
                },
            },
        };
        let ending = this.unless_tls_failed(ending);
        this.finish();
        Poll::Ready(ending)
    }
}

#[cfg(test)]
mod sizes {
    use super::*;

    #[test]
    fn a_session_without_a_server_is_small() {
        let sizes = [size_of::<Relay>(), size_of::<SessionContext>()];
        assert!(sizes[0] <= 744 && sizes[1] <= 288, "{sizes:?} bytes");
    }
}
