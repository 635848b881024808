//! The proxy's own requests: when they are sent, and what their answers change.

mod answers;
mod failures;

use std::collections::VecDeque;

use bytes::Bytes;
use trunkline_codec::backend::TransactionStatus;
use trunkline_codec::frontend::{Bind, FrontendTag, Target};
use trunkline_codec::scan::Piece;
use trunkline_codec::write;

use crate::carried::call_proof::question_of_calls;
use crate::carried::followed::Followed;
use crate::carried::prepared::{ColumnsAsked, MessageExtent, Step};
use crate::carried::shape::Shape;
use crate::conversation::outstanding::Entry;
use crate::conversation::own::batch::{Batch, RELEASE, SAVEPOINT};
use crate::conversation::own::{Guard, OwnRequest, OwnRequests, Purpose};
use crate::conversation::state::{ClientEnd, CopyState, Farewell, Flow, Joined, Mode, Pipeline, Tail};
use crate::limits::BIND_HELD_BYTES_MAX;
use crate::names::{Name, describe_of};
use crate::pin::PinReason;
use crate::session::Session;
use crate::settings::StatementNames;
use crate::sql::Class;
use crate::step::ClientThen;

/// A message has not arrived yet.
struct NotArrived;

impl Session {
    /// Whether [`Self::questions`] has something to ask.
    #[must_use]
    #[inline]
    pub fn has_questions(&self) -> bool {
        self.carried
            .followed
            .as_ref()
            .is_some_and(|followed| followed.prepared.has_questions() || followed.must_read_back())
            || self.must_recover()
            || self.must_ask_for_pins()
            || self.must_prove_calls()
            || self.owes_position()
    }

    /// What the proxy itself asks the server while the client waits for nothing. The caller writes it to the server and
    /// does not read the client until the answers have come; they go to [`Self::handle_server`].
    pub fn questions(&mut self) -> Option<Bytes> {
        if self.must_recover() {
            let mut batch = Batch::default();
            batch.back_to_the_savepoint();
            return Some(self.send_batch(Purpose::Questions, Guard::Open, batch, 0));
        }
        if self.owes_position() {
            let batch = self.position_question();
            return Some(self.send_batch(Purpose::Questions, Guard::None, batch, 0));
        }
        if !self.is_idle() && !self.is_idle_in_transaction() {
            return None;
        }
        let must_read_back = self.is_idle() && self.must_read_back();
        if must_read_back || self.must_prove_calls() {
            let mut batch = Batch::default();
            if must_read_back {
                batch.run(&self.carried.followed.as_ref()?.question_of_values(), OwnRequest::Values);
            }
            if self.must_prove_calls() {
                batch.run(&question_of_calls(), OwnRequest::Calls);
            }
            batch.sync();
            return Some(self.send_batch(Purpose::Questions, Guard::None, batch, 0));
        }
        if self.must_ask_for_pins() {
            let mut batch = Batch::default();
            batch.run(&self.carried.followed.as_mut()?.question_of_pins(), OwnRequest::Pins);
            batch.sync();
            return Some(self.send_batch(Purpose::Questions, Guard::None, batch, 0));
        }
        let names = self.carried.followed.as_mut()?.prepared.questions();
        self.ask(names)
    }

    /// Whether values of settings have to be read before the session can leave its server.
    #[must_use]
    #[inline]
    pub fn must_read_back(&self) -> bool {
        self.carried.followed.as_ref().is_some_and(|followed| followed.must_read_back())
    }

    /// Whether the server has to be asked whether what pins the session is still there.
    #[must_use]
    #[inline]
    pub fn must_ask_for_pins(&self) -> bool {
        self.carried.followed.as_ref().is_some_and(|followed| followed.must_ask_for_pins()) && self.is_idle()
    }

    /// Whether the server has to be asked which functions it has before another session may have the connection: the session
    /// has called some.
    #[inline]
    fn must_prove_calls(&self) -> bool {
        let is_due = |followed: &Followed| followed.unsettled.is_proof_due();
        self.names != StatementNames::OfClient
            && self.carried.followed.as_deref().is_some_and(is_due)
            && self.is_idle()
    }

    /// Why the session should not leave a server that still serves, although it could go on elsewhere if that were lost.
    #[must_use]
    pub fn stays_for(&self) -> Option<PinReason> {
        let followed = self.carried.followed.as_ref()?;
        match (followed.prepared.has_undescribed(), followed.unsettled.is_looking()) {
            (true, _) => Some(PinReason::StatementNotDescribed),
            (false, true) => Some(PinReason::UnreadFunction),
            (false, false) => None,
        }
    }

    /// Whether ROLLBACK TO the proxy's savepoint has to run before anything else.
    #[must_use]
    #[inline]
    pub fn must_recover(&self) -> bool {
        self.conversation.own.as_ref().is_some_and(|own| own.items.is_empty() && own.guard == Guard::Failed)
    }

    /// Whether everything is answered, and a transaction is open that has not failed.
    fn is_idle_in_transaction(&self) -> bool {
        self.conversation.status == TransactionStatus::InTransaction
            && self.conversation.own.is_none()
            && self.recovery.deferred_error.is_none()
            && self.conversation.outstanding.is_empty()
            && self.mode == Mode::Tracked
            && self.conversation.pipeline == Pipeline::Synced
            && self.conversation.joined == Joined::Nothing
            && self.conversation.copy == CopyState::None
            && self.client.end == ClientEnd::Open
            && self.conversation.farewell == Farewell::Staying
            && self.client.scanner.is_at_boundary()
            && self.conversation.scanner.is_at_boundary()
            && self.client.tail == Tail::Empty
            && self.conversation.tail == Tail::Empty
    }

    /// The same for a session that is about to leave a server that still answers.
    pub fn last_questions(&mut self) -> Option<Bytes> {
        let names = if self.is_idle() {
            self.carried.followed.as_mut()?.prepared.last_questions()
        } else {
            return None;
        };
        self.ask(names)
    }

    fn ask(&mut self, names: Vec<Name>) -> Option<Bytes> {
        if names.is_empty() {
            return None;
        }
        let guard =
            if self.conversation.status == TransactionStatus::Idle { Guard::None } else { Guard::Open };
        let mut batch = Batch::default();
        if guard == Guard::Open {
            batch.run(SAVEPOINT, OwnRequest::Saved);
        }
        let prepared = &self.carried.followed.as_ref()?.prepared;
        for name in names {
            let wire = prepared.wire_name(&name);
            batch.describe(&wire, OwnRequest::Learn(name.clone()));
        }
        if guard == Guard::Open {
            batch.run(RELEASE, OwnRequest::Plain);
        }
        batch.sync();
        Some(self.send_batch(Purpose::Questions, guard, batch, 0))
    }

    pub(super) fn send_batch(&mut self, purpose: Purpose, guard: Guard, batch: Batch, sent: u64) -> Bytes {
        let mut items = VecDeque::with_capacity(batch.expected.len());
        for (request, item) in batch.expected {
            self.conversation.outstanding.push(Entry {
                sent,
                text: None,
                request,
                class: Class::OWN_REQUEST,
            });
            items.push_back(item);
        }
        let shape = Shape::default();
        let own =
            OwnRequests { purpose, items, shape, guard, described: None, refused: None, position: None };
        self.conversation.own = Some(Box::new(own));
        batch.out.freeze()
    }

    /// Whether the server may have to prepare something before this message of the client.
    #[inline]
    pub(crate) fn may_need_more(&self) -> bool {
        self.carried.followed.as_ref().is_some_and(|followed| followed.prepared.has_absent())
    }

    /// Whether it plainly has to prepare nothing: for a series that prepares what it runs.
    #[inline]
    pub(crate) fn needs_nothing_first(&self, tag: FrontendTag, body: &[u8]) -> bool {
        let followed = self.carried.followed.as_ref();
        followed.is_some_and(|followed| followed.prepared.needs_at_most_new_unnamed(tag, body))
    }

    /// Whether this message needs statements that can be prepared only where all requests are answered, and that will be
    /// soon.
    fn must_wait_for_answers(&self, tag: FrontendTag, body: &[u8]) -> bool {
        let conversation = &self.conversation;
        let prepared = self.carried.followed.as_ref().map(|followed| &followed.prepared);
        tag == FrontendTag::Query
            && self.mode == Mode::Tracked
            && !conversation.outstanding.is_empty()
            && conversation.own.is_none()
            && conversation.copy == CopyState::None
            && conversation.pipeline != Pipeline::Skipping
            && !conversation.is_series_open()
            && prepared.is_some_and(|prepared| prepared.needs_all_answers(body))
    }

    /// What comes before this message of the client, which is passed in again then. `behind` is what has arrived after it.
    #[cold]
    pub(crate) fn comes_first(
        &mut self,
        message: (FrontendTag, &[u8], MessageExtent),
        behind: &[u8],
        sent: u64,
    ) -> Option<ClientThen> {
        let (tag, body, _) = message;
        if self.must_wait_for_answers(tag, body) {
            self.client.flow = Flow::Waiting;
            return Some(ClientThen::Pause);
        }
        if let Some(first) = self.closes_foreign_unnamed(tag, body, sent) {
            return Some(first);
        }
        let Ok(asked) = self.asks_for_columns(tag, body, behind) else { return Some(ClientThen::ReadOn) };
        self.before(message, asked, sent).map(ClientThen::Ask)
    }

    /// Whether a Describe of its portal comes right behind a Bind, where that matters. Neither a Bind has an answer nor a
    /// Describe before a Flush or Sync, so that a client that sends them waits for nothing between them.
    ///
    /// # Errors
    /// The next message has not arrived.
    fn asks_for_columns(
        &self,
        tag: FrontendTag,
        body: &[u8],
        behind: &[u8],
    ) -> Result<ColumnsAsked, NotArrived> {
        let prepared = self.carried.followed.as_ref().map(|followed| &followed.prepared);
        let bind = if tag == FrontendTag::Bind { Bind::parse(body).ok() } else { None };
        let (Some(prepared), Some(bind)) = (prepared, bind) else { return Ok(ColumnsAsked::No) };
        if !prepared.depends_on_describe(&bind) {
            return Ok(ColumnsAsked::No);
        }
        let next = self.client.scanner.clone().next(behind, &mut 0);
        let is_describe = match next {
            Ok(None) if body.len() + behind.len() <= BIND_HELD_BYTES_MAX => return Err(NotArrived),
            Ok(Some(Piece::Message { tag, body })) => {
                FrontendTag::from_byte(tag) == FrontendTag::Describe
                    && describe_of(body).is_some_and(|describe| {
                        describe.kind == Target::Portal && describe.name == bind.portal
                    })
            }
            Ok(Some(Piece::Start { .. } | Piece::More { .. }) | None) | Err(_) => false,
        };
        Ok(if is_describe { ColumnsAsked::Now } else { ColumnsAsked::No })
    }

    /// What is sent to the server before this message of the client, which is passed in again once that is answered.
    fn before(
        &mut self,
        (tag, body, extent): (FrontendTag, &[u8], MessageExtent),
        asked: ColumnsAsked,
        sent: u64,
    ) -> Option<Bytes> {
        if self.mode != Mode::Tracked
            || self.conversation.copy != CopyState::None
            || self.conversation.pipeline == Pipeline::Skipping
        {
            return None;
        }
        let mut seen = MessageExtent::Whole;
        if self.names != StatementNames::OfClient {
            let sharing = self.sharing();
            let steps = self.carried.follow().steps_of_names((tag, body, extent), sharing);
            if !steps.is_empty() {
                return Some(self.send_steps(steps, tag, body, sent));
            }
            if matches!(tag, FrontendTag::Query | FrontendTag::Parse) {
                seen = extent;
            }
        }
        let is_quiet_in = |status| match seen {
            MessageExtent::Whole => self.is_quiet_in(status),
            MessageExtent::Part => self.is_quiet_before(status),
        };
        let is_idle = is_quiet_in(TransactionStatus::Idle);
        let is_in_transaction = is_quiet_in(TransactionStatus::InTransaction);
        let prepared = &mut self.carried.followed.as_mut()?.prepared;
        let mut batch = Batch::default();
        let is_between_requests = is_idle || is_in_transaction;
        let under_its_path = if is_between_requests && tag == FrontendTag::Query {
            prepared.steps_under_its_path(body)
        } else {
            Vec::new()
        };
        let which = match (is_idle, is_in_transaction) {
            (true, _) => prepared.must_make((tag, body, seen)),
            (false, true) => prepared.must_make_within((tag, body, seen)),
            (false, false) => None,
        };
        let mut others = which.map(|which| prepared.steps_to_make(which)).unwrap_or_default();
        others.retain(|steps| !steps.last().is_some_and(|last| under_its_path.contains(last)));
        if !under_its_path.is_empty() {
            prepared.has_made_what_it_needs();
            if is_in_transaction {
                batch.undone_behind_a_savepoint(under_its_path);
            } else {
                batch.undone_in_a_transaction(under_its_path);
            }
        }
        for steps in others {
            // What a statement runs while it is read must not change what the session has set since.
            match (is_in_transaction, prepared.pins_of(&steps).is_empty()) {
                (true, true) => batch.behind_a_savepoint(steps),
                (true, false) => batch.undone_behind_a_savepoint(steps),
                (false, true) => {
                    steps.into_iter().for_each(|step| batch.step(step));
                    batch.sync();
                }
                (false, false) => batch.undone_in_a_transaction(steps),
            }
        }
        if !batch.expected.is_empty() {
            return Some(self.send_batch(Purpose::Ahead, Guard::None, batch, sent));
        }
        let steps = prepared.steps_before(tag, body, asked);
        prepared.message_sent();
        let pins = prepared.pins_of(&steps);
        if !pins.is_empty() {
            self.carried.followed.as_mut()?.pin_all(&pins);
        }
        (!steps.is_empty()).then(|| self.send_steps(steps, tag, body, sent))
    }

    /// Sends what a message of the client needs before it: a refusal is the answer to the message.
    pub(crate) fn send_steps(&mut self, steps: Vec<Step>, tag: FrontendTag, body: &[u8], sent: u64) -> Bytes {
        let mut batch = Batch::default();
        steps.into_iter().for_each(|step| batch.step(step));
        let is_alone = tag == FrontendTag::Query && !self.conversation.is_series_open();
        let purpose = if is_alone { Purpose::BeforeQuery } else { Purpose::BeforeSeries };
        match purpose {
            Purpose::BeforeQuery => batch.sync(),
            Purpose::BeforeSeries | Purpose::Ahead | Purpose::Questions => write::flush(&mut batch.out),
        }
        let messages = self.send_batch(purpose, Guard::None, batch, sent);
        if let (Some(own), FrontendTag::Describe, Some(describe)) =
            (&mut self.conversation.own, tag, describe_of(body))
        {
            own.described = (describe.kind == Target::Statement).then(|| describe.name.into());
        }
        messages
    }
}
