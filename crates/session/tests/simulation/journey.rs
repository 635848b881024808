//! A session that moves between standbys which die, cancel and are left, against a run without faults.
//!
//! The client speaks in turns: it waits until all that is owed has come. What it receives must be what
//! one server would have said, or that and one error. Behind an error that leaves the connection it
//! must be what the next server says, whose transaction has failed if one was open.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use trunkline_session::{
    Can, ClientThen, LossPlan, Mobility, Options, Refused, ReportTiming, ServerLoss, ServerRole, ServerThen,
    Session, SessionSettings, ToldAtLogin, Tracking, TransactionStatus,
};

use crate::rng::Rng;
use crate::server::Server;
use crate::world::Records;
use crate::{script, wire};

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

/// The request that a client is refused because its transaction was lost while it was silent.
struct Debt {
    /// Bytes of the client that go to no server.
    dropped: usize,
    /// Tags of what it is told.
    answer: VecDeque<u8>,
    is_told: bool,
    /// The request would have committed: no transaction is open once it is refused.
    is_commit: bool,
}

impl Debt {
    /// For a client that will send this.
    fn of(remaining: &[u8]) -> Self {
        let (mut dropped, mut answer, mut is_commit) = (0, VecDeque::new(), false);
        for (tag, body) in wire::all(remaining).0 {
            let is_begun = !answer.is_empty();
            match tag {
                b'Q' if !is_begun && body == b"rollback\0" => break,
                b'd' | b'c' | b'f' => {}
                b'H' if body.is_empty() => {}
                _told if !is_begun => {
                    answer.push_back(b'E');
                    is_commit = [&b"commit\0"[..], b"\0commit\0\0\0"].contains(&body);
                }
                _skipped => {}
            }
            dropped += 5 + body.len();
            if (matches!(tag, b'Q' | b'F') && !is_begun) || tag == b'S' {
                answer.push_back(b'Z');
                break;
            }
        }
        Self { dropped, answer, is_told: false, is_commit }
    }
}

/// What a server says to `input`.
fn said(server: &mut Server, input: &[u8]) -> Vec<u8> {
    server.input.extend(input);
    (0..wire::all(input).0.len()).for_each(|_| server.step());
    std::mem::take(&mut server.output)
}

fn ready_status(has_failed: bool) -> &'static [u8] {
    if has_failed { b"E" } else { b"I" }
}

/// Whether an error tells of a lost server, to a client that goes on.
fn is_told(error: &[u8]) -> bool {
    let has_code = ["C08006\0", "C57P01\0", "C57P02\0"]
        .iter()
        .any(|code| error.windows(code.len()).any(|w| w == code.as_bytes()));
    has_code && error.starts_with(b"SERROR\0")
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
            parameters: Arc::new(ToldAtLogin::new(&greeting())),
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
            self.now += Duration::from_micros(rng.next() % 1000);
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

    fn fault(&mut self, rng: &mut Rng) -> Option<End> {
        if self.server.is_closed {
            return None;
        }
        match rng.below(4) {
            0 => {
                self.server.has_conflict = true;
                None
            }
            1 => {
                self.move_idle(rng);
                None
            }
            _death => self.death(rng),
        }
    }

    /// The server dies with or without a word, and some of what it had said arrives.
    fn death(&mut self, rng: &mut Rng) -> Option<End> {
        self.tally.deaths += 1;
        let words = match rng.below(4) {
            0 => Vec::new(),
            1 => wire::report(b'E', "FATAL", "57P01"),
            2 => wire::report(b'N', "WARNING", "57P01"),
            _crash => wire::report(b'N', "WARNING", "57P02"),
        };
        self.server.die(&words);
        let cut = if rng.one_in(2) { rng.below(self.server.output.len() + 1) } else { usize::MAX };
        self.server.output.truncate(cut);
        while !self.server.output.is_empty() {
            let most = 1 + rng.below(300);
            if let Some(end) = self.server_arrives(rng, most) {
                return Some(end);
            }
            // A conflict may have been answered by leaving for another server.
            if !self.server.is_closed {
                return None;
            }
        }
        self.lost(rng)
    }

    fn lost(&mut self, rng: &mut Rng) -> Option<End> {
        let can_repeat = if self.journal.is_some() { Can::Yes } else { Can::No };
        let options = Options { can_move: Can::Yes, can_repeat };
        let tail = std::mem::take(&mut self.server_tail);
        let loss = ServerLoss::Eof;
        match self.session.handle_server_lost(loss, &tail, options, self.now, &mut self.records) {
            LossPlan::Move => {
                self.tally.moved_lost += 1;
                self.take_another(rng);
                None
            }
            LossPlan::Repeat => {
                self.repeat(rng);
                None
            }
            // The server itself has told of the fault before it died.
            LossPlan::Fail { .. } if self.has_failed() => Some(End::Canceled),
            LossPlan::Fail { answer, .. } => {
                self.failed(rng, &answer);
                None
            }
            LossPlan::Report(bytes) => {
                assert_eq!(wire::all(&self.received).1, 0, "an error inside a message");
                self.received.extend(bytes);
                Some(End::Report)
            }
            LossPlan::Cut => Some(End::Cut),
            LossPlan::Told(_) | LossPlan::Close => Some(End::Canceled),
        }
    }

    fn repeat(&mut self, rng: &mut Rng) {
        self.tally.repeated += 1;
        self.session.rewind(self.now);
        self.take_another(rng);
        let mut again = self.journal.take().expect("it could be repeated");
        again.append(&mut self.client_tail);
        self.client_tail = again;
    }

    /// The client is told that its request failed, or will be, and goes on.
    fn failed(&mut self, rng: &mut Rng, answer: &[u8]) {
        self.check_prefix();
        let told = self.told();
        let last = told.iter().map(|(tag, _)| *tag).rfind(|tag| !b"NSA".contains(tag));
        let (mut answer, rest) = wire::all(answer);
        assert_eq!(rest, 0);
        // Parameters that were due.
        answer.retain(|(tag, _)| *tag != b'S');
        let before = self.server.settings_before().clone();
        self.tally.failed += 1;
        self.take_another(rng);
        let has_failed = self.server.has_failed_transaction();
        self.tally.failed_in_transaction += usize::from(has_failed);
        let mut remaining = [&self.client_tail[..], &self.unread].concat();
        self.turns[self.turn + 1..].iter().for_each(|turn| remaining.extend(turn));
        match &answer[..] {
            [(b'Z', status)] => {
                // COMMIT and ROLLBACK are done once they say so.
                assert!(matches!(last, Some(b'E' | b'C')), "it had been told what became of the request");
                assert_eq!(*status, ready_status(has_failed));
            }
            [(b'E', error), (b'Z', status)] => {
                assert_ne!(last, Some(b'E'), "one error is enough");
                assert!(is_told(error) && *status == ready_status(has_failed));
            }
            [] => {
                assert!(has_failed, "only a transaction was lost");
                assert_eq!(before, self.server.settings, "what the transaction set never happened");
                let debt = Debt::of(&remaining);
                remaining.drain(..debt.dropped);
                self.debt = Some(debt);
            }
            other => panic!("{other:?}"),
        }
        self.received.clear();
        self.reference = said(&mut self.as_the_client_has_it(), &remaining);
    }

    /// The server with all the statements that the client has, as they are made there when they are used.
    fn as_the_client_has_it(&self) -> Server {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut server = self.server.clone();
        server.statements =
            self.session.prepared_statements().map(|(name, sql)| (text(name), text(sql))).collect();
        server
    }

    /// A request is answered by the relay.
    fn refused(&mut self, rng: &mut Rng, refused: &Refused) {
        let Some(debt) = self.debt.as_mut() else {
            // A conflict met the proxy's own question, in the client's transaction.
            return self.received.extend(&refused.answer);
        };
        assert!(self.received.is_empty(), "in order");
        let (answer, rest) = wire::all(&refused.answer);
        assert_eq!(rest, 0);
        debt.dropped = debt.dropped.checked_sub(refused.dropped).expect("no more than the request");
        for (tag, body) in answer {
            debt.is_told = true;
            assert_eq!(Some(tag), debt.answer.pop_front());
            assert!(if tag == b'E' { is_told(body) } else { body == ready_status(!debt.is_commit) });
        }
        let is_end = debt.dropped == 0;
        assert_eq!(refused.is_end, is_end && debt.is_commit);
        if is_end {
            assert!(debt.answer.is_empty());
            self.tally.refused += 1;
        }
        if refused.is_end {
            self.take_another(rng);
            let mut remaining = [&self.client_tail[..], &self.unread].concat();
            self.turns[self.turn + 1..].iter().for_each(|turn| remaining.extend(turn));
            self.reference = said(&mut self.as_the_client_has_it(), &remaining);
        }
    }

    fn move_idle(&mut self, rng: &mut Rng) {
        let is_quiet = self.server.input.is_empty() && self.server.output.is_empty();
        if !is_quiet || !self.session.is_idle() || self.session.movability().is_err() {
            return;
        }
        // What a server that still answers is not asked is not known then.
        if !rng.one_in(4)
            && let Some(questions) = self.session.last_questions()
        {
            return self.server.input.extend(questions);
        }
        self.tally.moved_idle += 1;
        let before = self.server.settings.clone();
        self.take_another(rng);
        assert_eq!(before, self.server.settings, "settings were not moved");
    }

    fn take_another(&mut self, rng: &mut Rng) {
        self.server = Server::new(self.joins_pipeline);
        let alignment = self.session.alignment();
        let mut reader = alignment.reader();
        self.server.input.extend(&alignment.messages);
        (0..wire::all(&alignment.messages).0.len()).for_each(|_| self.server.step());
        let (mut tail, mut is_done) = (Vec::new(), alignment.is_empty());
        while !is_done {
            let count = (1 + rng.below(50)).min(self.server.output.len());
            tail.extend(self.server.output.drain(..count));
            let step = reader.handle(&tail).expect("the state is sound");
            tail.drain(..step.consumed);
            is_done = step.done;
            assert!(is_done || !self.server.output.is_empty(), "an answer is missing");
        }
        assert!(tail.is_empty() && self.server.output.is_empty(), "an answer too many");
        self.server_tail.clear();
        let now = [&greeting()[..], reader.parameters()].concat();
        let announce = self.session.differences(&now);
        // What a transaction had set, and the client was told of, is undone with it.
        let is_undone = self.tally.failed > 0 || self.session.transaction_status() != TransactionStatus::Idle;
        assert!(announce.is_empty() || is_undone, "it is as the client knows it");
        self.announce.clone_from(&announce);
        self.session.server_taken(Arc::from("replica2"), ServerRole::Standby, announce, self.now);
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
