//! Settings of the startup packet are given back to a server that has lost them by RESET, before it is sent what shows them.

use trunkline_codec::backend::TransactionStatus;
use trunkline_codec::frontend::FrontendTag;

use super::Session;
use crate::carried::prepared::Step;
use crate::conversation::state::{CopyState, Mode, Pipeline};
use crate::step::ClientThen;

impl Session {
    /// Whether something was sent after which the server may lack some.
    #[inline]
    pub(crate) fn may_lack_startup(&self) -> bool {
        self.carried.followed.as_ref().is_some_and(|followed| followed.may_lack_startup())
    }

    /// What comes before this message of the client, so that the server has all of them.
    #[cold]
    pub(crate) fn startup_first(&mut self, tag: FrontendTag, body: &[u8], sent: u64) -> Option<ClientThen> {
        let may_show = match tag {
            FrontendTag::Query | FrontendTag::Parse | FrontendTag::Bind | FrontendTag::Execute => true,
            FrontendTag::Describe | FrontendTag::FunctionCall => true,
            _other => false,
        };
        let conversation = &self.conversation;
        let is_in_the_way = self.mode != Mode::Tracked
            || conversation.status == TransactionStatus::Failed
            || conversation.copy != CopyState::None
            || matches!(conversation.pipeline, Pipeline::Failed | Pipeline::Skipping);
        if !may_show || is_in_the_way {
            return None;
        }
        let followed = self.carried.followed.as_mut()?;
        let lacking = followed.startup_lacking();
        if lacking.is_empty() && !followed.is_undoing_startup() {
            return None;
        }
        if !conversation.outstanding.is_empty() {
            return self.settles_first(tag, body, sent);
        }
        let steps = lacking.into_iter().map(|(key, sql)| Step::SetStartup { key, sql }).collect();
        Some(ClientThen::Ask(self.send_steps(steps, tag, body, sent)))
    }
}
