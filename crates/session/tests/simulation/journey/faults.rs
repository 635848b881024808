//! What happens to a journey: servers die, cancel and are left, and what the client is told of it.

use std::collections::VecDeque;
use std::sync::Arc;

use trunkline_session::{Can, LossPlan, Options, Refused, ServerLoss, ServerRole, TransactionStatus};

use super::{End, Journey, greeting};
use trunkline_model::{Rng, Server, wire};

/// The request that a client is refused because its transaction was lost while it was silent.
pub(super) struct Debt {
    /// Bytes of the client that go to no server.
    pub(super) dropped: usize,
    /// Tags of what it is told.
    pub(super) answer: VecDeque<u8>,
    pub(super) is_told: bool,
    /// The request would have committed: no transaction is open once it is refused.
    pub(super) is_commit: bool,
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
pub(super) fn said(server: &mut Server, input: &[u8]) -> Vec<u8> {
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

impl Journey {
    pub(super) fn fault(&mut self, rng: &mut Rng) -> Option<End> {
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
    pub(super) fn death(&mut self, rng: &mut Rng) -> Option<End> {
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

    pub(super) fn lost(&mut self, rng: &mut Rng) -> Option<End> {
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
            LossPlan::AlreadyReported(_) | LossPlan::Close => Some(End::Canceled),
        }
    }

    pub(super) fn repeat(&mut self, rng: &mut Rng) {
        self.tally.repeated += 1;
        self.session.rewind(self.now);
        self.take_another(rng);
        let mut again = self.journal.take().expect("it could be repeated");
        again.append(&mut self.client_tail);
        self.client_tail = again;
    }

    /// The client is told that its request failed, or will be, and goes on.
    pub(super) fn failed(&mut self, rng: &mut Rng, answer: &[u8]) {
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
    pub(super) fn as_the_client_has_it(&self) -> Server {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut server = self.server.clone();
        server.statements =
            self.session.prepared_statements().map(|(name, sql)| (text(name), text(sql))).collect();
        server
    }

    /// A request is answered by the relay.
    pub(super) fn refused(&mut self, rng: &mut Rng, refused: &Refused) {
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

    pub(super) fn move_idle(&mut self, rng: &mut Rng) {
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

    pub(super) fn take_another(&mut self, rng: &mut Rng) {
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
        self.session.server_taken(Arc::from("replica2"), ServerRole::Standby, announce);
    }
}
