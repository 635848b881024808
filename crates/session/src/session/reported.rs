//! The position up to which the client has written, told to it before a ReadyForQuery: `trunkline.report_lsn`.
//!
//! ```text
//!         ReadyForQuery behind a unit that may have written
//!  None ----------------------------------------------------> Withheld: asked on the same connection
//!    ^                                                          |  ^      |
//!    |          the position, and the ReadyForQuery             |  '------' no answer, once more
//!    '----------------------------------------------------------'
//! ```
//!
//! The ReadyForQuery waits for the question, and the question for it: nothing of the client's is in progress then, no COPY and no
//! series that would skip the question, and the unit has committed. So that nothing is, one unit goes to the server at a time.

use bytes::{Bytes, BytesMut};
use trunkline_codec::backend::TransactionStatus;
use trunkline_codec::frontend::FrontendTag;
use trunkline_codec::write;

use super::Session;
use crate::conversation::outstanding::{Entry, Request};
use crate::conversation::own::OwnRequest;
use crate::conversation::own::batch::Batch;
use crate::conversation::state::{
    AnswerProgress, ClientEnd, Flow, Mode, Pipeline, PositionAsked, UnitEffect, UnitReport,
};
use crate::hints::{MinLsn, REPORT_LSN};
use crate::pin::NotRepeatable;
use crate::position::WRITTEN_QUESTION;
use crate::recovery::attempt::Attempt;
use crate::settings::ServerRole;
use crate::sql::Class;
use crate::sql::hinted::reports_lsn;

/// The parameter that tells the position.
const PARAMETER: &[u8] = b"trunkline.lsn";

/// Told where the server has not answered. No server has ever had this timeline: who must see this position reads from the primary.
const UNKNOWN: &[u8] = b"0/FFFFFFFF/FFFFFFFF";

/// What the client says of positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReportWishes {
    at_login: ReportWish,
    /// What its settings say, as of the last ReadyForQuery.
    now: ReportWish,
}

/// Whether the client wants positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReportWish {
    No,
    Yes,
}

impl ReportWish {
    fn of(is_on: bool) -> Self {
        if is_on { Self::Yes } else { Self::No }
    }
}

impl Session {
    /// The client may want to be told up to where it has written; it does from the beginning if it `is_wanted`.
    pub fn report_positions(&mut self, is_wanted: bool) {
        let wish = ReportWish::of(is_wanted);
        self.client.wishes = Some(ReportWishes { at_login: wish, now: wish });
    }

    /// What is known of the unit that goes to the server next. It holds until that is ready.
    #[inline]
    pub fn unit_does(&mut self, effect: UnitEffect) {
        self.conversation.unit = UnitReport::Running(effect);
    }

    /// Whether the server has to be asked for a position before the client gets its ReadyForQuery.
    #[must_use]
    #[inline]
    pub fn owes_position(&self) -> bool {
        self.conversation.is_ready_withheld() && self.conversation.own.is_none()
    }

    /// The question for it.
    pub(super) fn position_question(&mut self) -> Batch {
        self.conversation.unit = match self.conversation.unit {
            UnitReport::Withheld(PositionAsked::NotYet) => UnitReport::Withheld(PositionAsked::Once),
            UnitReport::Withheld(PositionAsked::Once | PositionAsked::Again) => {
                UnitReport::Withheld(PositionAsked::Again)
            }
            running @ UnitReport::Running(_) => running,
        };
        let mut batch = Batch::default();
        batch.run(WRITTEN_QUESTION, OwnRequest::WrittenPosition);
        batch.sync();
        batch
    }

    /// Whether this message of the client has to wait until what came before it is answered.
    #[inline]
    pub(crate) fn waits_for_report(&mut self, tag: FrontendTag) -> bool {
        self.client.wishes.is_some_and(|wishes| wishes.now == ReportWish::Yes)
            && self.begins_behind_another(tag)
    }

    #[cold]
    fn begins_behind_another(&mut self, tag: FrontendTag) -> bool {
        let is_request = match tag {
            FrontendTag::Query
            | FrontendTag::Parse
            | FrontendTag::Bind
            | FrontendTag::Describe
            | FrontendTag::Execute
            | FrontendTag::Close
            | FrontendTag::Sync
            | FrontendTag::FunctionCall => true,
            FrontendTag::CopyData
            | FrontendTag::CopyDone
            | FrontendTag::CopyFail
            | FrontendTag::Flush
            | FrontendTag::Password
            | FrontendTag::Terminate
            | FrontendTag::Unknown(_) => false,
        };
        let conversation = &self.conversation;
        // Only the Sync behind the data ends a COPY whose own Sync came before them.
        let ends_copy = tag == FrontendTag::Sync
            && conversation.outstanding.iter().last().is_some_and(|last| last.request == Request::CopyEnd);
        let waits = is_request
            && !ends_copy
            && self.mode == Mode::Tracked
            && !conversation.outstanding.is_empty()
            && !self.reads_copy_data()
            && conversation.pipeline != Pipeline::Skipping
            && !conversation.is_series_open();
        if waits {
            self.client.flow = Flow::Waiting;
        }
        waits
    }

    /// Whether the ReadyForQuery that was just taken does not go to the client yet.
    pub(crate) fn withholds_ready(&mut self) -> bool {
        self.client.wishes.is_some_and(|wishes| {
            self.conversation.status == TransactionStatus::Idle && self.must_report(wishes)
        })
    }

    #[cold]
    fn must_report(&mut self, wishes: ReportWishes) -> bool {
        let followed = self.carried.followed.as_mut();
        let within = followed.is_some_and(|followed| std::mem::take(&mut followed.reports_here));
        let now = self.reports_by_setting().map_or(wishes.at_login, ReportWish::of);
        self.client.wishes = Some(ReportWishes { now, ..wishes });
        let wish = if within { ReportWish::Yes } else { now };
        let unit = std::mem::take(&mut self.conversation.unit);
        let may_ask = self.mode == Mode::Tracked
            && self.conversation.role == ServerRole::Primary
            && self.conversation.outstanding.is_empty()
            && self.client.end == ClientEnd::Open
            && !self.conversation.farewell.is_forwarded();
        let may_have_written = unit == UnitReport::Running(UnitEffect::MayWrite);
        let is_due = wish == ReportWish::Yes && may_have_written && may_ask;
        if is_due {
            self.conversation.unit = UnitReport::Withheld(PositionAsked::NotYet);
        }
        is_due
    }

    fn reports_by_setting(&self) -> Option<bool> {
        let settings = self.carried.followed.as_deref().and_then(|followed| followed.settings())?;
        reports_lsn(settings.sql_of(REPORT_LSN)?)
    }

    /// The server has answered the question, or not: what goes to the client, unless it is asked again.
    pub(super) fn position_told(&mut self, position: Option<MinLsn>) -> Option<Bytes> {
        match self.conversation.unit {
            UnitReport::Running(_) => return None,
            UnitReport::Withheld(PositionAsked::NotYet | PositionAsked::Once) if position.is_none() => {
                return None;
            }
            UnitReport::Withheld(_) => {}
        }
        self.conversation.unit = UnitReport::default();
        let mut out = BytesMut::new();
        write_position(&mut out, position);
        write::ready_for_query(&mut out, TransactionStatus::Idle);
        Some(out.freeze())
    }

    /// The server is lost: the client waits for the ReadyForQuery as if it had not arrived. What comes before it is written to `out`.
    pub(super) fn position_lost(&mut self, out: &mut BytesMut) {
        if self.conversation.is_ready_withheld() {
            self.conversation.unit = UnitReport::default();
            write_position(out, None);
        }
    }

    /// The same, before the caller hears what becomes of the client's request.
    pub(super) fn ready_owed_again(&mut self) {
        if !self.conversation.is_ready_withheld() {
            return;
        }
        let sync = Entry { sent: 0, text: None, request: Request::Sync, class: Class::PLAIN };
        self.conversation.outstanding.push(sync);
        // The client has all of the answer but its end.
        self.conversation.progress = AnswerProgress::Settled;
        self.recovery.attempt = Attempt::Closed(NotRepeatable::Answered);
    }
}

fn write_position(out: &mut BytesMut, position: Option<MinLsn>) {
    let told = position.map(|position| position.to_string());
    let value = told.as_deref().map_or(UNKNOWN, str::as_bytes);
    let written = write::parameter_status(out, PARAMETER, value);
    debug_assert!(written.is_ok(), "it is short and has no NUL");
}
