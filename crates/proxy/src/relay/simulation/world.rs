//! The participants of a schedule: a client, the relay and its servers.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use trunkline_model::{Rng, script, wire};
use trunkline_net::Transport;
use trunkline_net::memory::{self, MemoryStream};
use trunkline_topology::ServerId;

use super::client_view::ClientView;
use super::servers::Servers;
use crate::login::{self, NewSession};
use crate::relay::{Ending, Relay, close};
use crate::settings::{OnTerminate, Settings};
use crate::testing::{CLIENT, TestWorker, settings, standbys};

/// Servers that a session may have.
pub(super) const SERVERS: u32 = 3;

/// Bytes that a connection buffers.
const CAPACITIES: [usize; 5] = [13, 100, 1000, 10_000, 100_000];

type LoginFuture = Pin<Box<dyn Future<Output = (Transport, Option<Box<NewSession>>)>>>;

/// The stage of the session's life.
pub(super) enum SessionLife {
    LoggingIn(LoginFuture),
    Relaying(Box<Relay>),
    Closing(Pin<Box<dyn Future<Output = ()>>>),
    Over,
}

/// Whether the session is to be polled.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

pub(super) struct World {
    pub(super) stage: TestWorker,
    pub(super) life: SessionLife,
    woken: Arc<Woken>,
    pub(super) servers: Servers,
    /// `None` once the client has closed.
    pub(super) client: Option<MemoryStream>,
    /// What the client sends, request by request.
    pub(super) turns: Vec<Vec<u8>>,
    pub(super) turn: usize,
    /// What is not sent yet in this turn.
    pub(super) unsent: Vec<u8>,
    /// Bytes that the client has received.
    pub(super) received: usize,
    pub(super) told: ClientView,
    /// How the session ended.
    pub(super) ending: Option<Ending>,
    pub(super) half_closes: bool,
    pub(super) is_half_closed: bool,
}

fn some_settings(rng: &mut Rng) -> Settings {
    let mut settings = settings();
    settings.session.on_terminate = rng.pick(&[OnTerminate::Move, OnTerminate::End]);
    settings.retry.journal_max = rng.pick(&[1024 * 1024, 1024 * 1024, 1024 * 1024, 40]);
    if rng.one_in(2) {
        settings.statement_log.threshold = Some(Duration::from_secs(3600));
    }
    settings
}

/// What a client sends: requests of any kind, and transactions statement by statement.
fn turns(rng: &mut Rng) -> Vec<Vec<u8>> {
    let mut turns = Vec::new();
    for _ in 0..1 + rng.below(10) {
        if rng.one_in(6) {
            turns.extend(script::transaction(rng));
        } else {
            let mut turn = Vec::new();
            (0..1 + rng.below(4) / 3).for_each(|_| script::unit(rng, &mut turn));
            turns.push(turn);
        }
    }
    turns
}

impl World {
    pub(super) fn new(rng: &mut Rng) -> Self {
        let joins_pipeline = rng.one_in(2);
        let stage = TestWorker::new(&some_settings(rng), standbys(SERVERS), rng.pick(&CAPACITIES));
        let turns = turns(rng);
        let (client, own) = memory::pair(rng.pick(&CAPACITIES));
        let worker = Rc::clone(&stage.worker);
        let listener = Arc::clone(&worker.shared.listeners.load()[0]);
        let life = SessionLife::LoggingIn(Box::pin(async move {
            let mut own = Transport::Memory(own);
            let new_session = login::establish(&worker, &mut own, CLIENT, &listener).await;
            (own, new_session)
        }));
        World {
            stage,
            life,
            woken: Arc::new(Woken(AtomicBool::new(true))),
            servers: Servers::new(joins_pipeline),
            client: Some(client),
            turns,
            turn: 0,
            unsent: startup(),
            received: 0,
            told: ClientView::default(),
            ending: None,
            half_closes: rng.one_in(6),
            is_half_closed: false,
        }
    }

    pub(super) fn relay(&self) -> Option<&Relay> {
        match &self.life {
            SessionLife::Relaying(relay) => Some(relay),
            SessionLife::LoggingIn(_) | SessionLife::Closing(_) | SessionLife::Over => None,
        }
    }

    /// The session's server.
    pub(super) fn attached(&self) -> Option<ServerId> {
        self.relay()?.server.connection().map(|server| server.lease.server())
    }

    /// The number of the connection that it is on.
    pub(super) fn connection(&self) -> Option<usize> {
        self.servers.of_session(self.attached()?)
    }

    pub(super) fn is_woken(&self) -> bool {
        self.woken.0.load(Relaxed)
    }

    /// Polls the session.
    pub(super) fn poll(&mut self) {
        self.woken.0.store(false, Relaxed);
        let waker = Waker::from(Arc::clone(&self.woken));
        let cx = &mut Context::from_waker(&waker);
        match &mut self.life {
            SessionLife::LoggingIn(login) => {
                let Poll::Ready((client, new_session)) = login.as_mut().poll(cx) else { return };
                let new_session = new_session.expect("some server lets it in");
                self.life = SessionLife::Relaying(Box::new(Relay::new(
                    Rc::clone(&self.stage.worker),
                    client,
                    new_session,
                )));
                self.woken.0.store(true, Relaxed);
            }
            SessionLife::Relaying(relay) => {
                let Poll::Ready(ending) = Pin::new(&mut **relay).poll(cx) else { return };
                let said = match &ending {
                    Ending::Silent => Ending::Silent,
                    Ending::Say(bytes) => Ending::Say(bytes.clone()),
                    Ending::Cut(bytes) => Ending::Cut(bytes.clone()),
                };
                self.ending = Some(said);
                if let SessionLife::Relaying(relay) = std::mem::replace(&mut self.life, SessionLife::Over) {
                    self.life = SessionLife::Closing(Box::pin(close(relay.into_client(), ending)));
                }
                self.woken.0.store(true, Relaxed);
            }
            SessionLife::Closing(closing) => {
                if closing.as_mut().poll(cx).is_ready() {
                    self.life = SessionLife::Over;
                }
            }
            SessionLife::Over => {}
        }
    }

    /// What the client has sent and the session has not processed, and what it has not sent yet.
    pub(super) fn remaining(&self) -> (Vec<u8>, Vec<u8>) {
        let mut said = Vec::new();
        if let Some(relay) = self.relay() {
            said.extend(relay.to_server.input.unprocessed());
            if let Transport::Memory(end) = &relay.client {
                said.extend(end.peek_unread());
            }
        }
        let mut unsaid = self.unsent.clone();
        self.turns.iter().skip(self.turn + 1).for_each(|turn| unsaid.extend(turn));
        (said, unsaid)
    }

    /// Records what the session has sent to its client, even if it has not arrived yet.
    pub(super) fn capture(&mut self) {
        let unsent = self.relay().map_or(&[][..], |relay| relay.to_client.unsent());
        let known = self.told.bytes.len() - self.received;
        let arrived = self.client.as_ref().map_or(0, MemoryStream::unread);
        // Most polls send nothing.
        if arrived + unsent.len() <= known {
            return;
        }
        let mut on_its_way = self.client.as_ref().map(MemoryStream::peek_unread).unwrap_or_default();
        on_its_way.extend(unsent);
        self.told.bytes.extend(&on_its_way[known..]);
    }

    /// The client sends up to `most` bytes. Returns how many.
    pub(super) fn client_sends(&mut self, most: usize) -> usize {
        let Some(client) = &self.client else { return 0 };
        if self.unsent.is_empty() || self.is_half_closed {
            return 0;
        }
        let count = most.min(self.unsent.len());
        let sent = client.try_write(&self.unsent[..count]).unwrap_or(0);
        self.unsent.drain(..sent);
        sent
    }

    /// The client may close its sending side once it has sent everything, though it waits for answers.
    pub(super) fn may_half_close(&mut self) -> bool {
        let is_last = self.relay().is_some() && self.turn + 1 == self.turns.len();
        let may = self.half_closes && is_last && self.unsent.is_empty() && !self.is_half_closed;
        if may && let Some(client) = &self.client {
            client.shut_down();
            self.is_half_closed = true;
        }
        may
    }

    /// The client reads up to `most` bytes. Returns whether there were any, or the end.
    pub(super) fn client_reads(&mut self, most: usize) -> bool {
        let Some(client) = &self.client else { return false };
        match client.try_read(most) {
            Ok(bytes) if bytes.is_empty() => {
                self.client = None;
                true
            }
            Ok(bytes) => {
                self.capture_read(&bytes);
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => false,
            Err(_reset) => {
                self.client = None;
                true
            }
        }
    }

    fn capture_read(&mut self, bytes: &[u8]) {
        self.received += bytes.len();
        let known = self.told.bytes.len();
        if self.received > known {
            let new = self.received - known;
            self.told.bytes.extend(&bytes[bytes.len() - new..]);
        }
    }

    /// Lets time pass: the session's timers fire.
    pub(super) fn pass_time(&mut self) {
        self.stage.worker.slots.wake_due(Instant::now() + Duration::from_secs(3600));
    }
}

fn startup() -> Vec<u8> {
    let body = b"\0\x03\0\0user\0app\0database\0app\0\0";
    let length = u32::try_from(body.len() + 4).expect("it is short");
    [&length.to_be_bytes()[..], body].concat()
}

/// The messages of `bytes` in short, to print a failed schedule.
pub(super) fn story(bytes: &[u8]) -> String {
    let tell = |(tag, body): &(u8, &[u8])| {
        let text = String::from_utf8_lossy(&body[..body.len().min(30)]).escape_debug().to_string();
        format!("{}({text})", char::from(*tag))
    };
    wire::all(bytes).0.iter().map(tell).collect::<Vec<_>>().join(" ")
}
