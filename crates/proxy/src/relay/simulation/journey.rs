//! Runs a session whose servers die, cancel and are left, and compares it with one server that never fails.
//!
//! The client sends in turns: it waits for all answers first. It must receive what one server would have sent, or
//! that and one error. After an error that leaves the connection open, it must receive what the next server sends,
//! whose transaction has failed if one was open.

mod faults;
mod losses;

use trunkline_model::{Rng, Server};
use trunkline_topology::ServerId;

use super::client_view::{Expected, Fault, Message, said};
use super::world::{SERVERS, SessionLife, World, story};
use crate::relay::attach::Attachment;
use crate::relay::{Ending, Relay};
use trunkline_telemetry::metrics::{CounterSet, Label, ServerMetrics};

/// How a schedule ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScheduleEnd {
    /// All turns are complete.
    Complete,
    /// With a FATAL error.
    Fatal,
    /// Inside a message.
    Cut,
    /// With an error that the reference server did not send; what follows is not compared.
    Error,
    /// In a state that the session does not track.
    Untracked,
    /// The client closed its sending side after a request without a Sync.
    Left,
}

/// What is expected of the next server.
enum Rebase {
    /// A request has failed. The client got this status at its end, or has not got it yet.
    Failed(Option<Vec<u8>>),
    /// The refused request would have committed: the next server has no transaction.
    Refusing,
}

pub(super) struct Journey {
    pub(super) world: World,
    faults: usize,
    rebase: Option<Rebase>,
    /// A server without faults, in the state since the last fault, and what the client has sent since.
    reference: Server,
    sent: Vec<u8>,
    fault: Option<Fault>,
    is_untracked: bool,
    /// The number of the connection that the session is on.
    on: Option<usize>,
    repeats: u64,
    /// How often nothing could happen in this turn without time or news.
    stirs: usize,
    pub(super) tally: Tally,
}

/// Counts of what has happened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) deaths: usize,
    pub(super) deaths_in_login: usize,
    /// Logins that were refused.
    pub(super) refusals: usize,
    pub(super) moves: u64,
    pub(super) repeats: u64,
    pub(super) failed: usize,
    pub(super) failed_in_transaction: usize,
    pub(super) refused: usize,
    pub(super) half_closed: usize,
}

/// How often time passes in one turn.
const LOOKS: usize = 3;

/// How often verdicts may have to change in one turn before a session finds a server.
const STIRS_MAX: usize = 1000;

/// Bytes that move at once.
fn chunk(rng: &mut Rng) -> usize {
    match rng.below(4) {
        0 => 1 + rng.below(8),
        1 => 1 + rng.below(100),
        _large => 1 + rng.below(100_000),
    }
}

/// The sum of a counter over all servers.
fn total<L: Label, const N: usize>(world: &World, of: impl Fn(&ServerMetrics) -> &CounterSet<L, N>) -> u64 {
    let metrics = &world.stage.worker.metrics;
    let servers = (0..SERVERS).map(|id| metrics.server(ServerId(id)));
    servers.map(|server| L::ALL.iter().map(|label| of(server).of(*label).value()).sum::<u64>()).sum()
}

fn requests_failed(world: &World) -> u64 {
    total(world, |server| &server.requests_failed)
}

impl Journey {
    pub(super) fn new(rng: &mut Rng) -> Self {
        let mut world = World::new(rng);
        let reference = world.servers.ideal();
        world.told.restart(said(&mut reference.clone(), &world.turns.concat()));
        Journey {
            world,
            faults: rng.below(8),
            rebase: None,
            reference,
            sent: Vec::new(),
            fault: None,
            is_untracked: false,
            on: None,
            repeats: 0,
            stirs: 0,
            tally: Tally::default(),
        }
    }

    /// Runs the schedule to its end, with occasional faults.
    pub(super) fn run(&mut self, rng: &mut Rng) -> ScheduleEnd {
        for _ in 0..1_000_000 {
            if self.faults > 0 && rng.one_in(60) {
                self.faults -= 1;
                self.inject(rng);
            }
            if !self.act(rng) && !self.act_all() && !self.is_stirred(rng) && !self.next_turn() {
                self.leave(rng);
            }
            if let Some(end) = self.end() {
                self.count();
                return end;
            }
        }
        panic!("somebody waits for ever")
    }

    /// One participant makes a step, if it can.
    fn act(&mut self, rng: &mut Rng) -> bool {
        let most = chunk(rng);
        match rng.below(4) {
            0 => self.client_sends(most),
            1 => self.world.client_reads(most),
            2 => self.world.servers.act(rng, most),
            _ => self.poll(),
        }
    }

    /// Every participant makes the steps it can.
    fn act_all(&mut self) -> bool {
        let has_sent = self.client_sends(usize::MAX);
        let has_polled = self.poll();
        let has_served = self.world.servers.act_all();
        let has_read = self.world.client_reads(usize::MAX);
        has_sent || has_polled || has_served || has_read || self.world.may_half_close()
    }

    /// No participant can make a step: lets time pass or changes verdicts. Returns whether that helped.
    fn is_stirred(&mut self, rng: &mut Rng) -> bool {
        let is_searching = match self.world.relay() {
            Some(relay) => relay.is_searching(),
            None => matches!(self.world.life, SessionLife::LoggingIn(_)),
        };
        if self.faults > 0 && rng.one_in(3) {
            self.faults -= 1;
            self.inject(rng);
        }
        self.stirs += 1;
        if is_searching {
            assert!(self.stirs < STIRS_MAX, "it waits for a server for ever");
            self.all_fit();
        } else if self.stirs <= LOOKS {
            self.world.pass_time();
        }
        self.poll()
    }

    fn client_sends(&mut self, most: usize) -> bool {
        let most = most.min(self.world.unsent.len());
        let before = self.world.unsent[..most].to_vec();
        let sent = self.world.client_sends(most);
        if self.world.relay().is_some() {
            self.sent.extend(&before[..sent]);
        }
        sent > 0
    }

    fn poll(&mut self) -> bool {
        let has_accepted = self.world.servers.accept(&self.world.stage.network);
        if !self.world.is_woken() {
            return has_accepted;
        }
        let failed = requests_failed(&self.world);
        let is_logging_in = matches!(self.world.life, SessionLife::LoggingIn(_));
        let remaining = self.rebase.is_some().then(|| self.world.remaining());
        let servers = self.world.servers.count();
        self.world.poll();
        self.world.servers.accept(&self.world.stage.network);
        if is_logging_in {
            self.logged_in();
            return true;
        }
        self.world.capture();
        let news = self.world.told.news();
        if requests_failed(&self.world) > failed {
            if let Some((said_by_client, unsaid)) = &remaining {
                // A server may have been taken and lost at once.
                self.note_loss_at_once(said_by_client, unsaid, servers);
            }
            self.failed(news);
        } else {
            self.compare(news);
        }
        self.note_server(remaining);
        true
    }

    /// The login is not compared: the session begins after it.
    fn logged_in(&mut self) {
        if self.world.relay().is_none() {
            return;
        }
        self.world.capture();
        while self.world.client_reads(usize::MAX) {}
        self.world.capture();
        let _greeting = self.world.told.news();
        assert!(!self.world.told.is_cut() && self.world.unsent.is_empty());
        self.world.servers.take(self.world.servers.count() - 1);
        self.world.unsent = self.world.turns[0].clone();
        self.on = self.world.connection();
    }

    fn compare(&mut self, news: Vec<Message>) {
        let rest = self.world.told.compare(news);
        let Some(first) = rest.first() else { return };
        assert_ne!(self.fault, Some(Fault::Fatal), "said behind a FATAL error: {first:?}");
        if self.fault.is_some() || self.is_untracked() {
            return;
        }
        self.fault = first.fault();
        let expected = self.world.told.expected.front();
        assert!(self.fault.is_some(), "told {first:?}, expected {expected:?}");
        assert!(self.fault == Some(Fault::Error) || rest.len() == 1, "said behind a FATAL error: {rest:?}");
    }

    fn is_untracked(&mut self) -> bool {
        let pinned = self.world.relay().and_then(|relay| relay.session.pinned());
        self.is_untracked |= pinned.is_some_and(|reason| reason.to_string().contains("Sync"));
        self.is_untracked
    }

    /// The turn is complete: begins the next one.
    fn next_turn(&mut self) -> bool {
        let Some(relay) = self.world.relay() else { return false };
        let is_paused = relay.session.is_paused();
        assert!(self.world.unsent.is_empty() || is_paused || self.is_untracked, "the client cannot send");
        assert!(relay.to_client.input.held().is_empty() || is_paused, "held from a client that waits");
        self.world.turn += 1;
        self.stirs = 0;
        match self.world.turns.get(self.world.turn) {
            Some(turn) => self.world.unsent = turn.clone(),
            None => return false,
        }
        true
    }

    /// All turns are complete: the client leaves in one way or another.
    fn leave(&mut self, rng: &mut Rng) {
        if let (Some(client), true) = (&self.world.client, rng.one_in(2)) {
            client.shut_down();
        }
        self.world.client = None;
    }

    /// Whether the schedule is over, and how.
    fn end(&mut self) -> Option<ScheduleEnd> {
        if self.is_untracked() {
            return Some(ScheduleEnd::Untracked);
        }
        if self.fault == Some(Fault::Error) {
            return Some(ScheduleEnd::Error);
        }
        if !matches!(self.world.life, SessionLife::Over) || self.world.client.is_some() {
            return None;
        }
        let news = self.world.told.news();
        self.compare(news);
        let told = &self.world.told;
        let is_all_told = told.expected.is_empty() && self.rebase.is_none();
        let has_said_all = self.world.turn >= self.world.turns.len();
        match &self.world.ending {
            Some(Ending::Cut(_)) => return Some(ScheduleEnd::Cut),
            _ => assert!(!told.is_cut(), "it ends inside a message"),
        }
        let has_lost_nobody = self.tally.deaths == 0 && !self.world.is_half_closed && !has_said_all;
        assert!(!has_lost_nobody || self.fault != Some(Fault::Fatal), "a planned move has ended the session");
        if self.fault.is_some() {
            return Some(if self.fault == Some(Fault::Fatal) {
                ScheduleEnd::Fatal
            } else {
                ScheduleEnd::Error
            });
        }
        if self.world.is_half_closed {
            self.tally.half_closed += 1;
            return Some(if is_all_told { ScheduleEnd::Complete } else { ScheduleEnd::Left });
        }
        if has_said_all || is_all_told {
            assert!(is_all_told || self.rebase.is_some(), "expected {:?}", told.expected.front());
            return Some(ScheduleEnd::Complete);
        }
        panic!("it ends without a word: {:?}", self.world.ending)
    }

    fn count(&mut self) {
        self.tally.moves = total(&self.world, |server| &server.moves);
        self.tally.repeats = total(&self.world, |server| &server.repeats);
        self.tally.refusals = self.world.servers.refused;
    }
}

impl Relay {
    /// Whether it waits for something else than its peers.
    fn is_searching(&self) -> bool {
        matches!(self.server, Attachment::Queued(_) | Attachment::Taking(_)) || self.watch.is_leaving()
    }
}

impl Journey {
    /// Prints the schedule.
    pub(super) fn tell(&self, end: ScheduleEnd) {
        println!("{end:?} after {:?}", self.tally);
        let turns = &self.world.turns;
        for turn in &turns[..=self.world.turn.min(turns.len() - 1)] {
            println!("client: {}", story(turn));
        }
        println!("told: {}", story(&self.world.told.bytes));
        let expected: Vec<&Expected> = self.world.told.expected.iter().take(5).collect();
        println!("expected next: {expected:?}");
    }
}

impl Drop for Journey {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell(ScheduleEnd::Error);
        }
    }
}
