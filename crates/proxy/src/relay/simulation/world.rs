//! A client, the relay and its servers, and who of them moves next.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use trunkline_model::{Rng, script, wire};
use trunkline_net::Transport;
use trunkline_net::memory::{self, End};
use trunkline_topology::ServerId;

use super::servers::Servers;
use super::told::Told;
use crate::login::{self, Welcome};
use crate::relay::attach::Server;
use crate::relay::{Ending, Relay, close};
use crate::settings::{OnTerminate, Settings};
use crate::testing::{CLIENT, Stage, settings, standbys};

/// Servers that a session may have.
pub(super) const SERVERS: u16 = 3;

/// Bytes that a connection takes before they are read.
const CAPACITIES: [usize; 5] = [13, 100, 1000, 10_000, 100_000];

type Login = Pin<Box<dyn Future<Output = (Transport, Option<Box<Welcome>>)>>>;

/// Where the session is in its life.
pub(super) enum Life {
    LoggingIn(Login),
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
    pub(super) stage: Stage,
    pub(super) life: Life,
    woken: Arc<Woken>,
    pub(super) servers: Servers,
    /// `None` once the client has gone.
    pub(super) client: Option<End>,
    /// What the client sends, request by request.
    pub(super) turns: Vec<Vec<u8>>,
    pub(super) turn: usize,
    /// What of this turn is not sent.
    pub(super) unsent: Vec<u8>,
    /// Bytes that the client has.
    pub(super) received: usize,
    pub(super) told: Told,
    /// The session has ended inside a message, or without a word.
    pub(super) ending: Option<Ending>,
    pub(super) half_closes: bool,
    pub(super) is_half_closed: bool,
}

fn some_settings(rng: &mut Rng) -> Settings {
    let mut settings = settings();
    settings.on_terminate = rng.pick(&[OnTerminate::Move, OnTerminate::End]);
    settings.retry.journal_max = rng.pick(&[1024 * 1024, 1024 * 1024, 1024 * 1024, 40]);
    if rng.one_in(2) {
        settings.statement_log.threshold = Some(Duration::from_secs(3600));
    }
    settings
}

/// What a client says: requests of any kind, and transactions statement by statement.
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
        let stage = Stage::new(&some_settings(rng), standbys(SERVERS), rng.pick(&CAPACITIES));
        let turns = turns(rng);
        let (client, own) = memory::pair(rng.pick(&CAPACITIES));
        let worker = Rc::clone(&stage.worker);
        let life = Life::LoggingIn(Box::pin(async move {
            let mut own = Transport::Memory(own);
            let welcome = login::welcome(&worker, &mut own, CLIENT, 0).await;
            (own, welcome)
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
            told: Told::default(),
            ending: None,
            half_closes: rng.one_in(6),
            is_half_closed: false,
        }
    }

    pub(super) fn relay(&self) -> Option<&Relay> {
        match &self.life {
            Life::Relaying(relay) => Some(relay),
            Life::LoggingIn(_) | Life::Closing(_) | Life::Over => None,
        }
    }

    /// The server that the session is on.
    pub(super) fn attached(&self) -> Option<ServerId> {
        match &self.relay()?.server {
            Server::Attached { lease, .. } => Some(lease.server()),
            Server::Detached | Server::Taking(_) => None,
        }
    }

    pub(super) fn is_woken(&self) -> bool {
        self.woken.0.load(Relaxed)
    }

    /// Has the session do what it can, if it was woken.
    pub(super) fn poll(&mut self) {
        self.woken.0.store(false, Relaxed);
        let waker = Waker::from(Arc::clone(&self.woken));
        let cx = &mut Context::from_waker(&waker);
        match &mut self.life {
            Life::LoggingIn(login) => {
                let Poll::Ready((client, welcome)) = login.as_mut().poll(cx) else { return };
                let welcome = welcome.expect("some server lets it in");
                self.life =
                    Life::Relaying(Box::new(Relay::new(Rc::clone(&self.stage.worker), client, *welcome)));
                self.woken.0.store(true, Relaxed);
            }
            Life::Relaying(relay) => {
                let Poll::Ready(ending) = Pin::new(&mut **relay).poll(cx) else { return };
                let said = match &ending {
                    Ending::Silent => Ending::Silent,
                    Ending::Say(bytes) => Ending::Say(bytes.clone()),
                    Ending::Cut(bytes) => Ending::Cut(bytes.clone()),
                };
                self.ending = Some(said);
                if let Life::Relaying(relay) = std::mem::replace(&mut self.life, Life::Over) {
                    self.life = Life::Closing(Box::pin(close(relay.into_client(), ending)));
                }
                self.woken.0.store(true, Relaxed);
            }
            Life::Closing(closing) => {
                if closing.as_mut().poll(cx).is_ready() {
                    self.life = Life::Over;
                }
            }
            Life::Over => {}
        }
    }

    /// What the client has said and the session has not taken in, and what it has yet to say.
    pub(super) fn remaining(&self) -> (Vec<u8>, Vec<u8>) {
        let mut said = Vec::new();
        if let Some(relay) = self.relay() {
            said.extend(relay.to_server.unjudged());
            if let Transport::Memory(end) = &relay.client {
                said.extend(end.peek_unread());
            }
        }
        let mut unsaid = self.unsent.clone();
        self.turns.iter().skip(self.turn + 1).for_each(|turn| unsaid.extend(turn));
        (said, unsaid)
    }

    /// Notes what the session has said to its client, wherever it is on its way.
    pub(super) fn capture(&mut self) {
        let unsent = self.relay().map_or(&[][..], |relay| relay.to_client.unsent());
        let known = self.told.bytes.len() - self.received;
        let arrived = self.client.as_ref().map_or(0, End::unread);
        // Most polls say nothing new.
        if arrived + unsent.len() <= known {
            return;
        }
        let mut on_its_way = self.client.as_ref().map(End::peek_unread).unwrap_or_default();
        on_its_way.extend(unsent);
        self.told.bytes.extend(&on_its_way[known..]);
    }

    /// The client sends some bytes; how many.
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

    /// It has nothing more to say, and says so, though it waits for answers.
    pub(super) fn may_half_close(&mut self) -> bool {
        let is_last = self.relay().is_some() && self.turn + 1 == self.turns.len();
        let may = self.half_closes && is_last && self.unsent.is_empty() && !self.is_half_closed;
        if may && let Some(client) = &self.client {
            client.shut_down();
            self.is_half_closed = true;
        }
        may
    }

    /// The client reads some bytes; whether there were any.
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

    /// Time passes: the session looks at what it has put off.
    pub(super) fn pass_time(&mut self) {
        self.stage.worker.slots.wake_due(Instant::now() + Duration::from_secs(3600));
    }
}

fn startup() -> Vec<u8> {
    let body = b"\0\x03\0\0user\0app\0database\0app\0\0";
    let length = u32::try_from(body.len() + 4).expect("it is short");
    [&length.to_be_bytes()[..], body].concat()
}

/// The messages of `bytes` in short, for a schedule that fails.
pub(super) fn story(bytes: &[u8]) -> String {
    let tell = |(tag, body): &(u8, &[u8])| {
        let text = String::from_utf8_lossy(&body[..body.len().min(30)]).escape_debug().to_string();
        format!("{}({text})", char::from(*tag))
    };
    wire::all(bytes).0.iter().map(tell).collect::<Vec<_>>().join(" ")
}
