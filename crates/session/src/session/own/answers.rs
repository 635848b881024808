//! Answers to the proxy's own requests.

use crate::carried::residue::ForeignUnnamed;
use crate::carried::shape::{Shape, columns_of, types_of};
use crate::conversation::outstanding::Request;
use crate::conversation::own::{Guard, OwnRequest, Unexpected};
use crate::conversation::state::Pipeline;
use crate::hints::MinLsn;
use crate::position::written_position;
use crate::record::Sink;
use crate::session::Session;
use bytes::Bytes;
use trunkline_codec::backend::{BackendTag, ReadyForQuery, TransactionStatus};

impl Session {
    /// The next part of a long answer. Returns whether the answer is to one of the proxy's own requests.
    pub(crate) fn passed_own(&mut self, is_last: bool) -> bool {
        if !self.conversation.is_inside_own {
            return false;
        }
        self.conversation.is_inside_own = !is_last;
        self.conversation.end_own();
        true
    }

    /// An answer to one of the proxy's own requests; of a long one `body` is the first part. Returns what goes to the
    /// client in its place, or an error where it answers none of them.
    pub(crate) fn own_answered(
        &mut self,
        tag: BackendTag,
        body: &[u8],
        is_whole: bool,
        now: u64,
        out: &mut impl Sink,
    ) -> Result<Option<Bytes>, Unexpected> {
        let entry = self.conversation.outstanding.front().ok_or(Unexpected)?;
        self.conversation.is_inside_own = !is_whole;
        match (tag, entry.request) {
            (BackendTag::ParseComplete, Request::Parse)
            | (BackendTag::BindComplete, Request::Bind)
            | (BackendTag::CloseComplete, Request::Close) => drop(self.own_settled()),
            (BackendTag::CommandComplete, Request::Execute) => {
                let settled = self.own_settled();
                self.question_settled(settled.as_ref());
            }
            (BackendTag::DataRow, Request::Execute) if self.conversation.is_value_due() => {
                self.values_read(is_whole.then_some(body));
            }
            (BackendTag::DataRow, Request::Execute) if self.conversation.are_pins_due() => {
                if let (Some(followed), true) = (&mut self.carried.followed, is_whole) {
                    followed.pins_told(body);
                }
            }
            (BackendTag::DataRow, Request::Execute) if self.conversation.are_calls_due() => {
                self.calls_told(is_whole.then_some(body));
            }
            (BackendTag::DataRow, Request::Execute) if self.conversation.is_position_due() => {
                if let (Some(own), true) = (&mut self.conversation.own, is_whole) {
                    let position = written_position(body);
                    own.position = position.map(|(timeline, lsn)| MinLsn { timeline: Some(timeline), lsn });
                }
            }
            // The row of set_config.
            (BackendTag::DataRow, Request::Execute) if self.conversation.may_have_row() => {}
            (BackendTag::ParameterDescription, Request::DescribeStatement) => {
                if let Some(own) = &mut self.conversation.own {
                    own.shape.parameters = is_whole.then(|| types_of(body)).flatten();
                }
            }
            (BackendTag::RowDescription | BackendTag::NoData, Request::DescribeStatement) => {
                self.own_described(is_whole.then(|| columns_of(tag, body)).flatten());
            }
            (BackendTag::ReadyForQuery, Request::Sync) => {
                let ready = ReadyForQuery::parse(body).map_err(|_| Unexpected)?;
                self.conversation.pipeline = Pipeline::Synced;
                let position = self.conversation.own.as_ref().and_then(|own| own.position);
                self.own_ready(ready.status);
                return Ok(self.position_told(position));
            }
            (BackendTag::ErrorResponse, _) => return Ok(self.own_failed(entry, body, is_whole, now, out)),
            _unexpected => return Err(Unexpected),
        }
        Ok(None)
    }

    pub(super) fn own_settled(&mut self) -> Option<OwnRequest> {
        self.conversation.outstanding.settle();
        let own = self.conversation.own.as_mut()?;
        let item = own.items.pop_front();
        match &item {
            Some(OwnRequest::Saved) => own.guard = Guard::Savepoint,
            Some(OwnRequest::StoodIn(name)) => {
                if let Some(followed) = &mut self.carried.followed {
                    followed.prepared.stood_in(name);
                }
            }
            Some(OwnRequest::ContentMade(id, made)) => {
                if let Some(followed) = &mut self.carried.followed {
                    followed.prepared.content_made(*id, *made);
                }
            }
            Some(OwnRequest::ContentClosed(id)) => {
                if let Some(followed) = &mut self.carried.followed {
                    followed.prepared.contents.remove(*id);
                }
            }
            Some(OwnRequest::Dropped(name)) => {
                if name.is_empty() {
                    self.residue.unnamed = ForeignUnnamed::None;
                }
                if let Some(followed) = &mut self.carried.followed {
                    followed.prepared.dropped_there(name);
                }
            }
            _other => {}
        }
        self.conversation.end_own();
        item
    }

    /// The answer to a question is complete, or the question was skipped: what it has not told is not known.
    pub(super) fn question_settled(&mut self, question: Option<&OwnRequest>) {
        match question {
            Some(OwnRequest::Values) => self.values_settled(),
            Some(OwnRequest::Calls) => self.calls_told(None),
            _others => {}
        }
    }

    fn calls_told(&mut self, row: Option<&[u8]>) {
        if let Some(followed) = &mut self.carried.followed {
            followed.unsettled.calls_told(row);
        }
    }

    /// Our Sync is answered. A transaction that has failed by what was ours is not gone on with in silence.
    fn own_ready(&mut self, status: TransactionStatus) {
        let is_last = self
            .conversation
            .own
            .as_ref()
            .is_some_and(|own| own.items.len() == 1 && own.guard != Guard::Failed);
        let has_failed = is_last
            && status == TransactionStatus::Failed
            && self.conversation.status == TransactionStatus::InTransaction;
        let refused =
            self.conversation.own.as_mut().and_then(|own| own.refused.take()).filter(|_| has_failed);
        drop(self.own_settled());
        if let Some(error) = refused {
            self.transaction_failed(error);
        }
    }

    fn own_described(&mut self, columns: Option<crate::carried::shape::RowColumns>) {
        let parameters = self.conversation.own.as_mut().and_then(|own| own.shape.parameters.take());
        let item = self.own_settled();
        let Some(followed) = &mut self.carried.followed else { return };
        let shape = Shape { parameters, columns };
        match item {
            Some(OwnRequest::Learn(name)) if shape.is_known() => followed.prepared.learned(&name, shape),
            Some(OwnRequest::Learn(name)) => followed.prepared.cannot_be_known(&name),
            Some(OwnRequest::Check(name)) => followed.prepared.made_again(&name, &shape),
            Some(
                OwnRequest::Plain
                | OwnRequest::Saved
                | OwnRequest::StoodIn(_)
                | OwnRequest::Dropped(_)
                | OwnRequest::ContentMade(..)
                | OwnRequest::ContentClosed(_)
                | OwnRequest::Fail
                | OwnRequest::Values
                | OwnRequest::Pins
                | OwnRequest::Calls
                | OwnRequest::WrittenPosition,
            )
            | None => {}
        }
    }
}
