//! The server ends the connection, because it ends itself or for this session alone.

use trunkline_codec::backend::BackendTag;
use trunkline_codec::sqlstate::SqlState;

use super::Session;
use crate::conversation::farewell::{FarewellScope, says_of_server};
use crate::conversation::state::{ClientEnd, Farewell, Mode};
use crate::pin::NotRepeatable;
use crate::settings::Mobility;

impl Session {
    /// The farewell held back ends this session alone: pass the chunk in again, all of it goes to the client. After
    /// [`crate::ServerThen::Terminated`], and [`crate::ServerThen::Conflict`] with 57P01.
    pub fn accept_farewell(&mut self) {
        self.conversation.farewell = Farewell::Accepted;
        self.close_attempt(NotRepeatable::Answered);
    }

    /// What the farewell at the start of `rest` means; `None` if it is forwarded at once: it is about the session alone,
    /// it ends the session in any case, or something follows it. A client that closed its side gets everything.
    #[cold]
    pub(crate) fn goodbye(&self, tag: BackendTag, body: &[u8], rest: &[u8]) -> Option<FarewellScope> {
        if self.client.end != ClientEnd::Open || self.conversation.farewell == Farewell::Accepted {
            return None;
        }
        let goodbye = match tag {
            BackendTag::ErrorResponse => self.fatal_goodbye(says_of_server(body)?)?,
            _notice => {
                let is_unasked = self.conversation.owes_only_proxy() && self.is_keepable();
                (self.is_quiet() || is_unasked).then_some(FarewellScope::Server)?
            }
        };
        self.conversation.is_all_farewell(rest).then_some(goodbye)
    }

    fn fatal_goodbye(&self, code: SqlState) -> Option<FarewellScope> {
        let is_followed = self.mode == Mode::Tracked && self.mobility == Mobility::Movable;
        if code == SqlState::ADMIN_SHUTDOWN && is_followed {
            return Some(FarewellScope::ServerOrSession);
        }
        (self.is_quiet() || self.is_keepable()).then_some(FarewellScope::Server)
    }
}
