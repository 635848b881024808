//! What the client must receive after a request has failed with its server, and another server is taken.

use std::collections::VecDeque;

use trunkline_model::{Server, wire};

use super::{Journey, Rebase, total};
use crate::relay::simulation::client_view::{Fault, Message, RefusedRequest, is_loss, ready_status, said};

impl Journey {
    /// The request in flight has failed with its server. The client gets the error now, or with its next request.
    pub(super) fn failed(&mut self, news: Vec<Message>) {
        self.tally.failed += 1;
        let rest = self.world.told.compare(news);
        let is_untold = self.world.relay().is_some_and(|relay| relay.session.has_deferred_error());
        let told = &self.world.told;
        if let [first, ..] = &rest[..]
            && first.fault() == Some(Fault::Error)
            && told.last != Some(b'E')
            && rest.len() > 2
        {
            // The server itself reported a fault before it died.
            self.fault = Some(Fault::Error);
            return;
        }
        let status = match &rest[..] {
            [] if is_untold => None,
            [] => {
                assert_eq!(told.last, Some(b'Z'), "somebody was told");
                Some(Vec::new())
            }
            [Message::Ready { status, .. }] => {
                // COMMIT and ROLLBACK are done once they say so.
                assert!(matches!(told.last, Some(b'E' | b'C')), "told what became of the request: {rest:?}");
                Some(status.clone())
            }
            [Message::Other { tag: b'E', body }, Message::Ready { status, .. }] => {
                assert!(is_loss(body), "{rest:?}");
                assert_ne!(told.last, Some(b'E'), "one error is enough");
                self.assert_owed();
                self.assert_status(status);
                Some(status.clone())
            }
            other => panic!("{other:?}"),
        };
        self.rebase = Some(Rebase::Failed(status));
        self.world.told.restart(VecDeque::new());
    }

    /// An error must answer a request.
    fn assert_owed(&self) {
        let (whole, _) = wire::all(&self.sent);
        let length: usize = whole.iter().map(|(_, body)| 5 + body.len()).sum();
        let answer = said(&mut self.reference.clone(), &self.sent[..length]);
        assert!(answer.len() > self.world.told.count, "nothing was in progress");
    }

    /// A failed request has failed its transaction, and a COMMIT or ROLLBACK has ended it. Checks single
    /// statements only.
    fn assert_status(&self, status: &[u8]) {
        let mut reference = self.reference.clone();
        let (messages, _) = wire::all(&self.sent);
        let mut ended = 0;
        for (tag, body) in messages {
            if ended == self.world.told.requests {
                let is_end = [&b"commit\0"[..], b"rollback\0"].contains(&body);
                let is_single = tag == b'Q' && !body.contains(&b';') && !body.starts_with(b"begin");
                let has_ended = is_end && self.world.told.last == Some(b'C');
                assert!(!has_ended, "a transaction has ended once its end is told");
                if let (true, Some(was_open)) = (is_single, reference.is_in_transaction()) {
                    let body = String::from_utf8_lossy(body);
                    assert_eq!(status, ready_status(was_open && !is_end), "the transaction after {body:?}");
                }
                return;
            }
            reference.input.extend(wire::message(tag, body));
            reference.step();
            let (said, _) = wire::all(&reference.output);
            ended += said.iter().filter(|(tag, _)| *tag == b'Z').count();
            reference.output.clear();
        }
    }

    /// Another server was taken.
    pub(super) fn note_server(&mut self, remaining: Option<(Vec<u8>, Vec<u8>)>) {
        let on = self.world.connection();
        let before = std::mem::replace(&mut self.on, on);
        let Some(taken) = on.filter(|_| on != before) else { return };
        self.world.servers.take(taken);
        let is_told = self.world.told.expected.is_empty();
        match self.rebase.take() {
            Some(Rebase::Refusing) if !is_told => self.rebase = Some(Rebase::Refusing),
            Some(rebase) => {
                let (said_by_client, unsaid) =
                    remaining.expect("it was looked at before the server was taken");
                self.rebase(rebase, taken, said_by_client, &unsaid);
            }
            None => self.check_settings(taken),
        }
    }

    /// The newest of `servers` was taken, and lost with a request within the same poll.
    pub(super) fn note_loss_at_once(&mut self, said_by_client: &[u8], unsaid: &[u8], servers: usize) {
        self.world.servers.take(servers - 1);
        match self.rebase.take() {
            Some(Rebase::Refusing) if !self.world.told.expected.is_empty() => {}
            Some(rebase) => self.rebase(rebase, servers - 1, said_by_client.to_vec(), unsaid),
            None => {}
        }
    }

    /// From now on the client must receive what server number `taken` sends.
    fn rebase(&mut self, rebase: Rebase, taken: usize, said_by_client: Vec<u8>, unsaid: &[u8]) {
        let server = self.as_the_client_has_it(taken);
        let has_failed = server.has_failed_transaction();
        let mut all = [&said_by_client[..], unsaid].concat();
        let mut expected = VecDeque::new();
        let mut is_commit = false;
        match rebase {
            Rebase::Failed(Some(status)) => {
                self.tally.failed_in_transaction += usize::from(has_failed);
                assert!(
                    status.is_empty() || status == ready_status(has_failed),
                    "the transaction as it was told"
                );
                let left = self.world.servers.left(taken);
                assert!(
                    left.is_none_or(|left| left.may_have_left(&server.settings)),
                    "what a failed request set never happened"
                );
            }
            Rebase::Failed(None) => {
                self.tally.failed_in_transaction += 1;
                assert!(has_failed, "only a transaction was lost");
                let before = self.world.servers.left(taken).map(|left| left.settings_before().clone());
                assert_eq!(
                    before.as_ref(),
                    Some(&server.settings),
                    "what the transaction set never happened"
                );
                let refused = RefusedRequest::of(&all);
                all.drain(..refused.bytes);
                self.tally.refused += usize::from(!refused.answer.is_empty());
                (expected, is_commit) = (refused.answer, refused.is_commit);
            }
            Rebase::Refusing => assert!(!has_failed, "its transaction has ended"),
        }
        if is_commit {
            self.rebase = Some(Rebase::Refusing);
        } else {
            expected.extend(said(&mut server.clone(), &all));
        }
        self.world.told.restart(expected);
        self.sent = said_by_client;
        self.reference = server;
    }

    /// The session's server with all prepared statements of the client, which are prepared there when they are
    /// used.
    fn as_the_client_has_it(&self, taken: usize) -> Server {
        let mut server = self.world.servers.as_aligned(taken);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if let Some(relay) = self.world.relay() {
            let statements = relay.session.prepared_statements();
            server.statements = statements.map(|(name, sql)| (text(name), text(sql))).collect();
        }
        server
    }

    /// A session that was idle has the same settings on its new server as on the old one.
    fn check_settings(&mut self, taken: usize) {
        let repeats = total(&self.world, |server| &server.repeats);
        let has_repeated = std::mem::replace(&mut self.repeats, repeats) != repeats;
        let Some(left) = self.world.servers.left(taken) else { return };
        let is_idle = left.has_nothing_in_progress() && !has_repeated;
        let before = is_idle.then(|| left.settings.clone());
        let now = Some(self.world.servers.as_aligned(taken).settings);
        if let (Some(before), false) = (before, self.is_untracked) {
            assert_eq!(Some(before), now, "settings were not moved");
        }
    }
}
