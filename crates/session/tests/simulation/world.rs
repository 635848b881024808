//! A client, a session and a model server, and the relay between them that a schedule drives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use trunkline_session::{
    ClientThen, Completion, LossPlan, Mobility, PinReason, RecoveryOptions, ReportTiming, ServerLoss,
    ServerRole, ServerThen, Session, SessionSettings, Sink, StatementKind, StatementRecord, Tracking,
};

use trunkline_model::{Rng, Server, wire};

/// What the session told of its statements.
#[derive(Default)]
pub(crate) struct Records {
    /// SQL of each Query, Execute and FunctionCall, and whether it succeeded.
    pub(crate) begun: Vec<(Option<String>, bool)>,
    pub(crate) lost: usize,
}

impl Sink for Records {
    fn statement(&mut self, record: &StatementRecord<'_>) {
        assert!(record.timing.server_first <= record.timing.server_total);
        match record.kind {
            StatementKind::Query | StatementKind::Execute | StatementKind::FunctionCall => {}
            StatementKind::Parse | StatementKind::Bind | StatementKind::Describe | StatementKind::Close => {
                assert!(matches!(record.completion, Completion::Failed(_)), "{record:?}");
                return;
            }
        }
        if record.completion == Completion::Lost {
            self.lost += 1;
        }
        let sql = record.sql.map(|sql| String::from_utf8_lossy(sql).into_owned());
        let has_succeeded = match record.completion {
            Completion::Complete(_) | Completion::Empty | Completion::Suspended => true,
            Completion::Failed(_) | Completion::Lost => false,
        };
        self.begun.push((sql, has_succeeded));
    }
}

/// Where a schedule has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    NotYet,
    Report,
    Cut,
    Close,
}

/// Of each statement, the bytes that are kept for the log.
const SQL_BYTES_MAX: usize = 1000;

pub(crate) struct World {
    pub(crate) session: Session,
    pub(crate) server: Server,
    pub(crate) records: Records,
    pub(crate) script: Vec<u8>,
    /// Bytes of the script the relay has read.
    read: usize,
    client_tail: Vec<u8>,
    server_tail: Vec<u8>,
    /// Client bytes that reached this server.
    forwarded: usize,
    /// All bytes of the server that were presented to the session.
    presented: Vec<u8>,
    /// Of these, how many were forwarded.
    pub(crate) relayed: usize,
    /// What the client has, with what the session added.
    pub(crate) received: Vec<u8>,
    pub(crate) injected: usize,
    now: Instant,
    is_terminated: bool,
    has_reports: bool,
}

impl World {
    pub(crate) fn new(rng: &mut Rng, script: Vec<u8>) -> Self {
        let now = Instant::now();
        let has_reports = rng.one_in(4);
        let settings = SessionSettings {
            sql_bytes_max: if rng.one_in(5) { 0 } else { SQL_BYTES_MAX },
            report_timing: if has_reports { ReportTiming::Notice } else { ReportTiming::Off },
            server: Arc::from("replica1"),
            tracking: Tracking::Full,
            mobility: Mobility::Fixed,
            statement_names: trunkline_session::StatementNames::OfClient,
            role: ServerRole::Standby,
            parameters: Arc::default(),
        };
        Self {
            session: Session::new(settings, now),
            server: Server::new(rng.one_in(2)),
            records: Records::default(),
            script,
            read: 0,
            client_tail: Vec::new(),
            server_tail: Vec::new(),
            forwarded: 0,
            presented: Vec::new(),
            relayed: 0,
            received: Vec::new(),
            injected: 0,
            now,
            is_terminated: false,
            has_reports,
        }
    }

    pub(crate) fn tick(&mut self, rng: &mut Rng) {
        self.now += Duration::from_micros(rng.number() % 1000);
    }

    pub(crate) fn has_more_script(&self) -> bool {
        self.read < self.script.len() && !self.is_terminated
    }

    /// The client sends some bytes, or the relay presents again what it keeps.
    pub(crate) fn client_sends(&mut self, most: usize) {
        if self.is_terminated {
            return;
        }
        if !self.session.is_paused() {
            let end = self.script.len().min(self.read.saturating_add(most));
            self.client_tail.extend(&self.script[self.read..end]);
            self.read = end;
        }
        let step = self.session.handle_client(&self.client_tail, self.now, &mut self.records);
        let forwarded: Vec<u8> = self.client_tail.drain(..step.forward).collect();
        let from = self.forwarded;
        assert_eq!(forwarded, self.script[from..from + step.forward], "client bytes changed");
        self.forwarded += step.forward;
        self.server.input.extend(forwarded);
        match step.then {
            ClientThen::ReadOn => {}
            ClientThen::Pause => assert!(self.session.is_paused()),
            ClientThen::Terminate => self.is_terminated = true,
            ClientThen::Ask(own) => panic!("it is fixed: {own:?}"),
            ClientThen::Refuse(refused) => panic!("it is owed nothing: {refused:?}"),
            ClientThen::Unknown(error) => panic!("script is sound: {error:?}"),
            ClientThen::Violation(violation) => panic!("script is sound: {violation:?}"),
        }
    }

    /// Some bytes of the server arrive.
    pub(crate) fn server_arrives(&mut self, most: usize) {
        let count = most.min(self.server.output.len());
        let chunk: Vec<u8> = self.server.output.drain(..count).collect();
        self.presented.extend(&chunk);
        self.server_tail.extend(chunk);
        loop {
            let step = self.session.handle_server(&self.server_tail, self.now, &mut self.records);
            let forwarded: Vec<u8> = self.server_tail.drain(..step.forward).collect();
            assert_eq!(step.dropped, 0, "the proxy asks nothing of its own");
            self.relayed += forwarded.len();
            self.received.extend(forwarded);
            if let Some(bytes) = &step.inject {
                assert!(self.has_reports, "nothing to tell");
                let (messages, rest) = wire::all(bytes);
                assert!(rest == 0 && messages.iter().all(|(tag, _)| *tag == b'N'));
                assert_eq!(self.server_tail.first(), Some(&b'Z'));
                assert_eq!(wire::all(&self.received).1, 0, "told inside a message");
                self.received.extend(bytes);
                self.injected += bytes.len();
            }
            match step.then {
                ServerThen::ReadOn => {}
                ServerThen::Farewell | ServerThen::Terminated => assert!(self.session.is_paused()),
                ServerThen::Conflict(_) | ServerThen::Refused(_) => panic!("it is fixed"),
                ServerThen::Violation(violation) => panic!("the model is sound: {violation:?}"),
            }
            if step.inject.is_none() {
                return;
            }
        }
    }

    /// The server connection ends.
    pub(crate) fn server_ends(&mut self, rng: &mut Rng) -> End {
        let can_move = rng.pick(&[true, false]);
        let options = RecoveryOptions { can_move, can_repeat: false };
        let loss = rng.pick(&[ServerLoss::Eof, ServerLoss::Reset, ServerLoss::TimedOut, ServerLoss::GivenUp]);
        let plan =
            self.session.handle_server_lost(loss, &self.server_tail, options, self.now, &mut self.records);
        let (before, cut) = wire::all(&self.received);
        let has_fatal = before.iter().any(|(tag, body)| wire::is_fatal(*tag, body));
        match plan {
            LossPlan::Move | LossPlan::Repeat | LossPlan::Fail { .. } => panic!("it is fixed"),
            LossPlan::Report(bytes) => {
                assert_eq!(cut, 0, "an error inside a message");
                assert!(!has_fatal, "an error after a FATAL");
                let (messages, rest) = wire::all(&bytes);
                assert_eq!(rest, 0);
                let fatal = messages.iter().filter(|(tag, body)| wire::is_fatal(*tag, body)).count();
                assert_eq!(fatal, 1);
                assert!(messages.last().is_some_and(|(tag, body)| wire::is_fatal(*tag, body)));
                self.received.extend(bytes);
                End::Report
            }
            LossPlan::Cut => {
                assert_ne!(cut, 0, "cut at a boundary");
                End::Cut
            }
            LossPlan::AlreadyReported(_) | LossPlan::Close => {
                assert!(has_fatal || self.is_terminated, "silent end");
                End::Close
            }
        }
    }

    /// Whether the session is idle in truth.
    fn is_idle_in_truth(&self) -> bool {
        self.server.is_idle()
            && self.client_tail.is_empty()
            && self.server_tail.is_empty()
            && self.relayed >= self.server.answered
            && !self.is_terminated
    }

    /// What must hold at any time.
    pub(crate) fn check(&self) {
        assert_eq!(self.received.len(), self.relayed + self.injected, "bytes lost or added");
        if self.injected == 0 {
            assert_eq!(self.received, self.presented[..self.relayed], "server bytes changed");
        }
        match self.session.pinned() {
            Some(PinReason::UnexpectedMessage(tag)) => panic!("unexplained: {}", char::from(tag)),
            Some(PinReason::SyncInFailedCopy) => {
                assert!(!self.session.is_idle());
                return;
            }
            Some(PinReason::Transaction | PinReason::Copy) => assert!(!self.session.is_idle()),
            None => {}
            Some(other) => panic!("{other}"),
        }
        if !self.server.is_closed {
            assert_eq!(self.session.is_idle(), self.is_idle_in_truth(), "idle or not");
        }
    }

    pub(crate) fn is_untracked(&self) -> bool {
        self.session.pinned() == Some(PinReason::SyncInFailedCopy)
    }

    /// After a schedule without a death: everything is delivered and told.
    pub(crate) fn check_complete(&self) {
        assert_eq!(self.relayed, self.server.put_out, "bytes not delivered");
        if self.is_untracked() || self.server.is_closed {
            return;
        }
        let mut told = self.records.begun.iter();
        for begun in &self.server.begun {
            let Some((sql, has_succeeded)) = told.next() else {
                assert!(!self.session.is_idle(), "a statement is missing: {begun:?}");
                return;
            };
            if let (true, Some(sql)) = (*has_succeeded, sql) {
                let begun = begun.as_deref().map(|begun| &begun[..begun.len().min(SQL_BYTES_MAX)]);
                assert_eq!(Some(sql.as_str()), begun);
            }
        }
        assert_eq!(told.next(), None, "a statement too many");
    }
}

/// Tells the story of a schedule that fails.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("client: {}", story(&self.script[..self.forwarded]));
            eprintln!("server: {}", story(&self.presented));
        }
    }
}

pub(crate) fn story(bytes: &[u8]) -> String {
    let tell = |(tag, body): &(u8, &[u8])| {
        let text = String::from_utf8_lossy(&body[..body.len().min(20)]).escape_debug().to_string();
        format!("{}({text})", char::from(*tag))
    };
    wire::all(bytes).0.iter().map(tell).collect::<Vec<_>>().join(" ")
}
