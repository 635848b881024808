//! A session that moves between standbys which die, cancel and are left, against a run without faults.
//!
//! The client speaks in turns: it waits until all that is owed has come. What it receives must be what
//! one server would have said, or that and one error. Behind an error that leaves the connection it
//! must be what the next server says, whose transaction has failed if one was open.

mod faults;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use trunkline_session::{
    ClientThen, LoginParameters, Mobility, ReportTiming, ServerRole, ServerThen, Session, SessionSettings,
    Tracking,
};

use self::faults::{Debt, said};
use crate::world::Records;
use trunkline_model::{Rng, Server, script, wire};

/// How a schedule ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Complete,
    Report,
    Cut,
    Canceled,
    Untracked,
}

/// What happened in it.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) deaths: usize,
    pub(crate) moved_idle: usize,
    pub(crate) moved_lost: usize,
    pub(crate) repeated: usize,
    pub(crate) conflicts: usize,
    pub(crate) failed: usize,
    pub(crate) failed_in_transaction: usize,
    pub(crate) refused: usize,
}

pub(crate) struct Journey {
    session: Session,
    server: Server,
    records: Records,
    turns: Vec<Vec<u8>>,
    /// What a server without faults says to all of them, since the last error.
    reference: Vec<u8>,
    turn: usize,
    /// What the client is to be told by the relay, behind an error it could not be told at once.
    debt: Option<Debt>,
    /// What of this turn the relay has not read.
    unread: Vec<u8>,
    journal: Option<Vec<u8>>,
    client_tail: Vec<u8>,
    server_tail: Vec<u8>,
    received: Vec<u8>,
    /// Parameters of the server that the client has yet to be told.
    announce: Bytes,
    pub(crate) tally: Tally,
    now: Instant,
    joins_pipeline: bool,
}

fn greeting() -> Vec<u8> {
    [wire::message(b'S', b"TimeZone\0\0"), wire::message(b'S', b"in_hot_standby\0on\0")].concat()
}

/// Whether an error is of the script's own making.
fn is_of_script(error: &[u8]) -> bool {
    let codes = [b"C22012", b"C22P04", b"C23503", b"C08P01", b"C34000", b"C26000"];
    codes.iter().any(|code| error.windows(6).any(|w| w == *code))
}

impl Journey {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let joins_pipeline = rng.one_in(2);
        let mut ideal = Server::new(joins_pipeline);
        let mut turns = Vec::new();
        for _ in 0..1 + rng.below(10) {
            let mut turn = Vec::new();
            for _ in 0..1 + rng.below(4) / 3 {
                script::unit(rng, &mut turn);
            }
            turns.push(turn);
        }
        let reference = said(&mut ideal, &turns.concat());
        let now = Instant::now();
        let settings = SessionSettings {
            sql_bytes_max: if rng.one_in(2) { 0 } else { 1000 },
            report_timing: ReportTiming::Off,
            server: Arc::from("replica1"),
            tracking: Tracking::Full,
            mobility: Mobility::Movable,
            role: ServerRole::Standby,
            parameters: Arc::new(LoginParameters::new(&greeting())),
        };
        Self {
            session: Session::new(settings, now),
            server: Server::new(joins_pipeline),
            records: Records::default(),
            unread: turns[0].clone(),
            turns,
            reference,
            turn: 0,
            debt: None,
            journal: None,
            client_tail: Vec::new(),
            server_tail: Vec::new(),
            received: Vec::new(),
            announce: Bytes::new(),
            tally: Tally::default(),
            now,
            joins_pipeline,
        }
    }

    /// Runs to the end, with faults now and then.
    pub(crate) fn run(&mut self, rng: &mut Rng) -> End {
        let mut faults = rng.below(4);
        for _ in 0..100_000 {
            self.now += Duration::from_micros(rng.number() % 1000);
            let is_fault = faults > 0 && rng.one_in(12);
            faults -= usize::from(is_fault);
            let end = if is_fault { self.fault(rng) } else { self.step(rng) };
            if end.is_some() || self.has_failed() {
                return self.check(end.unwrap_or(End::Canceled));
            }
            if self.server.is_closed && self.server.output.is_empty() {
                // The client broke the protocol, and was told so.
                let plan = self.lost(rng);
                let is_end = if plan == Some(End::Canceled) { End::Complete } else { End::Report };
                return self.check(is_end);
            }
            if self.is_turn_over() && !self.next_turn() {
                return self.check(End::Complete);
            }
        }
        panic!("somebody waits for ever")
    }

    fn step(&mut self, rng: &mut Rng) -> Option<End> {
        match rng.below(3) {
            0 => {
                let most = 1 + rng.below(200);
                self.client_sends(rng, most);
                None
            }
            1 => {
                self.server.step();
                None
            }
            _arrival => {
                let most = 1 + rng.below(300);
                let end = self.server_arrives(rng, most);
                if let Some(questions) = self.session.questions() {
                    self.server.input.extend(questions);
                }
                end
            }
        }
    }

    fn client_sends(&mut self, rng: &mut Rng, most: usize) {
        if !self.session.is_paused() {
            let count = most.min(self.unread.len());
            self.client_tail.extend(self.unread.drain(..count));
        }
        if self.session.is_before_request() {
            self.journal = Some(Vec::new());
        }
        let step = self.session.handle_client(&self.client_tail, self.now, &mut self.records);
        let forwarded: Vec<u8> = self.client_tail.drain(..step.forward).collect();
        match (self.session.repeatable(), &mut self.journal) {
            (Ok(()), Some(journal)) => journal.extend(&forwarded),
            _never => self.journal = None,
        }
        self.server.input.extend(forwarded);
        match &step.then {
            ClientThen::ReadOn | ClientThen::Pause => {}
            ClientThen::Refuse(refused) => {
                self.client_tail.drain(..refused.dropped);
                self.refused(rng, refused);
            }
            ClientThen::Ask(own) => self.server.input.extend(own),
            ClientThen::Terminate | ClientThen::Unknown(_) | ClientThen::Violation(_) => panic!("{step:?}"),
        }
    }

    fn server_arrives(&mut self, rng: &mut Rng, most: usize) -> Option<End> {
        let count = most.min(self.server.output.len());
        self.server_tail.extend(self.server.output.drain(..count));
        loop {
            let step = self.session.handle_server(&self.server_tail, self.now, &mut self.records);
            self.received.extend(self.server_tail.drain(..step.forward));
            self.server_tail.drain(..step.dropped);
            let goes_on = step.inject.is_some() || step.dropped > 0;
            match step.inject {
                // The refusal of what a request needs is its answer.
                Some(refusal) if step.dropped > 0 => self.received.extend(refusal),
                Some(told) => assert_eq!(told, std::mem::take(&mut self.announce), "told once"),
                None => {}
            }
            if self.session.repeatable().is_err() {
                self.journal = None;
            }
            match step.then {
                ServerThen::ReadOn if goes_on => {}
                ServerThen::ReadOn | ServerThen::Farewell | ServerThen::Terminated => return None,
                ServerThen::Conflict(_) if self.journal.is_none() || rng.one_in(4) => {
                    self.session.accept_answer();
                }
                ServerThen::Conflict(_) => {
                    self.tally.conflicts += 1;
                    self.repeat(rng);
                    return None;
                }
                ServerThen::Violation(violation) => panic!("the model is sound: {violation:?}"),
            }
        }
    }

    /// Whether the client was told of a fault.
    fn has_failed(&self) -> bool {
        self.fault_at().is_some()
    }

    /// The message that tells the client of a fault: of a server, or of a statement that died with one because nobody
    /// knew its shape.
    fn fault_at(&self) -> Option<usize> {
        let (told, (expected, _)) = (self.told(), wire::all(&self.reference));
        let has =
            |body: &[u8], codes: &[&[u8; 6]]| body.windows(6).any(|w| codes.iter().any(|code| w == *code));
        told.iter().enumerate().position(|(at, (tag, body))| {
            let is_of_server = has(body, &[b"C40001", b"C57P01", b"C57P02", b"C08006"]);
            let is_of_statement =
                has(body, &[b"C0A000", b"C26000"]) && expected.get(at) != Some(&(*tag, *body));
            *tag == b'E' && (is_of_server || is_of_statement)
        })
    }

    /// Whether nothing more comes of this turn.
    fn is_turn_over(&self) -> bool {
        let is_sent = self.unread.is_empty() && self.client_tail.is_empty();
        let is_over = is_sent && self.server.input.is_empty() && self.server.output.is_empty();
        if is_over && !self.session.is_paused() {
            assert!(self.server_tail.is_empty(), "held from a client that waits");
            return true;
        }
        false
    }

    fn next_turn(&mut self) -> bool {
        self.turn += 1;
        match self.turns.get(self.turn) {
            Some(turn) => self.unread = turn.clone(),
            None => return false,
        }
        true
    }

    /// Compares with the run without faults.
    fn check(&self, end: End) -> End {
        if self.session.pinned().is_some_and(|reason| reason.to_string().contains("Sync")) {
            return End::Untracked;
        }
        let told = self.told();
        let (expected, _) = wire::all(&self.reference);
        assert!(wire::all(&self.received).1 == 0 || end == End::Cut);
        match end {
            End::Complete => {
                assert_eq!(told, expected, "not what one server would have said");
                assert!(self.debt.as_ref().is_none_or(|debt| debt.answer.is_empty()), "an error is owed");
            }
            End::Cut => self.check_prefix(),
            End::Report | End::Canceled | End::Untracked => {
                // Behind the error nothing but what its session says for it comes.
                let errors = told.iter().position(|(tag, body)| *tag == b'E' && !is_of_script(body));
                let at = self.fault_at().or(errors).expect("one error tells of the fault");
                assert!(expected.starts_with(&told[..at]), "not what one server would have said");
            }
        }
        end
    }

    /// What the client was told since the last error, without notices of the server's.
    fn told(&self) -> Vec<(u8, &[u8])> {
        let is_notice = |tag: u8, body: &[u8]| tag == b'N' && !body.windows(7).any(|w| w == b"NOTICE\0");
        wire::all(&self.received).0.into_iter().filter(|(tag, body)| !is_notice(*tag, body)).collect()
    }

    fn check_prefix(&self) {
        let (expected, _) = wire::all(&self.reference);
        assert!(expected.starts_with(&self.told()), "not what one server would have said");
    }
}

/// Tells the story of a schedule that fails.
impl Drop for Journey {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for turn in &self.turns[..=self.turn.min(self.turns.len() - 1)] {
                eprintln!("client:    {}", crate::world::story(turn));
            }
            eprintln!("reference: {}", crate::world::story(&self.reference));
            eprintln!("received:  {}", crate::world::story(&self.received));
            eprintln!("{:?} {:?}", self.session.movability(), self.session.repeatable());
        }
    }
}
