//! What answers change of what the session carries.

use trunkline_codec::backend::TransactionStatus;

use super::Session;
use crate::carried::followed::Followed;
use crate::carried::residue::ForeignUnnamed;
use crate::conversation::outstanding::Request;
use crate::settings::Mobility;
use crate::sql::Class;
use crate::sql::effect::Effect;

impl Session {
    pub(crate) fn followed(&mut self) -> &mut Followed {
        self.carried.follow()
    }

    /// A statement of the front request is complete, with this tag.
    #[inline]
    pub(crate) fn follow_completed(&mut self, tag: &[u8]) {
        let Some(front) = self.conversation.outstanding.front() else { return };
        let has_effects = front.class.has_effects();
        let is_end = front.class.ends();
        let tag = tag.strip_suffix(b"\0").unwrap_or(tag);
        self.conversation.transaction_effect.completed(is_end, tag);
        if self.mobility == Mobility::Fixed || (!has_effects && tag.starts_with(b"SELECT ")) {
            return;
        }
        if matches!(tag, b"DISCARD SEQUENCES" | b"DISCARD ALL") {
            self.sequences_discarded();
        }
        if self.carried.followed.is_none() {
            if Effect::None.fits(tag) {
                return;
            }
            self.carried.follow();
        }
        if let Some(followed) = &mut self.carried.followed {
            followed.completed(has_effects, tag, &self.carried.parameters);
            if matches!(tag, b"CALL" | b"DO") && self.conversation.status == TransactionStatus::Idle {
                followed.may_have_committed();
            }
            followed.prepared.path_settled(|| self.conversation.outstanding.has_requests_behind(1));
        }
    }

    /// An Execute stopped at its row limit: its effects count.
    pub(crate) fn follow_suspended(&mut self) {
        if let (Some(front), Some(followed)) =
            (self.conversation.outstanding.front(), &mut self.carried.followed)
            && front.class.has_effects()
        {
            let (effect, era) = followed.next_effect();
            followed.apply(effect, era, &self.carried.parameters);
        }
    }

    /// A request failed.
    pub(crate) fn follow_failed(&mut self, request: Request, class: Class) {
        let Some(followed) = &mut self.carried.followed else { return };
        followed.has_failed = true;
        if class.has_effects() && self.conversation.status == TransactionStatus::Idle {
            followed.may_have_committed_as_it_failed();
        }
        // It pins from when it is sent, and has perhaps done nothing.
        followed.pin_question.hint();
        if request == Request::Parse {
            if followed.prepared.is_unnamed_next() {
                self.residue.unnamed = ForeignUnnamed::None;
            }
            followed.prepared.parse_failed();
        }
    }

    /// ReadyForQuery, outside a transaction.
    #[inline]
    pub(crate) fn follow_transaction_ended(&mut self) {
        self.conversation.exports_snapshot = false;
        self.carried.parameters.settle();
        // Portals of requests in flight are known already.
        let is_last = self.conversation.outstanding.is_empty();
        if let Some(followed) = &mut self.carried.followed {
            followed.transaction_ended(is_last);
            followed.prepared.path_settled(|| self.conversation.outstanding.has_requests_behind(0));
            if followed.has_report {
                followed.reported(&self.carried.parameters);
            }
        }
    }

    /// The transaction ended with its server: the values which that reported last do not count.
    pub(crate) fn follow_transaction_lost(&mut self) {
        let is_last = self.conversation.outstanding.is_empty();
        if let Some(followed) = &mut self.carried.followed {
            followed.transaction_ended(is_last);
            followed.has_report = false;
        }
    }
}
